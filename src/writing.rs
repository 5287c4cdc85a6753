//! Taking a store to write to it: the lock, and what recovery has to say.

use crate::console::Console;
use crate::failure::Failure;
use crate::size::{ByteSize, count};
use capture::{Recovered, Store, WriterLock};
use std::path::Path;
use std::sync::Arc;

/// A store that this process writes.
pub struct WrittenStore {
    /// The store.
    pub store: Store,
    /// The right to write, until it is dropped.
    pub lock: Arc<WriterLock>,
}

impl WrittenStore {
    /// Makes the store if it is not there, takes the lock, brings in order what a crash left, and says so.
    pub fn create(dir: &Path, console: &Console) -> Result<Self, Failure> {
        Self::take(Store::create(dir)?, console)
    }

    /// Takes a store that must exist.
    pub fn open(dir: &Path, console: &Console) -> Result<Self, Failure> {
        Self::take(Store::open(dir)?, console)
    }

    fn take(store: Store, console: &Console) -> Result<Self, Failure> {
        let lock = Arc::new(store.lock()?);
        for recovered in store.recover(&lock)? {
            console.say(sentence(&recovered));
        }
        Ok(Self { store, lock })
    }

    /// Brings in order what a failure of this process has left, and says so; false where that can't be done.
    pub fn recover(&self, console: &Console) -> bool {
        let recovered = self.store.recover(&self.lock);
        match &recovered {
            Ok(shards) => shards.iter().for_each(|shard| console.say(sentence(shard))),
            Err(error) => console.line(&format!("tapdeck: {error}")),
        }
        recovered.is_ok()
    }
}

fn sentence(recovered: &Recovered) -> String {
    if recovered.bytes == 0 {
        return format!(
            "shard {} had just been begun: nothing of it was safe on disk yet, and its packets are not in memory any more (the machine was \
             restarted, or this is a copy)",
            recovered.shard
        );
    }
    let mut text = format!(
        "recovered shard {}, which was not finished: {} packets, {}",
        recovered.shard,
        count(recovered.packets),
        ByteSize(recovered.bytes)
    );
    match recovered.complete {
        true => text.push_str("; nothing that was published is missing"),
        false => text.push_str(
            "; its newest packets are not in memory any more (the machine was restarted, or this is a copy), up to a second of them can be \
             missing",
        ),
    }
    if let Some(offset) = recovered.torn_at {
        text.push_str(&format!("; damaged from byte {offset} on, see `tapdeck verify`"));
    }
    text
}
