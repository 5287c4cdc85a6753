//! Shards: pcap files of a fixed size, written through staging slots and mapped for reading.
//!
//! `format` says what stands in them, `staging` is the shared memory that packets are copied into (`mapping` gets it), `slot` who has which part of it, `writer` fills it,
//! `flush` brings it to disk, `live` is what both and the readers share, `reader` gives views, `recover` mends after a crash.

mod bell;
mod cold;
mod file;
mod flush;
pub(crate) mod format;
pub(crate) mod hashing;
mod live;
mod mapping;
mod reader;
mod recover;
mod slot;
mod staging;
mod tail;
mod writer;

pub use file::LEFT_FREE;
pub(crate) use file::{full, shard_path};
pub use format::FILE_HEADER_LEN;
pub use format::RECORD_HEADER_LEN;
pub(crate) use format::RecordHeader;
pub(crate) use live::{LiveShard, TapLive};
pub use reader::{Chunk, Record, RecordView, Records, Shard, ShardBytes, prefetch};
pub(crate) use recover::may_hold_packets;
pub use recover::{Recovered, recover};
pub(crate) use staging::open_for_reading as open_staging;
pub use tail::TapTail;
pub use writer::{Appended, MIN_SHARD_SIZE, ShardWriter, WhenFull, WriterOptions, WriterWatch};

#[cfg(test)]
mod tests;
