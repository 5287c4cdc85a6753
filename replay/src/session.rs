//! One RTSP session's state (RFC 2326, appendix A.2): what was set up, whether it plays, where it stands.
//!
//! Pure data and the rules on it; [`machine`](crate::machine) feeds it requests.

use crate::presentation::{Presentation, Window};
use crate::range::{self, NptStart, Range, RangeError};
use crate::response::{Refusal, Status};
use crate::target::Target;
use capture::CaptureTime;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// A session's number in this server; the name that clients use is random and longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub u64);

/// A TCP connection's number in this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// How a track's packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// Interleaved in an RTSP connection.
    Interleaved {
        /// The connection.
        connection: ConnectionId,
        /// Channel of RTP.
        rtp: u8,
        /// Channel of RTCP.
        rtcp: u8,
    },
    /// In datagrams.
    Udp {
        /// From the address that the request went to; the port is the server's to choose.
        local: SocketAddr,
        /// To this one goes RTP.
        rtp: SocketAddr,
        /// To this one goes RTCP.
        rtcp: SocketAddr,
    },
}

impl Carriage {
    /// Datagrams to two ports of the client, between the addresses of its connection. Those are taken as they are: a link-local
    /// address of IPv6 leads nowhere without its scope (RFC 4007, section 6).
    pub fn udp(peer: SocketAddr, local: SocketAddr, rtp: u16, rtcp: u16) -> Self {
        let at = |mut address: SocketAddr, port| {
            address.set_port(port);
            address
        };
        Self::Udp { local: at(local, 0), rtp: at(peer, rtp), rtcp: at(peer, rtcp) }
    }
}

/// One track that was set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTrack {
    /// Its place in the presentation.
    pub index: usize,
    /// The URI of its SETUP, verbatim: ffmpeg and GStreamer compare RTP-Info's with it as text.
    pub uri: String,
    /// How it travels.
    pub carriage: Carriage,
    /// The SSRC that the client was told.
    pub ssrc: u32,
}

/// What the session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Tracks are set up, nothing is sent.
    Ready,
    /// PLAY or PAUSE is under way in the player.
    Changing,
    /// Packets are sent.
    Playing,
}

/// What a player is to play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// From the last clean point on, then as the packets come.
    Live,
    /// From the clean point at or before `from`, up to `to`.
    Recorded {
        /// What was asked for.
        from: CaptureTime,
        /// The end, included.
        to: CaptureTime,
        /// Go on exactly where PAUSE stopped: the client's decoder needs no clean point.
        resume: bool,
    },
}

/// A session.
#[derive(Debug)]
pub struct Session {
    /// Its name towards clients.
    pub id: String,
    /// What it plays.
    pub presentation: Arc<Presentation>,
    /// What its first SETUP asked for; the others must ask for tracks of the same.
    pub target: Target,
    /// Who set it up; requests of others are refused.
    pub peer: IpAddr,
    /// The connection of its last request.
    pub connection: ConnectionId,
    /// What was set up.
    pub tracks: Vec<SessionTrack>,
    /// What it does.
    pub state: State,
    /// The last sign of life.
    pub seen: Instant,
    /// Where the next PLAY without a start begins; `None`: at the start that the URL names.
    pub position: Option<CaptureTime>,
    /// Where the current or last PLAY stops.
    pub until: CaptureTime,
    /// The current or last PLAY asked by wall clock, and is answered so.
    pub by_clock: bool,
}

impl Session {
    /// The plan for a PLAY with this `Range`.
    pub fn plan(&mut self, header: Option<&str>) -> Result<Plan, Refusal> {
        let range = match header.map(range::parse).transpose() {
            Ok(range) => range,
            Err(RangeError::Invalid) => return Err(invalid("Invalid Range: it can't be read")),
            Err(RangeError::UnknownUnit) => {
                return Err(Refusal::new(Status::NOT_IMPLEMENTED, "ranges are in npt= or clock= here"));
            }
        };
        match self.presentation.window {
            Window::Live if matches!(range, Some(Range::Clock { .. })) => {
                Err(invalid("Invalid Range: this is live; add ?from=TIME to the URL for what was recorded"))
            }
            // Clients ask npt=0- of a live stream and mean now.
            Window::Live => Ok(Plan::Live),
            Window::Recorded { from, asked, to } => self.plan_recorded(range, from, asked, to),
        }
    }

    fn plan_recorded(
        &mut self,
        range: Option<Range>,
        first: CaptureTime,
        asked: CaptureTime,
        last: CaptureTime,
    ) -> Result<Plan, Refusal> {
        let offset = |ns: i64| CaptureTime::from_nanos(first.nanos().saturating_add(ns));
        // At its end it begins anew (RFC 2326, section 10.5: only a pause is gone on from).
        let position = self.position.filter(|position| *position < last);
        let here = position.unwrap_or(asked);
        let (start, end) = match range {
            None | Some(Range::Npt { start: NptStart::Here, end_ns: None }) => (here, None),
            Some(Range::Npt { start: NptStart::Here, end_ns }) => (here, end_ns.map(offset)),
            Some(Range::Npt { start: NptStart::At(ns), end_ns }) => (offset(ns), end_ns.map(offset)),
            Some(Range::Clock { start, end }) => (start, end),
        };
        // Clients compute positions in floating point: a second outside is taken for the end.
        let second = std::time::Duration::from_secs(1);
        if start > last.plus(second) || start.plus(second) < first {
            let length = range::format_npt(last.nanos_since(first));
            return Err(invalid(format!("Invalid Range: it is outside of npt=0-{length}")));
        }
        let resume =
            position.is_some() && matches!(range, None | Some(Range::Npt { start: NptStart::Here, .. }));
        // What lies before the start that the URL names is pre-roll: it begins with the same packet, and is due at once.
        let start = if resume { start } else { start.max(asked) };
        let from = start.clamp(first, last);
        let to = end.unwrap_or(last).clamp(from, last);
        self.until = to;
        self.by_clock = matches!(range, Some(Range::Clock { .. }));
        Ok(Plan::Recorded { from, to, resume })
    }

    /// The `Range` header of a PLAY reply, whose first packet is at `first`: what is played, not what was asked for (RFC 2326,
    /// section 10.5). RTP-Info's `rtptime` is the timestamp of the same moment (section 12.33), and so of the first packet: live555
    /// computes npt from both without a sign, and a packet before `rtptime` would lie half a day ahead.
    pub fn range_reply(&self, first: Option<CaptureTime>) -> String {
        let Window::Recorded { from, .. } = self.presentation.window else { return "npt=now-".to_owned() };
        let start = first.unwrap_or(from);
        if self.by_clock {
            return format!("clock={}-{}", range::format_clock(start), range::format_clock(self.until));
        }
        let end_ns = self.until.nanos_since(from);
        format!("npt={}-{}", range::format_npt(start.nanos_since(from)), range::format_npt(end_ns))
    }

    /// True if its packets keep it alive: they go through a connection that is closed when it no longer takes them.
    pub fn lives_by_its_connection(&self) -> bool {
        self.state == State::Playing
            && self.tracks.iter().any(|t| matches!(t.carriage, Carriage::Interleaved { .. }))
    }

    /// True if a track of it travels in the connection.
    pub fn is_carried_by(&self, connection: ConnectionId) -> bool {
        self.tracks
            .iter()
            .any(|t| matches!(t.carriage, Carriage::Interleaved { connection: c, .. } if c == connection))
    }
}

fn invalid(reason: impl Into<String>) -> Refusal {
    Refusal::new(Status::INVALID_RANGE, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddrV6;

    #[test]
    fn datagrams_to_a_link_local_address_keep_its_scope() {
        let link_local = |port| SocketAddrV6::new([0xfe80, 0, 0, 0, 0, 0, 0, 1].into(), port, 0, 7).into();
        let carriage = Carriage::udp(link_local(1234), link_local(8554), 5000, 5003);
        let expected = Carriage::Udp { local: link_local(0), rtp: link_local(5000), rtcp: link_local(5003) };
        assert_eq!(carriage, expected);
    }
}
