//! The threads that drive the fold: from the taps' tails into the index, live or in bulk.
//!
//! `feed` reads a tap and takes its records apart, `order` says whose packet is next, `driver` folds, `committer` brings to the
//! database what comes out, `live` and `bulk` run it, `renew` does it a second time beside a recording, `saved` is what it goes on from. `kept` is what stands beside the shards, so that the index can be made again from
//! what retention has left: `retain` adds to it before a shard goes, `base` finds what of it a source begins with.

mod ahead;
mod base;
mod bulk;
mod committer;
mod driver;
mod error;
mod feed;
mod kept;
mod live;
mod order;
mod renew;
mod retain;
mod saved;

pub use bulk::{Opened, Progress, Reindexed, bulk_index, index_beside, open_or_begin, reindex};
pub use error::IndexerError;
pub use live::{IndexerStats, LiveIndexer, catch_up};
pub use renew::Renewal;
pub use retain::{delete_shard, drop_deleted};

#[cfg(test)]
mod tests;
