//! After a crash: brings every unsealed shard to the length that was published (same boot) or durable (power loss), and
//! seals it. Nothing that was published is dropped, nothing that was only reserved is read.

use super::file::{Mark, mark_path, shard_path, stray_path};
use super::format::{FILE_HEADER_LEN, RECORD_HEADER_LEN, RecordHeader};
use super::staging::{SLOT_LEN, Staging, places};
use crate::journal::JournalRecord;
use crate::store::{ShardInfo, Store, WriterLock};
use crate::{CaptureTime, ShardId, StoreError};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// What was done for one shard.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Recovered {
    /// The shard.
    pub shard: ShardId,
    /// Its length now; 0 when nothing of it was durable and it is gone.
    pub bytes: u64,
    /// Its packets now.
    pub packets: u64,
    /// Whether the staging of this boot was there, so that all published packets are. Otherwise up to a sync interval's worth
    /// (1 s by default) that was published before a power loss may be missing.
    pub complete: bool,
    /// Where the records stop making sense before that length, if they do; what is behind is kept, `verify` shows it.
    pub torn_at: Option<u64>,
}

/// Whether something was written into a shard, durable or not.
fn holds_a_record(file: &File) -> std::io::Result<bool> {
    let mut header = [0; RECORD_HEADER_LEN as usize];
    match file.read_exact_at(&mut header, FILE_HEADER_LEN) {
        Ok(()) => Ok(header.iter().any(|byte| *byte != 0)),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether there is anything in a shard's file, as far as that can be seen: what can't be read may be footage.
pub fn may_hold_packets(path: &std::path::Path) -> bool {
    match File::open(path).and_then(|file| holds_a_record(&file)) {
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
        Ok(holds) => holds,
    }
}

/// Recovers all shards that a crash left unsealed.
pub fn recover(store: &Store, _lock: &WriterLock) -> Result<Vec<Recovered>, StoreError> {
    sweep(store)?;
    let mut done = Vec::new();
    let unsealed: Vec<ShardInfo> = store.shards().into_iter().filter(|s| !s.sealed).collect();
    for shard in &unsealed {
        if let Some(recovered) = one(store, shard)? {
            done.push(recovered);
        }
    }
    for tap in store.taps() {
        for path in places(store.dir(), &store.id().to_string(), tap.id) {
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(done)
}

/// Finishes what a kill left half done around a shard's birth and end: files that the journal has struck off, files that it
/// never came to know (nothing was written into them yet), and marks of sealed shards.
fn sweep(store: &Store) -> Result<(), StoreError> {
    // An index that was being made anew beside the one that is there.
    let _ = std::fs::remove_dir_all(store.index_dir().with_extension("new"));
    // The one before it, where the file system can't exchange two: it is the only one until the new one stands in its place.
    let old = store.index_dir().with_extension("old");
    let _ = match store.index_dir().exists() {
        true => std::fs::remove_dir_all(old),
        false => std::fs::rename(old, store.index_dir()),
    };
    let dir = store.shards_dir();
    // A journal that was damaged may have known them: then they stay, and their numbers are not used again.
    let trusted = store.journal_damage() == 0;
    let given = store.last_shard_given();
    for entry in std::fs::read_dir(&dir).map_err(StoreError::io("listing", &dir))?.flatten() {
        let path = entry.path();
        let stem = path.file_stem().and_then(|s| s.to_str());
        let Some(id) = stem.and_then(|s| s.parse().ok()).map(ShardId) else {
            // One that was set aside before.
            let before = stem.and_then(|s| s.split_once('-')?.0.parse().ok());
            before.into_iter().for_each(|id| store.avoid_shard_id(ShardId(id)));
            continue;
        };
        let known = store.shard_info(id);
        let stale = match path.extension().and_then(|e| e.to_str()) {
            Some("mark") => known.as_ref().is_none_or(|s| s.sealed),
            Some("pcap" | "state" | "end" | "rest") => known.is_none() && trusted,
            // What goes with a shard is written under this name first.
            Some("state-part" | "end-part" | "rest-part") => true,
            _ => false,
        };
        let is_shard = path.extension().is_some_and(|e| e == "pcap");
        if stale && is_shard && id > given && may_hold_packets(&path) {
            // It is not the journal that the shard was written with, and does not know for what it will give the number.
            let aside = stray_path(&dir, id);
            // First: once nothing is left that is not known, nobody would look again.
            empty_index(store)?;
            std::fs::rename(&path, &aside).map_err(StoreError::io("renaming", &path))?;
            tracing::warn!(
                "the journal is older than shard {id}, which is now {}: `tapdeck import` brings its packets in",
                aside.display()
            );
        } else if stale {
            let _ = std::fs::remove_file(&path);
        } else if known.is_none() && is_shard {
            tracing::warn!("{} is not in the journal, which was damaged; it is left alone", path.display());
        }
        store.avoid_shard_id(id);
    }
    Ok(())
}

/// An index of a later journal would be gone on with under numbers that are given again: it is made anew. Its directory may be a link to another
/// disk, and stays.
fn empty_index(store: &Store) -> Result<(), StoreError> {
    let Ok(dir) = std::fs::read_dir(store.index_dir()) else { return Ok(()) };
    // On a disk of its own there is more than the index.
    let files = dir.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let mut files: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
    // What names the others goes first: without it they are no index.
    files.sort_by_key(|path| !path.ends_with("CURRENT"));
    for path in files {
        std::fs::remove_file(&path).map_err(StoreError::io("deleting", &path))?;
    }
    let dir = store.index_dir();
    File::open(&dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("syncing", &dir))
}

fn one(store: &Store, shard: &ShardInfo) -> Result<Option<Recovered>, StoreError> {
    let dir = store.shards_dir();
    let (path, mark_path) = (shard_path(&dir, shard.id), mark_path(&dir, shard.id));
    let file = match File::options().read(true).write(true).open(&path) {
        Ok(file) => file,
        // Deleted before the journal could say so, or never made.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            store.shard_deleted(shard.id)?;
            return Ok(None);
        }
        Err(e) => return Err(StoreError::io("opening", &path)(e)),
    };
    let mark = Mark::read(&mark_path).filter(|m| m.shard == shard.id);
    let durable = mark.map_or(FILE_HEADER_LEN, |m| m.bytes);
    let mut published = None;
    for place in places(store.dir(), &store.id().to_string(), shard.tap) {
        let Some(staging) = Staging::open(&place)? else { continue };
        let word = staging.open_shards().iter().filter_map(|w| w.load()).find(|p| p.shard == shard.id);
        if let Some(word) = word {
            restore(&file, &path, &staging, shard.id, word.committed)?;
            published = Some(word.committed);
        }
    }
    let bytes = published.unwrap_or(durable).max(FILE_HEADER_LEN);
    let scan = scan(&file, bytes);
    if scan.packets == 0 && bytes <= FILE_HEADER_LEN {
        let held = published.is_none() && holds_a_record(&file).unwrap_or(true);
        store.shard_deleted(shard.id)?;
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_file(&mark_path);
        return Ok(held.then_some(Recovered {
            shard: shard.id,
            bytes: 0,
            packets: 0,
            complete: false,
            torn_at: None,
        }));
    }
    file.set_len(bytes).map_err(StoreError::io("trimming", &path))?;
    file.sync_all().map_err(StoreError::io("syncing", &path))?;
    let recovered = Recovered {
        shard: shard.id,
        bytes,
        packets: scan.packets,
        complete: published.is_some(),
        torn_at: (scan.end < bytes).then_some(scan.end),
    };
    store.append(&JournalRecord::ShardAnchors { shard: shard.id, offsets: scan.anchors })?;
    store.append(&JournalRecord::ShardRecovered(recovered.clone()))?;
    store.shard_sealed(shard.id, bytes, scan.packets, scan.times)?;
    let _ = std::fs::remove_file(&mark_path);
    Ok(Some(recovered))
}

/// Writes the blocks that are still in staging into the file; those that are not had reached it.
fn restore(
    file: &File,
    path: &std::path::Path,
    staging: &Staging,
    shard: ShardId,
    committed: u64,
) -> Result<(), StoreError> {
    let mut buffer = vec![0; SLOT_LEN as usize];
    for block in 0..committed.div_ceil(SLOT_LEN) {
        let len = (committed - block * SLOT_LEN).min(SLOT_LEN) as usize;
        if staging.copy(shard, block, 0, &mut buffer[..len]).is_some() {
            file.write_all_at(&buffer[..len], block * SLOT_LEN).map_err(StoreError::io("restoring", path))?;
        }
    }
    Ok(())
}

struct Scan {
    packets: u64,
    end: u64,
    times: Option<(CaptureTime, CaptureTime)>,
    anchors: Vec<u64>,
}

/// Walks the record headers up to `bytes`.
fn scan(file: &File, bytes: u64) -> Scan {
    let mut scan = Scan { packets: 0, end: FILE_HEADER_LEN, times: None, anchors: Vec::new() };
    // Plain reads, so that a shard that another program cut gives an error and not a signal.
    let (mut window, mut base) = (Vec::new(), 0u64);
    let mut next_block = 0;
    loop {
        let at = scan.end;
        if at + RECORD_HEADER_LEN > bytes {
            break;
        }
        if at < base || at + RECORD_HEADER_LEN > base + window.len() as u64 {
            base = at;
            window.resize((4 << 20).min((bytes - at) as usize), 0);
            if file.read_exact_at(&mut window, at).is_err() {
                break;
            }
        }
        let Some(header) = window[(at - base) as usize..].first_chunk().and_then(RecordHeader::decode) else {
            break;
        };
        if at + header.record_len() > bytes {
            break;
        }
        if at / SLOT_LEN >= next_block {
            scan.anchors.push(at);
            next_block = at / SLOT_LEN + 1;
        }
        let (first, last) = scan.times.unwrap_or((header.time, header.time));
        scan.times = Some((first.min(header.time), last.max(header.time)));
        scan.packets += 1;
        scan.end = at + header.record_len();
    }
    scan
}
