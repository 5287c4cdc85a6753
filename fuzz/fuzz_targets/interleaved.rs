//! A byte stream in chunks: a length byte before each, 255 means a hole.
#![no_main]
use capture::{CaptureTime, ShardId};
use libfuzzer_sys::fuzz_target;
use reconstruct::interleaved::{HEAD_MAX, Interleaved, InterleavedEvent, SEARCH_MAX};
use reconstruct::span::{Location, Slice};

fuzz_target!(|data: &[u8]| {
    let Some((&syn, mut rest)) = data.split_first() else { return };
    let mut sink = |event: &InterleavedEvent<'_>| {
        if let InterleavedEvent::Frame(f) = event {
            assert!(f.head.len() <= HEAD_MAX && f.head.len() <= usize::from(f.len));
            assert_eq!(f.pieces.iter().map(|p| p.len).sum::<u32>() + f.missing, u32::from(f.len));
        }
    };
    let mut framing = Interleaved::default();
    framing.handle_start(syn & 1 != 0, &mut sink);
    while let Some((&len, tail)) = rest.split_first() {
        if len == 255 {
            framing.handle_hole(u64::from(syn) + 1, &mut sink);
            rest = tail;
            continue;
        }
        let bytes = &tail[..usize::from(len).min(tail.len())];
        rest = &tail[bytes.len()..];
        let at = Location { shard: ShardId(0), record: 0, entry: 0, offset: 0 };
        framing.handle_data(&Slice { bytes, at, time: CaptureTime::default() }, &mut sink);
        assert!(framing.held_bytes() <= SEARCH_MAX + 256);
    }
    framing.finish(&mut sink);
});
