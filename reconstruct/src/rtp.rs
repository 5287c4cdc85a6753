//! RTP packets (RFC 3550 §5.1) and the numbers in them.
//!
//! Lenient on purpose: cameras send padding of length 0, and a capture may have cut the packet. Only what makes the header
//! itself meaningless is an error. Costs a few ns, copies nothing.

use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// Length of the header without CSRCs and extension.
pub const HEADER_LEN: usize = 12;

/// A sequence number as it stands in a packet: wraps after 65535.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SequenceNumber(pub u16);

impl SequenceNumber {
    /// The number that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// Signed steps from `earlier` to `self`, the shorter way round.
    pub const fn steps_since(self, earlier: Self) -> i16 {
        self.0.wrapping_sub(earlier.0) as i16
    }
}

/// A sequence number that counts on where the 16-bit one wraps. Its low 16 bits are the packet's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExtendedSequence(pub u64);

impl ExtendedSequence {
    /// The number as it stands in a packet.
    pub const fn wrapped(self) -> SequenceNumber {
        SequenceNumber(self.0 as u16)
    }

    /// The number `steps` further on.
    #[must_use]
    pub const fn plus(self, steps: u64) -> Self {
        Self(self.0.saturating_add(steps))
    }
}

/// A media timestamp in units of the clock rate; wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RtpTimestamp(pub u32);

impl RtpTimestamp {
    /// Signed units from `earlier` to `self`, the shorter way round.
    pub const fn units_since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

/// Synchronisation source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ssrc(pub u32);

impl fmt::Display for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// Payload type, 0 to 127.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct PayloadType(u8);

impl PayloadType {
    /// `None` above 127.
    pub const fn new(value: u8) -> Option<Self> {
        if value < 128 { Some(Self(value)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Whether the number has no fixed meaning (RFC 3551 §6).
    pub const fn is_dynamic(self) -> bool {
        self.0 >= 96
    }
}

impl TryFrom<u8> for PayloadType {
    type Error = PayloadTypeOutOfRange;

    fn try_from(value: u8) -> Result<Self, Self::Error> {
        Self::new(value).ok_or(PayloadTypeOutOfRange(value))
    }
}

impl From<PayloadType> for u8 {
    fn from(value: PayloadType) -> Self {
        value.0
    }
}

/// A payload type has 7 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("payload type {0} is above 127")]
pub struct PayloadTypeOutOfRange(pub u8);

/// A 64-bit NTP timestamp: seconds since 1900 and a fraction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NtpTimestamp(pub u64);

/// Seconds from 1900 to 1970 (RFC 868).
const NTP_TO_UNIX_SECONDS: i64 = 2_208_988_800;

impl NtpTimestamp {
    /// Nanoseconds since the Unix epoch; `None` for 0, which means "no clock". Seconds below 2^31 are of the era that
    /// begins in 2036 (RFC 4330 §3).
    pub fn unix_nanos(self) -> Option<i64> {
        if self.0 == 0 {
            return None;
        }
        let seconds = (self.0 >> 32) as i64;
        let era = if seconds < 1 << 31 { 1 << 32 } else { 0 };
        let nanos = ((self.0 & 0xffff_ffff) * 1_000_000_000) >> 32;
        Some((seconds + era - NTP_TO_UNIX_SECONDS) * 1_000_000_000 + nanos as i64)
    }
}

/// A header extension (RFC 3550 §5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Defined by profile; 0xABAC is ONVIF replay, 0xBEDE one-byte elements (RFC 8285).
    pub profile: u16,
    /// As much of the content as was captured.
    pub data: &'a [u8],
}

/// An RTP packet's header, and where its payload lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// Marker bit.
    pub marker: bool,
    /// Payload type.
    pub payload_type: PayloadType,
    /// Sequence number.
    pub sequence: SequenceNumber,
    /// Media timestamp.
    pub timestamp: RtpTimestamp,
    /// Synchronisation source.
    pub ssrc: Ssrc,
    /// How many contributing sources are listed.
    pub csrc_count: u8,
    /// The header extension.
    pub extension: Option<Extension<'a>>,
    /// Bytes of header: fixed part, CSRCs and extension.
    pub header_len: usize,
    /// Bytes of payload that were sent, padding left out.
    pub payload_len: usize,
    /// Bytes of padding; 0 where the last byte was not captured or makes no sense.
    pub padding_len: usize,
    /// What of the payload is there.
    pub payload: &'a [u8],
}

/// Why bytes are no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RtpError {
    /// Less than the 12 bytes of a header.
    #[error("RTP packet of {0} bytes is shorter than its header")]
    Short(usize),
    /// A version other than 2.
    #[error("RTP version {0}, not 2")]
    Version(u8),
    /// CSRCs and extension reach beyond the packet.
    #[error("RTP header of {header_len} bytes in a packet of {len}")]
    HeaderTooLong {
        /// What the header claims.
        header_len: usize,
        /// What was sent.
        len: usize,
    },
}

impl<'a> RtpPacket<'a> {
    /// Parses the beginning of a packet of `wire_len` bytes, of which `present` were captured (or are at hand).
    #[inline]
    pub fn parse(present: &'a [u8], wire_len: usize) -> Result<Self, RtpError> {
        let wire_len = wire_len.max(present.len());
        let Some(fixed) = present.first_chunk::<HEADER_LEN>() else {
            return Err(RtpError::Short(present.len()));
        };
        let version = fixed[0] >> 6;
        if version != 2 {
            return Err(RtpError::Version(version));
        }
        let csrc_count = fixed[0] & 0x0f;
        let mut header_len = HEADER_LEN + 4 * usize::from(csrc_count);
        let mut extension = None;
        if fixed[0] & 0x10 != 0 {
            match present.get(header_len..header_len + 4) {
                Some(head) => {
                    let begin = header_len + 4;
                    header_len = begin + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
                    let data = present.get(begin..header_len.min(present.len())).unwrap_or(&[]);
                    extension = Some(Extension { profile: u16::from_be_bytes([head[0], head[1]]), data });
                }
                None => header_len += 4,
            }
        }
        if header_len > wire_len {
            return Err(RtpError::HeaderTooLong { header_len, len: wire_len });
        }
        let mut padding_len = 0;
        if fixed[0] & 0x20 != 0 && present.len() == wire_len {
            // A padding length of 0, or one that reaches into the header, is a camera's mistake: take it for payload.
            let last = usize::from(present[wire_len - 1]);
            padding_len = if last <= wire_len - header_len { last } else { 0 };
        }
        let payload_end = wire_len - padding_len;
        Ok(Self {
            marker: fixed[1] & 0x80 != 0,
            payload_type: PayloadType(fixed[1] & 0x7f),
            sequence: SequenceNumber(u16::from_be_bytes([fixed[2], fixed[3]])),
            timestamp: RtpTimestamp(u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]])),
            ssrc: Ssrc(u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]])),
            csrc_count,
            extension,
            header_len,
            payload_len: payload_end - header_len,
            padding_len,
            payload: present.get(header_len..payload_end.min(present.len())).unwrap_or(&[]),
        })
    }
}

/// What a static payload type stands for (RFC 3551 §6): encoding name, clock rate, channels.
pub const fn static_payload_type(pt: PayloadType) -> Option<(&'static str, u32, Option<u8>)> {
    Some(match pt.0 {
        0 => ("PCMU", 8000, Some(1)),
        3 => ("GSM", 8000, Some(1)),
        4 => ("G723", 8000, Some(1)),
        5 => ("DVI4", 8000, Some(1)),
        6 => ("DVI4", 16000, Some(1)),
        7 => ("LPC", 8000, Some(1)),
        8 => ("PCMA", 8000, Some(1)),
        9 => ("G722", 8000, Some(1)),
        10 => ("L16", 44100, Some(2)),
        11 => ("L16", 44100, Some(1)),
        12 => ("QCELP", 8000, Some(1)),
        13 => ("CN", 8000, Some(1)),
        14 => ("MPA", 90000, None),
        15 => ("G728", 8000, Some(1)),
        16 => ("DVI4", 11025, Some(1)),
        17 => ("DVI4", 22050, Some(1)),
        18 => ("G729", 8000, Some(1)),
        25 => ("CelB", 90000, None),
        26 => ("JPEG", 90000, None),
        28 => ("nv", 90000, None),
        31 => ("H261", 90000, None),
        32 => ("MPV", 90000, None),
        33 => ("MP2T", 90000, None),
        34 => ("H263", 90000, None),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut p = vec![first, 0xe0, 0x12, 0x34, 0, 0, 0, 9, 0xde, 0xad, 0xbe, 0xef];
        p.extend_from_slice(rest);
        p
    }

    #[test]
    fn fields_and_payload() {
        let p = packet(0x80, b"payload");
        let rtp = RtpPacket::parse(&p, p.len()).unwrap();
        assert!(rtp.marker);
        assert_eq!((rtp.payload_type.get(), rtp.sequence.0, rtp.timestamp.0), (96, 0x1234, 9));
        assert_eq!((rtp.ssrc, rtp.payload), (Ssrc(0xdead_beef), &b"payload"[..]));
    }

    #[test]
    fn padding_of_zero_and_of_nonsense_is_payload() {
        for last in [0, 200] {
            let p = packet(0xa0, &[1, 2, last]);
            let rtp = RtpPacket::parse(&p, p.len()).unwrap();
            assert_eq!((rtp.padding_len, rtp.payload_len), (0, 3));
        }
        let p = packet(0xa0, &[1, 2, 2]);
        assert_eq!(RtpPacket::parse(&p, p.len()).unwrap().payload, &[1]);
    }

    #[test]
    fn cut_packet_keeps_its_length() {
        let p = packet(0xb0, &[0xab, 0xac, 0, 3, 1, 2]);
        let rtp = RtpPacket::parse(&p, 100).unwrap();
        assert_eq!((rtp.header_len, rtp.payload_len, rtp.payload.len()), (28, 72, 0));
        assert_eq!(rtp.extension.unwrap(), Extension { profile: 0xabac, data: &[1, 2] });
    }

    #[test]
    fn header_beyond_the_packet_is_an_error() {
        let p = packet(0x8f, &[0; 4]);
        assert_eq!(RtpPacket::parse(&p, p.len()), Err(RtpError::HeaderTooLong { header_len: 72, len: 16 }));
        assert_eq!(RtpPacket::parse(&p[..11], 11), Err(RtpError::Short(11)));
        assert_eq!(RtpPacket::parse(&packet(0x40, &[]), 12), Err(RtpError::Version(1)));
    }

    #[test]
    fn ntp_eras() {
        assert_eq!(NtpTimestamp(0).unix_nanos(), None);
        let half = NtpTimestamp((2_208_988_800 << 32) | (1 << 31));
        assert_eq!(half.unix_nanos(), Some(500_000_000));
        let era1 = NtpTimestamp(1 << 32);
        assert_eq!(era1.unix_nanos(), Some((4_294_967_296 - 2_208_988_800 + 1) * 1_000_000_000));
    }

    proptest! {
        /// Where rtp-rs accepts a packet, we read the same from it.
        #[test]
        fn agrees_with_rtp_rs(mut bytes in proptest::collection::vec(any::<u8>(), 12..200), words in 0u8..8) {
            bytes[0] = 0x80 | (bytes[0] & 0x3f);
            let ext = 12 + 4 * usize::from(bytes[0] & 0x0f);
            if let Some(len) = bytes.get_mut(ext + 2..ext + 4) {
                len.copy_from_slice(&[0, words]);
            }
            if let Ok(oracle) = rtp_rs::RtpReader::new(&bytes) {
                let rtp = RtpPacket::parse(&bytes, bytes.len()).unwrap();
                prop_assert_eq!(rtp.sequence.0, u16::from(oracle.sequence_number()));
                prop_assert_eq!(rtp.timestamp.0, oracle.timestamp());
                prop_assert_eq!(rtp.ssrc.0, oracle.ssrc());
                prop_assert_eq!(rtp.marker, oracle.mark());
                prop_assert_eq!(rtp.payload_type.get(), oracle.payload_type());
                prop_assert_eq!(rtp.csrc_count, oracle.csrc_count());
                prop_assert_eq!(rtp.payload, oracle.payload());
                prop_assert_eq!(rtp.extension.map(|e| (e.profile, e.data)), oracle.extension());
            }
        }

        #[test]
        fn any_bytes_any_cut(bytes in proptest::collection::vec(any::<u8>(), 0..80), more in 0usize..2000) {
            if let Ok(rtp) = RtpPacket::parse(&bytes, bytes.len() + more) {
                prop_assert_eq!(rtp.header_len + rtp.payload_len + rtp.padding_len, bytes.len() + more);
                prop_assert!(rtp.payload.len() <= rtp.payload_len);
            }
        }
    }
}
