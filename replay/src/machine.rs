//! The RTSP server as a state machine: requests, answers from the acting side and the time go in, events come out.
//!
//! Owns connections' and sessions' states, the methods of RFC 2326 section 10 and what clients need beyond them. Refuses
//! what the state does not allow. No socket, task or clock inside; randomness is handed in. Every request is
//! answered by exactly one [`Event::Reply`], at once or when the acting side has answered an event of it;
//! the caller hands in a connection's next request only after that, so nothing queues here.

mod answers;
mod methods;

use crate::config::Config;
use crate::events::{Event, Now, Started, Ticket};
use crate::presentation::Presentation;
use crate::request::{Method, Request};
use crate::response::{Refusal, Response, Status};
use crate::sdp;
use crate::session::{Carriage, ConnectionId, Session, SessionKey, SessionTrack, State};
use crate::target::{self, Target};
use crate::transport::{self, Wanted};
use capture::CaptureTime;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// What can't be answered at once.
#[derive(Debug)]
enum Pending {
    Describe { target: Box<Target> },
    Setup { target: Box<Target>, wanted: Wanted, session: Option<SessionKey>, user_agent: String },
    Prepare { session: SessionKey, track: usize, created: bool },
    Play { session: SessionKey, scale: bool, speed: bool },
    Pause { session: SessionKey },
    Teardown { session: SessionKey },
}

#[derive(Debug)]
struct Waiting {
    connection: ConnectionId,
    cseq: String,
    uri: String,
    what: Pending,
}

#[derive(Debug)]
struct Connection {
    peer: SocketAddr,
    local: SocketAddr,
    seen: Instant,
    /// What was described last: relative times mean the same in SETUP as they did in DESCRIBE.
    described: Option<(Target, Arc<Presentation>)>,
}

/// The server.
pub struct ServerMachine {
    config: Config,
    random: Box<dyn FnMut() -> u64 + Send>,
    connections: HashMap<ConnectionId, Connection>,
    sessions: HashMap<SessionKey, Session>,
    by_id: HashMap<String, SessionKey>,
    waiting: HashMap<Ticket, Waiting>,
    /// Tracks that the acting side is to end, whether or not a client waits for that. They keep their channels until their last
    /// packet is out: a new track would get an old one's BYE.
    ending: HashMap<Ticket, Vec<SessionTrack>>,
    events: VecDeque<Event>,
    next: u64,
    errors: u64,
}

impl ServerMachine {
    /// `random` gives session ids and SSRCs: it must not be guessable.
    pub fn new(config: Config, random: Box<dyn FnMut() -> u64 + Send>) -> Self {
        Self {
            config,
            random,
            connections: HashMap::new(),
            sessions: HashMap::new(),
            by_id: HashMap::new(),
            waiting: HashMap::new(),
            ending: HashMap::new(),
            events: VecDeque::new(),
            next: 0,
            errors: 0,
        }
    }

    /// What is to be done next; the caller drains it after each `handle_*`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Requests that were refused.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// A client connected.
    pub fn handle_connected(&mut self, id: ConnectionId, peer: SocketAddr, local: SocketAddr, now: Now) {
        self.connections.insert(id, Connection { peer, local, seen: now.instant, described: None });
    }

    /// A connection is gone, and with it what it carried. A session over UDP lives on until its time-out, as RFC 2326
    /// section 1.3 has it: its client may come back.
    pub fn handle_disconnected(&mut self, id: ConnectionId) {
        self.connections.remove(&id);
        self.waiting.retain(|_, w| w.connection != id);
        let carried: Vec<_> =
            self.sessions.iter().filter(|(_, s)| s.is_carried_by(id)).map(|(k, _)| *k).collect();
        carried.into_iter().for_each(|k| self.close(k));
        // A PLAY or PAUSE whose answer nobody waits for any more.
        for session in self.sessions.values_mut().filter(|s| s.connection == id && s.state == State::Changing)
        {
            session.state = State::Ready;
        }
    }

    /// What was read is no RTSP: the last word on this connection.
    pub fn handle_garbage(&mut self, id: ConnectionId, reason: &str) {
        self.errors += 1;
        let bytes = Response::refusal(Refusal::new(Status::BAD_REQUEST, reason)).write(None);
        self.events.push_back(Event::Reply { connection: id, bytes, starts: None });
        self.events.push_back(Event::Disconnect { connection: id });
    }

    /// RTCP of a client.
    pub fn handle_receipt(&mut self, session: SessionKey, now: Now) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.seen = now.instant;
        }
    }

    /// An interleaved frame with a client's RTCP.
    pub fn handle_frame_receipt(&mut self, id: ConnectionId, channel: u8, now: Now) {
        for session in self.sessions.values_mut() {
            let carries = session.tracks.iter().any(|t| {
                matches!(t.carriage, Carriage::Interleaved { connection, rtcp, .. } if connection == id && rtcp == channel)
            });
            if carries {
                session.seen = now.instant;
            }
        }
    }

    /// The client's UDP port does not exist (any more). Once its connection is gone too, so is the client.
    pub fn handle_refused(&mut self, key: SessionKey) {
        let alone = self.sessions.get(&key).is_some_and(|s| !self.connections.contains_key(&s.connection));
        if alone {
            self.close(key);
        }
    }

    /// A player has sent everything, or can't go on. Its client took it all until now, which was its sign of life.
    pub fn handle_ended(&mut self, key: SessionKey, now: Now) {
        if let Some(session) = self.sessions.get_mut(&key)
            && session.state == State::Playing
        {
            session.state = State::Ready;
            session.position = Some(session.until);
            session.seen = now.instant;
        }
    }

    /// To be called about once a second: ends what gave no sign of life.
    pub fn handle_timeout(&mut self, now: Now) {
        let limit = self.config.session_timeout + self.config.timeout_grace;
        let silent = |seen: Instant, limit| now.instant.saturating_duration_since(seen) >= limit;
        let dead: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, s)| {
                silent(s.seen, limit) && !s.lives_by_its_connection() && s.state != State::Changing
            })
            .map(|(k, _)| *k)
            .collect();
        dead.into_iter().for_each(|k| self.close(k));
        for (id, connection) in &self.connections {
            let used = self.sessions.values().any(|s| s.connection == *id || s.is_carried_by(*id));
            let busy = self.waiting.values().any(|w| w.connection == *id);
            if !used && !busy && silent(connection.seen, self.config.idle_timeout) {
                self.events.push_back(Event::Disconnect { connection: *id });
            }
        }
    }

    /// Ends everything.
    pub fn handle_shutdown(&mut self) {
        let all: Vec<_> = self.sessions.keys().copied().collect();
        all.into_iter().for_each(|k| self.close(k));
    }

    fn create_session(
        &mut self,
        id: ConnectionId,
        peer: IpAddr,
        seen: Instant,
        target: &Target,
        presentation: Arc<Presentation>,
    ) -> SessionKey {
        let key = SessionKey(self.number());
        let name = format!("{:016X}{:08X}", (self.random)(), (self.random)() as u32);
        self.by_id.insert(name.clone(), key);
        let session = Session {
            id: name,
            presentation,
            target: target.clone(),
            peer,
            connection: id,
            tracks: Vec::new(),
            state: State::Ready,
            seen,
            position: None,
            until: CaptureTime::MAX,
            by_clock: false,
        };
        self.sessions.insert(key, session);
        key
    }

    /// The interleaved channels of a connection that are in use.
    fn channels_of(&self, id: ConnectionId) -> [bool; 256] {
        let mut used = [false; 256];
        for track in self.sessions.values().map(|s| &s.tracks).chain(self.ending.values()).flatten() {
            if let Carriage::Interleaved { connection, rtp, rtcp } = track.carriage
                && connection == id
            {
                used[usize::from(rtp)] = true;
                used[usize::from(rtcp)] = true;
            }
        }
        used
    }

    /// Forgets a session; what is left to do is in the event.
    fn end(&mut self, key: SessionKey) -> Option<(Ticket, Event)> {
        let session = self.sessions.remove(&key)?;
        self.by_id.remove(&session.id);
        let ticket = self.ticket();
        self.ending.insert(ticket, session.tracks);
        Some((ticket, Event::Close { ticket, session: key }))
    }

    fn close(&mut self, key: SessionKey) {
        let ended = self.end(key);
        self.events.extend(ended.map(|(_, event)| event));
    }

    fn refuse(&mut self, waiting: &Waiting, refusal: Refusal) {
        self.errors += 1;
        self.reply(waiting.connection, Some(&waiting.cseq), &Response::refusal(refusal), None);
    }

    fn reply(
        &mut self,
        connection: ConnectionId,
        cseq: Option<&str>,
        response: &Response,
        starts: Option<SessionKey>,
    ) {
        self.events.push_back(Event::Reply { connection, bytes: response.write(cseq), starts });
    }

    /// retina takes `id;timeout=N` and nothing else.
    fn session_header(&self, key: SessionKey) -> Option<String> {
        let session = self.sessions.get(&key)?;
        Some(format!("{};timeout={}", session.id, self.config.session_timeout.as_secs()))
    }

    fn ticket(&mut self) -> Ticket {
        Ticket(self.number())
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

enum Outcome {
    Reply(Response),
    /// When the acting side has answered the event, which has the same ticket.
    Later(Ticket, Pending, Event),
}

/// A refusal with headers of its own.
struct Rejection {
    refusal: Refusal,
    headers: Vec<(&'static str, String)>,
}

impl<T: Into<Refusal>> From<T> for Rejection {
    fn from(refusal: T) -> Self {
        Self { refusal: refusal.into(), headers: Vec::new() }
    }
}

fn with_session(response: Response, header: Option<String>) -> Response {
    match header {
        Some(header) => response.header("Session", header),
        None => response,
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
