//! What goes on beside the capture: retention, and hashing what is sealed.

use super::room::{Full, Room};
use crate::failure::Failure;
use crate::writing::WrittenStore;
use capture::{Retention, Store, StoreError};
use reconstruct::index::Index;
use reconstruct::indexer;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Slept after each MiB that is hashed: at most about 400 MiB/s, which leaves the disk to the capture.
const HASH_PAUSE: Duration = Duration::from_millis(2);
const HASH_NICE: i32 = 19;
/// How often it is looked for shards that were sealed meanwhile.
const HASH_IDLE: Duration = Duration::from_millis(500);

/// Hashing goes on for so long when a recording ends.
const FINISH_TIME: Duration = Duration::from_secs(2);

/// What is kept free when nothing is said, unless the filesystem is smaller than twenty times this.
const MIN_FREE: u64 = 1 << 30;

/// What the index's log reserves (16 MiB), what a new shard leaves free, and as much again for what is written meanwhile.
const INDEX_ROOM: u64 = (16 << 20) + 2 * capture::LEFT_FREE;

/// Retention by size, age and free space.
pub struct Retaining {
    bounds: Retention,
    /// What a shard that is being written takes, however little is in it yet.
    shard_size: u64,
    room: Room,
}

impl Retaining {
    /// Some room is always kept free: a full disk stops the recording, and one that has no room for the next shards of each of the `taps`, of which
    /// two are made at the start, is full. Who asks for none wants nothing deleted for it.
    pub fn new(store: &Store, bounds: Retention, shard_size: u64, taps: usize) -> Result<Self, Failure> {
        let disk = rustix::fs::statvfs(store.dir()).map_err(|error| {
            Failure::failed(format_args!("cannot examine {}: {error}", store.dir().display()))
        })?;
        let usual = MIN_FREE.min(disk.f_blocks * disk.f_frsize / 20);
        let next_shards = 2 * shard_size * taps as u64 + INDEX_ROOM;
        let min_free = match bounds.min_free {
            Some(0) => None,
            asked => Some(asked.unwrap_or(usual).max(next_shards)),
        };
        Ok(Self { bounds: Retention { min_free, ..bounds }, shard_size, room: Room::default() })
    }

    /// Room that stays free.
    pub fn min_free(&self) -> u64 {
        self.bounds.min_free.unwrap_or(0)
    }

    /// How many bytes are kept at the most.
    pub fn max_bytes(&self) -> Option<u64> {
        self.bounds.max_bytes
    }

    /// Deletes the shards that have to go, and their index entries. Gives what is to be told of it.
    pub fn round(&mut self, written: &WrittenStore, index: &Index) -> Result<Option<Full>, Failure> {
        let shards = written.store.shards();
        let open = shards.iter().filter(|shard| !shard.sealed).count() as u64;
        let free = written.store.free_bytes()?;
        let going = self.bounds.plan(&shards, open * self.shard_size, free, crate::times::now());
        for shard in &going {
            indexer::delete_shard(&written.store, &written.lock, index, *shard)?;
        }
        if going.is_empty() {
            return Ok(None);
        }
        // A journaling filesystem gives the room back when it commits: else the next round would find too little still.
        let dir = written.store.shards_dir();
        File::open(&dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("syncing", &dir))?;
        let Some(min_free) = self.bounds.min_free.filter(|min| free < *min) else { return Ok(None) };
        let held = shards.iter().filter(|shard| !going.contains(&shard.id)).map(|shard| shard.bytes).sum();
        Ok(self.room.made(held, 2 * (open + 1) * self.shard_size, min_free))
    }
}

/// The thread that hashes those sealed shards into the journal that could not be hashed as they were written.
pub struct Hashing {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hashing {
    /// Starts it. The capture comes first, so it sleeps after each MiB.
    pub fn start(store: &Store) -> Result<Self, Failure> {
        let (stop, store) = (Arc::new(AtomicBool::new(false)), store.clone());
        let stopped = stop.clone();
        let work = move || {
            capture::lower_priority(HASH_NICE);
            while !stopped.load(Ordering::Acquire) {
                match store.hash_next_shard(HASH_PAUSE) {
                    Ok(true) => {}
                    Ok(false) => std::thread::park_timeout(HASH_IDLE),
                    Err(error) => {
                        tracing::warn!("hashing: {error}");
                        std::thread::park_timeout(HASH_IDLE * 10);
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("hashing".into()).spawn(work);
        let thread =
            thread.map_err(|error| Failure::failed(format_args!("cannot start a thread: {error}")))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends it, and hashes what was sealed last unless that takes long; the next recording goes on with the rest.
    pub fn finish(&mut self, store: &Store) {
        self.stop();
        let began = Instant::now();
        while began.elapsed() < FINISH_TIME {
            match store.hash_next_shard(Duration::ZERO) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return tracing::warn!("hashing: {error}"),
            }
        }
    }

    /// Ends it after the shard that it is at.
    fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether shards can be made in the store with the privileges that are left.
pub fn check_writable(dir: &Path) -> Result<(), Failure> {
    let probe = dir.join(format!(".writable-{}", std::process::id()));
    let tried = File::create(&probe).and_then(|_| std::fs::remove_file(&probe));
    tried.map_err(|error: io::Error| {
        Failure::failed(format_args!("cannot write into {}: {error}", dir.display()))
            .next("run this as the user that owns the store, or chown it; being root does not help: recording keeps CAP_NET_RAW alone")
    })
}
