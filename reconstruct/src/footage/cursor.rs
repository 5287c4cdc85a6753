//! A cursor: one stream's RTP packets in sequence order, from any time on.
//!
//! Owns the way through a segment's blocks, from shard to shard, and on to the next segment; one session at a time, never a
//! mixture. What retention deletes while it reads is skipped: it goes on in the next shard that is there.
//! Costs: a block of either level decoded (about 50 KiB), [`AHEAD`] packets' places read ahead of the one that is given, and
//! what the reorder window holds (views of mappings).

use super::pieces::{Fetched, Pieces};
use super::seek::{self, Entrance, Rule};
use super::{Footage, FootageError, MediaPacket, ReorderLimits, Reorderer, Start};
use crate::index::{BlockCarriers, L2Key, L2Reader, MediaEntry, MediaFlags, StreamId};
use capture::{CaptureTime, ShardId};
use std::collections::VecDeque;

/// Packets whose records the system is told to fetch before they are touched.
const AHEAD: usize = 64;
/// Segments that ended, which are not entered again; of more, the oldest are so far back that no search finds them.
const ENDED_MAX: usize = 1024;

/// What a cursor could not give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CursorStats {
    /// Packets that retention deleted in the meantime.
    pub gone: u64,
    /// Packets whose bytes in the shard are damaged.
    pub damaged: u64,
    /// Packets that came twice, or too late for the reorder window.
    pub late: u64,
}

/// Reads a stream's packets. [`next`](Self::next) can be called again after `None`: a recording may have gone on.
pub struct Cursor {
    footage: Footage,
    stream: StreamId,
    to: CaptureTime,
    at: Option<At>,
    /// How to enter, while nothing was found to enter.
    start: (CaptureTime, Start),
    ended: VecDeque<crate::index::SegmentId>,
    pieces: Pieces,
    window: Reorderer,
    /// Everything up to here was given.
    given: Option<CaptureTime>,
    stats: CursorStats,
}

/// Where in a segment.
struct At {
    block: L2Key,
    /// Entries of the block that were decoded.
    decoded: u32,
    entries: VecDeque<MediaEntry>,
    /// Packets are left out until one fits.
    rule: Option<Rule>,
    /// Latest capture time seen in the segment.
    latest: CaptureTime,
    /// A packet beyond the end was seen.
    beyond: bool,
}

impl Cursor {
    pub(super) fn open(
        footage: Footage,
        stream: StreamId,
        from: CaptureTime,
        to: CaptureTime,
        start: Start,
    ) -> Result<Self, FootageError> {
        let mut cursor = Self {
            footage,
            stream,
            to,
            at: None,
            start: (from, start),
            ended: VecDeque::new(),
            pieces: Pieces::default(),
            window: Reorderer::new(ReorderLimits::default()),
            given: None,
            stats: CursorStats::default(),
        };
        cursor.footage.refresh()?;
        cursor.enter_first()?;
        Ok(cursor)
    }

    /// What could not be given so far.
    pub fn stats(&self) -> CursorStats {
        CursorStats { late: self.window.dropped(), ..self.stats }
    }

    /// The next packet in sequence order; `None` when there is none (yet).
    #[allow(clippy::should_implement_trait, reason = "it goes on after None, and fails")]
    pub fn next(&mut self) -> Result<Option<MediaPacket>, FootageError> {
        loop {
            if let Some(packet) = self.window.pop() {
                return Ok(Some(self.give(packet)));
            }
            if self.at.as_ref().is_some_and(|at| at.beyond) {
                return Ok(self.window.flush().map(|packet| self.give(packet)));
            }
            if self.read_one()? {
                continue;
            }
            // The segment has nothing more at the moment.
            if let Some(packet) = self.window.flush() {
                return Ok(Some(self.give(packet)));
            }
            self.footage.refresh()?;
            if self.more_of_segment()? {
                continue;
            }
            if !self.enter_next()? {
                return Ok(None);
            }
        }
    }

    fn give(&mut self, packet: MediaPacket) -> MediaPacket {
        self.given = Some(self.given.map_or(packet.time, |t| t.max(packet.time)));
        packet
    }

    fn enter_first(&mut self) -> Result<bool, FootageError> {
        let (from, start) = self.start;
        let entrance = seek::first(&self.footage, self.stream, from, start)?;
        self.enter(entrance)
    }

    /// From a segment that ended to another.
    fn enter_next(&mut self) -> Result<bool, FootageError> {
        let Some(at) = &self.at else { return self.enter_first() };
        let after = self.given.map_or(at.latest, |given| given.max(at.latest)).max(self.start.0);
        if after >= self.to {
            return Ok(false);
        }
        let (segment, ended) = (at.block.segment, self.ended.make_contiguous().to_vec());
        let ended = [&ended[..], &[segment]].concat();
        let entrance = seek::following(&self.footage, self.stream, after, &ended)?;
        if entrance.is_some() {
            if self.ended.len() == ENDED_MAX {
                self.ended.pop_front();
            }
            self.ended.push_back(segment);
        }
        self.enter(entrance)
    }

    fn enter(&mut self, entrance: Option<Entrance>) -> Result<bool, FootageError> {
        let Some(Entrance { block, rule, .. }) = entrance else { return Ok(false) };
        let (decoded, entries, latest) = (0, VecDeque::new(), CaptureTime::MIN);
        self.window.start_at(None);
        let mut at = At { block, decoded, entries, rule: Some(rule), latest, beyond: false };
        self.load(&mut at)?;
        if let Rule::LastCleanBefore(time) = rule {
            let fits = |e: &MediaEntry| is_clean(e) && e.time.millis() <= time.millis();
            match at.entries.iter().rposition(fits) {
                Some(clean) => {
                    let first = first_of_picture(&at.entries, clean);
                    at.entries.retain(|e| e.seq >= first);
                    at.rule = None;
                    self.window.start_at(Some(first));
                }
                None => at.rule = Some(Rule::FirstCleanFrom(CaptureTime::MIN)),
            }
            self.prefetch(&at)?;
        }
        self.at = Some(at);
        Ok(true)
    }

    /// Decodes what the current block has beyond what was decoded of it.
    fn load(&mut self, at: &mut At) -> Result<bool, FootageError> {
        let Some(bytes) = self.footage.index.l2(&at.block)? else { return Ok(false) };
        let damaged = |source| crate::index::IndexError::L2 { key: at.block, source };
        let mut reader = L2Reader::new(at.block.shard, bytes).map_err(damaged)?;
        if reader.entries() <= at.decoded {
            return Ok(false);
        }
        let mut carriers = BlockCarriers::new(&self.footage.index, at.block.shard);
        let mut number = 0;
        while let Some(entry) = reader.next_entry(&mut carriers).map_err(|e| e.locate(&at.block))? {
            number += 1;
            if number > at.decoded {
                at.entries.push_back(entry);
            }
        }
        at.decoded = number;
        Ok(true)
    }

    fn prefetch(&mut self, at: &At) -> Result<(), FootageError> {
        let soon: Vec<MediaEntry> = at.entries.iter().take(AHEAD).cloned().collect();
        self.pieces.prefetch(&self.footage, &soon)
    }

    /// Brings the segment's next packet into the window; false when the segment has none at the moment.
    fn read_one(&mut self) -> Result<bool, FootageError> {
        let Some(mut at) = self.at.take() else { return Ok(false) };
        let done = self.read_from(&mut at);
        self.at = Some(at);
        done
    }

    fn read_from(&mut self, at: &mut At) -> Result<bool, FootageError> {
        if at.entries.is_empty() && !self.next_block(at)? {
            return Ok(false);
        }
        if at.entries.len().is_multiple_of(AHEAD) {
            self.prefetch(at)?;
        }
        let Some(entry) = at.entries.pop_front() else { return Ok(true) };
        at.latest = at.latest.max(entry.time);
        if entry.time.millis() > self.to.millis() {
            // What was overtaken by this one can still be wanted.
            at.beyond = entry.time.nanos_since(self.to) > ReorderLimits::default().nanos;
            return Ok(true);
        }
        if entry.flags.contains(MediaFlags::DUPLICATE) {
            return Ok(true);
        }
        match at.rule {
            Some(Rule::FirstCleanFrom(time))
                if !(is_clean(&entry) || leads_to_clean(&entry, &at.entries))
                    || entry.time.millis() < time.millis() =>
            {
                return Ok(true);
            }
            Some(Rule::FirstFrom(time)) if entry.time.millis() < time.millis() => return Ok(true),
            _ => {}
        }
        match self.pieces.fetch(&self.footage, at.block.segment, &entry)? {
            Fetched::Packet(packet) if packet.time > self.to => {}
            Fetched::Packet(packet) => {
                if let Some(rule @ (Rule::FirstCleanFrom(time) | Rule::FirstFrom(time))) = at.rule {
                    if packet.time < time {
                        return Ok(true);
                    }
                    self.window.start_at(Some(match rule {
                        Rule::FirstFrom(_) => first_from(&entry, &at.entries),
                        _ => first_of_same(&entry, &at.entries),
                    }));
                }
                at.rule = None;
                self.window.push(packet);
            }
            Fetched::Damaged => self.stats.damaged += 1,
            Fetched::Gone(shard) => {
                self.stats.gone += 1;
                if shard == at.block.shard {
                    // The rest of the shard went as well.
                    self.stats.gone += at.entries.len() as u64;
                    at.entries.clear();
                }
            }
        }
        Ok(true)
    }

    /// Goes on to the segment's next block: in the same shard, or in the next one that has any. False when there is none.
    fn next_block(&mut self, at: &mut At) -> Result<bool, FootageError> {
        if self.load(at)? {
            // The block was open when it was read, and has grown.
            return Ok(true);
        }
        let next = L2Key { block: at.block.block + 1, ..at.block };
        if self.footage.index.l2(&next)?.is_some() {
            return self.go_to(at, next);
        }
        for shard in self.shards_after(at.block.shard) {
            let first = L2Key { shard, block: 0, ..at.block };
            if self.footage.index.has_segment(shard, at.block.segment)? {
                return self.go_to(at, first);
            }
        }
        Ok(false)
    }

    fn go_to(&mut self, at: &mut At, block: L2Key) -> Result<bool, FootageError> {
        (at.block, at.decoded) = (block, 0);
        let loaded = self.load(at)?;
        self.prefetch(at)?;
        Ok(loaded)
    }

    /// The shards in which a segment can go on: later ones of the same source.
    fn shards_after(&self, shard: ShardId) -> Vec<ShardId> {
        let shards = self.footage.store.shards();
        let source = shards.iter().find(|s| s.id == shard).map(|s| s.source);
        shards
            .iter()
            .filter(|s| s.id > shard && source.is_none_or(|of| s.source == of))
            .map(|s| s.id)
            .collect()
    }

    /// Whether the segment has grown since it seemed to be at its end.
    fn more_of_segment(&mut self) -> Result<bool, FootageError> {
        let Some(mut at) = self.at.take() else { return Ok(false) };
        let more = self.next_block(&mut at);
        self.at = Some(at);
        more
    }
}

/// Packets of one picture that are looked at for what comes before its clean point: delimiters, SEI, parameter sets.
const LEAD_MAX: usize = 16;
/// Packets after the first one that are looked at for what it overtook.
const OVERTAKEN_MAX: usize = 64;

/// The sequence number with which the picture begins that has its clean point at `clean`: a delimiter or an SEI can come before it,
/// and anything can have been overtaken on the way.
fn first_of_picture(entries: &VecDeque<MediaEntry>, clean: usize) -> u64 {
    let point = &entries[clean];
    let around = entries.range(clean.saturating_sub(LEAD_MAX)..(clean + OVERTAKEN_MAX).min(entries.len()));
    lowest(point, around.filter(|e| e.timestamp == point.timestamp), LEAD_MAX)
}

/// The same, of the picture that `entry` is the first of to be there.
fn first_of_same(entry: &MediaEntry, following: &VecDeque<MediaEntry>) -> u64 {
    let near = following.iter().take(OVERTAKEN_MAX).filter(|e| e.timestamp == entry.timestamp);
    lowest(entry, near, OVERTAKEN_MAX)
}

/// The lowest sequence number of what `entry` overtook, or its own.
fn first_from(entry: &MediaEntry, following: &VecDeque<MediaEntry>) -> u64 {
    lowest(entry, following.iter().take(OVERTAKEN_MAX), OVERTAKEN_MAX)
}

/// The lowest sequence number of `near`, not further back than `reach`: a camera can begin to count anew.
fn lowest<'a>(entry: &MediaEntry, near: impl Iterator<Item = &'a MediaEntry>, reach: usize) -> u64 {
    let lowest = entry.seq.saturating_sub(reach as u64);
    near.map(|e| e.seq).filter(|seq| *seq >= lowest).fold(entry.seq, u64::min)
}

/// Whether a packet belongs to a picture whose clean point follows it.
fn leads_to_clean(entry: &MediaEntry, following: &VecDeque<MediaEntry>) -> bool {
    following.iter().take(LEAD_MAX).any(|e| e.timestamp == entry.timestamp && is_clean(e))
}

fn is_clean(e: &MediaEntry) -> bool {
    e.flags.contains(MediaFlags::CLEAN) && !e.flags.contains(MediaFlags::DUPLICATE)
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
