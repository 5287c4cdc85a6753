//! Which shards refer to a flow, a segment, a session: its row goes with the last of them.
//!
//! Of each, the highest shard is kept that ever referred to it. With several taps a lower one may outlast that: which of those that are left
//! refer to it as well is looked up when the highest is deleted. The oldest shards go first, so that there is hardly more than one of each other tap.

use super::batch::encode;
use super::db::Index;
use super::keys::{self, Family, Key, kind, meta};
use super::{FlowId, IndexError, SegmentId};
use crate::model::SessionId;
use capture::{ShardId, SourceId};
use hashbrown::HashMap;
use rocksdb::WriteBatch;
use std::collections::BTreeSet;

/// Flows, segments and sessions of which it is remembered what was written last; when there are more, all are forgotten.
const NOTED_MAX: usize = 1 << 17;

/// What the index is known to have as highest shards, so that a commit reads and writes only what changes.
#[derive(Debug, Default)]
pub(super) struct Noted(HashMap<Key, ShardId>);

impl Noted {
    /// It may not be so any more.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// What shards refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Referred {
    Flow(FlowId),
    Segment(SegmentId),
    Session(SessionId),
}

impl Referred {
    /// The key of the row itself.
    pub(super) fn row_key(self) -> Key {
        match self {
            Self::Flow(id) => keys::meta(meta::FLOW, id.0),
            Self::Segment(id) => keys::meta(meta::SEGMENT, id.0),
            Self::Session(id) => keys::meta(meta::SESSION, id.0),
        }
    }

    /// The key of the highest shard that refers to it.
    pub(super) fn last_key(self) -> Key {
        match self {
            Self::Flow(id) => keys::meta(meta::FLOW_LAST, id.0),
            Self::Segment(id) => keys::meta(meta::SEGMENT_LAST, id.0),
            Self::Session(id) => keys::meta(meta::SESSION_LAST, id.0),
        }
    }

    /// Whether a key is that of such a shard.
    pub(super) fn is_last_key(family: Family, key: &[u8]) -> bool {
        family == Family::Meta
            && matches!(key.first(), Some(&(meta::FLOW_LAST | meta::SEGMENT_LAST | meta::SESSION_LAST)))
    }
}

impl Index {
    /// The highest shard that ever referred to it.
    pub(super) fn last_referring(&self, what: Referred) -> Result<Option<ShardId>, IndexError> {
        self.row(Family::Meta, &what.last_key())
    }

    /// Notes highest shards, but for those that are noted already.
    pub(super) fn note_referred(
        &self,
        noted: &mut Noted,
        write: &mut WriteBatch,
        referred: &HashMap<Key, ShardId>,
    ) -> Result<(), IndexError> {
        let opened = self.opened()?;
        let family = opened.family(Family::Meta);
        for (key, shard) in referred {
            if noted.0.get(key).is_some_and(|highest| highest >= shard) {
                continue;
            }
            let highest = self.row::<ShardId>(Family::Meta, key)?.max(Some(*shard)).unwrap_or(*shard);
            if highest == *shard {
                write.put_cf(&family, key, encode(shard));
            }
            if noted.0.len() >= NOTED_MAX {
                noted.forget();
            }
            noted.0.insert(key.clone(), highest);
        }
        Ok(())
    }

    /// `shard` and all behind it are cut off: what may have been the highest is not any more.
    pub(super) fn lower_referred(&self, write: &mut WriteBatch, shard: ShardId) -> Result<(), IndexError> {
        let opened = self.opened()?;
        let family = opened.family(Family::Meta);
        let before = encode(&ShardId(shard.0.saturating_sub(1)));
        for kind in [meta::FLOW_LAST, meta::SEGMENT_LAST, meta::SESSION_LAST] {
            self.scan(Family::Meta, &[kind], Some(&[kind + 1]), |key, value| {
                if postcard::from_bytes::<ShardId>(value).is_ok_and(|highest| highest >= shard) {
                    write.put_cf(&family, key, &before);
                }
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// The source of what a shard has, if it has media.
    pub(crate) fn source_of(&self, shard: ShardId) -> Result<Option<SourceId>, IndexError> {
        let end = keys::shard(ShardId(shard.0.saturating_add(1)));
        let mut first = None;
        self.scan(Family::L2, &keys::shard(shard), Some(&end), |key, _| {
            first = keys::parse_block(key).map(|(_, id, _)| SegmentId(id));
            Ok(false)
        })?;
        let segment = first.map(|id| self.segment(id)).transpose()?.flatten();
        Ok(segment.map(|segment| segment.source))
    }

    /// The flows, segments and sessions that a shard refers to.
    pub(super) fn referred_by(&self, shard: ShardId) -> Result<BTreeSet<Referred>, IndexError> {
        let (begin, end) = (keys::shard(shard), keys::shard(ShardId(shard.0.saturating_add(1))));
        let (mut found, mut segments) = (BTreeSet::new(), BTreeSet::new());
        self.scan(Family::L1, &begin, Some(&end), |key, _| {
            found.extend(keys::parse_block(key).map(|(_, id, _)| Referred::Flow(FlowId(id))));
            Ok(true)
        })?;
        self.scan(Family::L2, &begin, Some(&end), |key, _| {
            segments.extend(keys::parse_block(key).map(|(_, id, _)| SegmentId(id)));
            Ok(true)
        })?;
        self.scan(Family::Shard, &begin, Some(&end), |key, _| {
            match keys::parse_in_shard(key) {
                None | Some((_, kind::CHECKPOINT, ..)) => {}
                Some((_, kind::EXCHANGE, id, _)) => _ = found.insert(Referred::Session(SessionId(id))),
                Some((_, _, id, _)) => _ = segments.insert(SegmentId(id)),
            }
            Ok(true)
        })?;
        for id in segments {
            found.insert(Referred::Segment(id));
            found.extend(self.segment(id)?.map(|segment| Referred::Session(segment.session)));
        }
        Ok(found)
    }

    /// Deletes the rows of flows, segments and sessions that nothing refers to when `shard` is gone. `beside` are the lower shards that
    /// may refer to the same, ascending.
    pub(super) fn remove_unreferred(
        &self,
        batch: &mut WriteBatch,
        shard: ShardId,
        beside: &[ShardId],
    ) -> Result<(), IndexError> {
        let opened = self.opened()?;
        let family = opened.family(Family::Meta);
        let mut going = Vec::new();
        for what in self.referred_by(shard)? {
            if self.last_referring(what)?.is_none_or(|last| last <= shard) {
                going.push(what);
            }
        }
        if going.is_empty() {
            return Ok(());
        }
        let mut others = Vec::new();
        for other in beside {
            others.push((other, self.referred_by(*other)?));
        }
        for what in going {
            // The highest of those that are left.
            match others.iter().rev().find(|(_, refers)| refers.contains(&what)) {
                Some((other, _)) => batch.put_cf(&family, what.last_key(), encode(other)),
                None => {
                    batch.delete_cf(&family, what.row_key());
                    batch.delete_cf(&family, what.last_key());
                }
            }
        }
        Ok(())
    }
}
