//! Whether sealed shards are what they were: their hashes, and where they differ.

use crate::hash::{BLOCK_LEN, ShardHasher, ShardHashes};
use crate::journal::JournalRecord;
use crate::shard::{FILE_HEADER_LEN, RECORD_HEADER_LEN, RecordHeader, shard_path};
use crate::store::{ShardInfo, Store};
use crate::{CaptureTime, ShardId, StoreError};
use serde::Serialize;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// A range of a shard's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ByteRange {
    /// First byte.
    pub from: u64,
    /// Behind the last byte.
    pub to: u64,
}

/// A record of a shard, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordAt {
    /// Where its header begins.
    pub offset: u64,
    /// When it was captured.
    pub time: CaptureTime,
    /// Bytes of it that are there.
    pub captured_len: u32,
    /// Its length on the wire.
    pub original_len: u32,
}

/// What `verify` found of one shard.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShardReport {
    /// The shard.
    pub shard: ShardId,
    /// Its file.
    pub path: String,
    /// Length that the journal gives.
    pub bytes: u64,
    /// Length of the file.
    pub found_bytes: u64,
    /// Whether the content is what was hashed when the shard was sealed; `None` when it has not been hashed yet.
    pub unchanged: Option<bool>,
    /// MiB blocks whose content differs from what was hashed.
    pub changed: Vec<ByteRange>,
    /// Where no records can be read: torn, zeroed, cut off.
    pub unreadable: Vec<ByteRange>,
    /// Records that can be read.
    pub packets: u64,
    /// Records that the journal says there are.
    pub expected_packets: u64,
}

impl ShardReport {
    /// Whether all is as it was.
    pub fn sound(&self) -> bool {
        self.unchanged != Some(false)
            && self.unreadable.is_empty()
            && self.bytes == self.found_bytes
            && self.packets == self.expected_packets
    }
}

/// Reads a sealed shard from end to end and compares it with the journal. `seen` is given each record that can be read.
pub fn verify_shard(
    store: &Store,
    info: &ShardInfo,
    seen: &mut dyn FnMut(&RecordAt),
) -> Result<ShardReport, StoreError> {
    let path = shard_path(&store.shards_dir(), info.id);
    let mut report = ShardReport {
        shard: info.id,
        path: path.display().to_string(),
        bytes: info.bytes,
        found_bytes: 0,
        unchanged: None,
        changed: Vec::new(),
        unreadable: Vec::new(),
        packets: 0,
        expected_packets: info.packets,
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            report.unreadable.push(ByteRange { from: 0, to: info.bytes });
            report.unchanged = info.hash.map(|_| false);
            return Ok(report);
        }
        Err(e) => return Err(StoreError::io("opening", path)(e)),
    };
    report.found_bytes = file.metadata().map_err(StoreError::io("examining", &path))?.len();
    if let Some(expected) = info.hash {
        let ShardHashes { whole: hash, blocks } =
            hash_blocks(&file, || ()).map_err(StoreError::io("reading", &path))?;
        report.unchanged = Some(hash == expected);
        for (n, _) in info.blocks.iter().enumerate().filter(|(n, b)| blocks.get(*n) != Some(*b)) {
            let from = (n * BLOCK_LEN) as u64;
            report.changed.push(ByteRange { from, to: (from + BLOCK_LEN as u64).min(info.bytes) });
        }
    }
    walk(&file, info, &mut report, seen);
    Ok(report)
}

/// Follows the record headers; after damage goes on at the next anchor.
fn walk(file: &File, info: &ShardInfo, report: &mut ShardReport, seen: &mut dyn FnMut(&RecordAt)) {
    let end = info.bytes.min(report.found_bytes);
    let mut window = Window { file, base: 0, bytes: Vec::new(), end };
    let mut at = FILE_HEADER_LEN;
    while at < end {
        let header = window.at(at).and_then(RecordHeader::decode).filter(|h| at + h.record_len() <= end);
        if let Some(header) = header {
            report.packets += 1;
            let RecordHeader { time, captured_len, original_len } = header;
            seen(&RecordAt { offset: at, time, captured_len, original_len });
            at += header.record_len();
            continue;
        }
        let resume = info.anchors.iter().copied().find(|&a| {
            a > at && window.at(a).and_then(RecordHeader::decode).is_some_and(|h| a + h.record_len() <= end)
        });
        let to = resume.unwrap_or(end);
        report.unreadable.push(ByteRange { from: at, to });
        at = to;
    }
    if report.found_bytes < info.bytes {
        report.unreadable.push(ByteRange { from: report.found_bytes, to: info.bytes });
    }
}

struct Window<'a> {
    file: &'a File,
    base: u64,
    bytes: Vec<u8>,
    end: u64,
}

impl Window<'_> {
    fn at(&mut self, at: u64) -> Option<&[u8; RECORD_HEADER_LEN as usize]> {
        if at + RECORD_HEADER_LEN > self.end {
            return None;
        }
        if at < self.base || at + RECORD_HEADER_LEN > self.base + self.bytes.len() as u64 {
            self.bytes.resize(BLOCK_LEN.min((self.end - at) as usize), 0);
            self.base = at;
            self.file.read_exact_at(&mut self.bytes, at).ok()?;
        }
        self.bytes[(at - self.base) as usize..].first_chunk()
    }
}

/// Hash of the whole file, and of each MiB.
fn hash_blocks(mut file: &File, mut pause: impl FnMut()) -> std::io::Result<ShardHashes> {
    let (mut hasher, mut block) = (ShardHasher::default(), vec![0; BLOCK_LEN]);
    loop {
        let mut len = 0;
        while len < block.len() {
            match file.read(&mut block[len..])? {
                0 => break,
                n => len += n,
            }
        }
        if len == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&block[..len]);
        pause();
    }
}

impl Store {
    /// Hashes the oldest sealed shard that has no hash yet into the journal; `false` when there is none. `pause` is slept after
    /// each MiB, so that hashing leaves the disk to the capture.
    pub fn hash_next_shard(&self, pause: Duration) -> Result<bool, StoreError> {
        let Some(info) = self.shards().into_iter().find(|s| s.sealed && s.hash.is_none()) else {
            return Ok(false);
        };
        let path = shard_path(&self.shards_dir(), info.id);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                // Gone between the look and the opening, or by another hand: `verify` tells which.
                return match self.shard_info(info.id) {
                    Some(_) => Err(StoreError::io("opening", path)(e)),
                    None => Ok(true),
                };
            }
            Err(e) => return Err(StoreError::io("opening", path)(e)),
        };
        let hashed = hash_blocks(&file, || {
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        });
        let ShardHashes { whole: hash, blocks } = hashed.map_err(StoreError::io("reading", &path))?;
        // What was only read to be hashed is not kept in memory.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        self.append(&JournalRecord::ShardHashed { shard: info.id, hash, blocks })?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import_file;

    #[test]
    fn a_zeroed_middle_and_a_cut_end_are_found_with_their_offsets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcap");
        let mut file = [
            &0xa1b2_3c4du32.to_le_bytes()[..],
            &[2, 0, 4, 0],
            &[0; 8],
            &65_535u32.to_le_bytes(),
            &1u32.to_le_bytes(),
        ]
        .concat();
        for n in 1..6_000u32 {
            file.extend([n, 0, 1_000, 1_000].map(u32::to_le_bytes).concat());
            file.extend([n as u8; 1_000]);
        }
        std::fs::write(&path, file).unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        let lock = store.lock().unwrap();
        import_file(&store, &lock, &path, Default::default(), false, &mut |_, _| true, &mut |_, _| {})
            .unwrap();
        while store.hash_next_shard(Duration::ZERO).unwrap() {}
        let info = store.shards()[0].clone();
        let report = verify_shard(&store, &info, &mut |_| {}).unwrap();
        assert!(report.sound() && report.unchanged == Some(true), "{report:?}");

        let shard = File::options().write(true).open(shard_path(&store.shards_dir(), info.id)).unwrap();
        shard.write_all_at(&[0; 8_192], 2_500_000).unwrap();
        let report = verify_shard(&store, &info, &mut |_| {}).unwrap();
        assert!(!report.sound() && report.unchanged == Some(false));
        assert_eq!(report.changed, [ByteRange { from: 2 << 20, to: 3 << 20 }]);
        assert_eq!(report.unreadable.len(), 1);
        let hole = report.unreadable[0];
        assert!(
            hole.from >= 2_500_000
                && hole.from < 2_502_000
                && hole.to > 3 << 20
                && hole.to < (3 << 20) + 1_016,
            "{hole:?}"
        );
        assert_eq!(report.packets, 5_999 - (hole.to - hole.from).div_ceil(1_016));

        shard.set_len(info.bytes - 10).unwrap();
        let report = verify_shard(&store, &info, &mut |_| {}).unwrap();
        assert_eq!(report.unreadable.last().unwrap().to, info.bytes);
    }
}
