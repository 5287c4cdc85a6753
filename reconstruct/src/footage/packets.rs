//! First-level records: what was captured, understood or not, in the order of capture.
//!
//! Costs: holds for each tap that has any at that time one shard's first-level blocks of the flows that are asked for (at most about 2 % of
//! the shard's size, with the shortest packets), and reads them side by side, in the order in which the packets lie in the shard. Where there
//! are several taps, the record of each packet is looked at, for its exact time.

use super::turns::Turns;
use super::{Footage, FootageError, Found, FoundPacket, PacketFilter, Records};
use crate::index::{FlowId, IndexError, L1Key, L1Reader, PacketEntry};
use crate::model::FlowKey;
use capture::{CaptureTime, ShardId, ShardInfo, TapId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

/// Iterates over first-level records.
pub struct PacketScan {
    footage: Footage,
    filter: PacketFilter,
    /// The flows that are asked for; `None` for all.
    flows: Option<BTreeSet<FlowId>>,
    keys: BTreeMap<FlowId, Option<Arc<FlowKey>>>,
    taps: Vec<TapScan>,
    turns: Turns,
    /// Whose packet was given last.
    last: usize,
}

/// What one tap has.
struct TapScan {
    /// Those that are not read yet, with the times of their first packets.
    shards: VecDeque<(ShardId, CaptureTime)>,
    shard: ShardId,
    blocks: Vec<Blocks>,
    /// Each flow's next packet: its offset, and which of `blocks`.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    records: Records,
}

/// A flow's blocks of the shard.
struct Blocks {
    flow: FlowId,
    left: VecDeque<(L1Key, Vec<u8>)>,
    reader: Option<(L1Key, L1Reader<Vec<u8>>)>,
    next: Option<PacketEntry>,
}

impl Blocks {
    fn advance(&mut self) -> Result<(), IndexError> {
        loop {
            if let Some((key, reader)) = &mut self.reader
                && let Some(entry) = reader.next()
            {
                self.next = Some(entry.map_err(|source| IndexError::L1 { key: *key, source })?);
                return Ok(());
            }
            let Some((key, bytes)) = self.left.pop_front() else {
                self.next = None;
                return Ok(());
            };
            let reader = L1Reader::new(bytes).map_err(|source| IndexError::L1 { key, source })?;
            self.reader = Some((key, reader));
        }
    }
}

impl PacketScan {
    pub(super) fn open(footage: Footage, filter: PacketFilter) -> Result<Self, FootageError> {
        let mut flows = None;
        if let Some(stream) = filter.stream {
            let mut of_stream = BTreeSet::new();
            let segments: BTreeSet<_> = footage.index.parts(stream)?.iter().map(|p| p.segment).collect();
            for id in segments {
                of_stream.extend(footage.index.segment(id)?.map(|s| s.flow));
            }
            flows = Some(of_stream);
        }
        let mut keys = BTreeMap::new();
        if filter.address.is_some() || filter.port.is_some() {
            let mut matching = BTreeSet::new();
            for flow in footage.index.flows()? {
                let k = &flow.key;
                let address = filter.address.is_none_or(|a| k.src == a || k.dst == a);
                let port = filter.port.is_none_or(|p| k.sport == p || k.dport == p);
                if address && port && flows.as_ref().is_none_or(|f: &BTreeSet<_>| f.contains(&flow.id)) {
                    matching.insert(flow.id);
                    keys.insert(flow.id, Some(Arc::new(flow.key)));
                }
            }
            flows = Some(matching);
        }
        let (from, to) = (filter.from.unwrap_or(CaptureTime::MIN), filter.to.unwrap_or(CaptureTime::MAX));
        let taps = taps_between(footage.store.shards(), from, to);
        let mut scan = Self { footage, filter, flows, keys, taps, turns: Turns::default(), last: 0 };
        for tap in 0..scan.taps.len() {
            scan.enter(tap)?;
        }
        Ok(scan)
    }

    /// A tap waits for its turn, with its next packet or its next shard.
    fn enter(&mut self, n: usize) -> Result<(), FootageError> {
        let alone = self.taps.len() == 1;
        let tap = &mut self.taps[n];
        let time = match tap.next() {
            Some(packet) if alone => packet.time,
            Some(packet) => {
                let (time, offset) = (packet.time, packet.offset);
                match tap.records.read(&self.footage.store, tap.shard, offset)? {
                    Found::Record(record, _) => record.time,
                    Found::Gone | Found::Damaged => time,
                }
            }
            None => match tap.shards.front() {
                Some((_, first)) => *first,
                None => {
                    (tap.blocks, tap.records) = (Vec::new(), Records::default());
                    return Ok(());
                }
            },
        };
        self.turns.enter(n, time);
        Ok(())
    }

    fn next_packet(&mut self) -> Result<Option<FoundPacket>, FootageError> {
        while let Some(n) = self.turns.take() {
            self.last = n;
            let tap = &mut self.taps[n];
            let Some((flow, packet)) = tap.pop()? else {
                if let Some((shard, _)) = tap.shards.pop_front() {
                    self.load(n, shard)?;
                }
                self.enter(n)?;
                continue;
            };
            let shard = tap.shard;
            self.enter(n)?;
            let ms = packet.time.millis();
            if self.filter.from.is_none_or(|t| ms >= t.millis())
                && self.filter.to.is_none_or(|t| ms <= t.millis())
            {
                return Ok(Some(FoundPacket { shard, flow, key: self.key(flow)?, packet }));
            }
        }
        Ok(None)
    }

    fn load(&mut self, n: usize, shard: ShardId) -> Result<(), FootageError> {
        let Self { footage, filter, flows, taps, .. } = self;
        let tap = &mut taps[n];
        tap.shard = shard;
        tap.blocks.clear();
        let blocks = &mut tap.blocks;
        footage.index.l1_of_shard(shard, |key, bytes| {
            if flows.as_ref().is_some_and(|f| !f.contains(&key.flow)) {
                return Ok(true);
            }
            let head = L1Reader::new(bytes).map_err(|source| IndexError::L1 { key, source })?;
            let (first, last) = head.span_ms();
            if filter.from.is_some_and(|t| last < t.millis()) || filter.to.is_some_and(|t| first > t.millis())
            {
                return Ok(true);
            }
            if blocks.last().is_none_or(|b: &Blocks| b.flow != key.flow) {
                blocks.push(Blocks { flow: key.flow, left: VecDeque::new(), reader: None, next: None });
            }
            if let Some(of_flow) = blocks.last_mut() {
                of_flow.left.push_back((key, bytes.to_vec()));
            }
            Ok(true)
        })?;
        for (at, blocks) in tap.blocks.iter_mut().enumerate() {
            blocks.advance()?;
            if let Some(next) = &blocks.next {
                tap.due.push(Reverse((next.offset, at)));
            }
        }
        Ok(())
    }

    fn key(&mut self, flow: FlowId) -> Result<Option<Arc<FlowKey>>, FootageError> {
        if let Some(key) = self.keys.get(&flow) {
            return Ok(key.clone());
        }
        let key = self.footage.index.flow(flow)?.map(|row| Arc::new(row.key));
        self.keys.insert(flow, key.clone());
        Ok(key)
    }
}

/// Each tap's shards that can have packets of a time, in their order.
fn taps_between(shards: Vec<ShardInfo>, from: CaptureTime, to: CaptureTime) -> Vec<TapScan> {
    let mut taps = BTreeMap::<TapId, VecDeque<_>>::new();
    for shard in shards {
        // Of one that is being written only its index tells.
        let (first, last) = shard.times.unwrap_or((CaptureTime::MIN, CaptureTime::MAX));
        if last.millis() >= from.millis() && first.millis() <= to.millis() {
            taps.entry(shard.tap).or_default().push_back((shard.id, first));
        }
    }
    let scan = |shards| TapScan {
        shards,
        shard: ShardId(0),
        blocks: Vec::new(),
        due: BinaryHeap::new(),
        records: Records::default(),
    };
    taps.into_values().map(scan).collect()
}

impl TapScan {
    /// The next packet of the shard that is read.
    fn next(&self) -> Option<&PacketEntry> {
        let Reverse((_, at)) = self.due.peek()?;
        self.blocks[*at].next.as_ref()
    }

    fn pop(&mut self) -> Result<Option<(FlowId, PacketEntry)>, IndexError> {
        let Some(Reverse((_, at))) = self.due.pop() else { return Ok(None) };
        let blocks = &mut self.blocks[at];
        let packet = blocks.next.take();
        blocks.advance()?;
        if let Some(next) = &blocks.next {
            self.due.push(Reverse((next.offset, at)));
        }
        Ok(packet.map(|packet| (blocks.flow, packet)))
    }
}

impl Iterator for PacketScan {
    type Item = Result<FoundPacket, FootageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_packet();
        if next.is_err() {
            // What is damaged ends the scan of its shard only.
            self.taps[self.last].due.clear();
            if let Err(error) = self.enter(self.last) {
                return Some(Err(error));
            }
        }
        next.transpose()
    }
}
