use super::super::synthetic::{Planned, Synthetic, fold, time, video};
use super::super::{FootageError, PacketFilter, Selector};
use super::*;
use crate::index::{Index, SegmentId};
use crate::model::NextIds;
use capture::ShardId;
use capture::Store;

const STREAM: StreamId = StreamId(1);

fn cursor(s: &Synthetic, from_ms: i64, start: Start) -> Cursor {
    s.footage.cursor(STREAM, time(from_ms), CaptureTime::MAX, start).unwrap()
}

fn rest(cursor: &mut Cursor) -> Vec<MediaPacket> {
    std::iter::from_fn(|| cursor.next().unwrap()).collect()
}

fn seqs(packets: &[MediaPacket]) -> Vec<u64> {
    packets.iter().map(|p| p.seq).collect()
}

/// Interleaves by time.
fn merged(plans: &[Vec<Planned>]) -> Vec<Planned> {
    let mut all = plans.concat();
    all.sort_by_key(|p| p.ms);
    all
}

/// Two streams over more than three shards of 2 MiB.
fn two_streams() -> Synthetic {
    Synthetic::new(&merged(&[video(1, 1, 1_000_000, 0..3000), video(2, 2, 1_000_007, 0..3000)]))
}

#[test]
fn a_stream_comes_whole_and_in_order_over_several_shards() {
    let s = two_streams();
    assert!(s.shards().len() >= 3);
    let packets = rest(&mut cursor(&s, 0, Start::Exact));
    assert_eq!(seqs(&packets), (0..3000).collect::<Vec<_>>());
    for p in &packets {
        let mut body = [0; 8];
        assert!(p.copy_to(12, &mut body));
        assert_eq!(u64::from_be_bytes(body), p.seq, "the very bytes that were captured");
        assert_eq!((p.ssrc, p.payload_type, p.len), (1001, 96, 1300));
        assert_eq!(p.time, time(1_000_000 + (p.seq / 5 * 40 + p.seq % 5) as i64), "the exact time");
        assert_eq!(p.clean, p.seq % 50 == 0);
    }
}

#[test]
fn a_seek_goes_to_the_clean_point_at_or_before() {
    let s = two_streams();
    for (ms, seq) in [(1_000_000, 0), (1_000_399, 0), (1_000_400, 50), (1_010_000, 1250), (1_023_960, 2950)] {
        let first = cursor(&s, ms, Start::CleanPointBefore).next().unwrap().unwrap();
        assert_eq!((first.seq, first.clean), (seq, true), "at {ms}");
    }
    let exact = cursor(&s, 1_010_001, Start::Exact).next().unwrap().unwrap();
    assert_eq!(exact.seq, 1251);
    assert!(cursor(&s, 1_024_100, Start::CleanPointBefore).next().unwrap().is_none());
}

/// Session 1 ended at 4 s, session 2 began at 5 s and still runs; something else was captured after its last packet.
#[test]
fn who_follows_the_recording_begins_with_the_last_clean_point_of_the_newest_session() {
    let s = Synthetic::new(&merged(&[video(1, 1, 0, 0..500), video(1, 2, 5_000, 0..130)]));
    let (last, edge) = (6_004, crate::footage::LIVE_EDGE_NANOS / 1_000_000);
    for (at, expected) in
        [(last, Some(100)), (last + 60, Some(100)), (last + edge, Some(100)), (last + edge + 1, None)]
    {
        let mut c = s.footage.cursor(STREAM, time(at), time(at), Start::LiveEdge).unwrap();
        let packets = rest(&mut c);
        assert_eq!(seqs(&packets), expected.map_or(vec![], |first| (first..130).collect()), "at {at} ms");
        assert!(packets.iter().all(|p| p.segment == SegmentId(2)), "at {at} ms");
    }
}

#[test]
fn it_ends_where_it_is_to_end() {
    let s = two_streams();
    let (from, to) = (time(1_000_400), time(1_000_440));
    let mut c = s.footage.cursor(STREAM, from, to, Start::CleanPointBefore).unwrap();
    assert_eq!(seqs(&rest(&mut c)), (50..56).collect::<Vec<_>>());
    assert!(c.next().unwrap().is_none());
}

#[test]
fn disorder_and_repetition_are_put_right() {
    let mut plan = video(1, 1, 0, 0..2500);
    for at in (3..2400).step_by(97) {
        plan.swap(at, at + 7);
    }
    for at in (10..2400).step_by(31).rev() {
        let again = Planned { flags: MediaFlags::DUPLICATE | plan[at].flags, ..plan[at] };
        plan.insert(at + 3, again);
    }
    let s = Synthetic::new(&plan);
    assert_eq!(seqs(&rest(&mut cursor(&s, 0, Start::Exact))), (0..2500).collect::<Vec<_>>());
}

/// The first packet of a clean point was overtaken by the second: a cursor that starts there gives both.
#[test]
fn what_the_first_packet_overtook_is_not_lost() {
    let mut plan = video(1, 1, 0, 0..500);
    plan.swap(0, 1);
    plan.swap(100, 103);
    for (ms, start) in [(0, Start::Exact), (0, Start::CleanPointBefore)] {
        let s = Synthetic::new(&plan);
        let mut c = cursor(&s, ms, start);
        assert_eq!(seqs(&rest(&mut c)), (0..500).collect::<Vec<_>>(), "{start:?}");
        assert_eq!(c.stats(), CursorStats::default());
    }
}

#[test]
fn a_clean_point_that_was_overtaken_comes_whole() {
    let mut plan = video(1, 1, 0, 0..500);
    plan.swap(100, 102);
    let (early, late) = (plan[100].ms.min(plan[102].ms), plan[100].ms.max(plan[102].ms));
    (plan[100].ms, plan[102].ms) = (early, late);
    let s = Synthetic::new(&plan);
    let packets = rest(&mut cursor(&s, 1_000, Start::CleanPointBefore));
    assert_eq!(seqs(&packets), (100..500).collect::<Vec<_>>());
    let mut up_to = s.footage.cursor(STREAM, time(0), time(early + 1), Start::Exact).unwrap();
    assert_eq!(seqs(&rest(&mut up_to)), (0..100).chain([101, 102]).collect::<Vec<_>>());
}

#[test]
fn a_hole_stays_a_hole() {
    let mut plan = video(1, 1, 0, 0..500);
    plan.drain(100..120);
    let s = Synthetic::new(&plan);
    let expected: Vec<u64> = (0..100).chain(120..500).collect();
    assert_eq!(seqs(&rest(&mut cursor(&s, 0, Start::Exact))), expected);
}

#[test]
fn of_parallel_sessions_the_most_complete_is_played_alone() {
    let mut lossy = video(1, 1, 0, 0..2000);
    lossy.retain(|p| p.seq % 40 != 7);
    let whole = video(1, 2, 13, 5000..7000).into_iter().map(|p| Planned { ms: p.ms - 40_000, ..p }).collect();
    let s = Synthetic::new(&merged(&[lossy, whole]));
    let packets = rest(&mut cursor(&s, 5_000, Start::CleanPointBefore));
    assert!(packets.iter().all(|p| p.segment == SegmentId(2)));
    assert_eq!(packets[0].seq, 5600);
    assert_eq!(packets.last().unwrap().seq, 6999);
}

/// VMSs connect one after the other: who begins a little later may be the one that misses nothing.
#[test]
fn of_sessions_that_begin_together_the_most_complete_is_played_from_the_start_too() {
    let mut lossy = video(1, 1, 0, 0..1000);
    lossy.retain(|p| p.seq % 40 != 7);
    let s = Synthetic::new(&merged(&[lossy, video(1, 2, 1_500, 0..1000)]));
    // Before anything was captured, and the time that is told as the stream's first.
    for (at, start) in [CaptureTime::MIN, time(-60_000), time(0)]
        .into_iter()
        .flat_map(|at| [(at, Start::Exact), (at, Start::CleanPointBefore)])
    {
        let mut c = s.footage.cursor(STREAM, at, CaptureTime::MAX, start).unwrap();
        let packets = rest(&mut c);
        assert!(packets.iter().all(|p| p.segment == SegmentId(2)), "from {at:?}, {start:?}");
        assert_eq!(seqs(&packets), (0..1000).collect::<Vec<_>>(), "from {at:?}, {start:?}");
    }
}

#[test]
fn equally_complete_the_session_that_begins_first_is_played_and_one_that_looked_in_is_none() {
    let s = Synthetic::new(&merged(&[video(1, 1, 0, 0..1000), video(1, 2, 1_500, 0..1000)]));
    assert_eq!(rest(&mut cursor(&s, -60_000, Start::Exact))[0].segment, SegmentId(1));
    // A lossy session that lasts, and half a second without loss beside it.
    let mut lossy = video(1, 1, 0, 0..1000);
    lossy.retain(|p| p.seq % 40 != 7);
    let s = Synthetic::new(&merged(&[lossy, video(1, 2, 1_500, 0..60)]));
    assert_eq!(rest(&mut cursor(&s, -60_000, Start::Exact))[0].segment, SegmentId(1));
}

/// Sessions of a running recording end at slightly different times, and all may go on; of one that nobody writes, each packet that another
/// session has beyond the end is the last there will ever be.
#[test]
fn a_session_that_goes_on_a_little_longer_is_gone_into_where_nobody_writes() {
    let mut long = video(1, 2, 20, 0..600);
    long.retain(|p| p.seq % 10 != 3);
    let Synthetic { footage, lock, dir: _dir } = Synthetic::new(&merged(&[video(1, 1, 0, 0..500), long]));
    let played = || {
        let mut c = footage.cursor(STREAM, time(0), CaptureTime::MAX, Start::Exact).unwrap();
        rest(&mut c).iter().map(|p| (p.segment.0, p.seq)).collect::<Vec<_>>()
    };
    let first: Vec<_> = (0..500).map(|seq| (1, seq)).collect();
    assert_eq!(played(), first, "while both may go on");
    drop(lock);
    let beyond = (500..600).filter(|seq| seq % 10 != 3).map(|seq| (2, seq));
    assert_eq!(played(), first.iter().copied().chain(beyond).collect::<Vec<_>>());
}

/// While the store is written, too: two clients pull a camera, it reboots, and the one that notices last is not the end of the stream.
#[test]
fn a_session_that_ended_a_little_later_does_not_hide_what_comes_after_it() {
    let (a, b) = (video(1, 1, 0, 0..1000), video(1, 2, 3, 0..1100));
    let after = video(1, 3, 80_000, 0..500);
    let s = Synthetic::new(&merged(&[a, b, after]));
    assert!(s.footage.store.is_written());
    let mut c = cursor(&s, 0, Start::CleanPointBefore);
    let found = rest(&mut c);
    assert_eq!(found.iter().filter(|p| p.segment == SegmentId(3)).count(), 500);
    assert_eq!(found.iter().filter(|p| p.segment == SegmentId(1)).count(), 1000);
}

#[test]
fn a_parallel_session_goes_on_where_the_played_one_ends() {
    let short = video(1, 1, 0, 0..1000);
    let mut long = video(1, 2, 20, 0..2000);
    long.retain(|p| p.seq % 10 != 3);
    let s = Synthetic::new(&merged(&[short, long.clone()]));
    let mut c = cursor(&s, 0, Start::CleanPointBefore);
    let packets = rest(&mut c);
    let change = packets.iter().position(|p| p.segment == SegmentId(2)).unwrap();
    // Up to its next clean point, of which there is one each fifty packets; what was lost can't be left out.
    let (last, clean) = (&packets[change - 1], &packets[change]);
    let between = long.iter().filter(|p| time(p.ms) > last.time && p.seq < clean.seq).count();
    assert!(between > 0 && c.stats().between == between as u64, "{} of {between}", c.stats().between);
    assert_eq!(change, 1000, "the first session is played to its end");
    assert!(packets[change].clean);
    assert!(packets[change].time > packets[change - 1].time);
    assert!(packets[change..].iter().all(|p| p.segment == SegmentId(2)));
    assert_eq!(packets.last().unwrap().seq, 1999);
}

/// A file ends in the middle of a burst: the next one's session begins in the same millisecond, and is none beside it.
#[test]
fn what_begins_where_another_ends_is_given_from_its_first_packet() {
    let (first, mut second) = (video(1, 1, 0, 0..502), video(1, 2, 0, 502..1000));
    second[0].ms = first[501].ms;
    let s = Synthetic::new(&[first, second].concat());
    let given = rest(&mut cursor(&s, 0, Start::CleanPointBefore));
    assert_eq!(seqs(&given), (0..1000).collect::<Vec<_>>());
    assert_eq!(given.iter().filter(|p| p.segment == SegmentId(2)).count(), 498);
}

#[test]
fn it_goes_on_after_a_reconnection_and_seeks_inside_the_gap_go_forward() {
    // A minute and more without anything, another session with other numbers that begins in the middle of a group.
    let second = video(1, 2, 100_000, 7_020..8000).into_iter().map(|p| Planned { ms: p.ms - 56_000, ..p });
    let s = Synthetic::new(&merged(&[video(1, 1, 0, 0..500), second.collect()]));
    let packets = rest(&mut cursor(&s, 0, Start::CleanPointBefore));
    let expected: Vec<(u32, u64)> = (0..500).map(|q| (1, q)).chain((7_020..8000).map(|q| (2, q))).collect();
    assert_eq!(packets.iter().map(|p| (p.segment.0, p.seq)).collect::<Vec<_>>(), expected);
    let in_gap = cursor(&s, 50_000, Start::CleanPointBefore).next().unwrap().unwrap();
    assert_eq!((in_gap.segment, in_gap.seq, in_gap.clean), (SegmentId(2), 7_050, true));
    let exact = cursor(&s, 50_000, Start::Exact).next().unwrap().unwrap();
    assert_eq!(exact.seq, 7_020);
}

#[test]
fn without_clean_points_it_starts_anywhere() {
    let mut plan = video(1, 1, 0, 0..500);
    plan.iter_mut().for_each(|p| p.flags = MediaFlags::NONE);
    let s = Synthetic::new(&plan);
    let first = cursor(&s, 1000, Start::CleanPointBefore).next().unwrap().unwrap();
    assert_eq!(first.seq, 125);
}

#[test]
fn retention_under_the_reader_makes_it_go_on_in_the_next_shard() {
    let s = two_streams();
    let mut c = cursor(&s, 0, Start::Exact);
    for _ in 0..100 {
        c.next().unwrap().unwrap();
    }
    let shards = s.shards();
    s.delete(shards[0]);
    s.delete(shards[1]);
    let packets = rest(&mut c);
    assert!(seqs(&packets).is_sorted());
    assert_eq!(packets.last().unwrap().seq, 2999);
    assert!(packets.len() < 2900);
    // A new reader starts with what is left.
    let mut fresh = cursor(&s, 0, Start::CleanPointBefore);
    let first = fresh.next().unwrap().unwrap();
    assert!(first.clean && first.seq > 1000);
    let info = s.footage.stream(STREAM).unwrap().unwrap();
    assert!(info.packets < 2000 && info.first.unwrap() > time(1_005_000));
}

#[test]
fn damage_loses_what_it_hits_and_nothing_else() {
    let s = Synthetic::new(&video(1, 1, 0, 0..1000));
    let path = std::fs::read_dir(s.dir.path().join("store/shards")).unwrap().next().unwrap().unwrap().path();
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; 50_000], 200_000).unwrap();
    let mut c = cursor(&s, 0, Start::Exact);
    let packets = rest(&mut c);
    assert!((900..999).contains(&packets.len()), "{}", packets.len());
    assert_eq!(packets.len() as u64 + c.stats().damaged, 1000);
}

#[test]
fn a_seek_reads_as_many_rows_in_a_large_store_as_in_a_small_one() {
    let reads = |packets: u64| {
        let plan: Vec<_> =
            video(1, 1, 0, 0..packets).into_iter().map(|p| Planned { len: 200, ..p }).collect();
        let s = Synthetic::new(&plan);
        let shards = s.shards().len();
        let most = (1..20)
            .map(|i| {
                let before = s.footage.index().row_reads();
                let at = packets as i64 * 8 * i / 20;
                let first = cursor(&s, at, Start::CleanPointBefore).next().unwrap().unwrap();
                assert!(first.clean);
                s.footage.index().row_reads() - before
            })
            .max()
            .unwrap();
        println!("{shards} shards: at most {most} rows a seek");
        (shards, most)
    };
    let (small, large) = (reads(20_000), reads(160_000));
    assert!(large.0 >= 6 * small.0);
    assert!(large.1 <= small.1 + 4, "{small:?} {large:?}");
}

#[test]
fn it_goes_on_when_the_recording_does() {
    let s = Synthetic::new(&video(1, 1, 0, 0..1000));
    let other = Index::open(&s.dir.path().join("growing")).unwrap();
    let footage = Footage::with(s.footage.store().clone(), other.clone(), None);
    // The index is written as a recorder would: open blocks again and again.
    fold(s.footage.store(), &other, ShardId(0), 70);
    let mut c = footage.cursor(STREAM, time(0), CaptureTime::MAX, Start::Exact).unwrap();
    assert_eq!(rest(&mut c).len(), 1000);
    assert!(c.next().unwrap().is_none());
}

fn dump(index: &Index) -> String {
    let mut text = Vec::new();
    index.dump(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn the_same_footage_gives_the_same_dump_however_it_was_committed() {
    let s = two_streams();
    let reference = dump(s.footage.index());
    for (n, each) in [1usize, 100, 1777].into_iter().enumerate() {
        let index = Index::open(&s.dir.path().join(format!("again{n}"))).unwrap();
        fold(s.footage.store(), &index, ShardId(0), each * 50);
        assert!(dump(&index) == reference, "commits of {each} packets");
    }
    assert!(reference.lines().count() > 12_000);
    let other = Synthetic::new(&video(1, 1, 0, 0..10));
    assert_ne!(dump(other.footage.index()), reference);
}

#[test]
fn cut_back_and_folded_again_it_is_the_same() {
    let s = two_streams();
    let index = s.footage.index();
    let reference = dump(index);
    let from = s.shards()[1];
    index.drop_from(from, &NextIds { flow: crate::index::FlowId(3), ..ids() }).unwrap();
    let cut = dump(index);
    assert!(cut.len() < reference.len() / 2);
    assert!(!cut.contains(&format!("shard: {from:?}")));
    fold(s.footage.store(), index, from, usize::MAX);
    assert!(dump(index) == reference);
    // With ids from the cut on given again, their rows go as well.
    index.drop_from(from, &NextIds { segment: SegmentId(2), ..ids() }).unwrap();
    assert!(index.segment(SegmentId(1)).unwrap().is_some());
    assert!(index.segment(SegmentId(2)).unwrap().is_none());
}

fn ids() -> NextIds {
    NextIds {
        flow: crate::index::FlowId(9),
        stream: StreamId(9),
        segment: SegmentId(9),
        session: crate::index::SessionId(9),
    }
}

#[test]
fn retention_of_all_shards_leaves_no_rows_of_packets() {
    let s = two_streams();
    for shard in s.shards() {
        s.delete(shard);
    }
    let index = s.footage.index();
    assert!(index.flows().unwrap().is_empty() && index.segments().unwrap().is_empty());
    assert!(s.footage.streams().unwrap().is_empty());
    assert_eq!(dump(index), "");
    assert_eq!(index.streams().unwrap().len(), 2, "streams keep their names");
}

#[test]
fn streams_are_found_by_what_is_known_of_them() -> Result<(), FootageError> {
    let s = two_streams();
    let found = |selector: &Selector| -> Result<Vec<u32>, FootageError> {
        Ok(s.footage.select(selector)?.iter().map(|s| s.id.0).collect())
    };
    assert_eq!(found(&Selector::default())?, [1, 2]);
    assert_eq!(found(&Selector::named("cam1/video"))?, [1]);
    assert_eq!(found(&Selector::named("cam2"))?, [2]);
    assert_eq!(found(&Selector::named("198.18.0.2"))?, [2]);
    assert_eq!(found(&Selector::named("2"))?, [2]);
    assert_eq!(found(&Selector::named("nobody"))?, [0; 0]);
    let source = Some("198.18.0.1".parse().unwrap());
    assert_eq!(found(&Selector { source, ..Selector::default() })?, [1]);
    let codec = Some(crate::codec::Codec::H265);
    assert_eq!(found(&Selector { codec, ..Selector::default() })?, [2]);
    let info = s.footage.stream(STREAM)?.unwrap();
    assert_eq!((info.packets, info.bytes, info.access_units, info.clean_points), (3000, 3_900_000, 600, 60));
    assert_eq!((info.first, info.ssrcs), (Some(time(1_000_000)), vec![1001]));
    let segments = s.footage.segments(STREAM, CaptureTime::MIN, CaptureTime::MAX)?;
    assert_eq!(segments.len(), 1);
    assert_eq!((segments[0].first_seq, segments[0].last_seq, segments[0].packets), (0, 2999, 3000));
    Ok(())
}

#[test]
fn first_level_records_are_found_by_stream_time_and_address() {
    let s = two_streams();
    let count = |filter: PacketFilter| s.footage.packets(&filter).unwrap().map(Result::unwrap).count();
    assert_eq!(count(PacketFilter::default()), 6000);
    assert_eq!(count(PacketFilter { stream: Some(STREAM), ..PacketFilter::default() }), 3000);
    let address = Some("198.18.0.2".parse().unwrap());
    assert_eq!(count(PacketFilter { address, ..PacketFilter::default() }), 3000);
    assert_eq!(count(PacketFilter { address, port: Some(5001), ..PacketFilter::default() }), 0);
    let (from, to) = (Some(time(1_000_400)), Some(time(1_000_404)));
    assert_eq!(count(PacketFilter { stream: Some(STREAM), from, to, ..PacketFilter::default() }), 5);
    let all: Vec<_> = s.footage.packets(&PacketFilter::default()).unwrap().map(Result::unwrap).collect();
    assert!(all.is_sorted_by_key(|p| (p.shard, p.packet.offset)), "in the order of the shard");
    let one = &all[700];
    let record = s.footage.store().shard(one.shard).unwrap().record(one.packet.offset).unwrap();
    assert_eq!(record.data.len(), one.packet.captured_len as usize);
    assert_eq!(record.time.millis(), one.packet.time.millis());
}

/// Each tap's shards lie one behind the other, and hold the same seconds.
#[test]
fn first_level_records_of_several_taps_are_in_the_order_of_capture() {
    let of = |tap: u32| video(tap, tap, 1_000_000 + 3 * i64::from(tap), 0..3000);
    let (a, b, c) = (of(1), of(2), video(3, 3, 900_000, 0..20));
    let s = Synthetic::of_taps(&[&a, &b, &c]);
    let scan = |filter: &PacketFilter| {
        let found = s.footage.packets(filter).unwrap().map(Result::unwrap);
        found
            .map(|p| s.footage.store().shard(p.shard).unwrap().record(p.packet.offset).unwrap().time)
            .collect::<Vec<_>>()
    };
    let all = scan(&PacketFilter::default());
    assert!(all.len() == 6020 && all.is_sorted());
    let (from, to) = (Some(time(1_000_400)), Some(time(1_001_400)));
    let some = scan(&PacketFilter { from, to, ..PacketFilter::default() });
    assert!(some.is_sorted());
    assert!(some.iter().eq(all.iter().filter(|t| Some(**t) >= from && Some(**t) <= to)));
}

/// A reader in another process: its own view of the store, the index as a secondary.
#[test]
fn a_reader_beside_the_recorder_sees_what_is_committed() {
    let s = two_streams();
    let outside = Footage::open(&Store::open(s.footage.store().dir()).unwrap()).unwrap();
    let mut c = outside.cursor(STREAM, time(0), CaptureTime::MAX, Start::Exact).unwrap();
    assert_eq!(rest(&mut c).len(), 3000);
    assert_eq!(outside.streams().unwrap(), s.footage.streams().unwrap());
}
