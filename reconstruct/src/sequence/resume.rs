//! Going on with a sequence where another recording left it: what lies between is missing, and is told as any other gap.

use super::{ExtendedSequence, SequenceNumber, SequenceTracker, TIMESTAMPS, WORDS};
use capture::CaptureTime;
use serde::{Deserialize, Serialize};

/// More packets than this are never said to be missing between two recordings: half of what 16 bits can tell apart.
const UNAMBIGUOUS_MAX: u128 = 1 << 15;

/// A packet this soon behind the end, with a number that is not higher, is a copy of one before it, or was overtaken: files are cut anywhere.
const COPY_NANOS: u128 = 1_000_000_000;
/// So many numbers up to the highest are remembered.
const REMEMBERED: u64 = u64::BITS as u64;

/// How far a source's sequence had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceEnd {
    highest: ExtendedSequence,
    /// Bit `n` for the number `n` below it: whether it was there.
    there: u64,
    time: CaptureTime,
    /// Since when, and how many packets were sent until then: the rate that it had.
    since: CaptureTime,
    packets: u64,
}

impl SequenceEnd {
    /// When the packet with its highest number was captured.
    pub fn time(&self) -> CaptureTime {
        self.time
    }
}

impl SequenceTracker {
    /// How far the sequence has come; `None` before the first packet.
    pub fn end(&self) -> Option<SequenceEnd> {
        let Self { highest_time, first_time, stats, .. } = self;
        let highest = self.highest?;
        let was_there =
            |n: &u64| highest.0.checked_sub(*n).is_some_and(|n| self.is_seen(ExtendedSequence(n)));
        Some(SequenceEnd {
            highest,
            there: (0..REMEMBERED).filter(was_there).fold(0, |there, n| there | 1 << n),
            time: *highest_time,
            since: *first_time,
            packets: stats.packets + stats.lost,
        })
    }

    /// Goes on behind `end` with the packet of `now`, if by all that is known of it that follows: later and with a higher number, and not so much
    /// later that the source, at the rate it had, may have gone through its 16 bits meanwhile. A number that is not higher is that of a copy or of a
    /// packet that was overtaken, if it comes at once. Of numbers long before the end it is not known any more which were there: none of them is
    /// missing.
    pub fn resume(end: &SequenceEnd, now: CaptureTime, sequence: SequenceNumber) -> Option<Self> {
        let silence = u128::try_from(now.nanos_since(end.time)).ok()?;
        let active = u128::try_from(end.time.nanos_since(end.since)).ok()?;
        let sent = silence * u128::from(end.packets) / active.max(1);
        let steps = sequence.steps_since(end.highest.wrapped());
        let mut tracker = Self {
            highest: Some(end.highest),
            highest_time: end.time,
            first_time: end.since,
            began: end.highest.plus(1),
            seen: [u64::MAX; WORDS],
            timestamps: std::iter::repeat_n(0, TIMESTAMPS as usize).collect(),
            stats: super::SequenceStats { packets: end.packets, ..Default::default() },
            ..Self::default()
        };
        for n in (0..REMEMBERED).filter(|n| end.there >> n & 1 == 0) {
            tracker.forget(ExtendedSequence(end.highest.0.wrapping_sub(n)));
        }
        let copy = steps <= 0 && u64::from(steps.unsigned_abs()) < REMEMBERED && silence <= COPY_NANOS;
        // A jump that would be taken for a restart is one.
        let follows = copy
            || steps == 1
            || steps > 1
                && (steps <= super::DROPOUT_MAX || tracker.is_outage(now, steps.unsigned_abs().into()));
        (follows && sent < UNAMBIGUOUS_MAX).then_some(tracker)
    }

    /// The number that follows the highest.
    pub fn next(&self) -> Option<ExtendedSequence> {
        self.highest.map(|highest| highest.plus(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::RtpTimestamp;
    use crate::sequence::Arrival;

    fn at(ms: i64) -> CaptureTime {
        CaptureTime::from_nanos(ms * 1_000_000)
    }

    /// 1,000 packets a second, up to number 2,000.
    fn ended() -> SequenceEnd {
        let mut tracker = SequenceTracker::default();
        for n in 0..=2_000 {
            tracker.handle(at(n), SequenceNumber(n as u16), RtpTimestamp(0));
        }
        tracker.end().unwrap()
    }

    #[test]
    fn what_lies_between_is_a_gap() {
        let first = SequenceNumber(2_006);
        let mut tracker = SequenceTracker::resume(&ended(), at(2_010), first).unwrap();
        let next = tracker.next().unwrap();
        assert_eq!(
            tracker.handle(at(2_010), first, RtpTimestamp(0)),
            Arrival::Ahead { sequence: next.plus(5), missing: 5 }
        );
        // Reordered across the border: it was there, or it is not missing any more.
        assert_eq!(
            tracker.handle(at(2_011), SequenceNumber(2_003), RtpTimestamp(0)),
            Arrival::Late { sequence: next.plus(2), after_gap: false }
        );
        tracker.finish();
        let gaps: Vec<_> =
            std::iter::from_fn(|| tracker.poll_gap()).map(|gap| (gap.first, gap.len())).collect();
        assert_eq!(gaps, [(next, 2), (next.plus(3), 2)]);
    }

    #[test]
    fn second_copies_of_what_came_before_are_duplicates() {
        let first = SequenceNumber(2_001);
        let mut tracker = SequenceTracker::resume(&ended(), at(2_001), first).unwrap();
        tracker.handle(at(2_001), first, RtpTimestamp(7));
        for n in [1_999, 2_000] {
            let arrival = tracker.handle(at(2_002), SequenceNumber(n), RtpTimestamp(7));
            assert!(matches!(arrival, Arrival::Duplicate(_)), "{n}: {arrival:?}");
        }
    }

    /// The file ends between the two copies that a mirror makes, or where one packet has overtaken another.
    #[test]
    fn a_border_may_lie_between_copies_and_in_disorder() {
        let mut tracker = SequenceTracker::default();
        for n in (0..=2_000).filter(|n| *n != 1_998) {
            tracker.handle(at(n), SequenceNumber(n as u16), RtpTimestamp(7));
        }
        tracker.finish();
        let end = tracker.end().unwrap();
        for first in [2_000, 1_998] {
            let mut tracker = SequenceTracker::resume(&end, at(2_001), SequenceNumber(first)).unwrap();
            let next = tracker.next().unwrap();
            for n in [first, 2_000, 1_999, 1_998] {
                let arrival = tracker.handle(at(2_001), SequenceNumber(n), RtpTimestamp(7));
                match arrival {
                    Arrival::Late { sequence, .. } => assert_eq!((n, sequence.0), (1_998, next.0 - 3)),
                    Arrival::Duplicate(_) => {}
                    _ => panic!("{n} behind {first}: {arrival:?}"),
                }
            }
            assert_eq!(tracker.stats().reordered, 1, "once");
            assert_eq!(
                tracker.handle(at(2_002), SequenceNumber(2_001), RtpTimestamp(7)),
                Arrival::InOrder(next)
            );
        }
    }

    #[test]
    fn pauses_do_not_make_the_rate_lower() {
        let mut end = ended();
        let mut resumed = 0;
        // As much recorded as left out, at 1,000 packets a second.
        for _ in 0..10 {
            let (ms, n) = (end.time.nanos() / 1_000_000 + 2_001, end.highest.wrapped().0.wrapping_add(2_001));
            let Some(mut tracker) = SequenceTracker::resume(&end, at(ms), SequenceNumber(n)) else { break };
            resumed += 1;
            for k in 0..2_000 {
                tracker.handle(at(ms + k), SequenceNumber(n.wrapping_add(k as u16)), RtpTimestamp(0));
            }
            tracker.finish();
            end = tracker.end().unwrap();
        }
        assert_eq!(resumed, 10);
        let rate = end.packets * 1_000_000_000 / end.time.nanos_since(end.since) as u64;
        assert!((990..=1_010).contains(&rate), "{rate}");
    }

    #[test]
    fn without_a_hole_nothing_is_missing() {
        let first = SequenceNumber(2_001);
        let mut tracker = SequenceTracker::resume(&ended(), at(2_001), first).unwrap();
        let next = tracker.next().unwrap();
        assert_eq!(tracker.handle(at(2_001), first, RtpTimestamp(0)), Arrival::InOrder(next));
        tracker.finish();
        assert_eq!(tracker.poll_gap(), None);
    }

    #[test]
    fn what_may_be_another_sequence_or_another_cycle_is_not_gone_on_with() {
        let resume = |ms, n| SequenceTracker::resume(&ended(), at(ms), SequenceNumber(n)).is_some();
        assert!(resume(12_000, 12_000), "ten seconds at the rate that it had");
        assert!(!resume(1_999, 2_001), "earlier: other footage of the same time");
        assert!(resume(2_001, 2_000) && resume(2_001, 1_990), "copies, or overtaken");
        assert!(!resume(3_001, 2_000) && !resume(2_001, 1_900), "not a higher number");
        assert!(!resume(2_001, 12_000), "far more than it can have sent");
        assert!(!resume(70_000, 2_100), "it may have gone through all numbers meanwhile");
    }
}
