//! The first stage, which needs no state: a record becomes a [`Descriptor`] that says what the second stage has to know of
//! its headers. Runs in parallel over chunks when a store is indexed in bulk.

use crate::model::FlowKey;
use crate::wire::{Dissected, TcpFlags, Transport, Undissected, Vlans, dissect_record, offset_in};
use capture::{CaptureTime, LinkType, RecordView};
use hashbrown::DefaultHashBuilder;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};

/// Protocol number of packets that are not understood as IP ("reserved" with IANA).
pub const PROTO_NONE: u8 = 255;
const PROTO_TCP: u8 = 6;
const PROTO_UDP: u8 = 17;

/// A captured packet, its headers understood as far as they go.
#[derive(Clone, Debug)]
pub struct Descriptor {
    /// Offset of the record header in the shard.
    pub record: u64,
    /// When it was captured.
    pub time: CaptureTime,
    /// Hash of the flow's key.
    pub hash: u64,
    /// Bytes on the wire.
    pub original_len: u32,
    /// Bytes in the shard.
    pub captured_len: u32,
    /// Where the transport payload begins in the record's data.
    pub payload_offset: u32,
    /// Its length on the wire.
    pub payload_len: u32,
    /// Length of what of it was captured.
    pub payload_captured: u32,
    /// The flow.
    pub key: FlowKey,
    /// VLAN tags.
    pub vlans: Vlans,
    /// Hardware address of the sender, where the link has such.
    pub mac: Option<[u8; 6]>,
    /// What the transport header says.
    pub detail: Detail,
}

/// The transport header's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// UDP.
    Udp,
    /// TCP.
    Tcp {
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// Flags.
        flags: TcpFlags,
    },
    /// A fragment of an IP datagram; the key has no ports.
    Fragment {
        /// Identification.
        id: u32,
        /// Offset in the datagram.
        offset: u32,
        /// More follow.
        more: bool,
    },
    /// Nothing that is looked into.
    Other,
}

impl Descriptor {
    /// Takes a record apart. Every record has a descriptor, whatever is in it.
    pub fn new(link: LinkType, record: &RecordView<'_>, hasher: &FlowHasher) -> Self {
        let data = record.data;
        let mut d = Self {
            record: record.offset,
            time: record.time,
            hash: 0,
            original_len: record.original_len,
            captured_len: data.len() as u32,
            payload_offset: 0,
            payload_len: record.original_len,
            payload_captured: data.len() as u32,
            key: no_ip(0),
            vlans: Vlans::default(),
            mac: None,
            detail: Detail::Other,
        };
        match dissect_record(link, data, record.original_len) {
            Ok(dissected) => d.fill(data, &dissected),
            Err(Undissected::NotIp { ethertype }) => d.key = no_ip(ethertype),
            Err(_) => {}
        }
        d.hash = hasher.hash(&d.key);
        d
    }

    /// Whether the fold looks at the beginning of the packet: what TCP carries begins anywhere in it.
    #[inline]
    pub fn shows_at_its_head(&self) -> bool {
        !matches!(self.detail, Detail::Tcp { .. })
    }

    fn fill(&mut self, data: &[u8], from: &Dissected<'_>) {
        self.vlans = from.vlans;
        self.mac = from.ethernet.map(|(src, _)| src);
        let key = |sport, dport, proto| FlowKey { src: from.ip.src, dst: from.ip.dst, sport, dport, proto };
        let (payload, on_wire) = match &from.transport {
            Transport::Udp { src, dst, payload, payload_len_on_wire } => {
                self.key = key(*src, *dst, PROTO_UDP);
                self.detail = Detail::Udp;
                (*payload, *payload_len_on_wire)
            }
            Transport::Tcp { src, dst, seq, ack, flags, payload, payload_len_on_wire, .. } => {
                self.key = key(*src, *dst, PROTO_TCP);
                self.detail = Detail::Tcp { seq: *seq, ack: *ack, flags: *flags };
                (*payload, *payload_len_on_wire)
            }
            Transport::Fragment(f) => {
                self.key = key(0, 0, f.proto);
                self.detail = Detail::Fragment { id: f.id, offset: f.offset, more: f.more };
                (f.payload, f.payload_len_on_wire)
            }
            Transport::Icmp { v6, payload, .. } => {
                self.key = key(0, 0, if *v6 { 58 } else { 1 });
                (*payload, payload.len() as u32)
            }
            Transport::Other { proto, payload } => {
                self.key = key(0, 0, *proto);
                (*payload, payload.len() as u32)
            }
        };
        // A payload that begins behind 64 KiB of headers does not fit the index; it is left as not understood.
        let offset = offset_in(data, payload);
        if u16::try_from(offset).is_ok() {
            self.payload_offset = offset;
            self.payload_len = on_wire;
            self.payload_captured = payload.len() as u32;
        } else {
            self.detail = Detail::Other;
        }
    }

    /// What of the transport payload is in the record's data.
    #[inline]
    pub fn payload<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        let from = self.payload_offset as usize;
        data.get(from..from + self.payload_captured as usize).unwrap_or(&[])
    }
}

/// The flow of packets without IP: one for each ethertype, kept in the source port.
fn no_ip(ethertype: u16) -> FlowKey {
    let none = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    FlowKey { src: none, dst: none, sport: ethertype, dport: 0, proto: PROTO_NONE }
}

/// Hashes flow keys. Seeded anew in every process, so that no sender can choose what collides.
#[derive(Clone, Debug, Default)]
pub struct FlowHasher(DefaultHashBuilder);

impl FlowHasher {
    /// The key's hash.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        let mut h = self.0.build_hasher();
        if let (IpAddr::V4(src), IpAddr::V4(dst)) = (key.src, key.dst) {
            h.write_u64(u64::from(src.to_bits()) << 32 | u64::from(dst.to_bits()));
            h.write_u64(u64::from(key.sport) << 24 | u64::from(key.dport) << 8 | u64::from(key.proto));
        } else {
            key.hash(&mut h);
        }
        h.finish()
    }
}
