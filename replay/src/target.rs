//! What a request URL asks for: a stream or camera, a window of time, a track.
//!
//! `rtsp://HOST:8554/NAME` is live, `rtsp://HOST:8554/NAME?from=T&to=T` on demand; `id=`, `source=` and `codec=` select
//! without a name or narrow it. `T` is RFC 3339, seconds since 1970, `now`, or relative to now: `-10m`, `-1h30m`.
//!
//! Tracks are addressed by `/trackID=N` at the end, with or without a query string before it, because clients glue control
//! URLs together in both ways; ffmpeg also adds a slash behind the query string (libavformat/rtsp.c).

use crate::range::fraction_ns;
use crate::source::Selection;
use capture::CaptureTime;
use jiff::Timestamp;
use std::net::IpAddr;

/// What a URL asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which tracks.
    pub selection: Selection,
    /// Start of the window.
    pub from: Option<TimeSpec>,
    /// End of the window.
    pub to: Option<TimeSpec>,
    /// One track of it, counted from 1 as in the description.
    pub track: Option<usize>,
    /// The URL without track and trailing slash: what names the presentation.
    pub base: String,
    /// Path and query, decoded: what is shown to users.
    pub label: String,
}

/// A time as users write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSpec {
    /// A moment.
    At(CaptureTime),
    /// So many nanoseconds before now.
    Ago(i64),
}

impl TimeSpec {
    /// As a moment.
    pub fn resolve(self, now: CaptureTime) -> CaptureTime {
        match self {
            Self::At(t) => t,
            Self::Ago(ns) => CaptureTime::from_nanos(now.nanos().saturating_sub(ns)),
        }
    }
}

/// Why a URL says nothing that can be played. The text goes to the client as the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No scheme and host.
    #[error("this is no RTSP URL: ask for rtsp://HOST:PORT/NAME")]
    NotRtsp,
    /// Nothing is named.
    #[error("the URL names no stream: ask for /NAME, or /?id=ID, ?source=ADDRESS, ?codec=h264")]
    Nothing,
    /// A time can't be read.
    #[error("'{0}' is no time: use 2026-01-31T12:00:00Z, seconds since 1970, or -10m")]
    Time(String),
    /// An address can't be read.
    #[error("'{0}' is no IP address")]
    Address(String),
    /// An unknown key in the query.
    #[error("'{0}' is nothing to ask for: from, to, id, source and codec are")]
    Key(String),
    /// A key that stands twice in the query: which of the two is meant can't be told.
    #[error("'{0}' stands twice in the URL: ask for one")]
    Twice(String),
}

impl Target {
    /// Reads a request URI.
    pub fn parse(uri: &str) -> Result<Self, TargetError> {
        let (scheme, rest) = uri.split_once("://").ok_or(TargetError::NotRtsp)?;
        if !["rtsp", "rtspu", "rtspt"].iter().any(|s| scheme.eq_ignore_ascii_case(s)) {
            return Err(TargetError::NotRtsp);
        }
        let (authority, path_and_query) = match rest.find(['/', '?']) {
            Some(i) => rest.split_at(i),
            None => (rest, ""),
        };
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let (path, track_in_path) = split_track(path);
        // A base without path would be glued and resolved in as many ways as there are clients.
        let path = if path.is_empty() { "/" } else { path };
        let (query, track_in_query) = split_track(query);
        let mut target = Self {
            selection: Selection::default(),
            from: None,
            to: None,
            track: track_in_path.or(track_in_query),
            base: format!("{scheme}://{authority}{path}{}{query}", if query.is_empty() { "" } else { "?" }),
            label: decode(&format!("{path}{}{query}", if query.is_empty() { "" } else { "?" })),
        };
        let name = decode(path.trim_matches('/'));
        target.selection.name = (!name.is_empty()).then_some(name);
        let mut seen = Vec::new();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let key = target.read_pair(pair)?;
            if seen.contains(&key) {
                return Err(TargetError::Twice(key.to_owned()));
            }
            seen.push(key);
        }
        if target.selection == Selection::default() {
            return Err(TargetError::Nothing);
        }
        Ok(target)
    }

    /// True if both ask for the same tracks and time, whatever the URLs look like: clients write `localhost` or an address, leave
    /// their password out or put it in, and escape as they like. Which track of them is not compared.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        (&self.selection, self.from, self.to) == (&other.selection, other.from, other.to)
    }

    /// Takes a pair of the query over, and gives its key.
    fn read_pair<'a>(&mut self, pair: &'a str) -> Result<&'a str, TargetError> {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value);
        match key {
            "from" => self.from = Some(parse_time(&value)?),
            "to" => self.to = Some(parse_time(&value)?),
            "id" => self.selection.id = Some(value),
            "source" => {
                let bare = value.trim_start_matches('[').trim_end_matches(']');
                let address: IpAddr = bare.parse().map_err(|_| TargetError::Address(value.clone()))?;
                self.selection.source = Some(address.to_canonical());
            }
            "codec" => self.selection.codec = Some(value.to_ascii_lowercase()),
            other => return Err(TargetError::Key(decode(other))),
        }
        Ok(key)
    }
}

/// The name of track `n` (counted from 1) in a control URL.
pub fn track_name(n: usize) -> String {
    format!("trackID={n}")
}

/// The track of a URL that names nothing else.
pub fn track_alone(uri: &str) -> Option<usize> {
    let (_, rest) = uri.split_once("://")?;
    let path = rest[rest.find(['/', '?'])?..].strip_prefix('/')?;
    match split_track(path) {
        ("", track) => track,
        _ => None,
    }
}

/// Takes `/trackID=N` and slashes off the end.
fn split_track(s: &str) -> (&str, Option<usize>) {
    let trimmed = s.trim_end_matches('/');
    let (head, last) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
    match last.strip_prefix("trackID=").and_then(|n| n.parse().ok()) {
        Some(n) => (head.trim_end_matches('/'), Some(n)),
        None => (trimmed, None),
    }
}

/// Percent-decoding (RFC 3986, section 2.1); what is no valid escape stays as it is.
fn decode(s: &str) -> String {
    let bytes = s.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escaped = (bytes[i] == b'%')
            .then(|| bytes.get(i + 1..i + 3))
            .flatten()
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match escaped {
            Some(b) => {
                out.push(b);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A time as users write it.
pub fn parse_time(text: &str) -> Result<TimeSpec, TargetError> {
    let error = || TargetError::Time(text.to_owned());
    // A `+01:00` that some client has taken for an encoded space.
    let text_plus = text.trim().replace(' ', "+");
    let s = text_plus.as_str();
    if s == "now" {
        return Ok(TimeSpec::Ago(0));
    }
    if let Some(ago) = s.strip_prefix('-') {
        return relative_ns(ago).map(TimeSpec::Ago).ok_or_else(error);
    }
    if s.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        let (whole, fraction) = s.split_once('.').unwrap_or((s, ""));
        let seconds: i64 = whole.parse().map_err(|_| error())?;
        let ns = seconds.checked_mul(1_000_000_000).zip(fraction_ns(fraction));
        return ns
            .and_then(|(a, b)| a.checked_add(b))
            .map(|ns| TimeSpec::At(CaptureTime::from_nanos(ns)))
            .ok_or_else(error);
    }
    let t: Timestamp = s.parse().map_err(|_| error())?;
    let ns = i64::try_from(t.as_nanosecond()).map_err(|_| error())?;
    Ok(TimeSpec::At(CaptureTime::from_nanos(ns)))
}

/// `1h30m`, `90s`, `2d` in nanoseconds; a bare number is seconds.
fn relative_ns(s: &str) -> Option<i64> {
    let mut rest = s;
    let mut total = 0i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let n: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit_ns = match &rest[..letters] {
            "ms" => 1_000_000,
            "s" | "" => 1_000_000_000,
            "m" | "min" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "w" => 604_800_000_000_000,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(n.checked_mul(unit_ns)?)?;
    }
    (!s.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(name: &str) -> Selection {
        Selection { name: Some(name.into()), ..Selection::default() }
    }

    #[test]
    fn a_track_alone_names_nothing_else() {
        assert_eq!(track_alone("rtsp://h:8554/trackID=1"), Some(1));
        for uri in
            ["rtsp://h:8554/", "rtsp://h", "/trackID=1", "rtsp://h/door/trackID=1", "rtsp://h?id=3/trackID=1"]
        {
            assert_eq!(track_alone(uri), None, "{uri}");
        }
    }

    #[test]
    fn tracks_and_slashes_are_found_wherever_clients_put_them() {
        for uri in [
            "rtsp://h:8554/door?from=10&to=20/trackID=2",
            "rtsp://h:8554/door/trackID=2?from=10&to=20",
            "rtsp://h:8554/door?from=10&to=20/trackID=2/",
            "rtsp://h:8554/door/?from=10&to=20/trackID=2",
        ] {
            let t = Target::parse(uri).expect(uri);
            assert_eq!((t.track, t.base.as_str()), (Some(2), "rtsp://h:8554/door?from=10&to=20"), "{uri}");
            assert_eq!(t.selection, named("door"));
            assert_eq!(t.to, Some(TimeSpec::At(CaptureTime::from_secs_nanos(20, 0))));
        }
        let t = Target::parse("rtsp://h/door?from=-10m/").expect("parses");
        assert_eq!(
            (t.track, t.from, t.base.as_str()),
            (None, Some(TimeSpec::Ago(600_000_000_000)), "rtsp://h/door?from=-10m")
        );
        assert_eq!(Target::parse("rtsp://u:p@[::1]:1/a%20b/c/").expect("parses").selection, named("a b/c"));
    }

    #[test]
    fn control_urls_of_a_query_alone_come_back_to_it() {
        for uri in ["rtsp://h:9701/?id=0", "rtsp://h:9701?id=0", "rtsp://h:9701/?id=0/"] {
            let t = Target::parse(uri).expect(uri);
            assert_eq!((t.base.as_str(), t.label.as_str()), ("rtsp://h:9701/?id=0", "/?id=0"), "{uri}");
            // ffmpeg and live555 glue to the Content-Base, which ends in a slash, and some to the URL itself.
            for glued in [format!("{}/trackID=2", t.base), format!("{uri}/trackID=2")] {
                let track = Target::parse(&glued).expect(&glued);
                assert!(track.asks_the_same(&t) && track.base == t.base && track.track == Some(2), "{glued}");
            }
        }
        // GStreamer resolves as RFC 3986 has it, which leaves this of it.
        assert_eq!(track_alone("rtsp://h:9701/trackID=2"), Some(2));
    }

    #[test]
    fn the_same_is_asked_for_in_other_words() {
        let one = Target::parse("rtsp://localhost:8554/front-door?from=10&codec=h264").expect("parses");
        for (uri, same) in [
            ("rtsp://127.0.0.1:8554/front-door?from=10&codec=h264", true),
            ("RTSP://u:p@localhost/front%2ddoor/?codec=H264&from=1970-01-01T00:00:10Z/trackID=2", true),
            ("rtsp://localhost:8554/front-door?from=11&codec=h264", false),
            ("rtsp://localhost:8554/front-door?from=10", false),
            ("rtsp://localhost:8554/back-door?from=10&codec=h264", false),
        ] {
            assert_eq!(Target::parse(uri).expect(uri).asks_the_same(&one), same, "{uri}");
        }
    }

    #[test]
    fn selections_without_a_name() {
        let t = Target::parse("rtsp://h/?source=[2001:db8::1]&codec=H265").expect("parses");
        assert_eq!(t.selection.source, Some("2001:db8::1".parse().expect("address")));
        assert_eq!((t.selection.codec.as_deref(), t.selection.name), (Some("h265"), None));
        let mapped = Target::parse("rtsp://h/?source=::ffff:10.0.0.7").expect("parses");
        assert_eq!(mapped.selection.source, Some("10.0.0.7".parse().expect("address")));
        assert_eq!(Target::parse("rtsp://h?id=3").expect("parses").selection.id.as_deref(), Some("3"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (uri, says) in [
            ("rtsp://h/", "names no stream"),
            ("*", "no RTSP URL"),
            ("http://h/a", "no RTSP URL"),
            ("rtsp://h/a?from=yesterday", "'yesterday' is no time"),
            ("rtsp://h/a?form=1", "'form' is nothing"),
            ("rtsp://h/?source=cam", "'cam' is no IP address"),
            ("rtsp://h/a?from=1&to=3&from=2", "'from' stands twice"),
            ("rtsp://h/a?codec=h264&codec=h264/trackID=1", "'codec' stands twice"),
        ] {
            let e = Target::parse(uri).expect_err(uri).to_string();
            assert!(e.contains(says), "{uri}: {e}");
        }
    }

    #[test]
    fn times() {
        let at = |s, n| Ok(TimeSpec::At(CaptureTime::from_secs_nanos(s, n)));
        assert_eq!(parse_time("1970-01-01T00:01:00Z"), at(60, 0));
        assert_eq!(parse_time("1970-01-01T01:01:00.5+01:00"), at(60, 500_000_000));
        assert_eq!(parse_time("1970-01-01T01:01:00 01:00"), at(60, 0));
        assert_eq!(parse_time("1700000000.25"), at(1_700_000_000, 250_000_000));
        assert_eq!(parse_time("-1h30m"), Ok(TimeSpec::Ago(5_400_000_000_000)));
        assert_eq!(parse_time("-90"), Ok(TimeSpec::Ago(90_000_000_000)));
        assert_eq!(parse_time("now"), Ok(TimeSpec::Ago(0)));
        for bad in
            ["", "-", "-5x", "9999-01-01T00:00:00Z", "99999999999999999999", "1.2.3", "2026-13-01T00:00:00Z"]
        {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_url_panics(s in "\\PC{0,60}") {
            let _ = Target::parse(&s);
            let _ = Target::parse(&format!("rtsp://h/{s}"));
            let _ = parse_time(&s);
        }
    }
}
