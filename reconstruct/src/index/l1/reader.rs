//! Reading first-level blocks.

use super::super::types::{BLOCK_ENTRIES_MAX, BlockError, HeaderFields, PacketEntry};
use super::super::varint::Take;
use super::*;

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
