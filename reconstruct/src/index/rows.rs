//! Whole shards' rows, as they stand: taken out of one index and put into another.

use super::IndexError;
use super::batch::{IndexBatch, Op, encode};
use super::db::Index;
use super::keys::{self, Family, kind};
use super::referred::Referred;
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
            let Some(&family) = Family::ALL.get(usize::from(family)) else { continue };
            let key = keys::Key::from_vec(key);
            match Referred::is_last_key(family, &key).then(|| postcard::from_bytes(&value)) {
                Some(Ok(shard)) => self.put_referred(key, shard),
                _ => self.put_op(Op { family, key, value }),
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

    /// Everything that goes with a shard, and the rows of the flows, segments and sessions that it refers to, as they are when the shard
    /// `leaving` is gone.
    pub fn rows_of(&self, shard: ShardId, leaving: ShardId) -> Result<Vec<Row>, IndexError> {
        let (begin, end) = (keys::shard(shard), keys::shard(ShardId(shard.0.saturating_add(1))));
        let mut rows = Vec::new();
        for family in [Family::L1, Family::L2] {
            self.scan(family, &begin, Some(&end), |key, value| {
                rows.push(Row(family as u8, key.to_vec(), value.to_vec()));
                Ok(true)
            })?;
        }
        self.scan(Family::Shard, &begin, Some(&end), |key, value| {
            let (_, what, ..) =
                keys::parse_in_shard(key).ok_or_else(|| super::read::damaged(Family::Shard, key))?;
            match what {
                kind::CHECKPOINT => return Ok(true),
                kind::EXCHANGE => {}
                _ => {
                    let row = self.get(Family::Stream, value)?;
                    rows.extend(row.map(|row| Row(Family::Stream as u8, value.to_vec(), row)));
                }
            }
            rows.push(Row(Family::Shard as u8, key.to_vec(), value.to_vec()));
            Ok(true)
        })?;
        for what in self.referred_by(shard)? {
            let key = what.row_key();
            let row = self.get(Family::Meta, &key)?;
            rows.extend(row.map(|row| Row(Family::Meta as u8, key.to_vec(), row)));
            if let Some(last) = self.last_referring(what)? {
                let last = if last == leaving { shard } else { last };
                rows.push(Row(Family::Meta as u8, what.last_key().to_vec(), encode(&last)));
            }
        }
        Ok(rows)
    }
}
