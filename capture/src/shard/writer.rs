//! The writer: one copy from the caller's packet into a staging slot, in the layout that the shard will have.
//!
//! Costs a memcpy and a 16-byte header a packet; once a block (1 MiB) a look for a free slot. Takes no lock, so that no reader that the
//! scheduler has put aside can hold it up, and never waits for
//! the disk unless told to ([`WhenFull::Wait`], for files): what finds no slot is dropped and counted by the caller.
#![allow(unsafe_code)]

use super::flush;
use super::format::{self, FILE_HEADER_LEN, MAX_CAPTURED_LEN, RECORD_HEADER_LEN, RecordHeader};
use super::live::{LiveShard, TapLive, lock};
use super::slot::Slots;
use super::staging::{SLOT_LEN, Staging, place};
use crate::journal::JournalRecord;
use crate::store::{NewTap, Store, WriterLock};
use crate::{CaptureTime, LinkType, StoreError, TapId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What to do with a packet while the disk is behind and all staging is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Drop it: a live tap never waits.
    Drop,
    /// Wait: a file can.
    Wait,
}

/// The smallest shard: two slots of staging.
pub const MIN_SHARD_SIZE: u64 = 2 * SLOT_LEN;

/// How a tap's shards are written.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// Size of a shard in bytes; a multiple of 1 MiB, at least [`MIN_SHARD_SIZE`].
    pub shard_size: u64,
    /// Bytes of staging; at least 4 MiB.
    pub staging_bytes: u64,
    /// What to do when the disk is behind.
    pub when_full: WhenFull,
    /// The longest a packet stays in staging alone.
    pub flush_interval: Duration,
    /// The longest a packet is not durable.
    pub sync_interval: Duration,
    /// Hash the shards out of memory where possible, rather than later from the disk.
    pub hash: bool,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            shard_size: 256 << 20,
            staging_bytes: 64 << 20,
            when_full: WhenFull::Drop,
            flush_interval: Duration::from_millis(250),
            sync_interval: Duration::from_secs(1),
            hash: true,
        }
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// In the shard with the next [`ShardWriter::publish`].
    Stored,
    /// No room: the disk is behind or full.
    Dropped,
}

/// Writes one tap's packets.
#[derive(Debug)]
pub struct ShardWriter {
    store: Store,
    live: Arc<TapLive>,
    options: WriterOptions,
    /// Shards that the keeper has made ready.
    next: Receiver<Arc<LiveShard>>,
    /// The one of them that was received ahead of its time.
    ready: Option<Arc<LiveShard>>,
    current: Option<Current>,
    /// The slot to look at first for a free one.
    hint: usize,
    /// Bytes of records in all.
    published: u64,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

/// A look at a writer from another thread: it takes locks, which the one that writes must not.
#[derive(Clone, Debug)]
pub struct WriterWatch(Arc<TapLive>);

impl WriterWatch {
    /// Bytes that wait for the disk, and the room for them.
    pub fn queue(&self) -> (u64, u64) {
        self.0.queue()
    }

    /// What keeps packets from reaching the disk, if anything does at the moment.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.0.troubles).first().map(ToString::to_string)
    }
}

/// The shard under the writer's hand.
#[derive(Debug)]
struct Current {
    shard: Arc<LiveShard>,
    /// The slot that its current block is in.
    slot: usize,
    /// Offset of the next record.
    position: u64,
    packets: u64,
    /// Where the current block ends.
    block_end: u64,
    unpublished: bool,
    /// Offset up to which it is published.
    published: u64,
    /// The earliest time.
    first: CaptureTime,
    /// The latest time.
    last: CaptureTime,
}

impl ShardWriter {
    /// Makes the tap known, its staging file and its first shard.
    pub fn open(
        store: &Store,
        lock_held: &WriterLock,
        tap: NewTap,
        options: WriterOptions,
    ) -> Result<Self, StoreError> {
        let options = WriterOptions {
            shard_size: options.shard_size.next_multiple_of(SLOT_LEN).max(MIN_SHARD_SIZE),
            staging_bytes: options.staging_bytes.max(4 * SLOT_LEN),
            ..options
        };
        let info = store.open_tap(lock_held, tap)?;
        let slots = (options.staging_bytes / SLOT_LEN) as usize;
        let path = place(store.dir(), &store.id().to_string(), info.id, slots);
        let staging = Arc::new(Staging::create(&path, slots)?);
        let live = Arc::new(TapLive {
            info,
            slots: Slots::new(staging),
            shards: Default::default(),
            watermark: AtomicI64::new(i64::MIN),
            finished: AtomicBool::new(false),
            flusher: Default::default(),
            flusher_done: AtomicBool::new(false),
            keeper: Default::default(),
            hashing: Default::default(),
            followers: Default::default(),
            followed: Default::default(),
            troubles: Default::default(),
            in_trouble: Default::default(),
        });
        let (ready, next) = sync_channel(1);
        let first = flush::prepare(store, &live, &options).inspect_err(|_| {
            let _ = std::fs::remove_file(&path);
        })?;
        let _ = ready.try_send(first);
        store.register_live(&live);
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        if let Err(error) = flush::start(store, &live, options, ready, &stop, &mut threads) {
            // Those that were started end, and nobody waits for packets.
            stop.store(true, Ordering::Release);
            live.flusher.ring();
            live.keeper.ring();
            threads.drain(..).for_each(|thread| drop(thread.join()));
            live.finished.store(true, Ordering::Release);
            store.unregister_live(&live);
            return Err(error);
        }
        let store = store.clone();
        let (ready, current, hint, published) = (None, None, 0, 0);
        Ok(Self { store, live, options, next, ready, current, hint, published, threads, stop })
    }

    /// The tap that is written.
    pub fn tap(&self) -> TapId {
        self.live.info.id
    }

    /// Its link type.
    pub fn link(&self) -> LinkType {
        self.live.info.link
    }

    /// Notes something about the tap in the journal.
    pub(crate) fn note(&self, record: &JournalRecord) {
        if let Err(error) = self.store.append(record) {
            tracing::error!(tap = %self.live.info.id, "{error}");
        }
    }

    /// Whether `bytes` of records would find room now. Who can leave packets where they are asks before it takes them; when there is none,
    /// the disk is told to hurry.
    pub fn has_room(&mut self, bytes: u64) -> bool {
        let (left, shard_left) = match &self.current {
            Some(c) => (c.block_end - c.position, c.shard.size - c.position),
            None => (0, 0),
        };
        if left >= bytes {
            return true;
        }
        // What a shard has no room for begins the next one, in a block of its own, with a header.
        let more = (bytes - left).div_ceil(SLOT_LEN) as usize + usize::from(shard_left < bytes);
        if shard_left < bytes && self.ready.is_none() {
            self.ready = self.next.try_recv().ok();
        }
        let room = (shard_left >= bytes || self.ready.is_some()) && self.live.slots.reserve(self.hint, more);
        if !room {
            self.live.slots.count_held();
            self.publish();
            self.live.flusher.ring();
            self.live.keeper.ring();
        }
        room
    }

    /// Whether the disk refuses what so many bytes more would need.
    pub fn refused(&self, bytes: u64) -> bool {
        let fits = self.current.as_ref().is_some_and(|c| c.shard.size - c.position >= bytes);
        self.live.refuses(!fits && self.ready.is_none())
    }

    /// What keeps the disk from taking more, if anything does.
    pub fn take_trouble(&self) -> Option<StoreError> {
        lock(&self.live.troubles).take()
    }

    /// Takes over one packet. `data` longer than 256 KiB is cut, as by a snaplen.
    #[inline]
    pub fn append(&mut self, time: CaptureTime, original_len: u32, data: &[u8]) -> Appended {
        let data = &data[..data.len().min(MAX_CAPTURED_LEN as usize)];
        let captured_len = data.len() as u32;
        let header =
            RecordHeader { time, captured_len, original_len: original_len.max(captured_len) }.encode();
        let len = RECORD_HEADER_LEN + u64::from(captured_len);
        let fits = self.current.as_ref().is_some_and(|c| c.position + len <= c.block_end);
        if !fits && !self.make_room(len) {
            return Appended::Dropped;
        }
        let Some(current) = &mut self.current else { return Appended::Dropped };
        if current.position + len <= current.block_end {
            current.put(&header);
            current.put(data);
        } else if !self.put_across(&header, data) {
            return Appended::Dropped;
        }
        let Some(current) = &mut self.current else { return Appended::Dropped };
        current.packets += 1;
        current.unpublished = true;
        current.last = current.last.max(time);
        if time < current.first {
            current.first = time;
            current.shard.first.store(time.nanos(), Ordering::Release);
        }
        Appended::Stored
    }

    /// Shows all packets that were taken over to every reader.
    #[inline]
    pub fn publish(&mut self) {
        let Some(current) = &mut self.current else { return };
        if !current.unpublished {
            return;
        }
        self.published += current.publish();
        self.store.notify();
    }

    /// Says that nothing earlier than `time` will come: the interface was idle until then.
    pub fn set_watermark(&mut self, time: CaptureTime) {
        self.live.watermark.fetch_max(time.nanos(), Ordering::Release);
        self.store.notify();
    }

    /// Bytes that were published here and not yet given to those who follow; 0 when nobody does.
    pub fn lead(&self) -> u64 {
        match self.live.followers.load(Ordering::Acquire) {
            0 => 0,
            _ => self.published.saturating_sub(self.live.followed.load(Ordering::Acquire)),
        }
    }

    /// What others may ask about the way to the disk.
    pub fn watch(&self) -> WriterWatch {
        WriterWatch(self.live.clone())
    }

    /// Publishes, brings everything to disk, seals.
    pub fn finish(mut self) -> Result<(), StoreError> {
        self.close();
        lock(&self.live.troubles).take().map_or(Ok(()), Err)
    }

    fn close(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        self.publish();
        self.retire();
        self.stop.store(true, Ordering::Release);
        self.live.flusher.ring();
        self.live.keeper.ring();
        self.live.hashing.ring();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.live.finished.store(true, Ordering::Release);
        self.store.unregister_live(&self.live);
        self.store.notify();
    }

    /// The slow path: a first or a next shard, or a next block, so that a record of `len` bytes can begin.
    fn make_room(&mut self, len: u64) -> bool {
        loop {
            let full = match &self.current {
                Some(c) => c.position + len > c.shard.size,
                None => true,
            };
            // Exactly at a block's end the next block is begun here; a record that straddles is `put_across`'s.
            let done = match (&self.current, full) {
                (_, true) => self.next_shard(),
                (Some(c), false) if c.position < c.block_end => return true,
                (Some(_), false) => {
                    self.end_block();
                    let begun = self.next_block();
                    if begun {
                        self.anchor();
                    }
                    begun
                }
                (None, false) => false,
            };
            if done {
                continue;
            }
            if self.options.when_full == WhenFull::Drop || self.live.refuses(full) {
                return false;
            }
            self.wait_for_disk();
        }
    }

    /// Only what is published is flushed, and only what is flushed makes room.
    fn wait_for_disk(&mut self) {
        self.live.slots.count_held();
        self.publish();
        self.live.flusher.ring();
        std::thread::sleep(Duration::from_micros(200));
    }

    fn next_shard(&mut self) -> bool {
        // The slot first: a shard is only begun with its first block at hand.
        let Some(slot) = self.live.slots.take(self.hint, None) else { return false };
        let Some(shard) = self.ready.take().or_else(|| self.next.try_recv().ok()) else {
            self.live.keeper.ring();
            return false;
        };
        self.publish();
        self.retire();
        self.hint = slot + 1;
        let mut current = Current {
            shard,
            slot,
            position: 0,
            packets: 0,
            block_end: SLOT_LEN,
            unpublished: false,
            published: FILE_HEADER_LEN,
            first: CaptureTime::MAX,
            last: CaptureTime::MIN,
        };
        current.begin_block(0);
        current.shard.set_first_record(FILE_HEADER_LEN);
        current.put(&format::file_header(self.live.info.link, self.live.info.snaplen));
        current.shard.word().store(current.shard.id, FILE_HEADER_LEN, 0);
        self.current = Some(current);
        self.live.keeper.ring();
        true
    }

    fn next_block(&mut self) -> bool {
        let Some(slot) = self.live.slots.take(self.hint, None) else { return false };
        let Some(current) = &mut self.current else { return false };
        self.hint = slot + 1;
        current.slot = slot;
        let block = current.block_end / SLOT_LEN;
        current.block_end += SLOT_LEN;
        current.begin_block(block);
        self.live.slots.count_held();
        self.live.flusher.ring();
        true
    }

    /// A record that begins in one block and ends in a later one. All or nothing: without a slot for its end it is not begun.
    fn put_across(&mut self, header: &[u8], data: &[u8]) -> bool {
        // A record is at most 256 KiB: it reaches into one more block at the most.
        let this = self.current.as_ref().map(|c| c.slot);
        let next = loop {
            match self.live.slots.take(self.hint, this) {
                Some(slot) => break slot,
                None if self.options.when_full == WhenFull::Drop || self.live.refuses(false) => {
                    return false;
                }
                None => self.wait_for_disk(),
            }
        };
        self.hint = next;
        self.end_block();
        for part in [header, data] {
            let Some(current) = &mut self.current else { return false };
            let room = (current.block_end - current.position) as usize;
            let (here, there) = part.split_at(room.min(part.len()));
            current.put(here);
            if !there.is_empty() {
                if !self.next_block() {
                    return false;
                }
                let Some(current) = &mut self.current else { return false };
                current.put(there);
            }
        }
        self.anchor();
        true
    }

    /// Notes that no further record ends in the current block.
    fn end_block(&self) {
        if let Some(current) = &self.current {
            current.shard.set_whole_end(current.block_end / SLOT_LEN - 1, current.position);
        }
    }

    /// Notes that a record begins here, the first in its block.
    fn anchor(&self) {
        if let Some(current) = &self.current {
            current.shard.set_first_record(current.position);
        }
    }

    /// Leaves the current shard to be flushed and sealed.
    fn retire(&mut self) {
        let Some(current) = self.current.take() else { return };
        current.shard.full_at.store(current.position, Ordering::Release);
        drop(current);
        self.live.flusher.ring();
    }
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        self.close();
    }
}

impl Current {
    fn begin_block(&mut self, block: u64) {
        self.shard.slots.give(self.slot, self.shard.id, block, &self.shard.blocks);
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        debug_assert!(self.position + bytes.len() as u64 <= self.block_end);
        let at = (self.position % SLOT_LEN) as usize;
        // SAFETY: callers checked that the bytes end inside the block; the slot is this writer's alone above the published
        // length, and `bytes` comes from elsewhere.
        unsafe {
            let to = self.shard.slots.staging().slot_ptr(self.slot).add(at);
            to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        self.position += bytes.len() as u64;
    }

    /// Gives the bytes that were not published before.
    fn publish(&mut self) -> u64 {
        self.shard.last.store(self.last.nanos(), Ordering::Release);
        self.shard.word().store(self.shard.id, self.position, self.packets);
        self.unpublished = false;
        self.position - std::mem::replace(&mut self.published, self.position)
    }
}
