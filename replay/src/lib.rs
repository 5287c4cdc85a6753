//! From the store to RTSP clients: live and on-demand sources, pacing, RTP rewriting, the RTSP server.
//!
//! The pure half understands: [`request`], [`target`], [`range`], [`transport`], [`session`] and [`machine`] the dialogue,
//! [`sdp`] and [`rtcp`] what is said besides, [`pacer`] and [`rewrite`] when and with which numbers packets
//! go, [`parallel`] which of several sessions is played live. The acting half is thin: [`server`], [`player`], [`feed`], [`merge`], [`outlet`], [`writer`]. What a client sees is described in
//! `docs/replay.md`.

mod burst;
mod config;
mod events;
mod feed;
mod footage;
mod machine;
mod merge;
mod outlet;
mod pacer;
mod parallel;
mod player;
mod presentation;
mod range;
mod request;
mod response;
mod rewrite;
mod rtcp;
mod sdp;
mod server;
mod session;
pub mod source;
mod stats;
#[cfg(test)]
mod synthetic;
mod target;
mod transport;
mod writer;

pub use config::{Config, DEFAULT_ADDRESS};
pub use server::{BindError, Bound, RtspServer, ServerHandle};
pub use source::Source;
pub use stats::{ClientStats, LARGE_DATAGRAM_BYTES, ServerStats};
pub use target::{TargetError, TimeSpec, parse_time};
