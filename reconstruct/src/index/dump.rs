//! The canonical dump: every row as text, in the order of the keys. Two indexes of the same footage are the same if and
//! only if their dumps are.
//!
//! Left out is what says how the index was made rather than what it holds: state, positions and checkpoints (they
//! follow from the shards as well, but depend on where a recorder stopped), and bytes of blocks, which are shown
//! decoded.

use super::carriers::BlockCarriers;
use super::db::Index;
use super::keys::{self, Family, kind, meta};
use super::read::decode;
use super::{DirectoryRow, FlowId, IndexError, L1Key, L1Reader, L2Key, L2Reader, SegmentId};
use crate::model::{ExchangeRow, FlowRow, GapRow, RtcpRow, SegmentPart, SegmentRow, SessionRow, StreamRow};
use std::io::Write;

impl Index {
    /// Writes every row as a line of text.
    pub fn dump(&self, out: &mut dyn Write) -> Result<(), IndexError> {
        self.dump_meta(out)?;
        self.dump_l1(out)?;
        self.dump_l2(out)?;
        self.dump_rest(out)
    }

    fn dump_meta(&self, out: &mut dyn Write) -> Result<(), IndexError> {
        const M: Family = Family::Meta;
        self.scan(M, &[], None, |key, row| {
            match key.first().copied().unwrap_or(0) {
                kind @ (meta::FLOW | meta::SEGMENT | meta::SESSION) if !self.referred_to(kind, key)? => {}
                meta::FLOW => writeln!(out, "{:?}", decode::<FlowRow>(M, key, row)?)?,
                meta::STREAM => {
                    // A stream keeps its row, and so its name, when retention has taken all of it.
                    let stream = decode::<StreamRow>(M, key, row)?;
                    if !self.parts(stream.id)?.is_empty() {
                        writeln!(out, "{stream:?}")?;
                    }
                }
                meta::SEGMENT => writeln!(out, "{:?}", decode::<SegmentRow>(M, key, row)?)?,
                meta::SESSION => writeln!(out, "{:?}", decode::<SessionRow>(M, key, row)?)?,
                _ => {}
            }
            Ok(true)
        })
    }

    /// Whether a shard refers to a flow, segment or session. A row may outlive that if it changed once more at its end.
    fn referred_to(&self, row: u8, key: &[u8]) -> Result<bool, IndexError> {
        let last = match row {
            meta::FLOW => meta::FLOW_LAST,
            meta::SEGMENT => meta::SEGMENT_LAST,
            _ => meta::SESSION_LAST,
        };
        Ok(self.get(Family::Meta, &keys::meta(last, keys::be32(key, 1).unwrap_or(0)))?.is_some())
    }

    fn dump_l1(&self, out: &mut dyn Write) -> Result<(), IndexError> {
        self.scan(Family::L1, &[], None, |key, bytes| {
            let Some((shard, flow, block)) = keys::parse_block(key) else {
                return Err(super::read::damaged(Family::L1, key));
            };
            let key = L1Key { shard, flow: FlowId(flow), block };
            let damaged = |source| IndexError::L1 { key, source };
            writeln!(out, "{key:?}")?;
            for entry in L1Reader::new(bytes).map_err(damaged)? {
                writeln!(out, "  {:?}", entry.map_err(damaged)?)?;
            }
            Ok(true)
        })
    }

    fn dump_l2(&self, out: &mut dyn Write) -> Result<(), IndexError> {
        self.scan(Family::L2, &[], None, |key, bytes| {
            let Some((shard, segment, block)) = keys::parse_block(key) else {
                return Err(super::read::damaged(Family::L2, key));
            };
            let key = L2Key { shard, segment: SegmentId(segment), block };
            writeln!(out, "{key:?}")?;
            let mut reader = L2Reader::new(shard, bytes).map_err(|source| IndexError::L2 { key, source })?;
            let mut carriers = BlockCarriers::new(self, shard);
            while let Some(entry) = reader.next_entry(&mut carriers).map_err(|e| e.locate(&key))? {
                writeln!(out, "  {entry:?}")?;
            }
            Ok(true)
        })
    }

    fn dump_rest(&self, out: &mut dyn Write) -> Result<(), IndexError> {
        const S: Family = Family::Stream;
        self.scan(Family::Shard, &[], None, |key, row| {
            if let Some((shard, kind::EXCHANGE, _, n)) = keys::parse_in_shard(key) {
                writeln!(out, "{shard} {n} {:?}", decode::<ExchangeRow>(Family::Shard, key, row)?)?;
            }
            Ok(true)
        })?;
        self.scan(S, &[], None, |key, row| {
            match key.first().copied().unwrap_or(0) {
                kind::PART => writeln!(out, "{:?}", decode::<SegmentPart>(S, key, row)?)?,
                kind::GAP => writeln!(out, "{:?}", decode::<GapRow>(S, key, row)?)?,
                kind::REPORT => writeln!(out, "{:?}", decode::<RtcpRow>(S, key, row)?)?,
                kind::TIME => {
                    let at = keys::parse_time(key).ok_or_else(|| super::read::damaged(S, key))?;
                    writeln!(out, "{at:?} {:?}", decode::<DirectoryRow>(S, key, row)?)?;
                }
                _ => {}
            }
            Ok(true)
        })
    }
}
