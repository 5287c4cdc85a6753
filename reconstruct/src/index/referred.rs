//! Which shards refer to a flow, a segment, a session: its row goes with the last of them.
//!
//! Of each, the highest shard is kept that ever referred to it. With several taps a lower one may outlast that: which of those that are left
//! refer to it as well is looked up when the highest is deleted. The oldest shards go first, so that there is hardly more than one of each other tap.

use super::batch::encode;
use super::db::Index;
use super::keys::{self, Family, Key, kind, meta};
use super::{FlowId, IndexError, SegmentId};
use crate::model::SessionId;
use capture::ShardId;
use rocksdb::WriteBatch;
use std::collections::BTreeSet;

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

    /// Notes highest shards, but for those that are noted already. Nobody else may be writing meanwhile.
    pub(super) fn note_referred<'a>(
        &self,
        write: &mut WriteBatch,
        referred: impl Iterator<Item = (&'a Key, &'a ShardId)>,
    ) -> Result<(), IndexError> {
        let family = self.family(Family::Meta);
        for (key, shard) in referred {
            if self.row::<ShardId>(Family::Meta, key)?.is_none_or(|highest| highest < *shard) {
                write.put_cf(&family, key, encode(shard));
            }
        }
        Ok(())
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
        let family = self.family(Family::Meta);
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
