//! Fragments: 6 bytes of header each, then as many bytes as they say.
#![no_main]
use capture::{CaptureTime, ShardId};
use libfuzzer_sys::fuzz_target;
use reconstruct::defrag::{DefragLimits, Defragmenter};
use reconstruct::span::Location;
use reconstruct::wire::{Fragment, IpPair, Vlans};
use std::net::{IpAddr, Ipv4Addr};

fuzz_target!(|data: &[u8]| {
    let ip = IpPair { src: IpAddr::V4(Ipv4Addr::LOCALHOST), dst: IpAddr::V4(Ipv4Addr::BROADCAST) };
    let mut defragmenter = Defragmenter::new(DefragLimits { datagrams_max: 8, ..DefragLimits::default() });
    let mut rest = data;
    let mut now = 0;
    while let [id, high, low, flags, len, step, tail @ ..] = rest {
        let payload = &tail[..usize::from(*len).min(tail.len())];
        rest = &tail[payload.len()..];
        now += i64::from(*step) * 10_000_000;
        let fragment = Fragment {
            id: u32::from(id % 16),
            offset: u32::from(u16::from_be_bytes([*high, *low]) & 0x1fff) * 8,
            more: flags & 1 != 0,
            proto: 17,
            payload,
            payload_len_on_wire: payload.len() as u32 + u32::from(flags >> 7),
        };
        let at = Location { shard: ShardId(0), record: 0, entry: 0, offset: 0 };
        let done =
            defragmenter.handle_fragment(CaptureTime::from_nanos(now), ip, Vlans::default(), &fragment, at);
        if let Some(datagram) = done {
            assert_eq!(datagram.pieces.iter().map(|p| p.len).sum::<u32>(), datagram.len);
            datagram.udp();
        }
        assert!(defragmenter.incomplete() <= 8);
    }
});
