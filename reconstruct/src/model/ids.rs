//! The numbers that flows, streams, segments and sessions go by. Given by the fold in the order of discovery, so that
//! the same shards give the same numbers again; never used twice in one index.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// One direction of a 5-tuple (with its VLAN tags), or the packets of one kind that no such flow could be made for.
    FlowId
}
id! {
    /// One camera's track through all its sessions.
    StreamId
}
id! {
    /// An unbroken interval of a stream: one session's track with one SSRC and one run of sequence numbers.
    SegmentId
}
id! {
    /// One RTSP dialogue, or media that was seen without one.
    SessionId
}

/// The first number of each kind that is not given yet: what a restored fold will give next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextIds {
    /// Next flow.
    pub flow: FlowId,
    /// Next stream.
    pub stream: StreamId,
    /// Next segment.
    pub segment: SegmentId,
    /// Next session.
    pub session: SessionId,
}

impl NextIds {
    /// Gives a flow's number.
    pub fn take_flow(&mut self) -> FlowId {
        let id = self.flow;
        self.flow.0 += 1;
        id
    }

    /// Gives a stream's number.
    pub fn take_stream(&mut self) -> StreamId {
        let id = self.stream;
        self.stream.0 += 1;
        id
    }

    /// Gives a segment's number.
    pub fn take_segment(&mut self) -> SegmentId {
        let id = self.segment;
        self.segment.0 += 1;
        id
    }

    /// Gives a session's number.
    pub fn take_session(&mut self) -> SessionId {
        let id = self.session;
        self.session.0 += 1;
        id
    }
}
