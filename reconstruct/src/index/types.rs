//! What stands in the blocks of both levels, and what the blocks are called by.

use crate::model::{FlowId, SegmentId, StreamId};
use crate::span::Piece;
use capture::{CaptureTime, ShardId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// Entries of a full block of either level. First-level blocks but the last of a shard have exactly so many, so that
/// an entry's block is its number divided by this.
pub const BLOCK_ENTRIES_MAX: u32 = 1024;

/// How far, in nanoseconds, an entry of a second-level block may lie from the block's first entry, before or after. It
/// bounds how many blocks can cover a moment, and so what a seek reads.
pub const BLOCK_NANOS_MAX: i64 = 30_000_000_000;

/// First level: one captured packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketEntry {
    /// Offset of the record header in the shard.
    pub offset: u64,
    /// Capture time. The index keeps milliseconds (rounded down); the record's header has it exactly.
    pub time: CaptureTime,
    /// Bytes in the shard.
    pub captured_len: u32,
    /// Bytes on the wire.
    pub original_len: u32,
    /// Where the transport payload begins in the record's data. Not beyond `captured_len`.
    pub payload_offset: u16,
    /// Length of the transport payload on the wire, as the IP and UDP headers say. With a snaplen, less of it is there.
    pub payload_len: u32,
    /// What the header says.
    pub header: HeaderFields,
}

impl PacketEntry {
    /// How much of the transport payload is in the shard.
    pub fn payload_captured(&self) -> u32 {
        self.payload_len.min(self.captured_len.saturating_sub(u32::from(self.payload_offset)))
    }
}

/// What the first level keeps of a packet's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeaderFields {
    /// Nothing: not RTP and not TCP, or not understood.
    #[default]
    None,
    /// RTP in a UDP datagram.
    Rtp {
        /// Sequence number.
        seq: u16,
        /// Time stamp.
        timestamp: u32,
        /// Marker bit.
        marker: bool,
        /// Payload type, 7 bits.
        payload_type: u8,
    },
    /// TCP.
    Tcp {
        /// Sequence number.
        seq: u32,
        /// Flags: the header's byte 13 (CWR to FIN).
        flags: u8,
    },
}

/// What the second level has to know of a packet that carries a piece, to predict the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carrier {
    /// Where the transport payload begins in the record's data.
    pub payload_offset: u32,
    /// How much of the transport payload is in the shard.
    pub payload_captured: u32,
    /// What the header says.
    pub header: HeaderFields,
}

impl From<&PacketEntry> for Carrier {
    fn from(p: &PacketEntry) -> Self {
        Self {
            payload_offset: u32::from(p.payload_offset),
            payload_captured: p.payload_captured(),
            header: p.header,
        }
    }
}

/// Second level: one RTP packet of a segment, in the order of capture, with its pieces or a view of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaEntry<P = SmallVec<[Piece; 2]>> {
    /// Extended sequence number.
    pub seq: u64,
    /// RTP time stamp.
    pub timestamp: u32,
    /// Marker bit.
    pub marker: bool,
    /// When the last of its pieces was captured. Not kept in the block: it comes from the pieces' records (to the
    /// millisecond from the first level, exactly from the record headers).
    pub time: CaptureTime,
    /// What is to be said about it.
    pub flags: MediaFlags,
    /// Bytes of the RTP packet, header included: the sum of the pieces.
    pub len: u32,
    /// Where its bytes are, in the order of the stream. Never empty.
    pub pieces: P,
}

impl MediaEntry {
    /// The same without owning the pieces.
    pub fn view(&self) -> MediaView<'_> {
        let Self { seq, timestamp, marker, time, flags, len, ref pieces } = *self;
        MediaView { seq, timestamp, marker, time, flags, len, pieces }
    }
}

/// A [`MediaEntry`] whose pieces are somebody else's.
pub type MediaView<'a> = MediaEntry<&'a [Piece]>;

impl MediaView<'_> {
    /// The same with its own pieces.
    pub fn to_entry(self) -> MediaEntry {
        let Self { seq, timestamp, marker, time, flags, len, pieces } = self;
        MediaEntry { seq, timestamp, marker, time, flags, len, pieces: SmallVec::from_slice(pieces) }
    }
}

/// A set of properties of an RTP packet.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MediaFlags(pub u8);

impl MediaFlags {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// Seen before: not to be played.
    pub const DUPLICATE: Self = Self(1);
    /// First packet of a clean point.
    pub const CLEAN: Self = Self(2);
    /// First packet of an access unit.
    pub const AU_START: Self = Self(4);
    /// Carries parameter sets.
    pub const PARAMETER_SETS: Self = Self(8);
    /// Not all of its bytes were captured.
    pub const CUT: Self = Self(16);

    /// Whether all of `other` are in the set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for MediaFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for MediaFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for MediaFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::DUPLICATE, "duplicate"),
            (Self::CLEAN, "clean"),
            (Self::AU_START, "au-start"),
            (Self::PARAMETER_SETS, "parameter-sets"),
            (Self::CUT, "cut"),
        ];
        let mut first = true;
        for (flag, name) in names {
            if self.contains(flag) {
                if !first {
                    f.write_str("|")?;
                }
                f.write_str(name)?;
                first = false;
            }
        }
        if first { f.write_str("-") } else { Ok(()) }
    }
}

/// What a first-level block is called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct L1Key {
    /// The shard.
    pub shard: ShardId,
    /// The flow.
    pub flow: FlowId,
    /// Its number in that shard: the first entry's number divided by [`BLOCK_ENTRIES_MAX`].
    pub block: u32,
}

/// What a second-level block is called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct L2Key {
    /// The shard in which its packets end.
    pub shard: ShardId,
    /// The segment.
    pub segment: SegmentId,
    /// Its number in that shard.
    pub block: u32,
}

/// A second-level block, and the time of its first clean point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRef {
    /// The shard.
    pub shard: ShardId,
    /// Number of the block in that shard.
    pub block: u32,
    /// Capture time of the last clean point that begins in it.
    pub time: CaptureTime,
}

/// What the time directory says of a second-level block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryRow {
    /// Capture time of the first entry, by which the row is found.
    pub start: CaptureTime,
    /// Earliest capture time in the block.
    pub first: CaptureTime,
    /// Latest capture time in the block.
    pub last: CaptureTime,
    /// The first clean point that begins in the block.
    pub clean: Option<CaptureTime>,
    /// Where the last clean point before this block begins, in the same segment.
    pub clean_before: Option<BlockRef>,
    /// Packets, duplicates included.
    pub packets: u32,
    /// Sequence numbers that the highest in this block leaves open since the highest before it, less what came.
    pub lost: u32,
}

/// An encoded first-level block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L1Block {
    /// Its key.
    pub key: L1Key,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// An encoded second-level block with its row of the time directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L2Block {
    /// Its key.
    pub key: L2Key,
    /// The stream that the segment belongs to.
    pub stream: StreamId,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its row of the time directory.
    pub directory: DirectoryRow,
}

/// What is wrong with a block's bytes. Who reads the block adds its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The bytes end in the middle of an entry.
    #[error("it ends in the middle of entry {entry}")]
    Truncated {
        /// The entry.
        entry: u32,
    },
    /// A number that can't stand there.
    #[error("entry {entry} has a value out of range")]
    OutOfRange {
        /// The entry.
        entry: u32,
    },
    /// The block was made by a version that this one does not know.
    #[error("its layout {found} is not known")]
    Layout {
        /// The layout's number.
        found: u8,
    },
    /// A second-level entry points at a first-level entry that is not there.
    #[error("entry {entry} refers to packet {packet} of its flow, which the first level does not have")]
    NoCarrier {
        /// The entry.
        entry: u32,
        /// The packet's number in its flow and shard.
        packet: u32,
    },
}
