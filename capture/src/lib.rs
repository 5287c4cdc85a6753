//! From the wire (or a capture file) into shards: taps, the shard writer, readers, recovery and retention.

mod ids;
mod time;

pub use ids::{LinkType, ShardId, SourceId, TapId};
pub use time::CaptureTime;
