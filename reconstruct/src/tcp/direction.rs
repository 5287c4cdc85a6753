//! One direction of a connection. See the parent module.

use super::{EndReason, HoleCause, Segment, TcpEvent, TcpLimits, TcpStats};
use crate::span::{Location, Slice};
use crate::wire::TcpFlags;
use capture::CaptureTime;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// A segment further than this from what is expected is no reordering: nobody has so much in flight to a camera or VMS.
const FAR: i32 = 1 << 24;
/// So many segments that continue each other far away mean that the connection goes on there.
const FAR_RUN: u8 = 3;
/// So many bytes that continue each other and all seem old mean the same.
const OLD_RUN_BYTES: u32 = 4 << 20;
/// Segments of a closed connection still arrive for so long.
const LINGER: Duration = Duration::from_secs(2);
/// Acknowledgements beyond the next byte that are remembered; the last takes the place of the one before it when there are
/// more, which makes what that one acknowledged look acknowledged later than it was.
const ACKS_MAX: usize = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    #[default]
    Idle,
    Open,
    Closed {
        at: CaptureTime,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held {
    /// Position in the stream.
    from: u64,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    /// Bytes at the segment's end that the capture cut off.
    cut: u32,
    at: Location,
    time: CaptureTime,
}

impl Held {
    fn end(&self) -> u64 {
        self.from + self.bytes.len() as u64 + u64::from(self.cut)
    }
}

/// Segments that continue each other at a place where nothing was expected.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Run {
    next_seq: u32,
    segments: u8,
    bytes: u32,
}

/// The byte stream of one direction.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Direction {
    phase: Phase,
    /// Sequence number of the stream's first byte.
    first_seq: u32,
    /// Sequence number of the byte at `position`.
    next_seq: u32,
    /// Everything before it was handed on or given up.
    position: u64,
    /// Ascending, not overlapping, all beyond `position`.
    held: VecDeque<Held>,
    held_bytes: usize,
    /// Since when the hole at `position` is known; means something while `held` is not empty.
    hole_since: CaptureTime,
    /// Positions up to which the receiver acknowledged, all beyond `position`, ascending, each with the time when it was seen.
    acks: VecDeque<(u64, CaptureTime)>,
    /// Everything before this position was sent, as the reset says that came before it.
    expected: u64,
    /// The position after the last byte.
    fin: Option<u64>,
    run: Run,
    stats: TcpStats,
}

/// The next bytes of a segment, where they begin, and what was cut off behind them.
struct Part<'a> {
    from: u64,
    bytes: &'a [u8],
    cut: u32,
    at: Location,
}

impl Direction {
    /// What became of the segments.
    pub fn stats(&self) -> TcpStats {
        self.stats
    }

    /// Segments held behind a hole.
    pub fn held_segments(&self) -> usize {
        self.held.len()
    }

    /// Bytes held behind a hole.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether bytes are expected.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// From the next byte to the one of this number, while bytes are expected.
    pub fn steps_to(&self, seq: u32) -> Option<i32> {
        self.is_open().then(|| seq.wrapping_sub(self.next_seq) as i32)
    }

    /// Whether a number is nowhere near what is expected.
    pub fn is_far(&self, seq: u32) -> bool {
        self.steps_to(seq).is_some_and(|steps| steps.unsigned_abs() >= FAR as u32)
    }

    /// Whether a segment with RST resets the connection.
    pub fn is_reset_by(&self, segment: &Segment<'_>) -> bool {
        let near = (segment.seq.wrapping_sub(self.next_seq) as i32).unsigned_abs() < FAR as u32;
        // A RST that answers a SYN may have sequence number 0; one that fits nothing is somebody else's.
        self.phase == Phase::Idle || near || segment.seq == 0
    }

    /// Takes a segment of this direction. One with RST changes nothing: see [`is_reset_by`](Self::is_reset_by).
    #[inline]
    pub fn handle_segment(
        &mut self,
        limits: &TcpLimits,
        segment: &Segment<'_>,
        sink: &mut impl FnMut(&TcpEvent<'_>),
    ) {
        const UNUSUAL: u8 = TcpFlags::SYN.0 | TcpFlags::RST.0 | TcpFlags::FIN.0;
        let (len, now) = (segment.payload.bytes.len(), segment.payload.time);
        let plain = segment.flags.0 & UNUSUAL == 0 && self.held.is_empty() && self.phase == Phase::Open;
        if plain && segment.seq == self.next_seq && len == segment.len_on_wire as usize {
            if len > 0 {
                self.hand_on(segment.payload, sink);
                self.run = Run::default();
            }
            if !self.acks.is_empty() {
                self.give_up(limits, now, sink);
            }
            return;
        }
        self.handle_unusual(limits, now, segment, sink);
    }

    fn handle_unusual(
        &mut self,
        limits: &TcpLimits,
        now: CaptureTime,
        segment: &Segment<'_>,
        sink: &mut impl FnMut(&TcpEvent<'_>),
    ) {
        let mut seq = segment.seq;
        if segment.flags.has(TcpFlags::RST) {
            return;
        }
        if segment.flags.has(TcpFlags::SYN) {
            seq = seq.wrapping_add(1);
            if self.phase == Phase::Open && self.first_seq != seq {
                self.close(now, EndReason::Reused, sink);
            }
            if self.phase != Phase::Open {
                self.open(seq, true, sink);
            }
        }
        if segment.len_on_wire > 0 || segment.flags.has(TcpFlags::FIN) {
            if !self.ready_for(now, seq, segment.len_on_wire, sink) {
                return;
            }
            self.insert(now, seq, segment, sink);
        }
        self.give_up(limits, now, sink);
    }

    /// Opens the stream where it has to be; false when the segment is none of its.
    fn ready_for(
        &mut self,
        now: CaptureTime,
        seq: u32,
        len: u32,
        sink: &mut impl FnMut(&TcpEvent<'_>),
    ) -> bool {
        let steps = seq.wrapping_sub(self.next_seq) as i32;
        let near = steps.unsigned_abs() < FAR as u32;
        match self.phase {
            Phase::Closed { at } if near && elapsed(at, now) < LINGER => return false,
            Phase::Idle | Phase::Closed { .. } => {
                if len > 0 {
                    self.open(seq, false, sink);
                }
                return len > 0;
            }
            Phase::Open => {}
        }
        let old = steps < 0 && steps.wrapping_add_unsigned(len) <= 0;
        if near && !old {
            self.run = Run::default();
            return true;
        }
        if !near {
            self.stats.wild += 1;
        }
        let run = &mut self.run;
        if run.next_seq != seq {
            *run = Run::default();
        }
        *run = Run {
            next_seq: seq.wrapping_add(len),
            segments: run.segments.saturating_add(1),
            bytes: run.bytes.saturating_add(len),
        };
        if (!near && run.segments >= FAR_RUN) || run.bytes > OLD_RUN_BYTES {
            self.close(now, EndReason::Jumped, sink);
            self.open(seq, false, sink);
            return true;
        }
        near
    }

    /// The acknowledgement of the other side.
    #[inline]
    pub fn handle_ack(
        &mut self,
        limits: &TcpLimits,
        now: CaptureTime,
        ack: u32,
        sink: &mut impl FnMut(&TcpEvent<'_>),
    ) {
        let beyond = ack.wrapping_sub(self.next_seq) as i32;
        if beyond > 0 && beyond < FAR && self.phase == Phase::Open {
            let to = self.position + u64::from(beyond.unsigned_abs());
            if self.acks.back().is_none_or(|&(last, _)| last < to) {
                if self.acks.len() == ACKS_MAX {
                    self.acks.pop_back();
                }
                self.acks.push_back((to, now));
            }
        }
        if !(self.held.is_empty() && self.acks.is_empty()) {
            self.give_up(limits, now, sink);
        }
    }

    /// All before this number was sent, whether it was received or not.
    pub fn expect_until(&mut self, seq: u32) {
        if let Some(steps @ 1..FAR) = self.steps_to(seq) {
            self.expected = self.expected.max(self.position + u64::from(steps.unsigned_abs()));
        }
    }

    /// Whether bytes are known to have been sent that did not come yet.
    pub fn awaits_data(&self) -> bool {
        let known = self.expected > self.position || !self.acks.is_empty() || !self.held.is_empty();
        self.is_open() && known
    }

    /// The connection was reset by either side.
    pub fn handle_reset(&mut self, now: CaptureTime, sink: &mut impl FnMut(&TcpEvent<'_>)) {
        if self.phase == Phase::Open {
            self.close(now, EndReason::Reset, sink);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called although nothing comes.
    pub fn deadline(&self, limits: &TcpLimits) -> Option<CaptureTime> {
        let acked = self.acks.front().map(|&(_, seen)| seen.plus(limits.acked_grace));
        let aged = (!self.held.is_empty()).then(|| self.hole_since.plus(limits.hole_age_max));
        acked.into_iter().chain(aged).min()
    }

    /// Gives up what has waited too long.
    pub fn handle_timeout(
        &mut self,
        limits: &TcpLimits,
        now: CaptureTime,
        sink: &mut impl FnMut(&TcpEvent<'_>),
    ) {
        self.give_up(limits, now, sink);
    }

    /// The capture ends: hands on what is held, with its holes.
    pub fn finish(&mut self, sink: &mut impl FnMut(&TcpEvent<'_>)) {
        while let Some(front) = self.held.front() {
            let len = front.from - self.position;
            self.hole(len, HoleCause::Closed, sink);
            self.release(sink);
        }
    }

    fn open(&mut self, seq: u32, syn: bool, sink: &mut impl FnMut(&TcpEvent<'_>)) {
        let stats = self.stats;
        *self = Self { phase: Phase::Open, first_seq: seq, next_seq: seq, stats, ..Self::default() };
        sink(&TcpEvent::Start { syn });
    }

    fn close(&mut self, now: CaptureTime, reason: EndReason, sink: &mut impl FnMut(&TcpEvent<'_>)) {
        self.finish(sink);
        self.acks.clear();
        self.phase = Phase::Closed { at: now };
        sink(&TcpEvent::End { reason });
    }

    fn insert(
        &mut self,
        now: CaptureTime,
        seq: u32,
        segment: &Segment<'_>,
        sink: &mut impl FnMut(&TcpEvent<'_>),
    ) {
        let steps = i64::from(seq.wrapping_sub(self.next_seq) as i32);
        let len = u64::from(segment.len_on_wire);
        // Bytes before the first one that was picked up are as old as any.
        let begin = self.position as i64 + steps;
        let end = begin + len as i64;
        if segment.flags.has(TcpFlags::FIN) && end >= self.position as i64 {
            self.fin.get_or_insert(end as u64);
        }
        let mut from = (begin.max(self.position as i64)) as u64;
        let end = end.max(0) as u64;
        let mut new = 0;
        let mut n = self.held.partition_point(|h| h.end() <= from);
        while from < end {
            let (hole_end, next) = match self.held.get(n) {
                Some(h) => (end.min(h.from), h.end()),
                None => (end, end),
            };
            if from < hole_end {
                new += hole_end - from;
                let part = part_of(segment, begin, from, hole_end);
                if from == self.position {
                    self.hand_on_part(&part, now, sink);
                    self.release(sink);
                } else {
                    self.hold(n, &part, now);
                }
            }
            from = next.max(hole_end).max(self.position);
            n = self.held.partition_point(|h| h.end() <= from);
        }
        self.stats.repeated_bytes += len.saturating_sub(new);
        self.end_if_finished(now, sink);
    }

    fn hold(&mut self, n: usize, part: &Part<'_>, now: CaptureTime) {
        if self.held.is_empty() {
            self.hole_since = now;
        }
        self.stats.held += 1;
        self.held_bytes += part.bytes.len();
        let held =
            Held { from: part.from, bytes: part.bytes.to_vec(), cut: part.cut, at: part.at, time: now };
        self.held.insert(n, held);
    }

    fn hand_on_part(&mut self, part: &Part<'_>, time: CaptureTime, sink: &mut impl FnMut(&TcpEvent<'_>)) {
        if !part.bytes.is_empty() {
            self.hand_on(&Slice { bytes: part.bytes, at: part.at, time }, sink);
        }
        self.hole(u64::from(part.cut), HoleCause::Cut, sink);
    }

    #[inline]
    fn hand_on(&mut self, data: &Slice<'_>, sink: &mut impl FnMut(&TcpEvent<'_>)) {
        let len = data.bytes.len() as u64;
        self.advance(len);
        self.stats.bytes += len;
        sink(&TcpEvent::Data(data));
    }

    fn hole(&mut self, len: u64, cause: HoleCause, sink: &mut impl FnMut(&TcpEvent<'_>)) {
        if len > 0 {
            self.advance(len);
            self.stats.holes += 1;
            self.stats.missing_bytes += len;
            sink(&TcpEvent::Hole { len, cause });
        }
    }

    #[inline]
    fn advance(&mut self, len: u64) {
        self.position += len;
        self.next_seq = self.next_seq.wrapping_add(len as u32);
        while self.acks.front().is_some_and(|&(to, _)| to <= self.position) {
            self.acks.pop_front();
        }
    }

    /// Hands on what is held and has become next.
    fn release(&mut self, sink: &mut impl FnMut(&TcpEvent<'_>)) {
        while self.held.front().is_some_and(|h| h.from <= self.position) {
            let Some(held) = self.held.pop_front() else { return };
            self.held_bytes -= held.bytes.len();
            let part = Part { from: held.from, bytes: &held.bytes, cut: held.cut, at: held.at };
            self.hand_on_part(&part, held.time, sink);
        }
        if let Some(front) = self.held.front() {
            self.hole_since = front.time;
        }
    }

    /// Gives up holes that were acknowledged, grew old, or keep too much waiting.
    fn give_up(&mut self, limits: &TcpLimits, now: CaptureTime, sink: &mut impl FnMut(&TcpEvent<'_>)) {
        if now < self.hole_since {
            // The clock was set back: count from here.
            self.hole_since = now;
        }
        for ack in &mut self.acks {
            ack.1 = ack.1.min(now);
        }
        // Behind its FIN a stream has nothing to wait for, whatever is held that claims to lie there.
        while self.fin.is_none_or(|fin| fin > self.position) {
            let hole_end = self.held.front().map(|h| h.from);
            let acked = self.acks.front().filter(|a| elapsed(a.1, now) >= limits.acked_grace).map(|a| a.0);
            let (end, cause) = match (acked, hole_end) {
                (Some(to), None) if to == self.position + 1 && self.fin.is_none() => {
                    // One number more than there are bytes is a FIN that was missed.
                    self.close(now, EndReason::Fin, sink);
                    return;
                }
                (Some(to), _) => (to.min(hole_end.unwrap_or(to)), HoleCause::Acked),
                (None, Some(end)) if elapsed(self.hole_since, now) >= limits.hole_age_max => {
                    (end, HoleCause::TimedOut)
                }
                (None, Some(end))
                    if self.held_bytes > limits.held_bytes_max
                        || self.held.len() > limits.held_segments_max =>
                {
                    (end, HoleCause::Bound)
                }
                _ => break,
            };
            // What the receiver acknowledged beyond the last byte is the FIN.
            let end = self.fin.map_or(end, |fin| end.min(fin));
            debug_assert!(end > self.position, "a hole that is given up has bytes");
            self.hole(end - self.position, cause, sink);
            self.release(sink);
        }
        self.end_if_finished(now, sink);
    }

    fn end_if_finished(&mut self, now: CaptureTime, sink: &mut impl FnMut(&TcpEvent<'_>)) {
        if self.phase == Phase::Open && self.fin.is_some_and(|fin| fin <= self.position) {
            self.close(now, EndReason::Fin, sink);
        }
    }
}

/// The bytes of `segment`, which begins at position `begin`, from `from` to `to`.
fn part_of<'a>(segment: &Segment<'a>, begin: i64, from: u64, to: u64) -> Part<'a> {
    let skip = (from as i64 - begin).max(0) as usize;
    let end = (to as i64 - begin).max(0) as usize;
    let payload = segment.payload.bytes;
    let bytes = &payload[skip.min(payload.len())..end.min(payload.len())];
    let cut = u32::try_from(end - skip - bytes.len()).unwrap_or(u32::MAX);
    Part { from, bytes, cut, at: segment.payload.at.plus(u32::try_from(skip).unwrap_or(u32::MAX)) }
}

fn elapsed(earlier: CaptureTime, now: CaptureTime) -> Duration {
    Duration::from_nanos(u64::try_from(now.nanos_since(earlier)).unwrap_or(0))
}
