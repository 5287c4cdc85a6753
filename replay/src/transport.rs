//! The `Transport` header: which of the transports that a client offers is taken (RFC 2326, section 12.39).
//!
//! Takes RTP/AVP over unicast UDP and interleaved in the RTSP connection. Never sends to an address that the client names
//! (`destination=`): media goes to the address that the request came from, or it could be used to flood others.

/// How a client wants one track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// In the RTSP connection, on these channels when it says so.
    Interleaved(Option<(u8, u8)>),
    /// In datagrams to these ports.
    Udp {
        /// RTP goes here.
        rtp: u16,
        /// RTCP goes here.
        rtcp: u16,
    },
}

/// The first offer that can be served, in the client's order of preference.
pub fn choose(header: &str) -> Option<Wanted> {
    header.split(',').find_map(|offer| parse(offer.trim()))
}

fn parse(offer: &str) -> Option<Wanted> {
    let mut parts = offer.split(';').map(str::trim);
    let protocol = parts.next()?.to_ascii_uppercase();
    let (mut interleaved, mut client_port) = (None, None);
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "multicast" => return None,
            "mode" if !value.to_ascii_lowercase().contains("play") => return None,
            "interleaved" => interleaved = Some(pair::<u8>(value)?),
            "client_port" => client_port = Some(pair::<u16>(value)?),
            _ => {}
        }
    }
    match protocol.as_str() {
        "RTP/AVP/TCP" => Some(Wanted::Interleaved(interleaved)),
        "RTP/AVP" | "RTP/AVP/UDP" => {
            let (rtp, rtcp) = client_port?;
            (rtp != 0 && rtcp != 0).then_some(Wanted::Udp { rtp, rtcp })
        }
        _ => None,
    }
}

/// `a-b`, or `a` alone for `a` and the number after it.
fn pair<T: std::str::FromStr + Copy + TryFrom<u32> + Into<u32>>(value: &str) -> Option<(T, T)> {
    match value.split_once('-') {
        Some((a, b)) => Some((a.trim().parse().ok()?, b.trim().parse().ok()?)),
        None => {
            let a: T = value.trim().parse().ok()?;
            Some((a, T::try_from(a.into() + 1).ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_taken_in_order() {
        let udp = |rtp, rtcp| Some(Wanted::Udp { rtp, rtcp });
        let table = [
            ("RTP/AVP/TCP;unicast;interleaved=0-1", Some(Wanted::Interleaved(Some((0, 1))))),
            ("RTP/AVP/TCP;unicast;interleaved=0-1;mode=\"PLAY\"", Some(Wanted::Interleaved(Some((0, 1))))),
            ("RTP/AVP/TCP;unicast", Some(Wanted::Interleaved(None))),
            ("RTP/AVP;unicast;client_port=4588-4589", udp(4588, 4589)),
            ("RTP/AVP/UDP;unicast;client_port=4588", udp(4588, 4589)),
            ("RTP/AVP;multicast;client_port=1-2, RTP/AVP;unicast;client_port=3-4", udp(3, 4)),
            (
                "RTP/SAVP;unicast;client_port=3-4,RTP/AVP/TCP;interleaved=254-255",
                Some(Wanted::Interleaved(Some((254, 255)))),
            ),
            ("RTP/AVP;unicast", None),
            ("RTP/AVP;unicast;client_port=65535", None),
            ("RTP/AVP;unicast;client_port=0-1", None),
            ("RTP/AVP/TCP;interleaved=0-999", None),
            ("RTP/AVP;unicast;client_port=5-6;mode=record", None),
            ("RAW/RAW/UDP;unicast;client_port=5-6", None),
            ("", None),
        ];
        for (header, expected) in table {
            assert_eq!(choose(header), expected, "{header}");
        }
    }
}
