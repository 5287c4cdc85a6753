//! A disk that runs full: the recording says so and loses what it must, nothing that is stored is harmed; when retention frees
//! space it goes on. Needs root for a small file system of its own; without, it is skipped with the reason.

#[path = "../../tests/lab/skip.rs"]
mod skip;

use capture::{
    Appended, CaptureTime, LinkType, NewTap, Provenance, Retention, ShardWriter, SourceKind, Store,
    StoreError, TapTail, WhenFull, WriterOptions,
};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const OPTIONS: WriterOptions = WriterOptions {
    shard_size: 4 << 20,
    staging_bytes: 8 << 20,
    when_full: WhenFull::Drop,
    flush_interval: Duration::from_millis(50),
    sync_interval: Duration::from_millis(100),
    hash: false,
};

/// A file system of 48 MiB: ext4 in a file where the machine can, else tmpfs.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let (image, at) = (dir.path().join("image"), dir.path().join("disk"));
        std::fs::create_dir(&at).map_err(|e| e.to_string())?;
        std::fs::File::create(&image).and_then(|f| f.set_len(48 << 20)).map_err(|e| e.to_string())?;
        let run = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
            match output.status.success() {
                true => Ok(()),
                false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
            }
        };
        let (image, target) = (image.to_string_lossy().into_owned(), at.to_string_lossy().into_owned());
        let ext4 = run("mkfs.ext4", &["-q", "-F", "-m", "0", &image])
            .and_then(|()| run("mount", &["-o", "loop", &image, &target]));
        match ext4 {
            Ok(()) => println!("on ext4 in a file"),
            Err(why) => {
                println!("no ext4 in a file ({why}), tmpfs instead");
                run("mount", &["-t", "tmpfs", "-o", "size=48m", "tmpfs", &target])?;
            }
        }
        Ok(Self { dir })
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("disk/store")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.dir.path().join("disk")).status();
    }
}

fn disk_or_skip(test: &str) -> Option<SmallDisk> {
    SmallDisk::mount().map_err(|why| skip::skip(test, &format!("a small file system needs root: {why}"))).ok()
}

/// Packets of 1,000 bytes, numbered; `until` is asked after each batch. Which ones were dropped.
fn record(
    store: &Store,
    writer: &mut ShardWriter,
    mut until: impl FnMut(&Store, &ShardWriter, u64) -> bool,
) -> (u64, Vec<u64>) {
    let (mut n, mut dropped) = (0u64, Vec::new());
    loop {
        for _ in 0..500 {
            let mut packet = [n as u8; 1_000];
            packet[..8].copy_from_slice(&n.to_le_bytes());
            if writer.append(CaptureTime::from_nanos(n as i64), 1_000, &packet) == Appended::Dropped {
                dropped.push(n);
            }
            n += 1;
        }
        writer.publish();
        // 100 MB/s: the disk keeps up with that.
        std::thread::sleep(Duration::from_millis(5));
        if until(store, writer, n) {
            return (n, dropped);
        }
    }
}

fn stored(store: &Store) -> Vec<u64> {
    let mut numbers = Vec::new();
    for tap in store.taps() {
        let mut tail = TapTail::new(store, tap.id, None);
        while let Some((_, chunk)) = tail.next().unwrap() {
            for record in chunk.records() {
                let n = u64::from_le_bytes(record.data[..8].try_into().unwrap());
                assert!(record.data[8..].iter().all(|b| *b == n as u8), "packet {n} is not what was written");
                numbers.push(n);
            }
        }
    }
    numbers
}

fn open(path: &Path, when_full: WhenFull) -> (Store, capture::WriterLock, ShardWriter) {
    let store = Store::create(path).unwrap();
    let lock = store.lock().unwrap();
    let source = store.open_source(&lock, SourceKind::Live, CaptureTime::from_nanos(0)).unwrap();
    let tap = NewTap {
        source,
        name: "eth0".into(),
        link: LinkType::ETHERNET,
        snaplen: 65_535,
        provenance: Provenance::Captured,
    };
    let writer = ShardWriter::open(&store, &lock, tap, WriterOptions { when_full, ..OPTIONS }).unwrap();
    (store, lock, writer)
}

#[test]
fn without_retention_it_says_that_the_disk_is_full_and_harms_nothing() {
    let Some(disk) = disk_or_skip("disk full") else { return };
    let (store, lock, mut writer) = open(&disk.store(), WhenFull::Drop);
    let (sent, dropped) =
        record(&store, &mut writer, |_, writer, n| writer.watch().trouble().is_some() && n > 60_000);
    let trouble = writer.watch().trouble().unwrap();
    assert!(trouble.contains("for a shard of 4 MiB") && trouble.contains("make room there"), "{trouble}");
    assert!(!dropped.is_empty());
    let _ = writer.finish();
    let mut all = stored(&store);
    assert!(all.len() > 10_000, "{} packets of {sent}", all.len());
    all.extend(&dropped);
    all.sort_unstable();
    assert_eq!(all, (0..sent).collect::<Vec<_>>(), "each packet is either stored or counted as dropped");
    // Sealed and noted in the journal although nothing is free; and the store opens again.
    assert!(store.shards().iter().all(|s| s.sealed));
    drop((lock, store));
    let store = Store::open(&disk.store()).unwrap();
    store.recover(&store.lock().unwrap()).unwrap();
    assert_eq!(stored(&store).len() + dropped.len(), sent as usize);
    match ShardWriter::open(
        &store,
        &store.lock().unwrap(),
        NewTap {
            source: store.sources()[0].id,
            name: "eth1".into(),
            link: LinkType::ETHERNET,
            snaplen: 65_535,
            provenance: Provenance::Captured,
        },
        OPTIONS,
    ) {
        Err(StoreError::Full { .. }) => {}
        other => panic!("a full disk is said at once: {other:?}"),
    }
}

#[test]
fn with_retention_the_recording_goes_on_into_freed_space() {
    let Some(disk) = disk_or_skip("disk full with retention") else { return };
    // Shards this small ask more of a disk's syncs than a test machine always has; a full disk would drop all the same.
    let (store, lock, mut writer) = open(&disk.store(), WhenFull::Wait);
    let retention = Retention { min_free: Some(20 << 20), ..Retention::default() };
    let began = Instant::now();
    let (sent, dropped) = record(&store, &mut writer, |store, _, n| {
        let gone =
            retention.plan(&store.shards(), 0, store.free_bytes().unwrap(), CaptureTime::from_nanos(0));
        for id in gone {
            store.delete_shard(&lock, id).unwrap();
        }
        n >= 200_000 || began.elapsed() > Duration::from_secs(60)
    });
    assert_eq!(sent, 200_000);
    assert!(dropped.is_empty(), "{} packets were lost", dropped.len());
    writer.finish().unwrap();
    let left = stored(&store);
    assert_eq!(left, (left[0]..sent).collect::<Vec<_>>(), "the newest packets, without a hole");
    assert!(left[0] > 0 && left.len() > 5_000, "{}", left.len());
}
