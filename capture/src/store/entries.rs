//! What changes in a store, into its journal and then into its catalog.

use super::{NewTap, SourceInfo, Store, TapInfo, WriterLock, guard};
use crate::journal::{JournalRecord, SourceKind};
use crate::{CaptureTime, ShardId, SourceId, StoreError, TapId};
use std::sync::atomic::Ordering;

impl Store {
    /// Begins a source: a run of a recording, or a file.
    pub fn open_source(
        &self,
        _lock: &WriterLock,
        kind: SourceKind,
        at: CaptureTime,
    ) -> Result<SourceId, StoreError> {
        let given = self.catalog().given;
        let (source, epoch) = (SourceId(given.source.0 + 1), given.run + 1);
        self.append(&JournalRecord::SourceOpened { source, kind, recorder: self.0.id.0, epoch, at })?;
        Ok(source)
    }

    /// Makes an open source the next part of the recording that `before` is a part of: what lies between the two is taken in as if the recording
    /// had rested.
    pub fn continue_source(&self, source: SourceId, before: SourceId) -> Result<(), StoreError> {
        let of = self.catalog().sources.get(&before).map_or(before, SourceInfo::recording);
        self.append(&JournalRecord::SourceContinues { source, of })
    }

    /// Ends a source.
    pub fn close_source(
        &self,
        source: SourceId,
        packets: u64,
        damage: Option<crate::file::Damage>,
        hash: Option<[u8; 32]>,
    ) -> Result<(), StoreError> {
        self.append(&JournalRecord::SourceDone { source, packets, damage, hash })?;
        self.sync_journal()
    }

    /// Makes a tap known, or gives the source's own of that name again: an import that goes on.
    pub(crate) fn open_tap(&self, _lock: &WriterLock, new: NewTap) -> Result<TapInfo, StoreError> {
        let NewTap { source, name, link, snaplen, provenance } = new;
        let known = self
            .catalog()
            .taps
            .values()
            .find(|t| t.source == source && t.name == name && t.link == link)
            .cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let id = TapId(self.catalog().given.tap.0 + 1);
        self.append(&JournalRecord::TapOpened { tap: id, source, name: name.clone(), link, snaplen })?;
        Ok(TapInfo { id, source, name, link, snaplen, provenance })
    }

    /// Appends to the journal and takes the record in.
    pub fn append(&self, record: &JournalRecord) -> Result<(), StoreError> {
        // Held until the record is taken in: the journal may be compacted by another thread.
        let mut journal = guard(&self.0.journal);
        journal.append(record)?;
        self.catalog_mut().apply(record);
        Ok(())
    }

    /// Makes the journal durable.
    pub fn sync_journal(&self) -> Result<(), StoreError> {
        guard(&self.0.journal).sync()
    }

    pub(crate) fn next_shard_id(&self) -> ShardId {
        ShardId(self.0.next_shard.fetch_add(1, Ordering::AcqRel))
    }

    /// The highest number that the journal knows to have been given.
    pub(crate) fn last_shard_given(&self) -> ShardId {
        self.catalog().given.shard
    }

    /// A file of that number is there, whoever made it.
    pub(crate) fn avoid_shard_id(&self, id: ShardId) {
        self.0.next_shard.fetch_max(id.0.saturating_add(1), Ordering::AcqRel);
    }

    pub(crate) fn shard_opened(&self, shard: ShardId, tap: &TapInfo, size: u64) -> Result<(), StoreError> {
        self.append(&JournalRecord::ShardOpened { shard, tap: tap.id, size, provenance: tap.provenance })?;
        self.sync_journal()
    }

    pub(crate) fn shard_sealed(
        &self,
        shard: ShardId,
        bytes: u64,
        packets: u64,
        times: Option<(CaptureTime, CaptureTime)>,
    ) -> Result<(), StoreError> {
        self.append(&JournalRecord::ShardSealed { shard, bytes, packets, times })?;
        self.sync_journal()
    }

    /// Strikes a shard off; the caller unlinks its file afterwards.
    pub(crate) fn shard_deleted(&self, shard: ShardId) -> Result<(), StoreError> {
        self.append(&JournalRecord::ShardDeleted { shard })?;
        self.sync_journal()?;
        self.forget_view(shard);
        Ok(())
    }
}
