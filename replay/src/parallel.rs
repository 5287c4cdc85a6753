//! Which of a stream's parallel sessions a live viewer follows: two clients that pull one camera are two sessions with the same pictures, and
//! packets of both, one among the other, are no picture at all.
//!
//! One session is followed until it falls silent. A session that begins meanwhile may be the one that goes on (the client has connected anew):
//! its first packets are kept for as long as that is not clear, so that nothing of it is missing then. Pure: goes by capture times.

use crate::source::Packet;
use capture::CaptureTime;

/// Without a packet for so long a session has ended, if another has begun: less than clients take to connect anew, more than packets lie apart.
const QUIET_NANOS: u64 = 500_000_000;
/// Without a packet for so long it is left for one that ran beside it.
const QUIET_BESIDE_NANOS: u64 = 1_000_000_000;
/// What is met so soon after the viewer came may have run for a long time.
const JOINED_NANOS: u64 = 2_000_000_000;
/// Packets kept of a session that has begun: half a second of 80 Mbit/s. One that sends more is taken as one that runs beside.
const KEPT_MAX: usize = 4096;

/// See the module's text.
#[derive(Default)]
pub struct Parallel {
    /// The session's segment, and when its last packet was captured.
    followed: Option<(u32, CaptureTime)>,
    /// The latest segment that was met: they are numbered as they begin.
    newest: u32,
    /// When the viewer's first live packet was captured.
    joined: Option<CaptureTime>,
    begun: Option<Begun>,
}

/// A segment that has begun beside the followed one.
struct Begun {
    segment: u32,
    since: CaptureTime,
    packets: Vec<Packet>,
}

impl Parallel {
    /// The store gave this packet: its session is followed.
    pub fn follow(&mut self, packet: &Packet) {
        self.followed = Some((packet.segment, packet.time));
        self.newest = self.newest.max(packet.segment);
    }

    /// Gives on what is to be played. `begins_anywhere`: it is no video, or one without clean points.
    pub fn take(&mut self, mut packet: Packet, begins_anywhere: bool, play: &mut impl FnMut(Packet)) {
        let joined = *self.joined.get_or_insert(packet.time);
        let Some((followed, last)) = self.followed else {
            self.follow(&packet);
            return play(packet);
        };
        if packet.segment == followed {
            // What has begun and goes on together with this one runs beside it.
            self.begun.take_if(|begun| apart(begun.since, packet.time) > QUIET_NANOS);
            self.follow(&packet);
            return play(packet);
        }
        let silent = apart(last, packet.time);
        if packet.segment > self.newest {
            self.newest = packet.segment;
            let met = apart(joined, packet.time) > JOINED_NANOS;
            self.begun =
                met.then(|| Begun { segment: packet.segment, since: packet.time, packets: Vec::new() });
        }
        match self.begun.take_if(|begun| begun.segment == packet.segment) {
            Some(begun) if silent >= QUIET_NANOS => {
                self.follow(&packet);
                begun.packets.into_iter().for_each(&mut *play);
                play(packet);
            }
            Some(mut begun) if begun.packets.len() < KEPT_MAX => {
                packet.detach();
                begun.packets.push(packet);
                self.begun = Some(begun);
            }
            Some(_) => {}
            None if silent >= QUIET_BESIDE_NANOS && (packet.clean || begins_anywhere) => {
                self.follow(&packet);
                play(packet);
            }
            None => {}
        }
    }
}

/// Also where the clock was set back.
fn apart(a: CaptureTime, b: CaptureTime) -> u64 {
    b.nanos_since(a).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic;

    /// Segment, milliseconds, whether it begins a clean point.
    type Seen = (u32, i64, bool);

    fn played(seen: &[Seen]) -> Vec<(u32, i64)> {
        let (mut parallel, mut out) = (Parallel::default(), Vec::new());
        for &(segment, ms, clean) in seen {
            let packet = Packet { clean, ..synthetic::packet(segment, ms as u64, 0, ms) };
            parallel.take(packet, false, &mut |p| out.push((p.segment, p.seq as i64)));
        }
        out
    }

    /// Every 40 ms a packet, every tenth one clean.
    fn session(segment: u32, ms: std::ops::Range<i64>) -> Vec<Seen> {
        ms.step_by(40).enumerate().map(|(n, ms)| (segment, ms, n % 10 == 0)).collect()
    }

    fn merged(sessions: &[Vec<Seen>]) -> Vec<Seen> {
        let mut all = sessions.concat();
        all.sort_by_key(|p| p.1);
        all
    }

    #[test]
    fn one_of_two_sessions_is_followed() {
        for (first, second) in [(1, 2), (2, 1)] {
            let both = merged(&[session(first, 0..9000), session(second, 1..9000)]);
            assert_eq!(played(&both), played(&session(first, 0..9000)), "and nothing of the other");
        }
        // With one picture a second one falls silent for as long as another that ends.
        let slow = |segment, from: i64| (from..9000).step_by(1000).map(move |ms| (segment, ms, true));
        let both = merged(&[slow(1, 0).collect(), slow(2, 700).collect()]);
        assert_eq!(played(&both), played(&slow(1, 0).collect::<Vec<_>>()));
        let later = merged(&[session(1, 0..9000), session(2, 3001..9000)]);
        assert_eq!(played(&later), played(&session(1, 0..9000)));
    }

    #[test]
    fn a_client_that_connects_anew_loses_nothing() {
        for begins in [2010, 2300, 2900, 9000] {
            // The first packets come before it is clear that the session before has ended.
            let (before, after) = (session(1, 0..2000), session(2, begins..begins + 3000));
            let all = [before, after].concat();
            assert_eq!(played(&all).len(), all.len(), "from {begins} ms");
        }
        // Also where the old one goes on for a little while.
        let all = merged(&[session(1, 0..4000), session(2, 3701..7000)]);
        assert_eq!(played(&all).len(), all.len());
    }

    #[test]
    fn when_it_ends_the_one_beside_is_gone_on_with_at_a_clean_point() {
        let all = merged(&[session(1, 0..3000), session(2, 1..9001)]);
        let played = played(&all);
        let (before, after): (Vec<_>, Vec<_>) = played.iter().partition(|p| p.0 == 1);
        assert_eq!(before.len(), 75);
        assert_eq!(after.first(), Some(&&(2, 4001)), "the first of a group of ten, a second later");
        assert_eq!(after.len(), 125);
    }

    #[test]
    fn a_clock_that_is_set_back_ends_no_session() {
        let mut all = session(1, 10_000..12_000);
        all.extend(session(1, 5_000..7_000));
        assert_eq!(played(&all).len(), all.len());
    }

    #[test]
    fn no_more_is_kept_than_is_named() {
        let mut all = session(1, 0..3001);
        let before = all.len();
        all.extend((0..3 * KEPT_MAX).map(|n| (2, 3001 + n as i64 / 100, n == 0)));
        assert_eq!(played(&all).len(), before);
        all.push((2, 5000, true));
        assert_eq!(played(&all).len(), before + 1, "then it is one that runs beside");
    }
}
