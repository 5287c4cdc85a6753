//! Writing first-level blocks.

use super::super::types::{BLOCK_ENTRIES_MAX, BlockError, HeaderFields, L1Block, L1Key, PacketEntry};
use super::super::varint::{put, put_signed};
use super::*;
use serde::{Deserialize, Serialize};

/// Packs a flow's packets into blocks, one shard after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct L1Builder {
    flow: FlowId,
    shard: ShardId,
    block: u32,
    count: u32,
    first_ms: i64,
    last_ms: i64,
    #[serde(with = "serde_bytes")]
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
