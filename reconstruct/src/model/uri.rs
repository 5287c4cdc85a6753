//! RTSP URIs as cameras and clients write them, made comparable.
//!
//! Cameras send `Content-Base` without scheme, `rtsp://rtsp://`, bare IPv6 hosts, other host names than the one that
//! was asked for; clients put credentials in front of the host. None of this says which media is meant: path and query
//! do, and the camera is known by its address.

/// What is left of a URI once who serves it is taken off: path and query, without trailing slashes, always beginning
/// with `/`. Case is kept.
pub fn normalise_uri(uri: &str) -> String {
    let path = path_of(uri.trim());
    let path = path.split('#').next().unwrap_or("");
    let mut out = String::with_capacity(path.len() + 1);
    for c in path.chars() {
        // A base that ends in a slash joined with a control that begins with one gives two.
        if c == '/' && out.ends_with('/') {
            continue;
        }
        out.push(c);
    }
    while out.ends_with('/') {
        out.pop();
    }
    if !out.starts_with('/') {
        out.insert(0, '/');
    }
    out
}

/// Path and query of a URI; the whole text when it has no authority.
fn path_of(uri: &str) -> &str {
    let mut rest = uri;
    let mut authority = false;
    // `rtsp://rtsp://host/path` was seen: take off as many schemes as there are.
    while let Some(after) = strip_scheme(rest) {
        rest = after;
        authority = true;
    }
    if !authority {
        return rest;
    }
    match rest.find(['/', '?']) {
        Some(at) => &rest[at..],
        None => "",
    }
}

fn strip_scheme(uri: &str) -> Option<&str> {
    for scheme in ["rtsp://", "rtspu://", "rtsps://", "http://", "https://", "rtspt://"] {
        if let Some(head) = uri.get(..scheme.len())
            && head.eq_ignore_ascii_case(scheme)
        {
            return Some(&uri[scheme.len()..]);
        }
    }
    None
}

/// A media's control URI: absolute, or relative to `base` (RFC 2326 appendix C.1.1). Cameras expect plain joining with a slash
/// rather than RFC 3986 resolution, and so do all clients.
pub fn control_uri(base: &str, control: &str) -> String {
    let control = control.trim();
    if strip_scheme(control).is_some() {
        return normalise_uri(control);
    }
    let base = normalise_uri(base);
    if control.is_empty() || control == "*" {
        return base;
    }
    normalise_uri(&format!("{base}/{control}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cameras_write() {
        for (uri, want) in [
            ("rtsp://198.18.0.11:554/cam/", "/cam"),
            ("rtsp://rtsp://198.18.0.11/cam/trackID=1", "/cam/trackID=1"),
            ("RTSP://user:secret@host/a//b", "/a/b"),
            ("rtsp://host", "/"),
            ("rtsp://host?x=1", "/?x=1"),
            ("rtsp://[fe80::1]:8554/x", "/x"),
            ("/cam", "/cam"),
            ("trackID=1", "/trackID=1"),
            ("", "/"),
        ] {
            assert_eq!(normalise_uri(uri), want, "{uri}");
        }
    }

    #[test]
    fn controls() {
        assert_eq!(control_uri("rtsp://h/cam/", "trackID=1"), "/cam/trackID=1");
        assert_eq!(control_uri("rtsp://h/cam", "/trackID=1"), "/cam/trackID=1");
        assert_eq!(control_uri("rtsp://h/cam", "rtsp://other/x/1"), "/x/1");
        assert_eq!(control_uri("rtsp://h/cam", "*"), "/cam");
        assert_eq!(control_uri("rtsp://h/cam?a=1", "trackID=0"), "/cam?a=1/trackID=0");
    }
}
