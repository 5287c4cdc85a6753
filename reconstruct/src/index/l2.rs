//! Second-level blocks: up to 1024 RTP packets of a segment that end within one shard.
//!
//! ```text
//!  layout u8 = 1 | entries varint | flow varint | entry, entry, …
//!
//!  entry:  0nnnnnnn              n + 1 packets as predicted
//!          1 | what differs      then what the bits call for, in the order of the bits
//!
//!  bit 0  marker is not as predicted
//!  bit 1  flags follow, one byte
//!  bit 2  sequence number off by a zigzag varint
//!  bit 3  time stamp off by a zigzag varint
//!  bit 4  length follows, varint
//!  bit 5  the packet begins elsewhere: captured packet off by a zigzag varint, then the offset in it, varint
//!  bit 6  the pieces are listed: number, and for each zigzag(packet off) × 4 + by record × 2 + other flow, then flow,
//!         shard (zigzag off) and record offset if by record (in another shard, or in a flow that is not told), offset, length
//! ```
//!
//! What is predicted is read from the first level: a datagram carries the RTP packet that its header announces, so a
//! segment over UDP without exceptions costs one byte for 128 packets. In TCP the next RTP packet begins four bytes of
//! interleaved framing (RFC 2326 section 10.12) behind the previous one and goes on into the flow's next captured packet.

mod builder;
mod reader;

pub use builder::L2Builder;
pub use reader::{Carriers, L2Reader};

use super::types::{Carrier, HeaderFields, MediaEntry, MediaFlags, MediaView};
use crate::span::Piece;
use serde::{Deserialize, Serialize};

const LAYOUT: u8 = 1;
/// `$`, channel, length.
const FRAMING_LEN: u64 = 4;
const RUN_MAX: u32 = 128;
/// More pieces than the longest RTP packet (65,535 bytes) can have.
const PIECES_MAX: u64 = 65_536;

const EXCEPTION: u8 = 0x80;
const MARKER: u8 = 1;
const FLAGS: u8 = 2;
const SEQ: u8 = 4;
const TIMESTAMP: u8 = 8;
const LENGTH: u8 = 16;
const PLACE: u8 = 32;
const PIECES: u8 = 64;

const OTHER_FLOW: u64 = 1;
/// It is in another shard, or in a flow that is not told.
const BY_RECORD: u64 = 2;

/// Where the previous RTP packet ended.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct End {
    entry: u32,
    /// First byte behind the packet, in the record's data.
    offset: u32,
    /// First byte behind the carrier's payload, in the record's data.
    payload_end: u64,
    tcp: bool,
}

/// What the next RTP packet is measured against. Writer and reader step it through the same packets.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Predictor {
    seq: u64,
    timestamp: u32,
    step: u32,
    /// The time stamp changes with every packet (audio), not only after a marker.
    each: bool,
    marker: bool,
    flags: MediaFlags,
    flags_after_marker: MediaFlags,
    /// The length that full packets of the segment have, for TCP.
    full: u32,
    last_len: u32,
    end: Option<End>,
}

/// The RTP header's fields as predicted.
struct Predicted {
    seq: u64,
    timestamp: u32,
    marker: bool,
    flags: MediaFlags,
    len: u32,
}

impl Predictor {
    fn new() -> Self {
        Self {
            seq: 0,
            timestamp: 0,
            step: 0,
            each: false,
            marker: false,
            flags: MediaFlags::NONE,
            flags_after_marker: MediaFlags::AU_START,
            full: 0,
            last_len: 0,
            end: None,
        }
    }

    /// What the packet says that begins in `carrier`.
    fn predict(&self, carrier: Option<&Carrier>) -> Predicted {
        let flags = match (self.marker, self.each) {
            (true, _) => self.flags_after_marker,
            (false, true) => self.flags,
            (false, false) => MediaFlags::NONE,
        };
        match carrier {
            Some(&Carrier {
                header: HeaderFields::Rtp { seq, timestamp, marker, .. },
                payload_captured,
                ..
            }) => {
                let off = seq.wrapping_sub(self.seq as u16) as i16;
                let seq = self.seq.wrapping_add_signed(i64::from(off));
                Predicted { seq, timestamp, marker, flags, len: payload_captured }
            }
            _ => {
                let step = if self.marker || self.each { self.step } else { 0 };
                let len = match carrier {
                    Some(Carrier { header: HeaderFields::None, payload_captured, .. }) => *payload_captured,
                    _ => self.full,
                };
                Predicted {
                    seq: self.seq.wrapping_add(1),
                    timestamp: self.timestamp.wrapping_add(step),
                    marker: false,
                    flags,
                    len,
                }
            }
        }
    }

    /// Where the next packet begins: in which captured packet, and how many bytes into its payload if that is another one.
    fn next_place(&self) -> Option<NextPlace> {
        let end = self.end?;
        if !end.tcp {
            return Some(NextPlace::Following { entry: end.entry.checked_add(1)?, skip: 0 });
        }
        let begin = u64::from(end.offset) + FRAMING_LEN;
        if begin < end.payload_end {
            return Some(NextPlace::Same { entry: end.entry, offset: u32::try_from(begin).ok()? });
        }
        Some(NextPlace::Following {
            entry: end.entry.checked_add(1)?,
            skip: (begin - end.payload_end) as u32,
        })
    }

    fn step(&mut self, e: &MediaView<'_>, end: Option<End>) {
        let step = e.timestamp.wrapping_sub(self.timestamp);
        if !self.marker {
            self.each = step != 0;
        } else {
            self.flags_after_marker = e.flags;
        }
        if step != 0 {
            self.step = step;
        }
        if e.len > self.full || e.len == self.last_len {
            self.full = e.len;
        }
        self.last_len = e.len;
        (self.seq, self.timestamp, self.marker, self.flags) = (e.seq, e.timestamp, e.marker, e.flags);
        self.end = end;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextPlace {
    Same { entry: u32, offset: u32 },
    Following { entry: u32, skip: u32 },
}

fn end_of(piece: &Piece, carrier: &Carrier) -> End {
    End {
        entry: piece.entry,
        offset: piece.offset.saturating_add(piece.len),
        payload_end: u64::from(carrier.payload_offset) + u64::from(carrier.payload_captured),
        tcp: matches!(carrier.header, HeaderFields::Tcp { .. }),
    }
}

#[cfg(test)]
mod tests;
