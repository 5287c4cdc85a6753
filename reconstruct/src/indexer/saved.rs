//! What the indexer goes on from, and how it finds its way back when shards and index disagree.

use super::error::IndexerError;
use crate::fold::Fold;
use crate::index::Index;
use capture::{ShardId, SourceId, Store, TapId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The fold's state and where it stood.
#[derive(Debug, Serialize, Deserialize)]
pub struct Saved {
    /// The source that was begun last; all earlier ones are folded.
    pub source: SourceId,
    /// For each tap the shard and the offset of the next record.
    pub positions: BTreeMap<TapId, (ShardId, u64)>,
    /// The fold, in its own encoding.
    pub fold: Vec<u8>,
}

impl Saved {
    /// For the index.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data always encodes")
    }

    /// From the index, or from beside a shard.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    /// What the index has saved; `None` for a new index. After a power loss the index can be ahead of a shard that lost its
    /// last second: it is then cut back to where that shard began.
    pub fn load(store: &Store, index: &Index) -> Result<Option<Self>, IndexerError> {
        let Some(state) = index.state()? else { return Ok(None) };
        let Some(saved) = Self::decode(&state) else { return Err(IndexerError::State) };
        let shards = store.shards();
        let ahead = saved.positions.values().filter_map(|(shard, offset)| {
            let info = shards.iter().find(|s| s.id == *shard)?;
            (info.sealed && *offset > info.bytes).then_some(*shard)
        });
        let Some(cut) = ahead.min() else { return Ok(Some(saved)) };
        tracing::warn!(shard = %cut, "the index is ahead of what a power loss has left; it is made again from there");
        let checkpoint = index.checkpoint(cut)?.filter(|c| !c.is_empty());
        let Some(saved) = checkpoint.and_then(|c| Self::decode(&c)) else {
            return Err(IndexerError::Ahead { shard: cut });
        };
        index.drop_from(cut, &Fold::restore(&saved.fold)?.next_ids())?;
        Ok(Some(saved))
    }
}
