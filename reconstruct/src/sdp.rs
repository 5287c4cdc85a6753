//! Session descriptions as cameras write them.
//!
//! Owns the lenient reading of SDP (RFC 8866, and RFC 2326 appendix C for RTSP's use of it): line ends of any kind, duplicate
//! lines, a broken `c=`, an `fmtp` under the wrong media. The raw text of the whole and of each media is kept, since it is
//! what a client of ours gets to see.
//! Refuses: more than [`MAX_MEDIA`] media or [`MAX_FORMATS`] formats of one; what is beyond is not read (but stays in the raw text).
//! Costs: one pass; called once for each description.

use std::net::IpAddr;
use std::num::NonZeroU32;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use crate::codec::{Codec, Kind};

/// Media of one description that are read.
pub const MAX_MEDIA: usize = 64;
/// Formats (payload types) of one media that are read.
pub const MAX_FORMATS: usize = 32;
/// Parameter sets taken from one format's parameters.
pub const MAX_PARAMETER_SETS: usize = 16;

/// A session description.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sdp {
    /// The text as it came.
    #[serde(with = "serde_bytes")]
    pub raw: Vec<u8>,
    /// `s=`, the first one.
    pub session_name: Option<String>,
    /// The session-level `a=control`.
    pub control: Option<String>,
    /// The session-level `a=range`, for instance `npt=0-`.
    pub range: Option<String>,
    /// The session-level `c=`.
    pub connection: Option<Connection>,
    /// The media in order.
    pub media: Vec<Media>,
}

/// The address of a `c=` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Where the media goes; a multicast group, or 0.0.0.0 for "as set up".
    pub address: IpAddr,
    /// Time to live of a multicast group.
    pub ttl: Option<u8>,
}

/// One `m=` line and what belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// The block's text, from `m=` up to the next one; bytes that are not UTF-8 are replaced.
    pub raw: String,
    /// What the media is, from the first format's codec, or else the `m=` line's word.
    pub kind: Kind,
    /// The port of the `m=` line, 0 unless multicast as a rule.
    pub port: u16,
    /// The transport of the `m=` line, for instance `RTP/AVP`.
    pub protocol: String,
    /// The payload types with what is said of them.
    pub formats: Vec<Format>,
    /// `a=control`
    pub control: Option<String>,
    /// `c=`
    pub connection: Option<Connection>,
    /// `a=range`
    pub range: Option<String>,
    /// `a=framerate`, in thousandths of a frame a second.
    pub frame_rate_milli: Option<u32>,
    /// An SRTP profile, or keys in `a=crypto` or `a=key-mgmt`.
    pub encrypted: bool,
    /// `a=sendonly`: in an RTSP server's description, the back channel's direction seen from the client.
    pub send_only: bool,
}

/// One payload type of a media.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// The RTP payload type.
    pub payload_type: u8,
    /// The encoding name of the `rtpmap`, as written.
    pub encoding_name: Option<String>,
    /// The codec, from the `rtpmap` or the static payload type.
    pub codec: Option<Codec>,
    /// The RTP clock's rate.
    pub clock_rate: Option<NonZeroU32>,
    /// Audio channels.
    pub channels: Option<u8>,
    /// The text of the `fmtp`, without the payload type.
    pub fmtp: Option<String>,
}

/// What is needed to read AAC out of RTP (RFC 3640 section 4.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AacConfig {
    /// The AudioSpecificConfig (ISO 14496-3 section 1.6.2.1).
    #[serde(with = "serde_bytes")]
    pub config: Vec<u8>,
    /// Bits of the AU-size field.
    pub size_length: u8,
    /// Bits of the first AU-Index field.
    pub index_length: u8,
    /// Bits of the following AU-Index-delta fields.
    pub index_delta_length: u8,
}

impl Sdp {
    /// Reads a description. Text in which nothing is understood gives a description without media.
    pub fn parse(raw: &[u8]) -> Sdp {
        let mut sdp = Sdp { raw: raw.to_vec(), ..Sdp::default() };
        let mut fmtps: Vec<(usize, u8, String)> = Vec::new();
        let mut beyond = false;
        for line in lines(raw) {
            let text = String::from_utf8_lossy(line);
            let Some((name, value)) = split_line(text.trim()) else { continue };
            if name == 'm' {
                beyond = sdp.media.len() >= MAX_MEDIA;
                if !beyond {
                    sdp.media.push(Media::from_line(value));
                }
            }
            if beyond {
                continue;
            }
            match sdp.media.last_mut() {
                Some(media) => {
                    media.raw.push_str(&text);
                    media.raw.push_str("\r\n");
                    if let Some((payload_type, parameters)) = media.read_line(name, value) {
                        fmtps.push((sdp.media.len() - 1, payload_type, parameters));
                    }
                }
                None => sdp.read_line(name, value),
            }
        }
        sdp.place_fmtps(fmtps);
        for media in &mut sdp.media {
            media.settle();
        }
        sdp
    }

    fn read_line(&mut self, name: char, value: &str) {
        match name {
            // Some send `s=` twice; the first is the name.
            's' if self.session_name.is_none() => self.session_name = Some(value.to_owned()),
            'c' => self.connection = self.connection.or(connection(value)),
            'a' => match split_attribute(value) {
                ("control", v) => self.control = Some(v.to_owned()),
                ("range", v) => self.range = Some(v.to_owned()),
                _ => {}
            },
            _ => {}
        }
    }

    /// An fmtp belongs to its media's format; when there is no such payload type, to another media's that has none.
    fn place_fmtps(&mut self, fmtps: Vec<(usize, u8, String)>) {
        for (at, payload_type, parameters) in fmtps {
            let home = self.media[at].formats.iter_mut().find(|f| f.payload_type == payload_type);
            let format = match home {
                Some(format) => Some(format),
                None => self
                    .media
                    .iter_mut()
                    .flat_map(|m| &mut m.formats)
                    .find(|f| f.payload_type == payload_type && f.fmtp.is_none()),
            };
            if let Some(format) = format {
                // Several fmtp lines for one payload type add up.
                match &mut format.fmtp {
                    Some(fmtp) => {
                        fmtp.push_str("; ");
                        fmtp.push_str(&parameters);
                    }
                    None => format.fmtp = Some(parameters),
                }
            }
        }
    }
}

impl Media {
    fn from_line(value: &str) -> Media {
        let mut words = value.split_ascii_whitespace();
        let kind = match words.next().map(str::to_ascii_lowercase).as_deref() {
            Some("video") => Kind::Video,
            Some("audio") => Kind::Audio,
            Some("application") => Kind::Application,
            _ => Kind::Unknown,
        };
        // "49170/2" counts ports; only the first matters here.
        let port = words.next().and_then(|p| p.split('/').next()?.parse().ok()).unwrap_or(0);
        let protocol = words.next().unwrap_or("").to_owned();
        let formats = words
            .filter_map(|w| w.parse().ok().filter(|&pt: &u8| pt < 128))
            .take(MAX_FORMATS)
            .map(Format::new)
            .collect();
        let encrypted = protocol.contains("SAVP");
        Media { kind, port, protocol, formats, encrypted, ..Media::default() }
    }

    /// Gives an fmtp back, since it may belong to another media.
    fn read_line(&mut self, name: char, value: &str) -> Option<(u8, String)> {
        match name {
            'c' => self.connection = self.connection.or(connection(value)),
            'a' => match split_attribute(value) {
                ("control", v) => self.control = Some(v.to_owned()),
                ("range", v) => self.range = Some(v.to_owned()),
                ("framerate", v) => self.frame_rate_milli = milli(v),
                ("sendonly", _) => self.send_only = true,
                ("crypto" | "key-mgmt", _) => self.encrypted = true,
                ("rtpmap", v) => self.rtpmap(v)?,
                ("fmtp", v) => {
                    let (payload_type, parameters) = v.split_once(|c: char| c.is_whitespace())?;
                    return Some((payload_type.parse().ok()?, parameters.trim().to_owned()));
                }
                _ => {}
            },
            _ => {}
        }
        None
    }

    /// "96 H264/90000", "97 mpeg4-generic/16000/2". A payload type the `m=` line forgot is added.
    fn rtpmap(&mut self, value: &str) -> Option<()> {
        let (payload_type, encoding) = value.split_once(|c: char| c.is_whitespace())?;
        let payload_type: u8 = payload_type.parse().ok().filter(|&pt| pt < 128)?;
        let mut parts = encoding.trim().split('/').map(str::trim);
        let name = parts.next().filter(|n| !n.is_empty())?;
        let format = match self.formats.iter().position(|f| f.payload_type == payload_type) {
            Some(at) => &mut self.formats[at],
            None if self.formats.len() < MAX_FORMATS => {
                self.formats.push(Format::new(payload_type));
                self.formats.last_mut()?
            }
            None => return None,
        };
        format.encoding_name = Some(name.to_owned());
        format.codec = Some(Codec::from_encoding_name(name));
        format.clock_rate = parts.next().and_then(|r| r.parse().ok()).or(format.clock_rate);
        format.channels = parts.next().and_then(|c| c.parse().ok());
        Some(())
    }

    /// What is only known once the whole block has been read.
    fn settle(&mut self) {
        if let Some(kind) = self.primary().and_then(|f| f.codec).and_then(Codec::kind) {
            self.kind = kind;
        }
        for format in &mut self.formats {
            if self.kind == Kind::Video && format.clock_rate.is_none() {
                // Every video payload format of RTP has this clock (RFC 3551 section 5).
                format.clock_rate = NonZeroU32::new(90_000);
            }
        }
    }

    /// The format that is meant when a track is set up: the first whose codec is known, or else the first.
    pub fn primary(&self) -> Option<&Format> {
        self.formats.iter().find(|f| f.codec.is_some()).or(self.formats.first())
    }

    /// The first media of a description, or of a part of one such as [`raw`](Self::raw).
    pub fn parse(raw: &str) -> Option<Media> {
        Sdp::parse(raw.as_bytes()).media.into_iter().next()
    }

    /// The format of a payload type.
    pub fn format(&self, payload_type: u8) -> Option<&Format> {
        self.formats.iter().find(|f| f.payload_type == payload_type)
    }
}

/// Whether packets of payload type `seen` carry `codec`, in a segment that began with type `began`. In one synchronisation source there can be
/// others as well: comfort noise (RFC 3389), key presses (RFC 4733), error correction (RFC 5109). A dynamic type of which nothing is known is taken
/// for the same, since cameras change their numbers; but not beside a static one.
pub fn carries(codec: Codec, began: u8, media: Option<&Media>, seen: u8) -> bool {
    /// From here on types mean what is agreed upon (RFC 3551 section 6).
    const DYNAMIC: u8 = 96;
    let fixed = |payload_type| Codec::from_static_payload_type(payload_type).map(|(codec, _)| codec);
    if let Some((media, format)) = media.and_then(|media| Some((media, media.format(seen)?))) {
        let another = media.formats.iter().any(|f| f.codec == Some(codec));
        return format.codec.map_or(!another && seen == began, |described| described == codec);
    }
    match seen {
        DYNAMIC.. => fixed(began) != Some(codec),
        _ => fixed(seen) == Some(codec),
    }
}

impl Format {
    fn new(payload_type: u8) -> Format {
        let (codec, clock_rate) = Codec::from_static_payload_type(payload_type).unzip();
        let channels = None;
        Format {
            payload_type,
            encoding_name: None,
            codec,
            clock_rate: clock_rate.and_then(NonZeroU32::new),
            channels,
            fmtp: None,
        }
    }

    /// A parameter of the `fmtp`, by its name in any case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        parameter(self.fmtp.as_deref()?, name)
    }

    /// The parameter sets in the `fmtp`, decoded, in the order VPS, SPS, PPS as written (RFC 6184 section 8.1, RFC 7798
    /// section 7.1). Each is a NAL unit without start code.
    pub fn parameter_sets(&self) -> Vec<Vec<u8>> {
        self.fmtp.as_deref().map(parameter_sets).unwrap_or_default()
    }

    /// How AAC is packed. `None` without a usable `config`.
    pub fn aac(&self) -> Option<AacConfig> {
        AacConfig::from_fmtp(self.fmtp.as_deref()?)
    }
}

impl AacConfig {
    /// Reads the parameters of `mpeg4-generic` out of an `fmtp`'s text.
    pub fn from_fmtp(fmtp: &str) -> Option<AacConfig> {
        let number = |name| parameter(fmtp, name).and_then(|v| v.parse().ok());
        let low_bit_rate = parameter(fmtp, "mode").is_some_and(|m| m.eq_ignore_ascii_case("AAC-lbr"));
        // AAC-hbr's lengths (RFC 3640 section 3.3.6) are the ones of nearly every camera.
        let (size, index) = if low_bit_rate { (6, 2) } else { (13, 3) };
        Some(AacConfig {
            config: hex(parameter(fmtp, "config")?).filter(|c| c.len() >= 2)?,
            size_length: number("sizelength").unwrap_or(size),
            index_length: number("indexlength").unwrap_or(index),
            index_delta_length: number("indexdeltalength").unwrap_or(index),
        })
    }
}

/// A parameter of an `fmtp`'s text, by its name in any case.
pub fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|p| {
        let (n, value) = p.split_once('=')?;
        n.trim().eq_ignore_ascii_case(name).then_some(value.trim().trim_matches('"'))
    })
}

/// The parameter sets named in an `fmtp`'s text; see [`Format::parameter_sets`].
pub fn parameter_sets(fmtp: &str) -> Vec<Vec<u8>> {
    ["sprop-vps", "sprop-sps", "sprop-pps", "sprop-parameter-sets"]
        .iter()
        .filter_map(|name| parameter(fmtp, name))
        .flat_map(|value| value.split(','))
        .filter_map(base64)
        .map(without_start_code)
        .filter(|nal| !nal.is_empty())
        .take(MAX_PARAMETER_SETS)
        .collect()
}

/// The headers of an MPEG-4 part 2 stream in an `fmtp`'s text, start codes and all (RFC 6416 section 7.1).
pub fn mpeg4_headers(fmtp: &str) -> Option<Vec<u8>> {
    hex(parameter(fmtp, "config")?).filter(|headers| headers.starts_with(&[0, 0, 1]))
}

/// Some cameras encode their parameter sets with the start code before them.
fn without_start_code(mut nal: Vec<u8>) -> Vec<u8> {
    let zeros = nal.iter().take_while(|&&b| b == 0).count();
    if zeros >= 2 && nal.get(zeros) == Some(&1) {
        nal.drain(..=zeros);
    }
    nal
}

/// Base64 with or without its padding, as cameras send both.
fn base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    LENIENT.decode(text.trim()).ok()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or(0)).collect())
}

fn lines(raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    raw.split(|&b| b == b'\n' || b == b'\r').filter(|line| !line.is_empty())
}

/// "m=video …"; white space around the name and `=` is passed over.
fn split_line(line: &str) -> Option<(char, &str)> {
    let (name, value) = line.split_once('=')?;
    let mut name = name.trim().chars();
    let letter = name.next()?;
    name.next().is_none().then_some((letter, value.trim()))
}

fn split_attribute(value: &str) -> (&str, &str) {
    let (name, value) = value.split_once(':').unwrap_or((value, ""));
    (name.trim(), value.trim())
}

/// "IN IP4 239.10.0.1/16"; a broken line gives nothing.
fn connection(value: &str) -> Option<Connection> {
    let mut parts = value.split_ascii_whitespace().next_back()?.split('/');
    let address = parts.next()?.parse().ok()?;
    Some(Connection { address, ttl: parts.next().and_then(|t| t.parse().ok()) })
}

fn milli(value: &str) -> Option<u32> {
    let rate: f64 = value.parse().ok()?;
    (rate > 0.0 && rate <= 1000.0).then_some((rate * 1000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAMERA: &str = "v=0\r\no=- 1 1 IN IP4 198.18.0.11\r\ns=Session\r\ns=Again\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
        a=control:rtsp://198.18.0.11/cam/\r\na=range:npt=0-\r\n\
        m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
        a=fmtp:96 packetization-mode=1;profile-level-id=42c01e;sprop-parameter-sets=Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==\r\n\
        a=framerate:25.0\r\na=control:stream=0\r\n\
        m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/16000/2\r\n\
        a=fmtp:97 streamtype=5;mode=AAC-hbr;config=1410;SizeLength=13;IndexLength=3;IndexDeltaLength=3\r\na=control:stream=1\r\n";

    #[test]
    fn a_camera() {
        let sdp = Sdp::parse(CAMERA.as_bytes());
        assert_eq!(sdp.raw, CAMERA.as_bytes());
        assert_eq!(sdp.session_name.as_deref(), Some("Session"));
        assert_eq!(
            (sdp.control.as_deref(), sdp.range.as_deref()),
            (Some("rtsp://198.18.0.11/cam/"), Some("npt=0-"))
        );
        let [video, audio] = &sdp.media[..] else { panic!() };
        let h264 = video.primary().unwrap();
        assert_eq!((h264.codec, h264.clock_rate.unwrap().get()), (Some(Codec::H264), 90_000));
        assert_eq!((video.frame_rate_milli, video.control.as_deref()), (Some(25_000), Some("stream=0")));
        let sets = h264.parameter_sets();
        assert_eq!((sets.len(), sets[0][0], sets[1].as_slice()), (2, 0x67, &[0x68, 0xcb, 0x8c, 0xb2][..]));
        assert!(
            video.raw.starts_with("m=video 0 RTP/AVP 96\r\n")
                && video.raw.ends_with("a=control:stream=0\r\n")
        );
        let aac = audio.primary().unwrap();
        assert_eq!((audio.kind, aac.codec, aac.channels), (Kind::Audio, Some(Codec::Aac), Some(2)));
        assert_eq!(
            aac.aac().unwrap(),
            AacConfig { config: vec![0x14, 0x10], size_length: 13, index_length: 3, index_delta_length: 3 }
        );
    }

    #[test]
    fn payload_types_of_another_codec_are_told() {
        let media =
            Media::parse("m=audio 0 RTP/AVP 0 8 13 101\r\na=rtpmap:101 telephone-event/8000\r\n").unwrap();
        for media in [Some(&media), None] {
            assert!(carries(Codec::Pcmu, 0, media, 0));
            assert!([8, 13, 101].iter().all(|seen| !carries(Codec::Pcmu, 0, media, *seen)), "{media:?}");
        }
        let video = "m=video 0 RTP/AVP 96 97 98\r\na=rtpmap:96 H264/90000\r\na=rtpmap:97 H264/90000\r\na=rtpmap:98 ulpfec/90000\r\n";
        let video = Media::parse(video).unwrap();
        assert!([96, 97].iter().all(|seen| carries(Codec::H264, 96, Some(&video), *seen)));
        assert!([98, 0, 26].iter().all(|seen| !carries(Codec::H264, 96, Some(&video), *seen)));
        assert!(carries(Codec::H264, 96, Some(&video), 99), "a number that the camera has changed");
        assert!(carries(Codec::H264, 96, None, 98));
        // A segment that begins with comfort noise, and one of an earlier session that had another number.
        assert!(carries(Codec::Pcmu, 13, None, 0) && !carries(Codec::Pcmu, 13, Some(&media), 13));
        assert!(carries(Codec::Pcmu, 97, Some(&media), 97));
    }

    #[test]
    fn static_payload_types_need_no_rtpmap() {
        let sdp = Sdp::parse(b"m=audio 0 RTP/AVP 0 8\nm=video 5004/2 RTP/AVP 26\nc=IN IP4 239.1.1.1/16\n");
        let pcmu = sdp.media[0].primary().unwrap();
        assert_eq!((pcmu.codec, pcmu.clock_rate.unwrap().get()), (Some(Codec::Pcmu), 8000));
        assert_eq!(sdp.media[0].format(8).unwrap().codec, Some(Codec::Pcma));
        assert_eq!((sdp.media[1].port, sdp.media[1].primary().unwrap().codec), (5004, Some(Codec::Jpeg)));
        let connection = sdp.media[1].connection.unwrap();
        assert_eq!((connection.address, connection.ttl), ("239.1.1.1".parse().unwrap(), Some(16)));
    }

    #[test]
    fn h265_parameter_sets_in_order() {
        let sdp = Sdp::parse(b"m=video 0 RTP/AVP 98\r\na=rtpmap:98 H265/90000\r\na=fmtp:98 sprop-sps=QgE=; sprop-vps=QAE=; sprop-pps=RAE\r\n");
        let sets = sdp.media[0].primary().unwrap().parameter_sets();
        assert_eq!(sets, [vec![0x40, 1], vec![0x42, 1], vec![0x44, 1]]);
    }

    #[test]
    fn metadata_and_back_channel() {
        let sdp = Sdp::parse(b"m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\nm=audio 0 RTP/AVP 0\r\na=sendonly\r\n");
        assert_eq!((sdp.media[0].kind, sdp.media[1].send_only), (Kind::Metadata, true));
    }

    #[test]
    fn quirk_fmtp_under_the_wrong_media() {
        let sdp = Sdp::parse(
            b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\nm=audio 0 RTP/AVP 8\r\na=fmtp:96 packetization-mode=1\r\n",
        );
        assert_eq!(sdp.media[0].primary().unwrap().parameter("Packetization-Mode"), Some("1"));
        assert_eq!(sdp.media[1].primary().unwrap().fmtp, None);
    }

    #[test]
    fn quirk_broken_connection_and_not_utf8() {
        let sdp = Sdp::parse(
            b"s=\xff\xfe\r\nc=IN IP4\r\nc=IN IP4 cam\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 h264\r\n",
        );
        assert_eq!(sdp.connection, None);
        let format = sdp.media[0].primary().unwrap();
        assert_eq!((format.codec, format.clock_rate.unwrap().get()), (Some(Codec::H264), 90_000));
    }

    #[test]
    fn quirk_start_code_in_sprop() {
        let sets = parameter_sets("sprop-parameter-sets=AAAAAWdC,AAABaM4=");
        assert_eq!(sets, [vec![0x67, 0x42], vec![0x68, 0xce]]);
    }

    #[test]
    fn encrypted() {
        assert!(Sdp::parse(b"m=video 0 RTP/SAVP 96\r\n").media[0].encrypted);
        assert!(
            Sdp::parse(b"m=video 0 RTP/AVP 96\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n").media[0]
                .encrypted
        );
    }

    #[test]
    fn bounds() {
        let many = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/0\r\n".repeat(MAX_MEDIA + 5);
        assert_eq!(Sdp::parse(many.as_bytes()).media.len(), MAX_MEDIA);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            Sdp::parse(&bytes);
        }

        #[test]
        fn any_lines(lines in proptest::collection::vec("[mcas]=[a-z0-9:;/= ]{0,30}", 0..20)) {
            for media in Sdp::parse(lines.join("\r\n").as_bytes()).media {
                for format in &media.formats {
                    let _ = (format.parameter_sets(), format.aac());
                }
            }
        }
    }
}
