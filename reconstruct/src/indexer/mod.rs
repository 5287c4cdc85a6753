//! The threads that drive the fold: from the taps' tails into the index, live or in bulk.
//!
//! `feed` reads a tap and takes its records apart, `order` says whose packet is next, `driver` folds and commits, `live` and
//! `bulk` run it, `saved` is what it goes on from.

mod bulk;
mod driver;
mod error;
mod feed;
mod live;
mod order;
mod saved;

pub use bulk::{bulk_index, index_beside, reindex};
pub use error::IndexerError;
pub use live::{IndexerStats, LiveIndexer, catch_up};
