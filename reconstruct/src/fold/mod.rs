//! The fold: captured packets in, index rows out. Pure: no file, thread or clock.
//!
//! Owns how the parsers, the model and the index's blocks work together, and all state that lies between two packets. The state
//! can be written down after any packet ([`Fold::save`]) and taken up again ([`Fold::restore`]); what comes out afterwards is
//! the same as if nothing had happened, which is how a crash neither repeats nor skips a packet.
//! Refuses to look into packets: headers come as [`Descriptor`]s, which need no state and can be made in parallel.
//! Costs: about 300 ns a packet, no allocation a packet once flows and streams are known. Everything that traffic can fill is
//! bounded by [`Limits`] and counted in [`FoldStats`].
//!
//! `docs/packet-path.md` tells the way of a packet through here.

mod assign;
mod bindings;
mod continued;
mod conversation;
mod descriptor;
mod engine;
mod flows;
mod losses;
mod media;
mod output;
mod parts;
mod probe;
mod recent;
mod segment;
mod session;
mod slab;
mod source;
mod streams;
mod sweep;
mod track;
mod udp;
mod world;

pub use descriptor::{Descriptor, Detail, FlowHasher, PROTO_NONE};
pub use engine::{Fold, FoldError, Place};
pub use output::{EVENTS_MAX, FoldEvent, FoldStats, LiveMedia, Observation, Output};

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the fold may hold, and for how long (in capture time).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Flows at a time. Packets beyond go into one overflow flow.
    pub flows_max: usize,
    /// TCP connections that are looked into at a time.
    pub connections_max: usize,
    /// Sessions at a time.
    pub sessions_max: usize,
    /// Tracks of a session.
    pub tracks_per_session_max: usize,
    /// SSRCs of a track at a time; the quietest makes room.
    pub sources_per_track_max: usize,
    /// Streams of an index.
    pub streams_max: usize,
    /// RTP packets of a source that wait behind a hole.
    pub pending_max: usize,
    /// Packets kept until it is clear whether they are RTP.
    pub early_max: usize,
    /// A flow without a packet for so long is forgotten.
    pub flow_idle: Duration,
    /// A TCP connection without a packet for so long is given up.
    pub connection_idle: Duration,
    /// A session without a message and without media for so long is over.
    pub session_idle: Duration,
    /// A source without a packet for so long is closed.
    pub source_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows_max: 65_536,
            connections_max: 16_384,
            sessions_max: 16_384,
            tracks_per_session_max: 64,
            sources_per_track_max: 16,
            streams_max: 65_536,
            pending_max: 1024,
            early_max: 32_768,
            flow_idle: Duration::from_secs(300),
            connection_idle: Duration::from_secs(600),
            session_idle: Duration::from_secs(120),
            source_idle: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
