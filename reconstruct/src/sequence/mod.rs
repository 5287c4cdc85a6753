//! One source's sequence numbers: extended, and judged as new, late, duplicate, missing, or begun anew.
//!
//! Owns the order of one SSRC's packets as they were captured. Holds no packets: about 600 bytes a source. A gap is told once,
//! when it is final: neither a reordered packet nor a second copy from the mirror can fill it any more. Costs about 10 ns.
//!
//! A packet far from what is expected may be a broken one, or the first after the camera restarted (RFC 3550 appendix A.1):
//! that is known with the next packet, and until then it is in doubt.

mod resume;

pub use resume::SequenceEnd;

use crate::rtp::{ExtendedSequence, RtpTimestamp, SequenceNumber};
use capture::CaptureTime;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// Sequence numbers that are remembered behind the highest one.
const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;
/// Timestamps that are remembered, to tell a duplicate from a camera that restarted just behind.
const TIMESTAMPS: u64 = 64;
/// A jump forward of up to so many packets is a loss (RFC 3550's `MAX_DROPOUT`).
const DROPOUT_MAX: i16 = 3000;
/// So many seeming duplicates one after the other, each the next of the one before, older than `TIMESTAMPS`: the camera restarted.
const DUPLICATE_RUN: u16 = 16;
/// Gaps that are open at a time; when there are more, the oldest becomes final early.
const GAPS_MAX: usize = 256;
/// A gap is final when so many packets and so much time came after it …
const REORDER_PACKETS: u64 = 64;
const REORDER_TIME: Duration = Duration::from_millis(500);
/// … or so much time alone.
const REORDER_TIME_MAX: Duration = Duration::from_secs(3);

/// What a packet is in its source's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The first of the source.
    First(ExtendedSequence),
    /// The one that follows the highest so far.
    InOrder(ExtendedSequence),
    /// Beyond the next one; `missing` packets between are not there (yet).
    Ahead {
        /// Its number.
        sequence: ExtendedSequence,
        /// How many numbers were skipped.
        missing: u64,
    },
    /// New, but behind the highest: reordered.
    Late {
        /// Its number.
        sequence: ExtendedSequence,
        /// It lies in a gap that was told as final.
        after_gap: bool,
    },
    /// Seen before.
    Duplicate(ExtendedSequence),
    /// Far from what is expected. The caller puts this one packet aside (in the place of an earlier one that is in doubt): the next
    /// one may be [`Arrival::Restart`].
    Doubtful,
    /// The source counts on from somewhere else. Numbers begin a new cycle of 65536, so that they never go backward.
    Restart {
        /// The number of this packet.
        sequence: ExtendedSequence,
        /// The number of the packet put aside, which is the first of the new sequence.
        doubtful: Option<ExtendedSequence>,
    },
}

/// Packets that were sent (their numbers were skipped) and never came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// First missing number.
    pub first: ExtendedSequence,
    /// Last missing number.
    pub last: ExtendedSequence,
    /// When the last packet before it was captured.
    pub before: CaptureTime,
    /// When the first packet after it was captured.
    pub after: CaptureTime,
}

impl Gap {
    /// How many packets are missing.
    pub fn len(&self) -> u64 {
        self.last.0 - self.first.0 + 1
    }

    /// Never: a gap has at least one packet.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Counts since the source was first seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceStats {
    /// Packets of the sequence, duplicates left out.
    pub packets: u64,
    /// Packets seen before.
    pub duplicates: u64,
    /// Packets that came behind a higher number.
    pub reordered: u64,
    /// Packets in final gaps, less those that came after all.
    pub lost: u64,
    /// Packets that were in doubt and belong to nothing.
    pub stray: u64,
    /// Times that the source began anew.
    pub restarts: u64,
}

/// See the module's text.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SequenceTracker {
    /// `None` before the first packet.
    highest: Option<ExtendedSequence>,
    highest_time: CaptureTime,
    first_time: CaptureTime,
    /// The number at which the (restarted) sequence began. Numbers before it can still come, reordered.
    began: ExtendedSequence,
    /// Bit `n % WINDOW` belongs to number `n`, of the last `WINDOW` numbers.
    seen: [u64; WORDS],
    /// Low 16 bits of the timestamp of number `n` at `n % TIMESTAMPS`.
    timestamps: VecDeque<u16>,
    /// Ascending, not overlapping.
    open: VecDeque<Gap>,
    /// Final, not yet polled.
    closed: VecDeque<Gap>,
    /// What would follow the packet in doubt.
    doubt: Option<SequenceNumber>,
    duplicate_run: u16,
    last_duplicate: SequenceNumber,
    stats: SequenceStats,
}

impl SequenceTracker {
    /// Counts so far.
    pub fn stats(&self) -> SequenceStats {
        self.stats
    }

    /// The highest number so far.
    pub fn highest(&self) -> Option<ExtendedSequence> {
        self.highest
    }

    /// Judges the next packet in capture order.
    #[inline]
    pub fn handle(&mut self, now: CaptureTime, sequence: SequenceNumber, timestamp: RtpTimestamp) -> Arrival {
        let Some(highest) = self.highest else {
            // The first number is put above one cycle, so that packets reordered before it have numbers, too.
            let first = ExtendedSequence(0x1_0000 | u64::from(sequence.0));
            self.begin(now, first, timestamp);
            self.first_time = now;
            return Arrival::First(first);
        };
        let steps = sequence.steps_since(highest.wrapped());
        if steps == 1 {
            let sequence = highest.plus(1);
            self.advance(now, sequence, timestamp);
            if !self.open.is_empty() {
                self.close_gaps(now);
            }
            return Arrival::InOrder(sequence);
        }
        let arrival = self.handle_jump(now, sequence, timestamp, highest, steps);
        self.close_gaps(now);
        arrival
    }

    /// A gap that has become final; call until `None`.
    pub fn poll_gap(&mut self) -> Option<Gap> {
        self.closed.pop_front()
    }

    /// Makes gaps final that are old enough, though nothing comes.
    pub fn handle_timeout(&mut self, now: CaptureTime) {
        self.close_gaps(now);
    }

    /// Nothing more comes: all gaps are final.
    pub fn finish(&mut self) {
        while let Some(gap) = self.open.pop_front() {
            self.close(gap);
        }
        self.stats.stray += u64::from(self.doubt.take().is_some());
    }

    fn handle_jump(
        &mut self,
        now: CaptureTime,
        sequence: SequenceNumber,
        timestamp: RtpTimestamp,
        highest: ExtendedSequence,
        steps: i16,
    ) -> Arrival {
        if steps > 0 {
            // Without this a wrapped restart looks like 3000 lost packets; with it a long outage is a gap, not a restart.
            let missing = u64::from(steps.unsigned_abs()) - 1;
            if steps > DROPOUT_MAX && !self.is_outage(now, missing) {
                return self.doubt(now, sequence, timestamp);
            }
            let sequence = highest.plus(missing + 1);
            let gap = Gap {
                first: highest.plus(1),
                last: highest.plus(missing),
                before: self.highest_time,
                after: now,
            };
            if self.open.len() >= GAPS_MAX
                && let Some(oldest) = self.open.pop_front()
            {
                self.close(oldest);
            }
            self.open.push_back(gap);
            self.advance(now, sequence, timestamp);
            return Arrival::Ahead { sequence, missing };
        }
        let behind = u64::from(steps.unsigned_abs());
        if behind >= WINDOW {
            return self.doubt(now, sequence, timestamp);
        }
        let extended = ExtendedSequence(highest.0 - behind);
        // Of those before the beginning no time stamp is known.
        let other_time = extended >= self.began
            && behind < TIMESTAMPS
            && self.timestamp_of(extended) != Some(timestamp.0 as u16);
        if self.is_seen(extended) {
            if other_time {
                return self.doubt(now, sequence, timestamp);
            }
            let follows = sequence == self.last_duplicate.next();
            self.duplicate_run = if follows { self.duplicate_run.saturating_add(1) } else { 0 };
            self.last_duplicate = sequence;
            if behind >= TIMESTAMPS && self.duplicate_run >= DUPLICATE_RUN {
                return self.restart(now, sequence, timestamp, None);
            }
            self.stats.duplicates += 1;
            return Arrival::Duplicate(extended);
        }
        if extended < self.began && behind >= TIMESTAMPS {
            // So far before the first: it was there before the restart, or is another source's.
            return self.doubt(now, sequence, timestamp);
        }
        self.settle_doubt();
        self.duplicate_run = 0;
        self.mark(extended, timestamp);
        self.stats.packets += 1;
        self.stats.reordered += 1;
        let after_gap = extended >= self.began && !self.fill(extended);
        if after_gap {
            self.stats.lost = self.stats.lost.saturating_sub(1);
        }
        Arrival::Late { sequence: extended, after_gap }
    }

    /// Whether the source, at the rate it had, would have sent so many packets since the last one.
    fn is_outage(&self, now: CaptureTime, missing: u64) -> bool {
        let silence = now.nanos_since(self.highest_time).max(0) as u128;
        let active = self.highest_time.nanos_since(self.first_time).max(0) as u128;
        active > 1_000_000_000
            && silence > 1_000_000_000
            && u128::from(missing) * active <= silence * u128::from(self.stats.packets) * 2
    }

    fn doubt(&mut self, now: CaptureTime, sequence: SequenceNumber, timestamp: RtpTimestamp) -> Arrival {
        if self.doubt == Some(sequence) {
            return self.restart(now, sequence, timestamp, Some(1));
        }
        self.settle_doubt();
        self.doubt = Some(sequence.next());
        Arrival::Doubtful
    }

    /// The packet in doubt turned out to be a stray one, if there is one.
    fn settle_doubt(&mut self) {
        if self.doubt.take().is_some() {
            self.stats.stray += 1;
        }
    }

    fn restart(
        &mut self,
        now: CaptureTime,
        sequence: SequenceNumber,
        timestamp: RtpTimestamp,
        before: Option<u64>,
    ) -> Arrival {
        while let Some(gap) = self.open.pop_front() {
            self.close(gap);
        }
        let cycle = self.highest.map_or(0, |h| h.0 >> 16) + 2;
        // A packet in doubt that had number 65535 stands just below the new cycle.
        let extended = ExtendedSequence(cycle << 16 | u64::from(sequence.0));
        self.stats.restarts += 1;
        self.doubt = None;
        self.begin(now, extended, timestamp);
        let doubtful = before.map(|n| ExtendedSequence(extended.0 - n));
        if let Some(first) = doubtful {
            self.stats.packets += 1;
            self.began = first;
            self.set_seen(first);
        }
        Arrival::Restart { sequence: extended, doubtful }
    }

    fn begin(&mut self, now: CaptureTime, sequence: ExtendedSequence, timestamp: RtpTimestamp) {
        self.seen = [0; WORDS];
        self.timestamps.clear();
        self.timestamps.resize(TIMESTAMPS as usize, timestamp.0 as u16);
        self.highest = Some(sequence);
        self.highest_time = now;
        self.began = sequence;
        self.duplicate_run = 0;
        self.stats.packets += 1;
        self.mark(sequence, timestamp);
    }

    #[inline]
    fn advance(&mut self, now: CaptureTime, sequence: ExtendedSequence, timestamp: RtpTimestamp) {
        let highest = self.highest.map_or(sequence.0, |h| h.0);
        // The numbers that leave the window free the places of those that enter it.
        if sequence.0 - highest >= WINDOW {
            self.seen = [0; WORDS];
        } else {
            for n in highest + 1..sequence.0 {
                self.seen[word(n)] &= !bit(n);
            }
        }
        if self.doubt.is_some() {
            self.settle_doubt();
        }
        self.highest = Some(sequence);
        self.highest_time = now;
        self.duplicate_run = 0;
        self.stats.packets += 1;
        self.mark(sequence, timestamp);
    }

    #[inline]
    fn mark(&mut self, sequence: ExtendedSequence, timestamp: RtpTimestamp) {
        self.set_seen(sequence);
        if self.highest.is_some_and(|h| h.0 - sequence.0 < TIMESTAMPS)
            && let Some(slot) = self.timestamps.get_mut((sequence.0 % TIMESTAMPS) as usize)
        {
            *slot = timestamp.0 as u16;
        }
    }

    fn set_seen(&mut self, sequence: ExtendedSequence) {
        self.seen[word(sequence.0)] |= bit(sequence.0);
    }

    fn forget(&mut self, sequence: ExtendedSequence) {
        self.seen[word(sequence.0)] &= !bit(sequence.0);
    }

    fn is_seen(&self, sequence: ExtendedSequence) -> bool {
        self.seen[word(sequence.0)] & bit(sequence.0) != 0
    }

    fn timestamp_of(&self, sequence: ExtendedSequence) -> Option<u16> {
        self.timestamps.get((sequence.0 % TIMESTAMPS) as usize).copied()
    }

    /// Takes a number out of the open gap it lies in; false when there is none.
    fn fill(&mut self, sequence: ExtendedSequence) -> bool {
        let n = self.open.partition_point(|g| g.last < sequence);
        let Some(gap) = self.open.get_mut(n).filter(|g| g.first <= sequence) else { return false };
        if gap.first == gap.last {
            self.open.remove(n);
        } else if gap.first == sequence {
            gap.first = sequence.plus(1);
        } else if gap.last == sequence {
            gap.last = ExtendedSequence(sequence.0 - 1);
        } else {
            let tail = Gap { first: sequence.plus(1), ..*gap };
            gap.last = ExtendedSequence(sequence.0 - 1);
            self.open.insert(n + 1, tail);
        }
        true
    }

    fn close_gaps(&mut self, now: CaptureTime) {
        let Some(highest) = self.highest else { return };
        while let Some(&gap) = self.open.front() {
            let age = Duration::from_nanos(u64::try_from(now.nanos_since(gap.after)).unwrap_or(0));
            let behind = highest.0 - gap.last.0;
            let passed = behind >= REORDER_PACKETS && age >= REORDER_TIME;
            if !passed && age < REORDER_TIME_MAX && behind < WINDOW {
                return;
            }
            self.open.pop_front();
            self.close(gap);
        }
    }

    fn close(&mut self, gap: Gap) {
        self.stats.lost += gap.len();
        self.closed.push_back(gap);
    }
}

const fn word(n: u64) -> usize {
    (n % WINDOW / 64) as usize
}

const fn bit(n: u64) -> u64 {
    1 << (n % 64)
}

#[cfg(test)]
mod tests;
