//! The session description (RFC 8866, RFC 2326 appendix C): as the camera gave it, or built from what was learned.
//!
//! Of a camera's own `m=` block only what tapdeck itself answers for is replaced: port, connection, control, range, and
//! what names the camera's SSRCs and keys. A block that is built names parameter sets (RFC 6184 section 8.1, RFC 7798 section 7.1) or an
//! AAC configuration (RFC 3640 section 4.1), where they are known.

use crate::presentation::{Presentation, Window};
use crate::range::format_npt;
use crate::source::TrackInfo;
use crate::target::track_name;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::fmt::Write;
use std::net::IpAddr;

/// The description of a presentation. `id` should grow from one description to the next.
pub fn describe(presentation: &Presentation, local: IpAddr, id: u64) -> String {
    let family = if local.is_ipv4() { "IP4" } else { "IP6" };
    let any = if local.is_ipv4() { "0.0.0.0" } else { "::" };
    let mut sdp = String::with_capacity(1024);
    let _ = write!(sdp, "v=0\r\no=- {id} 1 IN {family} {local}\r\ns={}\r\n", text(&presentation.name));
    let _ = write!(sdp, "c=IN {family} {any}\r\nt=0 0\r\na=control:*\r\n");
    let _ = write!(sdp, "a=range:npt={}\r\n", range(presentation.window));
    for (i, track) in presentation.tracks.iter().enumerate() {
        match track.sdp_media.as_deref().and_then(|raw| media_as_given(raw, track)) {
            Some(block) => sdp.push_str(&block),
            None => build_media(&mut sdp, track),
        }
        let _ = write!(sdp, "a=control:{}\r\n", track_name(i + 1));
    }
    sdp
}

/// The npt range of a whole window.
fn range(window: Window) -> String {
    match window.length_ns() {
        // Never 0: that would tell VLC that it cannot seek.
        Some(ns) => format!("0-{}", format_npt(ns)),
        None => "now-".to_owned(),
    }
}

/// The payload types that a track's `m=` line names, so that they pass unchanged.
pub fn payload_types(track: &TrackInfo) -> Vec<u8> {
    let given = track.sdp_media.as_deref().and_then(media_line);
    match given {
        Some(m) => m.formats.iter().filter_map(|f| f.parse().ok()).collect(),
        None => vec![track.payload_type],
    }
}

/// The payload type that stands for the track: the one of the packets when it is described, else the first described.
pub fn main_payload_type(track: &TrackInfo) -> u8 {
    let known = payload_types(track);
    if known.contains(&track.payload_type) {
        return track.payload_type;
    }
    known.first().copied().unwrap_or(track.payload_type)
}

struct MediaLine<'a> {
    media: &'a str,
    protocol: &'a str,
    formats: Vec<&'a str>,
}

fn media_line(raw: &str) -> Option<MediaLine<'_>> {
    let line = raw.lines().find_map(|l| l.trim().strip_prefix("m="))?;
    let mut words = line.split_ascii_whitespace();
    let (media, _port, protocol) = (words.next()?, words.next()?, words.next()?);
    let formats: Vec<_> = words.collect();
    (!formats.is_empty()).then_some(MediaLine { media, protocol, formats })
}

fn media_as_given(raw: &str, track: &TrackInfo) -> Option<String> {
    let m = media_line(raw)?;
    // Only how the payload is protected survives of the profile: the carriage is ours.
    let protocol = if track.encrypted && m.protocol.contains("SAVP") { "RTP/SAVP" } else { "RTP/AVP" };
    let mut out = format!("m={} 0 {protocol} {}\r\n", text(m.media), m.formats.join(" "));
    for line in raw.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("m=")) {
        let ours = [
            "c=",
            "k=",
            "a=control:",
            "a=range:",
            "a=ssrc",
            "a=rtcp",
            "a=crypto:",
            "a=key-mgmt:",
            "a=sendonly",
            "a=x-onvif-track:",
        ];
        let valid = line.as_bytes().get(1) == Some(&b'=');
        if valid && !ours.iter().any(|o| line.starts_with(o)) {
            let _ = write!(out, "{}\r\n", text(line));
        }
    }
    Some(out)
}

fn build_media(sdp: &mut String, track: &TrackInfo) {
    let pt = track.payload_type;
    let _ = write!(sdp, "m={} 0 RTP/AVP {pt}\r\n", track.media.as_str());
    if let (Some(encoding), Some(rate)) = (&track.encoding, track.clock_rate) {
        let _ = write!(sdp, "a=rtpmap:{pt} {}/{rate}", text(encoding));
        if let Some(channels) = track.channels.filter(|&c| c > 1) {
            let _ = write!(sdp, "/{channels}");
        }
        sdp.push_str("\r\n");
    }
    if let Some(fmtp) = track.fmtp.clone().or_else(|| built_fmtp(track)) {
        let _ = write!(sdp, "a=fmtp:{pt} {}\r\n", text(&fmtp));
    }
}

fn built_fmtp(track: &TrackInfo) -> Option<String> {
    match track.encoding.as_deref()?.to_ascii_uppercase().as_str() {
        "H264" => Some(h264_fmtp(&track.parameter_sets)),
        "H265" => h265_fmtp(&track.parameter_sets),
        "MPEG4-GENERIC" => aac_fmtp(track),
        _ => None,
    }
}

fn h264_fmtp(nals: &[Vec<u8>]) -> String {
    let of_type = |t: u8| nals.iter().filter(move |n| n.first().is_some_and(|h| h & 0x1f == t));
    let mut fmtp = String::from("packetization-mode=1");
    if let Some(sps) = of_type(7).find(|n| n.len() >= 4) {
        let _ = write!(fmtp, ";profile-level-id={:02X}{:02X}{:02X}", sps[1], sps[2], sps[3]);
    }
    let sets: Vec<String> = of_type(7).chain(of_type(8)).map(|n| STANDARD.encode(n)).collect();
    if !sets.is_empty() {
        let _ = write!(fmtp, ";sprop-parameter-sets={}", sets.join(","));
    }
    fmtp
}

fn h265_fmtp(nals: &[Vec<u8>]) -> Option<String> {
    let sets = [(32, "sprop-vps"), (33, "sprop-sps"), (34, "sprop-pps")].map(|(t, name)| {
        let of_type = nals.iter().filter(|n| n.first().is_some_and(|h| (h >> 1) & 0x3f == t));
        let encoded: Vec<String> = of_type.map(|n| STANDARD.encode(n)).collect();
        (!encoded.is_empty()).then(|| format!("{name}={}", encoded.join(",")))
    });
    let present: Vec<String> = sets.into_iter().flatten().collect();
    (!present.is_empty()).then(|| present.join(";"))
}

/// Without a description only an AAC-LC configuration can be told from clock rate and channels
/// (ISO/IEC 14496-3, 1.6.2.1: object type 5 bits, frequency index 4 bits, channels 4 bits).
fn aac_fmtp(track: &TrackInfo) -> Option<String> {
    const RATES: [u32; 13] = [
        96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
    ];
    let index = RATES.iter().position(|&r| Some(r) == track.clock_rate.map(|c| c.get()))? as u16;
    let channels = u16::from(track.channels.unwrap_or(1)) & 0x0f;
    let config = (2 << 11) | (index << 7) | (channels << 3);
    Some(format!(
        "streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config={config:04X}"
    ))
}

/// Text from cameras and users may not break out of its line.
fn text(s: &str) -> String {
    let clean: String = s.chars().filter(|c| !c.is_control()).collect();
    if clean.is_empty() { "-".to_owned() } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MediaKind;
    use crate::synthetic::track;
    use capture::CaptureTime;
    use std::num::NonZeroU32;

    fn of(tracks: Vec<TrackInfo>, window: Window) -> String {
        let p = Presentation { name: "door\r\nx".into(), label: "/door".into(), tracks, window };
        describe(&p, "127.0.0.1".parse().expect("address"), 7)
    }

    #[test]
    fn a_cameras_description_is_kept_but_for_what_is_ours() {
        let mut t = track(1, "door", "door", 0, 10);
        t.sdp_media = Some("m=video 5004 RTP/AVP/TCP 96 97\r\nc=IN IP4 10.0.0.1\r\nb=AS:500\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0I=,aM4=\r\na=control:rtsp://10.0.0.1/t1\r\na=range:npt=0-\r\na=framerate:25\r\na=ssrc:1 cname:x\r\nbroken\r\n".into());
        let window = Window::Recorded {
            from: CaptureTime::from_nanos(0),
            asked: CaptureTime::from_nanos(0),
            to: CaptureTime::from_nanos(1_500_000_001),
        };
        let sdp = of(vec![t.clone()], window);
        assert_eq!(
            sdp,
            "v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\ns=doorx\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\na=range:npt=0-1.501\r\nm=video 0 RTP/AVP 96 97\r\nb=AS:500\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0I=,aM4=\r\na=framerate:25\r\na=control:trackID=1\r\n"
        );
        assert_eq!((payload_types(&t), main_payload_type(&t)), (vec![96, 97], 96));
    }

    #[test]
    fn descriptions_are_built_from_what_was_learned() {
        let mut h264 = track(1, "v", "c", 0, 10);
        h264.parameter_sets = vec![vec![0x68, 0xce], vec![0x67, 0x42, 0xc0, 0x1e, 0x99]];
        let mut h265 = track(2, "w", "c", 0, 10);
        h265.encoding = Some("H265".into());
        h265.parameter_sets = vec![vec![0x40, 1], vec![0x42, 1], vec![0x44, 1]];
        let mut aac = track(3, "a", "c", 0, 10);
        (aac.media, aac.encoding, aac.clock_rate, aac.channels) =
            (MediaKind::Audio, Some("MPEG4-GENERIC".into()), NonZeroU32::new(44_100), Some(2));
        let mut unknown = track(4, "u", "c", 0, 10);
        (unknown.encoding, unknown.media) = (None, MediaKind::Application);
        let sdp = of(vec![h264, h265, aac, unknown], Window::Live);
        for line in [
            "a=range:npt=now-",
            "a=fmtp:96 packetization-mode=1;profile-level-id=42C01E;sprop-parameter-sets=Z0LAHpk=,aM4=",
            "a=rtpmap:96 H265/90000",
            "a=fmtp:96 sprop-vps=QAE=;sprop-sps=QgE=;sprop-pps=RAE=",
            "a=rtpmap:96 MPEG4-GENERIC/44100/2",
            "config=1210",
            "m=application 0 RTP/AVP 96\r\na=control:trackID=4",
        ] {
            assert!(sdp.contains(line), "{line} in {sdp}");
        }
    }
}
