//! Connections of a source that is at its end, for one that goes on with them: programs that capture into file after file end each wherever its last
//! packet does, mostly within an interleaved frame. The frame begins in one file and ends in the next.
//!
//! Only the byte streams go on. Sessions and segments are of one source, and begin anew.

use super::recent::Recent;
use crate::interleaved::Interleaved;
use crate::tcp::{Connection, Segment, Side};
use capture::CaptureTime;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// The first segment is at most so far from where the connection had come to: copies and what was overtaken go back, and a segment that overtook
/// others is a few ahead. Where more is missing the place of the next frame is looked for as in any connection that is picked up.
const BEHIND_MAX: u32 = 256 << 10;
const AHEAD_MAX: u32 = 16 << 10;

/// A connection that was left where its source ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Left {
    pub ends: [SocketAddr; 2],
    pub last: CaptureTime,
    pub connection: Connection,
    /// Of what each end sends, if the place of its next frame is known.
    pub sides: [Option<LeftSide>; 2],
}

/// One direction of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeftSide {
    pub framing: Interleaved,
    /// The captured packets that a frame has begun in.
    pub recent: Recent,
}

impl Left {
    fn turned(self) -> Self {
        let ([a, b], [from_a, from_b]) = (self.ends, self.sides);
        Self { ends: [b, a], connection: self.connection.turned(), sides: [from_b, from_a], ..self }
    }
}

/// Connections that were left, each once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LeftConnections(Vec<Left>);

impl LeftConnections {
    /// One more; at `max` the one that was left first makes room.
    pub fn keep(&mut self, left: Left, max: usize) {
        if self.0.len() >= max.max(1) {
            self.0.remove(0);
        }
        self.0.push(left);
    }

    /// Forgets those that nothing came of since `before`.
    pub fn forget_before(&mut self, before: CaptureTime) {
        self.0.retain(|left| left.last >= before);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one between the ends of a connection of which `segment`, that A sends, is the first: if it goes on with it. It is not kept any longer.
    pub fn take(&mut self, ends: [SocketAddr; 2], segment: &Segment<'_>, idle: Duration) -> Option<Left> {
        let at = self.0.iter().position(|left| left.ends == ends || left.ends == [ends[1], ends[0]])?;
        let left = self.0.swap_remove(at);
        let left = if left.ends == ends { left } else { left.turned() };
        let apart = segment.payload.time.nanos_since(left.last).unsigned_abs();
        let goes_on = left.connection.is_gone_on_with(Side::A, segment, BEHIND_MAX, AHEAD_MAX);
        (goes_on && u128::from(apart) <= idle.as_nanos()).then_some(left)
    }
}
