//! An index that is made anew while a recording goes on: readers and viewers lack nothing, and it is the one that would have been made later.

use super::recording::{Recording, assert_same, dump, on_two_taps, traffic, write};
use crate::fold::tests::wire::Captured;
use crate::footage::{Footage, FootageError, LiveHub, LiveItem, Start};
use crate::index::Index;
use crate::indexer::saved::Saved;
use crate::indexer::{LiveIndexer, Renewal, open_or_begin, reindex};
use capture::{CaptureTime, SourceKind, Store, WriterOptions};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn settled(indexer: &LiveIndexer) -> Renewal {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match indexer.renewal() {
            Renewal::Running { .. } => assert!(Instant::now() < give_up, "it takes too long"),
            settled => return settled,
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Records, with `max_bytes` retained, and makes the index anew again and again meanwhile. A viewer watches all the time, and a reader of
/// another process looks. Gives how often it was made anew.
fn record(r: &Recording, frames: &[Captured], max_bytes: u64) -> u32 {
    let Recording { store, lock, .. } = r;
    let index = Index::open(&store.index_dir()).unwrap();
    let source = store.open_source(lock, SourceKind::Live, CaptureTime::MIN).unwrap();
    let mut writers = r.writers(source, frames, WriterOptions::default().sync_interval);
    let hub = LiveHub::new();
    let indexer = LiveIndexer::start(store, lock, &index, &hub, source).unwrap();
    let (begin, rest) = frames.split_at(frames.len() / 4);
    write(&mut writers, begin);
    assert!(indexer.flush(PATIENCE));
    let elsewhere = Index::open_secondary(&store.index_dir()).unwrap();
    let video = index.streams().unwrap().into_iter().find(|s| s.name.contains("video")).unwrap();
    let mut watched = hub.subscribe(video.id, 1 << 20);
    let handoff = watched.wait_handoff(PATIENCE).unwrap();
    let (mut times, mut asked) = (0, false);
    for some in rest.chunks(400) {
        if !asked {
            indexer.renew().unwrap();
            asked = true;
        }
        write(&mut writers, some);
        if let Renewal::Done(made) = indexer.renewal() {
            assert!(made.cold.is_none());
            (times, asked) = (times + 1, false);
        }
        std::thread::sleep(Duration::from_millis(25));
        r.retain(&index, max_bytes);
        elsewhere.refresh().unwrap();
        assert_eq!(elsewhere.stream(video.id).unwrap().map(|s| s.name), Some(video.name.clone()));
    }
    assert!(matches!(settled(&indexer), Renewal::Done(_)), "{:?}", indexer.renewal());
    for writer in writers {
        writer.finish().unwrap();
    }
    indexer.finish().unwrap();
    store.close_source(source, frames.len() as u64, None, None).unwrap();
    let mut seen = Vec::new();
    while let Some(item) = watched.try_next() {
        match item {
            LiveItem::Packet(packet) => seen.push((packet.segment, packet.seq, packet.time)),
            LiveItem::Lagged(n) => panic!("{n} packets were lost on the way to the viewer"),
        }
    }
    // Live ones come in the order of their capture.
    seen.sort_by_key(|packet| (packet.0, packet.1));
    let footage = Footage::with(store.clone(), index.clone(), None);
    for segment in seen.chunk_by(|a, b| a.0 == b.0) {
        let twice = segment.windows(2).filter(|two| two[0].1 == two[1].1).count();
        assert_eq!(twice, 0, "nothing is sent twice");
    }
    if max_bytes == u64::MAX {
        let mut cursor = footage
            .cursor(video.id, handoff.plus(Duration::from_nanos(1)), CaptureTime::MAX, Start::Exact)
            .unwrap();
        let mut stored = Vec::new();
        while let Some(packet) = cursor.next().unwrap() {
            if packet.time > handoff {
                stored.push((packet.segment, packet.seq, packet.time));
            }
        }
        stored.sort_by_key(|packet| (packet.0, packet.1));
        let lacking = stored.iter().filter(|packet| !seen.contains(packet)).count();
        assert!(stored.len() > 500 && lacking == 0, "{lacking} of {} packets", stored.len());
    }
    times
}

#[test]
fn a_viewer_lacks_nothing_and_the_index_is_the_same() {
    let r = Recording::new();
    r.run(&traffic(1, 60), 1 << 30);
    let times = record(&r, &traffic(2, 500), u64::MAX);
    assert!(times > 1, "made anew {times} times");
    let before = r.dump();
    reindex(&r.store, &r.lock, &mut |_, _| {}).unwrap();
    assert_same(&before, &r.dump());
}

#[test]
fn while_retention_deletes_what_it_is_made_from() {
    let r = Recording::new();
    record(&r, &traffic(1, 500), 6 << 20);
    assert!(r.store.trimmed(r.store.taps()[0].id).shards >= 3);
    let before = r.dump();
    reindex(&r.store, &r.lock, &mut |_, _| {}).unwrap();
    assert_same(&before, &r.dump());
}

/// A second port without a cable, and an index that lies on another disk.
#[test]
fn with_a_tap_that_hears_nothing_and_an_index_elsewhere() {
    let r = Recording::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let there = elsewhere.path().join("index");
    std::fs::create_dir(&there).unwrap();
    std::os::unix::fs::symlink(&there, r.store.index_dir()).unwrap();
    let mut frames = traffic(1, 300);
    // The tap is opened, and hears its first packet when all is over.
    frames.last_mut().unwrap().tap = 2;
    assert!(record(&r, &frames, 1 << 30) > 0);
    assert!(r.store.index_dir().is_symlink() && there.join("CURRENT").exists());
    let left: Vec<_> =
        std::fs::read_dir(elsewhere.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["index"]);
}

/// Where the new index numbers streams otherwise, whoever goes by the numbers is told to come again.
#[test]
fn other_numbers_end_what_goes_by_them() {
    let r = Recording::new();
    r.run(&traffic(1, 400), 6 << 20);
    let Recording { store, lock, .. } = &r;
    for shard in store.shards() {
        std::fs::remove_file(store.state_path(shard.id)).unwrap();
    }
    let index = Index::open(&store.index_dir()).unwrap();
    let source = store.open_source(lock, SourceKind::Live, CaptureTime::MIN).unwrap();
    let frames = traffic(2, 60);
    let mut writers = r.writers(source, &frames, WriterOptions::default().sync_interval);
    let hub = LiveHub::new();
    let indexer = LiveIndexer::start(store, lock, &index, &hub, source).unwrap();
    write(&mut writers, &frames);
    assert!(indexer.flush(PATIENCE));
    let stream = index.streams().unwrap()[0].id;
    let mut watched = hub.subscribe(stream, 1 << 20);
    assert!(watched.wait_handoff(PATIENCE).is_some());
    let footage = Footage::with(store.clone(), index.clone(), None);
    let mut cursor = footage.cursor(stream, CaptureTime::MIN, CaptureTime::MAX, Start::Exact).unwrap();
    cursor.next().unwrap();
    indexer.renew().unwrap();
    let Renewal::Done(made) = settled(&indexer) else { panic!("{:?}", indexer.renewal()) };
    assert!(made.cold.is_some());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    while let std::task::Poll::Ready(Some(_)) = watched.poll_next(&mut cx) {}
    assert!(matches!(watched.poll_next(&mut cx), std::task::Poll::Ready(None)), "the subscription goes on");
    assert!(matches!(cursor.next(), Err(FootageError::Renumbered)));
    assert!(hub.subscribe(stream, 4).wait_handoff(PATIENCE).is_some(), "and can be had again");
    writers.into_iter().for_each(|w| w.finish().unwrap());
    indexer.finish().unwrap();
    store.close_source(source, frames.len() as u64, None, None).unwrap();
    drop((cursor, footage, index));
    // From then on it stays as it is.
    let before = r.dump();
    reindex(store, lock, &mut |_, _| {}).unwrap();
    assert_same(&before, &r.dump());
}

#[test]
fn with_two_taps() {
    let r = Recording::new();
    record(&r, &on_two_taps(traffic(1, 300)), 1 << 30);
}

/// What a run has of each stream.
fn counts(index: &Index, store: &Store) -> Vec<(String, u64, u64, u64)> {
    let footage = Footage::with(store.clone(), index.clone(), None);
    let mut all: Vec<_> =
        footage.streams().unwrap().into_iter().map(|s| (s.name, s.packets, s.lost, s.access_units)).collect();
    all.sort();
    all
}

/// Of each stream the packets that are played of a time.
fn played(
    r: &Recording,
    index: &Index,
    (from, to): (CaptureTime, CaptureTime),
) -> Vec<(String, Vec<(u64, u32)>)> {
    let footage = Footage::with(r.store.clone(), index.clone(), None);
    let mut all: Vec<_> = footage
        .streams()
        .unwrap()
        .into_iter()
        .map(|stream| {
            let mut cursor = footage.cursor(stream.id, from, to, Start::Exact).unwrap();
            let mut packets = Vec::new();
            while let Some(packet) = cursor.next().unwrap() {
                packets.push((packet.seq, packet.timestamp));
            }
            (stream.name, packets)
        })
        .filter(|(_, packets)| !packets.is_empty())
        .collect();
    all.sort();
    all
}

/// Something else is taken in while a recording goes on: the recording is as if nothing had happened, connections that were in the middle of a
/// packet included.
fn interposed(taps: fn(Vec<Captured>) -> Vec<Captured>, cuts: &[usize]) {
    let frames = taps(traffic(1, 240));
    let whole = Recording::new();
    whole.run(&frames, 1 << 30);
    let expected = counts(&Index::open(&whole.store.index_dir()).unwrap(), &whole.store);

    let r = Recording::new();
    let Recording { store, lock, .. } = &r;
    let index = Index::open(&store.index_dir()).unwrap();
    let interval = WriterOptions::default().sync_interval;
    let mut source = store.open_source(lock, SourceKind::Live, CaptureTime::MIN).unwrap();
    let mut writers = r.writers(source, &frames, interval);
    let indexer = LiveIndexer::start(store, lock, &index, &LiveHub::new(), source).unwrap();
    let mut from = 0;
    for (n, cut) in cuts.iter().enumerate() {
        write(&mut writers, &frames[from..*cut]);
        from = *cut;
        let others = traffic(n as i64 + 5, 20);
        let kind = SourceKind::File { path: "other.pcap".into(), bytes: 1, head: [0; 32] };
        let other = store.open_source(lock, kind, CaptureTime::MIN).unwrap();
        let mut other_writers = r.writers(other, &others, interval);
        write(&mut other_writers, &others);
        other_writers.into_iter().for_each(|w| w.finish().unwrap());
        store.close_source(other, others.len() as u64, None, None).unwrap();

        if n % 2 == 1 {
            // A change-over that failed leaves an empty source behind, which is no part of anything.
            let empty = store.open_source(lock, SourceKind::Live, CaptureTime::MIN).unwrap();
            store.close_source(empty, 0, None, None).unwrap();
        }
        let next = store.open_source(lock, SourceKind::Live, CaptureTime::MIN).unwrap();
        store.continue_source(next, source).unwrap();
        let before = std::mem::replace(&mut writers, r.writers(next, &frames, interval));
        before.into_iter().for_each(|w| w.finish().unwrap());
        store.close_source(source, 0, None, None).unwrap();
        indexer.go_on(next);
        source = next;
        if n % 2 == 0 {
            let give_up = Instant::now() + PATIENCE;
            while !indexer.follows(next) {
                assert!(Instant::now() < give_up, "the other source is not taken in");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
    write(&mut writers, &frames[from..]);
    writers.into_iter().for_each(|w| w.finish().unwrap());
    indexer.finish().unwrap();
    store.close_source(source, 0, None, None).unwrap();
    // Whoever plays it gets it whole, across all its parts.
    let times = (frames[0].time, frames.last().unwrap().time);
    let on_demand = played(&whole, &Index::open(&whole.store.index_dir()).unwrap(), times);
    assert_eq!(played(&r, &index, times), on_demand, "at {cuts:?}");
    // The others are of the same camera at other times.
    let alone = Recording::new();
    for n in 0..cuts.len() {
        alone.run(&traffic(n as i64 + 5, 20), 1 << 30);
    }
    let others = counts(&Index::open(&alone.store.index_dir()).unwrap(), &alone.store);
    let found = counts(&index, store);
    for (name, packets, lost, units) in &expected {
        let of_others = others.iter().find(|o| o.0 == *name).map_or((0, 0, 0), |o| (o.1, o.2, o.3));
        let found = found.iter().find(|f| f.0 == *name).unwrap();
        assert_eq!((found.1, found.2), (packets + of_others.0, lost + of_others.1), "{name} at {cuts:?}");
        // A shard's end settles what waits behind a hole, so that a picture can end and begin there.
        let more = found.3.abs_diff(units + of_others.2);
        assert!(more <= cuts.len() as u64, "{more} access units of {name} at {cuts:?}");
    }
    drop(index);
    let before = r.dump();
    let made = reindex(store, lock, &mut |_, _| {}).unwrap();
    assert!(made.cold.is_none());
    assert_same(&before, &r.dump());
}

#[test]
fn what_is_taken_in_meanwhile_interrupts_nothing() {
    for n in 0..6 {
        interposed(|frames| frames, &[2_000 + 137 * n, 2_300 + 411 * n, 9_001 + n]);
    }
}

/// Two files one after the other on a link that is quiet: the part between them has no packet.
#[test]
fn nor_does_a_part_without_a_packet() {
    interposed(|frames| frames, &[3_001, 3_001, 3_001, 8_003]);
}

#[test]
fn neither_on_two_taps() {
    interposed(on_two_taps, &[3_001, 7_777]);
}

/// An index that this program can't go on with keeps nobody from recording: it is begun anew, and has everything in the end.
#[test]
fn one_that_can_not_be_gone_on_with_is_begun_anew() {
    let r = Recording::new();
    r.run(&traffic(1, 200), 6 << 20);
    {
        let index = Index::open(&r.store.index_dir()).unwrap();
        let mut batch = crate::index::IndexBatch::new();
        // One of a newer program stays as it is.
        let mut saved = Saved::load(&r.store, &index).unwrap().unwrap().0;
        saved.fold[0] += 1;
        batch.put_state(saved.encode());
        index.commit(batch).unwrap();
        drop(index);
        assert!(open_or_begin(&r.store, &r.lock).is_err());
        let index = Index::open(&r.store.index_dir()).unwrap();
        let mut batch = crate::index::IndexBatch::new();
        batch.put_state(b"of another time".to_vec());
        index.commit(batch).unwrap();
    }
    let (index, why) = open_or_begin(&r.store, &r.lock).unwrap();
    assert!(why.unwrap().contains("another version"));
    assert!(index.streams().unwrap().is_empty());
    drop(index);
    r.run(&traffic(2, 100), 1 << 30);
    let (index, why) = open_or_begin(&r.store, &r.lock).unwrap();
    assert!(why.is_none());
    let before = dump(&index);
    drop(index);
    let made = reindex(&r.store, &r.lock, &mut |_, _| {}).unwrap();
    assert!(made.cold.is_none());
    assert_same(&before, &r.dump());
}
