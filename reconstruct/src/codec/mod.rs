//! What the payloads of RTP packets are.
//!
//! Owns the names of media kinds and codecs ([`Kind`], [`Codec`]), and in its submodules what each codec's RTP payload
//! says about access units, clean points and parameter sets, and how whole coded units are put together again.
//! Refuses decoding: nothing here looks further into a picture than its slice header's first bits.
//! Costs: looking at a payload's head touches at most [`HEAD_LEN`] bytes and allocates nothing; depacketizers buffer
//! one coded unit.

mod access_unit;
mod bits;
pub mod depacketize;
mod guess;
pub mod h264;
pub mod h265;
mod look;
mod other;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use access_unit::{AccessUnits, Placed};
pub use guess::{GuessState, guess};
pub use look::{Look, continues_unit, look};

/// How many bytes of an RTP payload the classifiers need to see, at most.
pub const HEAD_LEN: usize = 256;

/// What a stream carries, in the words of `streams --json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Moving pictures.
    Video,
    /// Sound.
    Audio,
    /// ONVIF metadata or another description of the scene.
    Metadata,
    /// An SDP `application` media that is not known metadata.
    Application,
    /// Neither described nor inferred.
    #[default]
    Unknown,
}

impl Kind {
    /// The lower-case name, as shown to users.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Video => "video",
            Kind::Audio => "audio",
            Kind::Metadata => "metadata",
            Kind::Application => "application",
            Kind::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A coding of media, in the words of `streams --json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Codec {
    /// H.264 / AVC, RFC 6184.
    #[serde(rename = "h264")]
    H264,
    /// H.265 / HEVC, RFC 7798.
    #[serde(rename = "h265")]
    H265,
    /// Motion JPEG, RFC 2435.
    #[serde(rename = "jpeg")]
    Jpeg,
    /// MPEG-4 part 2 video, RFC 6416.
    #[serde(rename = "mpeg4")]
    Mpeg4,
    /// MPEG-2 transport stream, RFC 2250.
    #[serde(rename = "mp2t")]
    Mp2t,
    /// AV1.
    #[serde(rename = "av1")]
    Av1,
    /// AAC as `mpeg4-generic` (RFC 3640) or `MP4A-LATM` (RFC 6416).
    #[serde(rename = "aac")]
    Aac,
    /// G.711 µ-law.
    #[serde(rename = "pcmu")]
    Pcmu,
    /// G.711 A-law.
    #[serde(rename = "pcma")]
    Pcma,
    /// G.722.
    #[serde(rename = "g722")]
    G722,
    /// G.726 at any of its rates.
    #[serde(rename = "g726")]
    G726,
    /// Opus.
    #[serde(rename = "opus")]
    Opus,
    /// ONVIF metadata (`vnd.onvif.metadata`).
    #[serde(rename = "onvif-metadata")]
    OnvifMetadata,
    /// Named in a description, but not one of the above; the name stays in the SDP's text.
    #[serde(rename = "other")]
    Other,
}

impl Codec {
    /// The name shown to users and used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Codec::H264 => "h264",
            Codec::H265 => "h265",
            Codec::Jpeg => "jpeg",
            Codec::Mpeg4 => "mpeg4",
            Codec::Mp2t => "mp2t",
            Codec::Av1 => "av1",
            Codec::Aac => "aac",
            Codec::Pcmu => "pcmu",
            Codec::Pcma => "pcma",
            Codec::G722 => "g722",
            Codec::G726 => "g726",
            Codec::Opus => "opus",
            Codec::OnvifMetadata => "onvif-metadata",
            Codec::Other => "other",
        }
    }

    /// The codec with this [`name`](Self::name), in any case.
    pub fn from_name(name: &str) -> Option<Codec> {
        const ALL: [Codec; 14] = [
            Codec::H264,
            Codec::H265,
            Codec::Jpeg,
            Codec::Mpeg4,
            Codec::Mp2t,
            Codec::Av1,
            Codec::Aac,
            Codec::Pcmu,
            Codec::Pcma,
            Codec::G722,
            Codec::G726,
            Codec::Opus,
            Codec::OnvifMetadata,
            Codec::Other,
        ];
        ALL.into_iter().find(|c| c.name().eq_ignore_ascii_case(name))
    }

    /// The codec that an SDP `rtpmap` encoding name stands for (names compare without case, RFC 4855 section 3).
    pub fn from_encoding_name(name: &str) -> Codec {
        let n = name.trim();
        let is = |s: &str| n.eq_ignore_ascii_case(s);
        if is("H264") {
            Codec::H264
        } else if is("H265") || is("HEVC") {
            Codec::H265
        } else if is("JPEG") {
            Codec::Jpeg
        } else if is("MP4V-ES") {
            Codec::Mpeg4
        } else if is("MP2T") {
            Codec::Mp2t
        } else if is("AV1") {
            Codec::Av1
        } else if is("mpeg4-generic") || is("MP4A-LATM") {
            Codec::Aac
        } else if is("PCMU") {
            Codec::Pcmu
        } else if is("PCMA") {
            Codec::Pcma
        } else if is("G722") {
            Codec::G722
        } else if is("opus") {
            Codec::Opus
        } else if n.len() >= 4 && n.is_char_boundary(4) && n[..4].eq_ignore_ascii_case("G726") {
            Codec::G726
        } else if n.len() >= 9 && n.is_char_boundary(9) && n[..9].eq_ignore_ascii_case("vnd.onvif") {
            Codec::OnvifMetadata
        } else {
            Codec::Other
        }
    }

    /// What the codec carries. `None` when the name alone does not say.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Codec::H264 | Codec::H265 | Codec::Jpeg | Codec::Mpeg4 | Codec::Mp2t | Codec::Av1 => {
                Some(Kind::Video)
            }
            Codec::Aac | Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::G726 | Codec::Opus => {
                Some(Kind::Audio)
            }
            Codec::OnvifMetadata => Some(Kind::Metadata),
            Codec::Other => None,
        }
    }

    /// The codec of a static payload type with its clock rate (RFC 3551, tables 4 and 5).
    pub fn from_static_payload_type(pt: u8) -> Option<(Codec, u32)> {
        Some(match pt {
            0 => (Codec::Pcmu, 8_000),
            8 => (Codec::Pcma, 8_000),
            // Sampled at 16 kHz, but its RTP clock is 8 kHz for historical reasons (RFC 3551 section 4.5.2).
            9 => (Codec::G722, 8_000),
            26 => (Codec::Jpeg, 90_000),
            33 => (Codec::Mp2t, 90_000),
            _ => return None,
        })
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_json_names() {
        for c in [Codec::H264, Codec::OnvifMetadata, Codec::G726, Codec::Mp2t, Codec::Other] {
            assert_eq!(serde_json::to_string(&c).unwrap(), format!("\"{}\"", c.name()));
            assert_eq!(Codec::from_name(c.name()), Some(c));
        }
        for k in [Kind::Video, Kind::Unknown] {
            assert_eq!(serde_json::to_string(&k).unwrap(), format!("\"{}\"", k.name()));
        }
    }

    #[test]
    fn encoding_names_without_case() {
        assert_eq!(Codec::from_encoding_name("h264"), Codec::H264);
        assert_eq!(Codec::from_encoding_name("MPEG4-GENERIC"), Codec::Aac);
        assert_eq!(Codec::from_encoding_name("G726-32"), Codec::G726);
        assert_eq!(Codec::from_encoding_name("vnd.onvif.metadata.gzip"), Codec::OnvifMetadata);
        assert_eq!(Codec::from_encoding_name("ürgh-\u{1F3A5}"), Codec::Other);
    }
}
