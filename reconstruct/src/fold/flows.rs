//! Flows and their first-level blocks.

use super::descriptor::{Descriptor, FlowHasher};
use super::slab::Slab;
use crate::index::{IndexBatch, L1Builder, PacketEntry};
use crate::model::{FlowId, FlowKey, FlowKind, FlowRow};
use crate::wire::Vlans;
use capture::{CaptureTime, ShardId, TapId};
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Most different VLAN identifiers kept for a flow.
const VLANS_MAX: usize = 8;

/// Most taps kept of earlier parts of the recording.
const LEFT_MAX: usize = 8;

/// What the packets of a flow are given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// To be decided with the next packet.
    New,
    /// One side of a TCP connection.
    Tcp {
        /// The connection.
        conversation: u32,
        /// Which side sends here: the one that sent the first packet seen, or the other.
        from_a: bool,
    },
    /// UDP datagrams.
    Udp(u32),
    /// To nobody.
    Ignored,
}

/// One flow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flow {
    pub id: FlowId,
    pub key: FlowKey,
    pub role: Role,
    pub last: CaptureTime,
    began: CaptureTime,
    kind: FlowKind,
    vlans: SmallVec<[u16; 4]>,
    /// The tags of the last packet: mostly the next has the same.
    last_vlans: Vlans,
    row_dirty: bool,
    builders: SmallVec<[TapBuilder; 1]>,
    /// Taps of an earlier part of the recording.
    left: SmallVec<[TapId; 1]>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct TapBuilder {
    tap: TapId,
    dirty: bool,
    builder: L1Builder,
}

impl Flow {
    fn new(id: FlowId, d: &Descriptor) -> Self {
        let mut flow = Self {
            id,
            key: d.key,
            role: Role::New,
            last: d.time,
            began: d.time,
            kind: FlowKind::Unknown,
            vlans: SmallVec::new(),
            last_vlans: d.vlans,
            row_dirty: true,
            builders: SmallVec::new(),
            left: SmallVec::new(),
        };
        flow.note_vlans(d.vlans);
        flow
    }

    fn note_vlans(&mut self, vlans: Vlans) {
        self.last_vlans = vlans;
        for &id in vlans.ids() {
            if !self.vlans.contains(&id) && self.vlans.len() < VLANS_MAX {
                self.vlans.push(id);
                self.row_dirty = true;
            }
        }
    }

    /// VLAN identifiers seen so far.
    pub fn vlans(&self) -> &[u16] {
        &self.vlans
    }

    /// Says what the flow is.
    pub fn set_kind(&mut self, kind: FlowKind) {
        self.row_dirty |= self.kind != kind;
        self.kind = kind;
    }

    /// Adds a packet and gives its number in the flow and shard.
    #[inline]
    pub fn push(
        &mut self,
        tap: TapId,
        shard: ShardId,
        d: &Descriptor,
        entry: &PacketEntry,
        batch: &mut IndexBatch,
    ) -> u32 {
        self.last = self.last.max(d.time);
        if d.vlans != self.last_vlans {
            self.note_vlans(d.vlans);
        }
        let at = match self.builders.iter().position(|b| b.tap == tap) {
            Some(at) => at,
            None => {
                self.row_dirty = true;
                self.builders.push(TapBuilder { tap, dirty: false, builder: L1Builder::new(self.id, shard) });
                self.builders.len() - 1
            }
        };
        let TapBuilder { dirty, builder, .. } = &mut self.builders[at];
        if (builder.shard() != shard || builder.full())
            && let Some(block) = builder.roll(shard)
        {
            batch.put_l1(block);
        }
        *dirty = true;
        let number = builder.push(entry);
        // The row goes with the last shard that refers to it; a flow that was quiet meanwhile needs it again.
        self.row_dirty |= number == 0;
        number
    }

    fn row(&self) -> FlowRow {
        FlowRow {
            id: self.id,
            key: self.key,
            taps: self.left.iter().copied().chain(self.builders.iter().map(|b| b.tap)).collect(),
            vlans: self.vlans.to_vec(),
            kind: self.kind,
            began: self.began,
        }
    }

    fn put_open(&mut self, batch: &mut IndexBatch) {
        if self.row_dirty {
            self.row_dirty = false;
            batch.put_flow(&self.row());
        }
        for b in self.builders.iter_mut().filter(|b| b.dirty) {
            b.dirty = false;
            if let Some(block) = b.builder.encode_partial() {
                batch.put_l1(block);
            }
        }
    }
}

/// All flows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Flows {
    flows: Slab<Flow>,
    #[serde(skip)]
    by_key: HashTable<(u64, u32)>,
    /// Hash and place that were found last.
    #[serde(skip)]
    found: (u64, u32),
}

impl Flows {
    /// After reading the state: the hashes of this process.
    pub fn rehash(&mut self, hasher: &FlowHasher) {
        self.by_key.clear();
        for (at, flow) in self.flows.iter() {
            let hash = hasher.hash(&flow.key);
            self.by_key.insert_unique(hash, (hash, at), |(h, _)| *h);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// The place of the flow with this key.
    #[inline]
    pub fn find(&self, hash: u64, key: &FlowKey) -> Option<u32> {
        let flows = &self.flows;
        let found =
            self.by_key.find(hash, |(h, at)| *h == hash && flows.get(*at).is_some_and(|f| f.key == *key));
        found.map(|(_, at)| *at)
    }

    /// The same for the next of all packets: they come in bursts, and so it is often the flow of the one before.
    #[inline]
    pub fn find_again(&mut self, hash: u64, key: &FlowKey) -> Option<u32> {
        let (before, at) = self.found;
        if before == hash && self.flows.get(at).is_some_and(|f| f.key == *key) {
            return Some(at);
        }
        let at = self.find(hash, key)?;
        self.found = (hash, at);
        Some(at)
    }

    /// Adds a flow for a packet.
    pub fn insert(&mut self, id: FlowId, d: &Descriptor) -> u32 {
        let at = self.flows.insert(Flow::new(id, d));
        self.by_key.insert_unique(d.hash, (d.hash, at), |(h, _)| *h);
        at
    }

    /// The flow at a place.
    #[inline]
    pub fn get_mut(&mut self, at: u32) -> Option<&mut Flow> {
        self.flows.get_mut(at)
    }

    /// The flow at a place.
    pub fn get(&self, at: u32) -> Option<&Flow> {
        self.flows.get(at)
    }

    /// Removes flows without a packet since `before` and without a part in a conversation. Their open blocks are written.
    pub fn expire(&mut self, before: CaptureTime, hasher: &FlowHasher, batch: &mut IndexBatch) {
        let idle = |f: &Flow| f.last < before && matches!(f.role, Role::New | Role::Ignored);
        let gone: Vec<u32> = self.flows.iter().filter(|(_, f)| idle(f)).map(|(at, _)| at).collect();
        for at in gone {
            let Some(mut flow) = self.flows.remove(at) else { continue };
            flow.put_open(batch);
            let hash = hasher.hash(&flow.key);
            if let Ok(entry) = self.by_key.find_entry(hash, |(_, n)| *n == at) {
                entry.remove();
            }
        }
    }

    /// A shard of `tap` is complete: its open blocks are closed.
    pub fn end_shard(&mut self, tap: TapId, shard: ShardId, batch: &mut IndexBatch) {
        for (_, flow) in self.flows.iter_mut() {
            for b in flow.builders.iter_mut().filter(|b| b.tap == tap && b.builder.shard() == shard) {
                b.dirty = false;
                if let Some(block) = b.builder.roll(ShardId(shard.0 + 1)) {
                    batch.put_l1(block);
                }
            }
        }
    }

    /// All shards are complete and no tap has another: what comes later comes from other taps.
    pub fn leave_taps(&mut self) {
        for (_, flow) in self.flows.iter_mut() {
            flow.left.extend(flow.builders.drain(..).map(|b| b.tap));
            let excess = flow.left.len().saturating_sub(LEFT_MAX);
            flow.left.drain(..excess);
        }
    }

    /// All rows are to be written again.
    pub fn forget_written(&mut self) {
        self.flows.iter_mut().for_each(|(_, flow)| flow.row_dirty = true);
    }

    /// Rows and open blocks that have changed since the last time.
    pub fn put_open(&mut self, batch: &mut IndexBatch) {
        for (_, flow) in self.flows.iter_mut() {
            flow.put_open(batch);
        }
    }

    /// All flows.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Flow)> {
        self.flows.iter_mut()
    }
}
