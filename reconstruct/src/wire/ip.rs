//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers.

use super::link::{Frame, Promise};
use super::{IpPair, Layer, Undissected, be16, be32};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an IP packet carries.
pub(super) struct Packet<'a> {
    pub ip: IpPair,
    pub v6: bool,
    pub proto: u8,
    pub fragment: Option<FragmentField>,
    /// What was captured of the payload, padding of the frame left out.
    pub payload: &'a [u8],
    /// Bytes of payload that were sent; at least `payload.len()`.
    pub payload_len: usize,
}

pub(super) struct FragmentField {
    pub id: u32,
    pub offset: u32,
    pub more: bool,
}

/// `on_wire` is the length of the IP packet and the frame's padding as they were sent.
pub(super) fn parse<'a>(frame: &Frame<'a>, on_wire: usize) -> Result<Packet<'a>, Undissected> {
    let data = frame.network;
    let version = data.first().ok_or(Undissected::Cut(Layer::Ip))? >> 4;
    match (version, frame.promise) {
        (4, Promise::V4 | Promise::Either) => v4(data, on_wire),
        (6, Promise::V6 | Promise::Either) => v6(data, on_wire),
        _ => Err(Undissected::Malformed(Layer::Ip)),
    }
}

fn v4(data: &[u8], on_wire: usize) -> Result<Packet<'_>, Undissected> {
    let header: &[u8; 20] = data.first_chunk().ok_or(Undissected::Cut(Layer::Ip))?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header_len < 20 {
        return Err(Undissected::Malformed(Layer::Ip));
    }
    let total = match usize::from(u16::from_be_bytes([header[2], header[3]])) {
        // Segmentation offload: the length did not fit, or the card had yet to fill it in.
        0 => on_wire,
        total => total,
    };
    let Some(payload_len) = total.checked_sub(header_len) else {
        return Err(Undissected::Malformed(Layer::Ip));
    };
    let rest = data.get(header_len..).ok_or(Undissected::Cut(Layer::Ip))?;
    let payload = &rest[..rest.len().min(payload_len)];
    let field = u16::from_be_bytes([header[6], header[7]]);
    let fragment = (field & 0x3fff != 0).then(|| FragmentField {
        id: u32::from(u16::from_be_bytes([header[4], header[5]])),
        offset: u32::from(field & 0x1fff) * 8,
        more: field & 0x2000 != 0,
    });
    let ip = IpPair {
        src: IpAddr::V4(Ipv4Addr::new(header[12], header[13], header[14], header[15])),
        dst: IpAddr::V4(Ipv4Addr::new(header[16], header[17], header[18], header[19])),
    };
    Ok(Packet { ip, v6: false, proto: header[9], fragment, payload, payload_len })
}

/// More extension headers than anything sensible has; each is at least 8 bytes long.
const EXTENSION_HEADERS_MAX: usize = 16;

fn v6(data: &[u8], on_wire: usize) -> Result<Packet<'_>, Undissected> {
    let header: &[u8; 40] = data.first_chunk().ok_or(Undissected::Cut(Layer::Ip))?;
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&header[at..at + 16]);
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    let ip = IpPair { src: address(8), dst: address(24) };
    let mut payload_len = match usize::from(u16::from_be_bytes([header[4], header[5]])) {
        // Segmentation offload, or a jumbogram.
        0 => on_wire.saturating_sub(40),
        len => len,
    };
    let rest = &data[40..];
    let mut payload = &rest[..rest.len().min(payload_len)];
    let mut proto = header[6];
    for _ in 0..EXTENSION_HEADERS_MAX {
        let extension_len = match proto {
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6 (RFC 8200 §4.2 format).
            0 | 43 | 60 | 135 | 139 | 140 => (byte(payload, 1)? + 1) * 8,
            // Authentication header: length in 32-bit words minus 2 (RFC 4302 §2.2).
            51 => (byte(payload, 1)? + 2) * 4,
            44 => 8,
            _ => return Ok(Packet { ip, v6: true, proto, fragment: None, payload, payload_len }),
        };
        if extension_len > payload_len {
            return Err(Undissected::Malformed(Layer::Ip));
        }
        let rest = payload.get(extension_len..).ok_or(Undissected::Cut(Layer::Ip))?;
        let next = payload[0];
        let fragment = if proto == 44 { fragment_header(payload) } else { None };
        (payload, payload_len, proto) = (rest, payload_len - extension_len, next);
        if fragment.is_some() {
            return Ok(Packet { ip, v6: true, proto, fragment, payload, payload_len });
        }
    }
    Err(Undissected::Malformed(Layer::Ip))
}

/// `None` for an atomic fragment (RFC 6946), which is a whole datagram.
fn fragment_header(header: &[u8]) -> Option<FragmentField> {
    let field = be16(header, 2)?;
    let id = be32(header, 4)?;
    (field & 0xfff9 != 0).then_some(FragmentField {
        id,
        offset: u32::from(field & 0xfff8),
        more: field & 1 != 0,
    })
}

fn byte(data: &[u8], at: usize) -> Result<usize, Undissected> {
    data.get(at).map(|&b| usize::from(b)).ok_or(Undissected::Cut(Layer::Ip))
}
