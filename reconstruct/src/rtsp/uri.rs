//! RTSP URIs as cameras write them, and the part of them that stays.
//!
//! Owns the resolution of a media's control attribute against its base, and the normal form by which a stream is known again:
//! the same stream asked for by name or address, with or without credentials, port, trailing slash, or a client's own query
//! words, has the same [`NormalUri::path`].
//! Refuses nothing: any text has a normal form.
//! Costs: a few small strings; called once for each SETUP.

use serde::{Deserialize, Serialize};

/// RTSP's port when a URI names none (RFC 2326 section 3.2).
const DEFAULT_PORT: u16 = 554;

/// Longest URI that is looked at; what is beyond is cut off.
pub const MAX_URI: usize = 4096;

/// Query words that say how a client wants to be served, or who it is, and not which stream it means.
const NOT_SELECTING: [&str; 19] = [
    "transportmode",
    "unicast",
    "proto",
    "tcp",
    "udp",
    "onvifreplayext",
    "timeout",
    "token",
    "auth",
    "nonce",
    "sessionid",
    "user",
    "username",
    "usr",
    "password",
    "passwd",
    "pwd",
    "_",
    "rnd",
];

/// A URI without what differs from client to client.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NormalUri {
    /// Lower case, without brackets; empty when the URI has none.
    pub host: String,
    /// 554 unless another is named.
    pub port: u16,
    /// Path and selecting query, without a leading or trailing slash: what of the URI identifies a stream of its camera.
    pub path: String,
}

/// The absolute URI of a control attribute (RFC 2326 section C.1.1), joined as cameras mean it: appended to the base with one
/// slash between, also where RFC 3986 would replace the base's last part or its query.
pub fn resolve(base: &str, control: &str) -> String {
    let control = control.trim();
    let base = base.trim();
    if control.is_empty() || control == "*" {
        return base.to_owned();
    }
    if scheme_end(control).is_some() {
        return control.to_owned();
    }
    if let Some(absolute_path) = control.strip_prefix('/') {
        // An absolute path replaces the base's; clients and servers agree on that much of RFC 3986.
        let after_scheme = scheme_end(base).unwrap_or(0);
        let authority_end = base[after_scheme..].find(['/', '?']).map_or(base.len(), |i| after_scheme + i);
        return format!("{}/{absolute_path}", &base[..authority_end]);
    }
    format!("{}/{control}", base.strip_suffix('/').unwrap_or(base))
}

/// Where the authority begins when the text has an RTSP scheme; `rtsp://rtsp://host` has it twice.
fn scheme_end(uri: &str) -> Option<usize> {
    let mut end = 0;
    while let Some(scheme) = ["rtsp://", "rtsps://", "rtspu://"]
        .iter()
        .find(|s| uri.as_bytes()[end..].get(..s.len()).is_some_and(|b| b.eq_ignore_ascii_case(s.as_bytes())))
    {
        end += scheme.len();
    }
    (end > 0).then_some(end)
}

/// The normal form of a URI. Text without a scheme is taken for `host/path` when it begins like a host, and for a path
/// when it begins with a slash (a `Content-Base` without scheme, a relative URI in a request).
pub fn normalise_control_uri(uri: &str) -> NormalUri {
    let mut uri = uri.trim();
    if uri.len() > MAX_URI {
        let cut = (0..=MAX_URI).rev().find(|&i| uri.is_char_boundary(i)).unwrap_or(0);
        uri = &uri[..cut];
    }
    let rest = &uri[scheme_end(uri).unwrap_or(0)..];
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let authority_end = end_after_password(rest, authority_end).unwrap_or(authority_end);
    let (authority, path) = rest.split_at(authority_end);
    let (host, port) = host_and_port(authority.rsplit_once('@').map_or(authority, |(_, host)| host));
    NormalUri { host, port, path: normal_path(path) }
}

/// Where the authority ends when its password contains a slash: `user:pass/word@host`.
fn end_after_password(rest: &str, authority_end: usize) -> Option<usize> {
    let (authority, path) = rest.split_at(authority_end);
    let (_, port_or_password) = authority.split_once(':')?;
    let is_port = !port_or_password.is_empty() && port_or_password.bytes().all(|b| b.is_ascii_digit());
    if is_port || authority.contains(['@', '[']) {
        return None;
    }
    let host_at = authority_end + path.split('?').next()?.find('@')? + 1;
    Some(rest[host_at..].find(['/', '?']).map_or(rest.len(), |i| host_at + i))
}

fn host_and_port(authority: &str) -> (String, u16) {
    let port_of = |text: &str| text.parse().ok().filter(|&p| p != 0).unwrap_or(DEFAULT_PORT);
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').unwrap_or((bracketed, ""));
        return (host.to_ascii_lowercase(), port_of(rest.strip_prefix(':').unwrap_or("")));
    }
    // A bare IPv6 address, as some cameras write it, has more than one colon and no port.
    match authority.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host.to_ascii_lowercase(), port_of(port)),
        _ => (authority.to_ascii_lowercase(), DEFAULT_PORT),
    }
}

fn normal_path(path: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let parts = |text: &str| -> Vec<String> {
        text.split('/').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect()
    };
    let mut normal = parts(path).join("/");
    // Dahua and others append the media's control to a base with a query: `?channel=1&subtype=0/trackID=0`.
    let (query, suffix) = match query.find('/') {
        Some(slash) => query.split_at(slash),
        None => (query, ""),
    };
    let mut words: Vec<&str> =
        query.split('&').map(str::trim).filter(|word| !word.is_empty() && selects(word)).collect();
    words.sort_unstable();
    if !words.is_empty() {
        normal.push('?');
        normal.push_str(&words.join("&"));
    }
    let suffix = parts(suffix.split('?').next().unwrap_or("")).join("/");
    if !suffix.is_empty() {
        if !normal.is_empty() {
            normal.push('/');
        }
        normal.push_str(&suffix);
    }
    normal
}

fn selects(word: &str) -> bool {
    let name = word.split('=').next().unwrap_or(word);
    !NOT_SELECTING.iter().any(|n| n.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(uri: &str) -> String {
        normalise_control_uri(uri).path
    }

    #[test]
    fn resolves_as_cameras_mean_it() {
        for (base, control, uri) in [
            ("rtsp://h/cam/", "stream=0", "rtsp://h/cam/stream=0"),
            ("rtsp://h/cam", "stream=0", "rtsp://h/cam/stream=0"),
            ("rtsp://h/cam", "*", "rtsp://h/cam"),
            ("rtsp://h/cam", "", "rtsp://h/cam"),
            ("rtsp://h/cam", "rtsp://h:8554/x", "rtsp://h:8554/x"),
            ("rtsp://h:8554/cam", "/x/track1", "rtsp://h:8554/x/track1"),
            ("rtsp://h/r?channel=1&subtype=0/", "trackID=0", "rtsp://h/r?channel=1&subtype=0/trackID=0"),
        ] {
            assert_eq!(resolve(base, control), uri);
        }
    }

    #[test]
    fn one_identity_for_every_spelling() {
        for uri in [
            "rtsp://198.18.0.11/cam/stream=0",
            "rtsp://198.18.0.11:554/cam/stream=0",
            "rtsp://admin:secret@198.18.0.11/cam/stream=0/",
            "RTSP://rtsp://198.18.0.11/cam//stream=0",
            "198.18.0.11/cam/stream=0",
            "rtsp://198.18.0.11/cam/stream=0?transportmode=unicast&onvifreplayext=1",
            "rtsp://admin:pass/w0rd@198.18.0.11/cam/stream=0",
        ] {
            let normal = normalise_control_uri(uri);
            assert_eq!(
                (normal.path.as_str(), normal.host.as_str(), normal.port),
                ("cam/stream=0", "198.18.0.11", 554),
                "{uri}"
            );
        }
    }

    #[test]
    fn query_that_selects_is_kept() {
        let a = path("rtsp://h/cam/realmonitor?channel=1&subtype=0&unicast=true&proto=Onvif/trackID=0");
        assert_eq!(a, "cam/realmonitor?channel=1&subtype=0/trackID=0");
        assert_eq!(path("rtsp://h/cam/realmonitor?subtype=0&channel=1/trackID=0/"), a);
        assert_ne!(path("rtsp://h/cam/realmonitor?channel=2&subtype=0/trackID=0"), a);
        assert_eq!(
            path("rtsp://h/axis-media/media.amp?videocodec=h264"),
            "axis-media/media.amp?videocodec=h264"
        );
    }

    #[test]
    fn addresses() {
        let host = |uri| {
            let n = normalise_control_uri(uri);
            (n.host, n.port)
        };
        assert_eq!(host("rtsp://[FE80::1]:8554/x"), ("fe80::1".into(), 8554));
        assert_eq!(host("rtsp://fe80::1/x"), ("fe80::1".into(), 554));
        assert_eq!(host("rtsp://cam.LAN:99999/x"), ("cam.lan".into(), 554));
        assert_eq!(host("/x/y"), (String::new(), 554));
        assert_eq!(path("/x/y"), "x/y");
        assert_eq!(path("*"), "");
    }

    #[test]
    fn blanks_at_the_ends_of_parts_and_words_are_no_part_of_them() {
        assert_eq!(normalise_control_uri("rtsp://h/?a &").path, "?a");
        assert_eq!(normalise_control_uri("rtsp://h/a / b? c=1 &d").path, "a/b?c=1&d");
    }

    proptest! {
        #[test]
        fn any_text_has_a_stable_normal_form(uri in "\\PC{0,80}") {
            let path = normalise_control_uri(&format!("rtsp://h/{uri}")).path;
            prop_assert_eq!(normalise_control_uri(&format!("rtsp://h/{path}")).path, path);
        }

        #[test]
        fn any_base_and_control(base in "\\PC{0,40}", control in "\\PC{0,40}") {
            let _ = normalise_control_uri(&resolve(&base, &control));
        }
    }
}
