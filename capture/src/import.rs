//! Capture files as taps: a file's packets are taken over into shards, one tap for each of its interfaces.
//!
//! The same file is recognised by its content, an import that was cut off goes on where it stopped (or is begun anew, if other
//! sources came after it), and damage ends the file at a named offset with everything before it kept. Costs one copy more than a
//! live tap: file to buffer to staging.

use crate::file::{Damage, DamageKind, FileInterface, FileParser, Step};
use crate::hash::Fingerprint;
use crate::journal::{Provenance, SourceKind};
use crate::shard::{Appended, RecordHeader, ShardWriter, WhenFull, WriterOptions, full, shard_path};
use crate::store::{NewTap, ShardInfo, SourceInfo, Store, WriterLock};
use crate::{CaptureTime, SourceId, StoreError, TapId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes read at once: they stay in the core's own cache while they are taken apart.
const BUFFER_LEN: usize = 512 << 10;
/// Staging of a file with one interface: together with what is read, it stays in the cache that the cores share.
const STAGING_BYTES: u64 = 24 << 20;
/// How far the copying may run ahead of who indexes it: what is in staging is read from memory, what is not, from the disk.
const LEAD_MAX: u64 = 8 << 20;
/// The longest that one reading waits for the indexer: it may be at work on something else.
const STEP_WAIT_MAX: Duration = Duration::from_millis(200);
/// Packets between two publications.
const BATCH: u32 = 256;
/// Interfaces of one file whose packets are taken over; each has shards of its own.
const MAX_TAPS: usize = 256;
const HEAD_LEN: usize = 1 << 20;

/// What a file's packets lack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quality {
    /// Packets that the file does not have to their end (its snap length).
    pub cut: u64,
    /// Packets that stand in the file behind later ones of the same interface.
    pub disordered: u64,
    /// By how many nanoseconds the most displaced of them was captured earlier.
    pub disorder_ns: i64,
}

/// What an import did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImportReport {
    /// The file.
    pub path: PathBuf,
    /// Its source in the store.
    pub source: SourceId,
    /// Its size in bytes.
    pub bytes: u64,
    /// Packets of it that are in the store now.
    pub packets: u64,
    /// Of those, the ones that this import added.
    pub added: u64,
    /// How good the file is; nothing is told of one that was imported before.
    pub quality: Quality,
    /// Whether the whole file had been imported before.
    pub already: bool,
    /// Where the file stopped making sense.
    pub damage: Option<Damage>,
    /// Earlier imports of the file that are not whole: cut off and followed by other sources, so that they can't be gone on with, or damaged, or
    /// partly deleted since. What they brought in is there twice and can go.
    pub replaces: Vec<SourceId>,
}

/// A file that can't be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It can't be opened or read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing in it could be understood.
    #[error("{}: {damage}; tapdeck imports pcap and pcapng files", path.display())]
    NotACapture {
        /// The file.
        path: PathBuf,
        /// What was found.
        damage: Damage,
    },
    /// More interfaces than are taken over.
    #[error("{} has packets of more than {MAX_TAPS} interfaces; split it by interface first (editcap)", path.display())]
    TooManyTaps {
        /// The file.
        path: PathBuf,
    },
    /// It was to go no further.
    #[error("{}: stopped; what has come in stays, and importing it again goes on there", path.display())]
    Stopped {
        /// The file.
        path: PathBuf,
    },
    /// The store could not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes a file over; one that the store has already as a whole only if it is to be taken over `again`. `progress` is told bytes done
/// and bytes in all, every few MiB, and says whether to go on. `opened` is told the only tap of a file as it begins, so that it can be indexed meanwhile; several, or those that follow a first one, when all of their packets are there: who merges
/// them by time has to know them all.
pub fn import_file(
    store: &Store,
    lock: &WriterLock,
    path: &Path,
    options: WriterOptions,
    again: bool,
    progress: &mut dyn FnMut(u64, u64) -> bool,
    opened: &mut dyn FnMut(SourceId, Vec<TapId>),
) -> Result<ImportReport, ImportError> {
    let unreadable = |source| ImportError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    // One that grows meanwhile is taken as it is now: what the journal says of it holds for the same bytes.
    let mut file = file.take(bytes);
    let mut input = Input::new();
    input.fill(&mut file, HEAD_LEN).map_err(unreadable)?;
    let head = *blake3::hash(&input.rest()[..input.rest().len().min(HEAD_LEN)]).as_bytes();

    let mut parser = FileParser::default();
    // Nothing of a file that is no capture at all comes into the store.
    if let Err(damage) = FileParser::default().next(input.rest(), input.eof) {
        return Err(ImportError::NotACapture { path: path.to_owned(), damage });
    }
    let (mut source, mut already, mut replaces) = (None, None, Vec::new());
    let mut named = path.to_owned();
    let (sources, shards) = (store.sources(), store.shards());
    let newest = sources.last().map(|s| s.id);
    for known in sources {
        let SourceKind::File { path: ref first_path, bytes: b, head: h } = known.kind else { continue };
        if b < bytes && known.complete && shards.iter().any(|s| s.source == known.id) {
            // It was imported while it was being written: all of that is in it now.
            let begins_so = match b < HEAD_LEN as u64 {
                true => {
                    input.rest().get(..b as usize).is_some_and(|first| h == *blake3::hash(first).as_bytes())
                }
                false => h == head && known.hash == Some(beginning(path, b, progress)?),
            };
            replaces.extend(begins_so.then_some(known.id));
        }
        if (b, h) != (bytes, head) {
            continue;
        }
        if !known.complete && Some(known.id) == newest {
            source = Some(known.id);
            // Its taps are called after the name that it had then.
            if store.taps().iter().any(|tap| tap.source == known.id) {
                named = first_path.into();
            }
        } else if !known.complete {
            // Sources are indexed in the order of their numbers: nothing can be added to one that others follow.
            replaces.extend(shards.iter().any(|s| s.source == known.id).then_some(known.id));
        } else if already.is_none() && known.hash == Some(beginning(path, bytes, progress)?) {
            match !again && is_whole(store, &shards, &known) {
                true => already = Some(known),
                false => replaces.extend(shards.iter().any(|s| s.source == known.id).then_some(known.id)),
            }
        }
    }
    // One that was begun again and cut off is gone on with, whatever is there of it from before.
    if let Some(known) = already.take_if(|_| source.is_some()) {
        replaces.push(known.id);
    }
    if let Some(known) = already {
        let (source, packets, damage, path) = (known.id, known.packets, known.damage, path.to_owned());
        let (added, quality, already) = (0, Quality::default(), true);
        return Ok(ImportReport { path, source, bytes, packets, added, quality, already, damage, replaces });
    }
    let resumed = source.is_some();
    let source = match source {
        Some(source) => source,
        None => {
            let kind = SourceKind::File { path: path.display().to_string(), bytes, head };
            store.open_source(lock, kind, wall_clock())?
        }
    };
    // A file of one packet does not reserve 256 MiB.
    let shard_size = options.shard_size.min(bytes + bytes / 2 + (2 << 20));
    let options = WriterOptions { shard_size, when_full: WhenFull::Wait, hash: true, ..options };
    let mut taps = Taps {
        store,
        lock,
        source,
        path,
        named,
        options,
        resumed,
        interfaces: Vec::new(),
        open: BTreeMap::new(),
        untold: Vec::new(),
    };
    let mut reading = |offset| progress(offset, bytes);
    let copied = taps.copy(&mut parser, &mut input, &mut file, &mut reading, opened);
    let finished = taps.finish();
    if !taps.untold.is_empty() {
        opened(source, std::mem::take(&mut taps.untold));
    }
    let Copied { packets, added, quality, damage } = copied?;
    finished?;
    progress(bytes, bytes);
    // Also what lies behind damage tells this file from others.
    let hash = input.fingerprint(&mut file, &mut |offset| progress(offset, bytes)).map_err(unreadable)?;
    let Some(hash) = hash.map(Some) else { return Err(ImportError::Stopped { path: path.to_owned() }) };
    store.close_source(source, packets, damage.clone(), hash)?;
    let (path, already) = (path.to_owned(), false);
    Ok(ImportReport { path, source, bytes, packets, added, quality, already, damage, replaces })
}

/// Whether all that a complete import brought in is still there, as far as that can be told without reading it.
fn is_whole(store: &Store, shards: &[ShardInfo], source: &SourceInfo) -> bool {
    let mut packets = 0;
    let there = shards.iter().filter(|s| s.source == source.id).all(|shard| {
        packets += shard.packets;
        let file = shard_path(&store.shards_dir(), shard.id).metadata();
        file.is_ok_and(|found| found.len() == shard.bytes)
    });
    there && packets == source.packets
}

struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    eof: bool,
    fingerprint: Fingerprint,
}

impl Input {
    fn new() -> Self {
        let buffer = vec![0; BUFFER_LEN];
        Self { buffer, start: 0, end: 0, eof: false, fingerprint: Fingerprint::default() }
    }

    /// Of the whole file: reads it to its end, if `progress`, which is told how far, lets it.
    fn fingerprint(
        mut self,
        file: &mut impl Read,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> std::io::Result<Option<[u8; 32]>> {
        let mut read = 0;
        while !self.eof {
            read += self.end as u64;
            self.start = self.end;
            if !progress(read) {
                return Ok(None);
            }
            self.fill(file, 1)?;
        }
        Ok(Some(self.fingerprint.finish()))
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads until at least `need` bytes are there, or the file ends.
    fn fill(&mut self, file: &mut impl Read, need: usize) -> std::io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.buffer.len() < need {
            // Bounded by the parser: no block is longer than 16 MiB.
            self.buffer.resize(need, 0);
        }
        while !self.eof && self.end < self.buffer.len() {
            match file.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.eof = true,
                Ok(n) => {
                    self.fingerprint.update(&self.buffer[self.end..self.end + n]);
                    self.end += n;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// What was taken over.
#[derive(Default)]
struct Copied {
    packets: u64,
    added: u64,
    quality: Quality,
    damage: Option<Damage>,
}

struct Taps<'a> {
    store: &'a Store,
    lock: &'a WriterLock,
    source: SourceId,
    path: &'a Path,
    /// What its taps are called after.
    named: PathBuf,
    options: WriterOptions,
    resumed: bool,
    interfaces: Vec<FileInterface>,
    open: BTreeMap<u32, OpenTap>,
    /// Those that nobody was told of yet.
    untold: Vec<TapId>,
}

struct OpenTap {
    writer: ShardWriter,
    /// Packets that an earlier, unfinished import has brought in.
    skip: u64,
    /// The latest time so far.
    latest: CaptureTime,
}

impl Taps<'_> {
    /// Copies packets up to the file's end or its first damage.
    fn copy(
        &mut self,
        parser: &mut FileParser,
        input: &mut Input,
        file: &mut impl Read,
        progress: &mut dyn FnMut(u64) -> bool,
        opened: &mut dyn FnMut(SourceId, Vec<TapId>),
    ) -> Result<Copied, ImportError> {
        let mut copied = Copied::default();
        let mut batch = 0;
        loop {
            let at = parser.offset();
            let need = match parser.next(input.rest(), input.eof) {
                Ok(Step::Record { time, .. }) if !RecordHeader::holds(time) => {
                    copied.damage = Some(Damage { offset: at, kind: DamageKind::Time });
                    break;
                }
                Ok(Step::Record { time, original_len, data, .. })
                    if data.is_empty() && RecordHeader::is_zero(time, original_len) =>
                {
                    copied.damage = Some(Damage { offset: at, kind: DamageKind::Zeroes });
                    break;
                }
                Ok(Step::Record { interface, time, original_len, data }) => {
                    copied.packets += 1;
                    copied.quality.cut += u64::from((data.len() as u32) < original_len);
                    let tap = self.tap(interface, opened)?;
                    if time < tap.latest {
                        let Quality { disordered, disorder_ns, .. } = &mut copied.quality;
                        *disordered += 1;
                        *disorder_ns = tap.latest.nanos_since(time).max(*disorder_ns);
                    }
                    tap.latest = tap.latest.max(time);
                    if tap.skip > 0 {
                        tap.skip -= 1;
                    } else {
                        if tap.writer.append(time, original_len, data) == Appended::Dropped {
                            // Only trouble with the disk gets here: a file's writer waits otherwise.
                            return Err(self.trouble());
                        }
                        copied.added += 1;
                    }
                    0
                }
                Ok(Step::Interface(interface)) => {
                    self.interfaces.push(interface);
                    0
                }
                Ok(Step::Skip) => 0,
                Ok(Step::NeedMore(need)) => need,
                Ok(Step::End) => break,
                Err(found) => {
                    copied.damage = Some(found);
                    break;
                }
            };
            input.start += parser.consumed();
            if need > 0 {
                self.publish();
                self.keep_step();
                let path = || self.path.to_owned();
                input.fill(file, need).map_err(|source| ImportError::Read { path: path(), source })?;
                if !progress(parser.offset()) {
                    return Err(ImportError::Stopped { path: path() });
                }
            }
            batch += 1;
            if batch == BATCH {
                batch = 0;
                self.publish();
            }
        }
        Ok(copied)
    }

    /// Brings everything to disk and seals.
    fn finish(&mut self) -> Result<(), StoreError> {
        let open = std::mem::take(&mut self.open);
        open.into_values().map(|tap| tap.writer.finish()).fold(Ok(()), Result::and)
    }

    fn tap(
        &mut self,
        interface: u32,
        opened: &mut dyn FnMut(SourceId, Vec<TapId>),
    ) -> Result<&mut OpenTap, ImportError> {
        if !self.open.contains_key(&interface) {
            if self.open.len() >= MAX_TAPS {
                return Err(ImportError::TooManyTaps { path: self.path.to_owned() });
            }
            let tap = self.open_tap(interface)?;
            // Where others are described already, their packets will come in between.
            match self.open.is_empty() && self.interfaces.len() == 1 {
                true => opened(self.source, vec![tap.writer.tap()]),
                false => self.untold.push(tap.writer.tap()),
            }
            self.open.insert(interface, tap);
        }
        Ok(self.open.get_mut(&interface).expect("just inserted"))
    }

    fn open_tap(&self, interface: u32) -> Result<OpenTap, ImportError> {
        let of = &self.interfaces[interface as usize];
        let file = self.named.file_name().unwrap_or_default().to_string_lossy();
        let name = match (&of.name, interface) {
            (None, 0) => file.into_owned(),
            (name, _) => {
                format!("{file}#{interface}{}", name.as_ref().map(|n| format!(" {n}")).unwrap_or_default())
            }
        };
        let snaplen = if of.snaplen == 0 { crate::MAX_PACKET_LEN } else { of.snaplen };
        let tap =
            NewTap { source: self.source, name, link: of.link, snaplen, provenance: Provenance::Imported };
        // A capture of many interfaces does not multiply memory.
        let staging_bytes =
            if self.open.is_empty() { STAGING_BYTES } else { 4 << 20 }.min(self.options.staging_bytes);
        let options = WriterOptions { staging_bytes, ..self.options };
        let writer = ShardWriter::open(self.store, self.lock, tap, options)?;
        let stored = |s: &crate::ShardInfo| if s.tap == writer.tap() && s.sealed { s.packets } else { 0 };
        // With what retention has deleted of them meanwhile.
        let gone = self.store.trimmed(writer.tap()).packets;
        let skip = if self.resumed { gone + self.store.shards().iter().map(stored).sum::<u64>() } else { 0 };
        Ok(OpenTap { writer, skip, latest: CaptureTime::MIN })
    }

    fn publish(&mut self) {
        for tap in self.open.values_mut() {
            tap.writer.publish();
        }
    }

    /// Lets the indexer catch up. Only the first tap is followed while it is copied.
    fn keep_step(&self) {
        let began = std::time::Instant::now();
        let behind = |tap: &OpenTap| tap.writer.lead() > LEAD_MAX;
        while self.open.values().any(behind) && began.elapsed() < STEP_WAIT_MAX {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn trouble(&mut self) -> ImportError {
        // Before the end, which may go well: what refused was perhaps only the next shard.
        let trouble = self.open.values().find_map(|tap| tap.writer.take_trouble());
        if let Some(trouble) = trouble.or(self.finish().err()) {
            return trouble.into();
        }
        full(&self.store.shards_dir(), self.options.shard_size).into()
    }
}

/// The fingerprint of the first `bytes` of a file, with which it may be in the store already.
fn beginning(
    path: &Path,
    bytes: u64,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<[u8; 32], ImportError> {
    let unreadable = |source| ImportError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?.take(bytes);
    let found = Input::new().fingerprint(&mut file, &mut |_| progress(0, bytes));
    found.map_err(unreadable)?.ok_or_else(|| ImportError::Stopped { path: path.to_owned() })
}

/// The recorder's clock.
pub(crate) fn wall_clock() -> CaptureTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    CaptureTime::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TapTail;

    fn pcap(records: usize) -> Vec<u8> {
        let mut file = [
            &0xa1b2_c3d4u32.to_le_bytes()[..],
            &[2, 0, 4, 0],
            &[0; 8],
            &65_535u32.to_le_bytes(),
            &1u32.to_le_bytes(),
        ]
        .concat();
        for n in 0..records as u32 {
            let len = 40 + n % 1_000;
            file.extend([n.to_le_bytes(), 7u32.to_le_bytes(), len.to_le_bytes(), len.to_le_bytes()].concat());
            file.extend(vec![n as u8; len as usize]);
        }
        file
    }

    fn import(store: &Store, path: &Path) -> Result<ImportReport, ImportError> {
        import_again(store, path, false)
    }

    fn import_again(store: &Store, path: &Path, again: bool) -> Result<ImportReport, ImportError> {
        let lock = store.lock().unwrap();
        store.recover(&lock).unwrap();
        import_file(
            store,
            &lock,
            path,
            WriterOptions { shard_size: 2 << 20, ..Default::default() },
            again,
            &mut |_, _| true,
            &mut |_, _| {},
        )
    }

    #[test]
    fn a_file_comes_in_once_whatever_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.pcap"), dir.path().join("b.pcap"));
        std::fs::write(&a, pcap(20_000)).unwrap();
        std::fs::write(&b, pcap(20_000)).unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        let report = import(&store, &a).unwrap();
        assert_eq!(
            (report.packets, report.added, report.already, &report.damage),
            (20_000, 20_000, false, &None)
        );
        let again = import(&store, &b).unwrap();
        assert_eq!((again.packets, again.added, again.already), (20_000, 0, true));
        let mut tail = TapTail::new(&store, store.taps()[0].id, None);
        let mut n = 0u32;
        while let Some((_, chunk)) = tail.next().unwrap() {
            for r in chunk.records() {
                assert_eq!(
                    (r.data.len() as u32, r.time.nanos()),
                    (40 + n % 1_000, i64::from(n) * 1_000_000_000 + 7_000)
                );
                n += 1;
            }
        }
        assert_eq!(n, 20_000);
    }

    #[test]
    fn a_file_that_is_not_whole_in_the_store_any_more_comes_in_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcap");
        std::fs::write(&path, pcap(20_000)).unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        let first = import(&store, &path).unwrap();
        assert!(store.shards().len() > 3);
        assert!(import(&store, &path).unwrap().already);
        let second = import_again(&store, &path, true).unwrap();
        assert_eq!((second.added, second.replaces.as_slice()), (20_000, [first.source].as_slice()));
        let lock = store.lock().unwrap();
        let delete = |source| {
            let of_it: Vec<_> = store.shards().into_iter().filter(|s| s.source == source).collect();
            of_it.iter().for_each(|s| store.delete_shard(&lock, s.id).unwrap());
        };
        delete(first.source);
        drop(lock);
        assert!(import(&store, &path).unwrap().already);

        let of_second = store.shards().into_iter().nth(1).unwrap();
        std::fs::remove_file(shard_path(&store.shards_dir(), of_second.id)).unwrap();
        let third = import(&store, &path).unwrap();
        assert_eq!((third.added, third.replaces.as_slice()), (20_000, [second.source].as_slice()));
    }

    /// Longer or shorter than the part by which files are told apart at first.
    #[test]
    fn a_file_that_was_imported_while_it_grew_takes_the_place_of_its_beginning() {
        for first in [300_000, HEAD_LEN + 300_000] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.pcap");
            let whole = pcap(20_000);
            std::fs::write(&path, &whole[..first]).unwrap();
            let store = Store::create(&dir.path().join("store")).unwrap();
            let early = import(&store, &path).unwrap();
            assert!(early.packets < 20_000 && early.damage.is_some(), "{early:?}");
            // Another one that is longer takes nobody's place.
            let mut other = whole.clone();
            other[first - 100_000] ^= 1;
            std::fs::write(&path, &other).unwrap();
            assert_eq!(import(&store, &path).unwrap().replaces, []);
            std::fs::write(&path, &whole).unwrap();
            let late = import(&store, &path).unwrap();
            assert_eq!((late.added, late.replaces.as_slice()), (20_000, [early.source].as_slice()));
        }
    }

    #[test]
    fn one_that_was_begun_again_and_cut_off_is_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let (at, path) = (dir.path().join("store"), dir.path().join("a.pcap"));
        std::fs::write(&path, pcap(20_000)).unwrap();
        let first = import(&Store::create(&at).unwrap(), &path).unwrap();
        {
            let store = Store::create(&at).unwrap();
            let lock = store.lock().unwrap();
            let options = WriterOptions { shard_size: 2 << 20, ..Default::default() };
            let mut progress = |done, _| {
                assert!(done < CUT, "cut off here");
                true
            };
            let mut import =
                || import_file(&store, &lock, &path, options, true, &mut progress, &mut |_, _| {});
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut import)).is_err());
        }
        let report = import(&Store::create(&at).unwrap(), &path).unwrap();
        assert!(!report.already && report.packets == 20_000 && report.added < 20_000, "{report:?}");
        assert_eq!(report.replaces, [first.source]);
    }

    #[test]
    fn an_import_that_was_cut_off_goes_on_without_doubling_whatever_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcap");
        std::fs::write(&path, pcap(20_000)).unwrap();
        let at = dir.path().join("store");
        {
            let store = Store::create(&at).unwrap();
            let lock = store.lock().unwrap();
            let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                import_file(
                    &store,
                    &lock,
                    &path,
                    WriterOptions { shard_size: 2 << 20, ..Default::default() },
                    false,
                    &mut |done, _| {
                        assert!(done < CUT, "cut off here");
                        true
                    },
                    &mut |_, _| {},
                )
            }));
            assert!(cut.is_err());
        }
        let store = Store::create(&at).unwrap();
        let renamed = dir.path().join("b.pcap");
        std::fs::rename(&path, &renamed).unwrap();
        let report = import(&store, &renamed).unwrap();
        assert!(report.packets == 20_000 && report.added < 20_000, "{report:?}");
        assert_eq!(store.shards().iter().map(|s| s.packets).sum::<u64>(), 20_000);
        assert_eq!((store.sources().len(), store.taps().len()), (1, 1));
    }

    /// Where imports are cut off: in the third of their shards.
    const CUT: u64 = 5 << 20;

    /// Begins to import `path` and stops as a kill would.
    fn cut_off(at: &Path, path: &Path) {
        let store = Store::create(at).unwrap();
        let lock = store.lock().unwrap();
        store.recover(&lock).unwrap();
        let options = WriterOptions { shard_size: 2 << 20, ..Default::default() };
        let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            import_file(
                &store,
                &lock,
                path,
                options,
                false,
                &mut |done, _| {
                    assert!(done < CUT, "cut off here");
                    true
                },
                &mut |_, _| {},
            )
        }));
        assert!(cut.is_err());
    }

    #[test]
    fn an_import_that_was_cut_off_goes_on_behind_what_retention_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let (at, path) = (dir.path().join("store"), dir.path().join("a.pcap"));
        std::fs::write(&path, pcap(20_000)).unwrap();
        cut_off(&at, &path);
        let store = Store::create(&at).unwrap();
        let lock = store.lock().unwrap();
        store.recover(&lock).unwrap();
        let first = store.shards()[0].clone();
        assert!(store.shards().len() > 1, "the test needs a shard to delete and one to stay");
        store.delete_shard(&lock, first.id).unwrap();
        drop(lock);
        let report = import(&store, &path).unwrap();
        assert_eq!(report.packets, 20_000);
        let left: u64 = store.shards().iter().map(|s| s.packets).sum();
        assert_eq!(left + first.packets, 20_000, "nothing twice, nothing missing");
        assert!(report.replaces.is_empty() && store.sources().len() == 1);
    }

    #[test]
    fn an_import_that_others_follow_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (at, path) = (dir.path().join("store"), dir.path().join("a.pcap"));
        std::fs::write(&path, pcap(20_000)).unwrap();
        cut_off(&at, &path);
        let store = Store::create(&at).unwrap();
        let other = dir.path().join("b.pcap");
        let mut others = pcap(50);
        *others.last_mut().unwrap() ^= 1;
        std::fs::write(&other, others).unwrap();
        import(&store, &other).unwrap();
        let sources = || store.sources().iter().map(|s| s.id).collect::<Vec<_>>();
        let partial = sources()[0];
        let report = import(&store, &path).unwrap();
        assert_eq!((report.packets, report.added, report.already), (20_000, 20_000, false));
        assert_eq!(
            (report.replaces.as_slice(), Some(&report.source)),
            ([partial].as_slice(), sources().last())
        );
        let whole: u64 = store.shards().iter().filter(|s| s.source == report.source).map(|s| s.packets).sum();
        assert_eq!(whole, 20_000);
        // Should the next kill come before the part is struck off, the next import tells of it again; struck off, no more.
        let again = import(&store, &path).unwrap();
        assert!(again.already && again.replaces == [partial]);
        let lock = store.lock().unwrap();
        for shard in store.shards().iter().filter(|s| s.source == partial) {
            store.delete_shard(&lock, shard.id).unwrap();
        }
        drop(lock);
        assert!(import(&store, &path).unwrap().replaces.is_empty());
    }

    #[test]
    fn damage_keeps_what_is_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.pcap");
        let whole = pcap(100);
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        let report = import(&store, &path).unwrap();
        assert_eq!(report.packets, 99);
        assert_eq!(report.damage.unwrap().offset, whole.len() as u64 - 16 - 139);
        // A file that was reserved and not written to its end.
        std::fs::write(&path, [&whole[..], &[0; 4_000]].concat()).unwrap();
        let report = import(&store, &path).unwrap();
        let damage = report.damage.unwrap();
        assert_eq!(
            (report.packets, damage.offset, damage.kind),
            (100, whole.len() as u64, DamageKind::Zeroes)
        );
        std::fs::write(&path, b"not a capture at all").unwrap();
        assert!(matches!(import(&store, &path), Err(ImportError::NotACapture { .. })));
        assert_eq!(store.sources().len(), 2);
    }
}
