//! What is committed at once: rows, blocks, state and positions.
//!
//! A batch is plain memory: the fold fills it without knowing of a database, and [`super::Index::commit`] writes it as
//! one atomic piece. A row put twice under the same key is there once, as put last.

use super::keys::{self, Family, Key, kind, meta};
use super::referred::Referred;
use super::{L1Block, L2Block};
use crate::model::{
    ExchangeRow, FlowRow, GapRow, RtcpRow, SegmentId, SegmentPart, SegmentRow, SessionRow, StreamId,
    StreamRow,
};
use capture::{ShardId, TapId};
use hashbrown::HashMap;
use serde::Serialize;

/// One change of one row.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) family: Family,
    pub(super) key: Key,
    pub(super) value: Vec<u8>,
}

/// Rows to be written together.
#[derive(Clone, Debug, Default)]
pub struct IndexBatch {
    pub(super) ops: Vec<Op>,
    /// The highest shard that refers to a flow, segment or session, as far as this batch knows.
    pub(super) referred: HashMap<Key, ShardId>,
    bytes: usize,
}

/// A row as it is kept.
pub(super) fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    postcard::to_stdvec(row).expect("rows are plain structures that always have a postcard form")
}

impl IndexBatch {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.referred.is_empty()
    }

    /// Bytes of keys and rows: commit when this has grown too large.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn put(&mut self, family: Family, key: Key, value: Vec<u8>) {
        self.put_op(Op { family, key, value });
    }

    pub(super) fn put_op(&mut self, op: Op) {
        self.bytes += op.key.len() + op.value.len();
        self.ops.push(op);
    }

    /// A flow.
    pub fn put_flow(&mut self, row: &FlowRow) {
        self.put(Family::Meta, keys::meta(meta::FLOW, row.id.0), encode(row));
    }

    /// A stream.
    pub fn put_stream(&mut self, row: &StreamRow) {
        self.put(Family::Meta, keys::meta(meta::STREAM, row.id.0), encode(row));
    }

    /// A session.
    pub fn put_session(&mut self, row: &SessionRow) {
        self.put(Family::Meta, keys::meta(meta::SESSION, row.id.0), encode(row));
    }

    /// A segment.
    pub fn put_segment(&mut self, row: &SegmentRow) {
        self.put(Family::Meta, keys::meta(meta::SEGMENT, row.id.0), encode(row));
    }

    /// What a shard has of a segment.
    pub fn put_part(&mut self, row: &SegmentPart) {
        self.refer(Referred::Segment(row.segment), row.shard);
        self.refer(Referred::Session(row.session), row.shard);
        self.put_by_stream(kind::PART, row.stream, row.shard, row.segment, 0, encode(row));
    }

    /// The `n`th gap of its segment in its shard.
    pub fn put_gap(&mut self, n: u32, row: &GapRow) {
        self.put_by_stream(kind::GAP, row.stream, row.shard, row.segment, n, encode(row));
    }

    /// The `n`th sender report of its segment in `shard`.
    pub fn put_rtcp(&mut self, shard: ShardId, n: u32, row: &RtcpRow) {
        self.put_by_stream(kind::REPORT, row.stream, shard, row.segment, n, encode(row));
    }

    /// The `n`th message of its session that ends in `shard`.
    pub fn put_exchange(&mut self, shard: ShardId, n: u32, row: &ExchangeRow) {
        self.refer(Referred::Session(row.session), shard);
        self.put(Family::Shard, keys::in_shard(shard, kind::EXCHANGE, row.session.0, n), encode(row));
    }

    /// A first-level block, open or closed.
    pub fn put_l1(&mut self, block: L1Block) {
        self.refer(Referred::Flow(block.key.flow), block.key.shard);
        self.put(Family::L1, keys::l1(&block.key), block.bytes);
    }

    /// A second-level block, open or closed, with its row of the time directory.
    pub fn put_l2(&mut self, block: L2Block) {
        let L2Block { key, stream, bytes, directory } = block;
        let time_key = keys::time(stream, directory.start, &key);
        let pointer = keys::in_shard(key.shard, kind::TIME, key.segment.0, key.block);
        self.put(Family::Shard, pointer, time_key.to_vec());
        self.put(Family::Stream, time_key, encode(&directory));
        self.put(Family::L2, keys::l2(&key), bytes);
    }

    /// The fold's state, as of the positions in the same batch.
    pub fn put_state(&mut self, state: Vec<u8>) {
        self.put(Family::Meta, keys::meta(meta::STATE, 0), state);
    }

    /// How far a tap is indexed: everything before this offset of this shard.
    pub fn put_position(&mut self, tap: TapId, shard: ShardId, offset: u64) {
        self.put(Family::Meta, keys::meta(meta::POSITION, tap.0), encode(&(shard, offset)));
    }

    /// The fold's state as of the beginning of a shard.
    pub fn put_checkpoint(&mut self, shard: ShardId, state: Vec<u8>) {
        self.put(Family::Shard, keys::in_shard(shard, kind::CHECKPOINT, 0, 0), state);
    }

    fn refer(&mut self, what: Referred, shard: ShardId) {
        self.put_referred(what.last_key(), shard);
    }

    pub(super) fn put_referred(&mut self, key: Key, shard: ShardId) {
        let highest = self.referred.entry(key).or_insert(shard);
        *highest = shard.max(*highest);
    }

    fn put_by_stream(
        &mut self,
        kind: u8,
        stream: StreamId,
        shard: ShardId,
        segment: SegmentId,
        n: u32,
        row: Vec<u8>,
    ) {
        let key = keys::in_stream(kind, stream, shard, segment, n);
        self.put(Family::Shard, keys::in_shard(shard, kind, segment.0, n), key.to_vec());
        self.put(Family::Stream, key, row);
    }
}
