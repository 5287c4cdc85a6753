//! The names that shards, taps and sources go by in a store.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A shard's number: unique in its store, increasing in the order of creation, never used again.
    ShardId(u64)
}
id! {
    /// One interface of a live recording, or one interface of a capture file, in one link type. New for every source.
    TapId(u32)
}
id! {
    /// One run of a live recording, or one imported file: the taps of a source are merged by capture time, sources are
    /// indexed one after the other in the order of their ids.
    SourceId(u32)
}
id! {
    /// A link-layer type as pcap files number it (<https://www.tcpdump.org/linktypes.html>).
    LinkType(u16)
}

impl LinkType {
    /// BSD loopback: a 4-byte address family in the byte order of the machine that captured.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// Raw IP, DLT_RAW of some BSDs.
    pub const RAW_BSD: Self = Self(12);
    /// Raw IP, DLT_RAW of OpenBSD.
    pub const RAW_OPENBSD: Self = Self(14);
    /// Raw IPv4 or IPv6 by the version nibble.
    pub const RAW: Self = Self(101);
    /// OpenBSD loopback: a 4-byte address family in network byte order.
    pub const LOOP: Self = Self(108);
    /// Linux cooked capture, version 1.
    pub const LINUX_SLL: Self = Self(113);
    /// Raw IPv4.
    pub const IPV4: Self = Self(228);
    /// Raw IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux cooked capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);
}
