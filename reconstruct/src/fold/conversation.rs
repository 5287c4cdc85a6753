//! TCP connections: reassembled while they may be RTSP, and what they carry taken apart.
//!
//! A connection is looked into until both its directions have shown nothing of RTSP for as long as the framing is willing to
//! search; then its packets are in the first level only.

use super::continued::{Left, LeftSide};
use super::flows::Flows;
use super::media::{FlowFacts, Media};
use super::probe::{self, Probe, Unannounced};
use super::recent::{Recent, RecentPacket};
use super::session::Dealings;
use super::world::World;
use crate::index::{Carrier, PacketEntry};
use crate::interleaved::{Frame, Interleaved, InterleavedEvent};
use crate::model::{FlowId, FlowKind, SessionEnd, Transport};
use crate::rtcp::looks_like_rtcp;
use crate::rtp::RtpPacket;
use crate::rtsp::{Closed, Dialogue, End, MessageReader};
use crate::span::Slice;
use crate::tcp::{Connection, EndReason, HoleCause, Segment, Side, TcpEvent, TcpLimits};
use capture::{CaptureTime, ShardId, TapId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::net::SocketAddr;

/// Captured packets of a direction that are remembered at the most: an interleaved frame of 64 KiB has 45 pieces of a full segment.
const RECENT_MAX: usize = 64;
/// Those that are always remembered. More than that and what is under way would only make the state larger that each commit writes.
const RECENT_MIN: usize = 4;
/// Bytes of a direction after which a connection without anything of RTSP is not looked into any more.
const UNDECIDED_BYTES_MAX: u64 = 512 << 10;
/// Channels of one direction that are looked at without an announcement.
const PROBED_CHANNELS_MAX: usize = 16;

/// A TCP connection.
#[derive(Debug, Serialize, Deserialize)]
pub struct Conversation {
    pub last: CaptureTime,
    connection: Connection,
    inside: Inside,
    /// Highest acknowledgement seen of each side, for signs of life.
    acks: [u32; 2],
}

/// What a connection carries.
#[derive(Debug, Serialize, Deserialize)]
struct Inside {
    dialogue: Dialogue,
    dealings: Dealings,
    sides: [Direction; 2],
    /// Where the last packet was captured.
    place: Option<(TapId, ShardId)>,
    /// Something of RTSP was seen.
    rtsp: bool,
}

/// What one end sends.
#[derive(Debug, Serialize, Deserialize)]
struct Direction {
    from: SocketAddr,
    to: SocketAddr,
    /// Place of its flow, once one of its packets was seen.
    flow: Option<u32>,
    framing: Interleaved,
    text: MessageReader,
    recent: Recent,
    probes: Vec<(u8, Probe)>,
    bytes: u64,
    ended: bool,
}

/// A segment and where it was captured.
pub struct Captured<'a> {
    pub tap: TapId,
    pub entry: &'a PacketEntry,
    pub number: u32,
    pub segment: Segment<'a>,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// Go on.
    Open,
    /// It is not RTSP.
    Hopeless,
}

struct Context<'a> {
    world: &'a mut World,
    flows: &'a Flows,
    tap: TapId,
    shard: ShardId,
}

/// What a framing is given.
enum Input<'a> {
    Start { syn: bool },
    Data(&'a Slice<'a>),
    Hole { len: u64 },
    Finish,
}

const fn index(side: Side) -> usize {
    match side {
        Side::A => 0,
        Side::B => 1,
    }
}

const fn end(side: Side) -> End {
    match side {
        Side::A => End::A,
        Side::B => End::B,
    }
}

impl Conversation {
    /// Between two ends; A's is the first packet.
    pub fn new(a: SocketAddr, b: SocketAddr, now: CaptureTime) -> Self {
        Self { last: now, connection: Connection::default(), inside: Inside::new(a, b), acks: [0; 2] }
    }

    /// The flow of a side has this place.
    pub fn set_flow(&mut self, side: Side, flow: u32) {
        self.inside.sides[index(side)].flow = Some(flow);
    }

    /// Places of both flows.
    pub fn flows(&self) -> impl Iterator<Item = u32> {
        self.inside.sides.iter().filter_map(|d| d.flow)
    }

    /// Both sides with the places of their flows.
    pub fn sides(&self) -> impl Iterator<Item = (Side, u32)> {
        let [a, b] = &self.inside.sides;
        a.flow.map(|f| (Side::A, f)).into_iter().chain(b.flow.map(|f| (Side::B, f)))
    }

    /// The session that goes on in it.
    pub fn session(&self) -> Option<u32> {
        self.inside.dealings.session
    }

    /// Tracks that nobody announced.
    pub fn inferred_tracks(&self) -> impl Iterator<Item = u32> {
        self.inside.sides.iter().flat_map(|d| &d.probes).flat_map(|(_, probe)| probe.tracks())
    }

    /// Lets go of what is kept.
    pub fn forget(&mut self, world: &mut World) {
        for (_, probe) in self.inside.sides.iter_mut().flat_map(|d| &mut d.probes) {
            probe.forget(world);
        }
    }

    /// What the flow of a side is.
    pub fn kind(&self, side: Side, world: &World) -> FlowKind {
        let session = self.session().and_then(|at| world.sessions.get(at));
        match session {
            Some(s) if s.row.camera == self.inside.sides[index(side)].from => FlowKind::Answers,
            Some(_) => FlowKind::Commands,
            None => FlowKind::Unknown,
        }
    }

    /// What an earlier source had of the connection goes on.
    pub fn go_on(&mut self, left: Left) {
        let Self { connection, inside, .. } = self;
        *connection = left.connection;
        for (side, left) in [Side::A, Side::B].into_iter().zip(left.sides) {
            match left {
                Some(LeftSide { framing, recent }) => {
                    let direction = &mut inside.sides[index(side)];
                    (direction.framing, direction.recent) = (framing, recent);
                }
                None => connection.begin_anew(side),
            }
        }
        inside.rtsp = true;
    }

    /// A segment of `from`.
    pub fn handle(
        &mut self,
        limits: &TcpLimits,
        from: Side,
        captured: &Captured<'_>,
        flows: &Flows,
        world: &mut World,
    ) -> Outlook {
        let segment = &captured.segment;
        let now = segment.payload.time;
        self.last = self.last.max(now);
        let Self { connection, inside, acks, .. } = self;
        inside.place = Some((captured.tap, segment.payload.at.shard));
        if !segment.payload.bytes.is_empty() {
            inside.sides[index(from)].remember(captured, connection.direction(from).held_segments());
        }
        let acked = &mut acks[index(from)];
        if segment.ack.wrapping_sub(*acked) as i32 > 0 || *acked == 0 {
            *acked = segment.ack;
            inside.sign_of_life(from, now, world);
        }
        let mut context = Context { world, flows, tap: captured.tap, shard: segment.payload.at.shard };
        connection.handle_segment(limits, from, segment, &mut |side, event| {
            inside.handle(side, event, now, &mut context);
        });
        inside.outlook()
    }

    /// Starts to fetch what is looked at first in the next segment of a side, taken to be in order: the header of the next interleaved
    /// frame, which lies anywhere in it. Waiting for it was a quarter of all that TCP cost.
    #[inline]
    pub fn fetch(&self, from: Side, payload: &[u8]) {
        let next = self.inside.sides[index(from)].framing.until_next();
        if let Some(header) = next.and_then(|n| payload.get(n..)) {
            capture::prefetch(header, 2);
        }
    }

    /// Time passes without a segment.
    pub fn handle_timeout(&mut self, limits: &TcpLimits, now: CaptureTime, flows: &Flows, world: &mut World) {
        let Self { connection, inside, .. } = self;
        if connection.deadline(limits).is_none_or(|deadline| deadline > now) {
            return;
        }
        let Some((tap, shard)) = inside.place else { return };
        let mut context = Context { world, flows, tap, shard };
        connection
            .handle_timeout(limits, now, &mut |side, event| inside.handle(side, event, now, &mut context));
    }

    /// Nothing more will come: the connection is given up, or the source is at its end.
    pub fn finish(&mut self, end: SessionEnd, flows: &Flows, world: &mut World) {
        let Self { connection, inside, last, .. } = self;
        if let Some((tap, shard)) = inside.place {
            let mut context = Context { world, flows, tap, shard };
            connection.finish(*last, &mut |side, event| inside.handle(side, event, *last, &mut context));
            if end == SessionEnd::SourceEnd
                && let Some((ends, left)) = inside.leave(connection, *last)
            {
                context.world.stats.left_over_bound += context.world.left.keep(ends, left);
            }
            for side in [Side::A, Side::B] {
                inside.feed(side, &Input::Finish, &mut context);
            }
            inside.poll(&mut context);
        }
        inside.settle(flows, world);
        if let Some(session) = inside.dealings.session {
            world.end_session(session, end, *last);
        }
    }
}

impl Inside {
    fn new(a: SocketAddr, b: SocketAddr) -> Self {
        Self {
            dialogue: Dialogue::new(a, b),
            dealings: Dealings::new(a, b),
            sides: [Direction::new(a, b), Direction::new(b, a)],
            place: None,
            rtsp: false,
        }
    }

    /// What a source that goes on with the connection needs. A frame that is begun goes with it.
    fn leave(&mut self, connection: &Connection, last: CaptureTime) -> Option<([SocketAddr; 2], Left)> {
        if !self.rtsp {
            return None;
        }
        let ends = [self.sides[0].from, self.sides[1].from];
        let sides = [Side::A, Side::B].map(|side| {
            let Direction { framing, recent, .. } = &mut self.sides[index(side)];
            let goes_on = framing.can_go_on() && connection.direction(side).is_open();
            goes_on.then(|| {
                let framing = std::mem::take(framing);
                let begun = framing.pieces_under_way() > 0;
                LeftSide { framing, recent: if begun { recent.clone() } else { Recent::default() } }
            })
        });
        let left = Left { last, connection: connection.clone(), sides };
        left.sides.iter().any(Option::is_some).then_some((ends, left))
    }

    fn outlook(&self) -> Outlook {
        let silent = |d: &Direction| d.framing.is_dormant() && d.bytes > UNDECIDED_BYTES_MAX;
        if !self.rtsp && self.sides.iter().any(silent) { Outlook::Hopeless } else { Outlook::Open }
    }

    fn sign_of_life(&self, from: Side, now: CaptureTime, world: &mut World) {
        let Some(session) = self.dealings.session.and_then(|at| world.sessions.get_mut(at)) else { return };
        if session.row.client == self.sides[index(from)].from {
            session.client_signs += 1;
            session.last = session.last.max(now);
        }
    }

    fn handle(&mut self, side: Side, event: &TcpEvent<'_>, now: CaptureTime, context: &mut Context<'_>) {
        match *event {
            TcpEvent::Start { syn } => {
                self.feed(side, &Input::Start { syn }, context);
                self.sides[index(side)].ended = false;
            }
            TcpEvent::Data(data) => {
                self.sides[index(side)].bytes += data.bytes.len() as u64;
                self.feed(side, &Input::Data(data), context);
            }
            TcpEvent::Hole { len, cause } => {
                if cause == HoleCause::Acked {
                    self.acknowledged(side, len, context.world);
                }
                self.feed(side, &Input::Hole { len }, context);
            }
            TcpEvent::End { reason } => self.handle_end(side, reason, now, context),
        }
        self.poll(context);
    }

    fn acknowledged(&self, side: Side, bytes: u64, world: &mut World) {
        for &(_, track, rtcp) in &self.dealings.channels {
            if !rtcp {
                world.handle_acknowledged_hole(track, bytes);
            }
        }
        for track in self.sides[index(side)].probes.iter().flat_map(|(_, probe)| probe.tracks()) {
            world.handle_acknowledged_hole(track, bytes);
        }
    }

    fn handle_end(&mut self, side: Side, reason: EndReason, now: CaptureTime, context: &mut Context<'_>) {
        // With a reset both sides are at their end: what is still searched for in the other one belongs to this session.
        let both = reason == EndReason::Reset;
        for side in [Some(side), Some(side.other()).filter(|_| both)].into_iter().flatten() {
            self.feed(side, &Input::Finish, context);
        }
        self.poll(context);
        self.sides[index(side)].ended = true;
        let closed = match reason {
            EndReason::Fin if self.sides.iter().all(|d| d.ended) => Closed::Orderly,
            EndReason::Reset | EndReason::Reused => Closed::Reset,
            // The other side may still be sending, or the stream goes on.
            EndReason::Fin | EndReason::Jumped => return,
        };
        self.dialogue.handle_close(now, closed);
        self.poll(context);
        // Without a dialogue there was nothing to close, but the session is over all the same.
        if let Some(session) = self.dealings.session {
            let end = if closed == Closed::Reset { SessionEnd::Reset } else { SessionEnd::Closed };
            context.world.end_session(session, end, now);
        }
        self.settle(context.flows, context.world);
        // What comes on these ports from here on is another connection.
        for direction in &mut self.sides {
            direction.probes.clear();
        }
        self.dealings.session = None;
        self.dealings.channels.clear();
    }

    /// Runs the framing of a side and takes what it finds.
    #[inline]
    fn feed(&mut self, side: Side, input: &Input<'_>, context: &mut Context<'_>) {
        let Self { dialogue, dealings, sides, rtsp, .. } = self;
        let Direction { from, to, flow, framing, text, recent, probes, .. } = &mut sides[index(side)];
        let mut way = Way { from: *from, to: *to, flow: *flow, recent, probes, dealings };
        let sink = &mut |event: &InterleavedEvent<'_>| match *event {
            InterleavedEvent::Frame(ref frame) => {
                *rtsp = true;
                way.handle_frame(frame, context);
            }
            InterleavedEvent::Text(Slice { bytes, at, time }) => {
                text.push(bytes);
                while let Some(message) = text.poll() {
                    *rtsp = true;
                    dialogue.handle_message(end(side), time, message);
                }
                // At once: frames that follow in the same packet are on the channels that were agreed upon.
                while let Some(event) = dialogue.poll_event() {
                    context.world.handle_dialogue(way.dealings, at.shard, event);
                }
            }
            InterleavedEvent::Broken => {
                text.hole();
                dialogue.handle_hole(end(side));
            }
            InterleavedEvent::TextEnd | InterleavedEvent::Skipped { .. } => {}
        };
        match *input {
            Input::Start { syn } => framing.handle_start(syn, sink),
            Input::Data(data) => framing.handle_data(data, sink),
            Input::Hole { len } => framing.handle_hole(len, sink),
            Input::Finish => framing.finish(sink),
        }
    }

    /// Channels that wait to know their codec wait no longer.
    fn settle(&mut self, flows: &Flows, world: &mut World) {
        let Self { sides, dealings, .. } = self;
        for Direction { from, to, flow, probes, .. } in sides {
            let facts = || facts_of(*flow, *from, *to, flows);
            for (channel, probe) in probes {
                probe.settle(way(*channel), &facts, &mut dealings.session, world);
            }
        }
    }

    /// Takes what the dialogue says.
    fn poll(&mut self, context: &mut Context<'_>) {
        while let Some(event) = self.dialogue.poll_event() {
            context.world.handle_dialogue(&mut self.dealings, context.shard, event);
        }
    }
}

impl Direction {
    fn new(from: SocketAddr, to: SocketAddr) -> Self {
        Self {
            from,
            to,
            flow: None,
            framing: Interleaved::default(),
            text: MessageReader::default(),
            recent: Recent::default(),
            probes: Vec::new(),
            bytes: 0,
            ended: false,
        }
    }

    /// `held`: so many captured packets wait behind a hole.
    fn remember(&mut self, captured: &Captured<'_>, held: usize) {
        let wanted = (RECENT_MIN + held + self.framing.pieces_under_way()).min(RECENT_MAX);
        let packet = RecentPacket {
            tap: captured.tap,
            shard: captured.segment.payload.at.shard,
            entry: captured.number,
            carrier: Carrier::from(captured.entry),
        };
        self.recent.push(packet, wanted - 1);
    }
}

/// One direction of a connection, as far as frames concern it.
struct Way<'a> {
    from: SocketAddr,
    to: SocketAddr,
    flow: Option<u32>,
    recent: &'a Recent,
    probes: &'a mut Vec<(u8, Probe)>,
    dealings: &'a mut Dealings,
}

impl Way<'_> {
    #[inline]
    fn handle_frame(&mut self, frame: &Frame<'_>, context: &mut Context<'_>) {
        if frame.missing > 0 {
            // Its sequence number stays open and becomes a gap.
            context.world.stats.frames_cut += 1;
            return;
        }
        match self.dealings.channels.iter().find(|c| c.0 == frame.channel) {
            Some(&(_, track, rtcp)) => self.handle_announced(track, rtcp, frame, context),
            None => self.handle_unannounced(frame, context),
        }
    }

    #[inline]
    fn handle_announced(&mut self, track: u32, rtcp: bool, frame: &Frame<'_>, context: &mut Context<'_>) {
        if rtcp || looks_like_rtcp(frame.head) {
            let session = context.world.tracks.get(track).and_then(|t| context.world.sessions.get(t.session));
            let from_camera = session.is_none_or(|s| s.row.camera == self.from);
            let place = (context.tap, context.shard);
            return context.world.handle_rtcp(track, frame.head, frame.time, place, from_camera);
        }
        match RtpPacket::parse(frame.head, usize::from(frame.len)) {
            Ok(rtp) => {
                let (mut gathered, mut tap) = (SmallVec::new(), context.tap);
                let carriers = self.recent.carriers(frame.pieces, &mut gathered, &mut tap);
                let seen = (frame.time, tap, flow_of(self.flow, context.flows));
                let media = Media::new(&rtp, u32::from(frame.len), seen, frame.pieces, carriers);
                let flow = || self.flow_facts(context.flows);
                context.world.handle_rtp(track, &media, rtp.payload, flow);
            }
            Err(_) => context.world.stats.not_rtp += 1,
        }
    }

    fn handle_unannounced(&mut self, frame: &Frame<'_>, context: &mut Context<'_>) {
        let at = match self.probes.iter().position(|(channel, _)| *channel == frame.channel) {
            Some(at) => at,
            None if self.probes.len() < PROBED_CHANNELS_MAX => {
                self.probes.push((frame.channel, Probe::default()));
                self.probes.len() - 1
            }
            None => return,
        };
        if looks_like_rtcp(frame.head) {
            return self.handle_reports(frame, context);
        }
        let Context { world, flows, tap, shard } = context;
        let (from, to, flow, recent) = (self.from, self.to, self.flow, self.recent);
        let packet = Unannounced {
            now: frame.time,
            bytes: frame.head,
            len: u32::from(frame.len),
            place: (*tap, *shard),
            way: way(frame.channel),
        };
        let (mut gathered, mut last_tap) = (SmallVec::new(), *tap);
        let carriers = recent.carriers(frame.pieces, &mut gathered, &mut last_tap);
        let seen = (frame.time, last_tap, flow_of(flow, flows));
        let media = |rtp: &RtpPacket<'_>| Media::new(rtp, u32::from(frame.len), seen, frame.pieces, carriers);
        let facts = || facts_of(flow, from, to, flows);
        self.probes[at].1.handle(&packet, &media, &facts, &mut self.dealings.session, world);
    }

    /// Reports on a channel that nobody announced belong to the channel before.
    fn handle_reports(&mut self, frame: &Frame<'_>, context: &mut Context<'_>) {
        let rtp_channel = frame.channel.wrapping_sub(1);
        let probe = self.probes.iter().find(|(channel, _)| *channel == rtp_channel);
        let track = probe.and_then(|(_, probe)| probe.tracks().next());
        if let Some(track) = track {
            self.handle_announced(track, true, frame, context);
        }
    }

    fn flow_facts(&self, flows: &Flows) -> FlowFacts {
        facts_of(self.flow, self.from, self.to, flows)
    }
}

const fn way(channel: u8) -> probe::Way {
    probe::Way { transport: Transport::Tcp, channel: Some(channel) }
}

fn flow_of(flow: Option<u32>, flows: &Flows) -> FlowId {
    flow.and_then(|at| flows.get(at)).map_or(FlowId::default(), |f| f.id)
}

fn facts_of(flow: Option<u32>, from: SocketAddr, to: SocketAddr, flows: &Flows) -> FlowFacts {
    let flow = flow.and_then(|at| flows.get(at));
    FlowFacts {
        id: flow.map_or(FlowId::default(), |f| f.id),
        src: from,
        dst: to,
        vlans: flow.map(|f| SmallVec::from_slice(f.vlans())).unwrap_or_default(),
    }
}
