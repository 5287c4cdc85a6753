//! Coded units out of RTP payloads, whole or not at all.
//!
//! Owns the reverse of each payload format that export needs. Packets go in in sequence order with a flag where some are
//! missing; whole NAL units or frames come out, byte for byte what the camera's encoder made.
//! Refuses broken units: what a gap, an end without a beginning or a contradiction spoils is dropped and counted.
//! Costs: one copy of each unit; at most [`MAX_UNIT`] bytes are held.

mod aac;
mod h264;
mod h265;
mod jpeg;
mod raw;

pub use aac::Aac;
pub use h264::H264;
pub use h265::H265;
pub use jpeg::Jpeg;
pub use raw::Raw;

use serde::{Deserialize, Serialize};

use super::Codec;
use crate::rtp::RtpTimestamp;
use crate::sdp::AacConfig;

/// Largest unit that is put together. A larger one is dropped and counted.
pub const MAX_UNIT: usize = 16 * 1024 * 1024;

/// One RTP packet as a depacketizer sees it.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// The payload, without header, extension and padding.
    pub payload: &'a [u8],
    /// The media timestamp.
    pub timestamp: RtpTimestamp,
    /// The marker bit.
    pub marker: bool,
    /// One or more packets before this one are missing.
    pub gap_before: bool,
}

/// A whole coded unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit<'a> {
    /// A NAL unit without start code, an ADTS frame, a JPEG picture, samples.
    pub bytes: &'a [u8],
    /// The timestamp of the packet with which it began.
    pub timestamp: RtpTimestamp,
}

/// Where units go.
pub trait Sink {
    /// The next unit.
    fn unit(&mut self, unit: Unit<'_>);
}

impl<F: FnMut(Unit<'_>)> Sink for F {
    fn unit(&mut self, unit: Unit<'_>) {
        self(unit);
    }
}

/// What became of the packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Packets that came in.
    pub packets: u64,
    /// Units that went out.
    pub units: u64,
    /// Units dropped because a part of them is missing or contradicts the payload format.
    pub broken_units: u64,
    /// Packets in a packing that is not supported (interleaved mode), dropped.
    pub unsupported_packets: u64,
    /// Units dropped because they exceed [`MAX_UNIT`].
    pub too_large: u64,
}

/// The reverse of one payload format.
pub trait Depacketizer {
    /// The next packet in sequence order.
    fn handle(&mut self, packet: Packet<'_>, sink: &mut dyn Sink);
    /// No packet follows: a unit that is not complete by now is dropped, one that is, given.
    fn finish(&mut self, sink: &mut dyn Sink);
    /// What became of the packets so far.
    fn counts(&self) -> Counts;
}

/// The depacketizer of a codec; `None` when the codec has none, or needs parameters that are not there.
pub fn depacketizer(codec: Codec, aac: Option<AacConfig>) -> Option<Box<dyn Depacketizer + Send>> {
    Some(match codec {
        Codec::H264 => Box::new(H264::default()),
        Codec::H265 => Box::new(H265::default()),
        Codec::Aac => Box::new(Aac::new(aac?)?),
        Codec::Jpeg => Box::new(Jpeg::default()),
        Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::G726 | Codec::Mpeg4 | Codec::Mp2t => {
            Box::new(Raw::default())
        }
        _ => return None,
    })
}

/// A unit that is being put together out of fragments, the same way for H.264 and H.265.
#[derive(Debug, Clone, Default)]
struct Assembly {
    bytes: Vec<u8>,
    timestamp: RtpTimestamp,
    /// Whether `bytes` is the beginning of a unit. When false, `bytes` is empty.
    open: bool,
    /// The timestamp of the unit that was given up last, until another begins: its remaining fragments are not a second loss.
    /// A hole over the end of one unit and the beginning of another of that timestamp counts once, too.
    given_up: Option<RtpTimestamp>,
    counts: Counts,
}

impl Assembly {
    fn give(&mut self, bytes: &[u8], timestamp: RtpTimestamp, sink: &mut dyn Sink) {
        self.counts.units += 1;
        self.given_up = None;
        sink.unit(Unit { bytes, timestamp });
    }

    /// What is open can't be completed any more.
    fn drop_open(&mut self) {
        if std::mem::take(&mut self.open) {
            self.counts.broken_units += 1;
            self.given_up = Some(self.timestamp);
        }
        self.bytes.clear();
    }

    /// The end of a unit that is not open: counted here, unless it was when it was given up.
    fn end_alone(&mut self, timestamp: RtpTimestamp) {
        if self.given_up.take() != Some(timestamp) {
            self.counts.broken_units += 1;
        }
    }

    fn begin(&mut self, header: &[u8], timestamp: RtpTimestamp) {
        self.drop_open();
        self.given_up = None;
        self.bytes.extend_from_slice(header);
        self.timestamp = timestamp;
        self.open = true;
    }

    /// Nothing happens when no unit is open: its beginning was lost and counted.
    fn append(&mut self, bytes: &[u8]) {
        if !self.open {
            return;
        }
        if self.bytes.len() + bytes.len() > MAX_UNIT {
            self.open = false;
            self.bytes = Vec::new();
            self.given_up = Some(self.timestamp);
            self.counts.too_large += 1;
            return;
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn end(&mut self, sink: &mut dyn Sink) {
        if std::mem::take(&mut self.open) {
            self.counts.units += 1;
            sink.unit(Unit { bytes: &self.bytes, timestamp: self.timestamp });
        }
        self.bytes.clear();
    }
}

/// Gives the units of an aggregation packet: a size of 16 bits before each.
fn split_aggregate(assembly: &mut Assembly, mut rest: &[u8], timestamp: RtpTimestamp, sink: &mut dyn Sink) {
    while let Some((size, after)) = rest.split_first_chunk::<2>() {
        let size = usize::from(u16::from_be_bytes(*size));
        match after.split_at_checked(size) {
            Some((unit, after)) => {
                // Zero padding at the end looks like units of no bytes.
                if !unit.is_empty() {
                    assembly.give(unit, timestamp, sink);
                }
                rest = after;
            }
            None => {
                assembly.counts.broken_units += 1;
                return;
            }
        }
    }
}
