//! However the packets are cut into batches, and wherever the fold is killed and taken up again, the index is the same.

use super::scenarios::interleaved_session;
use super::wire::*;
use super::{Bench, fold};
use proptest::prelude::*;
use std::net::SocketAddrV4;

fn capture(segment_seed: u16) -> Vec<Captured> {
    let mut w = Wire::at(1_000);
    interleaved_session(&mut w, 40_000, 0xaaaa, 65_500, 20 + segment_seed % 7);
    let (camera, vms) = (SocketAddrV4::new(CAMERA, 6970), SocketAddrV4::new(VMS, 5000));
    let mut packets = pictures(5, 7, 40);
    packets.swap(11, 12);
    packets.remove(40);
    for packet in &packets {
        w.udp(camera, vms, packet);
    }
    w.wait(3_000);
    interleaved_session(&mut w, 40_001, 0xbbbb, 3, 10);
    w.frames
}

#[derive(Clone, Copy, Debug)]
enum Cut {
    Commit,
    Crash,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn commits_and_crashes_leave_no_trace(
        seed in 0u16..7,
        lost in proptest::option::of(20usize..100),
        cuts in proptest::collection::vec((0usize..400, prop_oneof![Just(Cut::Commit), Just(Cut::Crash)]), 0..12),
        shards in proptest::collection::btree_set(1usize..300, 0..3),
    ) {
        let mut frames = capture(seed);
        if let Some(lost) = lost {
            frames.remove(lost);
        }
        let run = |cuts: &[(usize, Cut)]| {
            let mut bench = Bench::new();
            for (n, frame) in frames.iter().enumerate() {
                if shards.contains(&n) {
                    bench.next_shard();
                }
                for (_, cut) in cuts.iter().filter(|(at, _)| *at == n) {
                    bench.commit();
                    if let Cut::Crash = cut {
                        bench.crash();
                    }
                }
                bench.take(frame);
            }
            bench.finish().dump
        };
        prop_assert_eq!(run(&cuts), run(&[]));
    }

    /// Wherever the camera's bytes are cut into segments, the same packets are found.
    #[test]
    fn segments_of_any_size(size in 1usize..1448) {
        let mut w = Wire::at(1_000);
        let (server, client) = (SocketAddrV4::new(CAMERA, 554), SocketAddrV4::new(VMS, 40_000));
        let mut talk = Talk::open(&mut w, client, server);
        talk.describe(&mut w);
        talk.set_up(&mut w, 0, "RTP/AVP/TCP;interleaved=0-1", "RTP/AVP/TCP;interleaved=0-1");
        talk.play(&mut w);
        let bytes: Vec<u8> = pictures(1, 1, 8).iter().flat_map(|p| framed(0, p)).collect();
        talk.answer(&mut w, &bytes, size);
        let out = fold(&w.frames);
        prop_assert_eq!((out.sum(0, |p| p.packets), out.sum(0, |p| p.access_units), out.sum(0, |p| p.lost)), (18, 8, 0));
    }
}
