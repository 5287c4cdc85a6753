//! What can go wrong with the index, and where.

use super::types::{BlockError, L1Key, L2Key};
use std::path::PathBuf;

/// An error of the index. None of them harms shards or journal: the index can always be made again by `reindex`.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The directory could not be opened as an index.
    #[error("the index in {} can't be opened: {source}; if it is damaged, `tapdeck reindex` makes it again", path.display())]
    Open {
        /// The index's directory.
        path: PathBuf,
        /// What the database says.
        source: rocksdb::Error,
    },
    /// The new index could not be put in the old one's place.
    #[error("{} can't be replaced by the index that was made: {source}", path.display())]
    Replace {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is being read and can't be exchanged.
    #[error("the index is being read without an end, and stays as it is")]
    Busy,
    /// It could not be opened again.
    #[error("the index could not be opened again, as was said before")]
    Lost,
    /// A directory could not be made.
    #[error("{} can't be made: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no index here yet.
    #[error("there is no index in {}: `tapdeck reindex` makes it", path.display())]
    Missing {
        /// The index's directory.
        path: PathBuf,
    },
    /// Made by a newer tapdeck.
    #[error("the index has format {found}, this tapdeck knows formats up to {known}: use a newer one")]
    NewerFormat {
        /// The index's format.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// Made by an older tapdeck whose format is no longer read.
    #[error("the index has the old format {found}: `tapdeck reindex` makes it again")]
    OlderFormat {
        /// The index's format.
        found: u32,
    },
    /// Opened for reading only.
    #[error("the index was opened for reading only")]
    ReadOnly,
    /// The database failed.
    #[error("the index's database failed to {doing}: {source}")]
    Database {
        /// What it was to do.
        doing: &'static str,
        /// What it says.
        source: rocksdb::Error,
    },
    /// A row is not what it should be.
    #[error("the index has a damaged row in {family} at {key}: `tapdeck reindex` makes it again")]
    Row {
        /// The column family.
        family: &'static str,
        /// The row's key in hexadecimal.
        key: String,
    },
    /// A first-level block is damaged.
    #[error(
        "the first-level block of shard {}, flow {}, number {} is damaged: {source}",
        key.shard, key.flow, key.block
    )]
    L1 {
        /// The block's key.
        key: L1Key,
        /// What is wrong.
        source: BlockError,
    },
    /// A second-level block is damaged.
    #[error(
        "the second-level block of shard {}, segment {}, number {} is damaged: {source}",
        key.shard, key.segment, key.block
    )]
    L2 {
        /// The block's key.
        key: L2Key,
        /// What is wrong.
        source: BlockError,
    },
    /// The dump's writer failed.
    #[error("the dump can't be written: {0}")]
    Dump(#[from] std::io::Error),
}
