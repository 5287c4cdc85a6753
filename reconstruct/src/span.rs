//! Where bytes lie: ranges of captured packets.
//!
//! Everything above the transport layer is a list of pieces of packets: a UDP datagram is one piece, a fragmented one or an
//! RTP packet carried over TCP is several. Nothing here copies bytes; a location is 24 bytes, a piece 32.

use capture::{CaptureTime, ShardId};
use serde::{Deserialize, Serialize};

/// In place of a packet's number: it is in another flow than the rest, and is found by its record alone.
pub const OTHER_FLOW: u32 = u32::MAX;

/// The place of one byte: in a packet's record of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Location {
    /// The shard that holds the packet.
    pub shard: ShardId,
    /// Offset of the packet's record header in the shard.
    pub record: u64,
    /// Number of the packet in its flow within this shard, or [`OTHER_FLOW`].
    pub entry: u32,
    /// Offset in the record's data (after the record header).
    pub offset: u32,
}

impl Location {
    /// `bytes` further on in the same record.
    #[must_use]
    pub const fn plus(self, bytes: u32) -> Self {
        Self { offset: self.offset.saturating_add(bytes), ..self }
    }

    /// The `len` bytes that begin here.
    pub const fn piece(self, len: u32) -> Piece {
        Piece { shard: self.shard, record: self.record, entry: self.entry, offset: self.offset, len }
    }
}

/// A range of one captured packet's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Piece {
    /// The shard that holds the packet.
    pub shard: ShardId,
    /// Offset of the packet's record header in the shard.
    pub record: u64,
    /// Number of the packet in its flow within this shard, or [`OTHER_FLOW`].
    pub entry: u32,
    /// Offset in the record's data (after the record header).
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Piece {
    /// Where the piece begins.
    pub const fn at(&self) -> Location {
        Location { shard: self.shard, record: self.record, entry: self.entry, offset: self.offset }
    }

    /// Whether `other` begins in the same record where this piece ends.
    pub fn continues_in(&self, other: &Piece) -> bool {
        self.shard == other.shard
            && self.record == other.record
            && u64::from(self.offset) + u64::from(self.len) == u64::from(other.offset)
    }
}

/// Bytes at hand, where they lie and when they were captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Where the first lies.
    pub at: Location,
    /// When they were captured.
    pub time: CaptureTime,
}

impl Slice<'_> {
    /// Goes on behind the first `n` bytes.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        let n = n.min(self.bytes.len());
        self.bytes = &self.bytes[n..];
        self.at.offset = self.at.offset.saturating_add(n as u32);
    }

    /// The first `n` bytes.
    #[inline]
    #[must_use]
    pub fn first(self, n: usize) -> Self {
        Self { bytes: &self.bytes[..n.min(self.bytes.len())], ..self }
    }

    /// Where they lie.
    #[inline]
    pub fn piece(self) -> Piece {
        self.at.piece(self.bytes.len() as u32)
    }
}
