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
/// What the first segment acknowledges may be so far behind: that much can be on its way.
const IN_FLIGHT_MAX: u32 = 1 << 20;
/// A connection that nothing was heard of for so long is not waited for.
const IDLE: Duration = Duration::from_secs(60);
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
    /// The captured packets that a frame has begun in; none between two frames.
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
    /// Keeps one. Gives how many made room for it: at the bound, the one of which nothing was heard for longest.
    #[must_use]
    pub fn keep(&mut self, ends: Ends, left: Left) -> u64 {
        self.0.insert(ordered(ends), left.ordered(ends));
        if self.0.len() <= LEFT_MAX {
            return 0;
        }
        let oldest = self.0.iter().min_by_key(|(_, left)| left.last).map(|(ends, _)| *ends);
        oldest.and_then(|ends| self.0.remove(&ends)).map_or(0, |_| 1)
    }

    /// Forgets those that nothing will come of any more, and what a clock that was wrong has left.
    pub fn expire(&mut self, now: CaptureTime) {
        self.0.retain(|_, left| left.last.plus(IDLE) >= now && left.last <= now.plus(LATER_MAX));
    }

    /// The one that a connection's first segment, which the first of `ends` sends, goes on with. Whether it does or not, it is not kept any longer.
    pub fn take(&mut self, ends: Ends, time: CaptureTime, first: &Header) -> Option<Left> {
        let left = self.0.remove(&ordered(ends))?.ordered(ends);
        let later = time >= left.last.minus(EARLIER_MAX);
        (later && left.connection.is_gone_on_with(Side::A, first, APART_MAX, IN_FLIGHT_MAX)).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> CaptureTime {
        CaptureTime::from_nanos(seconds * 1_000_000_000)
    }

    fn left(last: CaptureTime) -> Left {
        Left { last, connection: Connection::default(), sides: [None, None] }
    }

    fn ends(port: u16) -> Ends {
        [SocketAddr::from(([198, 18, 0, 11], 554)), SocketAddr::from(([198, 18, 0, 2], port))]
    }

    #[test]
    fn at_the_bound_the_one_that_was_silent_longest_makes_room() {
        let mut all = LeftConnections::default();
        // The first ten were heard of last.
        let heard = |n: u16| at(if n < 10 { 9_999 } else { i64::from(n) });
        let made_room: u64 = (0..LEFT_MAX as u16 + 10).map(|n| all.keep(ends(n), left(heard(n)))).sum();
        assert_eq!((made_room, all.0.len()), (10, LEFT_MAX));
        let there = |all: &LeftConnections, n| all.0.contains_key(&ordered(ends(n)));
        assert!((0..10).all(|n| there(&all, n)) && !(10..20).any(|n| there(&all, n)) && there(&all, 20));
        // The same ends again take no more room.
        assert_eq!(all.keep(ends(999), left(at(5))), 0);
        assert_eq!(all.0[&ordered(ends(999))].last, at(5));
    }

    #[test]
    fn what_is_over_is_forgotten_and_what_is_still_to_come_is_not() {
        let mut all = LeftConnections::default();
        for (port, last) in [(1, 0), (2, 50), (3, 10_000), (4, 1_000_000)] {
            assert_eq!(all.keep(ends(port), left(at(last))), 0);
        }
        all.expire(at(100));
        let there = |port| all.0.contains_key(&ordered(ends(port)));
        assert_eq!([1, 2, 3, 4].map(there), [false, true, true, false]);
    }
}
