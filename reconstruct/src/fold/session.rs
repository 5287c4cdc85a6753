//! Sessions: what a dialogue says becomes sessions, tracks, and announcements of datagrams.

use super::bindings::Binding;
use super::media::FlowFacts;
use super::output::{FoldEvent, Output};
use super::streams::Facts;
use super::track::Track;
use super::world::World;
use crate::codec::Kind;
use crate::index::IndexBatch;
use crate::model::{ExchangeRow, SessionEnd, SessionRow, StreamId, StreamKey, Transport};
use crate::rtsp::{
    self, Described, Ended, EndedHow, Event, Exchange, Message, TrackSetUp, normalise_control_uri, resolve,
};
use crate::sdp::Sdp;
use capture::{CaptureTime, ShardId};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// RTSP's own port (RFC 2326 section 3.2).
const RTSP_PORT: u16 = 554;

/// A session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    pub row: SessionRow,
    pub dirty: bool,
    /// Places of its tracks.
    pub tracks: Vec<u32>,
    pub media_packets: u64,
    pub client_signs: u64,
    /// Media is expected.
    pub playing: bool,
    pub last: CaptureTime,
    /// Messages written so far.
    exchanges: u32,
}

impl Session {
    /// From its first row.
    pub fn new(row: SessionRow) -> Self {
        let last = row.began;
        Self {
            row,
            dirty: true,
            tracks: Vec::new(),
            media_packets: 0,
            client_signs: 0,
            playing: false,
            last,
            exchanges: 0,
        }
    }

    /// A track's channels were announced anew.
    pub fn set_channels(&mut self, track: u16, channels: Option<(u8, u8)>) {
        if let Some(row) = self.row.tracks.get_mut(usize::from(track)) {
            self.dirty |= row.channels != channels;
            row.channels = channels;
        }
    }

    /// A track's media began to come.
    pub fn note_media(
        &mut self,
        track: u16,
        stream: StreamId,
        flow: &FlowFacts,
        now: CaptureTime,
        out: &mut Output,
    ) {
        if self.row.tracks.iter().all(|t| t.stream.is_none()) {
            let SessionRow { id, camera, client, .. } = self.row;
            out.event(FoldEvent::SessionBegan { session: id, camera, client, at: now });
        }
        // Media goes on in a session that was given up for its silence.
        if matches!(self.row.ended, Some((_, SessionEnd::Idle))) {
            self.row.ended = None;
        }
        if let Some(row) = self.row.tracks.get_mut(usize::from(track)) {
            row.stream = Some(stream);
            row.source = Some(flow.src);
            row.destination = Some(flow.dst);
        }
        self.playing = self.row.ended.is_none();
        self.dirty = true;
    }

    /// A track was set up by a request that was not seen (a tunnel, or one direction alone). If only one media of the session's
    /// description has this payload type, it is that one.
    pub fn describe_by_payload_type(&mut self, track: &mut Track, payload_type: u8) {
        let Some(description) = &self.row.description else { return };
        let sdp = Sdp::parse(description.as_bytes());
        let mut fitting = sdp.media.iter().filter(|m| m.format(payload_type).is_some());
        let (Some(media), None) = (fitting.next(), fitting.next()) else { return };
        let (path, uri) = (std::mem::take(&mut track.facts.path), track.facts.uri.take());
        track.facts = Facts { path, uri, ..Facts::of(media) };
        let base = self.row.base.as_deref().unwrap_or_default();
        if let (None, Some(control)) = (&track.key, &media.control)
            && !base.is_empty()
        {
            track.key = Some(described_key(self.row.camera, &resolve(base, control), media.kind));
        }
        if let Some(row) = self.row.tracks.get_mut(usize::from(track.number)) {
            row.kind = media.kind;
        }
        self.dirty = true;
    }

    /// Writes the row if it has changed.
    pub fn put_changed(&mut self, batch: &mut IndexBatch) {
        if std::mem::take(&mut self.dirty) {
            batch.put_session(&self.row);
        }
    }

    fn put_exchange(
        &mut self,
        shard: ShardId,
        time: CaptureTime,
        from_client: bool,
        message: &Message,
        batch: &mut IndexBatch,
    ) {
        let row = ExchangeRow { session: self.row.id, time, from_client, bytes: message.bytes().to_vec() };
        batch.put_exchange(shard, self.exchanges, &row);
        self.exchanges += 1;
    }
}

/// What a connection's dialogue has led to so far.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dealings {
    /// The connection's two ends.
    ends: (SocketAddr, SocketAddr),
    /// The session that is going on, or was last.
    pub session: Option<u32>,
    /// The last description.
    described: Option<Box<Described>>,
    /// Channels agreed upon: number, track, and whether it is the RTCP channel.
    pub channels: Vec<(u8, u32, bool)>,
}

impl World {
    /// Something that a dialogue says; `shard` is where the packet that completed it lies.
    pub fn handle_dialogue(&mut self, dealings: &mut Dealings, shard: ShardId, event: Event) {
        match event {
            Event::Exchange(e) => self.handle_exchange(dealings, shard, &e),
            Event::Described(d) => {
                if let Some(session) = self.session_of(dealings, d.server, None, d.time) {
                    session.row.description = Some(String::from_utf8_lossy(&d.sdp.raw).into_owned());
                    session.row.base = Some(d.base.clone());
                    session.dirty = true;
                }
                dealings.described = Some(Box::new(d));
            }
            Event::TrackSetUp(t) => self.handle_set_up(dealings, &t),
            Event::Playing(p) => self.with_session(dealings, |s| {
                s.playing = true;
                s.last = s.last.max(p.time);
            }),
            Event::Paused(p) => self.with_session(dealings, |s| {
                s.playing = false;
                s.last = s.last.max(p.time);
            }),
            Event::KeepAlive(k) => self.with_session(dealings, |s| s.last = s.last.max(k.time)),
            Event::Ended(Ended { how, time, .. }) => {
                let end = match how {
                    EndedHow::Teardown | EndedHow::Unknown => SessionEnd::Teardown,
                    EndedHow::Closed => SessionEnd::Closed,
                    EndedHow::Reset => SessionEnd::Reset,
                };
                if let Some(at) = dealings.session {
                    self.end_session(at, end, time);
                }
            }
        }
    }

    fn with_session(&mut self, dealings: &Dealings, change: impl FnOnce(&mut Session)) {
        if let Some(session) = dealings.session.and_then(|at| self.sessions.get_mut(at)) {
            change(session);
        }
    }

    /// The session that is going on, or a new one when there is none.
    fn session_of(
        &mut self,
        dealings: &mut Dealings,
        camera: SocketAddr,
        client: Option<SocketAddr>,
        now: CaptureTime,
    ) -> Option<&mut Session> {
        let open = |s: &Session| s.row.ended.is_none();
        if !dealings.session.and_then(|at| self.sessions.get(at)).is_some_and(open) {
            // The session before may have datagrams under way; it goes when they do.
            let client = client.unwrap_or_else(|| dealings.other_end(camera));
            dealings.session = self.begin_session(camera, client, true, now);
            dealings.channels.clear();
        }
        self.sessions.get_mut(dealings.session?)
    }

    fn handle_exchange(&mut self, dealings: &mut Dealings, shard: ShardId, e: &Exchange) {
        let Some(session) = self.session_of(dealings, e.server, None, e.began) else { return };
        let from_client = session.row.camera == e.server;
        session.last = session.last.max(e.answered.unwrap_or(e.began));
        if from_client && e.request.is_some() {
            session.client_signs += 1;
        }
        let header =
            |m: &Option<Message>, name| m.as_ref().and_then(|m| m.header(name).map(|v| v.into_owned()));
        let agents = (header(&e.request, "User-Agent"), header(&e.response, "Server"));
        if from_client {
            session.dirty |= agents.0.is_some() && session.row.client_agent != agents.0;
            session.row.client_agent = agents.0.or(session.row.client_agent.take());
            session.dirty |= agents.1.is_some() && session.row.server_agent != agents.1;
            session.row.server_agent = agents.1.or(session.row.server_agent.take());
        }
        let batch = &mut self.out.batch;
        let Some(session) = dealings.session.and_then(|at| self.sessions.get_mut(at)) else { return };
        if let Some(request) = &e.request {
            session.put_exchange(shard, e.began, from_client, request, batch);
        }
        if let Some(response) = &e.response {
            session.put_exchange(shard, e.answered.unwrap_or(e.began), !from_client, response, batch);
        }
    }

    fn handle_set_up(&mut self, dealings: &mut Dealings, t: &TrackSetUp) {
        let (camera, client) = if t.published { (t.client, t.server) } else { (t.server, t.client) };
        let Some(session) = self.session_of(dealings, camera, Some(client), t.time) else { return };
        session.last = session.last.max(t.time);
        if session.tracks.is_empty() {
            session.row.camera = camera;
            session.row.client = client;
        }
        if t.session.is_some() && session.row.rtsp_id != t.session {
            session.row.rtsp_id.clone_from(&t.session);
            session.dirty = true;
        }
        let Some(at) = dealings.session else { return };
        let (facts, key) = dealings.describe(t, camera);
        let transport = match t.transport {
            rtsp::Transport::Udp { .. } => Transport::Udp,
            rtsp::Transport::Multicast { .. } => Transport::Multicast,
            rtsp::Transport::Interleaved { .. } => Transport::Tcp,
        };
        let channels = match t.transport {
            rtsp::Transport::Interleaved { rtp, rtcp } => Some((rtp, rtcp)),
            _ => None,
        };
        let Some(track) = self.add_track(at, transport, facts, key, channels) else { return };
        match t.transport {
            rtsp::Transport::Interleaved { rtp, rtcp } => {
                dealings.channels.retain(|c| c.0 != rtp && c.0 != rtcp);
                dealings.channels.push((rtp, track, false));
                if rtcp != rtp {
                    dealings.channels.push((rtcp, track, true));
                }
            }
            rtsp::Transport::Udp { sender, receiver, sender_ports, receiver_ports } => {
                if let Some(ports) = receiver_ports {
                    self.bind(track, Some(sender), sender_ports, receiver, ports, true);
                }
                // Reports of the receiver come back the other way.
                if let Some(ports) = sender_ports {
                    self.bind(track, Some(receiver), receiver_ports, sender, (0, ports.1), false);
                }
            }
            rtsp::Transport::Multicast { group, ports, sender, .. } => {
                let described = dealings.media(t.media).map(|m| (m.connection, m.port));
                let group = group.or_else(|| described.and_then(|d| d.0).map(|c| c.address));
                let ports = ports
                    .or_else(|| described.map(|d| d.1).filter(|p| *p != 0).map(|p| (p, p.wrapping_add(1))));
                if let (Some(group), Some(ports)) = (group, ports) {
                    self.bind(track, Some(sender), None, group, ports, true);
                }
            }
        }
    }

    fn bind(
        &mut self,
        track: u32,
        sender: Option<IpAddr>,
        sender_ports: Option<(u16, u16)>,
        receiver: IpAddr,
        ports: (u16, u16),
        from_camera: bool,
    ) {
        for (port, sender_port, rtcp) in
            [(ports.0, sender_ports.map(|p| p.0), false), (ports.1, sender_ports.map(|p| p.1), true)]
        {
            if port != 0 {
                let binding = Binding { sender, sender_port, track, rtcp, from_camera };
                self.bindings.add(SocketAddr::new(receiver, port), binding);
            }
        }
    }
}

impl Dealings {
    /// Of a connection between two ends.
    pub fn new(a: SocketAddr, b: SocketAddr) -> Self {
        Self { ends: (a, b), session: None, described: None, channels: Vec::new() }
    }

    fn other_end(&self, end: SocketAddr) -> SocketAddr {
        if self.ends.0 == end { self.ends.1 } else { self.ends.0 }
    }

    fn media(&self, number: Option<u16>) -> Option<&crate::sdp::Media> {
        self.described.as_ref()?.sdp.media.get(usize::from(number?))
    }

    /// What is known of a track that is set up, and its key.
    fn describe(&self, t: &TrackSetUp, camera: SocketAddr) -> (Facts, Option<StreamKey>) {
        let media = self.media(t.media);
        let mut facts = media.map(Facts::of).unwrap_or_default();
        facts.encrypted |= t.secure;
        let described = self.described.as_deref();
        let base = described.map(|d| d.base.as_str()).unwrap_or_default();
        let control = match (&t.control_uri, media.and_then(|m| m.control.as_deref())) {
            (Some(uri), _) => Some(uri.clone()),
            (None, Some(control)) => Some(resolve(base, control)),
            (None, None) => None,
        };
        let path =
            described.and_then(|d| d.uri.as_deref().or(Some(d.base.as_str()).filter(|b| !b.is_empty())));
        facts.path = match (path, &control) {
            (Some(uri), _) => normalise_control_uri(uri).path,
            (None, Some(control)) => {
                let path = normalise_control_uri(control).path;
                path.rsplit_once('/').map(|(head, _)| head.to_owned()).unwrap_or_default()
            }
            (None, None) => String::new(),
        };
        facts.uri = described.and_then(|d| d.uri.clone()).or_else(|| control.clone());
        let key = control.map(|control| {
            let kind = if facts.described { facts.kind } else { Kind::Unknown };
            // A camera that pushes has another port every time.
            let server = if t.published { SocketAddr::new(camera.ip(), RTSP_PORT) } else { camera };
            described_key(server, &control, kind)
        });
        (facts, key)
    }
}

fn described_key(camera: SocketAddr, control: &str, kind: Kind) -> StreamKey {
    let path = normalise_control_uri(control).path;
    // A second RTSP server at the same address is another camera's (or channel's); the usual port is not named.
    let uri = if camera.port() == RTSP_PORT { path } else { format!(":{}/{path}", camera.port()) };
    StreamKey::Described { camera: camera.ip(), uri, kind }
}
