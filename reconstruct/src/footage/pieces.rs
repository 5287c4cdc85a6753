//! From places in shards to bytes: views of the pieces of an RTP packet.
//!
//! Checks again what was checked when the place was written down: that a record is there, that the piece lies in it, and that
//! what begins there is an RTP packet of that sequence number. Damaged or zeroed shards lose the packets that they
//! hit, nothing else.

use super::records::{Found, Records};
use super::types::copy_from;
use super::{Footage, FootageError, MediaPacket};
use crate::index::{MediaEntry, MediaFlags, SegmentId};
use capture::{CaptureTime, ShardId, StoreError};
use smallvec::SmallVec;

/// RTP's fixed header (RFC 3550 section 5.1).
const RTP_HEADER_LEN: usize = 12;
/// Records closer together than this are asked for at once.
const PREFETCH_JOIN_BYTES: u64 = 64 << 10;

/// What came of an entry.
pub(super) enum Fetched {
    Packet(MediaPacket),
    /// Its shard was deleted by retention.
    Gone(ShardId),
    /// Its bytes are not an RTP packet any more.
    Damaged,
    /// Only its beginning was captured: played, it would be a wrong one.
    Cut,
}

/// Reads them.
#[derive(Default)]
pub(super) struct Pieces {
    records: Records,
}

impl Pieces {
    /// Tells the system which records will be read soon.
    pub(super) fn prefetch(&mut self, footage: &Footage, entries: &[MediaEntry]) -> Result<(), FootageError> {
        let mut range: Option<(ShardId, u64, u64)> = None;
        for piece in entries.iter().flat_map(|e| &e.pieces) {
            let (from, to) =
                (piece.record, piece.record + u64::from(piece.offset) + u64::from(piece.len) + 16);
            match &mut range {
                Some((shard, begin, end))
                    if *shard == piece.shard
                        && from >= *begin
                        && from <= end.saturating_add(PREFETCH_JOIN_BYTES) =>
                {
                    *end = to.max(*end);
                }
                _ => {
                    if let Some(done) = range.replace((piece.shard, from, to)) {
                        self.ask(footage, done)?;
                    }
                }
            }
        }
        range.map_or(Ok(()), |last| self.ask(footage, last))
    }

    fn ask(&mut self, footage: &Footage, (id, from, to): (ShardId, u64, u64)) -> Result<(), FootageError> {
        match self.records.shard(&footage.store, id) {
            Ok(Some(shard)) => shard.prefetch(from, to - from),
            Ok(None) | Err(StoreError::Gone { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    pub(super) fn fetch(
        &mut self,
        footage: &Footage,
        segment: SegmentId,
        e: &MediaEntry,
    ) -> Result<Fetched, FootageError> {
        if e.flags.contains(MediaFlags::CUT) {
            return Ok(Fetched::Cut);
        }
        let mut pieces = SmallVec::new();
        let mut time = CaptureTime::MIN;
        for piece in &e.pieces {
            let record = match self.records.read(&footage.store, piece.shard, piece.record)? {
                Found::Record(record, _) => record,
                Found::Gone => return Ok(Fetched::Gone(piece.shard)),
                Found::Damaged => return Ok(Fetched::Damaged),
            };
            let (from, len) = (piece.offset as usize, piece.len as usize);
            if from + len > record.data.len() {
                return Ok(Fetched::Damaged);
            }
            time = time.max(record.time);
            pieces.push(record.data.slice(from..from + len));
        }
        let mut head = [0; RTP_HEADER_LEN];
        let whole = copy_from(&pieces, 0, &mut head);
        let sequence = u16::from_be_bytes([head[2], head[3]]);
        if !whole || head[0] >> 6 != 2 || sequence != e.seq as u16 {
            return Ok(Fetched::Damaged);
        }
        Ok(Fetched::Packet(MediaPacket {
            time,
            seq: e.seq,
            timestamp: e.timestamp,
            marker: e.marker,
            ssrc: u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
            payload_type: head[1] & 0x7f,
            segment,
            clean: e.flags.contains(MediaFlags::CLEAN),
            len: e.len,
            pieces,
        }))
    }
}

impl Footage {
    /// The packet of an entry that was just folded, for live viewers; `None` when its bytes are not there (any more).
    pub fn media_packet(
        &self,
        segment: SegmentId,
        entry: &MediaEntry,
    ) -> Result<Option<MediaPacket>, FootageError> {
        match Pieces::default().fetch(self, segment, entry)? {
            Fetched::Packet(packet) => Ok(Some(packet)),
            Fetched::Gone(_) | Fetched::Damaged | Fetched::Cut => Ok(None),
        }
    }
}
