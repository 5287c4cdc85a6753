//! Which flow a packet belongs to, and who gets the flow's packets.

use super::conversation::Conversation;
use super::descriptor::{Descriptor, Detail, PROTO_NONE};
use super::engine::Fold;
use super::flows::Role;
use super::udp::Datagrams;
use crate::model::FlowKey;
use crate::tcp::{Header, Side};
use crate::wire::{IpPair, TcpFlags};
use capture::CaptureTime;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Fragmented datagrams of which the flow is remembered for the fragments that follow the first.
const FRAGMENTED_MAX: usize = 256;

impl Fold {
    /// The place of a packet's flow; a new flow if it has none.
    #[inline]
    pub(super) fn flow_of(&mut self, d: &Descriptor, data: &[u8]) -> u32 {
        if let Detail::Fragment { id, offset, .. } = d.detail {
            return self.flow_of_fragment(d, data, id, offset);
        }
        match self.flows.find_again(d.hash, &d.key) {
            Some(at) => at,
            None => self.new_flow(d.clone()),
        }
    }

    /// The first fragment has the ports; those behind it go where it went.
    fn flow_of_fragment(&mut self, d: &Descriptor, data: &[u8], id: u32, offset: u32) -> u32 {
        let ends = IpPair { src: d.key.src, dst: d.key.dst };
        let mut with_ports = d.clone();
        if offset == 0 {
            if let &[s0, s1, d0, d1, ..] = d.payload(data)
                && matches!(d.key.proto, 6 | 17)
            {
                with_ports.key.sport = u16::from_be_bytes([s0, s1]);
                with_ports.key.dport = u16::from_be_bytes([d0, d1]);
                with_ports.hash = self.hasher.hash(&with_ports.key);
            }
        } else {
            let same = |f: &&(IpPair, u8, u32, u32)| f.0 == ends && f.1 == d.key.proto && f.2 == id;
            if let Some(&(.., at)) = self.fragmented.iter().rev().find(same)
                && self.flows.get(at).is_some_and(|f| f.key.src == d.key.src && f.key.dst == d.key.dst)
            {
                return at;
            }
        }
        let at = match self.flows.find(with_ports.hash, &with_ports.key) {
            Some(at) => at,
            None => self.new_flow(with_ports),
        };
        if offset == 0 {
            if self.fragmented.len() >= FRAGMENTED_MAX {
                self.fragmented.pop_front();
            }
            self.fragmented.push_back((ends, d.key.proto, id, at));
        }
        at
    }

    fn new_flow(&mut self, mut d: Descriptor) -> u32 {
        if self.flows.len() >= self.world.limits.flows_max {
            self.world.stats.flows_over_bound += 1;
            // All that find no room share one flow.
            let none = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            d.key = FlowKey { src: none, dst: none, sport: u16::MAX, dport: 0, proto: PROTO_NONE };
            d.hash = self.hasher.hash(&d.key);
            if let Some(at) = self.flows.find(d.hash, &d.key) {
                return at;
            }
        }
        let id = self.world.ids.take_flow();
        self.flows.insert(id, &d)
    }

    /// Decides who gets a flow's packets.
    pub(super) fn assign(&mut self, at: u32, d: &Descriptor) -> Role {
        let Some(key) = self.flows.get(at).map(|f| f.key) else { return Role::Ignored };
        let (a, b) = (SocketAddr::new(key.src, key.sport), SocketAddr::new(key.dst, key.dport));
        let role = match d.detail {
            _ if key.proto == PROTO_NONE => Role::Ignored,
            Detail::Udp => Role::Udp(self.datagrams.insert(Datagrams::new(a, b, self.now))),
            Detail::Tcp { seq, ack, flags } => {
                self.assign_tcp(&key, a, b, d.time, &Header { seq, ack, flags })
            }
            // The flow may be that of whole datagrams as well.
            Detail::Fragment { .. } => Role::New,
            Detail::Other => Role::Ignored,
        };
        if let Role::Tcp { conversation, from_a } = role
            && let Some(conversation) = self.conversations.get_mut(conversation)
        {
            conversation.set_flow(if from_a { Side::A } else { Side::B }, at);
        }
        if let Some(flow) = self.flows.get_mut(at) {
            flow.role = role;
        }
        role
    }

    fn assign_tcp(
        &mut self,
        key: &FlowKey,
        a: SocketAddr,
        b: SocketAddr,
        time: CaptureTime,
        first: &Header,
    ) -> Role {
        let back =
            FlowKey { src: key.dst, dst: key.src, sport: key.dport, dport: key.sport, proto: key.proto };
        let other =
            self.flows.find(self.hasher.hash(&back), &back).and_then(|at| self.flows.get(at)).map(|f| f.role);
        match other {
            Some(Role::Tcp { conversation, from_a }) => return Role::Tcp { conversation, from_a: !from_a },
            Some(Role::Ignored) => return Role::Ignored,
            _ => {}
        }
        if self.conversations.len() >= self.world.limits.connections_max {
            self.world.stats.connections_over_bound += 1;
            return Role::Ignored;
        }
        let mut conversation = Conversation::new(a, b, self.now);
        if let Some(left) = self.world.left.take([a, b], time, first) {
            conversation.go_on(left);
        }
        Role::Tcp { conversation: self.conversations.insert(conversation), from_a: true }
    }
}

impl Descriptor {
    /// Whether a packet begins something new on a flow that was given up: a connection's SYN.
    pub(super) fn starts_anew(&self, role: Role) -> bool {
        role == Role::Ignored && matches!(self.detail, Detail::Tcp { flags, .. } if flags.has(TcpFlags::SYN))
    }
}
