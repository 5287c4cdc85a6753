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
//!  bit 6  the pieces are listed: number, and for each zigzag(packet off) × 4 + other shard × 2 + other flow, then flow,
//!         shard (zigzag off), packet and record offset if of another shard, offset, length
//! ```
//!
//! What is predicted is read from the first level: a datagram carries the RTP packet that its header announces, so a
//! segment over UDP without exceptions costs one byte for 128 packets. In TCP the next RTP packet begins four bytes of
//! interleaved framing (RFC 2326 section 10.12) behind the previous one and goes on into the flow's next captured packet.

use super::types::{
    BLOCK_ENTRIES_MAX, BLOCK_NANOS_MAX, BlockError, BlockRef, Carrier, DirectoryRow, HeaderFields, L2Block,
    L2Key, MediaEntry, MediaFlags, PacketEntry,
};
use super::varint::{Take, put, put_signed, unzigzag, zigzag};
use crate::model::{FlowId, SegmentId, StreamId};
use crate::span::Piece;
use capture::{CaptureTime, ShardId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

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
const OTHER_SHARD: u64 = 2;

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

    fn step(&mut self, e: &MediaEntry, end: Option<End>) {
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
    bytes: Vec<u8>,
    predictor: Predictor,
    directory: DirectoryRow,
    /// Last clean point of the open block, by capture time.
    clean: Option<CaptureTime>,
    /// Highest sequence number before the open block, and now.
    highest_before: Option<u64>,
    highest: Option<u64>,
    /// Packets of the open block that are not duplicates.
    distinct: u32,
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
            highest_before: None,
            highest: None,
            distinct: 0,
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
    pub fn push(&mut self, e: &MediaEntry, carriers: &[Carrier]) {
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
    fn plain(&self, e: &MediaEntry, carriers: &[Carrier]) -> bool {
        let mut sum = 0u64;
        for (i, (piece, carrier)) in e.pieces.iter().zip(carriers).enumerate() {
            let payload_end = u64::from(carrier.payload_offset) + u64::from(carrier.payload_captured);
            let piece_end = u64::from(piece.offset) + u64::from(piece.len);
            let first_entry = u64::from(e.pieces[0].entry);
            let consecutive = u64::from(piece.entry) == first_entry + i as u64;
            let begins = i == 0 || piece.offset == carrier.payload_offset;
            let ends =
                if i + 1 < e.pieces.len() { piece_end == payload_end } else { piece_end <= payload_end };
            if piece.shard != self.shard || piece.len == 0 || !(consecutive && begins && ends) {
                return false;
            }
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

    fn put_exception(&mut self, what: u8, e: &MediaEntry, seq_off: i64, timestamp_off: i32) {
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
            for p in &e.pieces {
                let elsewhere = if p.shard == self.shard { 0 } else { OTHER_SHARD };
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

    fn note(&mut self, e: &MediaEntry) {
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
        if !e.flags.contains(MediaFlags::DUPLICATE) {
            self.highest_before = self.highest_before.or(Some(e.seq.wrapping_sub(1)));
            self.highest = Some(self.highest.map_or(e.seq, |h| h.max(e.seq)));
            self.distinct += 1;
        }
        if let (Some(before), Some(highest)) = (self.highest_before, self.highest) {
            let expected = highest.wrapping_sub(before);
            self.directory.lost =
                u32::try_from(expected.saturating_sub(u64::from(self.distinct))).unwrap_or(u32::MAX);
        }
        self.count += 1;
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
        self.highest_before = self.highest.or(self.highest_before);
        self.distinct = 0;
        self.count = 0;
        self.run = 0;
        self.bytes.clear();
        self.predictor = Predictor::new();
        done
    }
}

/// Where a reader gets first-level entries from.
pub trait Carriers {
    /// What can go wrong there.
    type Error: From<BlockError>;

    /// The packet with this number in a flow of the block's shard; `None` if there is none.
    fn packet(&mut self, flow: FlowId, entry: u32) -> Result<Option<PacketEntry>, Self::Error>;
}

/// Reads a block's RTP packets in order. Stops at the first error.
#[derive(Clone, Debug)]
pub struct L2Reader<B> {
    bytes: B,
    at: usize,
    shard: ShardId,
    flow: FlowId,
    entry: u32,
    count: u32,
    run: u32,
    predictor: Predictor,
}

impl<B: AsRef<[u8]>> L2Reader<B> {
    /// Reads the head of a block that is kept under a key with `shard`.
    pub fn new(shard: ShardId, bytes: B) -> Result<Self, BlockError> {
        const CUT: BlockError = BlockError::Truncated { entry: 0 };
        let mut take = Take::new(bytes.as_ref(), 0);
        let layout = take.u8().ok_or(CUT)?;
        if layout != LAYOUT {
            return Err(BlockError::Layout { found: layout });
        }
        let count = take.varint().ok_or(CUT)?;
        let flow = take.varint().ok_or(CUT)?;
        let at = take.at();
        let range = BlockError::OutOfRange { entry: 0 };
        let count = u32::try_from(count).ok().filter(|c| *c <= BLOCK_ENTRIES_MAX).ok_or(range)?;
        let flow = FlowId(u32::try_from(flow).map_err(|_| range)?);
        Ok(Self { bytes, at, shard, flow, entry: 0, count, run: 0, predictor: Predictor::new() })
    }

    /// How many RTP packets the block has.
    pub fn entries(&self) -> u32 {
        self.count
    }

    /// The flow that most of its pieces are in.
    pub fn flow(&self) -> FlowId {
        self.flow
    }

    /// The next RTP packet, `None` behind the last. Its time is that of the first level: whole milliseconds. A piece in
    /// another shard has its record offset, but no part in the time.
    pub fn next_entry<C: Carriers>(&mut self, carriers: &mut C) -> Result<Option<MediaEntry>, C::Error> {
        if self.entry >= self.count {
            return Ok(None);
        }
        match self.take(carriers) {
            Ok(entry) => {
                self.entry += 1;
                Ok(Some(entry))
            }
            Err(e) => {
                self.entry = self.count;
                Err(e)
            }
        }
    }

    fn take<C: Carriers>(&mut self, carriers: &mut C) -> Result<MediaEntry, C::Error> {
        let entry = self.entry;
        let cut = BlockError::Truncated { entry };
        let mut what = 0;
        if self.run > 0 {
            self.run -= 1;
        } else {
            let token = *self.bytes.as_ref().get(self.at).ok_or(cut)?;
            self.at += 1;
            if token & EXCEPTION == 0 {
                self.run = u32::from(token);
            } else {
                what = token & !EXCEPTION;
            }
        }
        let Differences { flags, seq_off, timestamp_off, len, place, pieces } =
            self.take_differences(what)?;
        let mut found = match pieces {
            Some(listed) => self.listed(listed, carriers)?,
            None => self.begin(place, carriers)?,
        };
        let predicted = self.predictor.predict(found.first.as_ref());
        if found.pieces.len() == 1 && found.pieces[0].len == 0 {
            self.extend(&mut found, len.unwrap_or(predicted.len), carriers)?;
        }
        let media = MediaEntry {
            seq: predicted.seq.wrapping_add_signed(seq_off),
            timestamp: predicted.timestamp.wrapping_add(timestamp_off as u32),
            marker: predicted.marker != (what & MARKER != 0),
            time: found.time,
            flags: flags.unwrap_or(predicted.flags),
            len: found.pieces.iter().fold(0, |sum: u32, p| sum.saturating_add(p.len)),
            pieces: found.pieces,
        };
        self.predictor.step(&media, found.end);
        Ok(media)
    }

    fn take_differences(&mut self, what: u8) -> Result<Differences, BlockError> {
        let cut = BlockError::Truncated { entry: self.entry };
        let range = BlockError::OutOfRange { entry: self.entry };
        let mut take = Take::new(self.bytes.as_ref(), self.at);
        let mut d = Differences::default();
        if what & FLAGS != 0 {
            d.flags = Some(MediaFlags(take.u8().ok_or(cut)?));
        }
        if what & SEQ != 0 {
            d.seq_off = take.signed().ok_or(cut)?;
        }
        if what & TIMESTAMP != 0 {
            d.timestamp_off = take.signed().ok_or(cut)?;
        }
        if what & LENGTH != 0 {
            d.len = Some(u32::try_from(take.varint().ok_or(cut)?).map_err(|_| range)?);
        }
        let from = i64::from(self.predictor.end.map_or(0, |end| end.entry));
        if what & PLACE != 0 {
            let number = from.checked_add(take.signed().ok_or(cut)?).and_then(|n| u32::try_from(n).ok());
            let offset = u32::try_from(take.varint().ok_or(cut)?).map_err(|_| range)?;
            d.place = Some((number.ok_or(range)?, offset));
        }
        if what & PIECES != 0 {
            d.pieces = Some(take_pieces(&mut take, from, self.shard, self.flow, self.entry)?);
        }
        self.at = take.at();
        Ok(d)
    }

    /// The pieces as listed, with their records looked up.
    fn listed<C: Carriers>(&self, listed: Vec<Listed>, carriers: &mut C) -> Result<Found, C::Error> {
        let mut found = Found { pieces: SmallVec::new(), first: None, end: None, time: CaptureTime::MIN };
        for Listed { mut piece, flow } in listed {
            if piece.shard == self.shard {
                let packet = self.carrier(flow, piece.entry, carriers)?;
                piece.record = packet.offset;
                found.time = found.time.max(packet.time);
            }
            found.pieces.push(piece);
        }
        Ok(found)
    }

    /// The piece that the packet begins with, its length still open.
    fn begin<C: Carriers>(&self, place: Option<(u32, u32)>, carriers: &mut C) -> Result<Found, C::Error> {
        let range = BlockError::OutOfRange { entry: self.entry };
        let (number, offset) = match place {
            Some((number, offset)) => (number, Some(offset)),
            None => match self.predictor.next_place().ok_or(range)? {
                NextPlace::Same { entry, offset } => (entry, Some(offset)),
                NextPlace::Following { entry, .. } => (entry, None),
            },
        };
        let packet = self.carrier(self.flow, number, carriers)?;
        let carrier = Carrier::from(&packet);
        let offset = match (offset, self.predictor.next_place()) {
            (Some(offset), _) => offset,
            (None, Some(NextPlace::Following { skip, .. })) => carrier.payload_offset.saturating_add(skip),
            (None, _) => return Err(range.into()),
        };
        let piece = Piece { shard: self.shard, record: packet.offset, entry: number, offset, len: 0 };
        Ok(Found {
            pieces: SmallVec::from_elem(piece, 1),
            first: Some(carrier),
            end: None,
            time: packet.time,
        })
    }

    /// Lets the packet go on for `len` bytes, into the packets behind the one that it begins in.
    fn extend<C: Carriers>(&self, found: &mut Found, len: u32, carriers: &mut C) -> Result<(), C::Error> {
        let Some(mut carrier) = found.first else { return Ok(()) };
        let mut left = len;
        loop {
            let Some(piece) = found.pieces.last_mut() else { return Ok(()) };
            let payload_end = u64::from(carrier.payload_offset) + u64::from(carrier.payload_captured);
            let room = payload_end.saturating_sub(u64::from(piece.offset));
            piece.len = left.min(u32::try_from(room).unwrap_or(u32::MAX));
            left -= piece.len;
            found.end = Some(end_of(piece, &carrier));
            if left == 0 {
                return Ok(());
            }
            let range = BlockError::OutOfRange { entry: self.entry };
            let entry = piece.entry.checked_add(1).filter(|_| (found.pieces.len() as u64) < PIECES_MAX);
            let entry = entry.ok_or(range)?;
            let packet = self.carrier(self.flow, entry, carriers)?;
            carrier = Carrier::from(&packet);
            found.time = found.time.max(packet.time);
            let offset = carrier.payload_offset;
            found.pieces.push(Piece { shard: self.shard, record: packet.offset, entry, offset, len: 0 });
        }
    }

    fn carrier<C: Carriers>(
        &self,
        flow: FlowId,
        number: u32,
        carriers: &mut C,
    ) -> Result<PacketEntry, C::Error> {
        let missing = BlockError::NoCarrier { entry: self.entry, packet: number };
        carriers.packet(flow, number)?.ok_or_else(|| missing.into())
    }
}

#[derive(Default)]
struct Differences {
    flags: Option<MediaFlags>,
    seq_off: i64,
    timestamp_off: i64,
    len: Option<u32>,
    place: Option<(u32, u32)>,
    pieces: Option<Vec<Listed>>,
}

struct Listed {
    piece: Piece,
    flow: FlowId,
}

struct Found {
    pieces: SmallVec<[Piece; 2]>,
    first: Option<Carrier>,
    end: Option<End>,
    time: CaptureTime,
}

fn take_pieces(
    take: &mut Take<'_>,
    mut from: i64,
    home: ShardId,
    home_flow: FlowId,
    entry: u32,
) -> Result<Vec<Listed>, BlockError> {
    let cut = BlockError::Truncated { entry };
    let range = BlockError::OutOfRange { entry };
    let number = take.varint().ok_or(cut)?;
    if number == 0 || number > PIECES_MAX {
        return Err(range);
    }
    let mut listed = Vec::new();
    for _ in 0..number {
        let tag = take.varint().ok_or(cut)?;
        let mut flow = home_flow;
        if tag & OTHER_FLOW != 0 {
            flow = FlowId(u32::try_from(take.varint().ok_or(cut)?).map_err(|_| range)?);
        }
        let (mut shard, mut record) = (home, 0);
        if tag & OTHER_SHARD != 0 {
            shard = ShardId(home.0.wrapping_add_signed(take.signed().ok_or(cut)?));
            record = take.varint().ok_or(cut)?;
        }
        let number = from.checked_add(unzigzag(tag >> 2)).and_then(|n| u32::try_from(n).ok()).ok_or(range)?;
        let offset = u32::try_from(take.varint().ok_or(cut)?).map_err(|_| range)?;
        let len = u32::try_from(take.varint().ok_or(cut)?).map_err(|_| range)?;
        from = i64::from(number);
        listed.push(Listed { piece: Piece { shard, record, entry: number, offset, len }, flow });
    }
    Ok(listed)
}

#[cfg(test)]
#[path = "l2_tests.rs"]
mod tests;
