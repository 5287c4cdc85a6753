//! Link layers: Ethernet with VLAN tags, Linux cooked capture, BSD loopback, raw IP.

use super::{Layer, MacPair, Undissected, Vlans, be16};
use capture::LinkType;

/// Which IP version the link header promises.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    V4,
    V6,
    /// The version nibble decides.
    Either,
}

/// A frame without its link header.
pub(super) struct Frame<'a> {
    pub vlans: Vlans,
    pub ethernet: Option<MacPair>,
    pub promise: Promise,
    /// From the IP header to the end of the record.
    pub network: &'a [u8],
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

pub(super) fn parse(link: LinkType, data: &[u8]) -> Result<Frame<'_>, Undissected> {
    match link {
        LinkType::ETHERNET => ethernet(data),
        LinkType::RAW | LinkType::RAW_BSD | LinkType::RAW_OPENBSD => raw(data, Promise::Either),
        LinkType::IPV4 => raw(data, Promise::V4),
        LinkType::IPV6 => raw(data, Promise::V6),
        LinkType::LINUX_SLL => sll(data),
        LinkType::LINUX_SLL2 => sll2(data),
        LinkType::NULL | LinkType::LOOP => bsd_loopback(link, data),
        other => Err(Undissected::UnknownLink(other)),
    }
}

fn ethernet(data: &[u8]) -> Result<Frame<'_>, Undissected> {
    let (Some(ethertype), Some(dst), Some(src)) =
        (be16(data, 12), data.first_chunk::<6>(), data.get(6..).and_then(|d| d.first_chunk::<6>()))
    else {
        return Err(Undissected::Cut(Layer::Link));
    };
    tagged(data, 14, ethertype, Some((*src, *dst)))
}

/// Linux cooked v1: packet type, ARPHRD, address length, address (8), protocol.
/// <https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html>
fn sll(data: &[u8]) -> Result<Frame<'_>, Undissected> {
    let protocol = be16(data, 14).ok_or(Undissected::Cut(Layer::Link))?;
    tagged(data, 16, protocol, None)
}

/// Linux cooked v2: protocol, reserved, interface, ARPHRD, packet type, address length, address (8).
/// <https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html>
fn sll2(data: &[u8]) -> Result<Frame<'_>, Undissected> {
    if data.len() < 20 {
        return Err(Undissected::Cut(Layer::Link));
    }
    let protocol = be16(data, 0).ok_or(Undissected::Cut(Layer::Link))?;
    tagged(data, 20, protocol, None)
}

/// Looks through VLAN tags that stand from `at` on, where `ethertype` has just been read.
#[inline]
fn tagged(
    data: &[u8],
    mut at: usize,
    mut ethertype: u16,
    ethernet: Option<MacPair>,
) -> Result<Frame<'_>, Undissected> {
    let mut vlans = Vlans::default();
    // 802.1Q, 802.1ad, and the two numbers that were in use before 802.1ad.
    while matches!(ethertype, 0x8100 | 0x88a8 | 0x9100 | 0x9200) {
        let tag = be16(data, at).ok_or(Undissected::Cut(Layer::Link))?;
        if !vlans.push(tag & 0x0fff) {
            return Err(Undissected::NotIp { ethertype });
        }
        ethertype = be16(data, at + 2).ok_or(Undissected::Cut(Layer::Link))?;
        at += 4;
    }
    let promise = match ethertype {
        ETHERTYPE_IPV4 => Promise::V4,
        ETHERTYPE_IPV6 => Promise::V6,
        _ => return Err(Undissected::NotIp { ethertype }),
    };
    let network = data.get(at..).ok_or(Undissected::Cut(Layer::Link))?;
    Ok(Frame { vlans, ethernet, promise, network })
}

fn raw(data: &[u8], promise: Promise) -> Result<Frame<'_>, Undissected> {
    Ok(Frame { vlans: Vlans::default(), ethernet: None, promise, network: data })
}

/// A 4-byte address family: in network order for `LOOP`, in that of the machine that captured for `NULL`.
/// <https://www.tcpdump.org/linktypes.html>
fn bsd_loopback(link: LinkType, data: &[u8]) -> Result<Frame<'_>, Undissected> {
    let (family, network) = data.split_first_chunk::<4>().ok_or(Undissected::Cut(Layer::Link))?;
    let family = match u32::from_be_bytes(*family) {
        // The families are small numbers: one above 16 bits was written by a little-endian machine.
        big if link == LinkType::NULL && big > 0xffff => big.swap_bytes(),
        family => family,
    };
    match family {
        2 => raw(network, Promise::V4),
        // AF_INET6 of NetBSD and OpenBSD, FreeBSD, macOS; 10 is Linux's.
        10 | 24 | 28 | 30 => raw(network, Promise::V6),
        other => Err(Undissected::NotIp { ethertype: u16::try_from(other).unwrap_or(u16::MAX) }),
    }
}
