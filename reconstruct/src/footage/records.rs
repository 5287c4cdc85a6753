//! From places in shards to captured records, beside a writer: shards that are rotated, sealed or deleted meanwhile.

use capture::{ReadError, Record, Shard, ShardId, Store, StoreError};
use smallvec::SmallVec;
use std::sync::Arc;

/// What lies at a place that the index names.
pub enum Found {
    /// The record, and the shard that it is in.
    Record(Record, Arc<Shard>),
    /// Its shard was deleted by retention.
    Gone,
    /// Its bytes are no record any more, or its shard's file is missing.
    Damaged,
}

/// Opens shards and keeps those in use.
#[derive(Debug, Default)]
pub struct Records {
    /// The shard that most are in, and one before it.
    open: SmallVec<[Arc<Shard>; 2]>,
}

impl Records {
    /// The record at an offset of a shard.
    pub fn read(&mut self, store: &Store, id: ShardId, offset: u64) -> Result<Found, ReadError> {
        match self.read_once(store, id, offset) {
            Err(ReadError::Beyond { .. }) => {}
            other => return settle(other),
        }
        // A view of another process's open shard ends where that shard ended when it was sealed.
        self.open.retain(|s| s.id() != id);
        store.refresh()?;
        settle(self.read_once(store, id, offset))
    }

    fn read_once(&mut self, store: &Store, id: ShardId, offset: u64) -> Result<Found, ReadError> {
        let Some(shard) = self.shard(store, id)? else { return Ok(Found::Gone) };
        Ok(Found::Record(shard.record(offset)?, shard))
    }

    /// The shard, unless retention has deleted it.
    pub fn shard(&mut self, store: &Store, id: ShardId) -> Result<Option<Arc<Shard>>, StoreError> {
        if let Some(shard) = self.open.iter().find(|s| s.id() == id) {
            return Ok(Some(shard.clone()));
        }
        let Some(shard) = store.shard_if_retained(id)? else { return Ok(None) };
        if self.open.len() == 2 {
            self.open.remove(0);
        }
        self.open.push(shard.clone());
        Ok(Some(shard))
    }
}

/// Damage is an answer, everything else an error.
fn settle(read: Result<Found, ReadError>) -> Result<Found, ReadError> {
    match read {
        Err(
            ReadError::Torn { .. } | ReadError::Beyond { .. } | ReadError::Store(StoreError::Gone { .. }),
        ) => Ok(Found::Damaged),
        other => other,
    }
}
