//! What the writer of a tap shares with the threads that bring its bytes to disk and with its readers.

use super::file::ShardFile;
use super::staging::{CommitWord, Published, SLOT_LEN, Staging};
use crate::hash::ShardHasher;
use crate::store::TapInfo;
use crate::{CaptureTime, ShardId, StoreError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

/// A slot of the staging file. Whoever holds an `Arc` of it besides the pool and its shard keeps its bytes from being written over.
#[derive(Debug)]
pub(crate) struct Slot {
    pub index: usize,
    pub staging: Arc<Staging>,
    /// Holds bytes that are not on disk yet, or, where the writer waits for that, not hashed.
    pub busy: AtomicBool,
    /// The block whose bytes it holds: readers get them from here until the writer needs the slot, not only until they are on disk.
    /// Who follows a recording reads memory that way, not the disk. Only the writer locks it.
    holds: Mutex<Option<(Weak<LiveShard>, u64)>>,
}

impl Slot {
    pub fn new(index: usize, staging: Arc<Staging>) -> Self {
        Self { index, staging, busy: AtomicBool::new(false), holds: Mutex::new(None) }
    }

    /// The writer begins a block in it.
    pub fn hold(self: &Arc<Self>, shard: &Arc<LiveShard>, block: u64) {
        self.busy.store(true, Ordering::Release);
        *lock(&self.holds) = Some((Arc::downgrade(shard), block));
        shard.blocks.write().unwrap_or_else(PoisonError::into_inner).insert(block, self.clone());
    }

    /// Takes it out of its shard's table, if its bytes are on disk and nobody reads them.
    fn vacate(self: &Arc<Self>) -> bool {
        if self.busy.load(Ordering::Acquire) {
            return false;
        }
        let mut holds = lock(&self.holds);
        if let Some((shard, block)) = &*holds
            && let Some(shard) = shard.upgrade()
        {
            // A reader is looking something up: another slot is found sooner than this one waited for.
            let Ok(mut blocks) = shard.blocks.try_write() else { return false };
            // The pool's and the table's. While the table is locked nobody can begin to read.
            if Arc::strong_count(self) > 2 {
                return false;
            }
            blocks.remove(block);
        }
        *holds = None;
        let free = Arc::strong_count(self) == 1;
        // Pairs with the release of the reader that dropped its pin.
        fence(Ordering::Acquire);
        free
    }

    /// Whether it is on disk, and only readers keep it from being used again.
    fn held(self: &Arc<Self>) -> bool {
        let listed = lock(&self.holds).as_ref().is_some_and(|(shard, _)| shard.strong_count() > 0);
        !self.busy.load(Ordering::Relaxed) && Arc::strong_count(self) > 1 + usize::from(listed)
    }
}

/// A shard that is being written, flushed or sealed.
#[derive(Debug)]
pub(crate) struct LiveShard {
    pub id: ShardId,
    pub size: u64,
    pub file: ShardFile,
    pub staging: Arc<Staging>,
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
    /// Blocks whose bytes are in a slot: those that are not in the file yet, and those whose slot was not needed since.
    pub blocks: RwLock<BTreeMap<u64, Arc<Slot>>>,
    /// Offset in each block of the first record that begins there, for `verify` to find its way after damage.
    pub anchors: Mutex<Vec<u64>>,
    /// What was hashed of it out of staging; `None` when that is not wanted, or came too late.
    pub hasher: Mutex<Option<ShardHasher>>,
}

impl LiveShard {
    pub fn word(&self) -> &CommitWord {
        self.staging.commit_word(self.place)
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

    /// The time of the first and the last packet, when there is one.
    pub fn times(&self) -> Option<(CaptureTime, CaptureTime)> {
        let (first, last) = (self.first.load(Ordering::Acquire), self.last.load(Ordering::Acquire));
        (first != i64::MAX).then_some((CaptureTime::from_nanos(first), CaptureTime::from_nanos(last)))
    }

    /// The slot that holds a block, pinned, and how far its bytes are published.
    pub fn pin(&self, block: u64) -> Option<Arc<Slot>> {
        self.blocks.read().unwrap_or_else(PoisonError::into_inner).get(&block).cloned()
    }
}

/// One tap that is being written.
#[derive(Debug)]
pub(crate) struct TapLive {
    pub info: TapInfo,
    pub staging: Arc<Staging>,
    pub slots: Vec<Arc<Slot>>,
    /// Oldest first; at most `OPEN_SHARDS`.
    pub shards: RwLock<VecDeque<Arc<LiveShard>>>,
    /// Nothing earlier will come on this tap.
    pub watermark: AtomicI64,
    pub finished: AtomicBool,
    /// The next shard, made ready ahead of the writer.
    pub next: Mutex<Option<Arc<LiveShard>>>,
    pub flusher: Bell,
    /// The flusher has ended: what is not in a file then stays in staging, for recovery.
    pub flusher_done: AtomicBool,
    pub keeper: Bell,
    pub hashing: Bell,
    /// Who reads it as it is written, and how many bytes they were given in all.
    pub followers: AtomicUsize,
    pub followed: AtomicU64,
    /// What keeps bytes from reaching the disk, while it does.
    pub trouble: Mutex<Option<StoreError>>,
}

impl TapLive {
    pub fn shards(&self) -> Vec<Arc<LiveShard>> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// One of the open shards, also the one that is made ready.
    pub fn shard(&self, id: ShardId) -> Option<Arc<LiveShard>> {
        let open = self.shards().into_iter().find(|s| s.id == id);
        open.or_else(|| lock(&self.next).clone().filter(|s| s.id == id))
    }

    /// A slot that is on disk and that nobody reads, now without a block; looks from `hint` on, and not at `except`. For the writer.
    pub fn free_slot(&self, hint: usize, except: Option<usize>) -> Option<&Arc<Slot>> {
        let n = self.slots.len();
        let mut from_hint = (0..n).map(|i| &self.slots[(hint + i) % n]);
        from_hint.find(|slot| Some(slot.index) != except && slot.vacate())
    }

    /// Keeps what is in the way; logged once, not at every try.
    pub fn say(&self, trouble: StoreError) {
        let mut known = lock(&self.trouble);
        if known.is_none() {
            tracing::error!(tap = %self.info.id, "{trouble}");
        }
        *known = Some(trouble);
    }

    /// Counts the slots that are on disk and that readers hold all the same.
    pub fn count_held(&self) {
        self.staging.set_held(self.slots.iter().filter(|s| s.held()).count());
    }

    /// Bytes that are published and not in a file yet, and the room for them.
    pub fn queue(&self) -> (u64, u64) {
        let waiting = self
            .shards()
            .iter()
            .map(|s| s.published().committed.saturating_sub(s.flushed.load(Ordering::Acquire)))
            .sum();
        (waiting, self.slots.len() as u64 * SLOT_LEN)
    }
}

/// Wakes one thread, or lets it sleep for a while.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub fn ring(&self) {
        *lock(&self.rung) = true;
        self.changed.notify_one();
    }

    pub fn wait(&self, at_most: Duration) {
        let rung = lock(&self.rung);
        let (mut rung, _) = self
            .changed
            .wait_timeout_while(rung, at_most, |rung| !*rung)
            .unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

/// A panicking thread leaves these plain values whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
