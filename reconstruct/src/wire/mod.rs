//! From a captured frame to its transport payload.
//!
//! Owns the link, network and transport headers. Refuses encapsulations (GRE, VXLAN, …): their outer packet comes out as it
//! is. Costs about 55 ns a packet that is not in the cache
//! (`reconstruct/examples/wire_bench.rs`, a busy machine), allocates nothing and keeps no state: fragments go to [`crate::defrag`], TCP segments
//! to [`crate::tcp`].
//!
//! Every payload is a sub-slice of the record's data, trimmed to what the headers say was sent, so that the padding of short
//! frames never counts as payload. What a capture cut off is told by comparing the slice with its length on the wire.

mod ip;
mod link;
mod transport;

pub use transport::TcpFlags;

use capture::LinkType;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use thiserror::Error;

/// The most VLAN tags that are looked through.
pub const VLANS_MAX: usize = 3;

/// The VLAN identifiers of a frame, outermost first. A priority tag (identifier 0) counts as a tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vlans {
    ids: [u16; VLANS_MAX],
    /// At most `VLANS_MAX`; identifiers from here on are 0.
    count: u8,
}

impl Vlans {
    /// The identifiers, outermost first.
    pub fn ids(&self) -> &[u16] {
        self.ids.get(..usize::from(self.count)).unwrap_or(&[])
    }

    /// False when there is no room for another tag.
    fn push(&mut self, id: u16) -> bool {
        match self.ids.get_mut(usize::from(self.count)) {
            Some(slot) => {
                *slot = id;
                self.count += 1;
                true
            }
            None => false,
        }
    }
}

impl From<&[u16]> for Vlans {
    /// The first [`VLANS_MAX`] of `ids`.
    fn from(ids: &[u16]) -> Self {
        let mut vlans = Self::default();
        for &id in ids.iter().take(VLANS_MAX) {
            vlans.push(id);
        }
        vlans
    }
}

/// The two ends of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IpPair {
    /// The sender.
    pub src: IpAddr,
    /// The receiver.
    pub dst: IpAddr,
}

/// Source and destination MAC address.
pub type MacPair = ([u8; 6], [u8; 6]);

/// A frame taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dissected<'a> {
    /// VLAN tags that stood in the frame.
    pub vlans: Vlans,
    /// Network addresses.
    pub ip: IpPair,
    /// Source and destination MAC address; `None` where the link has none.
    pub ethernet: Option<MacPair>,
    /// What the IP packet carries.
    pub transport: Transport<'a>,
    /// The record holds less of the packet than was sent (snaplen, or lengths that contradict each other).
    pub cut: bool,
}

/// The transport layer of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport<'a> {
    /// A whole UDP datagram.
    Udp {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
        /// As much of the payload as was captured.
        payload: &'a [u8],
        /// Payload bytes that were sent.
        payload_len_on_wire: u32,
    },
    /// A TCP segment (or several, put together by the receiving network card).
    Tcp {
        /// Source port.
        src: u16,
        /// Destination port.
        dst: u16,
        /// Sequence number of the first payload byte (or of SYN, FIN).
        seq: u32,
        /// Acknowledgement number; means something when the ACK flag is set.
        ack: u32,
        /// Flags.
        flags: TcpFlags,
        /// Window as it stands in the header, not scaled.
        window: u16,
        /// As much of the payload as was captured.
        payload: &'a [u8],
        /// Payload bytes that were sent.
        payload_len_on_wire: u32,
    },
    /// A piece of a fragmented datagram.
    Fragment(Fragment<'a>),
    /// ICMP or ICMPv6.
    Icmp {
        /// ICMPv6 rather than ICMP.
        v6: bool,
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// What follows type, code and checksum.
        payload: &'a [u8],
    },
    /// Anything else.
    Other {
        /// IP protocol number.
        proto: u8,
        /// What follows the IP header.
        payload: &'a [u8],
    },
}

/// One fragment of an IP datagram, first fragment included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Identification (16 bits in IPv4, 32 in IPv6).
    pub id: u32,
    /// Offset of the payload in the datagram, in bytes.
    pub offset: u32,
    /// More fragments follow.
    pub more: bool,
    /// Protocol of the datagram.
    pub proto: u8,
    /// As much of the fragment's payload as was captured.
    pub payload: &'a [u8],
    /// Payload bytes that were sent.
    pub payload_len_on_wire: u32,
}

/// Why a frame could not be taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Undissected {
    /// The frame carries something other than IP (ARP, LLDP, spanning tree …).
    #[error("not IP (ethertype {ethertype:#06x})")]
    NotIp {
        /// The ethertype, or an 802.3 length.
        ethertype: u16,
    },
    /// A link type that is not understood.
    #[error("link type {0} is not understood")]
    UnknownLink(LinkType),
    /// The record ends within a header.
    #[error("cut within the {0} header")]
    Cut(Layer),
    /// A header contradicts itself.
    #[error("malformed {0} header")]
    Malformed(Layer),
}

/// A layer of headers, for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Ethernet, VLAN tags, Linux cooked, BSD loopback.
    Link,
    /// IPv4 or IPv6 with its extension headers.
    Ip,
    /// UDP or TCP.
    Transport,
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Link => "link",
            Self::Ip => "IP",
            Self::Transport => "transport",
        })
    }
}

/// Takes a frame apart of which everything was captured.
pub fn dissect(link: LinkType, data: &[u8]) -> Result<Dissected<'_>, Undissected> {
    dissect_record(link, data, u32::try_from(data.len()).unwrap_or(u32::MAX))
}

/// Takes a record apart; `original_len` is the frame's length on the wire, which decides where an IP header gives no length
/// of its own (segmentation offload).
pub fn dissect_record(link: LinkType, data: &[u8], original_len: u32) -> Result<Dissected<'_>, Undissected> {
    let frame = link::parse(link, data)?;
    let headers = data.len() - frame.network.len();
    let on_wire = (original_len as usize).max(data.len()) - headers;
    let packet = ip::parse(&frame, on_wire)?;
    let (transport, whole) = transport::parse(&packet)?;
    let cut = !whole || packet.payload.len() < packet.payload_len;
    Ok(Dissected { vlans: frame.vlans, ip: packet.ip, ethernet: frame.ethernet, transport, cut })
}

/// Where `part` begins in `data`; 0 when it is no sub-slice of it.
pub fn offset_in(data: &[u8], part: &[u8]) -> u32 {
    let offset = (part.as_ptr() as usize).wrapping_sub(data.as_ptr() as usize);
    if offset <= data.len() { u32::try_from(offset).unwrap_or(0) } else { 0 }
}

fn be16(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]))
}

fn be32(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

#[cfg(test)]
mod tests;
