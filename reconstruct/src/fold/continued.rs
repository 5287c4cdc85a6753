//! Connections of a source that is at its end, for one that goes on with them: programs that capture into file after file end each wherever its last
//! packet does, mostly within an interleaved frame. The frame begins in one file and ends in the next.
//!
//! Only the byte streams go on. Sessions and segments are of one source, and begin anew. Refuses what may be another capture of the same connection,
//! or the same one again: better a frame is lost than a file taken for copies of what is there.

use super::recent::Recent;
use crate::interleaved::Interleaved;
use crate::tcp::{Connection, Header, Side};
use capture::CaptureTime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// The first segment is at most so far from where the connection had come to, to either side: a few copies, or a segment that overtook others. Where
/// more is missing the place of the next frame is looked for, as in any connection that is picked up.
const APART_MAX: u32 = 16 << 10;
/// It is later than all of the source before, but for so much: time stamps of several CPUs are that much out of order.
const EARLIER_MAX: Duration = Duration::from_millis(1);
/// The file that is read may begin so much before those goes on that others were left by: one file for an interface, each of many hours.
const LATER_MAX: Duration = Duration::from_secs(48 * 3600);
/// Connections that are kept.
const LEFT_MAX: usize = 4096;

/// The ends of a connection, the lower address first.
type Ends = [SocketAddr; 2];

/// A connection that was left where its source ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Left {
    /// Its last segment.
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
    /// As it is when its ends are named in their order, or back from there.
    fn ordered(self, ends: Ends) -> Self {
        if ends[0] <= ends[1] {
            return self;
        }
        let [from_a, from_b] = self.sides;
        Self { last: self.last, connection: self.connection.turned(), sides: [from_b, from_a] }
    }
}

fn ordered(mut ends: Ends) -> Ends {
    ends.sort();
    ends
}

/// Connections that were left: the last that was left between two ends.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LeftConnections(BTreeMap<Ends, Left>);

impl LeftConnections {
    /// A source with so many connections is at its end. When all of them might find no room, those of sources before go.
    pub fn make_room(&mut self, for_connections: usize) {
        if self.0.len() + for_connections > LEFT_MAX {
            self.0.clear();
        }
    }

    /// Keeps one; false at the bound.
    #[must_use]
    pub fn keep(&mut self, ends: Ends, left: Left) -> bool {
        let room = self.0.len() < LEFT_MAX;
        if room {
            self.0.insert(ordered(ends), left.ordered(ends));
        }
        room
    }

    /// Forgets those of which nothing came for `idle`, and what a clock that was wrong has left.
    pub fn expire(&mut self, now: CaptureTime, idle: Duration) {
        self.0.retain(|_, left| left.last.plus(idle) >= now && left.last <= now.plus(LATER_MAX));
    }

    /// The one that a connection's first segment, which the first of `ends` sends, goes on with. Whether it does or not, it is not kept any longer.
    pub fn take(&mut self, ends: Ends, time: CaptureTime, first: &Header) -> Option<Left> {
        let left = self.0.remove(&ordered(ends))?.ordered(ends);
        let later = time >= left.last.minus(EARLIER_MAX);
        (later && left.connection.is_gone_on_with(Side::A, first, APART_MAX)).then_some(left)
    }
}
