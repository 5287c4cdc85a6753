//! A segment's packets in the order of capture, whichever taps captured them.
//!
//! A session that is heard on two interfaces has each of its packets in a shard of the tap that heard it first. Owns one lane for each tap:
//! its blocks, one after the other, from shard to shard; and the merge of lanes by capture time. With one tap there is one lane.
//! Costs: a lane that has nothing more is looked at again once a block of another lane, with three reads of the index; who else
//! heard the segment is looked for once a block, in the time directory around it.

use super::{Footage, FootageError};
use crate::index::{
    BLOCK_NANOS_MAX, BlockCarriers, DirectoryEntry, L2Key, L2Reader, MediaEntry, SegmentId, StreamId,
};
use capture::{CaptureTime, ShardId, TapId};
use smallvec::SmallVec;
use std::collections::VecDeque;

/// Blocks reach at most this far from their first packet.
const REACH_MS: i64 = BLOCK_NANOS_MAX / 1_000_000 + 1;

/// See the module's text.
pub(super) struct Lanes {
    stream: StreamId,
    segment: SegmentId,
    lanes: SmallVec<[Lane; 1]>,
    /// No other tap of the source can have anything of it.
    alone: bool,
    /// Entries were read that nobody was told of.
    fresh: bool,
}

/// What one tap has.
pub(super) struct Lane {
    tap: Option<TapId>,
    pub block: L2Key,
    /// Entries of the block that were decoded.
    decoded: u32,
    pub entries: VecDeque<MediaEntry>,
    /// Nothing more was there when it was looked at last.
    dry: bool,
}

impl Lanes {
    /// From a block on; what other taps have beside it is [joined](Self::join).
    pub fn open(footage: &Footage, stream: StreamId, block: L2Key) -> Result<Self, FootageError> {
        let info = footage.store.shard_info(block.shard);
        let taps = |source| footage.store.taps().iter().filter(|t| t.source == source).count();
        let alone = info.as_ref().is_none_or(|info| taps(info.source) < 2);
        let mut lane = Lane::new(info.map(|info| info.tap), block);
        lane.load(footage)?;
        let (segment, lanes) = (block.segment, SmallVec::from_iter([lane]));
        Ok(Self { stream, segment, lanes, alone, fresh: true })
    }

    /// The segment.
    pub fn segment(&self) -> SegmentId {
        self.segment
    }

    /// Whether entries were read since this was asked last.
    pub fn take_fresh(&mut self) -> bool {
        std::mem::take(&mut self.fresh)
    }

    /// All lanes.
    pub fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter()
    }

    /// All lanes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.lanes.iter_mut()
    }

    /// The next packets of each lane.
    pub fn following(&self, each: usize) -> impl Iterator<Item = &MediaEntry> {
        self.lanes.iter().flat_map(move |lane| lane.entries.iter().take(each))
    }

    /// The lane that has the next packet, of those that are read.
    pub fn due(&mut self) -> Option<&mut Lane> {
        let next = |lane: &Lane| lane.entries.front().map(|e| (e.time.millis(), e.seq));
        let due = self.lanes.iter_mut().filter(|lane| !lane.entries.is_empty());
        due.min_by_key(|lane| next(lane))
    }

    /// Reads on where a lane is used up; false when all are, and nothing is there at the moment.
    pub fn fill(&mut self, footage: &Footage) -> Result<bool, FootageError> {
        while let Some(n) = self.lanes.iter().position(|lane| lane.entries.is_empty() && !lane.dry) {
            let before = self.lanes[n].block;
            if !self.lanes[n].advance(footage)? {
                self.lanes[n].dry = true;
                continue;
            }
            // Those that were used up may have grown as well.
            self.look_again();
            self.fresh = true;
            if self.lanes[n].block != before {
                self.join_beside(footage, n)?;
            }
        }
        if self.lanes.iter().any(|lane| !lane.entries.is_empty()) {
            return Ok(true);
        }
        self.go_far(footage)
    }

    /// Lanes that had nothing more may have grown.
    pub fn look_again(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.dry = false);
    }

    fn join_beside(&mut self, footage: &Footage, n: usize) -> Result<(), FootageError> {
        match self.lanes[n].entries.front().map(|e| e.time) {
            Some(time) if !self.alone => self.join(footage, time),
            _ => Ok(()),
        }
    }

    /// Takes in what other taps have of the segment around a time.
    pub fn join(&mut self, footage: &Footage, time: CaptureTime) -> Result<(), FootageError> {
        if self.alone {
            return Ok(());
        }
        let ms = time.millis();
        let (segment, mut beside) = (self.segment, Vec::<(TapId, DirectoryEntry)>::new());
        let window = (ms.saturating_sub(REACH_MS), ms.saturating_add(REACH_MS));
        footage.index.directory(self.stream, window.0, window.1, |entry| {
            if entry.block.segment == segment
                && let Some(tap) = footage.store.shard_info(entry.block.shard).map(|info| info.tap)
            {
                match beside.iter_mut().find(|(other, _)| *other == tap) {
                    // The last that begins before the time, else the first behind it.
                    Some((_, best)) if entry.row.first.millis() <= ms => *best = entry,
                    Some(_) => {}
                    None => beside.push((tap, entry)),
                }
            }
            true
        })?;
        for (tap, DirectoryEntry { block, .. }) in beside {
            let place = |key: &L2Key| (key.shard, key.block);
            match self.lanes.iter_mut().find(|lane| lane.tap == Some(tap)) {
                Some(lane) if !lane.dry || place(&lane.block) >= place(&block) => {}
                Some(lane) => *lane = Lane::new(Some(tap), block),
                None => self.lanes.push(Lane::new(Some(tap), block)),
            }
        }
        for lane in self.lanes.iter_mut().filter(|lane| lane.decoded == 0) {
            lane.load(footage)?;
        }
        Ok(())
    }

    /// All lanes are used up: on in the next shard of the source that has any of the segment, however far it is.
    fn go_far(&mut self, footage: &Footage) -> Result<bool, FootageError> {
        let shards = footage.store.shards();
        let newest = self.lanes.iter().map(|lane| lane.block.shard).max();
        let source = newest.and_then(|newest| shards.iter().find(|s| s.id == newest)).map(|s| s.source);
        for shard in shards.iter().filter(|s| source.is_none_or(|of| s.source == of)) {
            let own = self.lanes.iter().position(|lane| lane.tap == Some(shard.tap));
            let last = own.map(|n| self.lanes[n].block.shard).or(newest);
            if last.is_some_and(|last| shard.id <= last)
                || !footage.index.has_segment(shard.id, self.segment)?
            {
                continue;
            }
            let block = L2Key { shard: shard.id, segment: self.segment, block: 0 };
            let mut lane = Lane::new(Some(shard.tap), block);
            let loaded = lane.load(footage)?;
            let n = own.unwrap_or(self.lanes.len());
            match own {
                Some(n) => self.lanes[n] = lane,
                None => self.lanes.push(lane),
            }
            self.fresh = true;
            self.join_beside(footage, n)?;
            return Ok(loaded);
        }
        Ok(false)
    }
}

impl Lane {
    fn new(tap: Option<TapId>, block: L2Key) -> Self {
        Self { tap, block, decoded: 0, entries: VecDeque::new(), dry: false }
    }

    /// Decodes what the current block has beyond what was decoded of it.
    fn load(&mut self, footage: &Footage) -> Result<bool, FootageError> {
        let Some(bytes) = footage.index.l2(&self.block)? else { return Ok(false) };
        let damaged = |source| crate::index::IndexError::L2 { key: self.block, source };
        let mut reader = L2Reader::new(self.block.shard, bytes).map_err(damaged)?;
        if reader.entries() <= self.decoded {
            return Ok(false);
        }
        let mut carriers = BlockCarriers::new(&footage.index, self.block.shard);
        let mut number = 0;
        while let Some(entry) = reader.next_entry(&mut carriers).map_err(|e| e.locate(&self.block))? {
            number += 1;
            if number > self.decoded {
                self.entries.push_back(entry);
            }
        }
        self.decoded = number;
        Ok(true)
    }

    /// What its block has gained, or its next block, or the first in the tap's next shard.
    fn advance(&mut self, footage: &Footage) -> Result<bool, FootageError> {
        if self.load(footage)? {
            return Ok(true);
        }
        let next = L2Key { block: self.block.block + 1, ..self.block };
        if footage.index.l2(&next)?.is_some() {
            return self.go_to(footage, next);
        }
        let Some(shard) = self.next_shard(footage) else { return Ok(false) };
        match footage.index.has_segment(shard, self.block.segment)? {
            true => self.go_to(footage, L2Key { shard, block: 0, ..self.block }),
            false => Ok(false),
        }
    }

    fn next_shard(&self, footage: &Footage) -> Option<ShardId> {
        let shards = footage.store.shards();
        let mut later = shards.iter().filter(|s| s.id > self.block.shard && Some(s.tap) == self.tap);
        later.next().map(|s| s.id)
    }

    fn go_to(&mut self, footage: &Footage, block: L2Key) -> Result<bool, FootageError> {
        (self.block, self.decoded) = (block, 0);
        self.load(footage)
    }
}
