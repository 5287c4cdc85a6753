//! Importing files beside a recording.
//!
//! A thread of low priority copies them into shards of their own, as `tapdeck import` does. Sources are indexed one after the other, and the
//! recording's never ends: so it goes on in a next part, for which the taps change over between two packets, and the files are indexed between
//! the two parts. Sessions go on in the next part as if nothing had happened.

use crate::capture_head;
use crate::importing::{FileOutcome, Imported};
use crate::size::ByteSize;
use capture::{
    ImportError, Leaving, SourceId, Store, StoreError, WhenFull, WriterLock, WriterOptions, WriterWatch,
    import_file,
};
use reconstruct::footage::Footage;
use reconstruct::indexer::{self, LiveIndexer};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// The recording, its index and its viewers come first.
const NICE: i32 = 10;
const LOOK: Duration = Duration::from_millis(20);
const GIVE_WAY: Duration = Duration::from_millis(5);

/// The part of the recording that is at its end, and the one in which it goes on.
pub struct Turned {
    pub before: SourceId,
    pub next: SourceId,
    pub leaving: Vec<Leaving>,
}

/// Who asks the recorder to go on in a next part, and waits for it.
pub type Turn = SyncSender<Result<Turned, String>>;

/// What there is of imports.
#[derive(Clone, Debug, Default)]
pub enum Job {
    /// Nobody has asked for one.
    #[default]
    None,
    /// Bytes that are copied, and in all; then it is indexed.
    Running { done: u64, total: u64 },
    /// It is over.
    Done(Imported),
    /// Nothing came in, for this reason.
    Failed(String),
}

/// What the job needs of the recorder.
#[derive(Clone)]
pub struct Means {
    pub lock: Arc<WriterLock>,
    pub footage: Footage,
    pub indexer: Weak<LiveIndexer>,
    /// Room that stays free.
    pub min_free: u64,
    /// What is kept at the most.
    pub max_bytes: Option<u64>,
}

/// What is wanted.
pub struct Wanted {
    pub files: Vec<PathBuf>,
    pub again: bool,
    pub shard_size: u64,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// The last one, and its number.
    job: Mutex<(u64, Job)>,
    /// The ways to the disk of the recording's taps.
    taps: Mutex<Vec<WriterWatch>>,
    turn: Mutex<Option<Turn>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Imports beside a recording: one at a time. Cheap to clone.
#[derive(Clone, Default)]
pub struct Importing(Arc<Shared>);

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Importing {
    /// Begins, and gives the job's number; an error is for whoever asked.
    pub fn begin(&self, means: Means, wanted: Wanted) -> Result<u64, String> {
        let mut job = guard(&self.0.job);
        if matches!(job.1, Job::Running { .. }) {
            return Err("another import is under way; try again when it is over".to_owned());
        }
        let shared = self.0.clone();
        let body = move || {
            capture::lower_priority(NICE);
            let work = Work { store: means.footage.store().clone(), means, shared: shared.clone() };
            // A fault of this program must not leave it at work for ever.
            let work = std::panic::AssertUnwindSafe(|| work.run(&wanted));
            let done =
                std::panic::catch_unwind(work).unwrap_or_else(|_| Err("by a fault of tapdeck".to_owned()));
            guard(&shared.job).1 = done.map_or_else(Job::Failed, Job::Done);
        };
        let thread = std::thread::Builder::new().name("import".into()).spawn(body);
        *guard(&self.0.thread) = Some(thread.map_err(|error| error.to_string())?);
        *job = (job.0 + 1, Job::Running { done: 0, total: 0 });
        Ok(job.0)
    }

    /// The last job's number, and how it stands.
    pub fn job(&self) -> (u64, Job) {
        guard(&self.0.job).clone()
    }

    /// Whether one is under way.
    pub fn is_running(&self) -> bool {
        matches!(guard(&self.0.job).1, Job::Running { .. })
    }

    /// Copying waits while one of these has much to write.
    pub fn gives_way_to(&self, taps: impl Iterator<Item = WriterWatch>) {
        *guard(&self.0.taps) = taps.collect();
    }

    /// Asked by the recorder once a second: whether it is to go on in a next part.
    pub fn wants_turn(&self) -> Option<Turn> {
        guard(&self.0.turn).take()
    }

    /// What is under way is to end; what has come in stays.
    pub fn end(&self) {
        self.0.stop.store(true, Ordering::Release);
    }

    /// Until it has ended.
    pub fn wait(&self) {
        let thread = guard(&self.0.thread).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

struct Work {
    store: Store,
    means: Means,
    shared: Arc<Shared>,
}

impl Work {
    fn run(&self, wanted: &Wanted) -> Result<Imported, String> {
        let total = self.check(&wanted.files)?;
        let options = WriterOptions {
            shard_size: wanted.shard_size,
            when_full: WhenFull::Wait,
            ..WriterOptions::default()
        };
        let (mut imported, mut replaced, mut copied) = (Imported::default(), Vec::new(), 0);
        for path in &wanted.files {
            let mut progress = |done: u64, _| {
                guard(&self.shared.job).1 = Job::Running { done: copied + done, total };
                self.give_way();
                !self.stops()
            };
            let lock = &self.means.lock;
            let result =
                import_file(&self.store, lock, path, options, wanted.again, &mut progress, &mut |_, _| {});
            if matches!(result, Err(ImportError::Stopped { .. })) {
                return Err("the recording ended".to_owned());
            }
            let kept = || self.store.packets_of_unfinished(path);
            imported.files.push(FileOutcome::new(path, &result, 0, kept));
            let refused = matches!(result, Err(ImportError::Store(_)));
            replaced.extend(result.into_iter().flat_map(|report| report.replaces));
            copied += path.metadata().map_or(0, |found| found.len());
            if refused {
                break;
            }
        }
        // Also what an earlier one brought in that was not indexed then.
        let newest = self.store.sources().last().map(|s| s.id);
        let followed = |source| self.means.indexer.upgrade().is_some_and(|indexer| indexer.follows(source));
        if !newest.is_some_and(followed) {
            self.index()?;
        }
        for source in replaced {
            self.strike_off(source)?;
        }
        imported.streams = self.means.footage.streams().map_err(|error| error.to_string())?.len();
        Ok(imported)
    }

    /// The disk is the recording's first.
    fn give_way(&self) {
        let busy = |tap: &WriterWatch| {
            let (waiting, room) = tap.queue();
            waiting > room / 8
        };
        while !self.stops() && guard(&self.shared.taps).iter().any(busy) {
            std::thread::sleep(GIVE_WAY);
        }
    }

    fn stops(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// Whether all files can be read and have room. Gives their bytes.
    fn check(&self, files: &[PathBuf]) -> Result<u64, String> {
        let mut total = 0;
        for path in files {
            capture_head::check(path)
                .map_err(|failure| format!("{failure} (it reads with its own rights)"))?;
            total += path.metadata().map_or(0, |found| found.len());
        }
        if let Some(max) = self.means.max_bytes.filter(|max| total > max / 4) {
            return Err(format!(
                "{} are more than a quarter of the {} that the recording keeps, and would take their place: import into a store of their own",
                ByteSize(total),
                ByteSize(max)
            ));
        }
        // A disk that is full would cost the recording packets.
        let free = self.store.free_bytes().map_err(|error| error.to_string())?;
        let needed = total + total / 50;
        match free.saturating_sub(self.means.min_free) {
            room if room < needed => Err(format!(
                "{} are needed, and {} are free above what the recording keeps free: make room, or import into a store on another disk",
                ByteSize(needed),
                ByteSize(room)
            )),
            _ => Ok(total),
        }
    }

    /// Has what came in indexed between two parts of the recording, and waits for it.
    fn index(&self) -> Result<(), String> {
        let (turn, turned) = sync_channel(1);
        *guard(&self.shared.turn) = Some(turn);
        let Turned { before, next, leaving } = loop {
            match turned.recv_timeout(LOOK) {
                Ok(turned) => break turned?,
                Err(RecvTimeoutError::Timeout) if !self.stops() => {}
                Err(_) => return Err(LATER.to_owned()),
            }
        };
        let finished = std::thread::scope(|scope| {
            let all: Vec<_> = leaving.into_iter().map(|tap| scope.spawn(|| tap.finish())).collect();
            let ended = |tap: std::thread::ScopedJoinHandle<'_, _>| {
                tap.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            all.into_iter().map(ended).fold(Ok(()), Result::and)
        });
        let closed = self.store.close_source(before, self.store.packets_of(before), None, None);
        finished.and(closed).map_err(|error: StoreError| error.to_string())?;
        while self.means.indexer.upgrade().is_some_and(|indexer| indexer.running() && !indexer.follows(next))
        {
            if self.stops() {
                return Err(LATER.to_owned());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// What an earlier import brought in, of a file that is now in the store as a whole.
    fn strike_off(&self, source: SourceId) -> Result<(), String> {
        for shard in self.store.shards().iter().filter(|s| s.source == source) {
            indexer::delete_shard(&self.store, &self.means.lock, self.means.footage.index(), shard.id)
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// The recording ended when the files were in and not yet indexed.
const LATER: &str = "the recording ended; what came in is indexed by the next one";
