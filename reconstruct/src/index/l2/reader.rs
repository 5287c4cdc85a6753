//! Reading second-level blocks.

use super::super::types::{BLOCK_ENTRIES_MAX, BlockError, PacketEntry};
use super::super::varint::{Take, unzigzag};
use super::*;
use crate::model::FlowId;
use capture::{CaptureTime, ShardId};
use smallvec::SmallVec;

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
        self.predictor.step(&media.view(), found.end);
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
        for Listed { mut piece, flow, by_record } in listed {
            if !by_record {
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
    by_record: bool,
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
        let by_record = tag & BY_RECORD != 0;
        if by_record {
            shard = ShardId(home.0.wrapping_add_signed(take.signed().ok_or(cut)?));
            record = take.varint().ok_or(cut)?;
        }
        let number = from.checked_add(unzigzag(tag >> 2)).and_then(|n| u32::try_from(n).ok()).ok_or(range)?;
        let offset = u32::try_from(take.varint().ok_or(cut)?).map_err(|_| range)?;
        let len = u32::try_from(take.varint().ok_or(cut)?).map_err(|_| range)?;
        from = i64::from(number);
        listed.push(Listed { piece: Piece { shard, record, entry: number, offset, len }, flow, by_record });
    }
    Ok(listed)
}
