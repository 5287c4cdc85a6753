//! What goes in and out of the server's state machine, besides requests: the time, the acting side's orders and answers.

use crate::presentation::Presentation;
use crate::session::{ConnectionId, Plan, SessionKey, SessionTrack};
use crate::target::Target;
use capture::CaptureTime;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// The time, on both clocks that the server goes by.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For time-outs.
    pub instant: Instant,
    /// For relative times, the same clock as the capture's.
    pub wall: CaptureTime,
}

/// Stands for a request whose answer needs the acting side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// What the acting side is to do.
#[derive(Debug)]
pub enum Event {
    /// Write this to the connection. If `starts` is set, the session's player sends only after these bytes are
    /// written: GStreamer in ONVIF mode discards what comes before the answer to PLAY.
    Reply {
        /// Where to.
        connection: ConnectionId,
        /// The response.
        bytes: Vec<u8>,
        /// Whose player waits for it.
        starts: Option<SessionKey>,
    },
    /// Look this up, and answer with [`crate::machine::ServerMachine::handle_found`].
    LookUp {
        /// To answer with.
        ticket: Ticket,
        /// What to look up.
        target: Box<Target>,
    },
    /// Prepare a track of a session (and the session's player, if it is the first), and answer with
    /// [`crate::machine::ServerMachine::handle_prepared`].
    Prepare {
        /// To answer with.
        ticket: Ticket,
        /// The session.
        session: SessionKey,
        /// What it plays.
        presentation: Arc<Presentation>,
        /// The track.
        track: SessionTrack,
        /// The client, for `tapdeck status`.
        peer: SocketAddr,
        /// What it calls itself.
        user_agent: String,
    },
    /// Get ready to play, and answer with [`crate::machine::ServerMachine::handle_started`].
    Play {
        /// To answer with.
        ticket: Ticket,
        /// The session.
        session: SessionKey,
        /// What.
        plan: Plan,
    },
    /// Stop sending, and answer with [`crate::machine::ServerMachine::handle_paused`].
    Pause {
        /// To answer with.
        ticket: Ticket,
        /// The session.
        session: SessionKey,
    },
    /// A track is over and the others go on: a BYE where it plays, and its ports are free before the answer with
    /// [`crate::machine::ServerMachine::handle_torn_down`].
    Remove {
        /// To answer with.
        ticket: Ticket,
        /// The session.
        session: SessionKey,
        /// The track's place in the presentation.
        index: usize,
    },
    /// The session is over: end its player, with a BYE where it still reaches the client, and its ports free before the answer with
    /// [`crate::machine::ServerMachine::handle_torn_down`].
    Close {
        /// To answer with.
        ticket: Ticket,
        /// The session.
        session: SessionKey,
    },
    /// Close the connection once everything written is out.
    Disconnect {
        /// The connection.
        connection: ConnectionId,
    },
}

/// Where a track's packets begin, for RTP-Info.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackStart {
    /// The track's place in the presentation.
    pub index: usize,
    /// Sequence number of its first packet.
    pub seq: u16,
    /// RTP timestamp at the start of the range.
    pub rtptime: u32,
}

/// A player's answer to [`Event::Play`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Where the range begins: capture time of the first packet that will be sent, or what was asked for if there is none; `None` live.
    pub first: Option<CaptureTime>,
    /// Every track that was set up.
    pub tracks: Vec<TrackStart>,
}
