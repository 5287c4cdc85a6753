//! Slots of the staging file and who reads them: without a lock, because a reader that the scheduler has put aside while it held
//! one would keep the capture thread from its next slot, and every packet meanwhile would be lost.

use super::staging::{SLOT_LEN, Staging};
use crate::ShardId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// In place of a number of readers: the writer has the slot and gives it to another block. Nobody can begin to read it.
const TAKEN: u32 = u32::MAX;
/// In a [`BlockTable`]: no slot was ever given to the block.
const NONE: u32 = u32::MAX;

/// One slot. What it holds stands in the staging file's own table; the bytes stay until the writer needs the room, not only until they are
/// on disk: who follows a recording reads memory that way.
#[derive(Debug)]
struct Slot {
    /// Holds bytes that are not on disk yet, or, where the writer waits for that, not hashed.
    busy: AtomicBool,
    /// How many [`Pin`]s there are, or [`TAKEN`].
    pins: AtomicU32,
}

impl Slot {
    /// For the writer, whose it is then; also when it was before.
    fn take(&self) -> bool {
        // Acquire, twice: the flusher is done with the bytes, and so are those who read them.
        !self.busy.load(Ordering::Acquire)
            && (self.pins.compare_exchange(0, TAKEN, Ordering::Acquire, Ordering::Relaxed))
                .map_or_else(|pins| pins == TAKEN, |_| true)
    }
}

/// All slots of a staging file.
#[derive(Debug)]
pub(crate) struct Slots {
    staging: Arc<Staging>,
    slots: Box<[Slot]>,
    /// Slots that are on disk and that readers hold all the same; counted at each block.
    held: AtomicUsize,
}

impl Slots {
    pub fn new(staging: Arc<Staging>) -> Arc<Self> {
        let slot = |_| Slot { busy: AtomicBool::new(false), pins: AtomicU32::new(TAKEN) };
        let slots = (0..staging.slots()).map(slot).collect();
        Arc::new(Self { staging, slots, held: AtomicUsize::new(0) })
    }

    pub fn staging(&self) -> &Arc<Staging> {
        &self.staging
    }

    /// A slot whose bytes are on disk and that nobody reads, now the writer's; looks from `hint` on, and not at `except`. A slot that was
    /// taken and not given to a block is found again. For the writer alone.
    pub fn take(&self, hint: usize, except: Option<usize>) -> Option<usize> {
        let n = self.slots.len();
        (0..n).map(|i| (hint + i) % n).find(|&index| Some(index) != except && self.slots[index].take())
    }

    /// Takes so many slots from `hint` on that [`take`](Self::take) will find, and says whether there were enough.
    pub fn reserve(&self, hint: usize, enough: usize) -> bool {
        let n = self.slots.len();
        (0..n).filter(|i| self.slots[(hint + i) % n].take()).take(enough).count() == enough
    }

    /// Gives a slot that was taken to a block. For the writer alone.
    pub fn give(&self, index: usize, shard: ShardId, block: u64, table: &BlockTable) {
        let slot = &self.slots[index];
        debug_assert_eq!(slot.pins.load(Ordering::Relaxed), TAKEN);
        slot.busy.store(true, Ordering::Relaxed);
        self.staging.assign(index, shard, block);
        // Release: who pins it sees whose it is.
        slot.pins.store(0, Ordering::Release);
        table.set(block, index);
    }

    /// The slot that holds a block, kept for it as long as the pin lives; `None` once the writer needed it: the bytes are in the file then.
    pub fn pin(self: &Arc<Self>, shard: ShardId, block: u64, table: &BlockTable) -> Option<Pin> {
        let index = table.get(block)?;
        let pins = &self.slots[index].pins;
        let mut now = pins.load(Ordering::Relaxed);
        loop {
            if now >= TAKEN - 1 {
                return None;
            }
            match pins.compare_exchange_weak(now, now + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => now = other,
            }
        }
        let pin = Pin { slots: self.clone(), index: index as u32 };
        // The table may be older than what the slot holds; from here on that can't change.
        self.staging.holds(index, shard, block).then_some(pin)
    }

    /// Counts the slots that readers hold beyond their time.
    pub fn count_held(&self) {
        let held = |slot: &&Slot| {
            !slot.busy.load(Ordering::Relaxed) && !matches!(slot.pins.load(Ordering::Relaxed), 0 | TAKEN)
        };
        self.held.store(self.slots.iter().filter(held).count(), Ordering::Relaxed);
    }

    /// Whether readers hold so many slots (half of them) that a new reader has to copy: a slow client must not cost packets.
    pub fn scarce(&self) -> bool {
        self.held.load(Ordering::Relaxed) >= self.slots.len() / 2
    }
}

/// Keeps the writer from a slot. Cheap to clone: two counters go up.
#[derive(Debug)]
pub(crate) struct Pin {
    slots: Arc<Slots>,
    index: u32,
}

impl Pin {
    /// The first `len` bytes of the slot. Only what is published may be asked for.
    #[inline]
    pub fn bytes(&self, len: usize) -> &[u8] {
        self.slots.staging.slot_bytes(self.index as usize, len)
    }

    /// Its bytes need no longer be kept in memory.
    pub fn done(&self) {
        self.slots.slots[self.index as usize].busy.store(false, Ordering::Release);
    }
}

impl Clone for Pin {
    fn clone(&self) -> Self {
        // It is pinned already: the number is above 0, and neither TAKEN nor near it while a pin costs memory.
        self.slots.slots[self.index as usize].pins.fetch_add(1, Ordering::Relaxed);
        Self { slots: self.slots.clone(), index: self.index }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // Release: the writer that finds 0 may write over what was read.
        self.slots.slots[self.index as usize].pins.fetch_sub(1, Ordering::Release);
    }
}

/// Where a shard's blocks are in memory, as far as they are: a hint that [`Slots::pin`] checks.
#[derive(Debug)]
pub(crate) struct BlockTable(Box<[AtomicU32]>);

impl BlockTable {
    pub fn new(shard_size: u64) -> Self {
        Self((0..shard_size.div_ceil(SLOT_LEN)).map(|_| AtomicU32::new(NONE)).collect())
    }

    fn set(&self, block: u64, index: usize) {
        if let Some(entry) = self.0.get(block as usize) {
            entry.store(index as u32, Ordering::Release);
        }
    }

    fn get(&self, block: u64) -> Option<usize> {
        let index = self.0.get(usize::try_from(block).ok()?)?.load(Ordering::Acquire);
        (index != NONE).then_some(index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn slots(name: &str, n: usize) -> Arc<Slots> {
        let path = std::env::temp_dir().join(format!("tapdeck-slots-{}-{name}", std::process::id()));
        let staging = Arc::new(Staging::create(&path, n).unwrap());
        let _ = std::fs::remove_file(&path);
        Slots::new(staging)
    }

    #[test]
    fn a_slot_is_reused_when_it_is_done_and_unread_and_only_then() {
        let (slots, table) = (slots("reuse", 4), BlockTable::new(8 * SLOT_LEN));
        let shard = ShardId(1);
        assert!(slots.pin(shard, 0, &table).is_none());
        for block in 0..4 {
            let index = slots.take(block as usize, None).unwrap();
            // Taken and not given: it is there for the asking.
            assert_eq!(slots.take(index, None), Some(index));
            slots.give(index, shard, block, &table);
        }
        assert_eq!(slots.take(0, None), None, "nothing is on disk yet");
        let pin = slots.pin(shard, 2, &table).unwrap();
        pin.done();
        let second = pin.clone();
        drop(pin);
        slots.count_held();
        assert_eq!((slots.take(0, None), slots.scarce()), (None, false), "it is read");
        drop(second);
        assert_eq!(slots.take(0, Some(2)), None);
        assert!(slots.reserve(0, 1) && !slots.reserve(0, 2) && slots.reserve(3, 0));
        assert_eq!(slots.take(0, None), Some(2));
        assert!(slots.pin(shard, 2, &table).is_none(), "nobody begins to read what the writer has");
        slots.give(2, shard, 4, &table);
        assert!(slots.pin(shard, 2, &table).is_none(), "the old entry of the table is no longer true");
        assert!(slots.pin(shard, 4, &table).is_some());
        assert!(slots.pin(ShardId(2), 4, &table).is_none());
    }

    /// A writer that goes round and round while readers pin what they find: nobody ever sees bytes of another block.
    #[test]
    fn readers_never_see_a_slot_change_under_them() {
        const BLOCKS: u64 = 40_000;
        let (slots, table) = (slots("race", 4), BlockTable::new(BLOCKS * SLOT_LEN));
        let (newest, read) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let block = newest.load(Ordering::Acquire);
                        if block == BLOCKS {
                            return;
                        }
                        // Older ones as well: those the writer is after.
                        for block in block.saturating_sub(4)..=block {
                            let Some(pin) = slots.pin(ShardId(7), block, &table) else { continue };
                            let seen = u64::from_le_bytes(*pin.bytes(8).first_chunk().unwrap());
                            assert_eq!(seen, block);
                            let last = pin.bytes(SLOT_LEN as usize).last_chunk().unwrap();
                            assert_eq!(u64::from_le_bytes(*last), block);
                            read.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            for block in 0..BLOCKS {
                let index = loop {
                    match slots.take(block as usize, None) {
                        Some(index) => break index,
                        None => std::thread::yield_now(),
                    }
                };
                slots.staging.mark_ends(index, block);
                slots.give(index, ShardId(7), block, &table);
                newest.store(block, Ordering::Release);
                if let Some(pin) = slots.pin(ShardId(7), block, &table) {
                    pin.done();
                }
            }
            newest.store(BLOCKS, Ordering::Release);
        });
        assert!(read.into_inner() > 0);
    }
}
