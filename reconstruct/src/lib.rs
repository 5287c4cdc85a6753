//! From packets to streams: what crossed the wire, put back together and found again.
//!
//! The pure modules take bytes and `now` and give events; the acting ones (index, indexer, footage, export) are thin.

pub mod codec;
pub mod defrag;
pub mod export;
pub mod fold;
pub mod footage;
pub mod index;
pub mod indexer;
pub mod interleaved;
pub mod model;
pub mod recognise;
pub mod rtcp;
pub mod rtp;
pub mod rtsp;
pub mod sdp;
pub mod sequence;
pub mod span;
pub mod tcp;
pub mod wire;
