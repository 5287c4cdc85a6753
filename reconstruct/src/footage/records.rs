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

#[cfg(test)]
mod tests {
    use super::super::synthetic::{append, time, video, writer};
    use super::*;
    use capture::RECORD_HEADER_LEN;

    /// Where the packets of `video` lie in the first shard: they are all of one length.
    fn offset(packet: u64) -> u64 {
        24 + packet * (RECORD_HEADER_LEN + 42 + 1300)
    }

    #[test]
    fn a_shard_that_was_sealed_meanwhile_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        let lock = store.lock().unwrap();
        let mut writer = writer(&store, &lock);
        let plan = video(1, 1, 0, 0..100);
        append(&mut writer, &plan[..50]);
        // As another process has it.
        let outside = Store::open(store.dir()).unwrap();
        let shard = outside.shards()[0].id;
        let mut records = Records::default();
        let mut times = |packets: std::ops::Range<u64>| -> Vec<_> {
            let found = packets.map(|n| records.read(&outside, shard, offset(n)).unwrap());
            found
                .map(|found| match found {
                    Found::Record(record, _) => Some(record.time),
                    Found::Gone | Found::Damaged => None,
                })
                .collect()
        };
        let planned = |packets: &[crate::footage::synthetic::Planned]| {
            packets.iter().map(|p| Some(time(p.ms))).collect::<Vec<_>>()
        };
        assert_eq!(times(0..50), planned(&plan[..50]), "the shard is open, and being written");
        append(&mut writer, &plan[50..]);
        writer.finish().unwrap();
        assert!(store.shards()[0].sealed);
        assert_eq!(times(40..100), planned(&plan[40..]));
        assert_eq!(times(100..101), [None], "and what it never had is no packet");
    }
}
