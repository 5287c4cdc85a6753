//! First-level records: what was captured, understood or not.
//!
//! Costs: holds one shard's first-level blocks of the flows that are asked for (at most about 2 % of the shard's size, with
//! the shortest packets) and reads them side by side, in the order in which the packets lie in the shard.

use super::{Footage, FootageError, FoundPacket, PacketFilter};
use crate::index::{FlowId, IndexError, L1Key, L1Reader, PacketEntry};
use crate::model::FlowKey;
use capture::ShardId;
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
    shards: VecDeque<ShardId>,
    shard: ShardId,
    blocks: Vec<Blocks>,
    /// Each flow's next packet: its offset, and which of `blocks`.
    due: BinaryHeap<Reverse<(u64, usize)>>,
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
        let in_time = |times: Option<(capture::CaptureTime, capture::CaptureTime)>| {
            times.is_none_or(|(first, last)| {
                filter.from.is_none_or(|from| last.millis() >= from.millis())
                    && filter.to.is_none_or(|to| first.millis() <= to.millis())
            })
        };
        let shards = footage.store.shards().iter().filter(|s| in_time(s.times)).map(|s| s.id).collect();
        Ok(Self {
            footage,
            filter,
            flows,
            keys,
            shards,
            shard: ShardId(0),
            blocks: Vec::new(),
            due: BinaryHeap::new(),
        })
    }

    fn next_packet(&mut self) -> Result<Option<FoundPacket>, FootageError> {
        loop {
            let Some(Reverse((_, at))) = self.due.pop() else {
                let Some(shard) = self.shards.pop_front() else { return Ok(None) };
                self.load(shard)?;
                continue;
            };
            let flow = self.blocks[at].flow;
            let packet = self.blocks[at].next.take();
            self.blocks[at].advance()?;
            if let Some(next) = &self.blocks[at].next {
                self.due.push(Reverse((next.offset, at)));
            }
            let Some(packet) = packet else { continue };
            let ms = packet.time.millis();
            if self.filter.from.is_none_or(|t| ms >= t.millis())
                && self.filter.to.is_none_or(|t| ms <= t.millis())
            {
                return Ok(Some(FoundPacket { shard: self.shard, flow, key: self.key(flow)?, packet }));
            }
        }
    }

    fn load(&mut self, shard: ShardId) -> Result<(), FootageError> {
        self.shard = shard;
        self.blocks.clear();
        let (blocks, flows, filter) = (&mut self.blocks, &self.flows, &self.filter);
        self.footage.index.l1_of_shard(shard, |key, bytes| {
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
        for (at, blocks) in self.blocks.iter_mut().enumerate() {
            blocks.advance()?;
            if let Some(next) = &blocks.next {
                self.due.push(Reverse((next.offset, at)));
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

impl Iterator for PacketScan {
    type Item = Result<FoundPacket, FootageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_packet();
        if next.is_err() {
            // What is damaged ends the scan of its shard only.
            self.due.clear();
        }
        next.transpose()
    }
}
