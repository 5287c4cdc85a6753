//! Compacting the journal: what belongs to shards that retention has deleted goes.
//!
//! Losses and absences carry no shard. They stay if they were written after the tap's oldest retained shard was opened, which is
//! before its first packet: by the journal's order, since a clock may be set back.

use crate::catalog::Catalog;
use crate::journal::{JournalRecord, SourceKind};
use crate::store::{Store, WriterLock};
use crate::{ShardId, SourceId, StoreError, TapId};
use std::collections::{BTreeMap, BTreeSet};

/// What of a journal's records still says something. Read from the beginning, they give the same store.
pub fn condense(records: &[JournalRecord]) -> Vec<JournalRecord> {
    let mut all = Catalog::default();
    records.iter().for_each(|record| all.apply(record));
    let keep = Keep::new(&all, records);
    let mut kept = vec![JournalRecord::Given(all.given)];
    for (at, record) in records.iter().enumerate() {
        if !keep.wanted(at, record) {
            continue;
        }
        kept.push(record.clone());
        if let JournalRecord::TapOpened { tap, .. } = record
            && let Some(&trimmed) = all.trimmed.get(tap)
        {
            kept.push(JournalRecord::Trimmed { tap: *tap, trimmed });
        }
    }
    kept
}

struct Keep {
    sources: BTreeSet<SourceId>,
    taps: BTreeSet<TapId>,
    shards: BTreeSet<ShardId>,
    /// Where in the journal each tap's oldest retained shard was opened.
    since: BTreeMap<TapId, usize>,
    /// For each given name, the record that gave it last.
    named: BTreeMap<String, usize>,
}

impl Keep {
    fn new(all: &Catalog, records: &[JournalRecord]) -> Self {
        let filled: BTreeSet<SourceId> = all.shards.values().map(|s| s.source).collect();
        // Of a file it stays known that it was imported; of a recording nothing, once no packet of it is left.
        let wanted = all.sources.values().filter(|s| {
            filled.contains(&s.id) || s.id == all.given.source || s.kind != SourceKind::Live
        });
        let sources: BTreeSet<SourceId> = wanted.map(|s| s.id).collect();
        let of_use = |source: SourceId| {
            filled.contains(&source) || all.sources.get(&source).is_some_and(|s| !s.complete)
        };
        let taps = all.taps.values().filter(|t| sources.contains(&t.source) && of_use(t.source));
        let mut keep = Self {
            taps: taps.map(|t| t.id).collect(),
            sources,
            shards: all.shards.keys().copied().collect(),
            since: BTreeMap::new(),
            named: BTreeMap::new(),
        };
        for (at, record) in records.iter().enumerate() {
            match record {
                JournalRecord::ShardOpened { shard, tap, .. } if keep.shards.contains(shard) => {
                    keep.since.entry(*tap).or_insert(at);
                }
                JournalRecord::Named { stream, .. } => {
                    keep.named.insert(stream.clone(), at);
                }
                _ => {}
            }
        }
        keep
    }

    fn wanted(&self, at: usize, record: &JournalRecord) -> bool {
        let since = |tap: &TapId| self.since.get(tap).is_some_and(|since| at > *since);
        match record {
            JournalRecord::SourceOpened { source, .. } | JournalRecord::SourceDone { source, .. } => {
                self.sources.contains(source)
            }
            JournalRecord::TapOpened { tap, .. } => self.taps.contains(tap),
            JournalRecord::ShardOpened { shard, .. }
            | JournalRecord::ShardSealed { shard, .. }
            | JournalRecord::ShardHashed { shard, .. }
            | JournalRecord::ShardAnchors { shard, .. } => self.shards.contains(shard),
            JournalRecord::ShardRecovered(recovered) => self.shards.contains(&recovered.shard),
            JournalRecord::Drops(drops) => since(&drops.tap),
            JournalRecord::InterfaceAway { tap, .. } => since(tap),
            JournalRecord::ClockStep { .. } => self.since.values().min().is_none_or(|since| at > *since),
            JournalRecord::Named { stream, .. } => self.named.get(stream) == Some(&at),
            JournalRecord::Note { .. } => true,
            // Written anew, with what was added since.
            JournalRecord::ShardDeleted { .. } | JournalRecord::Trimmed { .. } | JournalRecord::Given(_) => false,
        }
    }
}

impl Store {
    /// Compacts the journal when it has doubled since the last time, so that its length is bounded by what is retained. A
    /// damaged journal stays as it is: `verify` tells of it, and recovery leaves files alone that it may have known.
    pub fn compact_journal(&self, _lock: &WriterLock) -> Result<bool, StoreError> {
        let mut journal = self.journal();
        if !journal.grown() || journal.damaged() > 0 {
            return Ok(false);
        }
        let kept = condense(&self.journal_records()?);
        journal.replace(&kept)?;
        let mut compacted = Catalog::default();
        kept.iter().for_each(|record| compacted.apply(record));
        let mut catalog = self.catalog_mut();
        // Whoever has read the losses up to now goes on behind them.
        compacted.drops_gone = (catalog.drops_gone + catalog.drops.len()).saturating_sub(compacted.drops.len());
        *catalog = compacted;
        Ok(true)
    }
}
