//! A shard's file while it is written: reserved whole, written in page-aligned pieces past the page cache.

use super::format;
use crate::{LinkType, ShardId, StoreError};
use rustix::fs::{FallocateFlags, Mode, OFlags};
use std::fs::File;
use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Direct writes begin and end on a multiple of this many bytes (a page; every disk's sector divides it).
pub const ALIGNMENT: u64 = 4_096;

/// Bytes that a new shard leaves free, for the journal and the index: they must be able to say that the disk is full.
pub const LEFT_FREE: u64 = 8 << 20;

/// An open shard file and its durable mark.
#[derive(Debug)]
pub struct ShardFile {
    file: File,
    path: PathBuf,
    mark: File,
    mark_path: PathBuf,
    direct: bool,
}

/// `shards/NNNNNNNNNNNNNNNN.pcap`, sixteen decimal digits, so that names sort as numbers do.
pub fn shard_path(shards_dir: &Path, id: ShardId) -> PathBuf {
    shards_dir.join(format!("{:016}.pcap", id.0))
}

/// What a shard is called that the journal does not know: a name that no shard has, and none of those set aside before.
pub fn stray_path(shards_dir: &Path, id: ShardId) -> PathBuf {
    let named = |n: u32| shards_dir.join(format!("{:016}-{n}.stray.pcap", id.0));
    (1..).map(named).find(|path| !path.exists()).expect("a directory has fewer files than there are numbers")
}

/// The durable mark beside an unsealed shard.
pub fn mark_path(shards_dir: &Path, id: ShardId) -> PathBuf {
    shards_dir.join(format!("{:016}.mark", id.0))
}

/// There is no room for a shard of that size.
pub fn full(shards_dir: &Path, needed: u64) -> StoreError {
    StoreError::Full { dir: shards_dir.to_owned(), needed, free: free_bytes(shards_dir).unwrap_or(0) }
}

fn free_bytes(dir: &Path) -> Option<u64> {
    rustix::fs::statvfs(dir).ok().map(|s| s.f_bavail.saturating_mul(s.f_frsize))
}

fn reserve(file: &File, shards_dir: &Path, path: &Path, size: u64) -> Result<(), StoreError> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => Err(full(shards_dir, size)),
        // A file system that can't reserve: a write fails then instead, never a mapping (it is only read).
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(size).map_err(StoreError::io("extending", path)),
        Err(e) => Err(StoreError::io("reserving", path)(e.into())),
    }
}

impl ShardFile {
    /// Makes and reserves the file, and an empty mark. When that fails nothing is left behind.
    pub fn create(
        shards_dir: &Path,
        id: ShardId,
        size: u64,
        link: LinkType,
        snaplen: u32,
    ) -> Result<Self, StoreError> {
        let (path, mark_path) = (shard_path(shards_dir, id), mark_path(shards_dir, id));
        if free_bytes(shards_dir).unwrap_or(u64::MAX) < size + LEFT_FREE {
            return Err(full(shards_dir, size));
        }
        let plain = File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(StoreError::io("creating", &path))?;
        let made = (|| {
            reserve(&plain, shards_dir, &path, size)?;
            plain
                .write_all_at(&format::file_header(link, snaplen), 0)
                .map_err(StoreError::io("writing", &path))?;
            let direct = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
            let (file, direct) = match rustix::fs::open(&path, direct, Mode::empty()) {
                Ok(fd) => (File::from(fd), true),
                Err(_) => (plain, false),
            };
            let mark = File::create(&mark_path).map_err(StoreError::io("creating", &mark_path))?;
            let this = Self { file, path: path.clone(), mark, mark_path: mark_path.clone(), direct };
            this.write_mark(&Mark { shard: id, bytes: format::FILE_HEADER_LEN, packets: 0 })?;
            // The name is as durable as what the journal will say of it.
            File::open(shards_dir)
                .and_then(|d| d.sync_all())
                .map_err(StoreError::io("syncing", shards_dir))?;
            Ok(this)
        })();
        made.inspect_err(|_| {
            // Else what could not be finished would stay reserved, once for each try.
            let _ = std::fs::remove_file(&path);
            let _ = std::fs::remove_file(&mark_path);
        })
    }

    /// Writes `pieces` one after the other at `offset`, all multiples of [`ALIGNMENT`], from page-aligned memory.
    pub fn write(&self, pieces: &[IoSlice<'_>], offset: u64) -> Result<(), StoreError> {
        let len: usize = pieces.iter().map(|p| p.len()).sum();
        debug_assert!(offset.is_multiple_of(ALIGNMENT) && (len as u64).is_multiple_of(ALIGNMENT));
        if rustix::io::pwritev(&self.file, pieces, offset) != Ok(len) {
            // Cut short, or an error: piece by piece, which finishes the one and names the other.
            let mut at = offset;
            for piece in pieces {
                self.file.write_all_at(piece, at).map_err(StoreError::io("writing", &self.path))?;
                at += piece.len() as u64;
            }
        }
        if !self.direct {
            // Started at once and dropped once written: a long recording must not fill the page cache with unsynced data.
            let _ = rustix::fs::fadvise(
                &self.file,
                0,
                std::num::NonZeroU64::new(offset),
                rustix::fs::Advice::DontNeed,
            );
        }
        Ok(())
    }

    /// Makes durable what was written, then says so in the mark.
    pub fn sync(&self, mark: &Mark) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::io("syncing", &self.path))?;
        self.write_mark(mark)
    }

    /// Cuts the file to its packets; they are durable, the mark goes.
    pub fn seal(&self, bytes: u64) -> Result<(), StoreError> {
        let file =
            File::options().write(true).open(&self.path).map_err(StoreError::io("opening", &self.path))?;
        file.set_len(bytes).map_err(StoreError::io("trimming", &self.path))?;
        file.sync_all().map_err(StoreError::io("syncing", &self.path))
    }

    /// After the journal knows that the shard is sealed.
    pub fn remove_mark(&self) {
        let _ = std::fs::remove_file(&self.mark_path);
    }

    /// Removes a shard that never got a packet.
    pub fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
        self.remove_mark();
    }

    fn write_mark(&self, mark: &Mark) -> Result<(), StoreError> {
        self.mark.write_all_at(&mark.encode(), 0).map_err(StoreError::io("writing", &self.mark_path))?;
        self.mark.sync_data().map_err(StoreError::io("syncing", &self.mark_path))
    }
}

/// How much of a shard is known to be on disk. 28 bytes, inside one sector: written whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The shard.
    pub shard: ShardId,
    /// Its durable length: a record boundary.
    pub bytes: u64,
    /// Packets in it.
    pub packets: u64,
}

impl Mark {
    fn encode(&self) -> [u8; 28] {
        let mut bytes = [0; 28];
        bytes[0..8].copy_from_slice(&self.shard.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.packets.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..24]);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a mark; `None` when there is none or it is damaged.
    pub fn read(path: &Path) -> Option<Self> {
        let bytes: [u8; 28] = std::fs::read(path).ok()?.get(..28)?.try_into().ok()?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let this = Self { shard: ShardId(word(0)), bytes: word(8), packets: word(16) };
        (this.encode() == bytes).then_some(this)
    }
}
