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
        let wanted = all
            .sources
            .values()
            .filter(|s| filled.contains(&s.id) || s.id == all.given.source || s.kind != SourceKind::Live);
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
            JournalRecord::SourceOpened { source, .. }
            | JournalRecord::SourceContinues { source, .. }
            | JournalRecord::SourceDone { source, .. } => self.sources.contains(source),
            JournalRecord::TapOpened { tap, .. } => self.taps.contains(tap),
            JournalRecord::ShardOpened { shard, .. }
            | JournalRecord::ShardSealed { shard, .. }
            | JournalRecord::ShardHashed { shard, .. }
            | JournalRecord::ShardAnchors { shard, .. } => self.shards.contains(shard),
            JournalRecord::ShardRecovered(recovered) => self.shards.contains(&recovered.shard),
            JournalRecord::Drops(drops) => since(&drops.tap),
            // They have files of their own.
            JournalRecord::Statistics(_) => false,
            JournalRecord::InterfaceAway { tap, .. } => since(tap),
            JournalRecord::ClockStep { .. } => self.since.values().min().is_none_or(|since| at > *since),
            JournalRecord::Named { stream, .. } => self.named.get(stream) == Some(&at),
            JournalRecord::Note { .. } => true,
            // Written anew, with what was added since.
            JournalRecord::ShardDeleted { .. } | JournalRecord::Trimmed { .. } | JournalRecord::Given(_) => {
                false
            }
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
        compacted.missed_gone =
            (catalog.missed_gone + catalog.missed.len()).saturating_sub(compacted.missed.len());
        *catalog = compacted;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CaptureTime, Drops, LinkType, NewTap, Provenance, ShardWriter, WhenFull, WriterOptions};

    struct Recording {
        store: Store,
        lock: WriterLock,
        tap: TapId,
        writer: Option<ShardWriter>,
        second: i64,
        _dir: tempfile::TempDir,
    }

    impl Recording {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::create(&dir.path().join("store")).unwrap();
            let lock = store.lock().unwrap();
            let source = store.open_source(&lock, SourceKind::Live, CaptureTime::MIN).unwrap();
            let name = "eth0".to_owned();
            let (link, provenance) = (LinkType::ETHERNET, Provenance::Captured);
            let tap = NewTap { source, name, link, snaplen: 1_500, provenance };
            let options = WriterOptions {
                shard_size: 1 << 20,
                staging_bytes: 8 << 20,
                when_full: WhenFull::Wait,
                hash: true,
                ..Default::default()
            };
            let writer = ShardWriter::open(&store, &lock, tap, options).unwrap();
            let tap = writer.tap();
            Self { store, lock, tap, writer: Some(writer), second: 0, _dir: dir }
        }

        /// A second's packets, and losses in it.
        fn second(&mut self, packets: u32) {
            self.second += 1;
            let writer = self.writer.as_mut().unwrap();
            for n in 0..packets {
                writer.append(
                    CaptureTime::from_nanos(self.second * 1_000_000_000 + i64::from(n)),
                    1_200,
                    &[7; 1_200],
                );
            }
            writer.publish();
            let at = CaptureTime::from_nanos(self.second * 1_000_000_000);
            let drops = Drops {
                tap: self.tap,
                from: at,
                to: at,
                received: 1,
                kernel: 2,
                nic: 3,
                ours: self.second as u64,
            };
            self.store.append(&JournalRecord::Drops(drops)).unwrap();
        }

        fn keep(&self, shards: usize) {
            let sealed: Vec<_> = self.store.shards().into_iter().filter(|s| s.sealed).collect();
            for old in &sealed[..sealed.len().saturating_sub(shards)] {
                self.store.delete_shard(&self.lock, old.id).unwrap();
            }
        }

        fn journal_len(&self) -> u64 {
            self.store.dir().join("journal/000001.journal").metadata().unwrap().len()
        }
    }

    /// What a store says of itself.
    fn said(store: &Store) -> String {
        let missed = store.missed_since(&mut 0).len();
        format!(
            "{:?}\n{:?}\n{:?}\n{:?}\n{missed}",
            store.shards(),
            store.taps(),
            store.sources(),
            store.names()
        )
    }

    #[test]
    fn the_journal_is_bounded_by_what_is_retained() {
        let mut r = Recording::new();
        let reader = Store::open(r.store.dir()).unwrap();
        let (mut longest, mut appended, mut read, mut told) = (0, 0u64, 0, 0);
        for _ in 0..120 {
            r.second(900);
            // As after hours in which packets were lost each second.
            for _ in 0..600 {
                r.second(0);
            }
            appended += 601 * 30;
            told += r.store.missed_since(&mut read).len();
            r.keep(2);
            longest = longest.max(r.journal_len());
        }
        assert!(appended > 2_000_000, "the test must append more than it allows");
        assert!(longest < 700_000, "{longest} bytes of journal for three shards");
        assert_eq!(told, 120 * 601, "each loss was told once");
        r.writer.take().unwrap().finish().unwrap();
        let trimmed = r.store.trimmed(r.tap);
        let left: u64 = r.store.shards().iter().map(|s| s.packets).sum();
        assert!(trimmed.shards > 40);
        assert_eq!(trimmed.packets + left, 120 * 900, "what was deleted stays counted");
        // Opened anew, and followed from outside since the beginning, it is the same store.
        let now = said(&r.store);
        assert_eq!(said(&Store::open(r.store.dir()).unwrap()), now);
        reader.refresh().unwrap();
        assert_eq!(said(&reader), now);
        assert_eq!(reader.trimmed(r.tap), trimmed);
        assert_eq!(reader.journal_damage(), 0);
    }

    #[test]
    fn no_number_is_given_twice_and_names_stay() {
        let mut r = Recording::new();
        r.second(800);
        r.store.append(&JournalRecord::Named { stream: "a".into(), name: "b".into() }).unwrap();
        r.store.append(&JournalRecord::Named { stream: "a".into(), name: "gate".into() }).unwrap();
        r.writer.take().unwrap().finish().unwrap();
        let (source, last) = (r.store.sources()[0].id, r.store.shards().last().unwrap().id);
        r.store.close_source(source, 800, None, None).unwrap();
        let next = r.store.open_source(&r.lock, SourceKind::Live, CaptureTime::MIN).unwrap();
        for _ in 0..8_000 {
            r.second += 1;
            r.store.append(&JournalRecord::ClockStep { at: CaptureTime::MIN, nanos: r.second }).unwrap();
            r.store.append(&JournalRecord::Note { kind: "x".into(), body: vec![0; 20] }).unwrap();
        }
        r.keep(0);
        let records = r.store.journal_records().unwrap();
        assert!(matches!(records[0], JournalRecord::Given(_)), "it was compacted");
        let again = Store::open(r.store.dir()).unwrap();
        assert_eq!(
            again.sources().iter().map(|s| s.id).collect::<Vec<_>>(),
            [next],
            "the first run is forgotten"
        );
        assert!(again.taps().is_empty() && again.shards().is_empty());
        assert_eq!(again.names().get("a").map(String::as_str), Some("gate"));
        // One more may have been made ready and never begun: its number was given as well.
        assert_eq!(again.next_shard_id(), r.store.next_shard_id());
        assert!(again.next_shard_id() > last);
        drop(r.lock);
        let lock = again.lock().unwrap();
        assert_eq!(
            again.open_source(&lock, SourceKind::Live, CaptureTime::MIN).unwrap(),
            SourceId(next.0 + 1)
        );
        let epochs: Vec<u64> = again
            .journal_records()
            .unwrap()
            .iter()
            .filter_map(|r| match r {
                JournalRecord::SourceOpened { epoch, .. } => Some(*epoch),
                _ => None,
            })
            .collect();
        assert_eq!(epochs, [2, 3], "runs are counted on");
    }

    /// A kill before the new journal takes the old one's place leaves a file that nobody reads; a damaged journal is left alone.
    #[test]
    fn a_kill_while_it_is_compacted_and_damage_leave_the_journal_as_it_was() {
        let mut r = Recording::new();
        r.second(2_000);
        for _ in 0..12_000 {
            r.second(0);
        }
        r.writer.take().unwrap().finish().unwrap();
        let path = r.store.dir().join("journal/000001.journal");
        std::fs::write(path.with_extension("part"), b"half of a jour").unwrap();
        let before = said(&r.store);
        assert_eq!(said(&Store::open(r.store.dir()).unwrap()), before);

        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        damaged[40] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let hurt = Store::open(r.store.dir()).unwrap();
        assert!(hurt.journal_damage() > 0 && !hurt.compact_journal(&r.lock).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), damaged);

        std::fs::write(&path, &whole).unwrap();
        let sound = Store::open(r.store.dir()).unwrap();
        assert!(sound.compact_journal(&r.lock).unwrap());
        assert!(!path.with_extension("part").exists());
        assert_eq!(said(&sound), said(&Store::open(r.store.dir()).unwrap()));
        assert!(!sound.compact_journal(&r.lock).unwrap(), "once is enough");
    }
}
