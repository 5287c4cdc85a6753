//! Puts packets into sequence order within a bounded window.
//!
//! Owns at most [`ReorderLimits::packets`] packets. A packet behind a hole waits until the hole is filled, or until the
//! window is full or spans too much capture time: then the hole stays a hole. What comes after its place was given up, and
//! what comes twice, is dropped and counted.

use super::MediaPacket;
use std::collections::BTreeMap;

/// How much may wait behind a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReorderLimits {
    /// Packets.
    pub packets: usize,
    /// Capture time in nanoseconds between the first that waits and the newest.
    pub nanos: i64,
}

impl Default for ReorderLimits {
    /// What is long enough for any network path, and short enough to hold: 512 packets, half a second.
    fn default() -> Self {
        Self { packets: 512, nanos: 500_000_000 }
    }
}

/// A window over one segment's packets.
#[derive(Clone, Debug, Default)]
pub struct Reorderer {
    limits: ReorderLimits,
    /// The sequence number that is due.
    next: Option<u64>,
    /// Nothing before it was asked for.
    start: u64,
    held: BTreeMap<u64, MediaPacket>,
    newest: i64,
    dropped: u64,
}

impl Reorderer {
    /// An empty window. The first packet pushed is the first due.
    pub fn new(limits: ReorderLimits) -> Self {
        Self { limits, next: None, start: 0, held: BTreeMap::new(), newest: i64::MIN, dropped: 0 }
    }

    /// Begins anew, with `seq` due first; what waits is forgotten, what comes from before it is left out and not counted.
    pub fn start_at(&mut self, seq: Option<u64>) {
        self.held.clear();
        self.next = seq;
        self.start = seq.unwrap_or(0);
        self.newest = i64::MIN;
    }

    /// Adds a packet.
    pub fn push(&mut self, packet: MediaPacket) {
        if packet.seq < self.start {
            return;
        }
        let next = *self.next.get_or_insert(packet.seq);
        self.newest = self.newest.max(packet.time.nanos());
        if packet.seq < next || self.held.contains_key(&packet.seq) {
            self.dropped += 1;
            return;
        }
        self.held.insert(packet.seq, packet);
    }

    /// The next packet in order, if it is due or the window is full.
    pub fn pop(&mut self) -> Option<MediaPacket> {
        let (seq, first) = self.held.first_key_value()?;
        let due = Some(*seq) == self.next;
        let waited = self.newest.saturating_sub(first.time.nanos());
        if due || self.held.len() > self.limits.packets || waited > self.limits.nanos {
            return self.flush();
        }
        None
    }

    /// The next packet in order, whether or not something is missing before it: at the end.
    pub fn flush(&mut self) -> Option<MediaPacket> {
        let (seq, packet) = self.held.pop_first()?;
        self.next = Some(seq.wrapping_add(1));
        Some(packet)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Packets that came twice or too late.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::SegmentId;
    use capture::CaptureTime;
    use proptest::prelude::*;
    use smallvec::SmallVec;

    fn packet(seq: u64, ms: i64) -> MediaPacket {
        MediaPacket {
            time: CaptureTime::from_nanos(ms * 1_000_000),
            seq,
            timestamp: 0,
            marker: false,
            ssrc: 0,
            payload_type: 96,
            segment: SegmentId(0),
            clean: false,
            len: 0,
            pieces: SmallVec::new(),
        }
    }

    fn drain(r: &mut Reorderer) -> Vec<u64> {
        std::iter::from_fn(|| r.pop()).map(|p| p.seq).collect()
    }

    #[test]
    fn a_swap_is_put_right_and_a_repetition_dropped() {
        let mut r = Reorderer::new(ReorderLimits::default());
        let mut out = Vec::new();
        for seq in [10, 12, 11, 11, 13, 12] {
            r.push(packet(seq, 0));
            out.extend(drain(&mut r));
        }
        assert_eq!(out, [10, 11, 12, 13]);
        assert_eq!(r.dropped(), 2);
    }

    #[test]
    fn a_hole_is_given_up_after_its_time() {
        let mut r = Reorderer::new(ReorderLimits { packets: 100, nanos: 20_000_000 });
        r.push(packet(1, 0));
        assert_eq!(drain(&mut r), [1]);
        for (seq, ms) in [(3, 10), (4, 20), (5, 30)] {
            r.push(packet(seq, ms));
            assert_eq!(drain(&mut r), [0; 0]);
        }
        r.push(packet(6, 31));
        assert_eq!(drain(&mut r), [3, 4, 5, 6]);
    }

    proptest! {
        #[test]
        fn what_comes_within_the_window_comes_out_in_order(order in Just((0..200u64).collect::<Vec<_>>()), swaps in prop::collection::vec((0usize..190, 1usize..10), 0..50)) {
            let mut order = order;
            for (at, by) in swaps {
                // Each packet is moved by less than the window.
                let moved = order.remove(at);
                order.insert((at + by).min(order.len()), moved);
            }
            let mut r = Reorderer::new(ReorderLimits { packets: 600, nanos: i64::MAX });
            r.start_at(Some(0));
            let mut out = Vec::new();
            for seq in order {
                r.push(packet(seq, 0));
                out.extend(drain(&mut r));
            }
            prop_assert_eq!(out, (0..200).collect::<Vec<_>>());
        }
    }
}
