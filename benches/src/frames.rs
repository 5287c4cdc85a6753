//! Ethernet frames by hand: IPv4, UDP and TCP headers with right lengths and checksums, and RTP with H.264 that parses.

use std::net::Ipv4Addr;

/// Constrained-baseline 640x360 parameter sets as x264 writes them.
pub const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00,
    0x00, 0x03, 0x00, 0x1e, 0x0f, 0x16, 0x2e, 0x48,
];
/// See [`SPS`].
pub const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];

/// Both ends of a conversation.
#[derive(Clone, Copy)]
pub struct Ends {
    /// Sender.
    pub source: (Ipv4Addr, u16),
    /// Receiver.
    pub destination: (Ipv4Addr, u16),
}

impl Ends {
    /// The other direction.
    pub fn reversed(self) -> Self {
        Ends { source: self.destination, destination: self.source }
    }
}

fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x00, a, b, c, d]
}

/// Appends Ethernet and IPv4 headers for `payload_len` bytes of protocol `protocol`.
fn headers(out: &mut Vec<u8>, ends: Ends, protocol: u8, payload_len: usize, identification: u16) {
    out.extend(mac(ends.destination.0));
    out.extend(mac(ends.source.0));
    out.extend([0x08, 0x00]);
    let at = out.len();
    out.extend([0x45, 0]);
    out.extend(((20 + payload_len) as u16).to_be_bytes());
    out.extend(identification.to_be_bytes());
    out.extend([0x40, 0, 64, protocol, 0, 0]);
    out.extend(ends.source.0.octets());
    out.extend(ends.destination.0.octets());
    let sum = checksum(&out[at..at + 20]);
    out[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
}

/// Appends a UDP frame (checksum 0: not computed, as IPv4 allows).
pub fn udp(out: &mut Vec<u8>, ends: Ends, payload: &[u8]) {
    headers(out, ends, 17, 8 + payload.len(), 0);
    out.extend(ends.source.1.to_be_bytes());
    out.extend(ends.destination.1.to_be_bytes());
    out.extend(((8 + payload.len()) as u16).to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
}

/// TCP flags used here.
pub mod flag {
    /// Synchronise.
    pub const SYN: u8 = 2;
    /// Push.
    pub const PSH: u8 = 8;
    /// Acknowledge.
    pub const ACK: u8 = 16;
}

/// Appends a TCP frame with a 32-byte header (timestamps as Linux sends them); the checksum is left 0 as offloading leaves it.
pub fn tcp(out: &mut Vec<u8>, ends: Ends, seq: u32, ack: u32, flags: u8, time_ms: u32, payload: &[u8]) {
    headers(out, ends, 6, 32 + payload.len(), seq as u16);
    out.extend(ends.source.1.to_be_bytes());
    out.extend(ends.destination.1.to_be_bytes());
    out.extend(seq.to_be_bytes());
    out.extend(ack.to_be_bytes());
    out.extend([0x80, flags, 0x10, 0x00, 0, 0, 0, 0, 1, 1, 8, 10]);
    out.extend(time_ms.to_be_bytes());
    out.extend(time_ms.wrapping_sub(3).to_be_bytes());
    out.extend(payload);
}

/// Appends an RTP header of version 2 without extension.
pub fn rtp(out: &mut Vec<u8>, marker: bool, payload_type: u8, seq: u16, timestamp: u32, ssrc: u32) {
    out.extend([0x80, payload_type | u8::from(marker) << 7]);
    out.extend(seq.to_be_bytes());
    out.extend(timestamp.to_be_bytes());
    out.extend(ssrc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_checksum_verifies() {
        let ends = Ends {
            source: (Ipv4Addr::new(198, 18, 0, 11), 554),
            destination: (Ipv4Addr::new(198, 18, 0, 2), 4000),
        };
        let mut frame = Vec::new();
        udp(&mut frame, ends, b"1234");
        assert_eq!(checksum(&frame[14..34]), 0);
        assert_eq!(frame.len(), 14 + 20 + 8 + 4);
    }
}
