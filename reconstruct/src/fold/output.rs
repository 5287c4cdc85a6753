//! What comes out of the fold.

use crate::index::{IndexBatch, MediaEntry};
use crate::model::{SegmentId, SessionEnd, SessionId, StreamId};
use capture::CaptureTime;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Rows to commit, packets for live viewers, and news. Whoever drives the fold takes them out after every batch.
#[derive(Debug, Default)]
pub struct Output {
    /// Rows.
    pub batch: IndexBatch,
    /// RTP packets in the order of the fold. Only filled when [`Output::live`] is set.
    pub media: Vec<LiveMedia>,
    /// Whether anyone wants `media`.
    pub live: bool,
    /// News, at most [`EVENTS_MAX`] between two takes.
    pub events: Vec<FoldEvent>,
}

/// Most events kept for whoever drives the fold.
pub const EVENTS_MAX: usize = 4096;

impl Output {
    pub(super) fn event(&mut self, event: FoldEvent) {
        if self.events.len() < EVENTS_MAX {
            self.events.push(event);
        }
    }
}

/// An RTP packet for live viewers.
#[derive(Clone, Debug)]
pub struct LiveMedia {
    /// Its stream.
    pub stream: StreamId,
    /// Its segment.
    pub segment: SegmentId,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Payload type.
    pub payload_type: u8,
    /// Where it is and what is known about it.
    pub entry: MediaEntry,
}

/// Something that became known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoldEvent {
    /// A stream was seen for the first time.
    StreamFound {
        /// Its number.
        stream: StreamId,
        /// Its name.
        name: String,
        /// When.
        at: CaptureTime,
    },
    /// A session has begun to carry media.
    SessionBegan {
        /// Its number.
        session: SessionId,
        /// The camera's end.
        camera: SocketAddr,
        /// The client's end.
        client: SocketAddr,
        /// When.
        at: CaptureTime,
    },
    /// A session is over.
    SessionEnded {
        /// Its number.
        session: SessionId,
        /// Why.
        end: SessionEnd,
        /// When.
        at: CaptureTime,
    },
}

/// A session's signs of life, sampled for failure detection.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The session.
    pub session: SessionId,
    /// The camera's name.
    pub camera: String,
    /// The client's address.
    pub client: SocketAddr,
    /// Media packets since it began.
    pub media_packets: u64,
    /// Signs of life of the client since it began: acknowledgements that advanced, RTCP reports, requests.
    pub client_signs: u64,
    /// False while paused or not yet playing.
    pub media_due: bool,
}

/// Counts of what was met, since the state began. What stands at a bound is counted here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldStats {
    /// Packets folded.
    pub packets: u64,
    /// Bytes of them, as captured.
    pub bytes: u64,
    /// RTP packets that are in a stream.
    pub media_packets: u64,
    /// Packets that went into the overflow flow, because [`super::Limits::flows_max`] was reached.
    pub flows_over_bound: u64,
    /// TCP connections that were not looked into, because [`super::Limits::connections_max`] was reached.
    pub connections_over_bound: u64,
    /// TCP connections that were open at the end of a source and that a later one can't go on with, because so many were.
    pub left_over_bound: u64,
    /// RTP sources without a stream, because [`super::Limits::streams_max`] was reached.
    pub streams_over_bound: u64,
    /// RTP sources of one track beyond [`super::Limits::sources_per_track_max`]: the quietest made room.
    pub sources_over_bound: u64,
    /// Packets kept until it was clear whether they are RTP, and given up for [`super::Limits::early_max`].
    pub early_over_bound: u64,
    /// RTP packets put in order before it was clear that the ones before were lost, for [`super::Limits::pending_max`].
    pub pending_over_bound: u64,
    /// Interleaved frames that lost bytes in a hole of their connection.
    pub frames_cut: u64,
    /// What came on an RTP port or channel and was no RTP.
    pub not_rtp: u64,
    /// RTP packets with a header and nothing else before the first real one of their source (NAT punches).
    pub empty_rtp: u64,
}
