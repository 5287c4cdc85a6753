//! What the fold finds out, in the shape in which it is kept.
//!
//! Rows that depend on packets ([`SegmentPart`], [`GapRow`], [`ExchangeRow`], [`RtcpRow`]) belong to one shard and go
//! with it; rows that say who is who ([`StreamRow`], [`SessionRow`], [`SegmentRow`], [`FlowRow`]) stay as long as a
//! retained shard refers to them, and carry no counters that retention would have to change.

use super::{FlowId, SegmentId, SessionId, StreamId};
use crate::codec::{Codec, Kind};
use capture::{CaptureTime, ShardId, SourceId, TapId};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

/// How media came over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Unicast UDP.
    Udp,
    /// UDP to a multicast group.
    Multicast,
    /// Interleaved in the RTSP connection (RFC 2326 section 10.12).
    Tcp,
    /// Interleaved in an RTSP connection that is tunnelled through HTTP.
    Http,
}

impl Transport {
    /// The name shown to users.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Multicast => "multicast",
            Self::Tcp => "tcp",
            Self::Http => "http",
        }
    }
}

/// What makes two sessions' tracks the same stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StreamKey {
    /// Described by RTSP: camera, control URI (see [`crate::rtsp::NormalUri`]), media.
    Described {
        /// The address that media and descriptions come from.
        camera: IpAddr,
        /// Normalised control URI of the media.
        uri: String,
        /// The media's kind.
        kind: Kind,
    },
    /// Nothing but the media itself was seen.
    Inferred {
        /// The address that media comes from.
        camera: IpAddr,
        /// Kind, as inferred.
        kind: Kind,
        /// Codec, as inferred.
        codec: Option<Codec>,
        /// The source's transport port.
        port: u16,
        /// Channel of interleaved RTP.
        channel: Option<u8>,
    },
}

impl StreamKey {
    /// The camera's address.
    pub const fn camera(&self) -> IpAddr {
        match self {
            Self::Described { camera, .. } | Self::Inferred { camera, .. } => *camera,
        }
    }
}

/// A stream: identity and description. Counters come from its [`SegmentPart`]s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRow {
    /// Its number.
    pub id: StreamId,
    /// What it was first known as. Never changes.
    pub key: StreamKey,
    /// What it became known as later.
    pub aliases: Vec<StreamKey>,
    /// Stable name, unique in the index. A name given by the user is in the journal and wins.
    pub name: String,
    /// Name of the camera: its address.
    pub camera: String,
    /// Name under which all tracks of the same presentation are played together.
    pub presentation: String,
    /// The camera's hardware address, if the frames come from its own network.
    pub camera_mac: Option<[u8; 6]>,
    /// What is carried.
    pub kind: Kind,
    /// Coding, when known.
    pub codec: Option<Codec>,
    /// Whether the payload is encrypted (SRTP).
    pub encrypted: bool,
    /// The ways it came, in the order of discovery.
    pub transports: Vec<Transport>,
    /// RTP payload type of the last session.
    pub payload_type: u8,
    /// RTP clock rate.
    pub clock_rate: Option<NonZeroU32>,
    /// Audio channels.
    pub channels: Option<u8>,
    /// `fmtp` parameters as the description gave them.
    pub fmtp: Option<String>,
    /// The description's media block (from `m=` to before the next), as the camera gave it.
    pub sdp_media: Option<String>,
    /// The URI that was asked for, as the client wrote it.
    pub uri: Option<String>,
    /// Parameter sets (SPS, PPS, VPS), without start codes: for a description that must be built.
    pub parameter_sets: Vec<Vec<u8>>,
    /// True when a description was seen, false when the stream was inferred from its packets.
    pub sdp: bool,
    /// When its first packet was captured.
    pub discovered: CaptureTime,
}

impl StreamRow {
    /// All that it is known as.
    pub fn keys(&self) -> impl Iterator<Item = &StreamKey> {
        std::iter::once(&self.key).chain(&self.aliases)
    }
}

/// One media of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackRow {
    /// The stream it carries; `None` while no media was seen.
    pub stream: Option<StreamId>,
    /// Normalised control URI.
    pub uri: String,
    /// Kind of media.
    pub kind: Kind,
    /// How its packets come.
    pub transport: Transport,
    /// Where RTP comes from.
    pub source: Option<SocketAddr>,
    /// Where RTP goes to.
    pub destination: Option<SocketAddr>,
    /// Interleaved channels of RTP and RTCP.
    pub channels: Option<(u8, u8)>,
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionEnd {
    /// TEARDOWN was seen.
    Teardown,
    /// The connection was closed (FIN).
    Closed,
    /// The connection was reset.
    Reset,
    /// RTCP BYE.
    Bye,
    /// Nothing was seen of it for the idle time-out.
    Idle,
    /// The source's last packet was folded.
    SourceEnd,
}

/// One RTSP dialogue between a camera and a client, or media seen without one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Its number.
    pub id: SessionId,
    /// The source it was captured in.
    pub source: SourceId,
    /// The camera's end of the dialogue (or where media comes from).
    pub camera: SocketAddr,
    /// The VMS's or client's end.
    pub client: SocketAddr,
    /// What the client says it is (`User-Agent`).
    pub client_agent: Option<String>,
    /// What the camera says it is (`Server`).
    pub server_agent: Option<String>,
    /// `Session` id, without parameters.
    pub rtsp_id: Option<String>,
    /// The SDP as the camera gave it.
    pub description: Option<String>,
    /// `Content-Base`, or the URI that was described.
    pub base: Option<String>,
    /// Its tracks.
    pub tracks: Vec<TrackRow>,
    /// First packet.
    pub began: CaptureTime,
    /// End, when it is over.
    pub ended: Option<(CaptureTime, SessionEnd)>,
    /// False when there is no RTSP dialogue.
    pub dialogue: bool,
}

/// One direction of a 5-tuple. VLAN tags and the tap are no part of it: mirror ports that copy a packet twice often tag only
/// one of the copies, and both are the same flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FlowKey {
    /// Sender. Unspecified for packets without IP.
    pub src: IpAddr,
    /// Receiver. Unspecified for packets without IP.
    pub dst: IpAddr,
    /// Sender's port, 0 without ports.
    pub sport: u16,
    /// Receiver's port, 0 without ports.
    pub dport: u16,
    /// IP protocol number. 255 (reserved) for packets that were not understood as IP.
    pub proto: u8,
}

/// What a flow is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowKind {
    /// Not told yet, or never.
    #[default]
    Unknown,
    /// RTSP from a client: camera commands.
    Commands,
    /// RTSP from a camera: answers, descriptions, and media if interleaved.
    Answers,
    /// RTP.
    Media,
    /// RTCP.
    Control,
    /// Known to be neither RTSP, RTP nor RTCP.
    Other,
}

/// A flow's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRow {
    /// Its number.
    pub id: FlowId,
    /// Who sends to whom.
    pub key: FlowKey,
    /// The taps that saw it.
    pub taps: Vec<TapId>,
    /// VLAN identifiers on its packets.
    pub vlans: Vec<u16>,
    /// What it is.
    pub kind: FlowKind,
    /// First packet.
    pub began: CaptureTime,
}

/// A segment: which packets, of which session, for which stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRow {
    /// Its number.
    pub id: SegmentId,
    /// The stream that it is part of.
    pub stream: StreamId,
    /// The session that it came in.
    pub session: SessionId,
    /// Track of the session.
    pub track: u16,
    /// Synchronisation source.
    pub ssrc: u32,
    /// RTP payload type.
    pub payload_type: u8,
    /// RTP clock rate.
    pub clock_rate: Option<NonZeroU32>,
    /// The flow that its packets are in.
    pub flow: FlowId,
    /// Sender of that flow.
    pub src: SocketAddr,
    /// Receiver of that flow.
    pub dst: SocketAddr,
    /// VLAN identifiers on that flow's packets.
    pub vlans: Vec<u16>,
    /// How its packets came.
    pub transport: Transport,
    /// The source (recorder run or file) that it was captured in.
    pub source: SourceId,
    /// First packet.
    pub began: CaptureTime,
}

/// What one shard holds of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentPart {
    /// The segment.
    pub segment: SegmentId,
    /// Its stream.
    pub stream: StreamId,
    /// Its session.
    pub session: SessionId,
    /// The shard in which the packets end.
    pub shard: ShardId,
    /// Earliest capture time.
    pub first: CaptureTime,
    /// Latest capture time.
    pub last: CaptureTime,
    /// Lowest extended sequence number.
    pub first_seq: u64,
    /// Highest extended sequence number.
    pub last_seq: u64,
    /// Distinct RTP packets.
    pub packets: u64,
    /// Bytes of them, RTP headers included.
    pub bytes: u64,
    /// Sequence numbers missing.
    pub lost: u64,
    /// Packets seen again.
    pub duplicates: u64,
    /// Packets that came after one with a higher sequence number.
    pub reordered: u64,
    /// Access units that begin here.
    pub access_units: u64,
    /// Clean points that begin here.
    pub clean_points: u64,
}

impl SegmentPart {
    /// Nothing yet.
    pub const fn new(segment: SegmentId, stream: StreamId, session: SessionId, shard: ShardId) -> Self {
        Self {
            segment,
            stream,
            session,
            shard,
            first: CaptureTime::MAX,
            last: CaptureTime::MIN,
            first_seq: u64::MAX,
            last_seq: 0,
            packets: 0,
            bytes: 0,
            lost: 0,
            duplicates: 0,
            reordered: 0,
            access_units: 0,
            clean_points: 0,
        }
    }

    /// Whether nothing was counted.
    pub const fn is_empty(&self) -> bool {
        self.packets == 0 && self.duplicates == 0 && self.lost == 0
    }
}

/// Who lost the packets of a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GapCause {
    /// No evidence for any of the others.
    #[default]
    Undetermined,
    /// The camera never sent them.
    Camera,
    /// The network lost them before the mirror port.
    Network,
    /// The receiver acknowledged them: only the mirror port (or tap) lost them.
    Mirror,
    /// Our own drop counters rose in that time, or nobody recorded.
    Recorder,
}

impl GapCause {
    /// The name shown to users.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undetermined => "undetermined",
            Self::Camera => "camera",
            Self::Network => "network",
            Self::Mirror => "mirror",
            Self::Recorder => "recorder",
        }
    }
}

/// What proves a gap's cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GapEvidence {
    /// The receiver acknowledged bytes that the tap never saw.
    TcpAcknowledged {
        /// How many.
        bytes: u64,
    },
    /// Packets that the recorder counted as dropped while the gap arose.
    Drops {
        /// The tap that dropped.
        tap: TapId,
        /// How many.
        packets: u64,
    },
    /// The interface was away while the gap arose.
    InterfaceAway {
        /// Its tap.
        tap: TapId,
    },
    /// They lie between two recordings of one session: the recorder was started anew, or one of several files ended.
    BetweenRecordings,
}

/// A hole in a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapRow {
    /// The segment.
    pub segment: SegmentId,
    /// Its stream.
    pub stream: StreamId,
    /// The shard in which the packet after the hole lies.
    pub shard: ShardId,
    /// First extended sequence number that is missing.
    pub first_seq: u64,
    /// How many are missing.
    pub packets: u64,
    /// Capture time of the packet before.
    pub from: CaptureTime,
    /// Capture time of the packet after.
    pub to: CaptureTime,
    /// Who lost them.
    pub cause: GapCause,
    /// Why we say so.
    pub evidence: Option<GapEvidence>,
}

/// An RTSP request or response, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeRow {
    /// The session.
    pub session: SessionId,
    /// When its last byte was captured.
    pub time: CaptureTime,
    /// True from client to camera.
    pub from_client: bool,
    /// The message as it was on the wire, header and body.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// A sender report: RTP time against the camera's NTP time against capture time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtcpRow {
    /// The segment.
    pub segment: SegmentId,
    /// Its stream.
    pub stream: StreamId,
    /// When the report was captured.
    pub time: CaptureTime,
    /// RTP time stamp in the report.
    pub timestamp: u32,
    /// NTP time stamp (RFC 5905 section 6): seconds since 1900 in the upper half.
    pub ntp: u64,
}
