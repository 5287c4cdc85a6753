//! What replay needs of the footage: find tracks, read a track's packets in order, follow a track live.
//!
//! Owns the seam between the store and the server, and nothing behind it: tests and benches drive the server with
//! synthetic packets through the same trait that [`reconstruct::footage::Footage`] implements. Everything but
//! [`LivePackets::poll_next`] may block on the disk and is called on the blocking pool only.

use bytes::Bytes;
use capture::{CaptureTime, ShardBytes};
use smallvec::SmallVec;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::task::{Context, Poll};

/// A stream as the source numbers it; opaque to replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u32);

/// What a request asks for: every condition that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// A stream's or camera's name (or a stream's id in words), as it stands in the URL's path.
    pub name: Option<String>,
    /// A stream's id.
    pub id: Option<String>,
    /// The address that the packets came from.
    pub source: Option<IpAddr>,
    /// A codec as `tapdeck streams` spells it: `h264`, `pcmu`.
    pub codec: Option<String>,
}

/// One track of a presentation: a stream, and what has to be said of it in SDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackInfo {
    /// The stream.
    pub id: TrackId,
    /// The stream's stable name.
    pub name: String,
    /// Its camera's name.
    pub camera: String,
    /// `video`, `audio`, `application`.
    pub media: MediaKind,
    /// The encoding name of RFC 4855's registry (`H264`, `PCMU`, `MPEG4-GENERIC`), where it is known.
    pub encoding: Option<String>,
    /// The payload type that the packets carry.
    pub payload_type: u8,
    /// RTP clock rate in Hz, where it is known.
    pub clock_rate: Option<NonZeroU32>,
    /// Audio channels, where they are known.
    pub channels: Option<u8>,
    /// The value of `a=fmtp` behind the payload type, where it was seen.
    pub fmtp: Option<String>,
    /// The `m=` block as the camera gave it, where its description was seen.
    pub sdp_media: Option<String>,
    /// Parameter sets found in the packets (NAL units without start codes), for a description that must be built.
    pub parameter_sets: Vec<Vec<u8>>,
    /// Capture time of the first packet.
    pub first: CaptureTime,
    /// Capture time of the last packet.
    pub last: CaptureTime,
    /// The payload can't be understood (SRTP): it can be carried, and is described as the camera did.
    pub encrypted: bool,
}

/// The media of an `m=` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// Has clean points: playing starts at one.
    Video,
    /// Starts at any packet.
    Audio,
    /// ONVIF metadata and the like; starts at any packet.
    Application,
}

impl MediaKind {
    /// As in an `m=` line (RFC 8866, section 8.2.2).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Application => "application",
        }
    }
}

/// Where a reader starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At the clean point at or before the time; without one, at the next one after it.
    CleanPointBefore,
    /// At the first packet at or after the time.
    Exact,
    /// At the last clean point before the time, if the track is being recorded: what a live viewer sees first.
    LiveEdge,
}

/// Part of an RTP packet: a view of a shard's mapping, or bytes of our own.
#[derive(Clone, Debug)]
pub struct Payload(Repr);

#[derive(Clone, Debug)]
enum Repr {
    Owned(Bytes),
    Shard(ShardBytes),
}

impl Payload {
    /// A copy that holds on to nothing of the recorder's. A packet that waits for a client may not keep the tap from
    /// using its staging memory again.
    pub fn detached(&self) -> Self {
        match &self.0 {
            Repr::Owned(_) => self.clone(),
            Repr::Shard(view) => Self(Repr::Owned(Bytes::copy_from_slice(view))),
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self(Repr::Owned(bytes))
    }
}

impl From<ShardBytes> for Payload {
    fn from(view: ShardBytes) -> Self {
        Self(Repr::Shard(view))
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Repr::Owned(b) => b,
            Repr::Shard(view) => view,
        }
    }
}

/// One RTP packet of a track, as it was captured.
#[derive(Clone, Debug)]
pub struct Packet {
    /// When the tap saw it (its last byte, where TCP carried it).
    pub time: CaptureTime,
    /// The unbroken interval that it belongs to: numbering is the camera's inside, ours between.
    pub segment: u32,
    /// Extended sequence number, comparable within the segment.
    pub seq: u64,
    /// RTP timestamp as the camera set it.
    pub timestamp: u32,
    /// Marker bit.
    pub marker: bool,
    /// Payload type as the camera set it.
    pub payload_type: u8,
    /// The first packet of a clean point.
    pub clean: bool,
    /// The whole RTP packet, header included, in order.
    pub pieces: SmallVec<[Payload; 2]>,
}

impl Packet {
    /// Length of the whole RTP packet in bytes.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|p| p.as_ref().len()).sum()
    }

    /// No bytes at all: such a packet is not sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same packet, free of the recorder's memory.
    pub fn detach(&mut self) {
        for piece in &mut self.pieces {
            *piece = piece.detached();
        }
    }
}

/// Why the source could not answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The store or index could not be read.
    #[error("the store could not be read: {0}")]
    Store(Box<dyn std::error::Error + Send + Sync>),
    /// Retention deleted it in the meantime.
    #[error("this footage has been deleted by retention in the meantime")]
    Gone,
}

/// Reads one track's packets in sequence order.
pub trait PacketReader: Send {
    /// The next packet, `None` at the end of the range. Blocks on the disk.
    fn next(&mut self) -> Result<Option<Packet>, SourceError>;
}

/// One thing that a live subscription delivers.
#[derive(Debug)]
pub enum LiveItem {
    /// A packet.
    Packet(Packet),
    /// So many packets were left out because they were not fetched in time; the next one is a clean point.
    Lagged(u64),
}

/// A track's packets from now on.
pub trait LivePackets: Send {
    /// Everything captured up to here is found by [`Source::reader`], everything later comes here.
    fn handoff(&self) -> CaptureTime;
    /// The next item; `None` when the recorder ends. Never blocks; may be dropped and asked again.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<LiveItem>>;
}

/// The footage, as replay sees it.
pub trait Source: Send + Sync + 'static {
    /// The tracks that a request asks for, in the order in which they are described. Empty when nothing matches.
    fn find(&self, selection: &Selection) -> Result<Vec<TrackInfo>, SourceError>;
    /// A reader of a track from `from` up to and including `to`.
    fn reader(
        &self,
        track: TrackId,
        from: CaptureTime,
        to: CaptureTime,
        start: StartAt,
    ) -> Result<Box<dyn PacketReader>, SourceError>;
    /// True inside a recorder: tracks can be followed.
    fn records(&self) -> bool;
    /// Follows a track; `None` when nobody records. At most `capacity` packets wait for us.
    fn subscribe(&self, track: TrackId, capacity: usize)
    -> Result<Option<Box<dyn LivePackets>>, SourceError>;
}
