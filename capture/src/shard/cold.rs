//! Reads what has left staging of a shard that is being recorded: past the page cache, into memory that is used again and again.
//!
//! An indexer that falls behind would read through the mapping otherwise. Each page of the cache has to be found, filled and mapped, for
//! bytes that are looked at once: on a virtual machine 2.4 µs a packet were measured, more than all the rest of recording. An indexer that
//! was behind stayed behind, and in the end the capture thread lost packets for want of a CPU.

use super::file::{ALIGNMENT, shard_path};
use crate::ShardId;
use memmap2::MmapMut;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// The most bytes that are read at once: a read waits behind the writes that the disk has in hand, whatever its length.
pub const WINDOW: usize = 4 << 20;
/// Windows whose memory may be in use at once; beyond them the mapping serves.
const BUFFERS: usize = 3;

/// Reads one shard after the other.
#[derive(Debug, Default)]
pub(crate) struct ColdReader {
    open: Option<(ShardId, File)>,
    window: Option<Window>,
    buffers: Vec<Arc<MmapMut>>,
}

/// Bytes of a shard's file that were read.
#[derive(Debug)]
struct Window {
    shard: ShardId,
    /// Where in the file the buffer begins, and where what is known of it ends.
    from: u64,
    end: u64,
    buffer: Arc<MmapMut>,
}

impl ColdReader {
    /// A range of a shard's file, of which `in_file` bytes are written: a buffer and where in it the range begins. `None` where that can't be
    /// had. Reads up to `window` bytes if it has to.
    pub fn read(
        &mut self,
        shards_dir: &Path,
        shard: ShardId,
        in_file: u64,
        range: Range<u64>,
        window: usize,
    ) -> Option<(Arc<MmapMut>, usize)> {
        let has = |w: &Window| w.shard == shard && w.from <= range.start && range.end <= w.end;
        if !self.window.as_ref().is_some_and(has) {
            self.window = None;
            let most = window.max((range.end - range.start) as usize + ALIGNMENT as usize).min(WINDOW);
            self.window = Some(self.fill(shards_dir, shard, range.start, in_file, most)?);
        }
        let window = self.window.as_ref().filter(|w| has(w))?;
        Some((window.buffer.clone(), (range.start - window.from) as usize))
    }

    /// Lets go of the file, which may be deleted: its space would stay taken.
    pub fn close(&mut self) {
        (self.open, self.window) = (None, None);
    }

    fn fill(
        &mut self,
        shards_dir: &Path,
        shard: ShardId,
        start: u64,
        in_file: u64,
        most: usize,
    ) -> Option<Window> {
        let from = start / ALIGNMENT * ALIGNMENT;
        let at = match self.buffers.iter_mut().position(|b| Arc::get_mut(b).is_some()) {
            Some(at) => at,
            None if self.buffers.len() < BUFFERS => {
                self.buffers.push(Arc::new(MmapMut::map_anon(WINDOW).ok()?));
                self.buffers.len() - 1
            }
            None => return None,
        };
        if self.open.as_ref().is_none_or(|(id, _)| *id != shard) {
            let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
            let file = rustix::fs::open(shard_path(shards_dir, shard), flags, Mode::empty()).ok()?;
            self.open = Some((shard, File::from(file)));
        }
        let (_, file) = self.open.as_ref()?;
        let buffer = Arc::get_mut(&mut self.buffers[at])?;
        let wanted =
            (in_file.saturating_sub(from)).min(most as u64).next_multiple_of(ALIGNMENT).min(WINDOW as u64)
                as usize;
        let mut done = 0;
        while done < wanted {
            match file.read_at(&mut buffer[done..wanted], from + done as u64) {
                Ok(n) if n > 0 => done += n,
                // The file's end is no whole page.
                Ok(_) => break,
                Err(_) => return None,
            }
            if !done.is_multiple_of(ALIGNMENT as usize) {
                break;
            }
        }
        let end = (from + done as u64).min(in_file);
        Some(Window { shard, from, end, buffer: self.buffers[at].clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_is_what_stands_in_the_file() {
        // Not on tmpfs, which some kernels don't read directly: then there is nothing to see, and the mapping serves.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let bytes: Vec<u8> = (0..20_000_001u32).map(|n| (n / 3) as u8).collect();
        std::fs::write(shard_path(dir.path(), ShardId(7)), &bytes).unwrap();
        let mut reader = ColdReader::default();
        let mut read = |shard, in_file, range: std::ops::Range<u64>| {
            reader.read(dir.path(), ShardId(shard), in_file, range, 1 << 20)
        };
        let whole = bytes.len() as u64;
        let ranges = [
            24..1_024,
            4_096..1_052_672,
            1_048_575..1_048_577,
            19_999_000..20_000_001,
            0..1,
            8_388_000..8_400_000,
        ];
        let mut held = Vec::new();
        for range in ranges {
            let Some((buffer, start)) = read(7, whole, range.clone()) else {
                assert!(held.len() > BUFFERS || held.is_empty(), "{range:?}");
                println!("no more buffers, or a file system that can't be read directly");
                break;
            };
            held.push((buffer, start, range.start as usize..range.end as usize));
        }
        for (buffer, start, range) in &held {
            assert!(buffer[*start..start + range.len()] == bytes[range.clone()], "{range:?}");
        }
        held.clear();
        assert!(read(7, whole, 19_999_000..20_000_002).is_none(), "beyond the end");
        assert!(read(7, 5_000, 4_096..5_001).is_none(), "not written yet");
        assert!(read(8, whole, 0..1).is_none(), "no such shard");
    }
}
