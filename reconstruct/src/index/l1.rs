//! First-level blocks: up to 1024 packets of a flow within a shard.
//!
//! ```text
//!  layout u8 = 1 | entries varint | first ms zigzag | last ms − first ms varint | entry, entry, …
//!
//!  entry:  0 1   2 3 4   5    6 7
//!         | pos | time | len | hdr |  then what the four codes call for, in this order
//!
//!  pos   from the end of the flow's previous record: 0 none, 1 two bytes, 2 three bytes, 3 zigzag varint
//!  time  milliseconds since the previous packet: 0–5 as such, 6 one byte (+6), 7 zigzag varint
//!  len   0 as predicted; 1 varint captured length × 2 + more, and if more a byte that says which of original length,
//!        payload offset and payload length follow as varints
//!  hdr   0 as predicted (TCP: ACK), 1 as predicted with marker (TCP: PSH, ACK), 2 a header follows, 3 none
//! ```
//!
//! A packet is predicted to be as long as the flow's full packets are, to carry the next RTP sequence number, and the
//! same time stamp unless the packet before it closed an access unit; or the next TCP sequence number.

mod builder;
mod reader;

pub use builder::L1Builder;
pub use reader::L1Reader;

use super::types::{HeaderFields, PacketEntry};
use crate::model::FlowId;
use capture::{CaptureTime, ShardId};
use serde::{Deserialize, Serialize};

const LAYOUT: u8 = 1;
/// Length of a pcap file's header: where a shard's first record begins.
const FILE_HEADER_LEN: u64 = 24;
const RECORD_HEADER_LEN: u64 = 16;
/// Frames up to this length can carry padding behind the payload, which is predicted apart.
const PADDED_LEN_MAX: u32 = 64;
const NANOS_PER_MS: i64 = 1_000_000;

const ACK: u8 = 0x10;
const PSH_ACK: u8 = 0x18;
const FIN_OR_SYN: u8 = 0x03;

/// What the next packet is measured against. Writer and reader step it through the same packets.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Predictor {
    /// Where the previous record of the flow ends.
    end: u64,
    ms: i64,
    /// The length that the flow's full packets have.
    full: u32,
    last_len: u32,
    payload_offset: u16,
    /// Bytes behind the payload, of short frames and of others.
    trailer: [u32; 2],
    rtp: RtpPredictor,
    tcp_seq: u32,
    tcp_flags: u8,
    /// Which header the previous packet had.
    header: Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Last {
    None,
    Rtp,
    Tcp,
}

/// What the next RTP header is measured against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct RtpPredictor {
    seq: u16,
    timestamp: u32,
    step: u32,
    marker: bool,
    /// The time stamp changes with every packet (audio), not only after a marker.
    each: bool,
    payload_type: u8,
}

impl RtpPredictor {
    fn timestamp(&self) -> u32 {
        self.timestamp.wrapping_add(if self.marker || self.each { self.step } else { 0 })
    }

    fn step(&mut self, seq: u16, timestamp: u32, marker: bool, payload_type: u8) {
        let step = timestamp.wrapping_sub(self.timestamp);
        if !self.marker {
            self.each = step != 0;
        }
        if step != 0 {
            self.step = step;
        }
        *self = Self { seq, timestamp, marker, payload_type, ..*self };
    }
}

impl Predictor {
    fn new() -> Self {
        Self {
            end: FILE_HEADER_LEN,
            ms: 0,
            full: 0,
            last_len: 0,
            payload_offset: 0,
            trailer: [0; 2],
            rtp: RtpPredictor::default(),
            tcp_seq: 0,
            tcp_flags: 0,
            header: Last::None,
        }
    }

    fn trailer_mut(&mut self, original_len: u32) -> &mut u32 {
        &mut self.trailer[usize::from(original_len <= PADDED_LEN_MAX)]
    }

    fn payload_len(&self, original_len: u32, payload_offset: u16) -> u32 {
        let trailer = self.trailer[usize::from(original_len <= PADDED_LEN_MAX)];
        original_len.saturating_sub(u32::from(payload_offset)).saturating_sub(trailer)
    }

    fn step(&mut self, p: &PacketEntry) {
        self.end = p.offset.saturating_add(RECORD_HEADER_LEN).saturating_add(u64::from(p.captured_len));
        self.ms = p.time.millis();
        let len = p.captured_len;
        if len > self.full || len == self.last_len {
            self.full = len;
        }
        self.last_len = len;
        self.payload_offset = p.payload_offset;
        *self.trailer_mut(p.original_len) =
            p.original_len.saturating_sub(u32::from(p.payload_offset)).saturating_sub(p.payload_len);
        match p.header {
            HeaderFields::None => {}
            HeaderFields::Rtp { seq, timestamp, marker, payload_type } => {
                self.rtp.step(seq, timestamp, marker, payload_type);
                self.header = Last::Rtp;
            }
            HeaderFields::Tcp { seq, flags } => {
                self.tcp_seq =
                    seq.wrapping_add(p.payload_len).wrapping_add(u32::from(flags & FIN_OR_SYN).count_ones());
                self.tcp_flags = flags;
                self.header = Last::Tcp;
            }
        }
    }
}

const LEN_EXPLICIT: u8 = 1 << 5;
const HDR_EXPLICIT: u8 = 2 << 6;
const HDR_NONE: u8 = 3 << 6;

const MORE_ORIGINAL: u8 = 1;
const MORE_OFFSET: u8 = 2;
const MORE_PAYLOAD: u8 = 4;

const H_TCP: u8 = 1;
const H_MARKER: u8 = 2;
const H_SEQ: u8 = 4;
const H_TIMESTAMP: u8 = 8;
const H_PAYLOAD_TYPE: u8 = 16;
const H_FLAGS: u8 = 32;

#[cfg(test)]
mod tests;
