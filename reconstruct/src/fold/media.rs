//! An RTP packet on its way through the fold: its header and where its bytes are.

use crate::codec::{HEAD_LEN, Placed};
use crate::index::{Carrier, MediaFlags, MediaView};
use crate::model::FlowId;
use crate::rtp::RtpPacket;
use crate::span::Piece;
use capture::{CaptureTime, ShardId, TapId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::net::SocketAddr;

/// What an RTP header says, and when and where the packet came.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct MediaHead {
    /// When its last byte was captured.
    pub time: CaptureTime,
    /// The tap that captured its last piece.
    pub tap: TapId,
    /// The flow that its pieces are in.
    pub flow: FlowId,
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
}

/// An RTP packet without its payload. It owns nothing: it goes through the fold as it is made, and is copied only to wait.
#[derive(Clone, Copy, Debug)]
pub struct Media<'a> {
    /// The header.
    pub head: MediaHead,
    /// Where its bytes are.
    pub pieces: &'a [Piece],
    /// The captured packets of the pieces; fewer when they are not known any more.
    pub carriers: &'a [Carrier],
}

impl<'a> Media<'a> {
    /// From a parsed header and where the packet is.
    #[inline]
    pub fn new(
        rtp: &RtpPacket<'_>,
        len: u32,
        (time, tap, flow): (CaptureTime, TapId, FlowId),
        pieces: &'a [Piece],
        carriers: &'a [Carrier],
    ) -> Self {
        let head = MediaHead {
            time,
            tap,
            flow,
            ssrc: rtp.ssrc.0,
            seq: rtp.sequence.0,
            timestamp: rtp.timestamp.0,
            marker: rtp.marker,
            payload_type: rtp.payload_type.get(),
            len,
            payload_len: rtp.payload_len as u32,
        };
        Self { head, pieces, carriers }
    }

    /// The shard that holds its last byte.
    pub fn shard(&self) -> Option<ShardId> {
        self.pieces.last().map(|p| p.shard)
    }

    /// Its entry in the second level.
    #[inline]
    pub fn entry(&self, ext: u64, placed: Placed) -> MediaView<'a> {
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
        let len = self.pieces.iter().map(|p| p.len).sum();
        if len < self.head.len {
            flags |= MediaFlags::CUT;
        }
        MediaView {
            seq: ext,
            timestamp: self.head.timestamp,
            marker: self.head.marker,
            time: self.head.time,
            flags,
            len,
            pieces: self.pieces,
        }
    }
}

/// An RTP packet that has to wait, with as much of its payload as the codecs look at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Held {
    /// The header.
    pub head: MediaHead,
    pieces: SmallVec<[Piece; 2]>,
    carriers: SmallVec<[Carrier; 2]>,
    /// Extended sequence number, once it is known.
    pub ext: u64,
    /// A packet with a higher number was captured before.
    pub late: bool,
    /// Live viewers have it already.
    pub published: bool,
    /// The payload's beginning.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
}

impl Held {
    /// Copies what is needed of the packet.
    pub fn new(media: &Media<'_>, ext: u64, payload: &[u8]) -> Self {
        Self {
            head: media.head,
            pieces: SmallVec::from_slice(media.pieces),
            carriers: SmallVec::from_slice(media.carriers),
            ext,
            late: false,
            published: false,
            payload: payload[..payload.len().min(HEAD_LEN)].to_vec(),
        }
    }

    /// The packet.
    pub fn media(&self) -> Media<'_> {
        Media { head: self.head, pieces: &self.pieces, carriers: &self.carriers }
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
