//! Whether the index says of a shard what stands in it: each record has one row, each row a record.
//!
//! Memory does not grow with the shard: records and rows are summed up for each MiB, and only where the sums differ are they held
//! against each other one by one.

use super::carriers::BlockCarriers;
use super::keys::Family;
use super::{Index, IndexError, L1Reader, L2Key, L2Reader, SegmentId, keys};
use capture::{ByteRange, RecordAt, ShardId, ShardInfo};
use serde::Serialize;
use std::collections::BTreeMap;

const WINDOW: u64 = 1 << 20;
/// Windows that are looked into, and offsets that are named of each kind: who has more faults needs no list of them.
const NAMED_MAX: usize = 16;

/// What the index has of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IndexReport {
    /// Up to where the shard is indexed; less than its length while an indexer is behind.
    pub indexed_bytes: u64,
    /// Rows of the first level.
    pub rows: u64,
    /// The index goes on behind this offset, which is beyond the shard's end.
    pub beyond: Option<u64>,
    /// Records that have no row or one that says something else of them: where they begin. The first ones.
    pub without_row: Vec<u64>,
    /// Rows that point at no record: where they point to. The first ones.
    pub without_record: Vec<u64>,
    /// Blocks that can't be read, or say of packets that are not there.
    pub unreadable: Vec<String>,
}

impl IndexReport {
    /// Whether all fits.
    pub fn sound(&self) -> bool {
        self.beyond.is_none()
            && self.without_row.is_empty()
            && self.without_record.is_empty()
            && self.unreadable.is_empty()
    }
}

/// Gives all records of a shard, one after the other.
pub type Walk<'a> = dyn FnMut(&mut dyn FnMut(&RecordAt)) + 'a;

/// Records, or rows, of a shard, summed up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    windows: Vec<(u64, u64)>,
}

impl Sums {
    /// One more.
    pub fn add(&mut self, record: &RecordAt) {
        let window = (record.offset / WINDOW) as usize;
        if self.windows.len() <= window {
            self.windows.resize(window + 1, (0, 0));
        }
        let (count, sum) = &mut self.windows[window];
        *count += 1;
        // Order does not count: rows come flow by flow.
        *sum = sum.wrapping_add(mixed(record));
    }

    fn window(&self, window: usize) -> (u64, u64) {
        self.windows.get(window).copied().unwrap_or_default()
    }
}

fn mixed(record: &RecordAt) -> u64 {
    let mut hash = record.offset;
    for word in
        [record.time.millis() as u64, u64::from(record.captured_len) << 32 | u64::from(record.original_len)]
    {
        hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    hash
}

impl Index {
    /// Up to where a shard is indexed: what [`check_shard`](Self::check_shard) expects. `None` while nothing is.
    pub fn indexed_up_to(&self, shard: &ShardInfo) -> Result<Option<u64>, IndexError> {
        let position = self.positions()?.into_iter().find(|(tap, ..)| *tap == shard.tap);
        Ok(position.and_then(|(_, at, offset)| match at.cmp(&shard.id) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(offset),
            std::cmp::Ordering::Greater => Some(shard.bytes),
        }))
    }

    /// Holds a sealed shard's rows against its records: `sums` are those of all records before `up_to`, `walk` gives the records
    /// once more, should that be needed. Rows that point into what is `unreadable` are left out: there the shard is damaged.
    pub fn check_shard(
        &self,
        shard: &ShardInfo,
        up_to: u64,
        unreadable: &[ByteRange],
        sums: &Sums,
        walk: &mut Walk<'_>,
    ) -> Result<IndexReport, IndexError> {
        let mut report = IndexReport { indexed_bytes: up_to.min(shard.bytes), ..Default::default() };
        report.beyond = (up_to > shard.bytes).then_some(up_to);
        let counts = |row: &RecordAt| {
            // What was committed since the position was read is not expected.
            (row.offset < up_to || row.offset >= shard.bytes)
                && !unreadable.iter().any(|r| (r.from..r.to).contains(&row.offset))
        };
        let mut rows = Sums::default();
        self.rows_at(shard.id, &mut report.unreadable, |row| {
            if counts(row) {
                report.rows += 1;
                if row.offset < shard.bytes {
                    rows.add(row);
                } else if report.without_record.len() < NAMED_MAX {
                    report.without_record.push(row.offset);
                }
            }
        })?;
        let differing = (0..sums.windows.len().max(rows.windows.len()))
            .filter(|w| sums.window(*w) != rows.window(*w))
            .take(NAMED_MAX)
            .collect::<Vec<_>>();
        for window in differing {
            let of_window = |at: &RecordAt| at.offset / WINDOW == window as u64;
            // Below zero: rows without a record; above: records without a row.
            let mut left: BTreeMap<(u64, u64), i64> = BTreeMap::new();
            walk(&mut |record| {
                if of_window(record) && record.offset < up_to {
                    *left.entry((record.offset, mixed(record))).or_default() += 1;
                }
            });
            self.rows_at(shard.id, &mut Vec::new(), |row| {
                if of_window(row) && counts(row) && row.offset < shard.bytes {
                    *left.entry((row.offset, mixed(row))).or_default() -= 1;
                }
            })?;
            for ((offset, _), n) in left.into_iter().filter(|(_, n)| *n != 0) {
                let list = if n > 0 { &mut report.without_row } else { &mut report.without_record };
                if list.len() < NAMED_MAX {
                    list.push(offset);
                }
            }
        }
        self.check_l2(shard, &mut report)?;
        Ok(report)
    }

    /// What the first level says of a shard's records. A block that can't be read to its end is named.
    fn rows_at(
        &self,
        shard: ShardId,
        unreadable: &mut Vec<String>,
        mut row: impl FnMut(&RecordAt),
    ) -> Result<(), IndexError> {
        self.l1_of_shard(shard, |key, bytes| {
            let mut read = || -> Result<(), super::BlockError> {
                for entry in L1Reader::new(bytes)? {
                    let e = entry?;
                    row(&RecordAt {
                        offset: e.offset,
                        time: e.time,
                        captured_len: e.captured_len,
                        original_len: e.original_len,
                    });
                }
                Ok(())
            };
            if let Err(error) = read() {
                name(unreadable, || {
                    format!("first level, flow {}, block {}: {error}", key.flow.0, key.block)
                });
            }
            Ok(true)
        })
    }

    /// Whether each block of the second level can be read, and its packets are where the first level has some.
    fn check_l2(&self, shard: &ShardInfo, report: &mut IndexReport) -> Result<(), IndexError> {
        let (from, to) = (keys::shard(shard.id), keys::shard(ShardId(shard.id.0.saturating_add(1))));
        let mut carriers = BlockCarriers::new(self, shard.id);
        self.scan(Family::L2, &from, Some(&to), |key, bytes| {
            let Some((shard_id, segment, block)) = keys::parse_block(key) else { return Ok(true) };
            let key = L2Key { shard: shard_id, segment: SegmentId(segment), block };
            let mut what = |error: String| {
                name(&mut report.unreadable, || {
                    format!("second level, segment {segment}, block {block}: {error}")
                });
            };
            match L2Reader::new(shard_id, bytes) {
                Err(error) => what(error.to_string()),
                Ok(mut reader) => loop {
                    match reader.next_entry(&mut carriers) {
                        Ok(None) => break,
                        Ok(Some(entry)) => {
                            let away =
                                entry.pieces.iter().find(|p| p.shard == shard_id && p.record >= shard.bytes);
                            if let Some(piece) = away {
                                what(format!("points at byte {}, beyond the shard", piece.record));
                                break;
                            }
                        }
                        Err(error) => {
                            what(error.locate(&key).to_string());
                            break;
                        }
                    }
                },
            }
            Ok(true)
        })
    }
}

fn name(list: &mut Vec<String>, what: impl FnOnce() -> String) {
    if list.len() < NAMED_MAX {
        list.push(what());
    }
}
