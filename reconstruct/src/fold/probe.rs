//! Media that nobody announced: packets are kept until it is clear whether they are RTP, so that a stream has its first ones.

use super::media::{FlowFacts, Held, Media};
use super::streams::Facts;
use super::world::World;
use crate::codec::{GuessState, guess};
use crate::model::{FlowKind, Transport};
use crate::recognise::{Recogniser, Verdict};
use crate::rtp::RtpPacket;
use capture::{CaptureTime, ShardId, TapId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Packets kept of one flow or channel while it is not clear what it is.
const EARLY_PER_PROBE_MAX: usize = 24;
/// Tracks of one flow or channel: sound and pictures can share a port.
const TRACKS_MAX: usize = 8;

/// A flow of datagrams, or an interleaved channel, that is looked at.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Probe {
    recogniser: Recogniser,
    early: Vec<Held>,
    tracks: SmallVec<[Inferred; 1]>,
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
    pub transport: Transport,
    pub channel: Option<u8>,
}

impl Probe {
    /// A packet. `media` makes a [`Media`] of its parsed header, `flow` tells about its flow; `session` is where an inferred
    /// track belongs, a new one if there is none.
    pub fn handle(
        &mut self,
        p: &Unannounced<'_>,
        media: &impl Fn(&RtpPacket<'_>) -> Media,
        flow: &impl Fn() -> FlowFacts,
        session: &mut Option<u32>,
        world: &mut World,
    ) {
        match self.recogniser.handle(p.bytes, p.len as usize) {
            Verdict::Undecided(_) => {
                if let Ok(rtp) = RtpPacket::parse(p.bytes, p.len as usize) {
                    self.keep(Held::new(media(&rtp), 0, rtp.payload), world);
                }
            }
            Verdict::Rtp { new, .. } => {
                let Ok(rtp) = RtpPacket::parse(p.bytes, p.len as usize) else { return };
                let media = media(&rtp);
                let early = if new { self.take(media.ssrc, world) } else { Vec::new() };
                let Some(track) = self.track(&media, &early, p, flow, session, world) else { return };
                for held in early {
                    world.handle_rtp(track, held.media, &held.head, flow);
                }
                world.handle_rtp(track, media, rtp.payload, flow);
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

    /// Lets go of what is kept.
    pub fn forget(&mut self, world: &mut World) {
        world.early -= self.early.len().min(world.early);
        self.early = Vec::new();
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
        let (of_source, others) = std::mem::take(&mut self.early).into_iter().partition(|h| h.media.ssrc == ssrc);
        let of_source: Vec<Held> = of_source;
        self.early = others;
        world.early -= of_source.len().min(world.early);
        of_source
    }

    fn track(
        &mut self,
        media: &Media,
        early: &[Held],
        p: &Unannounced<'_>,
        flow: &impl Fn() -> FlowFacts,
        session: &mut Option<u32>,
        world: &mut World,
    ) -> Option<u32> {
        let known = self.tracks.iter().find(|t| t.ssrc == media.ssrc);
        if let Some(t) = known.or_else(|| self.tracks.iter().find(|t| t.payload_type == media.payload_type)) {
            return Some(t.track);
        }
        if self.tracks.len() >= TRACKS_MAX {
            return None;
        }
        let track = world.infer_track(p, media.payload_type, flow(), early, session)?;
        self.tracks.push(Inferred { ssrc: media.ssrc, payload_type: media.payload_type, track });
        Some(track)
    }
}

impl World {
    /// A track for media that nobody announced. The codec is guessed from what came early.
    fn infer_track(
        &mut self,
        p: &Unannounced<'_>,
        payload_type: u8,
        flow: FlowFacts,
        early: &[Held],
        session: &mut Option<u32>,
    ) -> Option<u32> {
        if session.is_none() {
            let began = early.first().map_or(p.now, |h| h.media.time);
            *session = self.begin_session(flow.src, flow.dst, false, began);
        }
        let mut facts = Facts::default();
        let (codec, clock_rate) = facts.format(payload_type);
        let mut state = GuessState::default();
        let guessed = || early.iter().filter_map(|h| guess(&mut state, &h.head, h.media.marker)).last();
        facts.codec = codec.or_else(guessed);
        facts.clock_rate = clock_rate;
        facts.kind = facts.codec.and_then(|c| c.kind()).unwrap_or_default();
        let channels = p.channel.map(|c| (c, c.wrapping_add(1)));
        self.add_track((*session)?, p.transport, facts, None, channels)
    }
}
