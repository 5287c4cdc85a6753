//! Taking a store to write to it: the lock, and what recovery has to say.

use crate::console::Console;
use crate::failure::Failure;
use crate::size::{ByteSize, count};
use capture::{Recovered, Store, WriterLock};
use std::path::Path;

/// A store that this process writes.
pub struct WrittenStore {
    /// The store.
    pub store: Store,
    /// The right to write, until it is dropped.
    pub lock: WriterLock,
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
        let lock = store.lock()?;
        for recovered in store.recover(&lock)? {
            console.say(sentence(&recovered));
        }
        Ok(Self { store, lock })
    }
}

fn sentence(recovered: &Recovered) -> String {
    let mut text = format!(
        "recovered shard {} after a crash: {} packets, {}",
        recovered.shard,
        count(recovered.packets),
        ByteSize(recovered.bytes)
    );
    match recovered.complete {
        true => text.push_str("; nothing that was published is missing"),
        false => text
            .push_str("; the machine was restarted, so up to a second of its newest packets can be missing"),
    }
    if let Some(offset) = recovered.torn_at {
        text.push_str(&format!("; damaged from byte {offset} on, see `tapdeck verify`"));
    }
    text
}
