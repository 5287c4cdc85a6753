//! Writing second-level blocks.

use super::super::types::{BLOCK_ENTRIES_MAX, BLOCK_NANOS_MAX, BlockRef, DirectoryRow, L2Block, L2Key};
use super::super::varint::{put, put_signed, zigzag};
use super::*;
use crate::model::{FlowId, SegmentId, StreamId};
use crate::span;
use capture::{CaptureTime, ShardId};

/// Packs a segment's RTP packets into blocks, one shard after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct L2Builder {
    stream: StreamId,
    segment: SegmentId,
    flow: FlowId,
    shard: ShardId,
    block: u32,
    count: u32,
    run: u32,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    predictor: Predictor,
    directory: DirectoryRow,
    /// Last clean point of the open block, by capture time.
    clean: Option<CaptureTime>,
}

fn empty_directory() -> DirectoryRow {
    DirectoryRow {
        start: CaptureTime::MIN,
        first: CaptureTime::MAX,
        last: CaptureTime::MIN,
        clean: None,
        clean_before: None,
        packets: 0,
        lost: 0,
    }
}

impl L2Builder {
    /// For a segment's first packet, which ends in `shard`. Most of its bytes come in `flow`.
    pub fn new(stream: StreamId, segment: SegmentId, flow: FlowId, shard: ShardId) -> Self {
        Self {
            stream,
            segment,
            flow,
            shard,
            block: 0,
            count: 0,
            run: 0,
            bytes: Vec::new(),
            predictor: Predictor::new(),
            directory: empty_directory(),
            clean: None,
        }
    }

    /// The segment.
    pub fn segment(&self) -> SegmentId {
        self.segment
    }

    /// The shard that the next packet has to end in: [`roll`](Self::roll) first if it does not.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// How many packets the open block has.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether the open block has no packets.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether the open block has no room.
    pub fn full(&self) -> bool {
        self.count >= BLOCK_ENTRIES_MAX
    }

    /// Whether a packet of this time still belongs into the open block: [`roll`](Self::roll) first if not. A block is
    /// closed when it is full, and when the packet lies further than [`BLOCK_NANOS_MAX`] from its first.
    pub fn accepts(&self, time: CaptureTime) -> bool {
        self.count == 0
            || !self.full()
                && time.nanos_since(self.directory.start).unsigned_abs() <= BLOCK_NANOS_MAX.unsigned_abs()
    }

    /// Adds a packet. `carriers` are the captured packets of its pieces, in the same order; with fewer of them the
    /// packet is kept as well, at more bytes.
    ///
    /// # Panics
    /// In debug builds, when the packet is not [accepted](Self::accepts) or has no pieces.
    pub fn push(&mut self, e: &MediaView<'_>, carriers: &[Carrier]) {
        debug_assert!(self.accepts(e.time), "a block is rolled before a packet that it does not accept");
        debug_assert!(!e.pieces.is_empty(), "an RTP packet is somewhere");
        let plain = carriers.len() == e.pieces.len() && self.plain(e, carriers);
        let first = carriers.first().filter(|_| plain);
        let predicted = self.predictor.predict(first);
        let seq_off = e.seq.wrapping_sub(predicted.seq) as i64;
        let timestamp_off = e.timestamp.wrapping_sub(predicted.timestamp) as i32;
        let mut what = 0;
        what |= if e.marker != predicted.marker { MARKER } else { 0 };
        what |= if e.flags != predicted.flags { FLAGS } else { 0 };
        what |= if seq_off != 0 { SEQ } else { 0 };
        what |= if timestamp_off != 0 { TIMESTAMP } else { 0 };
        if plain {
            what |= if e.len != predicted.len { LENGTH } else { 0 };
            what |= if first.is_some_and(|c| self.begins_as_predicted(&e.pieces[0], c)) { 0 } else { PLACE };
        } else {
            what |= PIECES;
        }
        if what != 0 {
            self.flush_run();
            self.put_exception(what, e, seq_off, timestamp_off);
        } else {
            if self.run == RUN_MAX {
                self.flush_run();
            }
            self.run += 1;
        }
        // Behind listed pieces the reader has nothing to predict from: neither has the writer.
        let end = e.pieces.last().zip(carriers.last()).filter(|_| plain).map(|(p, c)| end_of(p, c));
        self.predictor.step(e, end);
        self.note(e);
    }

    /// Whether the pieces are what a reader finds who knows where the first begins and how long the packet is.
    fn plain(&self, e: &MediaView<'_>, carriers: &[Carrier]) -> bool {
        let (mut sum, mut before) = (0u64, None);
        let mut more = e.pieces.len();
        for (piece, carrier) in e.pieces.iter().zip(carriers) {
            more -= 1;
            let end = u64::from(piece.offset) + u64::from(piece.len);
            let payload_end = u64::from(carrier.payload_offset) + u64::from(carrier.payload_captured);
            let begins = match before {
                Some(before) => {
                    piece.offset == carrier.payload_offset && u64::from(piece.entry) == u64::from(before) + 1
                }
                None => true,
            };
            let ends = end == payload_end || more == 0 && end < payload_end;
            if !begins || !ends || piece.shard != self.shard || piece.len == 0 {
                return false;
            }
            before = Some(piece.entry);
            sum += u64::from(piece.len);
        }
        sum == u64::from(e.len)
    }

    fn begins_as_predicted(&self, piece: &Piece, carrier: &Carrier) -> bool {
        match self.predictor.next_place() {
            Some(NextPlace::Same { entry, offset }) => piece.entry == entry && piece.offset == offset,
            Some(NextPlace::Following { entry, skip }) => {
                piece.entry == entry
                    && u64::from(piece.offset) == u64::from(carrier.payload_offset) + u64::from(skip)
            }
            None => false,
        }
    }

    fn flush_run(&mut self) {
        if self.run > 0 {
            self.bytes.push((self.run - 1) as u8);
            self.run = 0;
        }
    }

    fn put_exception(&mut self, what: u8, e: &MediaView<'_>, seq_off: i64, timestamp_off: i32) {
        let out = &mut self.bytes;
        out.push(EXCEPTION | what);
        if what & FLAGS != 0 {
            out.push(e.flags.0);
        }
        if what & SEQ != 0 {
            put_signed(out, seq_off);
        }
        if what & TIMESTAMP != 0 {
            put_signed(out, i64::from(timestamp_off));
        }
        if what & LENGTH != 0 {
            put(out, u64::from(e.len));
        }
        let from = self.predictor.end.map_or(0, |end| end.entry);
        if what & PLACE != 0 {
            put_signed(out, i64::from(e.pieces[0].entry) - i64::from(from));
            put(out, u64::from(e.pieces[0].offset));
        }
        if what & PIECES != 0 {
            let mut from = from;
            put(out, e.pieces.len() as u64);
            for p in e.pieces {
                let elsewhere =
                    if p.shard == self.shard && p.entry != span::OTHER_FLOW { 0 } else { BY_RECORD };
                put(out, zigzag(i64::from(p.entry) - i64::from(from)) << 2 | elsewhere);
                if elsewhere != 0 {
                    put_signed(out, p.shard.0.wrapping_sub(self.shard.0) as i64);
                    put(out, p.record);
                }
                put(out, u64::from(p.offset));
                put(out, u64::from(p.len));
                from = p.entry;
            }
        }
    }

    fn note(&mut self, e: &MediaView<'_>) {
        let d = &mut self.directory;
        if self.count == 0 {
            d.start = e.time;
        }
        d.first = d.first.min(e.time);
        d.last = d.last.max(e.time);
        d.packets += 1;
        if e.flags.contains(MediaFlags::CLEAN) && !e.flags.contains(MediaFlags::DUPLICATE) {
            d.clean = d.clean.or(Some(e.time));
            self.clean = Some(e.time);
        }
        self.count += 1;
    }

    /// Packets were missed that no tap has, or (less than none) came after all.
    pub fn note_lost(&mut self, packets: i64) {
        let lost = i64::from(self.directory.lost).saturating_add(packets);
        self.directory.lost = lost.clamp(0, i64::from(u32::MAX)) as u32;
    }

    /// The open block as it stands, to be written under its key and overwritten later. `None` when it is empty.
    pub fn encode_partial(&self) -> Option<L2Block> {
        if self.count == 0 {
            return None;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() + 12);
        bytes.push(LAYOUT);
        put(&mut bytes, u64::from(self.count));
        put(&mut bytes, u64::from(self.flow.0));
        bytes.extend_from_slice(&self.bytes);
        if self.run > 0 {
            bytes.push((self.run - 1) as u8);
        }
        Some(L2Block {
            key: L2Key { shard: self.shard, segment: self.segment, block: self.block },
            stream: self.stream,
            bytes,
            directory: self.directory,
        })
    }

    /// Closes the open block and begins the next, in `shard`: number 0 in another shard, the next number in the same one.
    /// `None` when there was nothing in it.
    pub fn roll(&mut self, shard: ShardId) -> Option<L2Block> {
        let done = self.encode_partial();
        let clean_before = match self.clean.take() {
            Some(time) => Some(BlockRef { shard: self.shard, block: self.block, time }),
            None => self.directory.clean_before,
        };
        if shard == self.shard {
            self.block += u32::from(done.is_some());
        } else {
            self.block = 0;
            self.shard = shard;
        }
        self.directory = DirectoryRow { clean_before, ..empty_directory() };
        self.count = 0;
        self.run = 0;
        self.bytes.clear();
        self.predictor = Predictor::new();
        done
    }
}
