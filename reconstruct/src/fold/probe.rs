//! Media that nobody announced: packets are kept until it is clear whether they are RTP, so that a stream has its first ones.

use super::media::{FlowFacts, Held, Media, MediaHead};
use super::streams::{Facts, Sender, VIDEO_CLOCK_RATE};
use super::world::World;
use crate::codec::{Codec, GuessState, Kind, guess};
use crate::model::{FlowKind, Transport};
use crate::recognise::{Recogniser, Verdict};
use crate::rtp::{RtpPacket, SequenceNumber};
use crate::sequence::SequenceTracker;
use capture::{CaptureTime, ShardId, TapId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::num::NonZeroU32;

/// Packets kept of one flow or channel while it is not clear what it is.
const EARLY_PER_PROBE_MAX: usize = 64;
/// A source that is believed waits for so many packets, and so long, for its codec to be recognised: what the stream is goes into
/// its name, and a clean point is only seen by who knows the codec.
const CODEC_PACKETS_MAX: usize = 48;
const CODEC_NANOS_MAX: i64 = 2_000_000_000;
/// Tracks of one flow or channel: sound and pictures can share a port.
const TRACKS_MAX: usize = 8;

/// A flow of datagrams, or an interleaved channel, that is looked at.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Probe {
    recogniser: Recogniser,
    early: Vec<Held>,
    tracks: SmallVec<[Inferred; 1]>,
    /// Believed sources whose codec is not known yet.
    waiting: Vec<Waiting>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Waiting {
    ssrc: u32,
    guess: GuessState,
}

/// A track that was inferred.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Inferred {
    ssrc: u32,
    payload_type: u8,
    track: u32,
}

/// A packet that may be RTP.
pub struct Unannounced<'a> {
    pub now: CaptureTime,
    /// Its beginning.
    pub bytes: &'a [u8],
    /// Its length on the wire.
    pub len: u32,
    pub place: (TapId, ShardId),
    pub way: Way,
}

/// How unannounced packets come.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub transport: Transport,
    pub channel: Option<u8>,
}

impl Probe {
    /// A packet. `media` makes a [`Media`] of its parsed header, `flow` tells about its flow; `session` is where an inferred
    /// track belongs, a new one if there is none.
    pub fn handle<'m>(
        &mut self,
        p: &Unannounced<'_>,
        media: &impl Fn(&RtpPacket<'_>) -> Media<'m>,
        flow: &impl Fn() -> FlowFacts,
        session: &mut Option<u32>,
        world: &mut World,
    ) {
        match self.recogniser.handle(p.now, p.bytes, p.len as usize) {
            Verdict::Undecided(ssrc) => {
                let Ok(rtp) = RtpPacket::parse(p.bytes, p.len as usize) else { return };
                let media = media(&rtp);
                self.keep(Held::new(&media, 0, rtp.payload), world);
                let MediaHead { ssrc: number, payload_type, .. } = media.head;
                if self.track_of(number, payload_type).is_none()
                    && let Some(codec) = world.goes_on(&media.head, &flow(), p.way.channel)
                {
                    self.recogniser.believe(ssrc);
                    self.open(number, codec, p.way, flow, session, world);
                }
            }
            Verdict::Rtp { new, .. } => {
                let Ok(rtp) = RtpPacket::parse(p.bytes, p.len as usize) else { return };
                let media = media(&rtp);
                if let Some(track) = self.track_of(media.head.ssrc, media.head.payload_type) {
                    let ssrc = media.head.ssrc;
                    if new || self.waiting.iter().any(|w| w.ssrc == ssrc) {
                        // A sender that was started again: its first packets were kept until it was believed.
                        self.waiting.retain(|w| w.ssrc != ssrc);
                        for held in self.take(ssrc, world) {
                            world.handle_rtp(track, &held.media(), &held.payload, flow);
                        }
                    }
                    return world.handle_rtp(track, &media, rtp.payload, flow);
                }
                let ssrc = media.head.ssrc;
                self.keep(Held::new(&media, 0, rtp.payload), world);
                if let Some(codec) = self.wait(ssrc, p.now) {
                    self.open(ssrc, codec, p.way, flow, session, world);
                }
            }
            Verdict::Rtcp => {
                if let Some(inferred) = self.tracks.first() {
                    world.handle_rtcp(inferred.track, p.bytes, p.now, p.place, true);
                }
            }
            Verdict::NotRtp => {
                if self.recogniser.gave_up() {
                    self.forget(world);
                }
            }
        }
    }

    /// Whether it is none of our business.
    pub fn gave_up(&self) -> bool {
        self.recogniser.gave_up()
    }

    /// What it was taken for.
    pub fn kind(&self) -> FlowKind {
        match self.recogniser.has_rtp() {
            true => FlowKind::Media,
            false if self.gave_up() => FlowKind::Other,
            false => FlowKind::Unknown,
        }
    }

    /// Tracks that were inferred.
    pub fn tracks(&self) -> impl Iterator<Item = u32> {
        self.tracks.iter().map(|t| t.track)
    }

    /// Nothing more will come: sources that wait for their codec become tracks without.
    pub fn settle(
        &mut self,
        way: Way,
        flow: &impl Fn() -> FlowFacts,
        session: &mut Option<u32>,
        world: &mut World,
    ) {
        for Waiting { ssrc, .. } in std::mem::take(&mut self.waiting) {
            self.open(ssrc, None, way, flow, session, world);
        }
        self.forget(world);
    }

    /// Lets go of what is kept.
    pub fn forget(&mut self, world: &mut World) {
        world.early -= self.early.len().min(world.early);
        self.early = Vec::new();
        self.waiting = Vec::new();
    }

    /// A believed source's next packet was kept. The codec, when it is known; `Some(None)` when there is no more waiting for it.
    fn wait(&mut self, ssrc: u32, now: CaptureTime) -> Option<Option<Codec>> {
        let mut kept = self.early.iter().filter(|h| h.head.ssrc == ssrc);
        let (first, last) = (kept.next()?, self.early.last()?);
        if let (Some(codec), _) = Facts::default().format(first.head.payload_type) {
            return Some(Some(codec));
        }
        let count = 1 + kept.count();
        let began = first.head.time;
        let at = match self.waiting.iter().position(|w| w.ssrc == ssrc) {
            Some(at) => {
                if let Some(codec) = guess(&mut self.waiting[at].guess, &last.payload, last.head.marker) {
                    return Some(Some(codec));
                }
                at
            }
            None => {
                let mut state = GuessState::default();
                let of_source = self.early.iter().filter(|h| h.head.ssrc == ssrc);
                if let Some(codec) =
                    of_source.filter_map(|h| guess(&mut state, &h.payload, h.head.marker)).last()
                {
                    return Some(Some(codec));
                }
                self.waiting.push(Waiting { ssrc, guess: state });
                self.waiting.len() - 1
            }
        };
        let over = count >= CODEC_PACKETS_MAX
            || self.early.len() >= EARLY_PER_PROBE_MAX
            || now.nanos_since(began) > CODEC_NANOS_MAX;
        over.then(|| self.waiting.swap_remove(at)).map(|_| None)
    }

    /// A source becomes a track, with all that is kept of it.
    fn open(
        &mut self,
        ssrc: u32,
        codec: Option<Codec>,
        way: Way,
        flow: &impl Fn() -> FlowFacts,
        session: &mut Option<u32>,
        world: &mut World,
    ) {
        self.waiting.retain(|w| w.ssrc != ssrc);
        let early = self.take(ssrc, world);
        let Some(first) = early.first().map(|h| h.head) else { return };
        let payload_type = first.payload_type;
        if self.tracks.len() >= TRACKS_MAX {
            return;
        }
        let Some(track) = world.infer_track(&first, codec, way, flow(), session) else { return };
        self.tracks.push(Inferred { ssrc, payload_type, track });
        for held in early {
            world.handle_rtp(track, &held.media(), &held.payload, flow);
        }
    }

    fn keep(&mut self, held: Held, world: &mut World) {
        if self.early.len() >= EARLY_PER_PROBE_MAX {
            self.early.remove(0);
        } else if world.early >= world.limits.early_max {
            world.stats.early_over_bound += 1;
            return;
        } else {
            world.early += 1;
        }
        self.early.push(held);
    }

    /// What is kept of a source.
    fn take(&mut self, ssrc: u32, world: &mut World) -> Vec<Held> {
        let (of_source, others) =
            std::mem::take(&mut self.early).into_iter().partition(|h| h.head.ssrc == ssrc);
        let of_source: Vec<Held> = of_source;
        self.early = others;
        world.early -= of_source.len().min(world.early);
        of_source
    }

    #[inline]
    fn track_of(&self, ssrc: u32, payload_type: u8) -> Option<u32> {
        let known = self.tracks.iter().find(|t| t.ssrc == ssrc);
        known.or_else(|| self.tracks.iter().find(|t| t.payload_type == payload_type)).map(|t| t.track)
    }
}

impl World {
    /// Whether a packet is the next of a source that an earlier recording had: from and to the same ports, with a number that follows. Then it needs
    /// no others to be believed. Gives the stream's codec.
    fn goes_on(&self, head: &MediaHead, flow: &FlowFacts, channel: Option<u8>) -> Option<Option<Codec>> {
        let MediaHead { ssrc, payload_type, .. } = *head;
        let sender = Sender { src: flow.src, dst: flow.dst, channel, ssrc, payload_type };
        let (stream, end) = self.streams.going_on(&sender, &Facts::default())?;
        let end = end.filter(|end| end.source != self.source)?;
        SequenceTracker::resume(&end.sequence, head.time, SequenceNumber(head.seq))?;
        Some(self.streams.get(stream).and_then(|row| row.codec))
    }

    /// A track for media that nobody announced.
    fn infer_track(
        &mut self,
        first: &MediaHead,
        codec: Option<Codec>,
        way: Way,
        flow: FlowFacts,
        session: &mut Option<u32>,
    ) -> Option<u32> {
        if session.is_none() {
            *session = self.begin_session(flow.src, flow.dst, false, first.time);
        }
        let mut facts = Facts::default();
        facts.clock_rate = facts.format(first.payload_type).1;
        facts.codec = codec;
        facts.kind = codec.and_then(|c| c.kind()).unwrap_or_default();
        if facts.clock_rate.is_none() && facts.kind == Kind::Video {
            facts.clock_rate = NonZeroU32::new(VIDEO_CLOCK_RATE);
        }
        let channels = way.channel.map(|c| (c, c.wrapping_add(1)));
        self.add_track((*session)?, way.transport, facts, None, channels)
    }
}
