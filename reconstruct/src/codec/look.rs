//! What one RTP payload says at a glance.
//!
//! Owns [`Look`] and the choice of the codec's reader. Refuses to remember anything: what takes several packets is in
//! [`super::AccessUnits`].

use std::ops::Range;

use smallvec::SmallVec;

use super::{Codec, Kind, h264, h265, other};

/// NAL units of one packet that are looked at; what a larger aggregate holds beyond is passed over.
pub(super) const MAX_NALS: usize = 64;

/// What one RTP payload says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// The beginning of a picture (or sound) that can be decoded without any before it, is in here.
    pub clean: bool,
    /// The beginning of a sequence parameter set (H.264 SPS, H.265 VPS or SPS), with which a clean point is opened.
    pub opens: bool,
    /// Coded picture or sound data.
    pub vcl: bool,
    /// A unit begins here that can only stand before an access unit's pictures (delimiter, parameter set, SEI).
    pub prefix: bool,
    /// Whether the slice that begins here is the first of its picture. `None` when none begins or it can't be told.
    pub first_slice: Option<bool>,
    /// A recovery point SEI: decoding can begin here although there is no IDR picture.
    pub recovery: bool,
    /// The first unit begins in this packet (and is not a fragment's continuation).
    pub starts_unit: bool,
    /// The last unit ends in this packet.
    pub ends_unit: bool,
    /// The payload contradicts its codec's payload format.
    pub malformed: bool,
    /// Whole parameter sets, as ranges of the payload, NAL header included. Only those that lie in what was shown.
    pub parameter_sets: SmallVec<[Range<u32>; 3]>,
}

impl Look {
    pub(super) fn malformed() -> Look {
        Look { malformed: true, ..Look::default() }
    }

    /// Looks at a payload as [`look`] does; nothing may have been noted yet. It stays where it is: copied from where its flags were set one by one, it has to
    /// wait until all of them have arrived there.
    #[inline]
    pub fn note(&mut self, codec: Option<Codec>, head: &[u8], payload_len: usize) {
        match codec {
            // Some cameras send empty packets to keep a NAT open.
            _ if head.is_empty() => {}
            Some(Codec::H264) => h264::look(self, head, payload_len),
            Some(Codec::H265) => h265::look(self, head, payload_len),
            Some(Codec::Jpeg) => *self = other::jpeg(head),
            Some(Codec::Mpeg4) => *self = other::mpeg4(head),
            Some(Codec::Mp2t) => *self = other::mp2t(head),
            Some(Codec::Av1) => *self = other::av1(head),
            Some(codec) => *self = Look::whole(matches!(codec.kind(), Some(Kind::Audio | Kind::Metadata))),
            None => *self = Look::whole(false),
        }
    }

    /// Every packet is a whole unit and stands for itself.
    pub(super) fn whole(clean: bool) -> Look {
        Look { clean, vcl: true, starts_unit: true, ends_unit: true, ..Look::default() }
    }
}

/// Looks at an RTP payload of `payload_len` bytes, of which `head` is the beginning: [`super::HEAD_LEN`] bytes are enough
/// for all but parameter sets larger than that.
pub fn look(codec: Option<Codec>, head: &[u8], payload_len: usize) -> Look {
    let mut look = Look::default();
    look.note(codec, head, payload_len);
    look
}

/// Whether nothing is to be seen in a payload that begins so, beyond that: it goes on with a unit that began in an earlier packet,
/// whichever of the codecs with such units it is. Three bytes are enough to tell.
#[inline]
pub fn continues_unit(payload: &[u8]) -> bool {
    h264::continues_unit(payload) || h265::continues_unit(payload)
}

#[cfg(test)]
mod tests {
    use super::super::{GuessState, guess};
    use super::*;
    use proptest::prelude::*;

    const CODECS: [Option<Codec>; 8] = [
        None,
        Some(Codec::H264),
        Some(Codec::H265),
        Some(Codec::Jpeg),
        Some(Codec::Mpeg4),
        Some(Codec::Mp2t),
        Some(Codec::Av1),
        Some(Codec::Aac),
    ];

    proptest! {
        /// Of interleaved frames that straddle segments no more is kept.
        #[test]
        fn of_what_goes_on_with_a_unit_sixteen_bytes_are_enough(
            first in prop::sample::select(vec![0x7cu8, 0x5c, 0x3c, 0x1c, 0x7d, 0x62, 0x63, 0xe2, 0xdc]),
            rest in prop::collection::vec(any::<u8>(), 1..300),
            marker: bool,
        ) {
            let payload: Vec<u8> = std::iter::once(first).chain(rest).collect();
            prop_assume!(continues_unit(&payload));
            let (all, short) = (&payload[..payload.len().min(244)], &payload[..payload.len().min(16)]);
            for codec in CODECS {
                prop_assert_eq!(look(codec, all, payload.len()), look(codec, short, payload.len()), "{:?}", codec);
            }
            let (mut a, mut b) = (GuessState::default(), GuessState::default());
            for _ in 0..8 {
                prop_assert_eq!(guess(&mut a, all, marker), guess(&mut b, short, marker));
            }
            prop_assert_eq!(a, b);
        }
    }
}
