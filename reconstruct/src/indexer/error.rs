//! What can keep a store from being indexed.

use crate::fold::FoldError;
use crate::footage::FootageError;
use crate::index::IndexError;
use capture::{ReadError, ShardId, StoreError};

/// A store that can't be indexed.
#[derive(Debug, thiserror::Error)]
pub enum IndexerError {
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A shard.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Footage, for live viewers.
    #[error(transparent)]
    Footage(#[from] FootageError),
    /// The fold's saved state.
    #[error("{0}; `tapdeck reindex` makes the index anew from the shards")]
    Fold(#[from] FoldError),
    /// The saved state is not of this version.
    #[error(
        "the index was made by another version of tapdeck; `tapdeck reindex` makes it anew from the shards"
    )]
    State,
    /// The index knows more than the shards hold, and has no checkpoint to go back to.
    #[error(
        "the index is ahead of shard {shard}, as after a power loss; `tapdeck reindex` makes it anew from the shards"
    )]
    Ahead {
        /// The shard.
        shard: ShardId,
    },
    /// What a later `reindex` needs could not be written.
    #[error("keeping the index's state beside the shards: {0}")]
    Kept(std::io::Error),
    /// The recording ended before it was done.
    #[error("the recording ended before the new index was whole; the old one stays")]
    Stopped,
    /// The recording ended before what earlier ones have left was folded.
    #[error("the index lacks {bytes} bytes of what is recorded: the next recording goes on with them")]
    Unfinished {
        /// Bytes of shards.
        bytes: u64,
    },
    /// A fault of this program.
    #[error("making the new index failed by a fault of this program; the old one stays")]
    Panicked,
    /// Retention was faster.
    #[error("retention deletes shards faster than a new index is made of them; the old one stays")]
    Overtaken,
    /// What was recorded or imported before is still being folded.
    #[error("the index does not have all yet of what was recorded or imported before: ask again when it has")]
    CatchingUp,
    /// A second index does not come to where the first is.
    #[error("the new index does not catch up with the recording; the old one stays")]
    Behind,
    /// It failed before.
    #[error("the index could not be written, as was said before")]
    Unwritten,
    /// The system refused a thread.
    #[error("starting the indexer: {0}")]
    Thread(std::io::Error),
}

impl IndexerError {
    /// Whether a newer program has made the index.
    pub(super) fn is_newer(&self) -> bool {
        matches!(self, Self::Fold(error) if error.is_newer())
    }
}
