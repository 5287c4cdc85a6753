//! The journal: what packets can't say, in small checksummed records that are appended.
//!
//! ```text
//! | "TDJ1" (4) | length of the body (4) | CRC-32 of the body (4) | body: a postcard-encoded JournalRecord |
//! ```
//! A record that a crash cut is overwritten by the next one; a record that was damaged otherwise is passed over by looking for
//! the next magic, and counted. What belongs to shards that retention has deleted goes when the journal is compacted: a new file
//! takes the old one's place (`compact`).

use crate::file::Damage;
use crate::shard::Recovered;
use crate::{CaptureTime, LinkType, ShardId, SourceId, StoreError, TapId};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"TDJ1";
const FRAME_LEN: usize = 12;
/// No record is longer.
const MAX_BODY_LEN: usize = 64 << 20;
/// A journal that is shorter is not compacted.
const COMPACT_MIN: u64 = 256 << 10;

/// Where a source's packets come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A run of a live recording.
    Live,
    /// An imported file.
    File {
        /// Its path, as it was named.
        path: String,
        /// Its size in bytes.
        bytes: u64,
        /// BLAKE3 of its first MiB: tells files apart that can't be the same.
        head: [u8; 32],
    },
}

/// How a shard's packets came into this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// Captured by this recorder.
    Captured,
    /// Taken over from a file.
    Imported,
    /// Completed later, from a camera's own storage.
    BackFilled,
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JournalRecord {
    /// A source began. `recorder` and `epoch` say who captured and in which of its runs.
    SourceOpened {
        /// Its number.
        source: SourceId,
        /// What it is.
        kind: SourceKind,
        /// The recorder's id.
        recorder: [u8; 16],
        /// Which run of the recorder.
        epoch: u64,
        /// When, by the recorder's clock.
        at: CaptureTime,
    },
    /// A source ended as it should: all its packets are in shards.
    SourceDone {
        /// Its number.
        source: SourceId,
        /// Packets taken over.
        packets: u64,
        /// Where the file stopped making sense.
        damage: Option<Damage>,
        /// A file's fingerprint: by this the same file is recognised.
        hash: Option<[u8; 32]>,
    },
    /// A tap was opened.
    TapOpened {
        /// Its number.
        tap: TapId,
        /// The source that it belongs to.
        source: SourceId,
        /// The interface's name, or the file's.
        name: String,
        /// Link type.
        link: LinkType,
        /// Longest capture of a packet in bytes.
        snaplen: u32,
    },
    /// A shard was reserved.
    ShardOpened {
        /// Its number.
        shard: ShardId,
        /// The tap that it belongs to.
        tap: TapId,
        /// Reserved bytes.
        size: u64,
        /// How its packets come here.
        provenance: Provenance,
    },
    /// A shard is complete and will not change any more.
    ShardSealed {
        /// Its number.
        shard: ShardId,
        /// Its length.
        bytes: u64,
        /// Its packets.
        packets: u64,
        /// Earliest and latest capture time of its packets: not those of the first and the last where the clock was set back.
        times: Option<(CaptureTime, CaptureTime)>,
    },
    /// BLAKE3 of a sealed shard's file.
    ShardHashed {
        /// Its number.
        shard: ShardId,
        /// The hash.
        hash: [u8; 32],
        /// CRC-32 of each MiB, to say where a changed shard was changed.
        blocks: Vec<u32>,
    },
    /// Offsets of records, about one a MiB, from which a reader finds its way after damage.
    ShardAnchors {
        /// Its number.
        shard: ShardId,
        /// The offsets, ascending.
        offsets: Vec<u64>,
    },
    /// What recovery made of a shard after a crash.
    ShardRecovered(Recovered),
    /// A shard is gone: retention, or it never got a packet.
    ShardDeleted {
        /// Its number.
        shard: ShardId,
    },
    /// Packets that were lost on the way into the store.
    Drops(Drops),
    /// The recorder's clock was set.
    ClockStep {
        /// When, by the clock before.
        at: CaptureTime,
        /// By how many nanoseconds.
        nanos: i64,
    },
    /// An interface was away: nothing of what passed on it meanwhile was captured.
    InterfaceAway {
        /// The tap.
        tap: TapId,
        /// From when.
        from: CaptureTime,
        /// Until when.
        to: CaptureTime,
    },
    /// A stream was given a name.
    Named {
        /// The stream's own name.
        stream: String,
        /// The given one.
        name: String,
    },
    /// Something that a crate above keeps here.
    Note {
        /// What it is.
        kind: String,
        /// In whose encoding.
        body: Vec<u8>,
    },
    /// What retention had deleted of a tap when the journal was compacted.
    Trimmed {
        /// The tap.
        tap: TapId,
        /// How much.
        trimmed: Trimmed,
    },
    /// The numbers that were given when the journal was compacted.
    Given(Given),
    /// What a tap did, second by second.
    Statistics(Statistics),
    /// A recording goes on in a later source: others were taken in between the two.
    SourceContinues {
        /// The later part.
        source: SourceId,
        /// The recording's first part.
        of: SourceId,
    },
}

/// What retention has deleted of a tap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trimmed {
    /// Shards with packets in them.
    pub shards: u64,
    /// Their packets.
    pub packets: u64,
    /// The last of them, and its length.
    pub last: Option<(ShardId, u64)>,
}

/// The highest numbers that were given: none is given twice, also when nothing is left of what had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Of sources.
    pub source: SourceId,
    /// Of taps.
    pub tap: TapId,
    /// Of shards.
    pub shard: ShardId,
    /// Runs of the recorder.
    pub run: u64,
}

impl Default for Given {
    fn default() -> Self {
        Self { source: SourceId(0), tap: TapId(0), shard: ShardId(0), run: 0 }
    }
}

impl Given {
    /// The higher ones of both.
    pub fn max(&self, other: &Self) -> Self {
        Self {
            source: self.source.max(other.source),
            tap: self.tap.max(other.tap),
            shard: self.shard.max(other.shard),
            run: self.run.max(other.run),
        }
    }
}

/// Why a tap has not all that passed in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Packets were dropped.
    Dropped(Drops),
    /// The interface was away.
    Away {
        /// The tap.
        tap: TapId,
        /// From when.
        from: CaptureTime,
        /// Until when.
        to: CaptureTime,
    },
}

/// Losses of one tap in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// The tap.
    pub tap: TapId,
    /// From when.
    pub from: CaptureTime,
    /// Until when.
    pub to: CaptureTime,
    /// Packets received in it.
    pub received: u64,
    /// Dropped by the kernel: its ring was full.
    pub kernel: u64,
    /// Dropped by the network interface.
    pub nic: u64,
    /// Dropped by us: staging was full, the disk was behind.
    pub ours: u64,
}

/// Some seconds of one tap: for people and programs that look later; nothing is decided by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// The tap.
    pub tap: TapId,
    /// When the first row begins, by the recorder's clock.
    pub from: CaptureTime,
    /// One after the other, about a second each.
    pub rows: Vec<StatisticsRow>,
}

/// What happened within a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatisticsRow {
    /// How long it was.
    pub millis: u32,
    /// Packets that passed the filter, recorded or lost.
    pub received: u64,
    /// Captured bytes that were recorded, without record headers.
    pub bytes: u64,
    /// Packets dropped by the kernel: its ring was full.
    pub dropped_kernel: u64,
    /// Packets dropped by the network interface, before any filter.
    pub dropped_nic: u64,
    /// Packets dropped by us: staging was full, the disk was behind.
    pub dropped_ours: u64,
    /// Bytes that waited for the disk at its end.
    pub queued_bytes: u64,
}

impl Statistics {
    /// The rows, each with when it began.
    pub fn seconds(&self) -> impl Iterator<Item = (CaptureTime, &StatisticsRow)> {
        self.rows.iter().scan(self.from, |at, row| {
            let from = *at;
            *at = CaptureTime::from_nanos(from.nanos() + i64::from(row.millis) * 1_000_000);
            Some((from, row))
        })
    }
}

/// The journal's file, for appending or for following.
#[derive(Debug)]
pub struct JournalFile {
    file: File,
    path: PathBuf,
    write: bool,
    /// Behind the last whole record.
    end: u64,
    /// Bytes that were passed over.
    damaged: u64,
    /// Its length when it was compacted last.
    compacted: u64,
}

/// What was read.
#[derive(Debug, Default)]
pub struct ReadOn {
    /// Records, in order.
    pub records: Vec<JournalRecord>,
    /// The journal was compacted since: the records are all of it.
    pub anew: bool,
}

impl JournalFile {
    /// Opens (with `write`, or makes) the journal.
    pub fn open(path: &Path, write: bool) -> Result<Self, StoreError> {
        let file = File::options().read(true).write(write).create(write).truncate(false).open(path);
        Ok(Self {
            file: file.map_err(StoreError::io("opening", path))?,
            path: path.to_owned(),
            write,
            end: 0,
            damaged: 0,
            compacted: 0,
        })
    }

    /// Records that were not read yet, in order.
    pub fn read_on(&mut self) -> Result<ReadOn, StoreError> {
        let anew = self.replaced()?;
        if anew {
            *self = Self::open(&self.path, self.write)?;
        }
        let len = self.file.metadata().map_err(StoreError::io("examining", &self.path))?.len();
        if len <= self.end {
            return Ok(ReadOn { records: Vec::new(), anew });
        }
        let mut bytes = Vec::new();
        let mut from = &self.file;
        std::io::Seek::seek(&mut from, std::io::SeekFrom::Start(self.end))
            .map_err(StoreError::io("reading", &self.path))?;
        from.take(len - self.end).read_to_end(&mut bytes).map_err(StoreError::io("reading", &self.path))?;
        let parsed = parse(&bytes);
        self.end += parsed.end as u64;
        self.damaged += parsed.damaged as u64;
        Ok(ReadOn { records: parsed.records, anew })
    }

    /// Whether another file has taken its place: the process that writes the store has compacted it.
    fn replaced(&self) -> Result<bool, StoreError> {
        let examined = StoreError::io("examining", &self.path);
        let mine = self.file.metadata().map_err(examined)?;
        match std::fs::metadata(&self.path) {
            Ok(there) => Ok((there.dev(), there.ino()) != (mine.dev(), mine.ino())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StoreError::io("examining", &self.path)(e)),
        }
    }

    /// Puts a journal of these records in its place. A crash leaves the one or the other, whole.
    pub fn replace(&mut self, records: &[JournalRecord]) -> Result<(), StoreError> {
        let part = self.path.with_extension("part");
        let write = || {
            let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&part)?;
            let bytes: Vec<u8> = records.iter().flat_map(encode).collect();
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&part, &self.path)?;
            Ok((file, bytes.len() as u64))
        };
        let (file, len) = write().map_err(|e| {
            let _ = std::fs::remove_file(&part);
            StoreError::io("writing", &part)(e)
        })?;
        (self.file, self.end, self.compacted) = (file, len, len);
        let dir = self.path.parent().unwrap_or(Path::new("."));
        File::open(dir).and_then(|d| d.sync_all()).map_err(StoreError::io("syncing", dir))
    }

    /// Whether it has at least doubled since it was compacted last, and is worth the trouble.
    pub fn grown(&self) -> bool {
        self.end >= COMPACT_MIN && self.end >= 2 * self.compacted
    }

    /// Appends a record; it is in the system's hands, not yet durable.
    pub fn append(&mut self, record: &JournalRecord) -> Result<(), StoreError> {
        let frame = encode(record);
        self.file.write_all_at(&frame, self.end).map_err(StoreError::io("writing", &self.path))?;
        self.end += frame.len() as u64;
        Ok(())
    }

    /// Makes everything durable.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::io("syncing", &self.path))
    }

    /// Bytes that no record could be read from.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }
}

pub(crate) fn encode(record: &JournalRecord) -> Vec<u8> {
    let body = postcard::to_stdvec(record).expect("plain data always encodes");
    let mut frame = Vec::with_capacity(FRAME_LEN + body.len());
    frame.extend(MAGIC);
    frame.extend((body.len() as u32).to_le_bytes());
    frame.extend(crc32fast::hash(&body).to_le_bytes());
    frame.extend(body);
    frame
}

/// What [`parse`] found.
#[derive(Debug)]
pub struct Parsed {
    /// The records.
    pub records: Vec<JournalRecord>,
    /// Behind the last whole one.
    pub end: usize,
    /// Bytes between records that belong to none.
    pub damaged: usize,
}

/// Reads records from a journal's bytes; never fails, passes over what is damaged.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut parsed = Parsed { records: Vec::new(), end: 0, damaged: 0 };
    let mut at = 0;
    while at + FRAME_LEN <= bytes.len() {
        match frame(&bytes[at..]) {
            Some((record, len)) => {
                parsed.damaged += at - parsed.end;
                parsed.records.push(record);
                at += len;
                parsed.end = at;
            }
            None => {
                let next = bytes[at + 1..].windows(4).position(|w| w == MAGIC);
                at = next.map_or(bytes.len(), |n| at + 1 + n);
            }
        }
    }
    parsed
}

fn frame(bytes: &[u8]) -> Option<(JournalRecord, usize)> {
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let len = word(4)? as usize;
    let body =
        bytes.get(FRAME_LEN..FRAME_LEN + len).filter(|_| bytes.starts_with(&MAGIC) && len <= MAX_BODY_LEN)?;
    (crc32fast::hash(body) == word(8)?).then_some(())?;
    Some((postcard::from_bytes(body).ok()?, FRAME_LEN + len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(n: u32) -> JournalRecord {
        JournalRecord::Named { stream: format!("s{n}"), name: "gate".into() }
    }

    proptest! {
        #[test]
        fn a_cut_or_damaged_journal_keeps_every_other_record(count in 1u32..20, at in any::<prop::sample::Index>(), bit in 0u8..8, cut: bool) {
            let frames: Vec<Vec<u8>> = (0..count).map(|n| encode(&named(n))).collect();
            let mut bytes = frames.concat();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            let parsed = parse(&bytes);
            let lost = (0..count).filter(|n| !parsed.records.contains(&named(*n))).count();
            let behind = frames.iter().scan(0, |end, f| { *end += f.len(); Some(*end) }).filter(|end| *end > at).count();
            if cut { prop_assert_eq!(lost, behind) } else { prop_assert!(lost <= 1) }
            prop_assert_eq!(parsed.records.len() + lost, count as usize);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&[&MAGIC[..], &bytes].concat());
            parse(&bytes);
        }
    }
}
