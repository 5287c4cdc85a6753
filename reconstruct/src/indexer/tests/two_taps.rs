//! A stream that is heard on two taps is played as one that is heard on one.

use super::recording::{Recording, on_both_taps, traffic};
use crate::footage::{Footage, MediaPacket, Start};
use crate::index::{Index, StreamId};
use capture::CaptureTime;

/// What tells packets apart, whichever tap has them.
fn told(packet: &MediaPacket) -> (u64, u32, u32) {
    (packet.seq, packet.timestamp, packet.len)
}

fn played(footage: &Footage, stream: StreamId, from: CaptureTime) -> Vec<(u64, u32, u32)> {
    let mut cursor = footage.cursor(stream, from, CaptureTime::MAX, Start::CleanPointBefore).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = cursor.next().unwrap() {
        packets.push(told(&packet));
    }
    let stats = cursor.stats();
    assert_eq!((stats.late, stats.damaged, stats.cut), (0, 0, 0), "of {} packets", packets.len());
    packets
}

fn footage(r: &Recording) -> Footage {
    Footage::with(r.store.clone(), Index::open(&r.store.index_dir()).unwrap(), None)
}

#[test]
fn a_stream_on_two_taps_is_one_stream() {
    let (one, both) = (Recording::new(), Recording::new());
    one.run(&traffic(1, 150), 1 << 30);
    both.run(&on_both_taps(traffic(1, 150)), 1 << 30);
    let taps = both.store.taps();
    assert_eq!(taps.len(), 2);
    for tap in &taps {
        assert!(both.store.shards().iter().filter(|s| s.tap == tap.id).count() > 2);
    }
    let (one, both) = (footage(&one), footage(&both));
    let streams = one.streams().unwrap();
    assert!(streams.len() >= 2);
    for stream in &streams {
        let other = both.streams().unwrap().into_iter().find(|s| s.name == stream.name).unwrap();
        assert_eq!((other.packets, other.lost), (stream.packets, stream.lost), "{}", stream.name);
        let (first, last) = (stream.first.unwrap(), stream.last.unwrap());
        let step = last.nanos_since(first) / 9;
        let whole = |f, id| played(f, id, CaptureTime::MIN).len();
        assert_eq!(whole(&both, other.id), whole(&one, stream.id), "{} as a whole", stream.name);
        for n in 0..9 {
            // At the end of a millisecond: the index finds by whole ones.
            let ms = (first.nanos() + n * step) / 1_000_000;
            let from = CaptureTime::from_nanos(ms * 1_000_000 + 999_999);
            let (expected, found) = (played(&one, stream.id, from), played(&both, other.id, from));
            let differ = expected.iter().zip(&found).position(|(a, b)| a != b);
            assert_eq!((found.len(), differ), (expected.len(), None), "{} from {n} ninths", stream.name);
        }
    }
}
