//! What stands in a shard: a pcap file (draft-ietf-opsawg-pcap) with nanosecond time stamps, little-endian.
//!
//! ```text
//! 0                   4          6          8               16        20          24
//! | magic 0xa1b23c4d  | major 2  | minor 4  | zeros         | snaplen | link type |
//! then records:
//! | seconds (4) | nanoseconds (4) | captured length (4) | length on the wire (4) | bytes ... |
//! ```

use crate::{CaptureTime, LinkType};

/// Length of the file header in bytes: the offset of the first record.
pub const FILE_HEADER_LEN: u64 = 24;
/// Length of a record's header in bytes.
pub const RECORD_HEADER_LEN: u64 = 16;
/// Longer captures do not exist; a larger length is damage (libpcap's `MAXIMUM_SNAPLEN`).
pub const MAX_CAPTURED_LEN: u32 = 262_144;

const MAGIC_NANOS: u32 = 0xa1b2_3c4d;

/// The header of a shard.
pub fn file_header(link: LinkType, snaplen: u32) -> [u8; FILE_HEADER_LEN as usize] {
    let mut header = [0; FILE_HEADER_LEN as usize];
    header[0..4].copy_from_slice(&MAGIC_NANOS.to_le_bytes());
    header[4..6].copy_from_slice(&2u16.to_le_bytes());
    header[6..8].copy_from_slice(&4u16.to_le_bytes());
    header[16..20].copy_from_slice(&snaplen.to_le_bytes());
    header[20..24].copy_from_slice(&u32::from(link.0).to_le_bytes());
    header
}

/// A record's header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// When the packet was captured.
    pub time: CaptureTime,
    /// How many of its bytes follow.
    pub captured_len: u32,
    /// How many bytes it had on the wire.
    pub original_len: u32,
}

impl RecordHeader {
    /// Whether a time can be written: none before 1970 or after 2106 can.
    #[inline]
    pub fn holds(time: CaptureTime) -> bool {
        u32::try_from(time.nanos().div_euclid(1_000_000_000)).is_ok()
    }

    /// Whether a packet's header would be one of zeroes, which is how reserved space is told from packets.
    #[inline]
    pub fn is_zero(time: CaptureTime, original_len: u32) -> bool {
        original_len == 0 && (0..1_000_000_000).contains(&time.nanos())
    }

    /// Times that it does not [hold](Self::holds) are clamped.
    #[inline]
    pub fn encode(self) -> [u8; RECORD_HEADER_LEN as usize] {
        let nanos = self.time.nanos().max(0).unsigned_abs();
        let secs = u32::try_from(nanos / 1_000_000_000).unwrap_or(u32::MAX);
        let mut bytes = [0; RECORD_HEADER_LEN as usize];
        bytes[0..4].copy_from_slice(&secs.to_le_bytes());
        bytes[4..8].copy_from_slice(&((nanos % 1_000_000_000) as u32).to_le_bytes());
        bytes[8..12].copy_from_slice(&self.captured_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.original_len.to_le_bytes());
        bytes
    }

    /// `None` when no record can begin with these bytes: reserved space that was never written reads as zeros.
    #[inline]
    pub fn decode(bytes: &[u8; RECORD_HEADER_LEN as usize]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (secs, nanos, captured_len, original_len) = (word(0), word(4), word(8), word(12));
        let plausible = captured_len <= MAX_CAPTURED_LEN
            && nanos < 1_000_000_000
            && original_len >= captured_len
            && (original_len > 0 || secs > 0);
        plausible.then_some(Self {
            time: CaptureTime::from_secs_nanos(i64::from(secs), i64::from(nanos)),
            captured_len,
            original_len,
        })
    }

    /// Bytes from this record's start to the next one's.
    pub fn record_len(&self) -> u64 {
        RECORD_HEADER_LEN + u64::from(self.captured_len)
    }
}
