//! What a request does: the methods of RFC 2326, section 10, each up to its answer or to the event that its answer waits for.

use super::*;

/// So many names of a request come back to it.
const PARAMETERS_MAX: usize = 64;
const PUBLIC: &str = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, GET_PARAMETER, SET_PARAMETER, TEARDOWN";

impl ServerMachine {
    /// A request.
    pub fn handle_request(&mut self, id: ConnectionId, request: &Request, now: Now) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.seen = now.instant;
        let cseq = request.header("CSeq").map(str::to_owned);
        let outcome = self.dispatch(id, request, now);
        let response = match outcome {
            Ok(Outcome::Reply(response)) => response,
            Ok(Outcome::Later(ticket, what, event)) => {
                let cseq = cseq.unwrap_or_default();
                self.waiting.insert(ticket, Waiting { connection: id, cseq, uri: request.uri.clone(), what });
                self.events.push_back(event);
                return;
            }
            Err(Rejection { refusal, headers }) => {
                self.errors += 1;
                headers.into_iter().fold(Response::refusal(refusal), |r, (n, v)| r.header(n, v))
            }
        };
        self.reply(id, cseq.as_deref(), &response, None);
    }

    fn dispatch(&mut self, id: ConnectionId, request: &Request, now: Now) -> Result<Outcome, Rejection> {
        check(request)?;
        let session = self.session_of(id, request, now)?;
        match &request.method {
            Method::Options => Ok(Outcome::Reply(with_session(
                Response::new(Status::OK).header("Public", PUBLIC),
                session.and_then(|k| self.session_header(k)),
            ))),
            Method::GetParameter | Method::SetParameter => Ok(Outcome::Reply(with_session(
                self.parameters(request),
                session.and_then(|k| self.session_header(k)),
            ))),
            Method::Describe => {
                let accepts =
                    request.header("Accept").is_none_or(|a| a.contains("application/sdp") || a.contains('*'));
                if !accepts {
                    return Err(Refusal::new(
                        Status::NOT_ACCEPTABLE,
                        "descriptions are application/sdp here",
                    )
                    .into());
                }
                let target = Box::new(parse_target(&request.uri)?);
                let ticket = self.ticket();
                let what = Pending::Describe { target: target.clone() };
                Ok(Outcome::Later(ticket, what, Event::LookUp { ticket, target }))
            }
            Method::Setup => self.setup(id, request, session),
            Method::Play => self.play(require(session)?, request),
            Method::Pause => self.pause(require(session)?),
            Method::Teardown => self.teardown(require(session)?, &request.uri),
            Method::Other(name) => {
                let refusal = Refusal::new(Status::NOT_IMPLEMENTED, format!("Not Implemented: {name}"));
                Err(Rejection { refusal, headers: vec![("Public", PUBLIC.to_owned())] })
            }
        }
    }

    /// Without a parameter it is how clients keep a session alive: VLC, ffmpeg and GStreamer by GET_PARAMETER, others by
    /// SET_PARAMETER, as ONVIF's Streaming Specification recommended (5.2.2.2). There are no parameters here, so whatever is named is not understood; the
    /// body says what (RFC 2326, sections 10.8, 10.9 and 11.3.2), and the session is alive all the same.
    fn parameters(&mut self, request: &Request) -> Response {
        let names = request.parameters();
        if names.is_empty() {
            return Response::new(Status::OK);
        }
        self.errors += 1;
        let body = names.iter().take(PARAMETERS_MAX).map(|name| format!("{name}\r\n")).collect();
        Response::new(Status::PARAMETER_NOT_UNDERSTOOD).body("text/parameters", body)
    }

    /// The session that a request names; it is alive by that.
    fn session_of(
        &mut self,
        id: ConnectionId,
        request: &Request,
        now: Now,
    ) -> Result<Option<SessionKey>, Rejection> {
        let Some(header) = request.header("Session") else { return Ok(None) };
        let name = header.split(';').next().unwrap_or_default().trim();
        let peer = self.connections.get(&id).map(|c| c.peer.ip());
        let key = self.by_id.get(name).copied();
        let session = key.and_then(|k| self.sessions.get_mut(&k)).filter(|s| Some(s.peer) == peer);
        let Some(session) = session else { return Err(Status::SESSION_NOT_FOUND.into()) };
        session.seen = now.instant;
        session.connection = id;
        Ok(key)
    }

    fn setup(
        &mut self,
        id: ConnectionId,
        request: &Request,
        session: Option<SessionKey>,
    ) -> Result<Outcome, Rejection> {
        let target = Box::new(self.track_target(id, &request.uri)?);
        let offers = request.headers("Transport").collect::<Vec<_>>().join(",");
        let Some(wanted) = transport::choose(&offers) else {
            let reason =
                "Unsupported Transport: RTP/AVP over unicast UDP or RTP/AVP/TCP interleaved are served";
            return Err(Refusal::new(Status::UNSUPPORTED_TRANSPORT, reason).into());
        };
        if let Some(open) = session.and_then(|k| self.sessions.get(&k)) {
            if open.state != State::Ready {
                return Err(Status::NOT_VALID_IN_STATE.into());
            }
            if !open.target.asks_the_same(&target) {
                return Err(Refusal::new(
                    Status::AGGREGATE_NOT_ALLOWED,
                    "a session plays the tracks of one URL",
                )
                .into());
            }
        } else if self.sessions.len() >= self.config.sessions_max {
            return Err(Refusal::new(Status::UNAVAILABLE, "too many sessions at a time").into());
        }
        let user_agent: String = request.header("User-Agent").unwrap_or_default().chars().take(200).collect();
        let known =
            session.and_then(|k| self.sessions.get(&k)).map(|s| s.presentation.clone()).or_else(|| {
                self.connections
                    .get(&id)?
                    .described
                    .as_ref()
                    .filter(|d| d.0.asks_the_same(&target))
                    .map(|d| d.1.clone())
            });
        match known {
            Some(presentation) => {
                self.prepare(id, &request.uri, &target, wanted, session, presentation, user_agent)
            }
            None => {
                let ticket = self.ticket();
                let what = Pending::Setup { target: target.clone(), wanted, session, user_agent };
                Ok(Outcome::Later(ticket, what, Event::LookUp { ticket, target }))
            }
        }
    }

    /// What a SETUP asks for. A client that resolves the control URL as RFC 3986 has it (GStreamer tries that first) loses name and query
    /// on the way: then it means what was described to it.
    fn track_target(&self, id: ConnectionId, uri: &str) -> Result<Target, Rejection> {
        let described = self.connections.get(&id).and_then(|c| c.described.as_ref());
        match (target::track_alone(uri), described) {
            (Some(track), Some((described, _))) => Ok(Target { track: Some(track), ..described.clone() }),
            _ => parse_target(uri),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one SETUP, from its request or from where it waited for a lookup"
    )]
    pub(super) fn prepare(
        &mut self,
        id: ConnectionId,
        uri: &str,
        target: &Target,
        wanted: Wanted,
        session: Option<SessionKey>,
        presentation: Arc<Presentation>,
        user_agent: String,
    ) -> Result<Outcome, Rejection> {
        let index = match (target.track, presentation.tracks.len()) {
            (Some(n), len) if (1..=len).contains(&n) => n - 1,
            (Some(n), _) => {
                return Err(Refusal::new(Status::NOT_FOUND, format!("there is no track {n}")).into());
            }
            (None, 1) => 0,
            (None, _) => {
                return Err(
                    Refusal::new(Status::AGGREGATE_NOT_ALLOWED, "set up the tracks one by one").into()
                );
            }
        };
        let in_session = session.and_then(|k| self.sessions.get(&k));
        if in_session.is_some_and(|s| s.tracks.iter().any(|t| t.index == index)) {
            return Err(Refusal::new(Status::NOT_VALID_IN_STATE, "this track is set up already").into());
        }
        // One connection has the channels of a session: what they carry ends with it, and what they are named is its own.
        let elsewhere = |t: &SessionTrack| matches!(t.carriage, Carriage::Interleaved { connection, .. } if connection != id);
        if matches!(wanted, Wanted::Interleaved(_))
            && in_session.is_some_and(|s| s.tracks.iter().any(elsewhere))
        {
            let reason = "the session's other tracks are interleaved in another connection";
            return Err(Refusal::new(Status::UNSUPPORTED_TRANSPORT, reason).into());
        }
        let ssrc = (self.random)() as u32;
        let Some(connection) = self.connections.get(&id) else { return Err(Status::INTERNAL.into()) };
        let (peer, local, seen) = (connection.peer, connection.local, connection.seen);
        let carriage = match wanted {
            Wanted::Udp { rtp, rtcp } => Carriage::udp(peer, local, rtp, rtcp),
            Wanted::Interleaved(asked) => {
                let (rtp, rtcp) = choose_channels(&self.channels_of(id), asked)
                    .ok_or(Refusal::new(Status::UNSUPPORTED_TRANSPORT, "no interleaved channels are left"))?;
                Carriage::Interleaved { connection: id, rtp, rtcp }
            }
        };
        let track = SessionTrack { index, uri: uri.to_owned(), carriage, ssrc };
        let (key, created) = match session {
            Some(key) => (key, false),
            None => (self.create_session(id, peer.ip(), seen, target, presentation.clone()), true),
        };
        if let Some(session) = self.sessions.get_mut(&key) {
            session.tracks.push(track.clone());
        }
        let ticket = self.ticket();
        let what = Pending::Prepare { session: key, track: index, created };
        let event = Event::Prepare { ticket, session: key, presentation, track, peer, user_agent };
        Ok(Outcome::Later(ticket, what, event))
    }

    fn play(&mut self, key: SessionKey, request: &Request) -> Result<Outcome, Rejection> {
        let Some(session) = self.sessions.get_mut(&key) else { return Err(Status::SESSION_NOT_FOUND.into()) };
        if session.tracks.is_empty() || session.state == State::Changing {
            return Err(Status::NOT_VALID_IN_STATE.into());
        }
        if session.state == State::Playing && request.header("Range").is_none() {
            // Some clients keep a session alive so.
            let range = session.range_reply(session.position);
            return Ok(Outcome::Reply(with_session(
                Response::new(Status::OK).header("Range", range),
                self.session_header(key),
            )));
        }
        let plan = session.plan(request.header("Range"))?;
        session.state = State::Changing;
        let what = Pending::Play {
            session: key,
            scale: request.header("Scale").is_some(),
            speed: request.header("Speed").is_some(),
        };
        let ticket = self.ticket();
        Ok(Outcome::Later(ticket, what, Event::Play { ticket, session: key, plan }))
    }

    fn pause(&mut self, key: SessionKey) -> Result<Outcome, Rejection> {
        let Some(session) = self.sessions.get_mut(&key) else { return Err(Status::SESSION_NOT_FOUND.into()) };
        match session.state {
            State::Changing => Err(Status::NOT_VALID_IN_STATE.into()),
            State::Ready => {
                Ok(Outcome::Reply(with_session(Response::new(Status::OK), self.session_header(key))))
            }
            State::Playing => {
                session.state = State::Changing;
                let ticket = self.ticket();
                let what = Pending::Pause { session: key };
                Ok(Outcome::Later(ticket, what, Event::Pause { ticket, session: key }))
            }
        }
    }

    /// Ends a track if the URL names one, and with the last track or by any other URL the session (RFC 2326, section 10.7).
    fn teardown(&mut self, key: SessionKey, uri: &str) -> Result<Outcome, Rejection> {
        let Some(session) = self.sessions.get_mut(&key) else { return Err(Status::SESSION_NOT_FOUND.into()) };
        let named = match target::track_alone(uri) {
            Some(n) => Some((n, true)),
            None => {
                let asked = Target::parse(uri).ok();
                asked.and_then(|t| t.track.map(|n| (n, t.asks_the_same(&session.target))))
            }
        };
        if let Some((n, ours)) = named {
            let Some(place) = session.tracks.iter().position(|t| ours && t.index + 1 == n) else {
                let reason = format!("track {n} of this URL is not set up in this session");
                return Err(Refusal::new(Status::NOT_FOUND, reason).into());
            };
            if session.tracks.len() > 1 {
                if session.state == State::Changing {
                    return Err(Status::NOT_VALID_IN_STATE.into());
                }
                let track = session.tracks.remove(place);
                let (ticket, index) = (self.ticket(), track.index);
                self.ending.insert(ticket, vec![track]);
                let what = Pending::Teardown { session: key };
                return Ok(Outcome::Later(ticket, what, Event::Remove { ticket, session: key, index }));
            }
        }
        let Some((ticket, event)) = self.end(key) else { return Err(Status::SESSION_NOT_FOUND.into()) };
        Ok(Outcome::Later(ticket, Pending::Teardown { session: key }, event))
    }
}

/// What is checked of every request, whatever its method.
fn check(request: &Request) -> Result<(), Rejection> {
    if !request.version_1_0 {
        return Err(Status::VERSION.into());
    }
    if request.header("CSeq").is_none() {
        return Err(Refusal::new(Status::BAD_REQUEST, "Bad Request: no CSeq").into());
    }
    let tags: Vec<&str> = request.headers("Require").chain(request.headers("Proxy-Require")).collect();
    if !tags.is_empty() {
        let unsupported = vec![("Unsupported", tags.join(", "))];
        return Err(Rejection { refusal: Status::OPTION_NOT_SUPPORTED.into(), headers: unsupported });
    }
    Ok(())
}

fn parse_target(uri: &str) -> Result<Target, Rejection> {
    Target::parse(uri).map_err(|e| Refusal::new(Status::BAD_REQUEST, e.to_string()).into())
}

fn require(session: Option<SessionKey>) -> Result<SessionKey, Rejection> {
    session.ok_or_else(|| Status::SESSION_NOT_FOUND.into())
}

/// The channels that the client asked for if they are free, else the next free pair: adjacent, as retina demands.
fn choose_channels(used: &[bool; 256], asked: Option<(u8, u8)>) -> Option<(u8, u8)> {
    let free = |&(a, b): &(u8, u8)| a != b && !used[usize::from(a)] && !used[usize::from(b)];
    asked.filter(free).or_else(|| (0..=254).step_by(2).map(|a: u8| (a, a + 1)).find(free))
}
