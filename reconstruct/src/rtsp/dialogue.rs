//! Both directions of one RTSP connection, read by someone who was not asked.
//!
//! Owns what a dialogue has established: descriptions, set-up tracks, sessions. Messages go in with their direction and capture
//! time, [`Event`]s come out. A grant counts only by the server's success; what a 401 or 461 answered is an exchange and nothing
//! else. It works from any point on: a response whose request was missed is known by its headers, and when only the client is
//! seen, what it asked for is told as [`Evidence::Offered`] once it goes on to PLAY.
//! Refuses to guess addresses: media sender and receiver are the connection's ends unless the transport names others.
//! Costs: at most [`MAX_DESCRIPTIONS`] descriptions, [`MAX_TRACKS`] tracks and [`super::pairing::MAX_WAITING`] requests a
//! direction.

use std::collections::VecDeque;
use std::net::SocketAddr;

use capture::CaptureTime;
use serde::{Deserialize, Serialize};

use super::event::*;
use super::headers::{self, TransportSpec};
use super::message::{Message, Method};
use super::pairing::{Pair, Pairing, Timed};
use super::reading::{Reading, completed, transport, transport_of, transports_of};
use super::uri::{normalise_control_uri, resolve};
use crate::rtp::{RtpTimestamp, SequenceNumber, Ssrc};
use crate::sdp::Sdp;

/// Descriptions that are remembered for a connection; a new one replaces the oldest.
pub const MAX_DESCRIPTIONS: usize = 4;
/// Tracks that are remembered for a connection; a new one replaces the oldest.
pub const MAX_TRACKS: usize = 64;

/// The dialogue of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialogue {
    a: SocketAddr,
    b: SocketAddr,
    /// Requests of A with responses of B.
    from_a: Pairing,
    /// Requests of B with responses of A.
    from_b: Pairing,
    /// Whether anything but requests was ever seen from A, from B.
    answers: [bool; 2],
    descriptions: VecDeque<Description>,
    tracks: VecDeque<Track>,
    /// What a client asked for while no answer was seen.
    offers: VecDeque<TrackSetUp>,
    events: VecDeque<Event>,
    forgotten: u64,
    ended: bool,
}

/// What is kept of a description in order to know its media again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Description {
    /// Normal form of the base.
    base_path: String,
    /// The media's absolute control URIs in normal form, and the attribute as written.
    controls: Vec<Option<(String, String)>>,
    published: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Track {
    path: Option<String>,
    media: Option<u16>,
    session: Option<String>,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Closed {
    /// By FIN, or it was lost from sight.
    Orderly,
    /// By RST.
    Reset,
}

impl Dialogue {
    /// A dialogue between two ends, whose roles it finds out by itself.
    pub fn new(a: SocketAddr, b: SocketAddr) -> Self {
        Dialogue {
            a,
            b,
            from_a: Pairing::default(),
            from_b: Pairing::default(),
            answers: [false; 2],
            descriptions: VecDeque::new(),
            tracks: VecDeque::new(),
            offers: VecDeque::new(),
            events: VecDeque::new(),
            forgotten: 0,
            ended: false,
        }
    }

    /// A message that `from` sent. Drain [`poll_event`](Self::poll_event) after each call.
    pub fn handle_message(&mut self, from: End, time: CaptureTime, message: Message) {
        self.ended = false;
        let timed = Timed { time, message };
        if timed.message.is_request() {
            if let Some(pair) = self.pairing(from).handle_request(timed.clone()) {
                self.pair(from, pair);
            }
            self.offered(from, &timed);
        } else if timed.message.status().is_some_and(|status| status >= 200) {
            self.answers[from as usize] = true;
            self.offers.clear();
            let mut pairs = Vec::new();
            self.pairing(from.other()).handle_response(timed, &mut |pair| pairs.push(pair));
            for pair in pairs {
                self.pair(from.other(), pair);
            }
        }
    }

    /// Bytes that `from` sent are missing.
    pub fn handle_hole(&mut self, from: End) {
        self.pairing(from).handle_hole();
    }

    /// The connection is over.
    pub fn handle_close(&mut self, time: CaptureTime, closed: Closed) {
        for client in [End::A, End::B] {
            let pairs: Vec<Pair> = self.pairing(client).drain().collect();
            for pair in pairs {
                self.pair(client, pair);
            }
        }
        if !self.ended {
            let how = match closed {
                Closed::Orderly => EndedHow::Closed,
                Closed::Reset => EndedHow::Reset,
            };
            self.end(None, how, time);
        }
    }

    /// The next thing the dialogue said.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Descriptions and tracks that were forgotten because of the bounds.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn pairing(&mut self, client: End) -> &mut Pairing {
        match client {
            End::A => &mut self.from_a,
            End::B => &mut self.from_b,
        }
    }

    fn address(&self, end: End) -> SocketAddr {
        match end {
            End::A => self.a,
            End::B => self.b,
        }
    }

    fn pair(&mut self, client: End, pair: Pair) {
        let began = pair.request.as_ref().or(pair.response.as_ref()).map_or(CaptureTime::MIN, |m| m.time);
        let answered = pair.response.as_ref().map(|r| r.time);
        let request = pair.request.map(|r| r.message);
        let response = pair.response.map(|r| r.message);
        let exchange = Exchange { server: self.address(client.other()), request, response, began, answered };
        self.events.push_back(Event::Exchange(exchange.clone()));
        self.understand(client, &exchange);
    }

    fn understand(&mut self, client: End, exchange: &Exchange) {
        let Some(response) = &exchange.response else { return };
        let reading = Reading::of(self.address(client), exchange, response);
        match response.status() {
            Some(200..=299) => {}
            Some(454) if reading.session.is_some() => {
                return self.end(reading.session.clone(), EndedHow::Unknown, reading.time);
            }
            _ => return,
        }
        match reading.method() {
            Some(Method::Describe) => self.described(&reading, response, false),
            Some(Method::Announce) => {
                if let Some(request) = reading.request {
                    self.described(&reading, request, true);
                }
            }
            Some(Method::Setup) => self.set_up(&reading),
            Some(Method::Play) => self.playing(&reading, false),
            Some(Method::Record) => self.playing(&reading, true),
            Some(Method::Pause) => self.events.push_back(Event::Paused(reading.session_at())),
            Some(Method::Teardown) => self.torn_down(&reading),
            Some(Method::GetParameter | Method::SetParameter | Method::Options)
                if reading.session.is_some() =>
            {
                self.events.push_back(Event::KeepAlive(reading.session_at()));
            }
            _ => {}
        }
    }

    fn described(&mut self, reading: &Reading<'_>, carrier: &Message, published: bool) {
        if carrier.body().is_empty() {
            return;
        }
        let sdp = Sdp::parse(carrier.body());
        let header = |name| carrier.header(name).map(|v| v.into_owned());
        let base =
            header("Content-Base").or_else(|| header("Content-Location")).or_else(|| reading.uri.clone());
        let base = base.unwrap_or_default();
        let controls = sdp.media.iter().map(|media| {
            let control = media.control.as_ref()?;
            // Absolute, or relative to the session's own control when that is absolute, or else to the base.
            let base = sdp.control.as_ref().map_or_else(|| base.clone(), |session| resolve(&base, session));
            Some((normalise_control_uri(&resolve(&base, control)).path, control.clone()))
        });
        let description = Description {
            base_path: normalise_control_uri(&base).path,
            controls: controls.collect(),
            published,
        };
        self.descriptions.retain(|d| d.base_path != description.base_path);
        if self.descriptions.len() == MAX_DESCRIPTIONS {
            self.descriptions.pop_front();
            self.forgotten += 1;
        }
        self.descriptions.push_back(description);
        let (server, uri, time) = (reading.server, reading.uri.clone(), reading.time);
        self.events.push_back(Event::Described(Described { server, uri, base, sdp, published, time }));
    }

    fn set_up(&mut self, reading: &Reading<'_>) {
        let Some(granted) = transport_of(reading.response) else { return };
        let asked = reading.request.map(transports_of).unwrap_or_default();
        let spec = completed(granted, &asked);
        if let Some(track) = self.track(reading, &spec, Evidence::Granted) {
            self.remember(&track);
            self.events.push_back(Event::TrackSetUp(track));
        }
    }

    fn track(&self, reading: &Reading<'_>, spec: &TransportSpec, evidence: Evidence) -> Option<TrackSetUp> {
        let control_uri = reading.uri.clone();
        let media = control_uri.as_deref().and_then(|uri| self.media_of(uri));
        let published = spec.record || self.descriptions.back().is_some_and(|d| d.published);
        Some(TrackSetUp {
            server: reading.server,
            client: reading.client,
            media,
            transport: transport(spec, reading, published)?,
            secure: spec.secure,
            session: reading.session.clone(),
            timeout_s: reading.timeout_s,
            ssrc: spec.ssrc.map(Ssrc),
            evidence,
            published,
            time: reading.time,
            control_uri,
        })
    }

    fn remember(&mut self, track: &TrackSetUp) {
        let path = track.control_uri.as_deref().map(|uri| normalise_control_uri(uri).path);
        let track = Track { path, media: track.media, session: track.session.clone() };
        self.tracks.retain(|t| t.path.is_none() || t.path != track.path || t.session != track.session);
        if self.tracks.len() == MAX_TRACKS {
            self.tracks.pop_front();
            self.forgotten += 1;
        }
        self.tracks.push_back(track);
    }

    /// Which media of the latest description a URI means.
    fn media_of(&self, uri: &str) -> Option<u16> {
        let path = normalise_control_uri(uri).path;
        for description in self.descriptions.iter().rev() {
            let by = |test: &dyn Fn(&(String, String)) -> bool| {
                let mut hits =
                    description.controls.iter().enumerate().filter(|(_, c)| c.as_ref().is_some_and(test));
                // Two media that fit equally well are none.
                hits.next().filter(|_| hits.next().is_none()).map(|(i, _)| i as u16)
            };
            // Some cameras' base and SETUP URI have little in common; the control attribute stands at the end of both.
            let found = by(&|(normal, _)| *normal == path).or_else(|| {
                by(&|(_, written)| !written.is_empty() && path.ends_with(written.trim_matches('/')))
            });
            let only = description.controls.len() == 1 && path.starts_with(&description.base_path);
            if let Some(found) = found.or(only.then_some(0)) {
                return Some(found);
            }
        }
        None
    }

    fn playing(&mut self, reading: &Reading<'_>, published: bool) {
        let told = |name: &str| {
            let of = |m: Option<&Message>| m.and_then(|m| m.header(name).map(|v| v.into_owned()));
            of(reading.response).or_else(|| of(reading.request))
        };
        let entries: Vec<_> = reading
            .response
            .into_iter()
            .flat_map(|r| r.values("RTP-Info").flat_map(|v| headers::rtp_info(&v)).collect::<Vec<_>>())
            .collect();
        let rtp_info = entries
            .into_iter()
            .take(headers::MAX_ALTERNATIVES)
            .map(|e| RtpInfo {
                media: self.media_of(&e.uri).or_else(|| self.only_media_of(reading)),
                uri: e.uri,
                seq: e.seq.map(SequenceNumber),
                rtptime: e.rtptime.map(RtpTimestamp),
            })
            .collect();
        self.events.push_back(Event::Playing(Playing {
            server: reading.server,
            uri: reading.uri.clone(),
            session: reading.session.clone(),
            range: told("Range"),
            scale: told("Scale"),
            rtp_info,
            published,
            time: reading.time,
        }));
    }

    fn only_media_of(&self, reading: &Reading<'_>) -> Option<u16> {
        let mut tracks = self.tracks.iter().filter(|t| t.session == reading.session);
        let only = tracks.next()?;
        tracks.next().is_none().then_some(only.media)?
    }

    fn torn_down(&mut self, reading: &Reading<'_>) {
        // A TEARDOWN of one track of several does not end the session.
        let path = reading.uri.as_deref().map(|uri| normalise_control_uri(uri).path);
        let of_session = |t: &Track| t.session == reading.session || reading.session.is_none();
        let others = self.tracks.iter().filter(|t| of_session(t) && t.path != path).count();
        let one = self.tracks.iter().position(|t| of_session(t) && t.path.is_some() && t.path == path);
        match one {
            Some(at) if others > 0 => drop(self.tracks.remove(at)),
            _ => self.end(reading.session.clone(), EndedHow::Teardown, reading.time),
        }
    }

    fn end(&mut self, session: Option<String>, how: EndedHow, time: CaptureTime) {
        self.tracks.retain(|t| session.is_some() && t.session != session);
        self.ended = self.tracks.is_empty();
        self.events.push_back(Event::Ended(Ended { session, how, time }));
    }

    /// A request while its receiver was never heard to answer: SETUPs are kept, PLAY makes them count.
    fn offered(&mut self, client: End, request: &Timed) {
        if self.answers[client.other() as usize] {
            return;
        }
        let message = &request.message;
        let exchange = Exchange {
            server: self.address(client.other()),
            request: Some(message.clone()),
            response: None,
            began: request.time,
            answered: None,
        };
        let reading = Reading::offered(self.address(client), &exchange, message);
        match message.method() {
            Some(Method::Setup) => {
                let [spec] = &transports_of(message)[..] else { return };
                if let Some(track) = self.track(&reading, spec, Evidence::Offered) {
                    if self.offers.len() == MAX_TRACKS {
                        self.offers.pop_front();
                        self.forgotten += 1;
                    }
                    // Asked again, with other words or with credentials this time.
                    self.offers.retain(|o| o.control_uri != track.control_uri);
                    self.offers.push_back(track);
                }
            }
            Some(Method::Play | Method::Record) => {
                let offers = std::mem::take(&mut self.offers);
                if offers.is_empty() {
                    return;
                }
                for mut track in offers {
                    // The id is only known now: the client learned it from an answer we did not see.
                    track.session = track.session.or(reading.session.clone());
                    self.remember(&track);
                    self.events.push_back(Event::TrackSetUp(track));
                }
                self.playing(&reading, message.method() == Some(Method::Record));
            }
            // A TEARDOWN whose answer is never seen is followed by the connection's end.
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "dialogue_tests.rs"]
mod tests;
