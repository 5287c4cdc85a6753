//! A stream that is heard on two taps is played as one that is heard on one.

use super::recording::{Recording, end, now_and_then_on_the_second, on_both_taps, traffic};
use crate::fold::tests::wire::{Captured, Wire, pictures};
use crate::footage::{Footage, MediaPacket, Start};
use crate::index::{Index, StreamId};
use crate::indexer::reindex;
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

/// Each stream is played as from one tap, as a whole and from any time.
fn assert_as_on_one(frames: &[Captured], one: &Footage) {
    let r = Recording::new();
    r.run(frames, 1 << 30);
    // The order between taps is a function of the packets alone here; live, what a quiet tap brings after 250 ms of wall time comes late.
    reindex(&r.store, &r.lock, &mut |_, _| {}).unwrap();
    assert_eq!(r.store.taps().len(), 2);
    let both = footage(&r);
    let streams = one.streams().unwrap();
    assert!(streams.len() >= 2);
    for stream in &streams {
        let other = both.streams().unwrap().into_iter().find(|s| s.name == stream.name).unwrap();
        assert_eq!((other.packets, other.lost), (stream.packets, stream.lost), "{}", stream.name);
        let (first, last) = (stream.first.unwrap(), stream.last.unwrap());
        let whole = |f, id| played(f, id, CaptureTime::MIN).len();
        assert_eq!(whole(&both, other.id), whole(one, stream.id), "{} as a whole", stream.name);
        let step = last.nanos_since(first) / 9;
        for n in 0..9 {
            // At the end of a millisecond: the index finds by whole ones.
            let ms = (first.nanos() + n * step) / 1_000_000;
            let from = CaptureTime::from_nanos(ms * 1_000_000 + 999_999);
            let (expected, found) = (played(one, stream.id, from), played(&both, other.id, from));
            let differ = expected.iter().zip(&found).position(|(a, b)| a != b);
            assert_eq!((found.len(), differ), (expected.len(), None), "{} from {n} ninths", stream.name);
        }
    }
}

#[test]
fn a_stream_on_two_taps_is_one_stream() {
    let one = Recording::new();
    one.run(&traffic(1, 150), 1 << 30);
    assert_as_on_one(&on_both_taps(traffic(1, 150)), &footage(&one));
}

/// It has nothing of a stream in shards of its own time, then has again.
#[test]
fn a_tap_that_rests_is_found_again() {
    let one = Recording::new();
    one.run(&traffic(1, 300), 1 << 30);
    for rest in [1_000, 4_000, 9_000] {
        let frames = now_and_then_on_the_second(traffic(1, 300), rest);
        assert_as_on_one(&frames, &footage(&one));
    }
}

/// The first tap counts a packet as lost that the second has after all.
#[test]
fn what_the_other_tap_brings_late_is_not_lost() {
    let mut w = Wire::at(1_000_000);
    for packet in &pictures(7, 100, 400) {
        w.udp(end(true, 6970), end(false, 5000), packet);
    }
    // Later than a gap is final, earlier than its numbers are forgotten.
    let mut late = w.frames.remove(100);
    late.tap = 2;
    late.time = CaptureTime::from_nanos(w.frames[800].time.nanos() + 500_000);
    w.frames.insert(801, late);
    let r = Recording::new();
    r.run(&w.frames, 1 << 30);
    reindex(&r.store, &r.lock, &mut |_, _| {}).unwrap();
    let streams = footage(&r).streams().unwrap();
    let [stream] = &streams[..] else { panic!("{}", streams.len()) };
    assert_eq!((stream.packets, stream.lost), (w.frames.len() as u64, 0));
}
