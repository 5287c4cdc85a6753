//! The store: one directory, its shards, its journal, who may write it.

mod entries;
mod info;

pub use info::{NewTap, ShardInfo, SourceInfo, StoreUuid, TapInfo};

use crate::catalog::Catalog;
use crate::error::StoreError;
use crate::journal::{JournalFile, JournalRecord, Missed, SourceKind, Trimmed};
use crate::shard::{LiveShard, Recovered, Shard, TapLive, open_staging, recover};
use crate::{ShardId, SourceId, TapId};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The newest format of the store that this program reads and writes.
pub const FORMAT: u32 = 1;
/// Shards that are kept mapped, the least recently used go first.
const OPEN_SHARDS: usize = 256;
/// Milliseconds in which a lock is tried for: whoever asks whether there is a writer holds it for a moment.
const LOCK_TRIES: u32 = 20;
/// Longer than a writer takes to go from one shard to the next.
const MOVING: Duration = Duration::from_secs(2);

/// `store.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    id: String,
}

/// An open store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    id: StoreUuid,
    journal: Mutex<JournalFile>,
    statistics: Mutex<crate::statistics::Log>,
    catalog: RwLock<Catalog>,
    /// Taps that this process writes.
    live: RwLock<HashMap<TapId, Arc<TapLive>>>,
    open: Mutex<VecDeque<Arc<Shard>>>,
    next_shard: AtomicU64,
    deletions: Mutex<()>,
    waiting: Mutex<()>,
    waiters: AtomicUsize,
    changed: Condvar,
}

/// The right to write a store; it ends with this value, or with the process.
#[derive(Debug)]
pub struct WriterLock {
    file: File,
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Whether any shard has a packet. The first is made before anything of it is durable in the journal, and is empty then.
fn holds_packets(shards: &Path) -> bool {
    let files = std::fs::read_dir(shards).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut shards = files.filter(|path| path.extension().is_some_and(|kind| kind == "pcap"));
    shards.any(|path| crate::shard::may_hold_packets(&path))
}

impl Store {
    /// Opens the store, or makes one where nothing is yet.
    pub fn create(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(StoreError::io("creating", dir))?;
        let head = dir.join("store.json");
        if !head.exists() {
            let mut entries = std::fs::read_dir(dir).map_err(StoreError::io("listing", dir))?;
            if entries.any(|e| e.is_ok_and(|e| e.file_name() != "lost+found")) {
                return Err(StoreError::NotEmpty { dir: dir.to_owned() });
            }
            let mut id = [0; 16];
            File::open("/dev/urandom")
                .and_then(|mut f| f.read_exact(&mut id))
                .map_err(StoreError::io("reading", "/dev/urandom"))?;
            for sub in ["shards", "journal"] {
                let path = dir.join(sub);
                std::fs::create_dir_all(&path).map_err(StoreError::io("creating", &path))?;
            }
            let text = serde_json::to_string(&Head { format: FORMAT, id: StoreUuid(id).to_string() })
                .expect("two plain fields");
            // In one step: a crash leaves no store or a whole one.
            let part = dir.join("store.json.part");
            let write = || {
                let mut file = File::create(&part)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                std::fs::rename(&part, &head)
            };
            write().map_err(StoreError::io("writing", &head))?;
        }
        Self::open_as(dir, true)
    }

    /// Opens an existing store.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_as(dir, false)
    }

    fn open_as(dir: &Path, write: bool) -> Result<Self, StoreError> {
        let path = dir.join("store.json");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                return Err(StoreError::NotAStore { dir: dir.to_owned() });
            }
            Err(e) => return Err(StoreError::io("reading", path)(e)),
        };
        let head: Head =
            serde_json::from_str(&text).map_err(|_| StoreError::NotAStore { dir: dir.to_owned() })?;
        if head.format > FORMAT {
            return Err(StoreError::NewerFormat { dir: dir.to_owned(), found: head.format, known: FORMAT });
        }
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(head.id.as_bytes().chunks(2)) {
            let hex = std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok());
            *byte = hex.ok_or_else(|| StoreError::NotAStore { dir: dir.to_owned() })?;
        }
        let (shards, journal_path) = (dir.join("shards"), dir.join("journal/000001.journal"));
        let lost = || StoreError::NoJournal {
            dir: dir.to_owned(),
            journal: journal_path.clone(),
            shards: shards.clone(),
        };
        // A new one would know nothing of them.
        let missing = || matches!(journal_path.try_exists(), Ok(false));
        if missing() && holds_packets(&shards) && missing() {
            return Err(lost());
        }
        // A reader without the right to write still reads.
        let mut journal = JournalFile::open(&journal_path, true).or_else(|e| match write {
            true => Err(e),
            false => JournalFile::open(&journal_path, false),
        })?;
        let mut catalog = Catalog::default();
        let mut records = journal.read_on()?.records;
        if records.is_empty() && journal.damaged() == 0 && holds_packets(&shards) {
            // A recorder may have begun between the two looks.
            records = journal.read_on()?.records;
            if records.is_empty() {
                return Err(lost());
            }
        }
        for record in &records {
            catalog.apply(record);
        }
        Ok(Self(Arc::new(Inner {
            dir: dir.to_owned(),
            id: StoreUuid(id),
            journal: Mutex::new(journal),
            statistics: Mutex::new(None),
            next_shard: AtomicU64::new(catalog.given.shard.0 + 1),
            catalog: RwLock::new(catalog),
            live: Default::default(),
            open: Default::default(),
            deletions: Default::default(),
            waiting: Default::default(),
            waiters: Default::default(),
            changed: Default::default(),
        })))
    }

    /// Takes the right to write, which one process has at a time.
    pub fn lock(&self) -> Result<WriterLock, StoreError> {
        let path = self.0.dir.join("lock");
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(StoreError::io("opening", &path))?;
        let mut locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        for _ in 0..LOCK_TRIES {
            if locked != Err(rustix::io::Errno::WOULDBLOCK) {
                break;
            }
            // Somebody may only have looked whether there is a writer.
            std::thread::sleep(Duration::from_millis(1));
            locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        }
        match locked {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                let pid = text.trim().parse().unwrap_or(0);
                return Err(StoreError::AlreadyWritten { dir: self.0.dir.clone(), pid });
            }
            Err(e) => return Err(StoreError::io("locking", &path)(e.into())),
        }
        let mut write = || {
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())
        };
        write().map_err(StoreError::io("writing", &path))?;
        // Whoever held it before may have written on.
        self.refresh()?;
        Ok(WriterLock { file })
    }

    /// Whether a process writes the store at this moment. Shards that are not sealed were left behind by one that was killed, if not.
    pub fn is_written(&self) -> bool {
        let Ok(file) = File::open(self.0.dir.join("lock")) else { return false };
        let free = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
        free == Err(rustix::io::Errno::WOULDBLOCK)
    }

    /// Brings a store that a crash or a failure left in order; the holder of the lock calls it before it writes, with no tap open.
    pub fn recover(&self, lock: &WriterLock) -> Result<Vec<Recovered>, StoreError> {
        recover(self, lock)
    }

    /// Takes in what another process has written meanwhile.
    pub fn refresh(&self) -> Result<(), StoreError> {
        let mut journal = guard(&self.0.journal);
        let read = journal.read_on()?;
        if read.records.is_empty() && !read.anew {
            return Ok(());
        }
        let mut catalog = self.catalog_mut();
        if read.anew {
            *catalog = Catalog::default();
        }
        for record in &read.records {
            catalog.apply(record);
        }
        self.0.next_shard.fetch_max(catalog.given.shard.0 + 1, Ordering::AcqRel);
        Ok(())
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The store's id.
    pub fn id(&self) -> StoreUuid {
        self.0.id
    }

    /// Where the shards are.
    pub fn shards_dir(&self) -> PathBuf {
        self.0.dir.join("shards")
    }

    /// Where the index goes.
    pub fn index_dir(&self) -> PathBuf {
        self.0.dir.join("index")
    }

    /// The running recorder's socket.
    pub fn control_socket(&self) -> PathBuf {
        self.0.dir.join("control.sock")
    }

    /// All shards that are retained, in the order of their numbers; unsealed ones with what they hold at the moment.
    pub fn shards(&self) -> Vec<ShardInfo> {
        let mut shards: Vec<ShardInfo> = self.catalog().shards.values().cloned().collect();
        for info in shards.iter_mut().filter(|s| !s.sealed) {
            let live = self.live_tap(info.tap);
            // Written by another process, if at all.
            if live.is_none()
                && let Ok(shard) = self.shard(info.id)
            {
                (info.bytes, info.packets) = shard.published();
            }
            if let Some(shard) = live.iter().flat_map(|l| l.shards()).find(|s| s.id == info.id) {
                let published = shard.published();
                (info.bytes, info.packets, info.times) =
                    (published.committed, published.packets, shard.times());
            }
        }
        shards
    }

    /// One shard's entry.
    pub fn shard_info(&self, id: ShardId) -> Option<ShardInfo> {
        self.catalog().shards.get(&id).cloned()
    }

    /// All taps.
    pub fn taps(&self) -> Vec<TapInfo> {
        self.catalog().taps.values().cloned().collect()
    }

    /// The parts of the recording that a source belongs to, in order, with their taps. Costs a look at every source, and copies none.
    pub fn recording(&self, source: SourceId) -> Vec<(SourceId, Vec<TapId>)> {
        let catalog = self.catalog();
        let first = catalog.sources.get(&source).map_or(source, SourceInfo::recording);
        let parts = catalog.sources.values().filter(|s| s.recording() == first);
        let taps_of = |part: SourceId| {
            catalog.taps.values().filter(|tap| tap.source == part).map(|tap| tap.id).collect()
        };
        parts.map(|part| (part.id, taps_of(part.id))).collect()
    }

    /// All sources.
    pub fn sources(&self) -> Vec<SourceInfo> {
        self.catalog().sources.values().cloned().collect()
    }

    /// Given names, by the streams' own.
    pub fn names(&self) -> BTreeMap<String, String> {
        self.catalog().names.clone()
    }

    /// What the journal says that taps missed, from its `read`th record of that on, which moves behind them. At most one a second and tap.
    pub fn missed_since(&self, read: &mut usize) -> Vec<Missed> {
        let catalog = self.catalog();
        let from = read.saturating_sub(catalog.missed_gone);
        let new = catalog.missed.get(from..).unwrap_or_default().to_vec();
        *read = catalog.missed_gone + catalog.missed.len();
        new
    }

    /// All records of the journal, read again from the file.
    pub fn journal_records(&self) -> Result<Vec<JournalRecord>, StoreError> {
        Ok(JournalFile::open(&self.0.dir.join("journal/000001.journal"), false)?.read_on()?.records)
    }

    /// What retention has deleted of a tap so far.
    pub fn trimmed(&self, tap: TapId) -> Trimmed {
        self.catalog().trimmed.get(&tap).copied().unwrap_or_default()
    }

    pub(crate) fn journal(&self) -> MutexGuard<'_, JournalFile> {
        guard(&self.0.journal)
    }

    pub(crate) fn statistics_log(&self) -> MutexGuard<'_, crate::statistics::Log> {
        guard(&self.0.statistics)
    }

    /// Bytes of the journal that no record could be read from.
    pub fn journal_damage(&self) -> u64 {
        guard(&self.0.journal).damaged()
    }

    /// Shards with packets that the journal knows nothing of: it is an older one, brought back from somewhere. What it says is read again first.
    pub fn unknown_shards(&self) -> Result<Vec<PathBuf>, StoreError> {
        let dir = self.shards_dir();
        let files = std::fs::read_dir(&dir).map_err(StoreError::io("listing", &dir))?;
        let mut found: Vec<PathBuf> = files
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "pcap"))
            .filter(|path| crate::shard::may_hold_packets(path))
            .collect();
        // Behind the look at the files: a shard is in the journal before its first packet.
        self.refresh()?;
        let given = self.last_shard_given();
        let number = |path: &Path| path.file_stem()?.to_str()?.parse().ok().map(ShardId);
        // One without a number was set aside by a recovery.
        found.retain(|path| number(path).is_none_or(|id| id > given));
        found.sort();
        Ok(found)
    }

    /// A shard that is read beside its writer: `None` if retention has deleted it, which the journal is asked for once more. One that the
    /// journal has and the disk has not is [`StoreError::Gone`].
    pub fn shard_if_retained(&self, id: ShardId) -> Result<Option<Arc<Shard>>, StoreError> {
        match self.shard(id) {
            Err(StoreError::Gone { .. }) => {}
            found => return found.map(Some),
        }
        self.refresh()?;
        match self.shard(id) {
            Err(StoreError::Gone { .. }) if self.shard_info(id).is_none() => Ok(None),
            found => found.map(Some),
        }
    }

    /// Opens a shard, or gives the one that is open.
    pub fn shard(&self, id: ShardId) -> Result<Arc<Shard>, StoreError> {
        let (info, live) = self.shard_as_it_stands(id)?;
        let mut open = guard(&self.0.open);
        if let Some(at) = open.iter().position(|s| s.id() == id)
            && let Some(shard) = open.remove(at)
        {
            // One that was opened while it was written by another process is opened again once it is sealed.
            if shard.current(info.sealed, live.is_some()) {
                open.push_back(shard.clone());
                return Ok(shard);
            }
        }
        let elsewhere = match info.sealed || live.is_some() {
            true => None,
            false => open_staging(&self.0.dir, &self.0.id.to_string(), info.tap)?,
        };
        let shard = Arc::new(Shard::open(&self.shards_dir(), info, live, elsewhere)?);
        open.push_back(shard.clone());
        while open.len() > OPEN_SHARDS {
            open.pop_front();
        }
        Ok(shard)
    }

    /// A shard is not kept open any more: its mapping is given back as soon as nobody has it.
    pub fn let_go(&self, id: ShardId) {
        let mut open = guard(&self.0.open);
        let gone = open.iter().position(|s| s.id() == id).and_then(|at| open.remove(at));
        drop(open);
        drop(gone);
    }

    /// A shard's entry, and its live part if this process writes it. Its writer takes it from one place to the other between two
    /// looks, or seals it: then it is looked again, for a shard that seemed to be another process's would never be seen to end.
    fn shard_as_it_stands(&self, id: ShardId) -> Result<(ShardInfo, Option<Arc<LiveShard>>), StoreError> {
        let give_up = Instant::now() + MOVING;
        loop {
            let info = self.shard_info(id).ok_or(StoreError::Gone { shard: id })?;
            let tap = self.live_tap(info.tap);
            let live = tap.as_ref().and_then(|tap| tap.shard(id));
            if info.sealed || live.is_some() || tap.is_none() || Instant::now() > give_up {
                return Ok((info, live));
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    /// The first shard of a tap with this number or a later one.
    pub fn next_shard_of(&self, tap: TapId, from: ShardId) -> Option<ShardId> {
        self.catalog().shards.range(from..).find(|(_, s)| s.tap == tap).map(|(id, _)| *id)
    }

    /// Held by who deletes a shard with all that goes with it, and by who must not see half of that.
    pub fn hold_deletions(&self) -> MutexGuard<'_, ()> {
        guard(&self.0.deletions)
    }

    /// Packets that came in of a source, those included that retention has deleted.
    pub fn packets_of(&self, source: SourceId) -> u64 {
        let left: u64 = self.shards().iter().filter(|s| s.source == source).map(|s| s.packets).sum();
        let taps = self.taps().into_iter().filter(|tap| tap.source == source);
        left + taps.map(|tap| self.trimmed(tap.id).packets).sum::<u64>()
    }

    /// Packets of a file that was begun last and not brought to its end.
    pub fn packets_of_unfinished(&self, path: &Path) -> u64 {
        // A path need not be text, the journal is.
        let path = path.display().to_string();
        let of_file =
            |kind: &SourceKind| matches!(kind, SourceKind::File { path: named, .. } if *named == path);
        let last = self.sources().into_iter().rfind(|s| matches!(s.kind, SourceKind::File { .. }));
        let Some(last) = last.filter(|s| !s.complete && of_file(&s.kind)) else { return 0 };
        self.shards().iter().filter(|s| s.source == last.id).map(|s| s.packets).sum()
    }

    /// Whoever opens it next gets a new view; those that are held stay.
    pub(crate) fn forget_view(&self, shard: ShardId) {
        guard(&self.0.open).retain(|s| s.id() != shard);
    }

    pub(crate) fn live_tap(&self, tap: TapId) -> Option<Arc<TapLive>> {
        self.0.live.read().unwrap_or_else(PoisonError::into_inner).get(&tap).cloned()
    }

    pub(crate) fn register_live(&self, live: &Arc<TapLive>) {
        self.0.live.write().unwrap_or_else(PoisonError::into_inner).insert(live.info.id, live.clone());
    }

    pub(crate) fn unregister_live(&self, live: &Arc<TapLive>) {
        // Views of its shards keep its staging in memory; whoever opens them again gets the files.
        guard(&self.0.open).retain(|s| s.tap() != live.info.id);
        self.0.live.write().unwrap_or_else(PoisonError::into_inner).remove(&live.info.id);
    }

    /// Wakes whoever waits for packets. A load where nobody waits, and never a lock: who waits has a lower priority than the tap, and would hold
    /// it up. Who comes too late to be woken waits for its time-out.
    pub(crate) fn notify(&self) {
        if self.0.waiters.load(Ordering::Acquire) > 0 {
            self.0.changed.notify_all();
        }
    }

    /// Waits until a tap has published something, or for `at_most`. May wake early or for nothing.
    pub fn wait(&self, at_most: Duration) {
        self.0.waiters.fetch_add(1, Ordering::AcqRel);
        drop(self.0.changed.wait_timeout(guard(&self.0.waiting), at_most));
        self.0.waiters.fetch_sub(1, Ordering::AcqRel);
    }

    pub(crate) fn catalog(&self) -> std::sync::RwLockReadGuard<'_, Catalog> {
        self.0.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn catalog_mut(&self) -> std::sync::RwLockWriteGuard<'_, Catalog> {
        self.0.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
