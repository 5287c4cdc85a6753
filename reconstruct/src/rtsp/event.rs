//! What an overheard dialogue says.

use std::net::{IpAddr, SocketAddr};

use capture::CaptureTime;
use serde::{Deserialize, Serialize};

use super::message::Message;
use crate::rtp::{RtpTimestamp, SequenceNumber, Ssrc};
use crate::sdp::Sdp;

/// One of the two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum End {
    /// The first of the addresses that the dialogue was made with.
    A,
    /// The second.
    B,
}

impl End {
    /// The other end.
    #[must_use]
    pub fn other(self) -> End {
        match self {
            End::A => End::B,
            End::B => End::A,
        }
    }
}

/// Something a dialogue says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A request with its response, or one of the two without the other. Told before what follows from it.
    Exchange(Exchange),
    /// A description was given or published.
    Described(Described),
    /// A track's transport was agreed upon.
    TrackSetUp(TrackSetUp),
    /// Media begins, or goes on at another place.
    Playing(Playing),
    /// Media rests.
    Paused(SessionAt),
    /// The session was kept alive.
    KeepAlive(SessionAt),
    /// A session, or all of the connection's, is over.
    Ended(Ended),
}

/// A request and its response. At least one of the two is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The end that answers: the camera, unless the server itself asks something.
    pub server: SocketAddr,
    /// The request; `None` when it was not seen.
    pub request: Option<Message>,
    /// The response; `None` when it was not seen, or never came.
    pub response: Option<Message>,
    /// When the request, or without one the response, was captured.
    pub began: CaptureTime,
    /// When the response was captured.
    pub answered: Option<CaptureTime>,
}

/// A description with the address it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// The end that has (or is given, when published) the media.
    pub server: SocketAddr,
    /// The request's URI; `None` when the request was not seen.
    pub uri: Option<String>,
    /// What relative control attributes are appended to: Content-Base, else Content-Location, else the request's URI; empty
    /// when there is none of them.
    pub base: String,
    /// The description.
    pub sdp: Sdp,
    /// ANNOUNCEd by a client that will send (a camera that pushes), not given by a server.
    pub published: bool,
    /// When the description was captured.
    pub time: CaptureTime,
}

/// Where a track's packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Transport {
    /// Unicast UDP.
    Udp {
        /// Where the media comes from.
        sender: IpAddr,
        /// Where it goes.
        receiver: IpAddr,
        /// Its RTP and RTCP ports at the sender, when said.
        sender_ports: Option<(u16, u16)>,
        /// Its RTP and RTCP ports at the receiver, when said.
        receiver_ports: Option<(u16, u16)>,
    },
    /// Multicast UDP.
    Multicast {
        /// The group; `None` when only the description or the network knows.
        group: Option<IpAddr>,
        /// RTP and RTCP ports of the group, when said.
        ports: Option<(u16, u16)>,
        /// Time to live.
        ttl: Option<u8>,
        /// Where the media comes from.
        sender: IpAddr,
    },
    /// In the RTSP connection itself.
    Interleaved {
        /// RTP's channel.
        rtp: u8,
        /// RTCP's channel.
        rtcp: u8,
    },
}

/// How well a set-up is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Evidence {
    /// The server granted it.
    Granted,
    /// Only the client's side of the connection is seen: it asked for this and went on to play.
    Offered,
}

/// A track's transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackSetUp {
    /// The end that answered.
    pub server: SocketAddr,
    /// The end that asked.
    pub client: SocketAddr,
    /// The URI that was set up; `None` when the request was not seen.
    pub control_uri: Option<String>,
    /// Which media of the description seen on this connection that is.
    pub media: Option<u16>,
    /// Where the packets go.
    pub transport: Transport,
    /// SRTP was agreed upon.
    pub secure: bool,
    /// The session's id.
    pub session: Option<String>,
    /// The session's time-out in seconds, when said.
    pub timeout_s: Option<u32>,
    /// The sender's SSRC, when said (and it may be wrong).
    pub ssrc: Option<Ssrc>,
    /// How well this is known.
    pub evidence: Evidence,
    /// The client sends, the server records.
    pub published: bool,
    /// When the response (or the offer) was captured.
    pub time: CaptureTime,
}

/// A PLAY or RECORD that was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Playing {
    /// The end that answered.
    pub server: SocketAddr,
    /// The request's URI, when seen.
    pub uri: Option<String>,
    /// The session's id.
    pub session: Option<String>,
    /// The Range that was granted, or else asked for, as written.
    pub range: Option<String>,
    /// The Scale that was granted, as written.
    pub scale: Option<String>,
    /// What RTP-Info says of each track.
    pub rtp_info: Vec<RtpInfo>,
    /// The client sends, the server records.
    pub published: bool,
    /// When the response (or request, without one) was captured.
    pub time: CaptureTime,
}

/// What RTP-Info says of a track. Not to be believed against the packets: some cameras always say 0 or 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtpInfo {
    /// The track's URI as written.
    pub uri: String,
    /// Which media of the description seen on this connection that is.
    pub media: Option<u16>,
    /// The first packet's sequence number.
    pub seq: Option<SequenceNumber>,
    /// The RTP time of the range's start.
    pub rtptime: Option<RtpTimestamp>,
}

/// A session at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAt {
    /// The end that answers.
    pub server: SocketAddr,
    /// The session's id, when said.
    pub session: Option<String>,
    /// When.
    pub time: CaptureTime,
}

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The session; `None` for all that were set up on the connection.
    pub session: Option<String>,
    /// Why.
    pub how: EndedHow,
    /// When.
    pub time: CaptureTime,
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndedHow {
    /// TEARDOWN was asked for.
    Teardown,
    /// The connection was closed.
    Closed,
    /// The connection was reset.
    Reset,
    /// The server says that it does not know the session (454).
    Unknown,
}
