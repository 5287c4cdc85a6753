//! Reading rows and blocks.

use super::db::Index;
use super::keys::{self, Family, kind, meta};
use super::{
    DirectoryRow, FlowId, IndexError, L1Key, L1Reader, L2Key, PacketEntry, SegmentId, SessionId, StreamId,
};
use crate::model::{ExchangeRow, FlowRow, GapRow, RtcpRow, SegmentPart, SegmentRow, SessionRow, StreamRow};
use capture::{ShardId, TapId};
use rocksdb::ReadOptions;
use serde::de::DeserializeOwned;

/// How often a reader beside a writer catches up when a table that it was to read is gone, before it gives up.
const CATCH_UPS_MAX: u32 = 3;

/// A row of the time directory with the block that it speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The block.
    pub block: L2Key,
    /// The row.
    pub row: DirectoryRow,
}

pub(super) fn damaged(family: Family, key: &[u8]) -> IndexError {
    let hex = key.iter().map(|b| format!("{b:02x}")).collect();
    IndexError::Row { family: family.name(), key: hex }
}

pub(super) fn decode<T: DeserializeOwned>(family: Family, key: &[u8], row: &[u8]) -> Result<T, IndexError> {
    match postcard::take_from_bytes(row) {
        Ok((value, [])) => Ok(value),
        _ => Err(damaged(family, key)),
    }
}

impl Index {
    /// Runs a read, and again after catching up if a table vanished: the writer removes tables that it has compacted,
    /// and a reader keeps only some of them open.
    fn retry<T>(&self, mut read: impl FnMut() -> Result<T, rocksdb::Error>) -> Result<T, IndexError> {
        let mut tries = 0;
        loop {
            match read() {
                Ok(value) => return Ok(value),
                Err(e) if self.is_secondary() && tries < CATCH_UPS_MAX => {
                    tracing::debug!(error = %e, "catching up with the index's writer");
                    tries += 1;
                    self.refresh()?;
                }
                Err(source) => return Err(IndexError::Database { doing: "read", source }),
            }
        }
    }

    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        if self.is_secondary() {
            return self.get_beside(family, key);
        }
        self.count_reads(1);
        let opened = self.opened()?;
        let cf = opened.family(family);
        self.retry(|| opened.db().get_cf(&cf, key))
    }

    /// A row beside its writer, as a scan finds it. Right after the writer had flushed, RocksDB's `get` was seen to give an older version of
    /// a row than a scan at the same moment (a test saw it once in some 100,000 looks, and never since): a scan merges all tables, a
    /// `get` ends at the first that has the key.
    fn get_beside(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let behind = [key, &[0]].concat();
        let mut found = None;
        self.scan(family, key, Some(&behind), |_, row| {
            found = Some(row.to_vec());
            Ok(false)
        })?;
        Ok(found)
    }

    pub(super) fn row<T: DeserializeOwned>(
        &self,
        family: Family,
        key: &[u8],
    ) -> Result<Option<T>, IndexError> {
        self.get(family, key)?.map(|row| decode(family, key, &row)).transpose()
    }

    /// Rows of `[from, to)` in order, until `row` says false.
    pub(super) fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        mut row: impl FnMut(&[u8], &[u8]) -> Result<bool, IndexError>,
    ) -> Result<(), IndexError> {
        let mut from = keys::Key::from_slice(from);
        let mut tries = 0;
        loop {
            let opened = self.opened()?;
            let cf = opened.family(family);
            let mut options = ReadOptions::default();
            if let Some(to) = to {
                options.set_iterate_upper_bound(to);
            }
            let mut it = opened.db().raw_iterator_cf_opt(&cf, options);
            it.seek(&from);
            while let Some((key, value)) = it.item() {
                self.count_reads(1);
                if !row(key, value)? {
                    return Ok(());
                }
                // The next row is the first behind this one, should the iterator have to be made again.
                from.clear();
                from.extend_from_slice(key);
                from.push(0);
                it.next();
            }
            match it.status() {
                Ok(()) => return Ok(()),
                Err(_) if self.is_secondary() && tries < CATCH_UPS_MAX => {
                    tries += 1;
                    drop(it);
                    self.refresh()?;
                }
                Err(source) => return Err(IndexError::Database { doing: "read", source }),
            }
        }
    }

    fn all<T: DeserializeOwned>(&self, kind: u8) -> Result<Vec<T>, IndexError> {
        self.prefixed(Family::Meta, &[kind])
    }

    fn prefixed<T: DeserializeOwned>(&self, family: Family, prefix: &[u8]) -> Result<Vec<T>, IndexError> {
        let mut rows = Vec::new();
        self.scan(family, prefix, keys::successor(prefix).as_deref(), |key, row| {
            rows.push(decode(family, key, row)?);
            Ok(true)
        })?;
        Ok(rows)
    }

    /// A flow.
    pub fn flow(&self, id: FlowId) -> Result<Option<FlowRow>, IndexError> {
        self.row(Family::Meta, &keys::meta(meta::FLOW, id.0))
    }

    /// All flows.
    pub fn flows(&self) -> Result<Vec<FlowRow>, IndexError> {
        self.all(meta::FLOW)
    }

    /// A stream.
    pub fn stream(&self, id: StreamId) -> Result<Option<StreamRow>, IndexError> {
        self.row(Family::Meta, &keys::meta(meta::STREAM, id.0))
    }

    /// All streams.
    pub fn streams(&self) -> Result<Vec<StreamRow>, IndexError> {
        self.all(meta::STREAM)
    }

    /// A segment.
    pub fn segment(&self, id: SegmentId) -> Result<Option<SegmentRow>, IndexError> {
        self.row(Family::Meta, &keys::meta(meta::SEGMENT, id.0))
    }

    /// All segments.
    pub fn segments(&self) -> Result<Vec<SegmentRow>, IndexError> {
        self.all(meta::SEGMENT)
    }

    /// A session.
    pub fn session(&self, id: SessionId) -> Result<Option<SessionRow>, IndexError> {
        self.row(Family::Meta, &keys::meta(meta::SESSION, id.0))
    }

    /// All sessions.
    pub fn sessions(&self) -> Result<Vec<SessionRow>, IndexError> {
        self.all(meta::SESSION)
    }

    /// What the retained shards have of a stream's segments, by shard.
    pub fn parts(&self, stream: StreamId) -> Result<Vec<SegmentPart>, IndexError> {
        self.prefixed(Family::Stream, &keys::of_stream(kind::PART, stream))
    }

    /// What one shard has of a segment of a stream.
    pub fn part(
        &self,
        stream: StreamId,
        shard: ShardId,
        segment: SegmentId,
    ) -> Result<Option<SegmentPart>, IndexError> {
        self.row(Family::Stream, &keys::in_stream(kind::PART, stream, shard, segment, 0))
    }

    /// What the retained shards have of all streams' segments, by stream and shard.
    pub fn all_parts(&self, mut part: impl FnMut(SegmentPart)) -> Result<(), IndexError> {
        self.scan(Family::Stream, &[kind::PART], Some(&[kind::PART + 1]), |key, row| {
            part(decode(Family::Stream, key, row)?);
            Ok(true)
        })
    }

    /// A stream's gaps, by shard and segment.
    pub fn gaps(&self, stream: StreamId) -> Result<Vec<GapRow>, IndexError> {
        self.prefixed(Family::Stream, &keys::of_stream(kind::GAP, stream))
    }

    /// A stream's sender reports, by shard and segment.
    pub fn reports(&self, stream: StreamId) -> Result<Vec<RtcpRow>, IndexError> {
        self.prefixed(Family::Stream, &keys::of_stream(kind::REPORT, stream))
    }

    /// The exchanges whose last byte is in a shard, by session.
    pub fn exchanges(&self, shard: ShardId) -> Result<Vec<ExchangeRow>, IndexError> {
        let mut prefix = keys::shard(shard);
        prefix.push(kind::EXCHANGE);
        self.prefixed(Family::Shard, &prefix)
    }

    /// The fold's state.
    pub fn state(&self) -> Result<Option<Vec<u8>>, IndexError> {
        self.get(Family::Meta, &keys::meta(meta::STATE, 0))
    }

    /// The fold's state as of a shard's beginning.
    pub fn checkpoint(&self, shard: ShardId) -> Result<Option<Vec<u8>>, IndexError> {
        self.get(Family::Shard, &keys::in_shard(shard, kind::CHECKPOINT, 0, 0))
    }

    /// How far each tap is indexed.
    pub fn positions(&self) -> Result<Vec<(TapId, ShardId, u64)>, IndexError> {
        let mut found = Vec::new();
        self.scan(Family::Meta, &[meta::POSITION], Some(&[meta::POSITION + 1]), |key, row| {
            let tap = keys::be32(key, 1).ok_or_else(|| damaged(Family::Meta, key))?;
            let (shard, offset) = decode(Family::Meta, key, row)?;
            found.push((TapId(tap), shard, offset));
            Ok(true)
        })?;
        Ok(found)
    }

    /// A first-level block's bytes.
    pub fn l1(&self, key: &L1Key) -> Result<Option<Vec<u8>>, IndexError> {
        self.get(Family::L1, &keys::l1(key))
    }

    /// A first-level block's packets. None when there is no such block.
    pub fn packets(&self, key: &L1Key) -> Result<Vec<PacketEntry>, IndexError> {
        let Some(bytes) = self.l1(key)? else { return Ok(Vec::new()) };
        let damaged = |source| IndexError::L1 { key: *key, source };
        L1Reader::new(bytes).map_err(damaged)?.map(|entry| entry.map_err(damaged)).collect()
    }

    /// All first-level blocks of a shard, by flow and number, until `block` says false.
    pub fn l1_of_shard(
        &self,
        shard: ShardId,
        mut block: impl FnMut(L1Key, &[u8]) -> Result<bool, IndexError>,
    ) -> Result<(), IndexError> {
        let from = keys::shard(shard);
        self.scan(Family::L1, &from, keys::successor(&from).as_deref(), |key, bytes| {
            let (shard, flow, number) = keys::parse_block(key).ok_or_else(|| damaged(Family::L1, key))?;
            block(L1Key { shard, flow: FlowId(flow), block: number }, bytes)
        })
    }

    /// A second-level block's bytes.
    pub fn l2(&self, key: &L2Key) -> Result<Option<Vec<u8>>, IndexError> {
        self.get(Family::L2, &keys::l2(key))
    }

    /// Whether a shard has blocks of a segment.
    pub fn has_segment(&self, shard: ShardId, segment: SegmentId) -> Result<bool, IndexError> {
        Ok(self.l2(&L2Key { shard, segment, block: 0 })?.is_some())
    }

    /// Rows of a stream's time directory whose blocks begin in `[from_ms, to_ms]`, until `row` says false.
    pub fn directory(
        &self,
        stream: StreamId,
        from_ms: i64,
        to_ms: i64,
        mut row: impl FnMut(DirectoryEntry) -> bool,
    ) -> Result<(), IndexError> {
        let from = keys::time_from(stream, from_ms);
        let to = match to_ms.checked_add(1) {
            Some(ms) => Some(keys::time_from(stream, ms)),
            None => keys::successor(&keys::of_stream(kind::TIME, stream)),
        };
        self.scan(Family::Stream, &from, to.as_deref(), |key, value| {
            Ok(row(self.directory_entry(key, value)?))
        })
    }

    fn directory_entry(&self, key: &[u8], value: &[u8]) -> Result<DirectoryEntry, IndexError> {
        let (_, _, block) = keys::parse_time(key).ok_or_else(|| damaged(Family::Stream, key))?;
        Ok(DirectoryEntry { block, row: decode(Family::Stream, key, value)? })
    }
}
