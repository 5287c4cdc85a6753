//! Whole shards' rows, as they stand: taken out of one index and put into another.

use super::batch::{IndexBatch, Op};
use super::db::Index;
use super::keys::{self, Family, kind, meta};
use super::{IndexError, SegmentId};
use capture::ShardId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A row: its family's place in the list of families, its key, its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row(u8, #[serde(with = "serde_bytes")] Vec<u8>, #[serde(with = "serde_bytes")] Vec<u8>);

impl IndexBatch {
    /// Rows that were taken out of another index.
    pub fn put_rows(&mut self, rows: Vec<Row>) {
        for Row(family, key, value) in rows {
            if let Some(&family) = Family::ALL.get(usize::from(family)) {
                self.put_op(Op { family, key: keys::Key::from_vec(key), value });
            }
        }
    }
}

impl Index {
    /// The shards that there are rows of, ascending. Costs three reads a shard.
    pub fn shards(&self) -> Result<BTreeSet<ShardId>, IndexError> {
        let mut found = BTreeSet::new();
        for family in Family::BY_SHARD {
            let mut from = Some(ShardId(0));
            while let Some(begin) = from.take() {
                self.scan(family, &keys::shard(begin), None, |key, _| {
                    let Some(shard) = keys::be64(key, 0).map(ShardId) else { return Ok(false) };
                    found.insert(shard);
                    from = shard.0.checked_add(1).map(ShardId);
                    Ok(false)
                })?;
            }
        }
        Ok(found)
    }

    /// Everything that goes with a shard, and the rows of the flows, segments and sessions that it refers to, but for those
    /// that go with the shard `leaving`.
    pub fn rows_of(&self, shard: ShardId, leaving: ShardId) -> Result<Vec<Row>, IndexError> {
        let (begin, end) = (keys::shard(shard), keys::shard(ShardId(shard.0.saturating_add(1))));
        let (mut rows, mut named) = (Vec::new(), BTreeSet::new());
        for (family, row, last) in
            [(Family::L1, meta::FLOW, meta::FLOW_LAST), (Family::L2, meta::SEGMENT, meta::SEGMENT_LAST)]
        {
            self.scan(family, &begin, Some(&end), |key, value| {
                rows.push(Row(family as u8, key.to_vec(), value.to_vec()));
                named.extend(keys::parse_block(key).map(|(_, id, _)| (row, last, id)));
                Ok(true)
            })?;
        }
        self.scan(Family::Shard, &begin, Some(&end), |key, value| {
            let (_, what, id, _) =
                keys::parse_in_shard(key).ok_or_else(|| super::read::damaged(Family::Shard, key))?;
            match what {
                kind::CHECKPOINT => return Ok(true),
                kind::EXCHANGE => _ = named.insert((meta::SESSION, meta::SESSION_LAST, id)),
                _ => {
                    named.insert((meta::SEGMENT, meta::SEGMENT_LAST, id));
                    if let Some(row) = self.get(Family::Stream, value)? {
                        rows.push(Row(Family::Stream as u8, value.to_vec(), row));
                    }
                }
            }
            rows.push(Row(Family::Shard as u8, key.to_vec(), value.to_vec()));
            Ok(true)
        })?;
        let segments: Vec<u32> = named.iter().filter(|n| n.0 == meta::SEGMENT).map(|n| n.2).collect();
        for id in segments {
            let session = self.segment(SegmentId(id))?.map(|s| s.session.0);
            named.extend(session.map(|id| (meta::SESSION, meta::SESSION_LAST, id)));
        }
        for (row, last, id) in named {
            let (row, last) = (keys::meta(row, id), keys::meta(last, id));
            if self.row::<ShardId>(Family::Meta, &last)?.is_some_and(|l| l != leaving) {
                for key in [row, last] {
                    let value = self.get(Family::Meta, &key)?;
                    rows.extend(value.map(|value| Row(Family::Meta as u8, key.to_vec(), value)));
                }
            }
        }
        Ok(rows)
    }
}
