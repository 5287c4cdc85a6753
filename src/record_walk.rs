//! A store's packets in the order of capture, whether they are in the index or not.

use crate::failure::Failure;
use capture::{CaptureTime, Chunk, ReadError, Record, Shard, ShardInfo, Store, StoreError, TapId};
use reconstruct::footage::Turns;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Goes through the packets of a time: each tap's shards one after the other, the taps by the times of their packets. Says where damage is, and
/// goes on behind it.
pub struct RecordWalk<'a> {
    store: &'a Store,
    from: CaptureTime,
    to: CaptureTime,
    taps: Vec<TapWalk>,
    turns: Turns,
}

/// What one tap has.
struct TapWalk {
    /// Those that are not opened yet.
    shards: VecDeque<ShardInfo>,
    open: Option<OpenShard>,
    next: Option<Record>,
}

struct OpenShard {
    info: ShardInfo,
    shard: Arc<Shard>,
    chunk: Option<Chunk>,
    /// Offset of the next record.
    at: u64,
}

impl<'a> RecordWalk<'a> {
    /// From `from` up to and including `to`.
    pub fn new(store: &'a Store, from: CaptureTime, to: CaptureTime) -> Self {
        let mut taps = BTreeMap::<TapId, VecDeque<ShardInfo>>::new();
        for info in store.shards() {
            // Of one that is being written only the reading tells.
            if info.times.is_none_or(|(first, last)| last >= from && first <= to) {
                taps.entry(info.tap).or_default().push_back(info);
            }
        }
        let tap = |shards| TapWalk { shards, open: None, next: None };
        let taps: Vec<TapWalk> = taps.into_values().map(tap).collect();
        let mut walk = Self { store, from, to, taps, turns: Turns::default() };
        (0..walk.taps.len()).for_each(|n| walk.enter(n));
        walk
    }

    /// The next packet, and its shard.
    pub fn next_packet(&mut self) -> Result<Option<(Record, Arc<Shard>)>, Failure> {
        while let Some(n) = self.turns.take() {
            let tap = &mut self.taps[n];
            let found = tap.next.take();
            let shard = tap.open.as_ref().map(|open| open.shard.clone());
            tap.advance(self.store, (self.from, self.to))?;
            self.enter(n);
            if let (Some(record), Some(shard)) = (found, shard) {
                return Ok(Some((record, shard)));
            }
        }
        Ok(None)
    }

    /// A tap waits for its turn, with its next packet or its next shard.
    fn enter(&mut self, n: usize) {
        let tap = &self.taps[n];
        let first = |info: &ShardInfo| info.times.map_or(CaptureTime::MIN, |(first, _)| first);
        if let Some(time) = tap.next.as_ref().map(|next| next.time).or(tap.shards.front().map(first)) {
            self.turns.enter(n, time);
        }
    }
}

impl TapWalk {
    /// Goes to the next packet of the shard that is open; if there is none, opens the next one.
    fn advance(&mut self, store: &Store, range: (CaptureTime, CaptureTime)) -> Result<(), Failure> {
        if let Some(open) = &mut self.open {
            self.next = open.next_within(range)?;
            if self.next.is_some() {
                return Ok(());
            }
        }
        self.open = None;
        let Some(info) = self.shards.pop_front() else { return Ok(()) };
        match store.shard_if_retained(info.id) {
            Ok(Some(shard)) => {
                let mut open = OpenShard { info, shard, chunk: None, at: 0 };
                self.next = open.next_within(range)?;
                self.open = Some(open);
            }
            Ok(None) => {}
            // Missing, which must not hide the others.
            Err(gone @ StoreError::Gone { .. }) => tracing::warn!("{gone}"),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

impl OpenShard {
    fn next_within(&mut self, (from, to): (CaptureTime, CaptureTime)) -> Result<Option<Record>, Failure> {
        loop {
            while let Some(record) = self.chunk.as_ref().and_then(|chunk| chunk.record(self.at)) {
                self.at = record.offset + capture::RECORD_HEADER_LEN + record.data.len() as u64;
                if record.time >= from && record.time <= to {
                    return Ok(Some(record));
                }
            }
            match self.shard.chunk(self.at) {
                Ok(Some(chunk)) => {
                    self.at = chunk.base;
                    self.chunk = Some(chunk);
                }
                Ok(None) => return Ok(None),
                Err(torn @ ReadError::Torn { .. }) => {
                    tracing::warn!("{torn}");
                    // The next place that is known to begin a record; without one, the rest can't be read.
                    let Some(next) = self.info.anchors.iter().copied().find(|anchor| *anchor > self.at)
                    else {
                        return Ok(None);
                    };
                    (self.at, self.chunk) = (next, None);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
