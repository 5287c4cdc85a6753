//! Flows of datagrams: announced by a dialogue, recognised by what they look like, or neither.

use super::bindings::Binding;
use super::media::{FlowFacts, Media};
use super::probe::{Probe, Unannounced, Way};
use super::source::Source;
use super::world::World;
use crate::model::{FlowKind, Transport};
use crate::rtcp::looks_like_rtcp;
use crate::rtp::RtpPacket;
use capture::{CaptureTime, ShardId, TapId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A flow of datagrams.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Datagrams {
    pub sender: SocketAddr,
    pub receiver: SocketAddr,
    pub last: CaptureTime,
    /// Version of the announcements when they were asked last.
    asked: u32,
    /// Session of the tracks that were inferred.
    session: Option<u32>,
    state: State,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum State {
    /// To ask the announcements.
    New,
    /// Announced, or inferred.
    Bound {
        track: u32,
        rtcp: bool,
        from_camera: bool,
    },
    Probing(Box<Probe>),
    /// None of our business, unless it is announced later.
    Neither,
}

/// A datagram.
pub struct Datagram<'a> {
    pub now: CaptureTime,
    /// The beginning of the payload, at least [`crate::codec::HEAD_LEN`] bytes and the RTP header of it if there is as much.
    pub bytes: &'a [u8],
    /// Bytes of payload on the wire.
    pub len: u32,
    pub tap: TapId,
    pub shard: ShardId,
}

impl Datagrams {
    /// Of a flow's first datagram.
    pub fn new(sender: SocketAddr, receiver: SocketAddr, now: CaptureTime) -> Self {
        Self { sender, receiver, last: now, asked: 0, session: None, state: State::New }
    }

    /// The tracks that these belong to.
    pub fn tracks(&self) -> impl Iterator<Item = u32> {
        let (bound, probe) = match &self.state {
            State::Bound { track, .. } => (Some(*track), None),
            State::Probing(probe) => (None, Some(probe.tracks())),
            _ => (None, None),
        };
        bound.into_iter().chain(probe.into_iter().flatten())
    }

    /// The session of the tracks that were inferred.
    pub fn sessions(&self) -> impl Iterator<Item = u32> {
        self.session.into_iter()
    }

    /// What the flow is.
    pub fn kind(&self) -> FlowKind {
        match &self.state {
            State::Bound { rtcp: false, .. } => FlowKind::Media,
            State::Bound { rtcp: true, .. } => FlowKind::Control,
            State::Probing(probe) => probe.kind(),
            State::New => FlowKind::Unknown,
            State::Neither => FlowKind::Other,
        }
    }

    /// Whether the next datagram is taken for RTP.
    pub fn is_media(&self) -> bool {
        self.kind() == FlowKind::Media
    }

    /// Nothing more will come: what waits becomes a track, or is let go.
    pub fn settle(&mut self, flow: impl Fn() -> FlowFacts, world: &mut World) {
        if let State::Probing(probe) = &mut self.state {
            probe.settle(way(self.receiver), &flow, &mut self.session, world);
        }
    }

    /// A datagram. `media` makes a [`Media`] of a parsed RTP header, `flow` tells about the flow.
    #[inline]
    pub fn handle<'m>(
        &mut self,
        d: &Datagram<'_>,
        media: impl Fn(&RtpPacket<'_>) -> Media<'m>,
        flow: impl Fn() -> FlowFacts,
        world: &mut World,
    ) {
        self.last = self.last.max(d.now);
        if matches!(self.state, State::New) || self.asked != world.bindings.version() {
            self.ask(world);
        }
        match &mut self.state {
            State::Bound { track, rtcp, from_camera } => {
                if *rtcp || looks_like_rtcp(d.bytes) {
                    world.handle_rtcp(*track, d.bytes, d.now, (d.tap, d.shard), *from_camera);
                    return;
                }
                match RtpPacket::parse(d.bytes, d.len as usize) {
                    Ok(rtp) => world.handle_rtp(*track, &media(&rtp), rtp.payload, flow),
                    Err(_) => world.stats.not_rtp += 1,
                }
            }
            State::Probing(probe) => {
                let way = way(self.receiver);
                let Datagram { now, bytes, len, tap, shard } = *d;
                let packet = Unannounced { now, bytes, len, place: (tap, shard), way };
                probe.handle(&packet, &media, &flow, &mut self.session, world);
                if probe.gave_up() {
                    self.state = State::Neither;
                }
            }
            State::New | State::Neither => {}
        }
    }

    /// A track that is announced to this receiver from another address, and has media from nowhere else.
    fn announced_elsewhere(&self, world: &World) -> Option<Binding> {
        let binding = world.bindings.find_from_elsewhere(self.sender, self.receiver)?;
        let track = world.tracks.get(binding.track)?;
        let own = |source: &Source| source.sender(None).src.ip() == self.sender.ip();
        track.sources.iter().all(|source| own(source)).then_some(binding)
    }

    /// Asks the announcements again. What was inferred stays until it is announced.
    fn ask(&mut self, world: &mut World) {
        self.asked = world.bindings.version();
        let announced = world.bindings.find(self.sender, self.receiver);
        match announced.or_else(|| self.announced_elsewhere(world)) {
            Some(Binding { track, rtcp, from_camera, .. }) => {
                if let State::Probing(probe) = &mut self.state {
                    probe.forget(world);
                }
                self.state = State::Bound { track, rtcp, from_camera };
            }
            None => {
                let gone = |track| world.tracks.get(track).is_none();
                match self.state {
                    State::New => self.state = State::Probing(Box::default()),
                    State::Bound { track, .. } if gone(track) => self.state = State::Probing(Box::default()),
                    _ => {}
                }
            }
        }
    }
}

fn way(receiver: SocketAddr) -> Way {
    let multicast = receiver.ip().is_multicast();
    Way { transport: if multicast { Transport::Multicast } else { Transport::Udp }, channel: None }
}
