//! Where rows stand in the database.
//!
//! ```text
//!  family   key                                             row
//!  l1       shard u64, flow u32, block u32                  first-level block
//!  l2       shard u64, segment u32, block u32               second-level block
//!  shard    shard u64, kind u8, id u32, n u32               what goes with the shard: exchanges, checkpoint, and for each
//!                                                           row of `stream` that goes with it the rest of that row's key
//!  stream   kind u8, stream u32, …                          what is looked up by stream: parts, gaps, reports by shard;
//!                                                           time directory by time
//!  meta     kind u8, id                                     who is who, state, positions, version
//! ```
//! All numbers are big-endian, so that keys sort as numbers do; times have their sign bit turned over for the same reason.

use crate::model::{SegmentId, StreamId};
use capture::{CaptureTime, ShardId};
use smallvec::SmallVec;

pub(super) use super::types::{L1Key, L2Key};

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Meta,
    L1,
    L2,
    Shard,
    Stream,
}

impl Family {
    pub(super) const ALL: [Self; 5] = [Self::Meta, Self::L1, Self::L2, Self::Shard, Self::Stream];
    /// Those whose keys begin with the shard.
    pub(super) const BY_SHARD: [Self; 3] = [Self::L1, Self::L2, Self::Shard];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::Shard => "shard",
            Self::Stream => "stream",
        }
    }
}

/// A row's key.
pub(super) type Key = SmallVec<[u8; 32]>;

/// Kinds of rows in `meta`.
pub(super) mod meta {
    pub const FLOW: u8 = b'f';
    pub const STREAM: u8 = b's';
    pub const SEGMENT: u8 = b'g';
    pub const SESSION: u8 = b'd';
    pub const POSITION: u8 = b'p';
    pub const STATE: u8 = b'z';
    pub const VERSION: u8 = b'v';
    /// Last shard that refers to a flow, segment, session.
    pub const FLOW_LAST: u8 = b'F';
    pub const SEGMENT_LAST: u8 = b'G';
    pub const SESSION_LAST: u8 = b'D';
}

/// Kinds of rows in `shard`; those that are in `stream` as well have the same kind there.
pub(super) mod kind {
    pub const PART: u8 = b'p';
    pub const GAP: u8 = b'g';
    pub const REPORT: u8 = b'r';
    pub const TIME: u8 = b't';
    pub const EXCHANGE: u8 = b'e';
    pub const CHECKPOINT: u8 = b'c';
}

pub(super) fn l1(k: &L1Key) -> Key {
    block(k.shard, k.flow.0, k.block)
}

pub(super) fn l2(k: &L2Key) -> Key {
    block(k.shard, k.segment.0, k.block)
}

fn block(shard: ShardId, id: u32, block: u32) -> Key {
    let mut key = Key::new();
    key.extend_from_slice(&shard.0.to_be_bytes());
    key.extend_from_slice(&id.to_be_bytes());
    key.extend_from_slice(&block.to_be_bytes());
    key
}

/// Takes a block's key apart: shard, flow or segment, block.
pub(super) fn parse_block(key: &[u8]) -> Option<(ShardId, u32, u32)> {
    (key.len() == 16).then_some(())?;
    Some((ShardId(be64(key, 0)?), be32(key, 8)?, be32(key, 12)?))
}

pub(super) fn shard(shard: ShardId) -> Key {
    Key::from_slice(&shard.0.to_be_bytes())
}

pub(super) fn in_shard(shard: ShardId, kind: u8, id: u32, n: u32) -> Key {
    let mut key = Key::from_slice(&shard.0.to_be_bytes());
    key.push(kind);
    key.extend_from_slice(&id.to_be_bytes());
    key.extend_from_slice(&n.to_be_bytes());
    key
}

/// Shard, kind, id and n of a key in `shard`.
pub(super) fn parse_in_shard(key: &[u8]) -> Option<(ShardId, u8, u32, u32)> {
    (key.len() == 17).then_some(())?;
    Some((ShardId(be64(key, 0)?), *key.get(8)?, be32(key, 9)?, be32(key, 13)?))
}

pub(super) fn of_stream(kind: u8, stream: StreamId) -> Key {
    let mut key = Key::new();
    key.push(kind);
    key.extend_from_slice(&stream.0.to_be_bytes());
    key
}

/// A part, gap or report.
pub(super) fn in_stream(kind: u8, stream: StreamId, shard: ShardId, segment: SegmentId, n: u32) -> Key {
    let mut key = of_stream(kind, stream);
    key.extend_from_slice(&shard.0.to_be_bytes());
    key.extend_from_slice(&segment.0.to_be_bytes());
    key.extend_from_slice(&n.to_be_bytes());
    key
}

/// A row of the time directory.
pub(super) fn time(stream: StreamId, start: CaptureTime, block: &L2Key) -> Key {
    let mut key = time_from(stream, start.millis());
    key.extend_from_slice(&block.shard.0.to_be_bytes());
    key.extend_from_slice(&block.segment.0.to_be_bytes());
    key.extend_from_slice(&block.block.to_be_bytes());
    key
}

/// Where the rows of the time directory from a millisecond on begin.
pub(super) fn time_from(stream: StreamId, ms: i64) -> Key {
    let mut key = of_stream(kind::TIME, stream);
    key.extend_from_slice(&sortable(ms));
    key
}

/// Time in milliseconds and block of a key of the time directory.
pub(super) fn parse_time(key: &[u8]) -> Option<(StreamId, i64, L2Key)> {
    (key.len() == 29 && key[0] == kind::TIME).then_some(())?;
    let ms = (be64(key, 5)? ^ 1 << 63) as i64;
    let block =
        L2Key { shard: ShardId(be64(key, 13)?), segment: SegmentId(be32(key, 21)?), block: be32(key, 25)? };
    Some((StreamId(be32(key, 1)?), ms, block))
}

pub(super) fn meta(kind: u8, id: u32) -> Key {
    let mut key = Key::new();
    key.push(kind);
    key.extend_from_slice(&id.to_be_bytes());
    key
}

/// The smallest key that does not begin with `prefix`, `None` if there is none.
pub(super) fn successor(prefix: &[u8]) -> Option<Key> {
    let mut key = Key::from_slice(prefix);
    while let Some(last) = key.pop() {
        if last < 0xff {
            key.push(last + 1);
            return Some(key);
        }
    }
    None
}

fn sortable(v: i64) -> [u8; 8] {
    (v as u64 ^ 1 << 63).to_be_bytes()
}

pub(super) fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
