//! What the indexer goes on from, and how it finds its way back when shards and index disagree.

use super::base::{self, Base};
use super::bulk::taps_of;
use super::error::IndexerError;
use super::kept::State;
use crate::fold::Fold;
use crate::index::{Index, Row};
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
    #[serde(with = "serde_bytes")]
    pub fold: Vec<u8>,
}

/// No state is longer, in bytes: a length that says otherwise is not believed.
const LEN_MAX: usize = 1 << 30;

/// What the index has saved, and rows that have to be written again with it.
type Loaded = (Saved, Option<Vec<Row>>);

impl Saved {
    /// For the index: compressed, because it is written with every commit and holds the same descriptions and addresses many times.
    pub fn encode(&self) -> Vec<u8> {
        let plain = postcard::to_stdvec(self).expect("plain data always encodes");
        lz4_flex::compress_prepend_size(&plain)
    }

    /// From the index, or from beside a shard.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (len, packed) = lz4_flex::block::uncompressed_size(bytes).ok()?;
        let plain = (len <= LEN_MAX).then(|| lz4_flex::decompress(packed, len).ok())??;
        postcard::from_bytes(&plain).ok()
    }

    /// What the index has saved; `None` for a new index. After a power loss the index can be ahead of a shard that lost its
    /// last second, or of one that is gone: it is then cut back to a state before that, and `Some` rows are to be written again with
    /// what is open in the state.
    pub fn load(store: &Store, index: &Index) -> Result<Option<Loaded>, IndexerError> {
        let Some(state) = index.state()? else { return Ok(None) };
        let Some(saved) = Self::decode(&state) else { return Err(IndexerError::State) };
        let Some(cut) = saved.ahead(store) else { return Ok(Some((saved, None))) };
        tracing::warn!(shard = %cut, "the index is ahead of what a power loss has left; it is made again from there");
        let (saved, from, rows) =
            saved.before(store, index, cut)?.ok_or(IndexerError::Ahead { shard: cut })?;
        index.drop_from(from, &Fold::restore(&saved.fold)?.next_ids())?;
        Ok(Some((saved, Some(rows))))
    }

    /// What [`load`](Self::load) would go on from; nothing is changed.
    pub fn look(store: &Store, index: &Index) -> Result<Option<Self>, IndexerError> {
        let Some(state) = index.state()? else { return Ok(None) };
        let saved = Self::decode(&state).ok_or(IndexerError::State)?;
        match saved.ahead(store) {
            None => Ok(Some(saved)),
            Some(cut) => {
                let (saved, ..) =
                    saved.before(store, index, cut)?.ok_or(IndexerError::Ahead { shard: cut })?;
                Ok(Some(saved))
            }
        }
    }

    /// The first shard of which it knows more than there is.
    fn ahead(&self, store: &Store) -> Option<ShardId> {
        let known: Vec<TapId> = store.taps().iter().map(|t| t.id).collect();
        let positions = self.positions.iter().filter(|(tap, _)| known.contains(tap));
        let ahead = positions.filter(|&(tap, &(shard, offset))| match store.shard_info(shard) {
            Some(info) => info.sealed && offset > info.bytes,
            // Deleted by retention, or never durable at all.
            None => {
                offset > capture::SHARD_HEADER_LEN
                    && store.trimmed(*tap).last.is_none_or(|(last, _)| shard > last)
            }
        });
        // Of a shard before one that is gone the end may be gone too: it is folded again.
        let last_of = |tap: TapId| store.shards().into_iter().rfind(|s| s.tap == tap).map(|s| s.id);
        let from = |(tap, &(shard, _)): (&TapId, &(ShardId, u64))| match store.shard_info(shard) {
            Some(_) => shard,
            None => last_of(*tap).unwrap_or(shard),
        };
        ahead.map(from).min()
    }

    /// A state that is not ahead, the shard from which on nothing of the index stays, and rows that stay all the same.
    fn before(
        &self,
        store: &Store,
        index: &Index,
        cut: ShardId,
    ) -> Result<Option<(Self, ShardId, Vec<Row>)>, IndexerError> {
        let taps = taps_of(store, self.source);
        if taps.iter().filter(|tap| self.positions.contains_key(tap)).count() == 1 {
            let checkpoint = index.checkpoint(cut)?.and_then(|c| Self::decode(&c));
            let state = checkpoint.or_else(|| State::read(store, cut).map(|(_, saved)| saved));
            return Ok(state.map(|state| (state, cut, Vec::new())));
        }
        // A state lies in the middle of the other taps' shards, and what was folded of them since can't be told from what was
        // before: the source as a whole is folded again.
        let first = store.shards().into_iter().find(|s| s.source == self.source).map(|s| s.id);
        Ok(match (base::find(store, self.source, u64::MAX), first) {
            (Base::Kept(state, rows), Some(first)) => Some((*state, first, rows)),
            _ => None,
        })
    }
}
