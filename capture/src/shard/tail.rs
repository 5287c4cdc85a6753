//! Reads a tap's shards in order, up to the packet that was published last: what the indexer follows.

use super::cold::{ColdReader, WINDOW};
use super::live::TapLive;
use super::reader::{Chunk, Shard, ShardBytes};
use crate::store::Store;
use crate::{CaptureTime, ReadError, ShardId, StoreError, TapId};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a reader of what has left memory waits when the disk is behind with writing.
const GIVE_WAY: Duration = Duration::from_millis(5);

/// A place in a tap's packets that moves on.
#[derive(Debug)]
pub struct TapTail {
    store: Store,
    tap: TapId,
    live: Option<Arc<TapLive>>,
    cold: ColdReader,
    current: Option<Arc<Shard>>,
    /// The shard and the offset of the next record.
    position: (ShardId, u64),
    watermark: CaptureTime,
}

impl Drop for TapTail {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            live.followers.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl TapTail {
    /// Begins behind `position` (a shard and the offset of the next record), or with the tap's oldest retained shard.
    pub fn new(store: &Store, tap: TapId, position: Option<(ShardId, u64)>) -> Self {
        let live = store.live_tap(tap);
        if let Some(live) = &live {
            live.followers.fetch_add(1, Ordering::AcqRel);
        }
        Self {
            store: store.clone(),
            tap,
            live,
            cold: ColdReader::default(),
            current: None,
            position: position.unwrap_or((ShardId(0), 0)),
            watermark: CaptureTime::MIN,
        }
    }

    /// The tap.
    pub fn tap(&self) -> TapId {
        self.tap
    }

    /// The shard and the offset of the next record.
    pub fn position(&self) -> (ShardId, u64) {
        self.position
    }

    /// Nothing earlier than this will come after what [`next`](Self::next) has given. Moves on when `next` gives nothing.
    pub fn watermark(&self) -> CaptureTime {
        self.watermark
    }

    /// Whether the tap is closed; together with a `next` that gave nothing afterwards, that was all.
    pub fn finished(&self) -> bool {
        self.live.as_ref().is_none_or(|live| live.finished.load(Ordering::Acquire))
    }

    /// The next records, `None` when there are none at the moment. Shards that retention has deleted are passed over. A chunk of a sealed
    /// shard is not looked at yet: see [`Shard::unread_chunk`].
    #[allow(clippy::should_implement_trait, reason = "`None` is not the end")]
    pub fn next(&mut self) -> Result<Option<(Arc<Shard>, Chunk)>, ReadError> {
        // Asked before the packets: those that are published in between may be earlier than a watermark set after them.
        let watermark = match &self.live {
            Some(live) if !self.finished() => CaptureTime::from_nanos(live.watermark.load(Ordering::Acquire)),
            _ => CaptureTime::MAX,
        };
        let next = self.advance()?;
        if next.is_none() {
            self.watermark = self.watermark.max(watermark);
        }
        Ok(next)
    }

    fn advance(&mut self) -> Result<Option<(Arc<Shard>, Chunk)>, ReadError> {
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(shard) = self.current.clone() else { return Ok(None) };
            // Asked before the chunk: what was published until then is in it.
            let sealed = shard.sealed();
            let unread = shard.unread_chunk(self.position.1);
            if let Some(mut chunk) = unread.map_or_else(|| shard.chunk(self.position.1), |c| Ok(Some(c)))? {
                self.position = (shard.id(), chunk.end());
                if let Some(live) = &self.live {
                    live.followed.fetch_add(chunk.bytes.len() as u64, Ordering::AcqRel);
                    self.warm(&mut chunk, &shard);
                }
                return Ok(Some((shard, chunk)));
            }
            if !sealed {
                return Ok(None);
            }
            self.current = None;
            self.cold.close();
            self.position = (ShardId(shard.id().0 + 1), 0);
        }
    }

    /// What has left memory before it was followed is read without the page cache.
    fn warm(&mut self, chunk: &mut Chunk, shard: &Shard) {
        let Some(live) = self.live.as_ref().filter(|_| chunk.bytes.mapped()) else { return };
        // The disk is the tap's first: who is behind reads little, or waits, while packets wait to be written.
        let (waiting, room) = live.queue();
        if waiting > room / 2 {
            std::thread::sleep(GIVE_WAY);
        }
        let window = if waiting > room / 8 { 0 } else { WINDOW };
        let (dir, range) = (self.store.shards_dir(), chunk.base..chunk.end());
        if let Some((buffer, start)) = self.cold.read(&dir, shard.id(), shard.in_file(), range, window) {
            chunk.bytes = ShardBytes::read(buffer, start, chunk.bytes.len());
        }
    }

    /// Leaves out damage that was met at the current place: goes on at `offset` of the same shard, or behind the shard.
    pub fn skip_to(&mut self, offset: Option<u64>) {
        match offset {
            Some(offset) => self.position.1 = offset,
            None => {
                self.current = None;
                self.cold.close();
                self.position = (ShardId(self.position.0.0 + 1), 0);
            }
        }
    }

    fn open_next(&mut self) -> Result<bool, ReadError> {
        loop {
            let Some(id) = self.store.next_shard_of(self.tap, self.position.0) else { return Ok(false) };
            if id != self.position.0 {
                self.position = (id, 0);
            }
            match self.store.shard(id) {
                Ok(shard) => {
                    self.current = Some(shard);
                    return Ok(true);
                }
                Err(StoreError::Gone { .. }) => self.position = (ShardId(id.0 + 1), 0),
                Err(e) => return Err(e.into()),
            }
        }
    }
}
