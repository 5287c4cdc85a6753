//! Seeded scenarios in simulated time.

use super::*;
use crate::span::Location;
use capture::ShardId;
use proptest::prelude::*;

const ACK: TcpFlags = TcpFlags::ACK;

fn ms(n: i64) -> CaptureTime {
    CaptureTime::from_nanos(n * 1_000_000)
}

fn at(record: u64) -> Location {
    Location { shard: ShardId(1), record, entry: 0, offset: 54 }
}

fn stream(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 % 253) as u8).collect()
}

/// What came out, data joined.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    bytes: Vec<u8>,
    /// (position, length, cause)
    holes: Vec<(u64, u64, HoleCause)>,
    starts: Vec<bool>,
    ends: Vec<EndReason>,
    locations: Vec<(Location, usize)>,
    position: u64,
}

impl Seen {
    fn add(&mut self, event: &TcpEvent<'_>) {
        match *event {
            TcpEvent::Start { syn } => self.starts.push(syn),
            TcpEvent::Data(&Slice { bytes, at, .. }) => {
                assert!(!bytes.is_empty());
                self.bytes.extend_from_slice(bytes);
                self.locations.push((at, bytes.len()));
                self.position += bytes.len() as u64;
            }
            TcpEvent::Hole { len, cause } => {
                self.holes.push((self.position, len, cause));
                self.position += len;
            }
            TcpEvent::End { reason } => self.ends.push(reason),
        }
    }
}

struct Given<'a> {
    seq: u32,
    ack: u32,
    flags: TcpFlags,
    payload: &'a [u8],
    len_on_wire: u32,
    at: Location,
}

struct Rig {
    connection: Connection,
    limits: TcpLimits,
    a: Seen,
    b: Seen,
}

impl Rig {
    fn new() -> Self {
        let (a, b) = (Seen::default(), Seen::default());
        Self { connection: Connection::default(), limits: TcpLimits::default(), a, b }
    }

    fn give(&mut self, from: Side, now: i64, given: Given<'_>) {
        let (a, b) = (&mut self.a, &mut self.b);
        let Given { seq, ack, flags, payload, len_on_wire, at } = given;
        let payload = &Slice { bytes: payload, at, time: ms(now) };
        let segment = Segment { seq, ack, flags, payload, len_on_wire };
        self.connection.handle_segment(&self.limits, from, &segment, &mut |side, e| match side {
            Side::A => a.add(e),
            Side::B => b.add(e),
        });
    }

    fn data(&mut self, now: i64, seq: u32, payload: &[u8]) {
        let len_on_wire = payload.len() as u32;
        self.give(Side::A, now, Given { seq, ack: 0, flags: TcpFlags(0), payload, len_on_wire, at: at(1) });
    }

    fn flags(&mut self, from: Side, now: i64, seq: u32, ack: u32, flags: TcpFlags) {
        self.give(from, now, Given { seq, ack, flags, payload: &[], len_on_wire: 0, at: at(0) });
    }

    fn timeout(&mut self, now: i64) {
        let a = &mut self.a;
        self.connection.handle_timeout(&self.limits, ms(now), &mut |side, e| {
            assert_eq!(side, Side::A);
            a.add(e);
        });
    }
}

#[test]
fn handshake_data_fin() {
    let mut rig = Rig::new();
    rig.flags(Side::A, 0, 99, 0, TcpFlags::SYN);
    rig.flags(Side::B, 1, 499, 100, TcpFlags::SYN.with(ACK));
    rig.data(2, 100, b"hello ");
    rig.data(3, 106, b"world");
    rig.flags(Side::B, 3, 500, 111, ACK);
    rig.flags(Side::A, 4, 111, 0, TcpFlags::FIN);
    rig.flags(Side::B, 5, 500, 112, ACK);
    assert_eq!(rig.a.bytes, b"hello world");
    assert_eq!((rig.a.starts, rig.a.ends, rig.a.holes), (vec![true], vec![EndReason::Fin], vec![]));
    assert_eq!(rig.b.starts, [true]);
}

#[test]
fn reordered_is_no_hole_even_when_acknowledged_first() {
    let mut rig = Rig::new();
    rig.data(0, 0, b"one");
    rig.data(1, 8, b"three");
    // The tap saw the acknowledgement before the data.
    rig.flags(Side::B, 2, 0, 13, ACK);
    rig.data(100, 3, b"two..");
    assert_eq!(rig.a.bytes, b"onetwo..three");
    assert!(rig.a.holes.is_empty());
    assert_eq!(rig.connection.deadline(&rig.limits), None);
}

#[test]
fn acknowledged_hole_is_the_mirrors() {
    let mut rig = Rig::new();
    rig.data(0, 0, b"one");
    rig.data(1, 8, b"three");
    rig.flags(Side::B, 2, 0, 13, ACK);
    assert_eq!(rig.connection.deadline(&rig.limits), Some(ms(202)));
    rig.timeout(202);
    assert_eq!(rig.a.holes, [(3, 5, HoleCause::Acked)]);
    assert_eq!(rig.a.bytes, b"onethree");
}

#[test]
fn hole_at_the_tail_is_found_by_the_acknowledgement() {
    let mut rig = Rig::new();
    rig.data(0, 0, b"one");
    rig.flags(Side::B, 1, 0, 103, ACK);
    rig.timeout(201);
    assert_eq!(rig.a.holes, [(3, 100, HoleCause::Acked)]);
    rig.data(300, 103, b"two");
    assert_eq!(rig.a.bytes, b"onetwo");
}

#[test]
fn unacknowledged_hole_times_out_and_a_late_copy_is_old() {
    let mut rig = Rig::new();
    rig.data(0, 0, b"one");
    rig.data(1, 8, b"three");
    rig.timeout(5000);
    assert!(rig.a.holes.is_empty());
    rig.timeout(5001);
    assert_eq!(rig.a.holes, [(3, 5, HoleCause::TimedOut)]);
    rig.data(5002, 3, b"two..");
    assert_eq!(rig.a.bytes, b"onethree");
}

#[test]
fn a_missed_fin_is_no_hole() {
    let mut rig = Rig::new();
    rig.data(0, 0, b"one");
    rig.flags(Side::B, 1, 0, 4, ACK);
    rig.timeout(300);
    assert_eq!((rig.a.holes, rig.a.ends), (vec![], vec![EndReason::Fin]));
}

/// Ports that were used again, their SYN missed: data lies behind a FIN, and a hole before it. Waiting for it to end once had no end.
#[test]
fn data_behind_a_fin_ends_the_stream() {
    let mut rig = Rig::new();
    rig.data(0, 1000, &stream(100));
    rig.flags(Side::A, 10, 1150, 0, TcpFlags::FIN);
    rig.data(20, 1400, &stream(100));
    rig.data(60_000, 1500, &stream(10));
    assert_eq!(rig.a.ends, [EndReason::Fin]);
    assert_eq!(rig.a.holes, [(100, 50, HoleCause::TimedOut), (150, 250, HoleCause::Closed)]);
    assert_eq!(rig.a.bytes.len(), 210);
    assert_eq!(rig.connection.held_bytes(), 0);
}

#[test]
fn bounded_behind_a_hole() {
    let mut rig = Rig::new();
    rig.data(0, 0, b"x");
    let block = stream(1000);
    for n in 0..3000u32 {
        rig.data(1, 2 + n * 1000, &block);
        assert!(rig.connection.held_bytes() <= (1 << 20) + 1000);
    }
    assert_eq!(rig.a.holes, [(1, 1, HoleCause::Bound)]);
    assert_eq!(rig.a.bytes.len(), 3_000_001);
}

#[test]
fn cut_segments_are_holes_and_positions_go_on() {
    let mut rig = Rig::new();
    for n in 0..3u32 {
        let flags = TcpFlags(0);
        let s = Given { seq: n * 1448, ack: 0, flags, payload: b"head", len_on_wire: 1448, at: at(1) };
        rig.give(Side::A, 0, s);
    }
    let hole = |n: u64| (n * 1448 + 4, 1444, HoleCause::Cut);
    assert_eq!(rig.a.holes, [hole(0), hole(1), hole(2)]);
    assert_eq!(rig.a.bytes, b"headheadhead");
}

#[test]
fn ports_reused_with_and_without_syn() {
    let mut rig = Rig::new();
    rig.data(0, 1000, b"old");
    rig.flags(Side::A, 1, 77_777, 0, TcpFlags::SYN);
    rig.data(2, 77_778, b"new");
    for n in 0..4 {
        rig.data(3, 3_000_000_000 + n * 5, b"newer");
    }
    assert_eq!(rig.a.starts, [false, true, false]);
    assert_eq!(rig.a.ends, [EndReason::Reused, EndReason::Jumped]);
    assert_eq!(rig.a.bytes, b"oldnewnewernewer");
}

#[test]
fn reset_ends_both_sides_and_stragglers_are_ignored() {
    let mut rig = Rig::new();
    rig.data(0, 1000, b"data");
    rig.give(
        Side::B,
        0,
        Given { seq: 5, ack: 1004, flags: ACK, payload: b"reply", len_on_wire: 5, at: at(2) },
    );
    rig.flags(Side::B, 1, 10, 0, TcpFlags::RST);
    rig.data(2, 1004, b"late");
    assert_eq!((&rig.a.ends[..], &rig.b.ends[..]), (&[EndReason::Reset][..], &[EndReason::Reset][..]));
    assert_eq!(rig.a.bytes, b"data");
    rig.data(5000, 1004, b"new");
    assert_eq!(rig.a.starts, [false, false]);
}

#[test]
fn a_reset_waits_for_what_it_overtook() {
    let mut rig = Rig::new();
    rig.data(0, 1000, b"one");
    rig.data(1, 1006, b"three");
    rig.flags(Side::B, 2, 10, 1013, TcpFlags::RST.with(ACK));
    assert_eq!(rig.connection.deadline(&rig.limits), Some(ms(202)));
    rig.data(50, 1003, b"two");
    assert_eq!((&rig.a.bytes[..], &rig.a.ends[..]), (&b"onetwothree"[..], &[][..]), "four is acknowledged");
    rig.data(60, 1011, b"4.");
    assert_eq!((&rig.a.bytes[..], &rig.a.ends[..]), (&b"onetwothree4."[..], &[EndReason::Reset][..]));
    assert_eq!(rig.connection.deadline(&rig.limits), None);
    rig.data(70, 1013, b"late");
    assert_eq!((rig.a.starts, rig.a.holes, rig.a.bytes.len()), (vec![false], vec![], 13));
}

#[test]
fn what_a_reset_overtook_and_never_came_is_missing() {
    let mut rig = Rig::new();
    rig.data(0, 1000, b"one");
    rig.data(1, 1006, b"three");
    rig.flags(Side::A, 2, 1011, 0, TcpFlags::RST);
    rig.timeout(201);
    assert_eq!(rig.a.ends, []);
    rig.timeout(202);
    assert_eq!((rig.a.holes, rig.a.bytes), (vec![(3, 3, HoleCause::Closed)], b"onethree".to_vec()));
    assert_eq!(rig.a.ends, [EndReason::Reset]);
}

#[test]
fn a_new_connection_does_not_wait_for_what_a_reset_overtook() {
    for syn in [true, false] {
        let mut rig = Rig::new();
        rig.data(0, 1000, b"one");
        rig.data(1, 1006, b"three");
        rig.flags(Side::A, 2, 1011, 0, TcpFlags::RST);
        if syn {
            rig.flags(Side::A, 3, 999_999_999, 0, TcpFlags::SYN);
        }
        rig.data(4, 1_000_000_000, b"new");
        rig.data(300, 1_000_000_003, b"er");
        assert_eq!((rig.a.starts, rig.a.ends), (vec![false, syn], vec![EndReason::Reset]));
        assert_eq!(rig.a.bytes, b"onethreenewer");
    }
}

#[test]
fn a_reset_that_acknowledges_what_was_never_sent_invents_no_hole() {
    let mut rig = Rig::new();
    rig.data(0, 1000, b"one");
    rig.flags(Side::B, 2, 10, 1003 + (10 << 20), TcpFlags::RST.with(ACK));
    rig.timeout(300);
    assert_eq!((rig.a.holes, rig.a.ends), (vec![], vec![EndReason::Reset]));
}

#[test]
fn a_reset_that_waits_is_carried_out_at_the_end() {
    let mut rig = Rig::new();
    rig.data(0, 1000, b"one");
    rig.flags(Side::B, 2, 10, 1009, TcpFlags::RST.with(ACK));
    assert_eq!(rig.a.ends, []);
    let a = &mut rig.a;
    rig.connection.finish(ms(3), &mut |side, e| {
        if side == Side::A {
            a.add(e)
        }
    });
    assert_eq!(rig.a.ends, [EndReason::Reset]);
}

#[test]
fn survives_a_checkpoint() {
    let mut rig = Rig::new();
    rig.data(0, 0, b"one");
    rig.data(1, 8, b"three");
    let kept = postcard::to_stdvec(&rig.connection).unwrap();
    rig.connection = postcard::from_bytes(&kept).unwrap();
    rig.data(2, 3, b"two..");
    assert_eq!(rig.a.bytes, b"onetwo..three");
}

/// Mostly those of data, so that connections last long enough to come into odd states.
fn flags() -> impl Strategy<Value = u8> {
    prop_oneof![20 => Just(0x10), 5 => Just(0x18), 2 => Just(0x11), 1 => any::<u8>()]
}

proptest! {
    /// Segments of any sizes, shuffled within a window, repeated and overlapping, across the wrap of sequence numbers: the
    /// stream comes out once and whole, and every location points at its bytes.
    #[test]
    fn any_order_any_overlap(
        first in any::<u32>(),
        cuts in proptest::collection::vec(1usize..3000, 1..60),
        repeats in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..400, 0usize..400), 0..40),
        keys in proptest::collection::vec(0usize..12, 200),
    ) {
        let total: usize = cuts.iter().sum();
        let bytes = stream(total);
        let mut begin = 0;
        let mut segments: Vec<_> = cuts.iter().map(|len| { begin += len; (begin - len)..begin }).collect();
        let originals = segments.len();
        for (index, before, after) in repeats {
            let r = segments[index.index(originals)].clone();
            segments.push(r.start.saturating_sub(before)..(r.end + after).min(total));
        }
        // Every original but the first is displaced by less than 12 places; the repeats go where they fall.
        let mut order: Vec<usize> = (1..segments.len()).collect();
        order.sort_by_key(|&n| if n < originals { n + keys[n] } else { (n * 7919) % originals });
        let mut rig = Rig::new();
        rig.flags(Side::A, 0, first.wrapping_sub(1), 0, TcpFlags::SYN);
        for (now, n) in std::iter::once(0).chain(order).enumerate() {
            let r = segments[n].clone();
            let s = Given {
                seq: first.wrapping_add(r.start as u32), ack: 0, flags: TcpFlags(0), payload: &bytes[r.clone()],
                len_on_wire: r.len() as u32, at: Location { offset: r.start as u32, ..at(0) },
            };
            rig.give(Side::A, now as i64, s);
        }
        prop_assert_eq!(&rig.a.bytes, &bytes);
        prop_assert!(rig.a.holes.is_empty());
        let mut position = 0;
        for (location, len) in &rig.a.locations {
            prop_assert_eq!(location.offset as usize, position);
            position += len;
        }
        prop_assert_eq!(rig.connection.held_bytes(), 0);
    }

    /// The receiver resets the connection when it has everything, or the sender when it has sent it; a mirror that reorders shows that anywhere
    /// among the last segments.
    #[test]
    fn a_reset_may_overtake_anything(
        cuts in proptest::collection::vec(1usize..3000, 1..20),
        keys in proptest::collection::vec(0usize..12, 21),
        by_sender in any::<bool>(),
    ) {
        let total: usize = cuts.iter().sum();
        let bytes = stream(total);
        let mut begin = 0;
        let segments: Vec<_> = cuts.iter().map(|len| { begin += len; (begin - len)..begin }).collect();
        let mut order: Vec<usize> = (0..=segments.len()).collect();
        order.sort_by_key(|&n| n + keys[n]);
        let mut rig = Rig::new();
        rig.flags(Side::A, 0, 99, 0, TcpFlags::SYN);
        for (now, &n) in order.iter().enumerate() {
            let now = now as i64 * 9;
            match segments.get(n) {
                Some(r) => rig.data(now, 100 + r.start as u32, &bytes[r.clone()]),
                None if by_sender => rig.flags(Side::A, now, 100 + total as u32, 0, TcpFlags::RST),
                None => rig.flags(Side::B, now, 1, 100 + total as u32, TcpFlags::RST.with(ACK)),
            }
        }
        prop_assert_eq!(&rig.a.bytes, &bytes);
        prop_assert_eq!(&rig.a.ends, &[EndReason::Reset]);
        prop_assert!(rig.a.holes.is_empty());
    }

    /// Segments lost at the mirror: exactly their bytes are holes.
    #[test]
    fn lost_segments_are_exactly_the_holes(lost in proptest::collection::vec(any::<bool>(), 2..80)) {
        let bytes = stream(lost.len() * 100);
        let mut rig = Rig::new();
        rig.flags(Side::A, 0, u32::MAX - 500, 0, TcpFlags::SYN);
        let base = (u32::MAX - 500).wrapping_add(1);
        let mut expected = Vec::new();
        for (n, lost) in lost.iter().enumerate() {
            let seq = base.wrapping_add(n as u32 * 100);
            if !lost {
                rig.data(n as i64, seq, &bytes[n * 100..][..100]);
                expected.extend_from_slice(&bytes[n * 100..][..100]);
            }
            rig.flags(Side::B, n as i64, 0, seq.wrapping_add(100), ACK);
        }
        rig.timeout(100_000);
        rig.timeout(200_000);
        prop_assert_eq!(&rig.a.bytes, &expected);
        prop_assert_eq!(rig.a.position as usize, bytes.len());
        prop_assert!(rig.a.holes.iter().all(|h| h.2 == HoleCause::Acked));
    }

    /// Arbitrary headers never panic and never hold more than the bound.
    #[test]
    fn arbitrary_segments(
        all in proptest::collection::vec(
            (any::<bool>(), any::<u32>(), 0u32..5000, any::<u32>(), flags(), 0usize..300, 0u32..300), 0..200),
        near in any::<bool>(),
    ) {
        let payload = stream(300);
        let mut rig = Rig::new();
        rig.limits.held_bytes_max = 2000;
        for (n, (a, seq, low, ack, flags, len, more)) in all.into_iter().enumerate() {
            let (seq, ack) = if near { (low, ack % 5000) } else { (seq, ack) };
            let payload = &payload[..len];
            let s = Given { seq, ack, flags: TcpFlags(flags), payload, len_on_wire: len as u32 + more, at: at(n as u64) };
            rig.give(if a { Side::A } else { Side::B }, n as i64 * 370, s);
            prop_assert!(rig.connection.held_bytes() <= 2 * (2000 + 300));
        }
    }
}
