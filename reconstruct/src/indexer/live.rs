//! Indexing while a recording runs: one thread that follows the taps, serves live viewers and commits once a second.

use super::bulk::{Range, bulk_index, fold_sources, taps_of};
use super::driver::{Driver, Mode, Step};
use super::error::IndexerError;
use super::renew::{Renewal, Renewing};
use crate::fold::{FoldEvent, FoldStats, Observation};
use crate::footage::LiveHub;
use crate::index::Index;
use capture::{SourceId, Store, WriterLock};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The longest the thread sleeps: a subscription or a flush that is asked for waits no longer on a quiet link.
const WAIT: Duration = Duration::from_millis(10);
/// Most news kept until they are taken.
const EVENTS_MAX: usize = 4_096;

/// When a recording ends, at most so much of what earlier ones have left is still folded; the next goes on with the rest.
const UNFINISHED: u64 = 1 << 30;
/// How often it is told how the indexer is doing.
const TELL: Duration = Duration::from_millis(500);

/// How the indexer is doing.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct IndexerStats {
    /// Packets folded since the index began.
    pub packets: u64,
    /// RTP packets of them.
    pub media_packets: u64,
    /// Bytes that are captured and not folded.
    pub lag_bytes: u64,
    /// Packets that were folded behind later ones of other taps of the same recording.
    pub skew_exceeded: u64,
    /// Bytes in which no record could be read.
    pub unreadable_bytes: u64,
    /// Packets and connections beyond a bound.
    pub over_bound: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    flush_asked: AtomicU64,
    flush_done: AtomicU64,
    ended: AtomicBool,
    stats: Mutex<IndexerStats>,
    events: Mutex<Vec<FoldEvent>>,
    /// `None` while the recording rests.
    observations: Mutex<Option<Vec<Observation>>>,
    renewing: Renewing,
    /// The part of the recording that is next.
    next: Mutex<Option<SourceId>>,
    /// The one that is followed, once those before are folded.
    follows: Mutex<Option<SourceId>>,
}

/// A running indexer.
#[derive(Debug)]
pub struct LiveIndexer {
    store: Store,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<FoldStats, IndexerError>>>,
}

/// The taps come first: what they miss is lost, what comes later into the index is not.
const NICE: i32 = 5;

impl LiveIndexer {
    /// First folds what an earlier run has left, then follows the source's taps, which are all open.
    pub fn start(
        store: &Store,
        _lock: &WriterLock,
        index: &Index,
        hub: &LiveHub,
        source: SourceId,
    ) -> Result<Self, IndexerError> {
        let shared = Arc::new(Shared::default());
        let (hub, theirs) = (hub.clone(), shared.clone());
        let of = Following { store: store.clone(), index: index.clone(), source };
        let body = move || {
            capture::lower_priority(NICE);
            let result = follow(&of, &hub, &theirs);
            hub.close();
            // Nobody waits for a flush that will not come.
            theirs.ended.store(true, Ordering::Release);
            result
        };
        let thread =
            std::thread::Builder::new().name("indexer".into()).spawn(body).map_err(IndexerError::Thread)?;
        Ok(Self { store: store.clone(), shared, thread: Some(thread) })
    }

    /// Begins to make the index anew beside the recording, unless that is under way. The old one is read and written until the new one
    /// is as far, and is then exchanged for it.
    pub fn renew(&self) -> Result<(), IndexerError> {
        let follows = *guard(&self.shared.follows);
        let source =
            follows.filter(|_| guard(&self.shared.next).is_none()).ok_or(IndexerError::CatchingUp)?;
        self.shared.renewing.begin(&self.store, source)
    }

    /// The recording's taps go on in `next`: once those of the part before are folded to their end, the sources in between are, and then
    /// `next` is followed. Not while the index is made anew.
    pub fn go_on(&self, next: SourceId) {
        *guard(&self.shared.next) = Some(next);
    }

    /// Whether all before `source` is in the index and it is followed.
    pub fn follows(&self, source: SourceId) -> bool {
        *guard(&self.shared.follows) == Some(source)
    }

    /// How far making the index anew has come, or what came of it.
    pub fn renewal(&self) -> Renewal {
        self.shared.renewing.state()
    }

    /// How it is doing.
    pub fn stats(&self) -> IndexerStats {
        *guard(&self.shared.stats)
    }

    /// News since they were taken last.
    pub fn take_events(&self) -> Vec<FoldEvent> {
        std::mem::take(&mut *guard(&self.shared.events))
    }

    /// Sessions' signs of life, a second old at the most; `None` while something else is folded, so that there are none.
    pub fn observations(&self) -> Option<Vec<Observation>> {
        guard(&self.shared.observations).clone()
    }

    /// Commits what is there and waits for it; false when it took longer than `at_most`, or the indexer has ended before.
    pub fn flush(&self, at_most: Duration) -> bool {
        let wanted = self.shared.flush_asked.fetch_add(1, Ordering::AcqRel) + 1;
        let give_up = Instant::now() + at_most;
        while self.shared.flush_done.load(Ordering::Acquire) < wanted {
            if Instant::now() > give_up || self.shared.ended.load(Ordering::Acquire) {
                return self.shared.flush_done.load(Ordering::Acquire) >= wanted;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Whether the thread still runs; if not, `finish` says why.
    pub fn running(&self) -> bool {
        self.thread.as_ref().is_some_and(|t| !t.is_finished())
    }

    /// After the taps are closed: folds the rest, commits.
    pub fn finish(mut self) -> Result<FoldStats, IndexerError> {
        // First: what a new index lacks would only grow.
        self.shared.renewing.stop();
        self.shared.stop.store(true, Ordering::Release);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(FoldStats::default()),
        }
    }
}

/// What is followed.
struct Following {
    store: Store,
    index: Index,
    source: SourceId,
}

fn follow(of: &Following, hub: &LiveHub, shared: &Shared) -> Result<FoldStats, IndexerError> {
    let Following { store, index, source, .. } = of;
    catch_up_to(of, shared)?;
    let mut driver = Driver::new(store, index, Some(hub.clone()), Mode::Live)?;
    let source = *source;
    driver.begin_source(source, &taps_of(store, source));
    *guard(&shared.follows) = Some(source);
    let mut told = Instant::now();
    loop {
        // Both before the step: what was published until then is in it.
        let stopping = shared.stop.load(Ordering::Acquire);
        let asked = shared.flush_asked.load(Ordering::Acquire);
        let step = driver.step()?;
        driver.answer()?;
        if asked > shared.flush_done.load(Ordering::Acquire) && step != Step::Folded {
            driver.commit()?;
            shared.flush_done.store(asked, Ordering::Release);
        }
        driver.commit_if_due()?;
        if let Some(renewed) = shared.renewing.take(&driver) {
            renewed.exchange(&mut driver, store, index, hub, &shared.renewing)?;
        }
        if told.elapsed() > TELL || stopping {
            told = Instant::now();
            let rests = guard(&shared.next).is_some();
            tell(&mut driver, shared, !rests);
        }
        if step == Step::End
            && let Some(next) = guard(&shared.next).take()
        {
            pass_over(&mut driver, of, next, shared)?;
            continue;
        }
        match step {
            Step::End if stopping => break,
            Step::Folded => {}
            Step::Idle | Step::End => store.wait(WAIT),
        }
    }
    driver.end_source()?;
    index.sync()?;
    tell(&mut driver, shared, true);
    Ok(driver.stats())
}

/// Folds what earlier runs have left; all of it where the index is new.
fn catch_up_to(of: &Following, shared: &Shared) -> Result<(), IndexerError> {
    let Following { store, index, source, .. } = of;
    let mut driver = Driver::new(store, index, None, Mode::Bulk)?;
    if store.shards().iter().all(|shard| shard.source == *source) {
        return Ok(());
    }
    let folded = fold_before(&mut driver, of, *source, shared);
    driver.finish()?;
    folded
}

/// Folds all sources before one.
fn fold_before(
    driver: &mut Driver,
    of: &Following,
    source: SourceId,
    shared: &Shared,
) -> Result<(), IndexerError> {
    let mut told = Instant::now();
    let mut stepped = |driver: &mut Driver| {
        if told.elapsed() > TELL {
            told = Instant::now();
            tell(driver, shared, false);
        }
        if shared.stop.load(Ordering::Acquire) {
            let bytes = driver.unfolded_bytes();
            if bytes > UNFINISHED {
                return Err(IndexerError::Unfinished { bytes });
            }
        }
        Ok(())
    };
    let range = Range { until: Some(source), alone: None, kept_stays: false };
    fold_sources(driver, &of.store, &range, &mut stepped).map(|_| ())
}

/// Folds what came in beside the recording, and turns to the recording's next part. Those who watch wait meanwhile.
fn pass_over(
    driver: &mut Driver,
    of: &Following,
    next: SourceId,
    shared: &Shared,
) -> Result<(), IndexerError> {
    driver.end_source()?;
    let paused = driver.leave_live()?;
    tell(driver, shared, false);
    fold_before(driver, of, next, shared)?;
    driver.be_live(paused);
    driver.begin_source(next, &taps_of(&of.store, next));
    driver.commit()?;
    *guard(&shared.follows) = Some(next);
    Ok(())
}

/// `live`: the sessions that are open are the recording's, and can be judged.
fn tell(driver: &mut Driver, shared: &Shared, live: bool) {
    let stats = driver.stats();
    *guard(&shared.stats) = IndexerStats {
        packets: stats.packets,
        media_packets: stats.media_packets,
        lag_bytes: driver.unfolded_bytes(),
        skew_exceeded: driver.skew_exceeded,
        unreadable_bytes: driver.unreadable_bytes,
        over_bound: stats.flows_over_bound
            + stats.connections_over_bound
            + stats.left_over_bound
            + stats.streams_over_bound
            + stats.sources_over_bound,
    };
    let mut events = guard(&shared.events);
    events.extend(driver.take_events());
    let excess = events.len().saturating_sub(EVENTS_MAX);
    events.drain(..excess);
    *guard(&shared.observations) = live.then(|| driver.observations());
}

fn guard<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Catches up before anything else runs, for callers that want to wait for it.
pub fn catch_up(store: &Store, lock: &WriterLock, index: &Index) -> Result<FoldStats, IndexerError> {
    bulk_index(store, lock, index, &mut |_, _| {})
}
