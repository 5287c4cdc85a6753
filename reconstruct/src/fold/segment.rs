//! An open segment: its second-level blocks and its counters, for each tap that sees it.

use super::media::Media;
use crate::codec::Placed;
use crate::index::{IndexBatch, L2Builder, MediaView};
use crate::model::{FlowId, GapRow, RtcpRow, SegmentId, SegmentPart, SegmentRow, SessionId, StreamId};
use crate::span::{OTHER_FLOW, Piece};
use capture::{ShardId, TapId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Most taps kept of earlier parts of the recording.
const LEFT_MAX: usize = 8;

/// An open segment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Segment {
    pub id: SegmentId,
    pub stream: StreamId,
    session: SessionId,
    flow: FlowId,
    parts: SmallVec<[TapPart; 1]>,
}

/// What one tap has of it, in the shard that it writes at the moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct TapPart {
    tap: TapId,
    dirty: bool,
    blocks: L2Builder,
    part: SegmentPart,
    gaps: u32,
    reports: u32,
    /// Its shard is complete, and the tap's next has nothing of the segment yet. What is counted meanwhile is counted there: the number of the
    /// tap's next shard is not known, the following one may be another tap's.
    closed: bool,
}

impl TapPart {
    /// Closes what is open in the shard before, if the tap has gone on to another.
    fn enter(&mut self, shard: ShardId, batch: &mut IndexBatch) {
        // Never back: a shard that was left is closed.
        if self.part.shard >= shard {
            return;
        }
        if let Some(block) = self.blocks.roll(shard) {
            batch.put_l2(block);
        }
        // One that was closed is written, and its shard may be gone by now.
        if !self.part.is_empty() && (self.dirty || !self.closed) {
            batch.put_part(&self.part);
        }
        self.part = SegmentPart::new(self.part.segment, self.part.stream, self.part.session, shard);
        self.gaps = 0;
        self.reports = 0;
        self.dirty = false;
        self.closed = false;
    }
}

impl Segment {
    /// A new segment.
    pub fn new(row: &SegmentRow) -> Self {
        Self { id: row.id, stream: row.stream, session: row.session, flow: row.flow, parts: SmallVec::new() }
    }

    /// The taps that it was heard on.
    pub fn taps(&self) -> SmallVec<[TapId; 2]> {
        self.parts.iter().map(|p| p.tap).collect()
    }

    #[inline]
    fn part(&mut self, tap: TapId, shard: ShardId, batch: &mut IndexBatch) -> &mut TapPart {
        let at = match self.parts.iter().position(|p| p.tap == tap) {
            Some(at) => at,
            None => {
                let part = SegmentPart::new(self.id, self.stream, self.session, shard);
                let blocks = L2Builder::new(self.stream, self.id, self.flow, shard);
                self.parts.push(TapPart {
                    tap,
                    dirty: false,
                    blocks,
                    part,
                    gaps: 0,
                    reports: 0,
                    closed: false,
                });
                self.parts.len() - 1
            }
        };
        let part = &mut self.parts[at];
        part.enter(shard, batch);
        part.dirty = true;
        part
    }

    /// Adds a packet; gives its entry. `late`: a packet with a higher number was captured before.
    #[inline]
    pub fn push<'m>(
        &mut self,
        media: &Media<'m>,
        ext: u64,
        placed: Placed,
        late: bool,
        batch: &mut IndexBatch,
    ) -> Option<MediaView<'m>> {
        let shard = media.shard()?;
        let entry = media.entry(ext, placed);
        let own_flow = media.head.flow == self.flow;
        let part = self.part(media.head.tap, shard, batch);
        let p = &mut part.part;
        if shard < p.shard || part.closed {
            // Put in order only after its shard was closed: it stays in the first level alone.
            return None;
        }
        p.first = p.first.min(media.head.time);
        p.last = p.last.max(media.head.time);
        p.first_seq = p.first_seq.min(ext);
        p.last_seq = p.last_seq.max(ext);
        p.packets += 1;
        p.bytes += u64::from(media.head.len);
        p.reordered += u64::from(late);
        p.access_units += u64::from(placed.au_start);
        p.clean_points += u64::from(placed.clean);
        if (part.blocks.shard() != shard || !part.blocks.accepts(entry.time))
            && let Some(block) = part.blocks.roll(shard)
        {
            batch.put_l2(block);
        }
        if own_flow {
            part.blocks.push(&entry, media.carriers);
        } else {
            // Its packets' numbers are those of another flow.
            let by_record = |piece: &Piece| Piece { entry: OTHER_FLOW, ..*piece };
            let pieces: SmallVec<[Piece; 2]> = media.pieces.iter().map(by_record).collect();
            part.blocks.push(&MediaView { pieces: &pieces, ..entry }, &[]);
        }
        Some(entry)
    }

    /// Counts a packet that was there already.
    pub fn duplicate(&mut self, media: &Media<'_>, batch: &mut IndexBatch) {
        if let Some(shard) = media.shard() {
            self.part(media.head.tap, shard, batch).part.duplicates += 1;
        }
    }

    /// A packet of a gap that was told came after all. The gap may be counted where another tap has it, and not where the packet is.
    pub fn found(&mut self, media: &Media<'_>, batch: &mut IndexBatch) {
        let Some(shard) = media.shard() else { return };
        self.part(media.head.tap, shard, batch);
        let counted = |p: &TapPart| p.part.lost > 0 && !p.closed;
        let own = self.parts.iter().position(|p| p.tap == media.head.tap && counted(p));
        let Some(at) = own.or_else(|| self.parts.iter().position(counted)) else { return };
        let part = &mut self.parts[at];
        part.part.lost -= 1;
        part.blocks.note_lost(-1);
        part.dirty = true;
    }

    /// Writes a gap that was noticed in a packet of `tap` in `shard`. Returns the row with its number.
    pub fn gap(
        &mut self,
        mut row: GapRow,
        (tap, shard): (TapId, ShardId),
        batch: &mut IndexBatch,
    ) -> (u32, GapRow) {
        let part = self.part(tap, shard, batch);
        row.shard = part.part.shard;
        part.part.lost += row.packets;
        part.blocks.note_lost(i64::try_from(row.packets).unwrap_or(i64::MAX));
        let n = part.gaps;
        part.gaps += 1;
        batch.put_gap(n, &row);
        (n, row)
    }

    /// Writes a sender report that came in a packet of `tap` in `shard`.
    pub fn report(&mut self, row: &RtcpRow, (tap, shard): (TapId, ShardId), batch: &mut IndexBatch) {
        let part = self.part(tap, shard, batch);
        batch.put_rtcp(part.part.shard, part.reports, row);
        part.reports += 1;
    }

    /// A shard of `tap` is complete.
    pub fn end_shard(&mut self, tap: TapId, shard: ShardId, batch: &mut IndexBatch) {
        for p in self.parts.iter_mut().filter(|p| p.tap == tap && p.part.shard == shard) {
            if let Some(block) = p.blocks.roll(ShardId(shard.0 + 1)) {
                batch.put_l2(block);
            }
            if !p.part.is_empty() {
                batch.put_part(&p.part);
            }
            (p.dirty, p.closed) = (false, true);
        }
    }

    /// No tap has another shard: what comes later comes from other taps. Of those before, the last are remembered that it was heard on.
    pub fn leave_taps(&mut self) {
        let excess = self.parts.len().saturating_sub(LEFT_MAX);
        self.parts.drain(..excess);
        for p in &mut self.parts {
            p.blocks = L2Builder::new(self.stream, self.id, self.flow, p.part.shard);
        }
    }

    /// Writes what has changed since the last time.
    pub fn put_open(&mut self, batch: &mut IndexBatch) {
        for p in self.parts.iter_mut().filter(|p| p.dirty) {
            p.dirty = false;
            if let Some(block) = p.blocks.encode_partial() {
                batch.put_l2(block);
            }
            if !p.part.is_empty() {
                batch.put_part(&p.part);
            }
        }
    }
}
