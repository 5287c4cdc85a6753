//! Names that people type and RTSP clients put into paths.

use std::net::IpAddr;

/// Longest name made here (without a suffix for uniqueness).
pub const NAME_LEN_MAX: usize = 96;

/// `text` with everything that has a meaning in a URL or a shell replaced by single dashes; letters, digits, `.`, `_`
/// stay. Empty when nothing of that kind is in it.
pub fn sanitise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == '.' || c == '_' {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
        if out.len() >= NAME_LEN_MAX {
            break;
        }
    }
    while out.ends_with(['-', '.']) {
        out.pop();
    }
    // A path of dots alone would be resolved away by clients.
    if out.starts_with('.') { out.trim_start_matches('.').to_owned() } else { out }
}

/// A camera's name: its address. IPv6 addresses lose their colons, which RTSP clients read as a port.
pub fn camera_name(address: IpAddr) -> String {
    let address = address.to_canonical().to_string();
    if address.contains(':') { address.replace(':', "-").trim_matches('-').to_owned() } else { address }
}

/// The name that plays all tracks of one description: the camera's name and the description's path.
pub fn presentation_name(camera: &str, path: &str) -> String {
    let path = sanitise(path);
    if path.is_empty() { camera.to_owned() } else { format!("{camera}-{path}") }
}

/// The first of `name`, `name-2`, `name-3`, … that `taken` does not know.
pub fn unique(name: String, mut taken: impl FnMut(&str) -> bool) -> String {
    if !taken(&name) {
        return name;
    }
    let mut n = 2u32;
    loop {
        let candidate = format!("{name}-{n}");
        if !taken(&candidate) {
            return candidate;
        }
        n += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths() {
        assert_eq!(sanitise("/cam/realmonitor?channel=1&subtype=0"), "cam-realmonitor-channel-1-subtype-0");
        assert_eq!(sanitise("//"), "");
        assert_eq!(sanitise("/../.."), "");
        assert_eq!(sanitise("/ä b/"), "b");
        assert_eq!(camera_name("198.18.0.11".parse().unwrap()), "198.18.0.11");
        assert_eq!(camera_name("::1".parse().unwrap()), "1");
        assert_eq!(camera_name("fe80::1:2".parse().unwrap()), "fe80--1-2");
        assert_eq!(presentation_name("198.18.0.11", "/cam"), "198.18.0.11-cam");
        assert_eq!(presentation_name("198.18.0.11", "/"), "198.18.0.11");
    }

    #[test]
    fn names_are_unique() {
        let taken = ["a".to_owned(), "a-2".to_owned()];
        assert_eq!(unique("a".into(), |n| taken.iter().any(|t| t == n)), "a-3");
        assert_eq!(unique("b".into(), |n| taken.iter().any(|t| t == n)), "b");
    }
}
