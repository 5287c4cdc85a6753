//! The staging file: shared memory that packets are copied into, once, on their way to a shard.
//!
//! Lives on tmpfs, so it survives the process (not the machine): after a kill, recovery finds here what was published and had
//! not reached the shard. Its pages are used again and again: no first touch and no write-back stands in the capture's way.
//!
//! ```text
//! header (64 KiB): magic, boot id, sizes | table of open shards | table of slots | slot 0 | slot 1 | ...
//! ```
#![allow(unsafe_code)]

use super::mapping::Mapping;
use crate::{ShardId, StoreError, TapId};
use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Bytes in a slot: one block of a shard, and one direct write.
pub const SLOT_LEN: u64 = 1 << 20;
/// Shards of one tap that may be open (written, flushed or being sealed) at once.
pub const OPEN_SHARDS: usize = 8;
/// The most slots that a staging file can have.
pub const MAX_SLOTS: usize = 1_024;

const HEADER_LEN: u64 = 64 << 10;
const MAGIC: u64 = u64::from_le_bytes(*b"TAPSTG01");
const OPEN_SHARDS_AT: usize = 64;
const SLOTS_AT: usize = 1_024;
/// In the owner fields: nothing.
const NONE: u64 = u64::MAX;

/// Length of a file with so many slots.
const fn file_len(slots: usize) -> u64 {
    HEADER_LEN + slots as u64 * SLOT_LEN
}

/// One open shard's commit word: two cells and which of them counts. The other one is written first, so that a kill at any
/// instant leaves a whole cell.
#[repr(C)]
#[derive(Debug)]
pub struct CommitWord {
    /// Its lowest bit names the cell that counts.
    sequence: AtomicU64,
    cells: [CommitCell; 2],
    reserved: AtomicU64,
}

#[repr(C)]
#[derive(Debug)]
struct CommitCell {
    shard: AtomicU64,
    committed: AtomicU64,
    packets: AtomicU64,
}

/// What a commit word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The shard.
    pub shard: ShardId,
    /// Published bytes, header included: the offset of the next record.
    pub committed: u64,
    /// Published packets.
    pub packets: u64,
}

impl CommitWord {
    /// Called by one thread at a time: the one that writes the shard.
    #[inline]
    pub fn store(&self, shard: ShardId, committed: u64, packets: u64) {
        let next = self.sequence.load(Ordering::Relaxed).wrapping_add(1);
        let cell = &self.cells[(next & 1) as usize];
        // Release: a reader that meets these fields too early also sees that the sequence has moved on.
        cell.shard.store(shard.0, Ordering::Release);
        cell.packets.store(packets, Ordering::Release);
        cell.committed.store(committed, Ordering::Release);
        // Release: whoever sees this length sees the bytes below it.
        self.sequence.store(next, Ordering::Release);
    }

    /// A consistent reading, from any thread or process; `None` when the word is unused.
    pub fn load(&self) -> Option<Published> {
        loop {
            let sequence = self.sequence.load(Ordering::Acquire);
            let cell = &self.cells[(sequence & 1) as usize];
            let committed = cell.committed.load(Ordering::Acquire);
            let (shard, packets) = (cell.shard.load(Ordering::Acquire), cell.packets.load(Ordering::Acquire));
            fence(Ordering::Acquire);
            // A cell is only written again after the sequence has moved to the other one.
            if self.sequence.load(Ordering::Relaxed) == sequence {
                return (shard != NONE).then_some(Published { shard: ShardId(shard), committed, packets });
            }
            std::hint::spin_loop();
        }
    }

    fn clear(&self) {
        self.store(ShardId(NONE), 0, 0);
    }
}

/// Which block of which shard a slot holds.
#[repr(C)]
#[derive(Debug)]
struct SlotOwner {
    /// Changes whenever the slot is given to another block, so that a reader in another process notices.
    generation: AtomicU64,
    shard: AtomicU64,
    block: AtomicU64,
    reserved: AtomicU64,
}

/// A mapped staging file.
#[derive(Debug)]
pub struct Staging {
    map: Mapping,
    path: PathBuf,
    slots: usize,
}

// SAFETY (of all accesses below): the mapping is shared, page-aligned and as long as the header says, checked at creation and
// opening; the file is reserved, so a store can't fail for want of space (tmpfs has no I/O errors, and no one
// truncates the file while it is open: recovery and creation unlink and make a new one). The tables consist of atomics only.
// Slot bytes are written by one thread, below nothing that is published, and read only below the published length.
impl Staging {
    /// Makes a new staging file, in place of an old one.
    pub fn create(path: &Path, slots: usize) -> Result<Self, StoreError> {
        let slots = slots.clamp(4, MAX_SLOTS);
        let _ = std::fs::remove_file(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            // Packets are nobody else's business.
            .mode(0o600)
            .open(path)
            .map_err(StoreError::io("creating", path))?;
        let map = Mapping::create(&file, file_len(slots) as usize).map_err(|error| {
            let _ = std::fs::remove_file(path);
            StoreError::io("reserving", path)(error)
        })?;
        let this = Self { map, path: path.to_owned(), slots };
        for word in this.open_shards() {
            word.clear();
        }
        for index in 0..slots {
            this.owner(index).shard.store(NONE, Ordering::Relaxed);
        }
        // SAFETY: inside the header, before anyone else knows of the file.
        unsafe {
            let head = this.map.as_ptr();
            head.add(8).copy_from(boot_id().as_ptr(), 16);
            head.add(24).cast::<u64>().write(slots as u64);
            (*head.cast::<AtomicU64>()).store(MAGIC, Ordering::Release);
        }
        Ok(this)
    }

    /// Opens a staging file that a process of this boot has made; `None` if there is none.
    pub fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            // Another user's recorder: readers do without, they see what is flushed.
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => return Ok(None),
            Err(e) => return Err(StoreError::io("opening", path)(e)),
        };
        let len = file.metadata().map_err(StoreError::io("examining", path))?.len();
        if !(HEADER_LEN + SLOT_LEN..=file_len(MAX_SLOTS)).contains(&len) {
            return Ok(None);
        }
        let map = Mapping::open(&file, len as usize).map_err(StoreError::io("mapping", path))?;
        // SAFETY: inside the header, whose length was checked.
        let (magic, boot, slots) = unsafe {
            let head = map.as_ptr();
            let mut boot = [0u8; 16];
            boot.as_mut_ptr().copy_from(head.add(8), 16);
            ((*head.cast::<AtomicU64>()).load(Ordering::Acquire), boot, head.add(24).cast::<u64>().read())
        };
        let fits = slots > 0 && slots <= (len - HEADER_LEN) / SLOT_LEN && slots <= MAX_SLOTS as u64;
        let path = path.to_owned();
        Ok((magic == MAGIC && boot == boot_id() && fits).then_some(Self { map, path, slots: slots as usize }))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The commit words; a shard's is found by the shard it names.
    pub fn open_shards(&self) -> &[CommitWord] {
        // SAFETY: inside the header; `CommitWord` is made of atomics, any bit pattern is valid; 64 is a multiple of its alignment.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(OPEN_SHARDS_AT).cast(), OPEN_SHARDS) }
    }

    /// The commit word at a shard's place in the table.
    pub fn commit_word(&self, place: usize) -> &CommitWord {
        &self.open_shards()[place % OPEN_SHARDS]
    }

    /// Frees a sealed shard's place.
    pub fn forget(&self, place: usize) {
        self.commit_word(place).clear();
    }

    fn owner(&self, index: usize) -> &SlotOwner {
        assert!(index < self.slots);
        // SAFETY: `index` was checked, and MAX_SLOTS owners of 32 bytes fit into the header behind SLOTS_AT.
        unsafe { &*self.map.as_ptr().add(SLOTS_AT).cast::<SlotOwner>().add(index) }
    }

    /// Gives a slot to a block, before anything is written into it.
    pub fn assign(&self, index: usize, shard: ShardId, block: u64) {
        let owner = self.owner(index);
        owner.shard.store(NONE, Ordering::Relaxed);
        owner.generation.fetch_add(1, Ordering::AcqRel);
        owner.block.store(block, Ordering::Relaxed);
        owner.shard.store(shard.0, Ordering::Release);
        // Before any of the new bytes: a reader in another process that copied one of them sees the new owner afterwards.
        fence(Ordering::Release);
    }

    /// Whether a slot is given to this block. In the writer's own process, by one that keeps the slot from being given away.
    pub fn holds(&self, index: usize, shard: ShardId, block: u64) -> bool {
        let owner = self.owner(index);
        owner.shard.load(Ordering::Relaxed) == shard.0 && owner.block.load(Ordering::Relaxed) == block
    }

    /// Writes a number at both ends of a slot that nobody reads.
    #[cfg(test)]
    pub fn mark_ends(&self, index: usize, mark: u64) {
        for at in [0, SLOT_LEN as usize - 8] {
            // SAFETY: inside the slot.
            unsafe { self.slot_ptr(index).add(at).cast::<u64>().write(mark) };
        }
    }

    /// Start of a slot's bytes.
    pub fn slot_ptr(&self, index: usize) -> *mut u8 {
        assert!(index < self.slots);
        // SAFETY: `index` was checked; the mapping holds all slots behind the header.
        unsafe { self.map.as_ptr().add((HEADER_LEN + index as u64 * SLOT_LEN) as usize) }
    }

    /// The first `len` bytes of a slot. The caller knows that they are published and that the slot is not given away meanwhile.
    pub fn slot_bytes(&self, index: usize, len: usize) -> &[u8] {
        assert!(len as u64 <= SLOT_LEN);
        // SAFETY: inside the mapping; bytes that are published are not written again until the slot is assigned anew.
        unsafe { std::slice::from_raw_parts(self.slot_ptr(index), len) }
    }

    /// Copies published bytes of a block for a reader that can't hold the slot (another process, or recovery): `None` when no
    /// slot holds the block, or when it was given away while it was read.
    pub fn copy(&self, shard: ShardId, block: u64, from: usize, into: &mut [u8]) -> Option<()> {
        assert!((from + into.len()) as u64 <= SLOT_LEN);
        let index = (0..self.slots).find(|&i| {
            let owner = self.owner(i);
            owner.shard.load(Ordering::Acquire) == shard.0 && owner.block.load(Ordering::Relaxed) == block
        })?;
        let owner = self.owner(index);
        let generation = owner.generation.load(Ordering::Acquire);
        // SAFETY: inside the slot, as asserted. The bytes may be overwritten meanwhile by another process if the slot is given
        // away; a torn copy is then thrown away below and never looked at.
        unsafe { into.as_mut_ptr().copy_from_nonoverlapping(self.slot_ptr(index).add(from), into.len()) };
        fence(Ordering::Acquire);
        let same = owner.generation.load(Ordering::Relaxed) == generation
            && owner.shard.load(Ordering::Relaxed) == shard.0
            && owner.block.load(Ordering::Relaxed) == block;
        same.then_some(())
    }
}

/// Where a tap's staging file goes: tmpfs when there is room, else beside the shards (slower, and said by `doctor`).
pub fn place(store_dir: &Path, store: &str, tap: TapId, slots: usize) -> PathBuf {
    let needed = file_len(slots);
    let room = rustix::fs::statvfs("/dev/shm").map(|s| s.f_bavail * s.f_frsize).unwrap_or(0);
    match room > needed + needed / 4 {
        true => in_memory(store_dir, store, tap),
        false => store_dir.join(format!("staging-{tap}")),
    }
}

/// Both places where [`place`] may have put a tap's staging file.
pub fn places(store_dir: &Path, store: &str, tap: TapId) -> [PathBuf; 2] {
    [in_memory(store_dir, store, tap), store_dir.join(format!("staging-{tap}"))]
}

/// Bound to the directory besides the store's id: a copy of the store has the same id, and must not take what is the original's.
fn in_memory(store_dir: &Path, store: &str, tap: TapId) -> PathBuf {
    let (device, inode) = std::fs::metadata(store_dir).map_or((0, 0), |found| (found.dev(), found.ino()));
    PathBuf::from(format!("/dev/shm/tapdeck-{store}-{device:x}.{inode:x}-{tap}"))
}

/// The staging file of a tap that another process of this boot writes.
pub fn open_for_reading(
    store_dir: &Path,
    store: &str,
    tap: TapId,
) -> Result<Option<Arc<Staging>>, StoreError> {
    for path in places(store_dir, store, tap) {
        if let Some(staging) = Staging::open(&path)? {
            return Ok(Some(Arc::new(staging)));
        }
    }
    Ok(None)
}

/// The kernel's id of this boot; zeros where the kernel doesn't tell.
pub fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let hex: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok()).unwrap_or(0);
    }
    id
}
