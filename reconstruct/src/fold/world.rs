//! What conversations and datagrams write to: sessions, tracks, streams, and the output.

use super::Limits;
use super::bindings::Bindings;
use super::continued::LeftConnections;
use super::losses::Losses;
use super::output::{FoldEvent, FoldStats, Output};
use super::session::Session;
use super::slab::Slab;
use super::source::Sinks;
use super::streams::{Facts, Streams};
use super::track::Track;
use crate::model::{NextIds, SessionEnd, SessionRow, StreamKey, TrackRow, Transport};
use capture::{CaptureTime, ShardId, SourceId, TapId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// See the module's text.
#[derive(Debug, Serialize, Deserialize)]
pub struct World {
    pub limits: Limits,
    pub ids: NextIds,
    pub source: SourceId,
    pub sessions: Slab<Session>,
    pub tracks: Slab<Track>,
    pub streams: Streams,
    pub bindings: Bindings,
    pub losses: Losses,
    /// Connections of sources before.
    pub left: LeftConnections,
    pub stats: FoldStats,
    /// Packets kept until it is clear whether they are RTP.
    pub early: usize,
    /// Hardware address that the packet being folded came from.
    #[serde(skip)]
    pub mac: Option<[u8; 6]>,
    #[serde(skip)]
    pub out: Output,
}

impl World {
    /// Before the first packet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ids: NextIds::default(),
            source: SourceId(0),
            sessions: Slab::default(),
            tracks: Slab::default(),
            streams: Streams::default(),
            bindings: Bindings::default(),
            losses: Losses::default(),
            left: LeftConnections::default(),
            stats: FoldStats::default(),
            early: 0,
            mac: None,
            out: Output::default(),
        }
    }

    /// Takes over what all sources have in common: streams, numbers, counts, and what has come out.
    pub fn take_common(&mut self, other: &mut Self) {
        let Self {
            limits: _,
            ids,
            source,
            sessions: _,
            tracks: _,
            streams,
            bindings: _,
            losses,
            left,
            stats,
            early: _,
            mac: _,
            out,
        } = other;
        self.ids = *ids;
        self.source = *source;
        self.stats = *stats;
        self.streams = std::mem::take(streams);
        self.losses = std::mem::take(losses);
        self.left = std::mem::take(left);
        self.out = std::mem::take(out);
    }

    /// Begins a session. `None` at the bound.
    pub fn begin_session(
        &mut self,
        camera: SocketAddr,
        client: SocketAddr,
        dialogue: bool,
        now: CaptureTime,
    ) -> Option<u32> {
        if self.sessions.len() >= self.limits.sessions_max {
            self.stats.connections_over_bound += 1;
            return None;
        }
        let row = SessionRow {
            id: self.ids.take_session(),
            source: self.source,
            camera,
            client,
            client_agent: None,
            server_agent: None,
            rtsp_id: None,
            description: None,
            base: None,
            tracks: Vec::new(),
            began: now,
            ended: None,
            dialogue,
        };
        Some(self.sessions.insert(Session::new(row)))
    }

    /// Adds a track to a session, or finds the one with the same key. `None` at the bound.
    pub fn add_track(
        &mut self,
        session: u32,
        transport: Transport,
        facts: Facts,
        key: Option<StreamKey>,
        channels: Option<(u8, u8)>,
    ) -> Option<u32> {
        let known = self.sessions.get(session)?;
        let same = |t: &Track| t.key.is_some() && t.key == key && t.transport == transport;
        if let Some(at) = known.tracks.iter().copied().find(|at| self.tracks.get(*at).is_some_and(same)) {
            let track = self.tracks.get_mut(at)?;
            track.channel = channels.map(|c| c.0);
            self.sessions.get_mut(session)?.set_channels(track.number, channels);
            return Some(at);
        }
        if known.tracks.len() >= self.limits.tracks_per_session_max {
            return None;
        }
        let uri = match &key {
            Some(StreamKey::Described { uri, .. }) => uri.clone(),
            _ => String::new(),
        };
        let kind = facts.kind;
        let number = known.tracks.len() as u16;
        let mut track = Track::new(session, number, transport, facts, key);
        track.channel = channels.map(|c| c.0);
        let at = self.tracks.insert(track);
        let session = self.sessions.get_mut(session)?;
        session.tracks.push(at);
        session.row.tracks.push(TrackRow {
            stream: None,
            uri,
            kind,
            transport,
            source: None,
            destination: None,
            channels,
        });
        session.dirty = true;
        Some(at)
    }

    /// A session is over. Its interleaved tracks are closed; datagrams still under way find theirs.
    pub fn end_session(&mut self, at: u32, end: SessionEnd, now: CaptureTime) {
        let Some(session) = self.sessions.get_mut(at) else { return };
        if session.row.ended.is_some() {
            return;
        }
        session.row.ended = Some((now, end));
        session.dirty = true;
        session.playing = false;
        if session.media_packets > 0 {
            self.out.event(FoldEvent::SessionEnded { session: session.row.id, end, at: now });
        }
        for track in session.tracks.clone() {
            let interleaved = |t: &Track| matches!(t.transport, Transport::Tcp | Transport::Http);
            if self.tracks.get(track).is_some_and(interleaved) {
                self.close_sources(track, now, |_| true);
            }
        }
    }

    /// Forgets a session and all that hangs on it. Its rows are written.
    pub fn remove_session(&mut self, at: u32, now: CaptureTime) {
        let Some(session) = self.sessions.get(at) else { return };
        for track in session.tracks.clone() {
            self.close_sources(track, now, |_| true);
            self.tracks.remove(track);
            self.bindings.remove_track(track);
        }
        if let Some(mut session) = self.sessions.remove(at) {
            session.put_changed(&mut self.out.batch);
        }
    }

    /// Writes all rows and open blocks that have changed.
    pub fn put_open(&mut self) {
        let batch = &mut self.out.batch;
        self.streams.put_changed(batch);
        for (_, session) in self.sessions.iter_mut() {
            session.put_changed(batch);
        }
        for (_, track) in self.tracks.iter_mut() {
            for source in &mut track.sources {
                source.segment.put_open(batch);
            }
        }
    }

    /// Rows of what is open are to be written again: they go with the last shard that refers to them, and the next may be another.
    pub fn forget_written(&mut self) {
        for (_, session) in self.sessions.iter_mut() {
            session.dirty = true;
        }
        for (_, track) in self.tracks.iter() {
            for source in &track.sources {
                source.put_row(&mut self.out.batch);
            }
        }
    }

    /// A shard of a tap is complete: nothing waits beyond it.
    pub fn end_shard(&mut self, tap: TapId, shard: ShardId) {
        let Self { tracks, streams, out, stats, losses, limits, ids, .. } = self;
        let mut sinks = Sinks { streams, out, stats, losses, ids, pending_max: limits.pending_max };
        for (_, track) in tracks.iter_mut() {
            for source in &mut track.sources {
                source.flush(&mut sinks);
                source.segment.end_shard(tap, shard, &mut sinks.out.batch);
            }
        }
    }

    /// Declares gaps whose time is over in sources that have fallen silent, and closes sources that stay so.
    pub fn sweep_sources(&mut self, now: CaptureTime) {
        let Self { tracks, streams, out, stats, losses, limits, ids, .. } = self;
        let mut sinks = Sinks { streams, out, stats, losses, ids, pending_max: limits.pending_max };
        let silent_since = now.minus(limits.source_idle);
        for (_, track) in tracks.iter_mut() {
            track.sources.retain_mut(|source| {
                source.poll_gaps(now, &mut sinks);
                let silent = source.last < silent_since;
                if silent {
                    source.finish(&mut sinks);
                    let (stream, end) = (source.stream, source.end());
                    sinks.streams.note_sender(stream, source.sender(track.channel), end);
                }
                !silent
            });
        }
    }
}
