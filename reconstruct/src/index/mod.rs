//! The index: which packets there are (first level), what they are (second level), in RocksDB.
//!
//! Owns the packed blocks ([`L1Builder`], [`L2Builder`] and their readers), the keys, and the database: one atomic
//! [`IndexBatch`] at a time in, rows out. Refuses to know how anything was found out: the fold gives finished rows.
//! Costs: at most 5 bytes a packet at 1,300 bytes a packet (`docs/index-format.md` has the measurements); the builders
//! take 10 to 20 ns a packet and allocate only when a block's buffer grows.
//!
//! Everything that depends on packets hangs on a shard, so that retention and truncation remove it by the shard's number.

mod batch;
mod carriers;
mod check;
mod db;
mod dump;
mod error;
mod keys;
mod l1;
mod l2;
mod opened;
mod read;
mod referred;
mod rows;
mod scratch;
mod types;
mod varint;

pub use crate::model::{FlowId, NextIds, SegmentId, SessionId, StreamId};
pub use crate::span::Piece;
pub use batch::IndexBatch;
pub(crate) use carriers::BlockCarriers;
pub use check::{IndexReport, Sums, Walk};
pub use db::{FORMAT, Index};
pub use error::IndexError;
pub use l1::{L1Builder, L1Reader};
pub use l2::{Carriers, L2Builder, L2Reader};
pub use opened::{BLOCK_CACHE_BYTES, OPEN_FILES_MAX, WRITE_BUFFERS_BYTES};
pub use read::DirectoryEntry;
pub use rows::Row;
pub use types::{
    BLOCK_ENTRIES_MAX, BLOCK_NANOS_MAX, BlockError, BlockRef, Carrier, DirectoryRow, HeaderFields, L1Block,
    L1Key, L2Block, L2Key, MediaEntry, MediaFlags, MediaView, PacketEntry,
};
