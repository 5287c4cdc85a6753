//! What footage is asked for and what it answers.

use crate::codec::{Codec, Kind};
use crate::index::{FlowId, IndexError, PacketEntry, SegmentId, StreamId};
use crate::model::{FlowKey, SegmentRow, StreamKey, Transport};
use capture::{CaptureTime, ReadError, ShardBytes, ShardId, StoreError};
use smallvec::SmallVec;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

pub use crate::model::GapRow as Gap;

/// An RTP packet, as it was captured.
#[derive(Clone, Debug)]
pub struct MediaPacket {
    /// When its last byte was captured, to the nanosecond.
    pub time: CaptureTime,
    /// Extended sequence number, within its segment.
    pub seq: u64,
    /// RTP time stamp.
    pub timestamp: u32,
    /// Marker bit.
    pub marker: bool,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Payload type.
    pub payload_type: u8,
    /// The segment that it is part of.
    pub segment: SegmentId,
    /// First packet of a clean point.
    pub clean: bool,
    /// Length in bytes, RTP header included.
    pub len: u32,
    /// The whole RTP packet, header included: views of the shard, in order.
    pub pieces: SmallVec<[ShardBytes; 2]>,
}

impl MediaPacket {
    /// Copies `buf.len()` bytes from `offset` on; false when the packet is not so long.
    pub fn copy_to(&self, offset: usize, buf: &mut [u8]) -> bool {
        copy_from(&self.pieces, offset, buf)
    }
}

/// Copies from `offset` of the pieces' bytes, one behind the other; false when they are not so long.
pub(super) fn copy_from(pieces: &[ShardBytes], mut offset: usize, buf: &mut [u8]) -> bool {
    let mut at = 0;
    for piece in pieces {
        let bytes: &[u8] = piece;
        let from = offset.min(bytes.len());
        let n = (bytes.len() - from).min(buf.len() - at);
        buf[at..at + n].copy_from_slice(&bytes[from..from + n]);
        at += n;
        offset -= from;
    }
    at == buf.len()
}

/// Where a cursor starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the clean point at or before the time; inside a gap, or when none is left before it, at the next one.
    CleanPointBefore,
    /// At the first packet at or after the time.
    Exact,
    /// For a viewer who follows the recording from the time on: at the last clean point of the session that had a packet last, if
    /// that was within [`LIVE_EDGE_NANOS`] before the time. Other packets than the stream's go on meanwhile (the
    /// receiver's acknowledgements alone do), so that the time is nearly always after the stream's last packet.
    LiveEdge,
}

/// How long a stream may be quiet and is still shown from its last clean point to whoever follows it: what some cameras
/// leave between two pictures at night.
pub const LIVE_EDGE_NANOS: i64 = 5_000_000_000;

/// Which streams are meant: all conditions that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// A stream's name, given name or number; or a camera's or presentation's name, which means all its tracks.
    pub name: Option<String>,
    /// A stream's number.
    pub id: Option<StreamId>,
    /// Where media or descriptions come from.
    pub source: Option<IpAddr>,
    /// What it is coded in.
    pub codec: Option<Codec>,
}

impl Selector {
    /// Everything that goes by `name`.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }
}

/// A stream, with what the retained shards have of it.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamInfo {
    /// Its number.
    pub id: StreamId,
    /// Its name: the given one, or else the one that was made from camera and track.
    pub name: String,
    /// The name that was made from camera and track; stays when another is given.
    pub own_name: String,
    /// Its camera's name.
    pub camera: String,
    /// Its camera's address.
    pub camera_address: Option<IpAddr>,
    /// Its camera's hardware address.
    pub camera_mac: Option<[u8; 6]>,
    /// Name under which all tracks of the same presentation are played together.
    pub presentation: String,
    /// The URI that was asked for.
    pub uri: Option<String>,
    /// What is carried.
    pub kind: Kind,
    /// Coding.
    pub codec: Option<Codec>,
    /// The ways it came.
    pub transports: Vec<Transport>,
    /// Whether the payload is encrypted.
    pub encrypted: bool,
    /// Where its packets came from.
    pub sources: Vec<SocketAddr>,
    /// Where its packets went to.
    pub destinations: Vec<SocketAddr>,
    /// VLAN identifiers that were seen on it.
    pub vlans: Vec<u16>,
    /// Synchronisation sources.
    pub ssrcs: Vec<u32>,
    /// RTP payload type of the last session.
    pub payload_type: u8,
    /// RTP clock rate.
    pub clock_rate: Option<NonZeroU32>,
    /// Audio channels.
    pub channels: Option<u8>,
    /// `fmtp` parameters as described.
    pub fmtp: Option<String>,
    /// The description's media block as the camera gave it.
    pub sdp_media: Option<String>,
    /// Parameter sets without start codes.
    pub parameter_sets: Vec<Vec<u8>>,
    /// First retained packet.
    pub first: Option<CaptureTime>,
    /// Last retained packet.
    pub last: Option<CaptureTime>,
    /// Distinct RTP packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Sequence numbers missing.
    pub lost: u64,
    /// Packets seen again.
    pub duplicates: u64,
    /// Packets out of order.
    pub reordered: u64,
    /// Access units.
    pub access_units: u64,
    /// Clean points.
    pub clean_points: u64,
    /// Sessions that carried it.
    pub sessions: u64,
    /// True when a description was seen.
    pub sdp: bool,
    /// What it is known as besides.
    pub aliases: Vec<StreamKey>,
}

/// A segment, with what the retained shards have of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Which it is.
    pub row: SegmentRow,
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
    /// Their bytes.
    pub bytes: u64,
    /// Sequence numbers missing.
    pub lost: u64,
    /// Packets seen again.
    pub duplicates: u64,
    /// Packets out of order.
    pub reordered: u64,
    /// Access units.
    pub access_units: u64,
    /// Clean points.
    pub clean_points: u64,
}

/// A sender report: the camera's clock against its RTP time and our capture time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcpMapping {
    /// When the report was captured.
    pub time: CaptureTime,
    /// RTP time stamp in the report.
    pub timestamp: u32,
    /// NTP time stamp in the report: seconds since 1900 in the upper half.
    pub ntp: u64,
}

impl RtcpMapping {
    /// What the camera's clock said when it sent the report (RFC 3550, section 4; eras as in RFC 4330, section 3). Nothing if that is no time
    /// of day: a camera without one sends 0 or the time since it was started.
    pub fn camera_time(&self) -> Option<CaptureTime> {
        const UNIX_EPOCH: i64 = 2_208_988_800;
        const ERA: i64 = 1 << 32;
        const TEN_YEARS_NANOS: u64 = 10 * 365 * 86_400 * 1_000_000_000;
        let seconds = (self.ntp >> 32).cast_signed() - UNIX_EPOCH;
        let nanos = (((self.ntp & 0xffff_ffff) * 1_000_000_000) >> 32).cast_signed();
        let times = [seconds, seconds + ERA].map(|s| CaptureTime::from_nanos(s * 1_000_000_000 + nanos));
        times.into_iter().find(|time| time.nanos_since(self.time).unsigned_abs() < TEN_YEARS_NANOS)
    }
}

/// Which packets are meant: all conditions that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketFilter {
    /// Packets of this stream's flows.
    pub stream: Option<StreamId>,
    /// From this time on (to the millisecond).
    pub from: Option<CaptureTime>,
    /// Up to this time (to the millisecond).
    pub to: Option<CaptureTime>,
    /// Sent by or to this address.
    pub address: Option<IpAddr>,
    /// Sent from or to this port.
    pub port: Option<u16>,
}

/// A first-level record with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPacket {
    /// The shard.
    pub shard: ShardId,
    /// The flow.
    pub flow: FlowId,
    /// Sender and receiver, when the flow's row is there.
    pub key: Option<std::sync::Arc<FlowKey>>,
    /// The record. Its time is in whole milliseconds.
    pub packet: PacketEntry,
}

/// Why footage can't be given.
#[derive(Debug, thiserror::Error)]
pub enum FootageError {
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A shard.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The index was made anew, and its numbers mean others.
    #[error("the index was made anew meanwhile: ask again")]
    Renumbered,
}
