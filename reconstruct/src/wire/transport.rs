//! UDP (RFC 768) and TCP (RFC 9293) headers; checksums are not looked at, since offloads leave them wrong at a tap.

use super::ip::Packet;
use super::{Fragment, Layer, Transport, Undissected};
use serde::{Deserialize, Serialize};

/// The flags of a TCP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// The sender has finished.
    pub const FIN: Self = Self(0x01);
    /// Sequence numbers begin.
    pub const SYN: Self = Self(0x02);
    /// The connection is torn down.
    pub const RST: Self = Self(0x04);
    /// The receiver need not wait for more.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number means something.
    pub const ACK: Self = Self(0x10);

    /// Whether all of `flags` are set.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }
}

/// The transport and whether its own lengths agree with what was captured.
pub(super) fn parse<'a>(packet: &Packet<'a>) -> Result<(Transport<'a>, bool), Undissected> {
    let (payload, proto) = (packet.payload, packet.proto);
    let len = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    if let Some(field) = &packet.fragment {
        let fragment = Fragment {
            id: field.id,
            offset: field.offset,
            more: field.more,
            proto,
            payload,
            payload_len_on_wire: len(packet.payload_len),
        };
        return Ok((Transport::Fragment(fragment), true));
    }
    match proto {
        17 => udp(packet),
        6 => tcp(packet),
        1 | 58 => {
            let Some((&[kind, code, _, _], rest)) = payload.split_first_chunk::<4>() else {
                return Err(Undissected::Cut(Layer::Transport));
            };
            Ok((Transport::Icmp { v6: packet.v6, kind, code, payload: rest }, true))
        }
        _ => Ok((Transport::Other { proto, payload }, true)),
    }
}

fn udp<'a>(packet: &Packet<'a>) -> Result<(Transport<'a>, bool), Undissected> {
    let Some((header, rest)) = packet.payload.split_first_chunk::<8>() else {
        return Err(Undissected::Cut(Layer::Transport));
    };
    let room = packet.payload_len - 8;
    let (on_wire, agrees) = match usize::from(u16::from_be_bytes([header[4], header[5]])) {
        // A jumbogram, or offload that has yet to fill it in.
        0 => (room, true),
        1..8 => return Err(Undissected::Malformed(Layer::Transport)),
        len if len - 8 <= room => (len - 8, true),
        // The datagram claims more than its packet has: what is there is a part of it.
        len => (len - 8, false),
    };
    let payload = &rest[..rest.len().min(on_wire)];
    let transport = Transport::Udp {
        src: u16::from_be_bytes([header[0], header[1]]),
        dst: u16::from_be_bytes([header[2], header[3]]),
        payload,
        payload_len_on_wire: u32::try_from(on_wire).unwrap_or(u32::MAX),
    };
    Ok((transport, agrees && payload.len() == on_wire))
}

fn tcp<'a>(packet: &Packet<'a>) -> Result<(Transport<'a>, bool), Undissected> {
    let Some(header) = packet.payload.first_chunk::<20>() else {
        return Err(Undissected::Cut(Layer::Transport));
    };
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < 20 || header_len > packet.payload_len {
        return Err(Undissected::Malformed(Layer::Transport));
    }
    // Options that were cut off take the payload with them, its length on the wire is known all the same.
    let payload = packet.payload.get(header_len..).unwrap_or(&packet.payload[packet.payload.len()..]);
    let on_wire = packet.payload_len - header_len;
    let transport = Transport::Tcp {
        src: u16::from_be_bytes([header[0], header[1]]),
        dst: u16::from_be_bytes([header[2], header[3]]),
        seq: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        ack: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
        flags: TcpFlags(header[13]),
        window: u16::from_be_bytes([header[14], header[15]]),
        payload,
        payload_len_on_wire: u32::try_from(on_wire).unwrap_or(u32::MAX),
    };
    Ok((transport, payload.len() == on_wire))
}
