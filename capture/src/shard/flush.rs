//! From staging to disk: two threads a tap, so that a slow sync never stands between a full slot and its write. (A third hashes: see
//! [`hashing`].)
//!
//! The flusher writes blocks as they fill and the unfinished one every flush interval. The keeper makes the next shard ready,
//! makes written bytes durable and says so in the mark, and seals shards that are full.

use super::file::{ALIGNMENT, Mark, ShardFile};
use super::hashing;
use super::live::{LiveShard, TapLive, Who, lock};
use super::staging::{OPEN_SHARDS, SLOT_LEN};
use super::writer::{WhenFull, WriterOptions};
use crate::StoreError;
use crate::hash::ShardHashes;
use crate::journal::JournalRecord;
use crate::store::Store;
use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Blocks that are written by one call when the disk is behind: enough for it to work on several at once.
const BLOCKS_AT_ONCE: usize = 8;
/// How long a thread waits before it tries again what the disk refused.
const RETRY: Duration = Duration::from_millis(500);

/// Makes the next shard: file, mark, journal record, place in the table of commit words, and in the list that readers look into.
pub fn prepare(store: &Store, live: &TapLive, options: &WriterOptions) -> Result<Arc<LiveShard>, StoreError> {
    let id = store.next_shard_id();
    let file =
        ShardFile::create(&store.shards_dir(), id, options.shard_size, live.info.link, live.info.snaplen)?;
    let staging = live.slots.staging();
    let place = (0..OPEN_SHARDS).find(|&p| staging.commit_word(p).load().is_none()).unwrap_or(0);
    if let Err(error) = store.shard_opened(id, &live.info, options.shard_size) {
        // The next try takes another number: nothing of this one may stay reserved.
        file.remove();
        let _ = store.shard_deleted(id);
        return Err(error);
    }
    staging.commit_word(place).store(id, 0, 0);
    let shard = Arc::new(LiveShard::new(id, file, options.shard_size, place, &live.slots, options.hash));
    live.insert(shard.clone());
    Ok(shard)
}

/// Starts the threads and puts them into `threads`, also those before one that can't be started; they end when `stop` is set and everything is on disk.
pub fn start(
    store: &Store,
    live: &Arc<TapLive>,
    options: WriterOptions,
    next: SyncSender<Arc<LiveShard>>,
    stop: &Arc<AtomicBool>,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<(), StoreError> {
    let spawn = |who: Who, name: &str, body: Box<dyn FnOnce() + Send>| {
        let name = format!("{name}-{}", live.info.id);
        let (live, dir) = (live.clone(), store.dir().to_owned());
        let guarded = move || {
            // Else nobody would be told, and others would wait for it for ever.
            if catch_unwind(AssertUnwindSafe(body)).is_err() {
                // Of a live tap's hasher it costs nothing: shards are hashed from the disk then.
                if !matches!((who, options.when_full), (Who::Hasher, WhenFull::Drop)) {
                    let panic = io::Error::other("a thread panicked; please report what it printed");
                    live.say(who, StoreError::io("writing into", &dir)(panic));
                }
                if who == Who::Hasher {
                    live.shards().iter().for_each(|shard| *shard.hasher() = None);
                }
            }
            if let Who::Flusher = who {
                live.flusher_done.store(true, Ordering::Release);
                live.keeper.ring();
                live.hashing.ring();
            }
        };
        std::thread::Builder::new()
            .name(name)
            .spawn(guarded)
            .map_err(StoreError::io("starting a thread for", store.dir()))
    };
    threads.push({
        let (live, stop) = (live.clone(), stop.clone());
        spawn(Who::Flusher, "flush", Box::new(move || flusher(&live, &options, &stop)))?
    });
    threads.push({
        let (store, live, stop) = (store.clone(), live.clone(), stop.clone());
        spawn(Who::Keeper, "keep", Box::new(move || Keeper { store, live, options, next }.run(&stop)))?
    });
    if !options.hash {
        return Ok(());
    }
    let (live, stop) = (live.clone(), stop.clone());
    // A file's writer waits for it, a live tap doesn't.
    let low_priority = options.when_full == WhenFull::Drop;
    threads.push(spawn(Who::Hasher, "hash", Box::new(move || hashing::run(&live, &stop, low_priority)))?);
    Ok(())
}

fn flusher(live: &TapLive, options: &WriterOptions, stop: &AtomicBool) {
    let mut last_all = Instant::now();
    loop {
        let stopping = stop.load(Ordering::Acquire);
        let all = stopping || last_all.elapsed() >= options.flush_interval;
        if all {
            last_all = Instant::now();
        }
        let mut result = Ok(());
        for shard in live.shards() {
            result = result.and(flush(&shard, options, all));
        }
        live.hashing.ring();
        match result {
            Ok(()) if stopping => return live.well(Who::Flusher),
            Ok(()) => {
                live.well(Who::Flusher);
                live.flusher.wait(options.flush_interval / 2);
            }
            Err(trouble) => {
                live.say(Who::Flusher, trouble);
                if stopping {
                    return;
                }
                std::thread::sleep(RETRY);
            }
        }
    }
}

/// Writes what is published and not in the file: whole blocks, with `all` also the part of the last one.
fn flush(shard: &LiveShard, options: &WriterOptions, all: bool) -> Result<(), StoreError> {
    let full_at = shard.full_at.load(Ordering::Acquire);
    let published = shard.published();
    let committed = published.committed;
    let target = if all || full_at != 0 { committed } else { committed / SLOT_LEN * SLOT_LEN };
    let mut flushed = shard.flushed.load(Ordering::Acquire);
    while flushed < target {
        let first = flushed / SLOT_LEN;
        let last = (target - 1) / SLOT_LEN;
        let pins: Vec<_> =
            (first..=last).take(BLOCKS_AT_ONCE).map_while(|b| Some((b * SLOT_LEN, shard.pin(b)?))).collect();
        let Some(end) = pins.last().map(|(start, _)| target.min(start + SLOT_LEN)) else { break };
        // Whole pages: the first one again if a part of it was written before, the last one with what follows the packets
        // (it is written again when it is filled, and cut off when the shard is sealed).
        let (from, to) = (flushed / ALIGNMENT * ALIGNMENT, end.next_multiple_of(ALIGNMENT));
        let pieces: Vec<IoSlice<'_>> = pins
            .iter()
            .map(|(start, pin)| {
                let bytes = pin.bytes(SLOT_LEN.min(to - start) as usize);
                IoSlice::new(&bytes[from.saturating_sub(*start) as usize..])
            })
            .collect();
        shard.file.write(&pieces, from)?;
        flushed = end;
        shard.flushed.store(flushed, Ordering::Release);
        // A file's writer waits for the hasher too, who then says so.
        let hashed_first = options.when_full == WhenFull::Wait && shard.hasher().is_some();
        for (_, pin) in pins.iter().filter(|(start, _)| !hashed_first && start + SLOT_LEN <= end) {
            pin.done();
        }
    }
    if flushed == committed && committed > 0 {
        *lock(&shard.whole) = Some(published);
    }
    // The last block, also when its last packets were written before the writer moved on.
    if full_at != 0 && flushed == full_at {
        let hashed_first = options.when_full == WhenFull::Wait && shard.hasher().is_some();
        if let Some(pin) = shard.pin((full_at - 1) / SLOT_LEN).filter(|_| !hashed_first) {
            pin.done();
        }
    }
    Ok(())
}

struct Keeper {
    store: Store,
    live: Arc<TapLive>,
    options: WriterOptions,
    /// To the writer: shards that are ready. A channel and no lock, see [`slot`](super::slot).
    next: SyncSender<Arc<LiveShard>>,
}

impl Keeper {
    fn run(&self, stop: &AtomicBool) {
        let mut last_sync = Instant::now();
        loop {
            // Read first: what was written before the stop is then seen below.
            let stopping = stop.load(Ordering::Acquire);
            let sync = stopping || last_sync.elapsed() >= self.options.sync_interval;
            if sync {
                last_sync = Instant::now();
            }
            if stopping {
                self.remove_unused();
            }
            match self.round(sync, stopping) {
                Ok(()) if stopping && self.live.shards().is_empty() => {
                    // Also when there was no room for a shard that was not needed after all.
                    self.live.well(Who::Keeper);
                    break;
                }
                // The disk took no more: recovery finds the rest in staging, which stays.
                Ok(()) if stopping && self.live.flusher_done.load(Ordering::Acquire) && !self.flushed() => {
                    break;
                }
                Ok(()) => {
                    self.live.well(Who::Keeper);
                    self.live.keeper.wait(if stopping {
                        Duration::from_millis(5)
                    } else {
                        Duration::from_millis(100)
                    });
                }
                Err(trouble) => {
                    self.live.say(Who::Keeper, trouble);
                    if stopping {
                        break;
                    }
                    std::thread::sleep(RETRY);
                }
            }
        }
        if self.live.shards().is_empty() {
            let _ = std::fs::remove_file(self.live.slots.staging().path());
        }
    }

    /// Made ready and never begun.
    fn remove_unused(&self) {
        for unused in self.live.shards().into_iter().filter(|s| !s.begun()) {
            self.live.remove(unused.id);
            unused.file.remove();
            let _ = self.store.shard_deleted(unused.id);
            self.live.slots.staging().forget(unused.place);
        }
    }

    /// Whether every open shard's bytes are in its file.
    fn flushed(&self) -> bool {
        self.live
            .shards()
            .iter()
            .all(|s| s.flushed.load(Ordering::Acquire) == s.full_at.load(Ordering::Acquire))
    }

    fn round(&self, sync: bool, stopping: bool) -> Result<(), StoreError> {
        // First, so that neither a sync nor a seal makes the writer wait for its next shard.
        let shards = self.live.shards();
        let mut prepared = Ok(());
        if !stopping && shards.len() < OPEN_SHARDS && shards.iter().all(|s| s.begun()) {
            prepared = prepare(&self.store, &self.live, &self.options).map(|next| {
                // There is room: all that was sent before was begun. A writer that is gone needs none.
                let _ = self.next.try_send(next);
            });
        }
        for shard in self.live.shards() {
            let full_at = shard.full_at.load(Ordering::Acquire);
            if full_at != 0 && shard.flushed.load(Ordering::Acquire) == full_at {
                self.seal(&shard, full_at)?;
            } else if full_at != 0 {
                // In order: nothing of a later shard is durable before the whole of an earlier one, so that an import that
                // a power loss cut can count its packets.
                break;
            } else if sync {
                self.sync(&shard)?;
            }
        }
        prepared
    }

    /// Makes durable what the flusher has written up to a publication, and says so in the mark.
    fn sync(&self, shard: &LiveShard) -> Result<(), StoreError> {
        let Some(whole) = lock(&shard.whole).take() else { return Ok(()) };
        shard.file.sync(&Mark { shard: shard.id, bytes: whole.committed, packets: whole.packets })
    }

    fn seal(&self, shard: &Arc<LiveShard>, bytes: u64) -> Result<(), StoreError> {
        let published = shard.published();
        shard.file.seal(bytes)?;
        let anchors = shard.anchors();
        self.store.append(&JournalRecord::ShardAnchors { shard: shard.id, offsets: anchors })?;
        // Before it is known as sealed: nobody reads it to hash it then.
        if let Some(ShardHashes { whole: hash, blocks }) = hashing::finish(shard, bytes) {
            self.store.append(&JournalRecord::ShardHashed { shard: shard.id, hash, blocks })?;
        }
        self.store.shard_sealed(shard.id, bytes, published.packets, shard.times())?;
        shard.file.remove_mark();
        *lock(&shard.last_published) = Some(published);
        shard.sealed.store(true, Ordering::Release);
        self.live.slots.staging().forget(shard.place);
        self.live.remove(shard.id);
        // A view of it that is kept open would keep this one's files and slots as well.
        self.store.forget_view(shard.id);
        self.store.notify();
        Ok(())
    }
}
