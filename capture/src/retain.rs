//! Retention: which shards go, and how one goes. The plan is pure; the oldest go first.

use crate::journal::Provenance;
use crate::shard::shard_path;
use crate::store::{ShardInfo, Store, WriterLock};
use crate::{CaptureTime, ShardId, StoreError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What a store may hold. Every bound that is set is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// All shards together, in bytes.
    pub max_bytes: Option<u64>,
    /// Since a shard's last packet; imported footage is left alone unless `imported` is set.
    pub max_age: Option<Duration>,
    /// Bytes that stay free on the disk.
    pub min_free: Option<u64>,
    /// Whether age counts for imported footage too.
    pub imported: bool,
}

impl Retention {
    /// The shards that have to go, oldest first: source by source, in the order in which their last packets were captured. A
    /// quiet tap's shard, which began long ago, so stays as long as what its packets belong to. `reserved`: bytes of shards that are being written, which count but stay.
    pub fn plan(&self, shards: &[ShardInfo], reserved: u64, free: u64, now: CaptureTime) -> Vec<ShardId> {
        let sealed = in_order(shards);
        let mut held = reserved + sealed.iter().map(|s| s.bytes).sum::<u64>();
        let mut free = free;
        let mut going = Vec::new();
        for shard in sealed {
            let too_much =
                self.max_bytes.is_some_and(|max| held > max) || self.min_free.is_some_and(|min| free < min);
            let by_age = self.imported || shard.provenance != Provenance::Imported;
            let too_old = self
                .max_age
                .filter(|_| by_age)
                .zip(shard.times)
                .is_some_and(|(max, (_, last))| last < now.minus(max));
            if too_much || too_old {
                going.push(shard.id);
                held -= shard.bytes;
                free += shard.bytes;
            }
        }
        going
    }
}

/// Sealed shards, the oldest first. A tap's own shards stay in order when its clock is set back.
fn in_order(shards: &[ShardInfo]) -> Vec<&ShardInfo> {
    let mut latest = BTreeMap::new();
    let mut order: Vec<_> = shards
        .iter()
        .filter(|s| s.sealed)
        .map(|s| {
            let last: &mut CaptureTime = latest.entry(s.tap).or_insert(CaptureTime::MIN);
            *last = s.times.map_or(*last, |(_, end)| end.max(*last));
            ((s.source, *last, s.id), s)
        })
        .collect();
    order.sort_unstable_by_key(|(key, _)| *key);
    order.into_iter().map(|(_, s)| s).collect()
}

impl Store {
    /// Free bytes on the store's disk.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let stat =
            rustix::fs::statvfs(self.dir()).map_err(|e| StoreError::io("examining", self.dir())(e.into()))?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// The indexer's state as of a shard's beginning, kept beside the shard; it goes with it.
    pub fn state_path(&self, id: ShardId) -> PathBuf {
        shard_path(&self.shards_dir(), id).with_extension("state")
    }

    /// The indexer's state as of its source's end, kept beside the source's last shard.
    pub fn end_path(&self, id: ShardId) -> PathBuf {
        shard_path(&self.shards_dir(), id).with_extension("end")
    }

    /// The index's rows of footage before that state which is retained; it goes with the shard too.
    pub fn rest_path(&self, id: ShardId) -> PathBuf {
        shard_path(&self.shards_dir(), id).with_extension("rest")
    }

    /// Deletes a sealed shard and what is kept beside it: the journal first, so that a crash leaves no entry without a file.
    /// Readers that hold it go on reading; its blocks are free when the last of them lets go.
    pub fn delete_shard(&self, lock: &WriterLock, id: ShardId) -> Result<(), StoreError> {
        if !self.shard_info(id).is_some_and(|s| s.sealed) {
            return Err(StoreError::Gone { shard: id });
        }
        self.shard_deleted(id)?;
        let shard = shard_path(&self.shards_dir(), id);
        for path in [shard, self.state_path(id), self.end_path(id), self.rest_path(id)] {
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::io("deleting", path)(e));
                }
                _ => {}
            }
        }
        if let Err(error) = self.compact_journal(lock) {
            // The shard is gone all the same; it is tried again with the next one.
            tracing::warn!("compacting the journal: {error}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LinkType, SourceId, TapId};

    fn shard(id: u64, sealed: bool, provenance: Provenance) -> ShardInfo {
        let at = CaptureTime::from_nanos(id as i64 * 1_000_000_000);
        ShardInfo {
            id: ShardId(id),
            tap: TapId(1),
            source: SourceId(1),
            link: LinkType::ETHERNET,
            sealed,
            bytes: 100,
            packets: 1,
            times: Some((at, at)),
            hash: None,
            provenance,
            anchors: Default::default(),
            blocks: Default::default(),
        }
    }

    #[test]
    fn the_oldest_go_first_and_only_as_many_as_needed() {
        let shards: Vec<_> = (1..=5).map(|id| shard(id, id < 5, Provenance::Captured)).collect();
        let ids = |r: Retention, free: u64, now: i64| {
            r.plan(&shards, 100, free, CaptureTime::from_nanos(now * 1_000_000_000))
                .iter()
                .map(|s| s.0)
                .collect::<Vec<_>>()
        };
        let none = Retention::default();
        assert!(ids(none, 0, 100).is_empty());
        assert_eq!(ids(Retention { max_bytes: Some(300), ..none }, 0, 0), [1, 2]);
        assert_eq!(ids(Retention { min_free: Some(250), ..none }, 50, 0), [1, 2]);
        assert_eq!(ids(Retention { max_age: Some(Duration::from_secs(7)), ..none }, 0, 10), [1, 2]);
        assert_eq!(
            ids(Retention { max_bytes: Some(0), ..none }, 0, 0),
            [1, 2, 3, 4],
            "what is being written stays"
        );
    }

    #[test]
    fn age_leaves_imported_footage_alone_unless_asked() {
        let shards = [shard(1, true, Provenance::Imported)];
        let old = Retention { max_age: Some(Duration::from_secs(1)), ..Default::default() };
        let now = CaptureTime::from_nanos(i64::MAX);
        assert!(old.plan(&shards, 0, 0, now).is_empty());
        assert_eq!(Retention { imported: true, ..old }.plan(&shards, 0, 0, now), [ShardId(1)]);
    }

    #[test]
    fn a_quiet_taps_shard_stays_as_long_as_what_was_captured_with_its_end() {
        let of = |id, tap, last| {
            let mut s = shard(id, true, Provenance::Captured);
            s.tap = TapId(tap);
            s.times = Some((s.times.unwrap().0, CaptureTime::from_nanos(last)));
            s
        };
        // The second tap's only shard was open all the time; the first tap's clock was set back in its third.
        let shards = [of(1, 1, 10), of(2, 2, 25), of(3, 1, 20), of(4, 1, 5), of(5, 1, 30)];
        let going = Retention { max_bytes: Some(0), ..Default::default() }.plan(
            &shards,
            0,
            0,
            CaptureTime::from_nanos(0),
        );
        assert_eq!(going.iter().map(|s| s.0).collect::<Vec<_>>(), [1, 3, 4, 2, 5]);
    }
}
