//! Views into shards: from the file's mapping, or from a pinned staging slot while the bytes are on their way to the file.
//!
//! A view costs no copy, but where it crosses from one slot into the next (one record in some 800).
#![allow(unsafe_code)]

use super::file::shard_path;
use super::format::{FILE_HEADER_LEN, RecordHeader};
use super::live::LiveShard;
use super::slot::Pin;
use super::staging::{SLOT_LEN, Staging};
use crate::store::ShardInfo;
use crate::{CaptureTime, LinkType, ReadError, ShardId, StoreError, TapId};
use memmap2::{Mmap, MmapMut};
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use super::format::RECORD_HEADER_LEN;

/// A shard, open for reading. Holding it is the lease: retention may unlink the file, its bytes stay readable.
#[derive(Debug)]
pub struct Shard {
    info: ShardInfo,
    map: Arc<Mmap>,
    live: Live,
}

#[derive(Debug)]
enum Live {
    /// Sealed when it was opened.
    No,
    /// Written in this process.
    Here(Arc<LiveShard>),
    /// Written by another process of this boot.
    Elsewhere { staging: Arc<Staging>, committed: AtomicU64 },
}

impl Shard {
    pub(crate) fn open(
        shards_dir: &Path,
        info: ShardInfo,
        here: Option<Arc<LiveShard>>,
        elsewhere: Option<Arc<Staging>>,
    ) -> Result<Self, StoreError> {
        let path = shard_path(shards_dir, info.id);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Gone { shard: info.id });
            }
            Err(e) => return Err(StoreError::io("opening", &path)(e)),
        };
        // SAFETY: the file is only ever cut above its published length, and never read above it; nothing rewrites published
        // bytes. A disk that fails under the mapping is the one cause of SIGBUS left: there is no data to go on with then.
        let map = unsafe { Mmap::map(&file) }.map_err(StoreError::io("mapping", &path))?;
        let live = match (here, elsewhere) {
            (Some(live), _) => Live::Here(live),
            (None, Some(staging)) => Live::Elsewhere { staging, committed: AtomicU64::new(info.bytes) },
            (None, None) => Live::No,
        };
        Ok(Self { info, map: Arc::new(map), live })
    }

    /// Its number.
    pub fn id(&self) -> ShardId {
        self.info.id
    }

    /// Its packets' link type.
    pub fn link(&self) -> LinkType {
        self.info.link
    }

    /// The tap that it belongs to.
    pub fn tap(&self) -> TapId {
        self.info.tap
    }

    /// Whether nothing will be added.
    pub fn sealed(&self) -> bool {
        match &self.live {
            Live::No => true,
            Live::Here(live) => live.full_at.load(Ordering::Acquire) != 0,
            Live::Elsewhere { .. } => false,
        }
    }

    /// Whether this view still fits to what the journal says, and to whether this process writes the shard.
    pub(crate) fn current(&self, sealed: bool, here: bool) -> bool {
        match self.live {
            Live::Here(_) => here || !sealed,
            Live::No => self.info.sealed == sealed,
            Live::Elsewhere { .. } => self.info.sealed == sealed && !here,
        }
    }

    /// Published bytes and packets of a shard that another process writes.
    pub(crate) fn published(&self) -> (u64, u64) {
        match &self.live {
            Live::Elsewhere { staging, .. } => {
                let word =
                    staging.open_shards().iter().filter_map(|w| w.load()).find(|p| p.shard == self.info.id);
                word.map_or((self.committed(), self.info.packets), |w| (w.committed, w.packets))
            }
            Live::Here(live) => (live.published().committed, live.published().packets),
            Live::No => (self.info.bytes, self.info.packets),
        }
    }

    /// Published length in bytes, file header included: the offset of the next record.
    pub fn committed(&self) -> u64 {
        match &self.live {
            Live::No => self.info.bytes,
            Live::Here(live) => live.published().committed,
            Live::Elsewhere { staging, committed } => {
                let word =
                    staging.open_shards().iter().filter_map(|w| w.load()).find(|p| p.shard == self.info.id);
                if let Some(published) = word {
                    committed.fetch_max(published.committed, Ordering::AcqRel);
                }
                committed.load(Ordering::Acquire).min(self.map.len() as u64)
            }
        }
    }

    /// Bytes that have reached the file.
    pub(super) fn in_file(&self) -> u64 {
        match &self.live {
            Live::Here(live) => live.flushed.load(Ordering::Acquire),
            Live::No => self.info.bytes,
            Live::Elsewhere { .. } => 0,
        }
    }

    /// The bytes of a published range.
    pub fn bytes(&self, offset: u64, len: usize) -> Result<ShardBytes, ReadError> {
        let committed = self.committed();
        if offset.checked_add(len as u64).is_none_or(|end| end > committed) {
            return Err(ReadError::Beyond { shard: self.info.id, offset, len: len as u64, committed });
        }
        let (start, end) = (offset as usize, offset as usize + len);
        match &self.live {
            // Shorter than it was sealed: somebody has cut it.
            Live::No if end > self.map.len() => Err(self.torn(offset)),
            Live::No => Ok(self.mapped(start..end)),
            Live::Here(live) => Ok(self.bytes_here(live, offset, len)),
            Live::Elsewhere { staging, .. } => self.bytes_elsewhere(staging, offset, len),
        }
    }

    /// The record that begins at `offset`.
    pub fn record(&self, offset: u64) -> Result<Record, ReadError> {
        let header = self.header(offset)?;
        let data = self.bytes(offset + RECORD_HEADER_LEN, header.captured_len as usize)?;
        Ok(Record { offset, time: header.time, original_len: header.original_len, data })
    }

    /// The records from `from` (a record boundary, at least 24) on, up to about 1 MiB of them; `None` when there is none (yet).
    pub fn chunk(&self, from: u64) -> Result<Option<Chunk>, ReadError> {
        let from = from.max(FILE_HEADER_LEN);
        let committed = self.committed();
        if from >= committed {
            return Ok(None);
        }
        // Up to the block's end, so that a live chunk lies in one slot. The record that crosses it comes alone.
        let block_end = (from / SLOT_LEN + 1) * SLOT_LEN;
        let there = if let Live::No = self.live { committed.min(self.map.len() as u64) } else { committed };
        let window =
            there.min(block_end).checked_sub(from).filter(|w| *w > 0).ok_or_else(|| self.torn(from))?;
        if let Live::Here(live) = &self.live {
            // Its writer says where records end: at what is published, and in each block.
            let end = if committed <= block_end { Some(committed) } else { live.whole_end(from / SLOT_LEN) };
            if let Some(end) = end.filter(|end| *end > from) {
                return Ok(Some(Chunk { base: from, bytes: self.bytes(from, (end - from) as usize)? }));
            }
        }
        let bytes = self.bytes(from, window as usize)?;
        let whole = match whole_records(&bytes) {
            Err(0) => return Err(self.torn(from)),
            // What is before the damage comes first; who asks for what follows is told.
            Err(at) | Ok(at) => at,
        };
        if whole > 0 {
            return Ok(Some(Chunk { base: from, bytes: bytes.slice(0..whole) }));
        }
        let len = self.header(from)?.record_len();
        Ok(Some(Chunk { base: from, bytes: self.bytes(from, len as usize).map_err(|_| self.torn(from))? }))
    }

    /// The records from `from` (a record boundary) on as they stand in the file of a sealed shard, up to the next place where one is
    /// known to begin: a whole MiB or so, of which nothing is looked at, so that many can be taken apart side by side. Damage
    /// shows when [`Chunk::records`] ends before the chunk does. `None` where [`chunk`](Self::chunk) has to find the way.
    pub fn unread_chunk(&self, from: u64) -> Option<Chunk> {
        if !matches!(self.live, Live::No) {
            return None;
        }
        let from = from.max(FILE_HEADER_LEN);
        let anchors = &self.info.anchors;
        let next = anchors.partition_point(|a| *a <= from);
        // The last part has no end but the shard's.
        let to = anchors.get(next).copied().filter(|_| next > 0).or((next > 0).then_some(self.info.bytes))?;
        let to = to.min(self.info.bytes).min(self.map.len() as u64);
        (to > from && to - from <= 2 * SLOT_LEN)
            .then(|| Chunk { base: from, bytes: self.mapped(from as usize..to as usize) })
    }

    /// Tells the system that these bytes will be read soon.
    pub fn prefetch(&self, offset: u64, len: u64) {
        let end = (offset + len).min(self.map.len() as u64);
        if offset < end {
            let _ =
                self.map.advise_range(memmap2::Advice::WillNeed, offset as usize, (end - offset) as usize);
        }
    }

    fn header(&self, offset: u64) -> Result<RecordHeader, ReadError> {
        let bytes = self.bytes(offset, RECORD_HEADER_LEN as usize)?;
        let header = bytes.first_chunk().and_then(RecordHeader::decode);
        header.ok_or_else(|| self.torn(offset))
    }

    fn torn(&self, offset: u64) -> ReadError {
        ReadError::Torn { shard: self.info.id, offset }
    }

    fn mapped(&self, range: Range<usize>) -> ShardBytes {
        ShardBytes { owner: Owner::Map(self.map.clone()), start: range.start, len: range.len() }
    }

    fn bytes_here(&self, live: &LiveShard, offset: u64, len: usize) -> ShardBytes {
        let (start, block) = (offset as usize, offset / SLOT_LEN);
        let last = (offset + len.max(1) as u64 - 1) / SLOT_LEN;
        if block == last {
            // A block that is not in the table any more has reached the file.
            return match live.pin(block) {
                Some(pin) => {
                    let owner = Owner::Slot(pin);
                    let bytes = ShardBytes { owner, start: (offset % SLOT_LEN) as usize, len };
                    // Readers hold too many slots as it is: a slow client must not cost packets.
                    if live.slots.scarce() { ShardBytes::copied(bytes.to_vec()) } else { bytes }
                }
                None => self.mapped(start..start + len),
            };
        }
        let mut copy = Vec::with_capacity(len);
        for block in block..=last {
            let from = offset.max(block * SLOT_LEN);
            let to = (offset + len as u64).min((block + 1) * SLOT_LEN);
            copy.extend_from_slice(&self.bytes_here(live, from, (to - from) as usize));
        }
        ShardBytes::copied(copy)
    }

    fn bytes_elsewhere(&self, staging: &Staging, offset: u64, len: usize) -> Result<ShardBytes, ReadError> {
        let mut copy = vec![0; len];
        let mut staged = false;
        let mut at = offset;
        while at < offset + len as u64 {
            let to = (offset + len as u64).min((at / SLOT_LEN + 1) * SLOT_LEN);
            let part = (at - offset) as usize..(to - offset) as usize;
            if staging
                .copy(self.info.id, at / SLOT_LEN, (at % SLOT_LEN) as usize, &mut copy[part.clone()])
                .is_some()
            {
                staged = true;
            } else {
                copy[part].copy_from_slice(&self.map[at as usize..to as usize]);
            }
            at = to;
        }
        // Nothing was staged: it is in the file, no copy needed.
        Ok(if staged {
            ShardBytes::copied(copy)
        } else {
            self.mapped(offset as usize..offset as usize + len)
        })
    }
}

/// Length of the whole records at the start of `bytes`; the place where no record can begin, if one is met.
fn whole_records(bytes: &[u8]) -> Result<usize, usize> {
    let mut at = 0;
    while let Some(header) = bytes.get(at..).and_then(|b| b.first_chunk()) {
        let header = RecordHeader::decode(header).ok_or(at)?;
        let end = at + header.record_len() as usize;
        if end > bytes.len() {
            break;
        }
        at = end;
    }
    Ok(at)
}

/// Bytes of a shard: a view that keeps what it points into. Cheap to clone and to cut.
#[derive(Clone, Debug)]
pub struct ShardBytes {
    owner: Owner,
    start: usize,
    len: usize,
}

#[derive(Clone, Debug)]
enum Owner {
    Map(Arc<Mmap>),
    Slot(Pin),
    Read(Arc<MmapMut>),
    Copy(Arc<[u8]>),
}

impl ShardBytes {
    /// Bytes that come from no shard, for what must be put together.
    pub fn copied(bytes: Vec<u8>) -> Self {
        Self { start: 0, len: bytes.len(), owner: Owner::Copy(bytes.into()) }
    }

    /// Bytes that were read into a buffer, from `start` of it on.
    pub(super) fn read(buffer: Arc<MmapMut>, start: usize, len: usize) -> Self {
        Self { owner: Owner::Read(buffer), start, len }
    }

    /// Whether they lie in the file's mapping, where they may have to come from the disk.
    pub(super) fn mapped(&self) -> bool {
        matches!(self.owner, Owner::Map(_))
    }

    /// A part of it; panics like a slice when the range is outside.
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} bytes", self.len);
        Self { owner: self.owner.clone(), start: self.start + range.start, len: range.len() }
    }
}

impl Deref for ShardBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.owner {
            Owner::Map(map) => &map[self.start..self.start + self.len],
            Owner::Slot(pin) => &pin.bytes(self.start + self.len)[self.start..],
            Owner::Read(buffer) => &buffer[self.start..self.start + self.len],
            Owner::Copy(bytes) => &bytes[self.start..self.start + self.len],
        }
    }
}

impl AsRef<[u8]> for ShardBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Whole records, one after the other.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Offset in the shard of the first record.
    pub base: u64,
    /// Headers and data.
    pub bytes: ShardBytes,
}

impl Chunk {
    /// Its records, in the order of capture.
    pub fn records(&self) -> Records<'_> {
        Records { bytes: &self.bytes, offset: self.base }
    }

    /// The record that begins at `offset` of the shard, as a view that keeps what it points into; `None` behind the last one.
    pub fn record(&self, offset: u64) -> Option<Record> {
        let at = usize::try_from(offset.checked_sub(self.base)?).ok()?;
        let mut rest = Records { bytes: self.bytes.get(at..)?, offset };
        let view = rest.next()?;
        let from = at + RECORD_HEADER_LEN as usize;
        let data = self.bytes.slice(from..from + view.data.len());
        Some(Record { offset, time: view.time, original_len: view.original_len, data })
    }

    /// Offset in the shard behind the last record: where the next chunk begins.
    pub fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }
}

/// Iterates over a chunk's records.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    offset: u64,
}

impl Records<'_> {
    /// Offset in the shard of the next record; after the last one, of the chunk's end or of the damage that ended it.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = RecordView<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordView<'a>> {
        let header = RecordHeader::decode(self.bytes.first_chunk()?)?;
        let (record, rest) = self.bytes.split_at_checked(header.record_len() as usize)?;
        let view = RecordView {
            offset: self.offset,
            time: header.time,
            original_len: header.original_len,
            data: &record[RECORD_HEADER_LEN as usize..],
        };
        look_ahead(rest, record.len());
        self.bytes = rest;
        self.offset += header.record_len();
        Some(view)
    }
}

/// Starts to fetch the headers of a record some records on. Where a record begins is known only once the one before it was read, and each
/// is a miss of the cache and of the TLB: without this a walk over a shard is 700 ns a packet of waiting. Packets of video are
/// mostly of one length, so the guess is mostly right; where it is wrong a fetch was in vain.
#[inline(always)]
fn look_ahead(rest: &[u8], record_len: usize) {
    /// Records: 100 ns of work each, against some 700 ns of waiting.
    const AHEAD: usize = 8;
    // Headers up to the RTP payload's first bytes stand in two lines.
    prefetch(rest.get(record_len.saturating_mul(AHEAD - 1)..).unwrap_or(&[]), 2);
}

/// Starts to bring the first `lines` cache lines of these bytes into the core's cache; does nothing where that can't be asked for.
#[inline(always)]
pub fn prefetch(bytes: &[u8], lines: usize) {
    const LINE: usize = 64;
    #[cfg(target_arch = "x86_64")]
    for byte in bytes.iter().step_by(LINE).take(lines) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch touches nothing; the address is inside the slice anyway.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, lines, LINE);
}

/// A packet in a chunk.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Offset in the shard of the record's 16-byte header.
    pub offset: u64,
    /// When it was captured.
    pub time: CaptureTime,
    /// Its length on the wire in bytes.
    pub original_len: u32,
    /// The captured bytes.
    pub data: &'a [u8],
}

/// A packet of a shard.
#[derive(Clone, Debug)]
pub struct Record {
    /// Offset in the shard of the record's 16-byte header.
    pub offset: u64,
    /// When it was captured.
    pub time: CaptureTime,
    /// Its length on the wire in bytes.
    pub original_len: u32,
    /// The captured bytes.
    pub data: ShardBytes,
}
