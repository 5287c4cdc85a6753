//! What the acting side answers to the machine's events: each goes on with the request that waits for it, and replies.

use super::*;

impl ServerMachine {
    /// The answer to [`Event::LookUp`].
    pub fn handle_found(&mut self, ticket: Ticket, found: Result<Presentation, Refusal>, now: Now) {
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        let presentation = match found {
            Ok(presentation) => Arc::new(presentation),
            Err(refusal) => return self.refuse(&waiting, refusal),
        };
        match waiting.what {
            Pending::Describe { ref target } => {
                let Some(connection) = self.connections.get_mut(&waiting.connection) else { return };
                let id = now.wall.nanos().max(0).unsigned_abs() / 1_000_000;
                let description = sdp::describe(&presentation, connection.local.ip(), id);
                connection.described = Some((Target::clone(target), presentation));
                let response = Response::new(Status::OK)
                    .header("Content-Base", format!("{}/", target.base))
                    .header("Cache-Control", "no-cache")
                    .body("application/sdp", description);
                self.reply(waiting.connection, Some(&waiting.cseq), &response, None);
            }
            Pending::Setup { ref target, wanted, session, ref user_agent } => {
                let prepared = self.prepare(
                    waiting.connection,
                    &waiting.uri,
                    target,
                    wanted,
                    session,
                    presentation,
                    user_agent.clone(),
                );
                match prepared {
                    Ok(Outcome::Later(ticket, what, event)) => {
                        self.waiting.insert(ticket, Waiting { what, ..waiting });
                        self.events.push_back(event);
                    }
                    Ok(Outcome::Reply(response)) => {
                        self.reply(waiting.connection, Some(&waiting.cseq), &response, None);
                    }
                    Err(rejection) => self.refuse(&waiting, rejection.refusal),
                }
            }
            Pending::Prepare { .. }
            | Pending::Play { .. }
            | Pending::Pause { .. }
            | Pending::Teardown { .. } => {
                self.refuse(&waiting, Status::INTERNAL.into());
            }
        }
    }

    /// The answer to [`Event::Prepare`]: the server's ports, for UDP.
    pub fn handle_prepared(&mut self, ticket: Ticket, ports: Result<Option<(u16, u16)>, Refusal>) {
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        let Pending::Prepare { session: key, track: index, created } = waiting.what else { return };
        let ports = match ports {
            Ok(ports) => ports,
            Err(refusal) => {
                if let Some(session) = self.sessions.get_mut(&key) {
                    session.tracks.retain(|t| t.index != index);
                }
                if created {
                    self.close(key);
                }
                return self.refuse(&waiting, refusal);
            }
        };
        let track = self.sessions.get(&key).and_then(|s| s.tracks.iter().find(|t| t.index == index));
        let Some(track) = track else { return self.refuse(&waiting, Status::SESSION_NOT_FOUND.into()) };
        let ssrc = track.ssrc;
        let transport = match (track.carriage, ports) {
            (Carriage::Interleaved { rtp, rtcp, .. }, _) => {
                format!("RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp};ssrc={ssrc:08X};mode=\"PLAY\"")
            }
            (Carriage::Udp { rtp, rtcp, .. }, Some((a, b))) => {
                let (rtp, rtcp) = (rtp.port(), rtcp.port());
                format!(
                    "RTP/AVP;unicast;client_port={rtp}-{rtcp};server_port={a}-{b};ssrc={ssrc:08X};mode=\"PLAY\""
                )
            }
            (Carriage::Udp { .. }, None) => return self.refuse(&waiting, Status::INTERNAL.into()),
        };
        let response =
            with_session(Response::new(Status::OK).header("Transport", transport), self.session_header(key));
        self.reply(waiting.connection, Some(&waiting.cseq), &response, None);
    }

    /// The answer to [`Event::Play`].
    pub fn handle_started(&mut self, ticket: Ticket, started: Result<Started, Refusal>) {
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        let Pending::Play { session: key, scale, speed } = waiting.what else { return };
        let Some(session) = self.sessions.get_mut(&key) else {
            return self.refuse(&waiting, Status::SESSION_NOT_FOUND.into());
        };
        let started = match started {
            Ok(started) => started,
            Err(refusal) => {
                session.state = State::Ready;
                return self.refuse(&waiting, refusal);
            }
        };
        session.state = State::Playing;
        session.position = started.first;
        let info: Vec<String> = session
            .tracks
            .iter()
            .filter_map(|t| started.tracks.iter().find(|s| s.index == t.index).map(|s| (t, s)))
            .map(|(t, s)| format!("url={};seq={};rtptime={}", t.uri, s.seq, s.rtptime))
            .collect();
        let mut response = Response::new(Status::OK)
            .header("Range", session.range_reply(started.first))
            .header("RTP-Info", info.join(","));
        for (asked, name) in [(scale, "Scale"), (speed, "Speed")] {
            if asked {
                response = response.header(name, "1.0");
            }
        }
        let response = with_session(response, self.session_header(key));
        self.reply(waiting.connection, Some(&waiting.cseq), &response, Some(key));
    }

    /// The answer to [`Event::Remove`] and [`Event::Close`]: nothing more comes of what was torn down.
    pub fn handle_torn_down(&mut self, ticket: Ticket) {
        self.ending.remove(&ticket);
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        let Pending::Teardown { session: key } = waiting.what else { return };
        let response = with_session(Response::new(Status::OK), self.session_header(key));
        self.reply(waiting.connection, Some(&waiting.cseq), &response, None);
    }

    /// The answer to [`Event::Pause`]: where the next PLAY goes on.
    pub fn handle_paused(&mut self, ticket: Ticket, position: Option<CaptureTime>) {
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        let Pending::Pause { session: key } = waiting.what else { return };
        if let Some(session) = self.sessions.get_mut(&key) {
            session.state = State::Ready;
            session.position = position.or(session.position);
        }
        let response = with_session(Response::new(Status::OK), self.session_header(key));
        self.reply(waiting.connection, Some(&waiting.cseq), &response, None);
    }
}
