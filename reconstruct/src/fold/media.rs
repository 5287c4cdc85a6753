//! An RTP packet on its way through the fold: its header and where its bytes are.

use crate::codec::{HEAD_LEN, Placed};
use crate::index::{Carrier, HeaderFields, MediaEntry, MediaFlags};
use crate::model::FlowId;
use crate::rtp::RtpPacket;
use crate::span::Piece;
use capture::{CaptureTime, ShardId, TapId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::net::SocketAddr;

/// An RTP packet without its payload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Media {
    /// When its last byte was captured.
    pub time: CaptureTime,
    /// The tap that captured its last piece.
    pub tap: TapId,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Sequence number as it stands in the header.
    pub seq: u16,
    /// RTP time stamp.
    pub timestamp: u32,
    /// Marker bit.
    pub marker: bool,
    /// Payload type.
    pub payload_type: u8,
    /// Bytes of the whole packet on the wire.
    pub len: u32,
    /// Bytes of its payload on the wire.
    pub payload_len: u32,
    /// Where its bytes are.
    pub pieces: SmallVec<[Piece; 2]>,
    /// The captured packets of the pieces; fewer when they are not known any more.
    pub carriers: SmallVec<[SavedCarrier; 2]>,
}

impl Media {
    /// The shard that holds its last byte.
    pub fn shard(&self) -> Option<ShardId> {
        self.pieces.last().map(|p| p.shard)
    }

    /// Its entry in the second level.
    pub fn entry(&self, ext: u64, placed: Placed) -> MediaEntry {
        let mut flags = MediaFlags::NONE;
        for (set, flag) in [
            (placed.au_start, MediaFlags::AU_START),
            (placed.clean, MediaFlags::CLEAN),
            (placed.parameter_sets, MediaFlags::PARAMETER_SETS),
        ] {
            if set {
                flags |= flag;
            }
        }
        MediaEntry {
            seq: ext,
            timestamp: self.timestamp,
            marker: self.marker,
            time: self.time,
            flags,
            len: self.pieces.iter().map(|p| p.len).sum(),
            pieces: self.pieces.clone(),
        }
    }

    /// From a parsed header and where the packet is.
    pub fn new(
        rtp: &RtpPacket<'_>,
        len: u32,
        (time, tap): (CaptureTime, TapId),
        pieces: SmallVec<[Piece; 2]>,
        carriers: SmallVec<[SavedCarrier; 2]>,
    ) -> Self {
        Self {
            time,
            tap,
            ssrc: rtp.ssrc.0,
            seq: rtp.sequence.0,
            timestamp: rtp.timestamp.0,
            marker: rtp.marker,
            payload_type: rtp.payload_type.get(),
            len,
            payload_len: rtp.payload_len as u32,
            pieces,
            carriers,
        }
    }
}

/// An RTP packet that has to wait, with as much of its payload as the codecs look at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Held {
    /// The packet.
    pub media: Media,
    /// Extended sequence number, once it is known.
    pub ext: u64,
    /// A packet with a higher number was captured before.
    pub late: bool,
    /// Live viewers have it already.
    pub published: bool,
    /// The payload's beginning.
    pub head: Vec<u8>,
}

impl Held {
    /// Copies what is needed of the payload.
    pub fn new(media: Media, ext: u64, payload: &[u8]) -> Self {
        Self {
            media,
            ext,
            late: false,
            published: false,
            head: payload[..payload.len().min(HEAD_LEN)].to_vec(),
        }
    }
}

/// What the second level has to know of a captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedCarrier {
    /// Where the transport payload begins in the record's data.
    pub payload_offset: u32,
    /// How much of it is in the shard.
    pub payload_captured: u32,
    /// What the header says.
    pub header: HeaderFields,
}

impl From<SavedCarrier> for Carrier {
    fn from(c: SavedCarrier) -> Self {
        Self { payload_offset: c.payload_offset, payload_captured: c.payload_captured, header: c.header }
    }
}

/// The flow that media comes in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlowFacts {
    /// Its number.
    pub id: FlowId,
    /// Sender.
    pub src: SocketAddr,
    /// Receiver.
    pub dst: SocketAddr,
    /// VLAN identifiers on it.
    pub vlans: SmallVec<[u16; 4]>,
}
