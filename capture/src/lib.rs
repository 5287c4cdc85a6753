//! From the wire (or a capture file) into shards: taps, the shard writer, readers, recovery and retention.
//!
//! A packet is copied once, by the thread that captured it, into shared memory ([`ShardWriter`]); other threads bring it to
//! disk; readers get views ([`Shard`], [`TapTail`]) of what is published, wherever it lies at the moment. The journal keeps what
//! packets can't say. See `docs/shard-format.md`.

mod catalog;
mod clock;
mod compact;
mod error;
mod file;
mod hash;
mod ids;
mod import;
mod journal;
mod live;
mod priority;
mod retain;
mod shard;
mod statistics;
mod store;
mod time;
mod verify;

pub use clock::ClockWatch;
pub use error::{ReadError, StoreError};
pub use file::{Damage, DamageKind, FileInterface, FileParser, MAX_INTERFACES, MAX_PACKET_LEN, Step};
pub use ids::{LinkType, ShardId, SourceId, TapId};
pub use import::{ImportError, ImportReport, Quality, import_file};
pub use journal::{
    Drops, Given, JournalRecord, Missed, Provenance, SourceKind, Statistics, StatisticsRow, Trimmed,
    parse as parse_journal,
};
pub use live::{
    Leaving, LiveConfig, LiveError, LiveTap, Stopped, TapStats, interfaces, keep_only_net_raw, widen,
};
pub use priority::lower_priority;
pub use retain::Retention;
pub use shard::FILE_HEADER_LEN as SHARD_HEADER_LEN;
pub use shard::{
    Appended, Chunk, LEFT_FREE, MIN_SHARD_SIZE, RECORD_HEADER_LEN, Record, RecordView, Records, Recovered,
    Shard, ShardBytes, ShardWriter, TapTail, WhenFull, WriterOptions, WriterWatch, prefetch,
};
pub use store::{FORMAT, NewTap, ShardInfo, SourceInfo, Store, StoreUuid, TapInfo, WriterLock};
pub use time::CaptureTime;
pub use verify::{ByteRange, RecordAt, ShardReport, verify_shard};
