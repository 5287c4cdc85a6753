//! Loss, reordering, duplicates and restarts, in simulated time.

use super::*;
use proptest::prelude::*;

fn ms(n: i64) -> CaptureTime {
    CaptureTime::from_nanos(n * 1_000_000)
}

#[derive(Default)]
struct Rig {
    tracker: SequenceTracker,
    gaps: Vec<(u64, u64)>,
    now: i64,
}

impl Rig {
    /// One packet a millisecond, two packets a frame.
    fn give(&mut self, n: u16) -> Arrival {
        self.give_at(n, u32::from(n / 2) * 3000)
    }

    fn give_at(&mut self, n: u16, timestamp: u32) -> Arrival {
        self.now += 1;
        let arrival = self.tracker.handle(ms(self.now), SequenceNumber(n), RtpTimestamp(timestamp));
        self.poll();
        arrival
    }

    fn poll(&mut self) {
        while let Some(gap) = self.tracker.poll_gap() {
            self.gaps.push((gap.first.0, gap.last.0));
        }
    }

    fn finish(&mut self) {
        self.tracker.finish();
        self.poll();
    }
}

const C: u64 = 0x1_0000;

#[test]
fn wraps_into_the_next_cycle() {
    let mut rig = Rig::default();
    assert_eq!(rig.give(65_534), Arrival::First(ExtendedSequence(C + 65_534)));
    assert_eq!(rig.give(65_535), Arrival::InOrder(ExtendedSequence(C + 65_535)));
    assert_eq!(rig.give(0), Arrival::InOrder(ExtendedSequence(2 * C)));
    assert_eq!(rig.give(65_533), Arrival::Late { sequence: ExtendedSequence(C + 65_533), after_gap: false });
}

#[test]
fn a_late_packet_is_no_gap() {
    let mut rig = Rig::default();
    for n in [1, 2, 5, 6, 3, 4, 7] {
        rig.give(n);
    }
    rig.now += 60_000;
    rig.give(8);
    rig.finish();
    assert!(rig.gaps.is_empty());
    assert_eq!((rig.tracker.stats().reordered, rig.tracker.stats().lost), (2, 0));
}

#[test]
fn a_gap_is_told_once_when_it_is_final() {
    let mut rig = Rig::default();
    rig.give(1);
    assert_eq!(rig.give(5), Arrival::Ahead { sequence: ExtendedSequence(C + 5), missing: 3 });
    assert_eq!(rig.give(3), Arrival::Late { sequence: ExtendedSequence(C + 3), after_gap: false });
    for n in 6..600 {
        rig.give(n);
    }
    assert_eq!(rig.gaps, [(C + 2, C + 2), (C + 4, C + 4)]);
    assert_eq!(rig.give(4), Arrival::Late { sequence: ExtendedSequence(C + 4), after_gap: true });
    assert_eq!(rig.tracker.stats().lost, 1);
    rig.finish();
    assert_eq!(rig.gaps.len(), 2);
}

#[test]
fn a_quiet_stream_closes_its_gaps_by_time() {
    let mut rig = Rig::default();
    rig.give(1);
    rig.give(3);
    rig.tracker.handle_timeout(ms(2_900));
    rig.poll();
    assert!(rig.gaps.is_empty());
    rig.tracker.handle_timeout(ms(3_100));
    rig.poll();
    assert_eq!(rig.gaps, [(C + 2, C + 2)]);
}

#[test]
fn a_mirror_that_shows_all_twice() {
    let mut rig = Rig::default();
    for n in 0..1000u16 {
        rig.give(n);
        if n >= 3 {
            assert_eq!(rig.give(n - 3), Arrival::Duplicate(ExtendedSequence(C + u64::from(n) - 3)));
        }
    }
    rig.finish();
    let stats = rig.tracker.stats();
    assert_eq!((stats.packets, stats.duplicates, stats.lost, stats.restarts), (1000, 997, 0, 0));
}

#[test]
fn restart_far_away_keeps_its_first_packet() {
    let mut rig = Rig::default();
    for n in 20_000..20_100 {
        rig.give(n);
    }
    assert_eq!(rig.give(5), Arrival::Doubtful);
    let restart = ExtendedSequence(3 * C + 6);
    assert_eq!(
        rig.give(6),
        Arrival::Restart { sequence: restart, doubtful: Some(ExtendedSequence(3 * C + 5)) }
    );
    assert_eq!(rig.give(7), Arrival::InOrder(ExtendedSequence(3 * C + 7)));
    assert_eq!((rig.tracker.stats().packets, rig.tracker.stats().lost), (103, 0));
}

#[test]
fn restart_close_behind_is_known_by_its_timestamps() {
    let mut rig = Rig::default();
    for n in 0..50 {
        rig.give(n);
    }
    assert_eq!(rig.give_at(0, 1_000_001), Arrival::Doubtful);
    assert!(matches!(rig.give_at(1, 1_000_001), Arrival::Restart { doubtful: Some(_), .. }));
}

#[test]
fn one_stray_packet_changes_nothing() {
    let mut rig = Rig::default();
    rig.give(100);
    assert_eq!(rig.give(30_000), Arrival::Doubtful);
    assert_eq!(rig.give(101), Arrival::InOrder(ExtendedSequence(C + 101)));
    assert_eq!(rig.give(30_001), Arrival::Doubtful);
    rig.finish();
    assert_eq!((rig.tracker.stats().stray, rig.tracker.stats().lost), (2, 0));
}

#[test]
fn a_long_outage_is_a_gap_and_not_a_restart() {
    let mut rig = Rig::default();
    for n in 0..2000 {
        rig.give(n);
    }
    rig.now += 10_000;
    assert!(matches!(rig.give(12_000), Arrival::Ahead { missing: 10_000, .. }));
    rig.finish();
    assert_eq!(rig.gaps, [(C + 2000, C + 11_999)]);
}

#[test]
fn survives_a_checkpoint() {
    let mut rig = Rig::default();
    rig.give(1);
    rig.give(4);
    let kept = postcard::to_stdvec(&rig.tracker).unwrap();
    assert!(kept.len() < 600, "{}", kept.len());
    rig.tracker = postcard::from_bytes(&kept).unwrap();
    rig.give(3);
    rig.finish();
    assert_eq!(rig.gaps, [(C + 2, C + 2)]);
}

proptest! {
    /// Loss, displacement of up to 20 places and duplicates, from any first number: what is told adds up to the truth.
    #[test]
    fn accounts_for_every_packet(
        first in any::<u16>(),
        fates in proptest::collection::vec((0u8..20, 0usize..20, any::<bool>()), 100..2000),
    ) {
        // Fate 0 is loss; the first 30 are left in order so that the window is known.
        let mut order = Vec::new();
        let mut lost = Vec::new();
        for (n, &(fate, shift, twice)) in fates.iter().enumerate() {
            let calm = n < 30 || n + 1 == fates.len();
            if fate == 0 && !calm {
                lost.push(C + u64::from(first) + n as u64);
                continue;
            }
            let place = if calm { n } else { n + shift };
            order.push((place, n));
            if twice {
                order.push((place + 5, n));
            }
        }
        order.sort();
        let mut rig = Rig::default();
        let mut new = 0;
        let mut duplicates = 0;
        for &(_, n) in &order {
            let number = first.wrapping_add(n as u16);
            let expected = C + u64::from(first) + n as u64;
            let arrival = rig.give_at(number, n as u32 / 3 * 3600);
            let extended = match arrival {
                Arrival::First(e) | Arrival::InOrder(e) => { new += 1; e }
                Arrival::Ahead { sequence, .. } => { new += 1; sequence }
                Arrival::Late { sequence, after_gap } => { prop_assert!(!after_gap); new += 1; sequence }
                Arrival::Duplicate(e) => { duplicates += 1; e }
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            };
            prop_assert_eq!(extended.0, expected);
        }
        rig.finish();
        let told: Vec<u64> = rig.gaps.iter().flat_map(|g| g.0..=g.1).collect();
        prop_assert_eq!(&told, &lost);
        prop_assert_eq!(new + duplicates, order.len());
        let stats = rig.tracker.stats();
        prop_assert_eq!((stats.packets, stats.duplicates, stats.lost), (new as u64, duplicates as u64, lost.len() as u64));
    }

    /// Arbitrary numbers and times, clock steps included: no panic, all bounded.
    #[test]
    fn arbitrary(packets in proptest::collection::vec((any::<u16>(), any::<i32>(), any::<u32>(), any::<bool>()), 0..500)) {
        let mut tracker = SequenceTracker::default();
        for (n, time, timestamp, near) in packets {
            let n = if near { n % 1500 } else { n };
            tracker.handle(ms(i64::from(time)), SequenceNumber(n), RtpTimestamp(timestamp));
            while let Some(gap) = tracker.poll_gap() {
                prop_assert!(gap.first <= gap.last);
            }
            prop_assert!(tracker.open.len() <= GAPS_MAX + WINDOW as usize);
        }
        tracker.finish();
    }
}
