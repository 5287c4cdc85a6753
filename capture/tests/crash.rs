//! kill -9 at random moments of a recording under load, across rotation and retention: every packet that a reader in another
//! process had seen published is there afterwards, in order, unaltered, and nothing else is.
//!
//! The writer is this test program again, started as a child with `TAPDECK_CRASH_STORE` set.

use capture::{
    CaptureTime, LinkType, NewTap, Provenance, ShardId, ShardWriter, SourceKind, Store, TapTail,
    WriterOptions,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: u64 = 20;
/// Small, so that a round sees several rotations.
const OPTIONS: WriterOptions = WriterOptions {
    shard_size: 4 << 20,
    staging_bytes: 8 << 20,
    when_full: capture::WhenFull::Drop,
    flush_interval: Duration::from_millis(50),
    sync_interval: Duration::from_millis(100),
    hash: false,
};
/// Above this the child deletes its oldest shards.
const KEEP_SHARDS: usize = 6;

/// The bytes of packet `n` of a run: its number, then a pattern that depends on it; lengths vary.
fn packet(run: u64, n: u64) -> Vec<u8> {
    let len = 60 + (n * 7_919 + run) as usize % 1_440;
    let mut bytes = vec![(n ^ run) as u8; len];
    bytes[0..8].copy_from_slice(&run.to_le_bytes());
    bytes[8..16].copy_from_slice(&n.to_le_bytes());
    bytes
}

/// The child: writes until it is killed.
#[test]
#[ignore = "the child of the crash test, started by it"]
fn writer_child() {
    let (Ok(dir), Ok(run)) = (std::env::var("TAPDECK_CRASH_STORE"), std::env::var("TAPDECK_CRASH_RUN"))
    else {
        return;
    };
    let run: u64 = run.parse().unwrap();
    let store = Store::open(Path::new(&dir)).unwrap();
    let lock = store.lock().unwrap();
    store.recover(&lock).unwrap();
    let source = store.open_source(&lock, SourceKind::Live, CaptureTime::from_nanos(1)).unwrap();
    let tap = NewTap {
        source,
        name: format!("run{run}"),
        link: LinkType::ETHERNET,
        snaplen: 65_535,
        provenance: Provenance::Captured,
    };
    let mut writer = ShardWriter::open(&store, &lock, tap, OPTIONS).unwrap();
    let mut n = 0;
    loop {
        for _ in 0..64 {
            let bytes = packet(run, n);
            // Numbered without holes: a packet that finds no room is tried again.
            while writer.append(CaptureTime::from_nanos(1 + n as i64), bytes.len() as u32, &bytes)
                == capture::Appended::Dropped
            {
                writer.publish();
                std::thread::sleep(Duration::from_micros(200));
            }
            n += 1;
        }
        writer.publish();
        if n.is_multiple_of(1_024) {
            let sealed: Vec<ShardId> = store.shards().iter().filter(|s| s.sealed).map(|s| s.id).collect();
            for id in sealed.iter().take(sealed.len().saturating_sub(KEEP_SHARDS)) {
                store.delete_shard(&lock, *id).unwrap();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn start(dir: &Path, run: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_child", "--ignored", "--nocapture"])
        .env("TAPDECK_CRASH_STORE", dir)
        .env("TAPDECK_CRASH_RUN", run.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// What a reader in another process saw last: published bytes of each shard.
fn observe(store: &Store, seen: &mut BTreeMap<ShardId, u64>) {
    store.refresh().unwrap();
    for info in store.shards() {
        let bytes = match info.sealed {
            true => info.bytes,
            false => store.shard(info.id).map_or(0, |s| s.committed()),
        };
        let known = seen.entry(info.id).or_default();
        *known = bytes.max(*known);
    }
}

#[test]
fn every_published_packet_survives_twenty_kills_and_nothing_is_invented() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    drop(Store::create(&path).unwrap());
    // Times that differ from run to run of the test; printed, so that a failure can be looked into.
    let mut random = u64::from(std::process::id()) ^ 0x9e37_79b9_7f4a_7c15;
    let (mut slowest, mut packets, mut rotated) = (Duration::ZERO, 0, 0);
    for run in 1..=ROUNDS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after = Duration::from_micros(150_000 + (random >> 33) % 450_000);
        let mut child = start(&path, run);
        let reader = Store::open(&path).unwrap();
        let (begun, mut seen) = (Instant::now(), BTreeMap::new());
        while begun.elapsed() < after {
            observe(&reader, &mut seen);
            std::thread::sleep(Duration::from_micros(500));
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let store = Store::open(&path).unwrap();
        let lock = store.lock().unwrap();
        let recovering = Instant::now();
        let recovered = store.recover(&lock).unwrap();
        slowest = slowest.max(recovering.elapsed());
        assert!(recovered.iter().all(|r| r.complete && r.torn_at.is_none()), "run {run}: {recovered:?}");
        for info in store.shards() {
            assert!(info.sealed, "run {run}: shard {} is still open", info.id);
            let published = seen.get(&info.id).copied().unwrap_or(0);
            assert!(
                info.bytes >= published,
                "run {run} after {after:?}: shard {}: {published} bytes were seen",
                info.id
            );
            let file = path.join(format!("shards/{:016}.pcap", info.id.0));
            assert_eq!(std::fs::metadata(file).unwrap().len(), info.bytes, "no reserved tail is left");
        }
        let deleted: Vec<ShardId> = deleted(&store);
        let missing: Vec<_> = seen
            .iter()
            .filter(|(id, bytes)| **bytes > 24 && store.shard_info(**id).is_none() && !deleted.contains(id))
            .collect();
        assert!(missing.is_empty(), "run {run}: shards that were seen are gone: {missing:?}");
        let newest = seen.iter().rev().find(|(_, bytes)| **bytes > 24);
        assert!(
            newest.is_none_or(|(id, _)| store.shard_info(*id).is_some()),
            "run {run}: {newest:?} is gone"
        );
        let Some(tap) = store.taps().into_iter().find(|t| t.name == format!("run{run}")) else { continue };
        packets += check(&store, tap.id, run);
        rotated += store.shards().iter().filter(|s| s.tap == tap.id).count().saturating_sub(1);
        assert_eq!(
            files(&path),
            store.shards().len(),
            "run {run}: a file that no one knows, or none for a shard"
        );
    }
    println!("{packets} packets checked, {rotated} rotations, slowest recovery {slowest:?}");
    assert!(packets > 10_000 && rotated > 0);
    assert!(slowest < Duration::from_secs(1), "recovery took {slowest:?}");
}

/// All retained packets of a run are numbered without a hole up to the last, and are what was written.
fn check(store: &Store, tap: capture::TapId, run: u64) -> u64 {
    let mut tail = TapTail::new(store, tap, None);
    let (mut next, mut count) = (None, 0);
    while let Some((shard, chunk)) = tail.next().unwrap() {
        for record in chunk.records() {
            let n = u64::from_le_bytes(record.data[8..16].try_into().unwrap());
            // Retention may have taken the oldest shards; from then on there is no hole.
            assert_eq!(n, next.unwrap_or(n), "run {run}, shard {}, offset {}", shard.id(), record.offset);
            assert_eq!(record.data, packet(run, n), "run {run}, packet {n}");
            assert_eq!(
                (record.time.nanos(), record.original_len as usize),
                (1 + n as i64, record.data.len())
            );
            (next, count) = (Some(n + 1), count + 1);
        }
    }
    let told: u64 = store.shards().iter().filter(|s| s.tap == tap).map(|s| s.packets).sum();
    assert_eq!(told, count, "run {run}: the journal's count");
    count
}

fn deleted(store: &Store) -> Vec<ShardId> {
    let deleted = |r| match r {
        capture::JournalRecord::ShardDeleted { shard } => Some(shard),
        _ => None,
    };
    store.journal_records().unwrap().into_iter().filter_map(deleted).collect()
}

fn files(store: &Path) -> usize {
    std::fs::read_dir(store.join("shards")).unwrap().count()
}
