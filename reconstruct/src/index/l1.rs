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

use super::types::{BLOCK_ENTRIES_MAX, BlockError, HeaderFields, L1Block, L1Key, PacketEntry};
use super::varint::{Take, put, put_signed};
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

/// Packs a flow's packets into blocks, one shard after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct L1Builder {
    flow: FlowId,
    shard: ShardId,
    block: u32,
    count: u32,
    first_ms: i64,
    last_ms: i64,
    bytes: Vec<u8>,
    predictor: Predictor,
}

impl L1Builder {
    /// For a flow's first packet in `shard`.
    pub fn new(flow: FlowId, shard: ShardId) -> Self {
        Self {
            flow,
            shard,
            block: 0,
            count: 0,
            first_ms: i64::MAX,
            last_ms: i64::MIN,
            bytes: Vec::new(),
            predictor: Predictor::new(),
        }
    }

    /// Goes on with a block that was written before it was full.
    pub fn resume(key: L1Key, bytes: &[u8]) -> Result<Self, BlockError> {
        let mut builder = Self { block: key.block, ..Self::new(key.flow, key.shard) };
        for entry in L1Reader::new(bytes)? {
            builder.push(&entry?);
        }
        Ok(builder)
    }

    /// The flow.
    pub fn flow(&self) -> FlowId {
        self.flow
    }

    /// The shard that the next packet has to be in: [`roll`](Self::roll) first if it is not.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The number in its flow and shard that the next packet gets.
    pub fn next_entry(&self) -> u32 {
        self.block.saturating_mul(BLOCK_ENTRIES_MAX).saturating_add(self.count)
    }

    /// How many packets the open block has.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether the open block has no packets.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether the open block takes no more: [`roll`](Self::roll) it.
    pub fn full(&self) -> bool {
        self.count >= BLOCK_ENTRIES_MAX
    }

    /// Adds a packet and gives its number in its flow and shard.
    ///
    /// # Panics
    /// In debug builds, when the block is [`full`](Self::full).
    pub fn push(&mut self, p: &PacketEntry) -> u32 {
        debug_assert!(!self.full(), "a full block is rolled before the next push");
        let number = self.next_entry();
        let control_at = self.bytes.len();
        self.bytes.push(0);
        let control = self.put_place(p) | self.put_length(p) | self.put_header(p);
        self.bytes[control_at] = control;
        let ms = p.time.millis();
        self.first_ms = self.first_ms.min(ms);
        self.last_ms = self.last_ms.max(ms);
        self.predictor.step(p);
        self.count += 1;
        number
    }

    fn put_place(&mut self, p: &PacketEntry) -> u8 {
        let out = &mut self.bytes;
        let distance = p.offset.wrapping_sub(self.predictor.end);
        let pos = match distance {
            0 => 0,
            1..=0xffff => {
                out.extend_from_slice(&(distance as u16).to_le_bytes());
                1
            }
            0x1_0000..=0xff_ffff => {
                out.extend_from_slice(&distance.to_le_bytes()[..3]);
                2
            }
            _ => {
                put_signed(out, distance as i64);
                3
            }
        };
        let later = p.time.millis().wrapping_sub(self.predictor.ms);
        let time = match later {
            0..=5 => later as u8,
            6..=261 => {
                out.push((later - 6) as u8);
                6
            }
            _ => {
                put_signed(out, later);
                7
            }
        };
        pos | time << 2
    }

    fn put_length(&mut self, p: &PacketEntry) -> u8 {
        let (out, predictor) = (&mut self.bytes, &self.predictor);
        let mut more = 0;
        if p.original_len != p.captured_len {
            more |= MORE_ORIGINAL;
        }
        if p.payload_offset != predictor.payload_offset {
            more |= MORE_OFFSET;
        }
        if p.payload_len != predictor.payload_len(p.original_len, p.payload_offset) {
            more |= MORE_PAYLOAD;
        }
        if p.captured_len == predictor.full && more == 0 {
            return 0;
        }
        put(out, u64::from(p.captured_len) << 1 | u64::from(more != 0));
        if more != 0 {
            out.push(more);
            for (bit, value) in [
                (MORE_ORIGINAL, p.original_len),
                (MORE_OFFSET, u32::from(p.payload_offset)),
                (MORE_PAYLOAD, p.payload_len),
            ] {
                if more & bit != 0 {
                    put(out, u64::from(value));
                }
            }
        }
        LEN_EXPLICIT
    }

    fn put_header(&mut self, p: &PacketEntry) -> u8 {
        let (out, predictor) = (&mut self.bytes, &self.predictor);
        match p.header {
            HeaderFields::None => HDR_NONE,
            HeaderFields::Rtp { seq, timestamp, marker, payload_type } => {
                let rtp = &predictor.rtp;
                let seq_off = seq.wrapping_sub(rtp.seq.wrapping_add(1)) as i16;
                let timestamp_off = timestamp.wrapping_sub(rtp.timestamp()) as i32;
                let mut tag = 0;
                tag |= if seq_off != 0 { H_SEQ } else { 0 };
                tag |= if timestamp_off != 0 { H_TIMESTAMP } else { 0 };
                tag |= if payload_type != rtp.payload_type { H_PAYLOAD_TYPE } else { 0 };
                if tag == 0 && predictor.header == Last::Rtp {
                    return u8::from(marker) << 6;
                }
                out.push(tag | if marker { H_MARKER } else { 0 });
                if seq_off != 0 {
                    put_signed(out, i64::from(seq_off));
                }
                if timestamp_off != 0 {
                    put_signed(out, i64::from(timestamp_off));
                }
                if tag & H_PAYLOAD_TYPE != 0 {
                    out.push(payload_type);
                }
                HDR_EXPLICIT
            }
            HeaderFields::Tcp { seq, flags } => {
                let seq_off = seq.wrapping_sub(predictor.tcp_seq) as i32;
                if seq_off == 0 && predictor.header == Last::Tcp && (flags == ACK || flags == PSH_ACK) {
                    return u8::from(flags == PSH_ACK) << 6;
                }
                let mut tag = H_TCP;
                tag |= if seq_off != 0 { H_SEQ } else { 0 };
                tag |= if flags != predictor.tcp_flags { H_FLAGS } else { 0 };
                out.push(tag);
                if seq_off != 0 {
                    put_signed(out, i64::from(seq_off));
                }
                if tag & H_FLAGS != 0 {
                    out.push(flags);
                }
                HDR_EXPLICIT
            }
        }
    }

    /// The open block as it stands, to be written under its key and overwritten later. `None` when it is empty.
    pub fn encode_partial(&self) -> Option<L1Block> {
        if self.count == 0 {
            return None;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() + 16);
        bytes.push(LAYOUT);
        put(&mut bytes, u64::from(self.count));
        put_signed(&mut bytes, self.first_ms);
        put(&mut bytes, self.last_ms.wrapping_sub(self.first_ms) as u64);
        bytes.extend_from_slice(&self.bytes);
        Some(L1Block { key: L1Key { shard: self.shard, flow: self.flow, block: self.block }, bytes })
    }

    /// Closes the open block and begins the next, in `shard`: number 0 in another shard, the next number in the same one.
    /// `None` when there was nothing in it.
    ///
    /// # Panics
    /// In debug builds, when a block that is not full is followed by another in the same shard: entries would lose
    /// their numbers.
    pub fn roll(&mut self, shard: ShardId) -> Option<L1Block> {
        debug_assert!(
            shard != self.shard || self.full() || self.is_empty(),
            "only full blocks have successors"
        );
        let done = self.encode_partial();
        if shard == self.shard {
            self.block += u32::from(done.is_some());
        } else {
            self.block = 0;
            self.shard = shard;
        }
        self.count = 0;
        (self.first_ms, self.last_ms) = (i64::MAX, i64::MIN);
        self.bytes.clear();
        self.predictor = Predictor::new();
        done
    }
}

/// Reads a block's packets in order. Stops at the first error.
#[derive(Clone, Debug)]
pub struct L1Reader<B> {
    bytes: B,
    at: usize,
    entry: u32,
    count: u32,
    first_ms: i64,
    last_ms: i64,
    predictor: Predictor,
}

impl<B: AsRef<[u8]>> L1Reader<B> {
    /// Reads the block's head.
    pub fn new(bytes: B) -> Result<Self, BlockError> {
        const CUT: BlockError = BlockError::Truncated { entry: 0 };
        let mut take = Take::new(bytes.as_ref(), 0);
        let layout = take.u8().ok_or(CUT)?;
        if layout != LAYOUT {
            return Err(BlockError::Layout { found: layout });
        }
        let count = take.varint().ok_or(CUT)?;
        let first_ms = take.signed().ok_or(CUT)?;
        let last_ms = first_ms.wrapping_add(take.varint().ok_or(CUT)? as i64);
        let at = take.at();
        let count = u32::try_from(count).ok().filter(|c| *c <= BLOCK_ENTRIES_MAX);
        let count = count.ok_or(BlockError::OutOfRange { entry: 0 })?;
        Ok(Self { bytes, at, entry: 0, count, first_ms, last_ms, predictor: Predictor::new() })
    }

    /// How many packets the block has.
    pub fn entries(&self) -> u32 {
        self.count
    }

    /// Earliest and latest capture time in the block, in milliseconds since the Unix epoch.
    pub fn span_ms(&self) -> (i64, i64) {
        (self.first_ms, self.last_ms)
    }

    fn take(&mut self) -> Result<PacketEntry, BlockError> {
        let entry = self.entry;
        let cut = BlockError::Truncated { entry };
        let range = BlockError::OutOfRange { entry };
        let mut take = Take::new(self.bytes.as_ref(), self.at);
        let predictor = &self.predictor;
        let control = take.u8().ok_or(cut)?;

        let offset = match control & 3 {
            0 => predictor.end,
            1 => predictor.end.wrapping_add(take.little::<2>().ok_or(cut)?),
            2 => predictor.end.wrapping_add(take.little::<3>().ok_or(cut)?),
            _ => predictor.end.wrapping_add_signed(take.signed().ok_or(cut)?),
        };
        let later = match control >> 2 & 7 {
            6 => i64::from(take.u8().ok_or(cut)?) + 6,
            7 => take.signed().ok_or(cut)?,
            small => i64::from(small),
        };
        let ms = predictor.ms.wrapping_add(later);
        let nanos = ms.saturating_mul(NANOS_PER_MS);

        let mut captured_len = predictor.full;
        let mut original_len = captured_len;
        let mut payload_offset = predictor.payload_offset;
        let mut payload_len = predictor.payload_len(original_len, payload_offset);
        if control & LEN_EXPLICIT != 0 {
            let v = take.varint().ok_or(cut)?;
            captured_len = u32::try_from(v >> 1).map_err(|_| range)?;
            let more = if v & 1 != 0 { take.u8().ok_or(cut)? } else { 0 };
            let mut value = |bit: u8| {
                if more & bit == 0 {
                    return Ok(None);
                }
                u32::try_from(take.varint().ok_or(cut)?).map(Some).map_err(|_| range)
            };
            original_len = value(MORE_ORIGINAL)?.unwrap_or(captured_len);
            if let Some(v) = value(MORE_OFFSET)? {
                payload_offset = u16::try_from(v).map_err(|_| range)?;
            }
            payload_len =
                value(MORE_PAYLOAD)?.unwrap_or_else(|| predictor.payload_len(original_len, payload_offset));
        }

        let header = match control >> 6 {
            3 => HeaderFields::None,
            2 => take_header(&mut take, predictor).ok_or(cut)?,
            marked => match predictor.header {
                Last::Rtp => HeaderFields::Rtp {
                    seq: predictor.rtp.seq.wrapping_add(1),
                    timestamp: predictor.rtp.timestamp(),
                    marker: marked == 1,
                    payload_type: predictor.rtp.payload_type,
                },
                Last::Tcp => HeaderFields::Tcp {
                    seq: predictor.tcp_seq,
                    flags: if marked == 1 { PSH_ACK } else { ACK },
                },
                Last::None => return Err(range),
            },
        };
        self.at = take.at();
        let time = CaptureTime::from_nanos(nanos);
        Ok(PacketEntry { offset, time, captured_len, original_len, payload_offset, payload_len, header })
    }
}

fn take_header(take: &mut Take<'_>, predictor: &Predictor) -> Option<HeaderFields> {
    let tag = take.u8()?;
    let seq_off = if tag & H_SEQ != 0 { take.signed()? } else { 0 };
    if tag & H_TCP != 0 {
        let flags = if tag & H_FLAGS != 0 { take.u8()? } else { predictor.tcp_flags };
        return Some(HeaderFields::Tcp { seq: predictor.tcp_seq.wrapping_add(seq_off as u32), flags });
    }
    let rtp = &predictor.rtp;
    let timestamp_off = if tag & H_TIMESTAMP != 0 { take.signed()? } else { 0 };
    let payload_type = if tag & H_PAYLOAD_TYPE != 0 { take.u8()? } else { rtp.payload_type };
    Some(HeaderFields::Rtp {
        seq: rtp.seq.wrapping_add(1).wrapping_add(seq_off as u16),
        timestamp: rtp.timestamp().wrapping_add(timestamp_off as u32),
        marker: tag & H_MARKER != 0,
        payload_type,
    })
}

impl<B: AsRef<[u8]>> Iterator for L1Reader<B> {
    type Item = Result<PacketEntry, BlockError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.entry >= self.count {
            return None;
        }
        let packet = self.take();
        match &packet {
            Ok(p) => {
                self.predictor.step(p);
                self.entry += 1;
            }
            Err(_) => self.entry = self.count,
        }
        Some(packet)
    }
}

#[cfg(test)]
#[path = "l1_tests.rs"]
mod tests;
