//! The headers that say where media goes: `Transport`, `Session`, `RTP-Info`.
//!
//! Owns their lenient reading (RFC 2326 sections 12.39, 12.37, 12.33). Unknown parameters are passed over; a value that is no
//! number is as good as a missing one. Costs: one pass; at most [`MAX_ALTERNATIVES`] entries of a list are kept.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How many transports or RTP-Info entries of one header are read.
pub const MAX_ALTERNATIVES: usize = 32;

/// One alternative of a `Transport` header, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportSpec {
    /// `RTP/AVP/TCP`, `RTP/SAVP` and the like: the media travels in this connection.
    pub tcp: bool,
    /// The profile is SRTP's.
    pub secure: bool,
    /// `multicast` was said.
    pub multicast: bool,
    /// `interleaved=`
    pub interleaved: Option<(u8, u8)>,
    /// `client_port=`
    pub client_port: Option<(u16, u16)>,
    /// `server_port=`
    pub server_port: Option<(u16, u16)>,
    /// `port=`, multicast's
    pub port: Option<(u16, u16)>,
    /// `destination=`
    pub destination: Option<IpAddr>,
    /// `source=`
    pub source: Option<IpAddr>,
    /// `ttl=`
    pub ttl: Option<u8>,
    /// `ssrc=`, in hexadecimal
    pub ssrc: Option<u32>,
    /// `mode=record`
    pub record: bool,
}

/// The alternatives of a `Transport` header in order of preference.
pub fn transports(value: &str) -> Vec<TransportSpec> {
    value.split(',').filter_map(transport).take(MAX_ALTERNATIVES).collect()
}

fn transport(text: &str) -> Option<TransportSpec> {
    let mut parts = text.split(';').map(str::trim);
    let profile = parts.next()?.to_ascii_uppercase();
    // "RTP/AVP", "RTP/AVP/TCP", "RTP/SAVPF/UDP"; Dahua and others send "RTP/AVP/TCP" without `interleaved`.
    if !profile.starts_with("RTP/") {
        return None;
    }
    let mut spec = TransportSpec {
        tcp: profile.ends_with("/TCP"),
        secure: profile.contains("SAVP"),
        ..Default::default()
    };
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "multicast" => spec.multicast = true,
            "interleaved" => spec.interleaved = pair(value),
            "client_port" => spec.client_port = pair(value),
            "server_port" => spec.server_port = pair(value),
            "port" => spec.port = pair(value),
            "destination" => spec.destination = address(value),
            "source" => spec.source = address(value),
            "ttl" => spec.ttl = value.parse().ok(),
            "ssrc" => spec.ssrc = ssrc(value),
            "mode" => {
                spec.record = value.eq_ignore_ascii_case("record") || value.eq_ignore_ascii_case("receive")
            }
            _ => {}
        }
    }
    spec.tcp |= spec.interleaved.is_some();
    Some(spec)
}

/// "5000-5001" or "5000": the second is the next one then. Zero ports ("0-0", a refusal in disguise) are none.
fn pair<T: Pair>(value: &str) -> Option<(T, T)> {
    let (first, second) = value.split_once('-').unwrap_or((value, ""));
    let first = T::read(first.trim())?;
    Some((first, T::read(second.trim()).unwrap_or(first.next())))
}

trait Pair: Copy {
    fn read(text: &str) -> Option<Self>;
    fn next(self) -> Self;
}

impl Pair for u8 {
    fn read(text: &str) -> Option<u8> {
        text.parse().ok()
    }
    fn next(self) -> u8 {
        self.wrapping_add(1)
    }
}

impl Pair for u16 {
    fn read(text: &str) -> Option<u16> {
        text.parse().ok().filter(|&port| port != 0)
    }
    fn next(self) -> u16 {
        self.checked_add(1).unwrap_or(self)
    }
}

fn address(value: &str) -> Option<IpAddr> {
    value.trim_start_matches('[').trim_end_matches(']').parse().ok().filter(|a: &IpAddr| !a.is_unspecified())
}

/// Eight hexadecimal digits (RFC 2326 section 12.39); cameras omit leading zeros or add `0x`.
fn ssrc(value: &str) -> Option<u32> {
    let value = value.strip_prefix("0x").or(value.strip_prefix("0X")).unwrap_or(value);
    u32::from_str_radix(value, 16).ok()
}

/// A `Session` header: the id, and the time-out in seconds when one is given.
pub fn session(value: &str) -> Option<(String, Option<u32>)> {
    let mut parts = value.split(';').map(str::trim);
    let id = parts.next().filter(|id| !id.is_empty())?;
    let timeout = parts.find_map(|p| {
        let (name, value) = p.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().parse().ok())?
    });
    Some((id.to_owned(), timeout))
}

/// One entry of an `RTP-Info` header, as written. Some cameras' numbers are fiction; they are evidence, no more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtpInfoEntry {
    /// The media's URI.
    pub uri: String,
    /// Sequence number of the first packet.
    pub seq: Option<u16>,
    /// RTP time that corresponds to the start of the `Range`.
    pub rtptime: Option<u32>,
}

/// The entries of an `RTP-Info` header. A URI may contain commas and semicolons: an entry begins at each `url=`.
pub fn rtp_info(value: &str) -> Vec<RtpInfoEntry> {
    let lower = value.to_ascii_lowercase();
    let starts: Vec<usize> = lower.match_indices("url=").map(|(i, _)| i).take(MAX_ALTERNATIVES).collect();
    let ends = starts.iter().skip(1).copied().chain([value.len()]);
    starts.iter().zip(ends).map(|(&start, end)| rtp_info_entry(&value[start + 4..end])).collect()
}

fn rtp_info_entry(text: &str) -> RtpInfoEntry {
    let mut entry = RtpInfoEntry::default();
    let mut uri_end = text.len();
    let mut at = text.len();
    // From the end, since the parameters' names are known and the URI's parts are not.
    for part in text.rsplit(';') {
        at -= part.len();
        let word = part.trim().trim_end_matches(',').trim();
        match word.split_once('=') {
            Some((name, n)) if name.trim().eq_ignore_ascii_case("seq") => {
                entry.seq = n.trim().parse::<u64>().ok().map(|n| n as u16);
            }
            Some((name, n)) if name.trim().eq_ignore_ascii_case("rtptime") => {
                // Some print the number as signed.
                entry.rtptime = n.trim().parse::<i64>().ok().map(|n| n as u32);
            }
            _ => break,
        }
        uri_end = at.saturating_sub(1);
        at = uri_end;
    }
    entry.uri = text[..uri_end].trim().trim_end_matches(',').trim_matches('"').to_owned();
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_transport() {
        let t = &transports(
            "RTP/AVP;unicast;client_port=5000-5001;server_port=6256-6257;ssrc=1E3A;source=198.18.0.11;mode=\"PLAY\"",
        )[0];
        assert_eq!(t.client_port, Some((5000, 5001)));
        assert_eq!(t.server_port, Some((6256, 6257)));
        assert_eq!(t.ssrc, Some(0x1e3a));
        assert_eq!(t.source, Some("198.18.0.11".parse().unwrap()));
        assert!(!t.tcp && !t.multicast && !t.record);
    }

    #[test]
    fn alternatives_and_interleaved() {
        let all = transports(
            "RTP/AVP/TCP;unicast;interleaved=2-3, RAW/RAW/UDP;x=1, RTP/AVP;multicast;port=5004;ttl=16;destination=239.1.1.1",
        );
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].tcp, all[0].interleaved), (true, Some((2, 3))));
        assert_eq!((all[1].multicast, all[1].port, all[1].ttl), (true, Some((5004, 5005)), Some(16)));
    }

    #[test]
    fn nonsense_is_nothing() {
        let t = &transports(
            "RTP/AVP;client_port=0-0;server_port=x;ssrc=zz;source=cam.lan;ttl=999;interleaved=300-301",
        )[0];
        assert_eq!(*t, TransportSpec::default());
        assert!(transports("").is_empty());
        assert_eq!(session(" ;timeout=5"), None);
    }

    #[test]
    fn sessions() {
        assert_eq!(session("12345678 ; timeout=60"), Some(("12345678".into(), Some(60))));
        assert_eq!(session("abc"), Some(("abc".into(), None)));
    }

    #[test]
    fn rtp_info_with_difficult_uris() {
        let all = rtp_info(
            "url=rtsp://h/a;b,c?x=1/trackID=1;seq=45102;rtptime=12345, url=rtsp://h/2;rtptime=-1;seq=1",
        );
        assert_eq!(
            all[0],
            RtpInfoEntry {
                uri: "rtsp://h/a;b,c?x=1/trackID=1".into(),
                seq: Some(45102),
                rtptime: Some(12345)
            }
        );
        assert_eq!(all[1], RtpInfoEntry { uri: "rtsp://h/2".into(), seq: Some(1), rtptime: Some(u32::MAX) });
        assert_eq!(rtp_info("url=stream=0")[0].uri, "stream=0");
        assert!(rtp_info("seq=1").is_empty());
    }
}
