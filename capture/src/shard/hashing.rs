//! Hashes a tap's shards out of staging, in a thread of its own, while their bytes are still in memory.
//!
//! Read back from the disk, hashing was half of all that recording cost. A live tap never waits for this thread: where a slot was
//! needed before it came to it, the shard is left to [`Store::hash_next_shard`](crate::Store::hash_next_shard), which reads the file.
//! A file's tap waits, so that an import's shards need not be read again.

use super::live::{LiveShard, TapLive};
use super::staging::SLOT_LEN;
use crate::hash::{ShardHasher, ShardHashes};
use crate::priority::lower_priority;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Hashing comes last.
const NICE: i32 = 19;

/// Runs until the flusher has ended.
pub fn run(live: &TapLive, stop: &AtomicBool, low_priority: bool) {
    if low_priority {
        lower_priority(NICE);
    }
    while !(stop.load(Ordering::Acquire) && live.flusher_done.load(Ordering::Acquire)) {
        for shard in live.shards() {
            whole_blocks(&shard);
        }
        live.hashing.wait(Duration::from_millis(100));
    }
}

/// Hashes the whole blocks that are in the file.
fn whole_blocks(shard: &LiveShard) {
    loop {
        // Not for longer than a block: who seals the shard wants it too.
        let mut hasher = shard.hasher();
        let Some(at) = hasher.as_ref().map(ShardHasher::bytes) else { return };
        if at + SLOT_LEN > shard.flushed.load(Ordering::Acquire) {
            return;
        }
        block(shard, &mut hasher, SLOT_LEN);
    }
}

/// Hashes the next `len` bytes, which are one block's; without them the shard is given up.
fn block(shard: &LiveShard, hasher: &mut Option<ShardHasher>, len: u64) {
    let Some(hashed) = hasher else { return };
    match shard.pin(hashed.bytes() / SLOT_LEN) {
        Some(pin) => {
            hashed.update(pin.bytes(len as usize));
            pin.done();
        }
        None => *hasher = None,
    }
}

/// The hashes of a shard of which everything is in the file; `None` when some of it had left memory before.
pub fn finish(shard: &LiveShard, bytes: u64) -> Option<ShardHashes> {
    let mut hasher = shard.hasher();
    while let Some(at) = hasher.as_ref().map(ShardHasher::bytes)
        && at < bytes
    {
        block(shard, &mut hasher, SLOT_LEN.min(bytes - at));
    }
    hasher.take().map(ShardHasher::finish)
}
