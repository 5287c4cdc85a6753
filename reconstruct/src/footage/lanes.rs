//! A segment's packets in the order of capture, whichever taps captured them.
//!
//! A session that is heard on two interfaces has each of its packets in a shard of the tap that heard it first. Owns one lane for each tap:
//! its blocks, one after the other, from shard to shard; and the merge of lanes by capture time. With one tap there is one lane.
//! Costs: a lane that has nothing more is looked at again once a block of another lane, with three reads of the index; what other
//! taps have is looked for once a block, in the time directory around it. Where all of them have nothing more, each later shard of the
//! recording is looked into, with one read; it may have gone on in another part meanwhile, with other taps.

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
    /// No other tap can have anything of it at the same time.
    alone: bool,
    /// Entries were read that nobody was told of.
    fresh: bool,
    /// Milliseconds up to which packets were taken.
    seen: i64,
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
        Ok(Self { stream, segment, lanes, alone, fresh: true, seen: i64::MIN })
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

    /// Takes the next packet.
    pub fn pop(&mut self) -> Option<MediaEntry> {
        let entry = self.due()?.entries.pop_front()?;
        self.seen = self.seen.max(entry.time.millis());
        Some(entry)
    }

    /// Reads on where a lane is used up; false when all are, and nothing is there at the moment.
    pub fn fill(&mut self, footage: &Footage) -> Result<bool, FootageError> {
        while let Some(n) = self.lanes.iter().position(|lane| lane.entries.is_empty() && !lane.dry) {
            let before = self.lanes[n].block;
            if !self.lanes[n].advance(footage)? {
                self.lanes[n].dry = true;
                continue;
            }
            self.fresh = true;
            if self.lanes[n].block != before {
                self.join_up_to(footage, n)?;
            }
            // Those that were used up may have grown as well.
            self.look_again();
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

    /// A lane has come to another block: whatever others have up to there is not to be passed by.
    fn join_up_to(&mut self, footage: &Footage, n: usize) -> Result<(), FootageError> {
        match self.lanes[n].entries.front().map(|e| e.time.millis()) {
            Some(ms) => self.look_around(footage, ms),
            None => Ok(()),
        }
    }

    /// Takes in what other taps have of the segment around a time, at which reading begins.
    pub fn join(&mut self, footage: &Footage, time: CaptureTime) -> Result<(), FootageError> {
        self.seen = time.millis();
        self.look_around(footage, time.millis())
    }

    /// Looks in the time directory from what was taken to `up_to` for taps that have no lane, and for blocks with which lanes go on that
    /// are used up.
    fn look_around(&mut self, footage: &Footage, up_to: i64) -> Result<(), FootageError> {
        if self.alone {
            return Ok(());
        }
        let (segment, seen) = (self.segment, self.seen.min(up_to));
        let mut beside = SmallVec::<[(TapId, L2Key); 2]>::new();
        let lanes = &self.lanes;
        let mut look = |entry: DirectoryEntry| {
            if entry.block.segment != segment {
                return;
            }
            let Some(tap) = footage.store.shard_info(entry.block.shard).map(|info| info.tap) else { return };
            let lane = lanes.iter().find(|lane| lane.tap == Some(tap));
            // Nothing is read twice, and nothing of a tap is passed by.
            if lane.is_some_and(|lane| !lane.dry || place(&entry.block) <= place(&lane.block)) {
                return;
            }
            match beside.iter_mut().find(|(other, _)| *other == tap) {
                // Of a new one, the block in which the time lies; before it, everything was taken.
                Some((_, block)) if lane.is_none() && entry.row.first.millis() <= seen => {
                    *block = entry.block
                }
                Some(_) => {}
                None => beside.push((tap, entry.block)),
            }
        };
        let window = (seen.saturating_sub(REACH_MS), up_to.saturating_add(REACH_MS));
        footage.index.directory(self.stream, window.0, window.1, |entry| {
            look(entry);
            true
        })?;
        for (tap, block) in beside {
            self.put(footage, tap, block)?;
        }
        Ok(())
    }

    /// A tap goes on, or begins, with a block.
    fn put(&mut self, footage: &Footage, tap: TapId, block: L2Key) -> Result<(), FootageError> {
        let mut lane = Lane::new(Some(tap), block);
        lane.load(footage)?;
        self.fresh = true;
        match self.lanes.iter_mut().find(|lane| lane.tap == Some(tap)) {
            Some(own) => *own = lane,
            None => self.lanes.push(lane),
        }
        Ok(())
    }

    /// All lanes are used up: each tap's next shard of those that have any of the segment, however far it is. Where a part of the recording has
    /// nothing more, the next is looked into.
    fn go_far(&mut self, footage: &Footage) -> Result<bool, FootageError> {
        let source_of = |lane: &Lane| footage.store.shard_info(lane.block.shard).map(|info| info.source);
        let Some(source) = self.lanes.iter().filter_map(source_of).max() else { return Ok(false) };
        let parts = footage.store.recording(source).into_iter().filter(|(part, _)| *part >= source);
        for (part, taps) in parts {
            let mut found = SmallVec::<[(TapId, L2Key); 2]>::new();
            for tap in taps {
                found.extend(self.next_of(footage, tap)?);
            }
            if !found.is_empty() {
                self.alone &= part == source;
                for (tap, block) in found {
                    self.put(footage, tap, block)?;
                }
                break;
            }
        }
        Ok(self.lanes.iter().any(|lane| !lane.entries.is_empty()))
    }

    /// Where a tap goes on, behind its lane.
    fn next_of(&self, footage: &Footage, tap: TapId) -> Result<Option<(TapId, L2Key)>, FootageError> {
        let at = self.lanes.iter().find(|lane| lane.tap == Some(tap)).map(|lane| lane.block.shard);
        // What a tap without a lane has begins behind what was taken: else it would have one.
        let mut from = at.map_or(ShardId(0), |at| ShardId(at.0.saturating_add(1)));
        while let Some(shard) = footage.store.next_shard_of(tap, from) {
            let over = |info: capture::ShardInfo| info.times.is_some_and(|(_, end)| end.millis() < self.seen);
            let passed = at.is_none() && footage.store.shard_info(shard).is_some_and(over);
            if !passed && footage.index.has_segment(shard, self.segment)? {
                return Ok(Some((tap, L2Key { shard, segment: self.segment, block: 0 })));
            }
            from = ShardId(shard.0.saturating_add(1));
        }
        Ok(None)
    }
}

/// Where in its tap's shards a block lies.
fn place(block: &L2Key) -> (ShardId, u32) {
    (block.shard, block.block)
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
        footage.store.next_shard_of(self.tap?, ShardId(self.block.shard.0.saturating_add(1)))
    }

    fn go_to(&mut self, footage: &Footage, block: L2Key) -> Result<bool, FootageError> {
        (self.block, self.decoded) = (block, 0);
        self.load(footage)
    }
}
