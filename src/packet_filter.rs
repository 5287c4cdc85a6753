//! pcap-filter expressions on packets that are already stored: libpcap compiles them, its interpreter runs them.

use crate::failure::Failure;
use capture::LinkType;
use pcap::{BpfProgram, Capture, Linktype};
use std::collections::HashMap;

/// One expression, compiled for each link type that turns up.
pub struct PacketFilter {
    expression: String,
    programs: HashMap<LinkType, BpfProgram>,
}

impl PacketFilter {
    /// Compiles the expression once, for Ethernet, so that a wrong one is refused before any packet is read.
    pub fn new(expression: &str) -> Result<Self, Failure> {
        let mut filter = Self { expression: expression.to_owned(), programs: HashMap::new() };
        filter.program(LinkType::ETHERNET)?;
        Ok(filter)
    }

    /// Whether a frame of this link type matches.
    pub fn matches(&mut self, link: LinkType, frame: &[u8]) -> Result<bool, Failure> {
        Ok(self.program(link)?.filter(frame))
    }

    fn program(&mut self, link: LinkType) -> Result<&BpfProgram, Failure> {
        if !self.programs.contains_key(&link) {
            let program = compile(&self.expression, link)?;
            self.programs.insert(link, program);
        }
        Ok(&self.programs[&link])
    }
}

fn compile(expression: &str, link: LinkType) -> Result<BpfProgram, Failure> {
    // Files number raw IP 101, libpcap's own number on Linux is 12 (DLT_RAW); the others are the same.
    let number = if link == LinkType::RAW { 12 } else { i32::from(link.0) };
    let compiled = match expression.contains('\0') {
        true => Err("it has a NUL character in it".to_owned()),
        false => Capture::dead(Linktype(number))
            .and_then(|dead| dead.compile(expression, true))
            .map_err(|error| error.to_string().trim_start_matches("libpcap error: ").to_owned()),
    };
    compiled.map_err(|why| {
        Failure::usage(format_args!("the filter `{expression}` does not compile: {why}"))
            .next("`man pcap-filter` explains the syntax, for example `host 10.0.0.7 and udp`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ethernet frame with IPv4 and UDP from port 5000 to 5004.
    fn frame() -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2]);
        frame.extend([0x13, 0x88, 0x13, 0x8c, 0, 8, 0, 0]);
        frame
    }

    #[test]
    fn filters_match_by_link_type() {
        let mut filter = PacketFilter::new("udp port 5004").unwrap();
        assert!(filter.matches(LinkType::ETHERNET, &frame()).unwrap());
        assert!(filter.matches(LinkType::RAW, &frame()[14..]).unwrap());
        let mut other = PacketFilter::new("tcp").unwrap();
        assert!(!other.matches(LinkType::ETHERNET, &frame()).unwrap());
    }

    #[test]
    fn a_wrong_filter_is_bad_usage() {
        for wrong in ["udp prt 5004", "(((", "host", "\0"] {
            let failure = PacketFilter::new(wrong).err().unwrap();
            assert_eq!(failure.status(), 2, "{failure}");
        }
    }
}
