//! The fold itself: its state, and a packet's way through it.

use super::conversation::{Captured, Conversation, Outlook};
use super::descriptor::{Descriptor, Detail, FlowHasher};
use super::flows::{Flows, Role};
use super::media::{FlowFacts, Media};
use super::output::{FoldStats, Observation, Output};
use super::parts::Resting;
use super::slab::Slab;
use super::udp::{Datagram, Datagrams};
use super::world::World;
use super::{Limits, sweep};
use crate::defrag::Defragmenter;
use crate::index::{Carrier, HeaderFields, PacketEntry};
use crate::model::{FlowId, FlowKind, NextIds, SessionEnd};
use crate::rtp::RtpPacket;
use crate::span::{Location, OTHER_FLOW, Piece, Slice};
use crate::tcp::{Segment, Side, TcpLimits};
use crate::wire::{Fragment, IpPair};
use capture::{CaptureTime, LinkType, RECORD_HEADER_LEN, ShardId, SourceId, TapId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::slice::from_ref;

/// The state's layout. One of another layout is not read: a `reindex` makes it anew.
const STATE_VERSION: u32 = 8;

/// Where a packet was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The tap.
    pub tap: TapId,
    /// The shard.
    pub shard: ShardId,
    /// Link type of the shard.
    pub link: LinkType,
}

/// How far a tap is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TapState {
    pub tap: TapId,
    pub shard: ShardId,
    /// Offset of the next record.
    pub offset: u64,
    /// Latest capture time so far: what the merge of several taps goes by.
    pub latest: CaptureTime,
}

/// Why a saved state can't be taken up.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// It was written by another version of this program.
    #[error("the saved state has layout {found}, this version reads {STATE_VERSION}")]
    Version {
        /// The layout's number.
        found: u32,
    },
    /// It is damaged.
    #[error("the saved state is damaged")]
    Damaged(#[from] postcard::Error),
}

impl FoldError {
    /// Whether a newer program has written it.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Version { found } if *found > STATE_VERSION)
    }
}

/// The fold. See the module's text.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fold {
    pub(super) world: World,
    pub(super) flows: Flows,
    pub(super) conversations: Slab<Conversation>,
    pub(super) datagrams: Slab<Datagrams>,
    pub(super) taps: Vec<TapState>,
    /// Capture time of the latest packet, corrected for steps of the clock.
    pub(super) now: CaptureTime,
    pub(super) next_sweep: CaptureTime,
    pub(super) next_expiry: CaptureTime,
    pub(super) defrag: Defragmenter,
    pub(super) fragmented: VecDeque<(IpPair, u8, u32, u32)>,
    /// A recording that rests while other sources are folded; what all sources have in common is not in it.
    pub(super) resting: Option<Resting>,
    #[serde(skip)]
    pub(super) tcp_limits: TcpLimits,
    #[serde(skip)]
    pub(super) hasher: FlowHasher,
}

impl Fold {
    /// Before the first packet of an index.
    pub fn new(limits: Limits) -> Self {
        Self {
            world: World::new(limits),
            flows: Flows::default(),
            conversations: Slab::default(),
            datagrams: Slab::default(),
            taps: Vec::new(),
            now: CaptureTime::MIN,
            next_sweep: CaptureTime::MIN,
            next_expiry: CaptureTime::MIN,
            defrag: Defragmenter::default(),
            fragmented: VecDeque::new(),
            resting: None,
            tcp_limits: TcpLimits::default(),
            hasher: FlowHasher::default(),
        }
    }

    /// The whole state. What is open in the blocks is in it; rows that were not taken yet are not.
    pub fn save(&self) -> Vec<u8> {
        let version = STATE_VERSION.to_le_bytes().to_vec();
        postcard::to_extend(self, version)
            .expect("the state is plain structures that always have a postcard form")
    }

    /// Whether a saved state has this version's layout.
    pub fn reads(state: &[u8]) -> bool {
        state.first_chunk::<4>().is_some_and(|version| u32::from_le_bytes(*version) == STATE_VERSION)
    }

    /// Takes up a saved state.
    pub fn restore(state: &[u8]) -> Result<Self, FoldError> {
        let (version, body) =
            state.split_first_chunk::<4>().ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        let found = u32::from_le_bytes(*version);
        if found != STATE_VERSION {
            return Err(FoldError::Version { found });
        }
        let mut fold: Self = postcard::from_bytes(body)?;
        fold.flows.rehash(&fold.hasher);
        if let Some(Resting { fold: resting, .. }) = &mut fold.resting {
            resting.hasher = fold.hasher.clone();
            resting.flows.rehash(&fold.hasher);
        }
        Ok(fold)
    }

    /// Writes the rows of all that is open into another index than the one that has them.
    pub fn put_again(&mut self) {
        if let Some(mut resting) = self.resting.take() {
            std::mem::swap(&mut resting.fold.world.out, &mut self.world.out);
            resting.fold.put_again();
            std::mem::swap(&mut resting.fold.world.out, &mut self.world.out);
            self.resting = Some(resting);
        }
        self.world.forget_written();
        self.world.streams.forget_written();
        self.flows.forget_written();
        self.put_open();
    }

    /// What makes descriptors for this fold.
    pub fn hasher(&self) -> &FlowHasher {
        &self.hasher
    }

    /// Numbers that are not given yet.
    pub fn next_ids(&self) -> NextIds {
        self.world.ids
    }

    /// Counts so far.
    pub fn stats(&self) -> FoldStats {
        self.world.stats
    }

    /// How many streams are known.
    pub fn streams(&self) -> usize {
        self.world.streams.len()
    }

    /// Streams, for what is not in the index yet.
    pub fn stream(&self, id: crate::model::StreamId) -> Option<&crate::model::StreamRow> {
        self.world.streams.get(id)
    }

    /// Whether streams are called the same in both.
    pub fn names_as(&self, other: &Self) -> bool {
        self.world.streams.names().eq(other.world.streams.names())
    }

    /// What has come out. The caller takes it after every batch.
    pub fn output(&mut self) -> &mut Output {
        &mut self.world.out
    }

    /// How far each tap is folded: the shard, the offset of its next record, and the latest capture time.
    pub fn positions(&self) -> impl Iterator<Item = (TapId, ShardId, u64, CaptureTime)> {
        self.taps.iter().map(|t| (t.tap, t.shard, t.offset, t.latest))
    }

    /// Packets were dropped by the recorder.
    pub fn handle_drops(&mut self, tap: TapId, span: (CaptureTime, CaptureTime), packets: u64) {
        let World { losses, out, .. } = &mut self.world;
        losses.handle_drops(tap, span, packets, &mut out.batch);
    }

    /// A tap's interface was away.
    pub fn handle_absence(&mut self, tap: TapId, span: (CaptureTime, CaptureTime)) {
        let World { losses, out, .. } = &mut self.world;
        losses.handle_absence(tap, span, &mut out.batch);
    }

    /// Forgets gaps of shards that are not there any more.
    pub fn retain_gaps(&mut self, there: impl Fn(ShardId) -> bool) {
        self.world.losses.retain(there);
    }

    /// The source that the next packets belong to.
    pub fn begin_source(&mut self, source: SourceId) {
        self.world.source = source;
    }

    /// The source that is being folded.
    pub fn source(&self) -> SourceId {
        self.world.source
    }

    /// The next packet of `tap` lies in another shard: what is open in the one before is closed. To be called before that packet;
    /// the state in between is what a checkpoint keeps.
    pub fn begin_shard(&mut self, tap: TapId, shard: ShardId, offset: u64) {
        self.turn_to(tap, shard, offset);
    }

    /// The place of a tap that is in this shard from now on.
    fn turn_to(&mut self, tap: TapId, shard: ShardId, offset: u64) -> usize {
        let Some(at) = self.taps.iter().position(|t| t.tap == tap) else {
            self.taps.push(TapState { tap, shard, offset, latest: CaptureTime::MIN });
            return self.taps.len() - 1;
        };
        let state = &mut self.taps[at];
        if state.shard != shard {
            let ended = std::mem::replace(&mut state.shard, shard);
            state.offset = offset;
            self.world.end_shard(tap, ended);
            self.world.forget_written();
            self.flows.end_shard(tap, ended, &mut self.world.out.batch);
        }
        at
    }

    /// Folds a packet.
    pub fn handle(&mut self, place: &Place, d: &Descriptor, data: &[u8]) {
        self.world.stats.packets += 1;
        self.world.stats.bytes += u64::from(d.captured_len);
        self.note_position(place, d);
        sweep::tick(self, d.time);
        self.world.mac = d.mac;
        let at = self.flow_of(d, data);
        self.fetch(at, d, data);
        let header = self.header(at, d, data);
        let entry = PacketEntry {
            offset: d.record,
            time: d.time,
            captured_len: d.captured_len,
            original_len: d.original_len,
            payload_offset: d.payload_offset as u16,
            payload_len: d.payload_len,
            header,
        };
        let Some(flow) = self.flows.get_mut(at) else { return };
        let number = flow.push(place.tap, place.shard, d, &entry, &mut self.world.out.batch);
        let mut role = flow.role;
        if role == Role::New || d.starts_anew(role) {
            role = self.assign(at, d);
        }
        match role {
            Role::Udp(datagrams) => self.handle_udp(datagrams, at, place, d, data, &entry, number),
            Role::Tcp { conversation, from_a } => {
                self.handle_tcp(conversation, from_a, place, d, data, &entry, number);
            }
            Role::New | Role::Ignored => {}
        }
        if let Detail::Fragment { .. } = d.detail {
            self.handle_fragment(at, place, d, data);
        }
    }

    /// Starts to fetch what the packet is understood by, while the index takes it in.
    #[inline]
    fn fetch(&self, at: u32, d: &Descriptor, data: &[u8]) {
        if let Some(Role::Tcp { conversation, from_a }) = self.flows.get(at).map(|f| f.role)
            && let Some(talk) = self.conversations.get(conversation)
        {
            talk.fetch(if from_a { Side::A } else { Side::B }, d.payload(data));
        }
    }

    #[inline]
    fn note_position(&mut self, place: &Place, d: &Descriptor) {
        let end = d.record + RECORD_HEADER_LEN + u64::from(d.captured_len);
        let at = match self.taps.iter().position(|t| t.tap == place.tap && t.shard == place.shard) {
            Some(at) => at,
            None => self.turn_to(place.tap, place.shard, d.record),
        };
        let state = &mut self.taps[at];
        state.offset = end;
        state.latest = state.latest.max(d.time);
    }

    /// What the first level keeps of the header.
    #[inline]
    fn header(&self, at: u32, d: &Descriptor, data: &[u8]) -> HeaderFields {
        match d.detail {
            Detail::Tcp { seq, flags, .. } => HeaderFields::Tcp { seq, flags: flags.0 },
            Detail::Udp => {
                let Some(Role::Udp(datagrams)) = self.flows.get(at).map(|f| f.role) else {
                    return HeaderFields::None;
                };
                if !self.datagrams.get(datagrams).is_some_and(Datagrams::is_media) {
                    return HeaderFields::None;
                }
                match RtpPacket::parse(d.payload(data), d.payload_len as usize) {
                    Ok(rtp) => HeaderFields::Rtp {
                        seq: rtp.sequence.0,
                        timestamp: rtp.timestamp.0,
                        marker: rtp.marker,
                        payload_type: rtp.payload_type.get(),
                    },
                    Err(_) => HeaderFields::None,
                }
            }
            Detail::Fragment { .. } | Detail::Other => HeaderFields::None,
        }
    }

    #[inline]
    #[allow(clippy::too_many_arguments, reason = "they are one packet in the stages of its understanding")]
    fn handle_udp(
        &mut self,
        datagrams: u32,
        at: u32,
        place: &Place,
        d: &Descriptor,
        data: &[u8],
        entry: &PacketEntry,
        number: u32,
    ) {
        let bytes = d.payload(data);
        if bytes.is_empty() || !matches!(d.detail, Detail::Udp) {
            return;
        }
        let piece = Piece {
            shard: place.shard,
            record: d.record,
            entry: number,
            offset: d.payload_offset,
            len: d.payload_captured,
        };
        let carrier = Carrier {
            payload_offset: d.payload_offset,
            payload_captured: entry.payload_captured(),
            header: entry.header,
        };
        let datagram =
            Datagram { now: d.time, bytes, len: d.payload_len, tap: place.tap, shard: place.shard };
        let flow = self.flows.get(at).map_or(FlowId::default(), |f| f.id);
        let media = |rtp: &RtpPacket<'_>| {
            Media::new(rtp, d.payload_len, (d.time, place.tap, flow), from_ref(&piece), from_ref(&carrier))
        };
        self.give_datagram(datagrams, at, &datagram, media);
    }

    #[inline]
    fn give_datagram<'m>(
        &mut self,
        datagrams: u32,
        at: u32,
        datagram: &Datagram<'_>,
        media: impl Fn(&RtpPacket<'_>) -> Media<'m>,
    ) {
        let Self { flows, datagrams: all, world, .. } = self;
        let Some(datagrams) = all.get_mut(datagrams) else { return };
        let (sender, receiver) = (datagrams.sender, datagrams.receiver);
        let facts = || facts_of(flows, at, sender, receiver);
        datagrams.handle(datagram, media, facts, world);
    }

    fn handle_fragment(&mut self, at: u32, place: &Place, d: &Descriptor, data: &[u8]) {
        let Detail::Fragment { id, offset, more } = d.detail else { return };
        let ends = IpPair { src: d.key.src, dst: d.key.dst };
        let payload = d.payload(data);
        let proto = d.key.proto;
        let fragment = Fragment { id, offset, more, proto, payload, payload_len_on_wire: d.payload_len };
        // By record: one that comes before the first is in a flow without ports, and where numbers are given again those behind it can be in
        // another flow.
        let at_payload =
            Location { shard: place.shard, record: d.record, entry: OTHER_FLOW, offset: d.payload_offset };
        let Some(whole) = self.defrag.handle_fragment(d.time, ends, d.vlans, &fragment, at_payload) else {
            return;
        };
        let Some(udp) = whole.udp() else { return };
        let Some(flow) = self.flows.get(at) else { return };
        let flow_id = flow.id;
        // A flow without ports: too many are under way. There is no telling its stream.
        if flow.key.sport != udp.src || flow.key.dport != udp.dst {
            return;
        }
        let datagrams = match flow.role {
            Role::Udp(datagrams) => datagrams,
            Role::New => {
                let (a, b) = (SocketAddr::new(ends.src, udp.src), SocketAddr::new(ends.dst, udp.dst));
                let datagrams = self.datagrams.insert(Datagrams::new(a, b, self.now));
                if let Some(flow) = self.flows.get_mut(at) {
                    flow.role = Role::Udp(datagrams);
                }
                datagrams
            }
            _ => return,
        };
        let pieces: SmallVec<[Piece; 2]> = udp.pieces.iter().copied().collect();
        let datagram =
            Datagram { now: d.time, bytes: udp.head, len: udp.len, tap: place.tap, shard: place.shard };
        let seen = (d.time, place.tap, flow_id);
        let media = |rtp: &RtpPacket<'_>| Media::new(rtp, udp.len, seen, &pieces, &[]);
        self.give_datagram(datagrams, at, &datagram, media);
    }

    #[inline]
    #[allow(clippy::too_many_arguments, reason = "they are one packet in the stages of its understanding")]
    fn handle_tcp(
        &mut self,
        conversation: u32,
        from_a: bool,
        place: &Place,
        d: &Descriptor,
        data: &[u8],
        entry: &PacketEntry,
        number: u32,
    ) {
        let Detail::Tcp { seq, ack, flags } = d.detail else { return };
        let Self { flows, conversations, world, tcp_limits, .. } = self;
        let Some(talk) = conversations.get_mut(conversation) else { return };
        let at = Location { shard: place.shard, record: d.record, entry: number, offset: d.payload_offset };
        let payload = Slice { bytes: d.payload(data), at, time: d.time };
        let segment = Segment { seq, ack, flags, payload: &payload, len_on_wire: d.payload_len };
        let captured = Captured { tap: place.tap, entry, number, segment };
        let side = if from_a { Side::A } else { Side::B };
        if talk.handle(tcp_limits, side, &captured, flows, world) == Outlook::Hopeless {
            let both: Vec<u32> = talk.flows().collect();
            talk.forget(world);
            self.conversations.remove(conversation);
            for at in both {
                if let Some(flow) = self.flows.get_mut(at) {
                    flow.role = Role::Ignored;
                    flow.set_kind(FlowKind::Other);
                }
            }
        }
    }

    /// Writes rows and open blocks that have changed since the last time.
    pub fn put_open(&mut self) {
        sweep::note_kinds(self);
        self.world.put_open();
        self.flows.put_open(&mut self.world.out.batch);
    }

    /// The source's last packet was folded: everything is closed, streams stay.
    pub fn end_source(&mut self) {
        sweep::end_all(self, SessionEnd::SourceEnd);
        self.taps.clear();
        self.fragmented.clear();
        self.defrag = Defragmenter::default();
        self.now = CaptureTime::MIN;
        self.next_sweep = CaptureTime::MIN;
        self.next_expiry = CaptureTime::MIN;
    }

    /// Sessions that carry media or should, for failure detection.
    pub fn observations(&self) -> impl Iterator<Item = Observation> {
        let open = self
            .world
            .sessions
            .iter()
            .filter(|(_, s)| s.row.ended.is_none() && (s.playing || s.media_packets > 0));
        open.map(|(_, s)| Observation {
            session: s.row.id,
            camera: crate::model::camera_name(s.row.camera.ip()),
            client: s.row.client,
            media_packets: s.media_packets,
            client_signs: s.client_signs,
            media_due: s.playing,
        })
    }
}

/// What media has to know of its flow.
pub(super) fn facts_of(flows: &Flows, at: u32, src: SocketAddr, dst: SocketAddr) -> FlowFacts {
    let flow = flows.get(at);
    FlowFacts {
        id: flow.map_or(FlowId::default(), |f| f.id),
        src,
        dst,
        vlans: flow.map(|f| SmallVec::from_slice(f.vlans())).unwrap_or_default(),
    }
}
