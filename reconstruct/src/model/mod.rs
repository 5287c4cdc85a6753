//! Cameras, VMSs, sessions, tracks, streams: who they are and what they are called.
//!
//! Owns the rows that the fold gives and the index keeps, how a stream keeps its identity (camera address, normalised
//! control URI, media), and how names are made. Refuses storage and queries. Costs nothing a packet: rows are made and
//! changed when something new is learned.

mod ids;
mod name;
mod rows;

pub use ids::{FlowId, NextIds, SegmentId, SessionId, StreamId};
pub use name::{NAME_LEN_MAX, camera_name, presentation_name, sanitise, unique};
pub use rows::{
    ExchangeRow, FlowKey, FlowKind, FlowRow, GapCause, GapEvidence, GapRow, RtcpRow, SegmentPart, SegmentRow,
    SessionEnd, SessionRow, StreamKey, StreamRow, TrackRow, Transport,
};
