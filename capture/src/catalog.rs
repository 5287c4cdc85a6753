//! What the journal says, summed up in memory: which sources, taps and shards there are.

use crate::journal::{Given, JournalRecord, Missed, Provenance, SourceKind, Trimmed};
use crate::store::{ShardInfo, SourceInfo, TapInfo};
use crate::{ShardId, SourceId, TapId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the journal says, summed up.
#[derive(Debug, Default)]
pub struct Catalog {
    pub shards: BTreeMap<ShardId, ShardInfo>,
    pub taps: BTreeMap<TapId, TapInfo>,
    pub sources: BTreeMap<SourceId, SourceInfo>,
    pub names: BTreeMap<String, String>,
    pub missed: Vec<Missed>,
    /// Those that were struck off with their shards: the first of `missed` is the one behind them.
    pub missed_gone: usize,
    /// Of each tap, sealed shards that were deleted, and their packets.
    pub trimmed: BTreeMap<TapId, Trimmed>,
    /// The highest numbers that were given, also to what is struck off.
    pub given: Given,
}

impl Catalog {
    /// Takes a record in. One that was taken in before changes nothing, but for losses, which are told again.
    pub fn apply(&mut self, record: &JournalRecord) {
        match record.clone() {
            JournalRecord::SourceOpened { source, kind, at, epoch, .. } => {
                self.given.source = self.given.source.max(source);
                if kind == SourceKind::Live {
                    self.given.run = self.given.run.max(epoch);
                }
                let info = SourceInfo {
                    id: source,
                    kind,
                    at,
                    complete: false,
                    packets: 0,
                    damage: None,
                    hash: None,
                    continues: None,
                };
                self.sources.insert(source, info);
            }
            JournalRecord::SourceDone { source, packets, damage, hash } => {
                if let Some(s) = self.sources.get_mut(&source) {
                    (s.complete, s.packets, s.damage, s.hash) = (true, packets, damage, hash);
                }
            }
            JournalRecord::SourceContinues { source, of } => {
                if let Some(s) = self.sources.get_mut(&source) {
                    s.continues = Some(of);
                }
            }
            JournalRecord::TapOpened { tap, source, name, link, snaplen } => {
                self.given.tap = self.given.tap.max(tap);
                let provenance = match self.sources.get(&source).map(|s| &s.kind) {
                    Some(SourceKind::File { .. }) => Provenance::Imported,
                    _ => Provenance::Captured,
                };
                self.taps.insert(tap, TapInfo { id: tap, source, name, link, snaplen, provenance });
            }
            JournalRecord::ShardOpened { shard, tap, provenance, .. } => {
                self.given.shard = self.given.shard.max(shard);
                let Some(of) = self.taps.get(&tap) else { return };
                let info = ShardInfo {
                    id: shard,
                    tap,
                    source: of.source,
                    link: of.link,
                    sealed: false,
                    bytes: 0,
                    packets: 0,
                    times: None,
                    hash: None,
                    provenance,
                    anchors: Arc::default(),
                    blocks: Arc::default(),
                };
                self.shards.insert(shard, info);
            }
            JournalRecord::ShardSealed { shard, bytes, packets, times } => {
                if let Some(s) = self.shards.get_mut(&shard) {
                    (s.sealed, s.bytes, s.packets, s.times) = (true, bytes, packets, times);
                }
            }
            JournalRecord::ShardHashed { shard, hash, blocks } => {
                if let Some(s) = self.shards.get_mut(&shard) {
                    (s.hash, s.blocks) = (Some(hash), blocks.into());
                }
            }
            JournalRecord::ShardAnchors { shard, offsets } => {
                if let Some(s) = self.shards.get_mut(&shard) {
                    s.anchors = offsets.into();
                }
            }
            JournalRecord::ShardDeleted { shard } => {
                if let Some(gone) = self.shards.remove(&shard).filter(|s| s.sealed && s.packets > 0) {
                    let trimmed = self.trimmed.entry(gone.tap).or_default();
                    trimmed.shards += 1;
                    trimmed.packets += gone.packets;
                    trimmed.last = trimmed.last.max(Some((gone.id, gone.bytes)));
                }
            }
            JournalRecord::Named { stream, name } => {
                self.names.insert(stream, name);
            }
            JournalRecord::Drops(drops) => self.missed.push(Missed::Dropped(drops)),
            JournalRecord::InterfaceAway { tap, from, to } => {
                self.missed.push(Missed::Away { tap, from, to })
            }
            JournalRecord::Trimmed { tap, trimmed } => {
                self.trimmed.insert(tap, trimmed);
            }
            JournalRecord::Given(given) => self.given = self.given.max(&given),
            JournalRecord::ShardRecovered(_)
            | JournalRecord::ClockStep { .. }
            | JournalRecord::Statistics(_)
            | JournalRecord::Note { .. } => {}
        }
    }
}
