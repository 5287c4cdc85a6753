//! TCP reassembly, passive: both directions' byte streams out of captured segments.
//!
//! Owns the order of bytes. Data in order is handed on as it lies in the packet, with its location and without a copy (some
//! 10 ns); only what comes early is copied and held. What was captured first wins where segments overlap. A hole is given up
//! when the receiver has acknowledged it (then the mirror lost it, not the receiver), when it has been open too long, or when
//! too much waits behind it; never before it had time to be filled by a reordered or retransmitted segment.
//!
//! Connections are picked up in mid-stream; SYN, FIN, RST and the reuse of ports are followed. A mirror that reorders lets a RST
//! overtake the last data: while something before it is missing, it takes effect as late as an acknowledged hole is given up.
//! Refuses to judge checksums and windows.

mod direction;

pub use direction::Direction;

use crate::span::Slice;
use crate::wire::TcpFlags;
use capture::CaptureTime;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What one direction of a connection may hold and how long it waits, in capture time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpLimits {
    /// Bytes held behind a hole.
    pub held_bytes_max: usize,
    /// Segments held behind a hole.
    pub held_segments_max: usize,
    /// From an acknowledgement, or a RST, that passes a hole until the hole is given up: a tap may see it before the data.
    pub acked_grace: Duration,
    /// How long a hole that nobody acknowledges stays open: the time of several retransmissions.
    pub hole_age_max: Duration,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self {
            held_bytes_max: 1 << 20,
            held_segments_max: 2048,
            acked_grace: Duration::from_millis(200),
            hole_age_max: Duration::from_secs(5),
        }
    }
}

/// What a segment's header says.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Sequence number as it stands in the header.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: TcpFlags,
}

/// A captured segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Sequence number as it stands in the header.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: TcpFlags,
    /// As much of the payload as was captured, where it lies and when that was.
    pub payload: &'a Slice<'a>,
    /// Payload bytes that were sent.
    pub len_on_wire: u32,
}

/// What happens in one direction, in stream order. Handed on by reference: moved from hand to hand as an enum, it is copied in other pieces than
/// it was written in, and every packet waits for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpEvent<'a> {
    /// A byte stream begins: at its first byte when its SYN was seen, else somewhere.
    Start {
        /// The SYN was seen.
        syn: bool,
    },
    /// The next bytes; never empty.
    Data(&'a Slice<'a>),
    /// The next bytes are missing.
    Hole {
        /// How many.
        len: u64,
        /// Why they were given up.
        cause: HoleCause,
    },
    /// The byte stream ends.
    End {
        /// How.
        reason: EndReason,
    },
}

/// Why a hole was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HoleCause {
    /// The receiver acknowledged the bytes: they were delivered, the mirror or we lost them.
    Acked,
    /// Open too long.
    TimedOut,
    /// Too much was held behind it.
    Bound,
    /// The capture cut the packet (snaplen).
    Cut,
    /// The connection or the capture ended.
    Closed,
}

/// How a byte stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndReason {
    /// FIN.
    Fin,
    /// RST, from either side.
    Reset,
    /// A new connection began on the same ports.
    Reused,
    /// Sequence numbers went on somewhere else without a SYN.
    Jumped,
}

/// What became of the segments of a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpStats {
    /// Bytes handed on.
    pub bytes: u64,
    /// Segments that came early and were held.
    pub held: u64,
    /// Bytes that had been there before: retransmitted, or seen twice by the mirror.
    pub repeated_bytes: u64,
    /// Bytes in holes.
    pub missing_bytes: u64,
    /// Holes.
    pub holes: u64,
    /// Segments far outside what could be next.
    pub wild: u64,
}

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Side {
    /// The end whose packets the caller calls A's.
    A,
    /// The other one.
    B,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Both directions of a connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Connection {
    from_a: Direction,
    from_b: Direction,
    /// Since when it is reset, while something from before that is missing.
    reset: Option<CaptureTime>,
}

impl Connection {
    /// The direction of what `side` sends.
    pub fn direction(&self, side: Side) -> &Direction {
        match side {
            Side::A => &self.from_a,
            Side::B => &self.from_b,
        }
    }

    /// Whether a segment of `from` goes on with the connection: it is less than `apart` bytes from where that had come to, and acknowledges what may
    /// have been received by then, of which less than `in_flight` bytes were still on their way.
    pub fn is_gone_on_with(&self, from: Side, header: &Header, apart: u32, in_flight: u32) -> bool {
        let near = |side: Side, number: u32, behind: u32| {
            let steps = self.direction(side).steps_to(number);
            steps.is_none_or(|steps| steps < apart as i32 && steps > -(behind as i32))
        };
        !header.flags.has(TcpFlags::SYN)
            && !header.flags.has(TcpFlags::RST)
            && near(from, header.seq, apart)
            && (!header.flags.has(TcpFlags::ACK) || near(from.other(), header.ack, in_flight))
    }

    /// The same with its ends named the other way round.
    #[must_use]
    pub fn turned(self) -> Self {
        Self { from_a: self.from_b, from_b: self.from_a, reset: self.reset }
    }

    /// What `side` sends is begun anew with its next bytes.
    pub fn begin_anew(&mut self, side: Side) {
        match side {
            Side::A => self.from_a = Direction::default(),
            Side::B => self.from_b = Direction::default(),
        }
    }

    /// Bytes held in both directions.
    pub fn held_bytes(&self) -> usize {
        self.from_a.held_bytes() + self.from_b.held_bytes()
    }

    /// Takes a segment that `from` sent; `sink` is told the side that sent the bytes, and what comes next in them.
    #[inline]
    pub fn handle_segment(
        &mut self,
        limits: &TcpLimits,
        from: Side,
        segment: &Segment<'_>,
        sink: &mut impl FnMut(Side, &TcpEvent<'_>),
    ) {
        const SYN_RST: u8 = TcpFlags::SYN.0 | TcpFlags::RST.0;
        let now = segment.payload.time;
        let unusual = segment.flags.0 & SYN_RST != 0 || self.reset.is_some();
        if unusual && (segment.flags.has(TcpFlags::SYN) || self.direction(from).is_far(segment.seq)) {
            // Another connection: what is missing of the one before is not in it.
            self.carry_out_reset(now, sink);
        }
        let resets = unusual && segment.flags.has(TcpFlags::RST) && self.direction(from).is_reset_by(segment);
        let (own, other) = match from {
            Side::A => (&mut self.from_a, &mut self.from_b),
            Side::B => (&mut self.from_b, &mut self.from_a),
        };
        if resets {
            // Up to there either side had sent: what is not here yet was overtaken.
            own.expect_until(segment.seq);
            if segment.flags.has(TcpFlags::ACK) {
                other.expect_until(segment.ack);
            }
            self.reset.get_or_insert(now);
        } else {
            own.handle_segment(limits, segment, &mut |e| sink(from, e));
            if segment.flags.has(TcpFlags::ACK) {
                other.handle_ack(limits, now, segment.ack, &mut |e| sink(from.other(), e));
            }
        }
        if unusual {
            self.reset_when_due(limits, now, sink);
        }
    }

    /// Ends both sides when all is there that they had sent until the reset, or does not come any more.
    fn reset_when_due(
        &mut self,
        limits: &TcpLimits,
        now: CaptureTime,
        sink: &mut impl FnMut(Side, &TcpEvent<'_>),
    ) {
        let Some(since) = self.reset else { return };
        // The clock may have been set back: count from here.
        let since = since.min(now);
        self.reset = Some(since);
        let complete = !(self.from_a.awaits_data() || self.from_b.awaits_data());
        if complete || since.plus(limits.acked_grace) <= now {
            self.carry_out_reset(now, sink);
        }
    }

    /// What either side had sent comes before the end of both.
    fn carry_out_reset(&mut self, now: CaptureTime, sink: &mut impl FnMut(Side, &TcpEvent<'_>)) {
        if self.reset.take().is_some() {
            self.from_a.finish(&mut |e| sink(Side::A, e));
            self.from_b.finish(&mut |e| sink(Side::B, e));
            self.from_a.handle_reset(now, &mut |e| sink(Side::A, e));
            self.from_b.handle_reset(now, &mut |e| sink(Side::B, e));
        }
    }

    /// When [`Self::handle_timeout`] wants to be called although nothing comes.
    pub fn deadline(&self, limits: &TcpLimits) -> Option<CaptureTime> {
        let (a, b) = (self.from_a.deadline(limits), self.from_b.deadline(limits));
        let reset = self.reset.map(|since| since.plus(limits.acked_grace));
        a.into_iter().chain(b).chain(reset).min()
    }

    /// Gives up what has waited too long.
    pub fn handle_timeout(
        &mut self,
        limits: &TcpLimits,
        now: CaptureTime,
        sink: &mut impl FnMut(Side, &TcpEvent<'_>),
    ) {
        self.from_a.handle_timeout(limits, now, &mut |e| sink(Side::A, e));
        self.from_b.handle_timeout(limits, now, &mut |e| sink(Side::B, e));
        self.reset_when_due(limits, now, sink);
    }

    /// The capture ends: hands on what is held, with its holes, and a reset that waits for what it overtook.
    pub fn finish(&mut self, now: CaptureTime, sink: &mut impl FnMut(Side, &TcpEvent<'_>)) {
        self.carry_out_reset(now, sink);
        self.from_a.finish(&mut |e| sink(Side::A, e));
        self.from_b.finish(&mut |e| sink(Side::B, e));
    }
}

#[cfg(test)]
mod tests;
