//! Tracks: where RTP packets and RTCP reports of one media of a session are taken to their streams.

use super::media::{FlowFacts, Media, MediaHead};
use super::output::FoldEvent;
use super::source::{Sinks, Source};
use super::streams::{Facts, Sender, inferred_key};
use super::world::World;
use crate::model::{RtcpRow, SegmentRow, StreamKey, Transport};
use crate::rtcp::{RtcpPacket, SenderReport, parse_compound};
use capture::{CaptureTime, ShardId, TapId};
use serde::{Deserialize, Serialize};

/// One media of a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Track {
    /// Its session.
    pub session: u32,
    /// Its number in the session.
    pub number: u16,
    /// What is known of it.
    pub facts: Facts,
    /// The key it was described by; `None` when it was only inferred.
    pub key: Option<StreamKey>,
    /// Channel of its RTP, when it is interleaved.
    pub channel: Option<u8>,
    /// How its packets come.
    pub transport: Transport,
    /// What sends here. Boxed, so that the list is short where the search goes: there is one nearly always, and it is large.
    #[allow(clippy::vec_box, reason = "sources are large and are moved when one is closed")]
    pub sources: Vec<Box<Source>>,
    /// A sender report that came before its source's first packet.
    early_report: Option<(CaptureTime, u32, u32, u64)>,
}

impl Track {
    /// A track of a session.
    pub fn new(
        session: u32,
        number: u16,
        transport: Transport,
        facts: Facts,
        key: Option<StreamKey>,
    ) -> Self {
        Self {
            session,
            number,
            facts,
            key,
            channel: None,
            transport,
            sources: Vec::new(),
            early_report: None,
        }
    }
}

impl World {
    /// An RTP packet of a track.
    #[inline]
    pub fn handle_rtp(&mut self, at: u32, media: &Media<'_>, payload: &[u8], flow: impl Fn() -> FlowFacts) {
        let Some(track) = self.tracks.get_mut(at) else { return };
        if let Some(session) = self.sessions.get_mut(track.session) {
            session.media_packets += 1;
            session.last = session.last.max(media.head.time);
        }
        let found = track.sources.iter().position(|s| s.ssrc == media.head.ssrc);
        let found = match found {
            Some(found) => found,
            None => {
                if media.head.payload_len == 0 {
                    self.stats.empty_rtp += 1;
                    return;
                }
                match self.open_source(at, media, flow()) {
                    Some(found) => found,
                    None => return,
                }
            }
        };
        let Self { tracks, streams, out, stats, losses, limits, ids, .. } = self;
        if let Some(source) = tracks.get_mut(at).and_then(|t| t.sources.get_mut(found)) {
            let pending_max = limits.pending_max;
            let mut sinks = Sinks { streams, out, stats, losses, ids, pending_max };
            source.handle(media, payload, flow, &mut sinks);
        }
    }

    /// The receiver of a track's connection acknowledged bytes that the tap did not see.
    pub fn handle_acknowledged_hole(&mut self, at: u32, bytes: u64) {
        for source in self.tracks.get_mut(at).into_iter().flat_map(|t| &mut t.sources) {
            source.handle_acknowledged_hole(bytes);
        }
    }

    /// An RTCP compound packet of a track. `from_camera`: from the side that sends media.
    pub fn handle_rtcp(
        &mut self,
        at: u32,
        bytes: &[u8],
        now: CaptureTime,
        place: (TapId, ShardId),
        from_camera: bool,
    ) {
        let Some(track) = self.tracks.get_mut(at) else { return };
        if !from_camera {
            if let Some(session) = self.sessions.get_mut(track.session) {
                session.client_signs += 1;
                session.last = session.last.max(now);
            }
            return;
        }
        for packet in parse_compound(bytes) {
            match packet {
                RtcpPacket::SenderReport(SenderReport { ssrc, ntp, rtp, .. }) => {
                    self.handle_report(at, now, (ssrc.0, rtp.0, ntp.0), place);
                }
                RtcpPacket::Bye { ssrcs } => {
                    let ssrcs: Vec<u32> = ssrcs.iter().map(|s| s.0).collect();
                    self.close_sources(at, now, |s| ssrcs.contains(&s.ssrc));
                }
                _ => {}
            }
        }
    }

    fn handle_report(
        &mut self,
        at: u32,
        now: CaptureTime,
        (ssrc, timestamp, ntp): (u32, u32, u64),
        place: (TapId, ShardId),
    ) {
        let Some(track) = self.tracks.get_mut(at) else { return };
        // Some cameras report under an SSRC that they never announced: with a single source it can only mean that one.
        let single = track.sources.len() == 1;
        match track.sources.iter_mut().find(|s| s.ssrc == ssrc || single) {
            Some(source) => {
                let row =
                    RtcpRow { segment: source.segment.id, stream: source.stream, time: now, timestamp, ntp };
                source.segment.report(&row, place, &mut self.out.batch);
            }
            None => track.early_report = Some((now, ssrc, timestamp, ntp)),
        }
    }

    /// Closes those of a track's sources.
    pub fn close_sources(&mut self, at: u32, now: CaptureTime, which: impl Fn(&Source) -> bool) {
        let Self { tracks, streams, out, stats, losses, limits, ids, .. } = self;
        let Some(track) = tracks.get_mut(at) else { return };
        let mut sinks = Sinks { streams, out, stats, losses, ids, pending_max: limits.pending_max };
        track.sources.retain_mut(|source| {
            let close = which(source);
            if close {
                source.poll_gaps(now, &mut sinks);
                source.finish(&mut sinks);
                let (stream, end) = (source.stream, source.end());
                sinks.streams.note_sender(stream, source.sender(track.channel), end);
            }
            !close
        });
    }

    /// A source's first packet: finds its stream, begins its segment.
    fn open_source(&mut self, at: u32, media: &Media<'_>, flow: FlowFacts) -> Option<usize> {
        self.make_room(at, media.head.time);
        let Self { tracks, sessions, streams, out, stats, losses: _, limits, ids, mac, .. } = self;
        let track = tracks.get_mut(at)?;
        let session = sessions.get_mut(track.session)?;
        if !track.facts.described {
            session.describe_by_payload_type(track, media.head.payload_type);
        }
        let (codec, clock_rate) = track.facts.format(media.head.payload_type);
        let mut facts = track.facts.clone();
        facts.codec = codec.or(facts.codec.filter(|_| !track.facts.described));
        facts.clock_rate = clock_rate.or(facts.clock_rate);
        if facts.kind == crate::codec::Kind::Unknown {
            facts.kind = facts.codec.and_then(|c| c.kind()).unwrap_or_default();
        }
        let MediaHead { ssrc, payload_type, time, .. } = media.head;
        let sender = Sender { src: flow.src, dst: flow.dst, channel: track.channel, ssrc, payload_type };
        let going_on = streams.going_on(&sender, &facts).filter(|_| track.key.is_none());
        // In the same recording the packets tell themselves what became of those between.
        let end = going_on.and_then(|(_, end)| end).filter(|end| end.source != session.row.source);
        let (stream, new) = match going_on {
            Some((stream, _)) => (stream, false),
            None => {
                let key = track.key.clone().unwrap_or_else(|| inferred_key(&flow, track.channel, &facts));
                if streams.len() >= limits.streams_max && streams.is_new(&key, &facts) {
                    stats.streams_over_bound += 1;
                    return None;
                }
                streams.resolve(key, &facts, payload_type, track.transport, (*mac, time), ids)
            }
        };
        streams.note_sender(stream, sender, None);
        if new && let Some(row) = streams.get(stream) {
            out.event(FoldEvent::StreamFound { stream, name: row.name.clone(), at: media.head.time });
        }
        session.note_media(track.number, stream, &flow, media.head.time, out);
        let row = SegmentRow {
            id: ids.take_segment(),
            stream,
            session: session.row.id,
            track: track.number,
            ssrc: media.head.ssrc,
            payload_type: media.head.payload_type,
            clock_rate: facts.clock_rate,
            flow: flow.id,
            src: flow.src,
            dst: flow.dst,
            vlans: flow.vlans.to_vec(),
            transport: track.transport,
            source: session.row.source,
            began: media.head.time,
        };
        out.batch.put_segment(&row);
        let codec = facts.codec.or_else(|| streams.get(stream).and_then(|row| row.codec));
        let segment = row.id;
        let mut source = Source::new(media, row, codec, end);
        if let Some((time, ssrc, timestamp, ntp)) = track.early_report.take()
            && ssrc == media.head.ssrc
            && let Some(shard) = media.shard()
        {
            let row = RtcpRow { segment, stream, time, timestamp, ntp };
            source.segment.report(&row, (media.head.tap, shard), &mut out.batch);
        }
        track.sources.push(Box::new(source));
        Some(track.sources.len() - 1)
    }

    /// A camera that changes its SSRC leaves the old source behind: at the bound the quietest goes.
    fn make_room(&mut self, at: u32, now: CaptureTime) {
        let Some(track) = self.tracks.get(at) else { return };
        if track.sources.len() < self.limits.sources_per_track_max {
            return;
        }
        self.stats.sources_over_bound += 1;
        let quietest = track.sources.iter().min_by_key(|s| s.last).map(|s| s.ssrc);
        self.close_sources(at, now, |s| Some(s.ssrc) == quietest);
    }
}
