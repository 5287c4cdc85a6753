//! Filters that keep what belongs to the packets they name.
//!
//! `udp port 5004` matches the first fragment of a datagram only, the later ones have no ports; and behind a VLAN tag every
//! offset of the filter is off by four. A recorder that takes the filter to the letter loses parts of frames without a word,
//! so both are let in besides, unless the filter speaks of them itself.

/// The filter with later IPv4 and IPv6 fragments, and with the same packets behind one VLAN tag; `None` when it is empty or deals
/// with tags or fragments itself.
pub fn widen(filter: &str) -> Option<String> {
    let filter = filter.trim();
    let words = filter.split(|c: char| !c.is_ascii_alphanumeric());
    if filter.is_empty()
        || words.into_iter().any(|w| matches!(w, "vlan" | "frag" | "mpls"))
        || filter.contains("ip[6")
    {
        return None;
    }
    let wider = format!("({filter}) or (ip[6:2] & 0x1fff != 0) or (ip6 proto 44)");
    Some(format!("({wider}) or (vlan and ({wider}))"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap::{Capture, Linktype};

    fn matches(filter: &str, packet: &[u8]) -> bool {
        Capture::dead(Linktype::ETHERNET).unwrap().compile(filter, true).unwrap().filter(packet)
    }

    fn udp(tag: bool, fragment_offset: u16) -> Vec<u8> {
        let mut frame = vec![2; 12];
        if tag {
            frame.extend([0x81, 0, 0, 7]);
        }
        frame.extend([8, 0, 0x45, 0, 0, 100, 0, 1]);
        frame.extend(fragment_offset.to_be_bytes());
        frame.extend([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x13, 0x8c, 0x13, 0x8c, 0, 80, 0, 0]);
        frame.resize(120, 0);
        frame
    }

    #[test]
    fn later_fragments_and_tagged_frames_are_let_in() {
        let narrow = "udp port 5004";
        let wide = widen(narrow).unwrap();
        assert!(matches(narrow, &udp(false, 0)) && matches(&wide, &udp(false, 0)));
        assert!(!matches(narrow, &udp(false, 185)) && matches(&wide, &udp(false, 185)));
        assert!(!matches(narrow, &udp(true, 0)) && matches(&wide, &udp(true, 0)));
        assert!(matches(&wide, &udp(true, 185)));
        assert!(!matches(&widen("tcp port 554").unwrap(), &udp(false, 0)));
    }

    #[test]
    fn a_filter_that_speaks_of_tags_itself_is_left_alone() {
        for own in ["vlan 7 and udp", "ip[6:2] & 0x1fff != 0", "", "  "] {
            assert_eq!(widen(own), None);
        }
    }
}
