//! What the writer of a tap shares with the threads that bring its bytes to disk and with its readers.

use super::bell::Bell;
use super::file::ShardFile;
use super::slot::{BlockTable, Pin, Slots};
use super::staging::{CommitWord, Published, SLOT_LEN};
use crate::hash::ShardHasher;
use crate::store::TapInfo;
use crate::{CaptureTime, ShardId, StoreError};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// A shard that is being written, flushed or sealed.
#[derive(Debug)]
pub(crate) struct LiveShard {
    pub id: ShardId,
    pub size: u64,
    pub file: ShardFile,
    /// Its place in the staging file's table of commit words.
    pub place: usize,
    /// Bytes that are in the file.
    pub flushed: AtomicU64,
    /// The last publication that is in the file as a whole: what a mark may name once it is synced.
    pub whole: Mutex<Option<Published>>,
    /// Its final length once the writer has moved on; 0 before.
    pub full_at: AtomicU64,
    pub sealed: AtomicBool,
    /// What it was published with when it was sealed, since then its commit word serves another shard.
    pub last_published: Mutex<Option<Published>>,
    pub first: AtomicI64,
    pub last: AtomicI64,
    pub slots: Arc<Slots>,
    /// The slots of its blocks.
    pub blocks: BlockTable,
    /// Where records begin and end in each block: nobody has to walk through it to know.
    marks: Box<[BlockMarks]>,
    /// What was hashed of it out of staging; `None` when that is not wanted, or came too late.
    hasher: Mutex<Option<ShardHasher>>,
}

impl LiveShard {
    /// What was hashed. Of one that panicked nothing is believed.
    pub fn hasher(&self) -> MutexGuard<'_, Option<ShardHasher>> {
        self.hasher.lock().unwrap_or_else(|poisoned| {
            let mut half = poisoned.into_inner();
            *half = None;
            half
        })
    }

    /// `place` is its own in the table of commit words.
    pub fn new(
        id: ShardId,
        file: ShardFile,
        size: u64,
        place: usize,
        slots: &Arc<Slots>,
        hash: bool,
    ) -> Self {
        Self {
            id,
            size,
            file,
            place,
            flushed: AtomicU64::new(0),
            whole: Mutex::default(),
            full_at: AtomicU64::new(0),
            sealed: AtomicBool::new(false),
            last_published: Default::default(),
            first: AtomicI64::new(i64::MAX),
            last: AtomicI64::new(i64::MIN),
            slots: slots.clone(),
            blocks: BlockTable::new(size),
            // One more than blocks: where the last one is full, the next record would begin behind it.
            marks: (0..=size.div_ceil(SLOT_LEN)).map(|_| BlockMarks::default()).collect(),
            hasher: Mutex::new(hash.then(ShardHasher::default)),
        }
    }

    pub fn word(&self) -> &CommitWord {
        self.slots.staging().commit_word(self.place)
    }

    /// Whether anything was written into it, be it its header: the writer has come to it.
    pub fn begun(&self) -> bool {
        self.published().committed > 0
    }

    /// Notes that a record begins at `offset`, the first in its block. For the writer alone.
    pub fn set_first_record(&self, offset: u64) {
        if let Some(marks) = self.marks.get((offset / SLOT_LEN) as usize) {
            marks.first.store(offset, Ordering::Release);
        }
    }

    /// Notes that the last record that ends in a block ends at `offset`, before anything behind it is published. For the writer alone.
    pub fn set_whole_end(&self, block: u64, offset: u64) {
        if let Some(marks) = self.marks.get(block as usize) {
            marks.end.store(offset, Ordering::Release);
        }
    }

    /// Where the last whole record of a block ends, of which something behind its end is published.
    pub fn whole_end(&self, block: u64) -> Option<u64> {
        let end = self.marks.get(block as usize)?.end.load(Ordering::Acquire);
        (end != 0).then_some(end)
    }

    /// The offset in each block of the first record that begins there, in order, for `verify` to find its way after damage.
    pub fn anchors(&self) -> Vec<u64> {
        self.marks.iter().map(|m| m.first.load(Ordering::Acquire)).filter(|a| *a != 0).collect()
    }

    pub fn published(&self) -> Published {
        let nothing = Published { shard: self.id, committed: 0, packets: 0 };
        if let Some(last) = *lock(&self.last_published) {
            return last;
        }
        match self.word().load() {
            Some(p) if p.shard == self.id => p,
            // Sealed between the two looks.
            _ => lock(&self.last_published).unwrap_or(nothing),
        }
    }

    /// The earliest and the latest time of a packet, when there is one.
    pub fn times(&self) -> Option<(CaptureTime, CaptureTime)> {
        let (first, last) = (self.first.load(Ordering::Acquire), self.last.load(Ordering::Acquire));
        (first != i64::MAX).then_some((CaptureTime::from_nanos(first), CaptureTime::from_nanos(last)))
    }

    /// The slot that holds a block; without one the block is in the file.
    pub fn pin(&self, block: u64) -> Option<Pin> {
        self.slots.pin(self.id, block, &self.blocks)
    }
}

/// Who brings bytes to the disk, and can be kept from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Flusher,
    Keeper,
    Hasher,
}

impl Who {
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What is in the way of each.
#[derive(Debug, Default)]
pub(crate) struct Troubles([Option<StoreError>; 3]);

impl Troubles {
    pub fn first(&self) -> Option<&StoreError> {
        self.0.iter().flatten().next()
    }

    pub fn take(&mut self) -> Option<StoreError> {
        self.0.iter_mut().find_map(Option::take)
    }
}

/// Offsets in a block; 0 where it is not known yet.
#[derive(Debug, Default)]
struct BlockMarks {
    /// Of the first record that begins in it.
    first: AtomicU64,
    /// Behind the last record that ends in it.
    end: AtomicU64,
}

/// One tap that is being written.
#[derive(Debug)]
pub(crate) struct TapLive {
    pub info: TapInfo,
    pub slots: Arc<Slots>,
    /// Oldest first, with the one that is made ready ahead of the writer; at most `OPEN_SHARDS`. Never locked by the writer.
    pub shards: RwLock<VecDeque<Arc<LiveShard>>>,
    /// Nothing earlier will come on this tap.
    pub watermark: AtomicI64,
    pub finished: AtomicBool,
    pub flusher: Bell,
    /// The flusher has ended: what is not in a file then stays in staging, for recovery.
    pub flusher_done: AtomicBool,
    pub keeper: Bell,
    pub hashing: Bell,
    /// Who reads it as it is written, and how many bytes they were given in all.
    pub followers: AtomicUsize,
    pub followed: AtomicU64,
    /// What keeps bytes from reaching the disk, while it does.
    pub troubles: Mutex<Troubles>,
    /// Whom anything does, a bit each: for the writer, which takes no lock.
    pub in_trouble: AtomicU8,
}

impl TapLive {
    pub fn shards(&self) -> Vec<Arc<LiveShard>> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// One of the open shards, also the one that is made ready.
    pub fn shard(&self, id: ShardId) -> Option<Arc<LiveShard>> {
        self.shards().into_iter().find(|s| s.id == id)
    }

    /// Adds a shard.
    pub fn insert(&self, shard: Arc<LiveShard>) {
        self.shards.write().unwrap_or_else(PoisonError::into_inner).push_back(shard);
    }

    /// Takes a shard out.
    pub fn remove(&self, id: ShardId) {
        self.shards.write().unwrap_or_else(PoisonError::into_inner).retain(|s| s.id != id);
    }

    /// Keeps what is in a thread's way; logged once, not at every try.
    pub fn say(&self, who: Who, trouble: StoreError) {
        let mut troubles = lock(&self.troubles);
        if troubles.0[who as usize].is_none() {
            match trouble {
                // Whoever waits for room tells of it.
                StoreError::Full { .. } => tracing::debug!(tap = %self.info.id, "{trouble}"),
                // Tried again, perhaps with success: still a disk to look at.
                _ => tracing::warn!(tap = %self.info.id, "{trouble}"),
            }
        }
        troubles.0[who as usize] = Some(trouble);
        self.in_trouble.fetch_or(who.bit(), Ordering::AcqRel);
    }

    /// Whether a writer waits in vain: for room in its shard, or, with `another`, for another shard.
    pub fn refuses(&self, another: bool) -> bool {
        let whose = Who::Flusher.bit() | Who::Hasher.bit() | if another { Who::Keeper.bit() } else { 0 };
        self.in_trouble.load(Ordering::Acquire) & whose != 0
    }

    /// Nothing is in a thread's way any more.
    pub fn well(&self, who: Who) {
        let mut troubles = lock(&self.troubles);
        troubles.0[who as usize] = None;
        self.in_trouble.fetch_and(!who.bit(), Ordering::AcqRel);
    }

    /// Bytes that are published and not in a file yet, and the room for them.
    pub fn queue(&self) -> (u64, u64) {
        let waiting = self
            .shards()
            .iter()
            .map(|s| s.published().committed.saturating_sub(s.flushed.load(Ordering::Acquire)))
            .sum();
        (waiting, self.slots.staging().slots() as u64 * SLOT_LEN)
    }
}

/// A panicking thread leaves these plain values whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
