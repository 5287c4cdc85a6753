use super::live::LiveShard;
use super::staging::SLOT_LEN;
use super::*;
use crate::hash::ShardHasher;
use crate::journal::{Provenance, SourceKind};
use crate::store::{NewTap, Store, WriterLock};
use crate::{CaptureTime, LinkType, ReadError, StoreError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

fn packet(n: u64) -> Vec<u8> {
    let len = 60 + (n.wrapping_mul(2_654_435_761) % 1_400) as usize;
    let mut data = vec![n as u8; len];
    data[..8].copy_from_slice(&n.to_le_bytes());
    data
}

fn time(n: u64) -> CaptureTime {
    CaptureTime::from_nanos(1_700_000_000_000_000_000 + n as i64 * 1_000)
}

fn writer(store: &Store, lock: &WriterLock, shard_size: u64, when_full: WhenFull) -> ShardWriter {
    writer_with(store, lock, shard_size, when_full, WriterOptions::default().flush_interval)
}

fn writer_with(
    store: &Store,
    lock: &WriterLock,
    shard_size: u64,
    when_full: WhenFull,
    flush_interval: Duration,
) -> ShardWriter {
    let source = store.open_source(lock, SourceKind::Live, time(0)).unwrap();
    let tap = NewTap {
        source,
        name: "t0".into(),
        link: LinkType::ETHERNET,
        snaplen: 65_535,
        provenance: Provenance::Captured,
    };
    let options =
        WriterOptions { shard_size, staging_bytes: 8 << 20, when_full, flush_interval, ..Default::default() };
    ShardWriter::open(store, lock, tap, options).unwrap()
}

fn check(tail: &mut TapTail, next: &mut u64) {
    while let Some((_, chunk)) = tail.next().unwrap() {
        for record in chunk.records() {
            assert_eq!(record.data, packet(*next), "packet {next}");
            assert_eq!(record.time, time(*next));
            *next += 1;
        }
    }
}

#[test]
fn what_is_published_is_read_at_once_across_slots_and_shards() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    let mut writer = writer(&store, &lock, 3 << 20, WhenFull::Wait);
    let mut tail = TapTail::new(&store, writer.tap(), None);
    let (mut read, count) = (0, 30_000);
    for n in 0..count {
        assert_eq!(writer.append(time(n), 0, &packet(n)), Appended::Stored);
        if n % 100 == 99 {
            writer.publish();
            check(&mut tail, &mut read);
            assert_eq!(read, n + 1);
        }
    }
    writer.finish().unwrap();
    check(&mut tail, &mut read);
    assert!(tail.finished() && read == count);

    let shards = Store::open(dir.path()).unwrap().shards();
    assert!(shards.len() > 3 && shards.iter().all(|s| s.sealed));
    assert_eq!(shards.iter().map(|s| s.packets).sum::<u64>(), count);
    for shard in &shards {
        let path = dir.path().join(format!("shards/{:016}.pcap", shard.id.0));
        assert_eq!(std::fs::metadata(path).unwrap().len(), shard.bytes);
        assert!(!shard.anchors.is_empty());
        let open = store.shard(shard.id).unwrap();
        for anchor in shard.anchors.iter() {
            open.record(*anchor).unwrap();
        }
    }
    assert_eq!(
        std::fs::read_dir(dir.path().join("shards")).unwrap().count(),
        shards.len(),
        "no marks, no unused shard"
    );
}

#[test]
fn a_reader_that_holds_on_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    let mut writer = writer(&store, &lock, 64 << 20, WhenFull::Wait);
    writer.append(time(0), 0, &packet(0));
    writer.publish();
    let mut tail = TapTail::new(&store, writer.tap(), None);
    let (shard, chunk) = tail.next().unwrap().unwrap();
    let held = chunk.records().next().unwrap().data.to_vec();
    for n in 1..40_000 {
        writer.append(time(n), 0, &packet(n));
    }
    writer.publish();
    assert_eq!(chunk.records().next().unwrap().data, held);
    assert_eq!(&*shard.record(24).unwrap().data, &packet(0)[..]);
    assert!(matches!(shard.bytes(shard.committed(), 1), Err(ReadError::Beyond { .. })));
    writer.finish().unwrap();
    assert_eq!(chunk.records().next().unwrap().data, held);
}

#[test]
fn another_opening_of_the_store_sees_what_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    let mut writer = writer(&store, &lock, 64 << 20, WhenFull::Wait);
    for n in 0..5_000 {
        writer.append(time(n), 0, &packet(n));
    }
    writer.publish();
    // As another process would: it knows nothing of this one's memory.
    let outside = Store::open(dir.path()).unwrap();
    assert!(
        matches!(outside.lock(), Err(StoreError::AlreadyWritten { pid, .. }) if pid == std::process::id())
    );
    let (mut tail, mut read) = (TapTail::new(&outside, writer.tap(), None), 0);
    check(&mut tail, &mut read);
    assert_eq!(read, 5_000);
    writer.finish().unwrap();
    outside.refresh().unwrap();
    assert!(outside.shards()[0].sealed);
}

#[test]
fn without_a_clean_end_in_the_same_boot_nothing_published_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    // What does not fill a block stays in staging alone.
    let flush_interval = Duration::from_secs(3_600);
    let mut writer = writer_with(&store, &lock, 2 << 20, WhenFull::Wait, flush_interval);
    for n in 0..5_000 {
        writer.append(time(n), 0, &packet(n));
    }
    writer.publish();
    writer.append(time(5_000), 0, &packet(5_000));
    // Its threads live on in this process; by then they have sealed what is full and have nothing left to do.
    std::thread::sleep(Duration::from_millis(700));
    // The process is gone: neither its threads nor its destructors run.
    std::mem::forget(writer);
    drop(lock);
    let store = Store::open(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    let recovered = store.recover(&lock).unwrap();
    assert!(
        !recovered.is_empty() && recovered.iter().all(|r| r.complete && r.torn_at.is_none()),
        "{recovered:?}"
    );
    let (mut tail, mut read) = (TapTail::new(&store, store.taps()[0].id, None), 0);
    check(&mut tail, &mut read);
    assert_eq!(read, 5_000);
}

#[test]
fn after_power_loss_the_mark_decides_and_nothing_is_invented() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    let mut writer = writer(&store, &lock, 8 << 20, WhenFull::Wait);
    for n in 0..2_000 {
        writer.append(time(n), 0, &packet(n));
    }
    writer.publish();
    std::thread::sleep(Duration::from_millis(1_600));
    for n in 2_000..2_500 {
        writer.append(time(n), 0, &packet(n));
    }
    writer.publish();
    let staging = store.live_tap(writer.tap()).unwrap().slots.staging().path().to_owned();
    std::mem::forget(writer);
    std::fs::remove_file(staging).unwrap();
    drop(lock);
    let store = Store::open(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    let recovered = store.recover(&lock).unwrap();
    assert!(recovered.iter().all(|r| !r.complete), "{recovered:?}");
    let (mut tail, mut read) = (TapTail::new(&store, store.taps()[0].id, None), 0);
    check(&mut tail, &mut read);
    assert!((2_000..=2_500).contains(&read), "{read}");
}

#[test]
fn what_is_no_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::NotAStore { .. })));
    std::fs::write(dir.path().join("holiday.jpg"), b"x").unwrap();
    assert!(matches!(Store::create(dir.path()), Err(StoreError::NotEmpty { .. })));
    assert!(dir.path().join("holiday.jpg").exists());
    let newer = tempfile::tempdir().unwrap();
    std::fs::write(newer.path().join("store.json"), r#"{"format":999,"id":"00"}"#).unwrap();
    assert!(matches!(Store::open(newer.path()), Err(StoreError::NewerFormat { found: 999, .. })));
}

/// A store of `n` shards and more in its journal at the end; the journal's path, and what it was after the first.
fn store_with_shards(dir: &Path, n: u64) -> (PathBuf, Vec<u8>) {
    let store = Store::create(dir).unwrap();
    let lock = store.lock().unwrap();
    let journal = dir.join("journal/000001.journal");
    let mut first = None;
    for number in 0..n {
        let mut writer = writer(&store, &lock, 4 << 20, WhenFull::Wait);
        writer.append(time(number), 0, &packet(number));
        writer.finish().unwrap();
        first.get_or_insert_with(|| std::fs::read(&journal).unwrap());
    }
    (journal, first.unwrap())
}

fn shard_files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = std::fs::read_dir(dir.join("shards")).unwrap().map(|entry| entry.unwrap().path());
    let mut shards: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "pcap")).collect();
    shards.sort();
    shards.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Who wrote on with a new journal would take the shards for what a kill left half done.
#[test]
fn a_store_without_its_journal_is_refused_and_keeps_its_shards() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = store_with_shards(dir.path(), 2);
    let shards = shard_files(dir.path());
    let refused = || {
        for opened in [Store::open(dir.path()), Store::create(dir.path())] {
            let error = opened.map(|_| ()).unwrap_err();
            assert!(matches!(error, StoreError::NoJournal { .. }), "{error}");
        }
    };
    std::fs::write(&journal, b"").unwrap();
    refused();
    std::fs::remove_file(&journal).unwrap();
    refused();
    assert!(!journal.exists(), "a reader made a new one");
    std::fs::remove_dir(journal.parent().unwrap()).unwrap();
    refused();
    assert_eq!(shard_files(dir.path()), shards);
}

/// One that was brought back from a copy does not know the later shards.
#[test]
fn shards_that_an_older_journal_does_not_know_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, older) = store_with_shards(dir.path(), 3);
    let shards = shard_files(dir.path());
    std::fs::write(&journal, older).unwrap();
    // What a kill left half done goes all the same: a shard that was made ready and never written into.
    let unused = dir.path().join("shards/0000000000000009.pcap");
    std::fs::write(&unused, &shards[0].1[..24]).unwrap();
    let store = Store::create(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    let contents = || shard_files(dir.path()).into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
    let kept = contents();
    assert_eq!(store.unknown_shards().unwrap().len(), 2);
    store.recover(&lock).unwrap();
    let mut writer = writer(&store, &lock, 4 << 20, WhenFull::Wait);
    writer.append(time(9), 0, &packet(9));
    writer.finish().unwrap();
    store.recover(&lock).unwrap();
    let now = contents();
    assert!(
        now.len() == 4 && shards.iter().all(|(_, bytes)| now.contains(bytes)),
        "{} of {}",
        now.len(),
        kept.len()
    );
    let unknown = store.unknown_shards().unwrap();
    let named = |path: &PathBuf| path.to_str().unwrap().ends_with(".stray.pcap");
    assert!(unknown.len() == 2 && unknown.iter().all(named), "{unknown:?}");
    // Nor does another process give their numbers again, which only sees what was set aside.
    let highest = shards.iter().map(|(path, _)| path.clone()).max().unwrap();
    drop(lock);
    let store = Store::open(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    store.recover(&lock).unwrap();
    let mut writer = self::writer(&store, &lock, 4 << 20, WhenFull::Wait);
    writer.append(time(10), 0, &packet(10));
    writer.finish().unwrap();
    let last =
        shard_files(dir.path()).into_iter().map(|(path, _)| path).filter(|path| !named(path)).max().unwrap();
    assert!(last > highest, "{}", last.display());
}

/// While the writer takes a shard from one place to the other, who opens it waits; taken for another process's, it would never be
/// seen to end, and an indexer would stay in it for ever.
#[test]
fn a_shard_that_is_opened_while_its_writer_moves_on_is_seen_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store")).unwrap();
    let lock = store.lock().unwrap();
    let mut writer = writer(&store, &lock, 4 << 20, WhenFull::Wait);
    let live = store.live_tap(writer.tap()).unwrap();
    let next = live.shards().pop().unwrap();
    let id = next.id;
    live.remove(id);
    let moving = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        live.insert(next);
    });
    let shard = store.shard(id).unwrap();
    moving.join().unwrap();
    assert!(!shard.sealed());
    while writer.append(CaptureTime::from_nanos(1), 3, b"abc") != Appended::Stored {
        std::thread::sleep(Duration::from_millis(1));
    }
    writer.finish().unwrap();
    assert!(shard.sealed() && shard.committed() > 24);
}

#[test]
fn shards_are_hashed_out_of_memory_or_left_to_be_hashed() {
    for when_full in [WhenFull::Wait, WhenFull::Drop] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path()).unwrap();
        let lock = store.lock().unwrap();
        let mut writer = writer(&store, &lock, 3 << 20, when_full);
        for n in 0..20_000 {
            if n % 500 == 0 && when_full == WhenFull::Drop {
                // As slow as a network: nothing is dropped, and who hashes comes along.
                let tap = store.live_tap(writer.tap()).unwrap();
                let along = |s: &Arc<LiveShard>| {
                    let hashed = s.hasher().as_ref().map(ShardHasher::bytes);
                    hashed.is_none_or(|at| at + SLOT_LEN > s.flushed.load(Ordering::Acquire))
                };
                let give_up = Instant::now() + Duration::from_secs(20);
                while !(writer.has_room(1 << 20) && tap.shards().iter().all(along)) {
                    assert!(Instant::now() < give_up, "no room");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            assert_eq!(writer.append(time(n), 0, &packet(n)), Appended::Stored);
            writer.publish();
        }
        writer.finish().unwrap();
        let shards = store.shards();
        let hashed = shards.iter().filter(|s| s.hash.is_some()).count();
        match when_full {
            WhenFull::Wait => assert_eq!(hashed, shards.len()),
            WhenFull::Drop => assert!(hashed > 0, "none of {}", shards.len()),
        }
        while store.hash_next_shard(Duration::ZERO).unwrap() {}
        for shard in store.shards() {
            let report = crate::verify_shard(&store, &shard, &mut |_| {}).unwrap();
            assert!(report.sound() && report.unchanged == Some(true), "{report:?}");
        }
    }
}
