//! Making the index anew beside a recording that goes on with the old one.
//!
//! A thread of low priority folds everything that is retained into a second index, and then what is recorded meanwhile, until it is a few
//! MiB behind. The indexer's own thread takes over from there, between two packets: it brings the new index to exactly where the old
//! one is, exchanges the two, and goes on. Readers of this process read the new one from their next row on, those of others when they next
//! catch up. Live viewers wait for a moment; they lack nothing, since the new index ends with the packet that the old one ended with.

use super::bulk::{Folded, Range, Reindexed, fold_sources, places, taps_of};
use super::driver::{Driver, Mode, Step};
use super::error::IndexerError;
use super::kept::{bring_in, forget};
use super::retain::drop_deleted;
use crate::footage::LiveHub;
use crate::index::{Index, IndexError};
use capture::{SourceId, Store};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The recording, its index and its viewers come first.
const NICE: i32 = 10;
/// So close to the recording the indexer's thread takes over: what live viewers wait for is what it takes to fold this.
const CLOSE_BYTES: u64 = 4 << 20;
/// How long to wait where nothing is to be folded at the moment.
const WAIT: Duration = Duration::from_millis(10);
/// How often it is begun when retention deletes what it was about to read: mostly the oldest shard, at the beginning.
const TRIES: u32 = 5;
/// Where the new index keeps its states until it is the one that stays: in its own directory, so that they go with it.
const ASIDE: &str = "kept";
/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(100);

/// How far making the index anew has come.
#[derive(Clone, Debug, Default)]
pub enum Renewal {
    /// Nobody has asked for it.
    #[default]
    None,
    /// It is being made.
    Running {
        /// Bytes of shards that are folded.
        done: u64,
        /// Bytes of shards that there are.
        total: u64,
    },
    /// It stands in the old one's place.
    Done(Reindexed),
    /// The old one stays, for this reason.
    Failed(String),
}

/// An index that has almost come to where the recording is.
pub(super) struct Renewed {
    driver: Driver,
    index: Index,
    dir: PathBuf,
    folded: Folded,
}

#[derive(Debug, Default)]
struct Place {
    renewal: Renewal,
    ready: Option<Box<Renewed>>,
    thread: Option<JoinHandle<()>>,
    /// Removes the index that was exchanged, which lies where the next new one is to be made.
    removing: Option<JoinHandle<()>>,
}

/// Where the two threads meet.
#[derive(Debug, Default)]
pub(super) struct Renewing {
    place: Arc<Mutex<Place>>,
    stop: Arc<AtomicBool>,
}

impl std::fmt::Debug for Renewed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewed").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn guard(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Renewing {
    /// Starts the thread, unless it is at work.
    pub fn begin(&self, store: &Store, source: SourceId) -> Result<(), IndexerError> {
        let mut place = guard(&self.place);
        if matches!(place.renewal, Renewal::Running { .. }) {
            return Ok(());
        }
        let store = store.clone();
        let (theirs, stop) = (self.place.clone(), self.stop.clone());
        let removing = place.removing.take();
        let body = move || {
            removing.map(JoinHandle::join);
            capture::lower_priority(NICE);
            let mut progress = |done, total| guard(&theirs).renewal = Renewal::Running { done, total };
            let work = AssertUnwindSafe(|| make_or_again(&store, source, &stop, &mut progress));
            let made = catch_unwind(work).unwrap_or(Err(IndexerError::Panicked));
            let mut place = guard(&theirs);
            match made {
                Ok(renewed) => place.ready = Some(Box::new(renewed)),
                Err(error) => {
                    let _ = Index::remove(&places(&store).1);
                    place.renewal = Renewal::Failed(error.to_string());
                }
            }
        };
        let thread = std::thread::Builder::new().name("reindex".into()).spawn(body);
        place.thread = Some(thread.map_err(IndexerError::Thread)?);
        place.renewal = Renewal::Running { done: 0, total: 0 };
        Ok(())
    }

    pub fn state(&self) -> Renewal {
        guard(&self.place).renewal.clone()
    }

    /// An index that is ready to be exchanged, once `driver` is not behind itself.
    pub fn take(&self, driver: &Driver) -> Option<Renewed> {
        let mut place = guard(&self.place);
        if place.ready.is_none() || driver.lag_bytes() > CLOSE_BYTES {
            return None;
        }
        place.ready.take().map(|renewed| *renewed)
    }

    /// Ends what is under way.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let thread = guard(&self.place).thread.take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn make_or_again(
    store: &Store,
    source: SourceId,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Renewed, IndexerError> {
    let mut tries = 1;
    loop {
        match make(store, source, stop, progress) {
            Err(IndexerError::Overtaken) if tries < TRIES => tries += 1,
            made => return made,
        }
    }
}

/// Folds all there is, until little is left.
fn make(
    store: &Store,
    source: SourceId,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Renewed, IndexerError> {
    let (_, dir) = places(store);
    Index::remove(&dir)?;
    let index = Index::open(&dir)?;
    let aside = dir.join(ASIDE);
    std::fs::create_dir(&aside).map_err(IndexerError::Kept)?;
    let mut driver = Driver::keeping(store, &index, None, Mode::Bulk, Some(aside))?;
    let mut told = Instant::now();
    let mut stepped = |driver: &mut Driver| {
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            let total: u64 = store.shards().iter().map(|s| s.bytes).sum();
            progress(total.saturating_sub(driver.unfolded_bytes()), total);
        }
        match () {
            () if stop.load(Ordering::Acquire) => Err(IndexerError::Stopped),
            () if driver.is_overtaken() => Err(IndexerError::Overtaken),
            () => Ok(()),
        }
    };
    let range = Range { until: Some(source), alone: None, kept_stays: true };
    let mut folded = fold_sources(&mut driver, store, &range, &mut stepped)?;
    let before = driver.stats();
    driver.begin_source(source, &taps_of(store, source));
    loop {
        let step = driver.step()?;
        driver.commit_if_due()?;
        stepped(&mut driver)?;
        if driver.lag_bytes() < CLOSE_BYTES {
            break;
        }
        if step != Step::Folded {
            store.wait(WAIT);
        }
    }
    // What is done here nobody waits for.
    driver.commit()?;
    index.settle()?;
    folded.packets += driver.stats().packets - before.packets;
    folded.media_packets += driver.stats().media_packets - before.media_packets;
    Ok(Renewed { driver, index, dir, folded })
}

impl Renewed {
    /// Puts the new index in the old one's place, and a driver that goes on with it in that of `driver`. Where that is not possible
    /// everything stays as it is, unless the index is lost with it.
    pub fn exchange(
        self,
        driver: &mut Driver,
        store: &Store,
        index: &Index,
        hub: &LiveHub,
        renewing: &Renewing,
    ) -> Result<(), IndexerError> {
        let (dir, cold) = (self.dir.clone(), self.folded.cold);
        let made = self.settle(driver, store);
        let exchanged = made.and_then(|(made, same)| Ok((made, same, index.exchange(&dir, same)?)));
        match exchanged {
            Ok((made, same, old)) => {
                let mut next = Driver::new(store, index, Some(hub.clone()), Mode::Live)?;
                next.begin_source(driver.source(), &taps_of(store, driver.source()));
                next.succeed(driver);
                *driver = next;
                if !same {
                    // Their numbers mean other streams now: they come again.
                    hub.end_all();
                }
                // What retention deleted at this very moment.
                drop_deleted(store, index)?;
                take_over_kept(store, cold);
                // It can be thousands of files.
                let remove = move || {
                    let _ = old.map(|old| Index::remove(&old));
                };
                let mut place = guard(&renewing.place);
                place.removing = std::thread::Builder::new().name("remove-index".into()).spawn(remove).ok();
                place.renewal = Renewal::Done(made);
            }
            Err(IndexerError::Index(error @ (IndexError::Open { .. } | IndexError::Lost))) => {
                return Err(error.into());
            }
            Err(error) => {
                let _ = Index::remove(&dir);
                guard(&renewing.place).renewal = Renewal::Failed(error.to_string());
            }
        }
        Ok(())
    }

    /// Brings the new index to where the old one is, and closes it. Says whether their numbers mean the same.
    fn settle(self, driver: &mut Driver, store: &Store) -> Result<(Reindexed, bool), IndexerError> {
        let Self { driver: mut fresh, index, dir: _, mut folded } = self;
        // It follows what is recorded, not the other: it can be the one that is ahead.
        driver.reach(fresh.positions())?;
        driver.commit()?;
        let before = fresh.stats();
        fresh.reach(driver.positions())?;
        fresh.finish()?;
        folded.packets += fresh.stats().packets - before.packets;
        folded.media_packets += fresh.stats().media_packets - before.media_packets;
        let same = fresh.numbers_as(driver);
        drop(fresh);
        drop_deleted(store, &index)?;
        Ok((folded.with_streams(index.streams()?.len()), same))
    }
}

/// The states that were kept for the new index go where those of the old one are.
fn take_over_kept(store: &Store, cold: Option<SourceId>) {
    if let Some(cold) = cold {
        forget(store, cold);
    }
    if let Err(error) = bring_in(store, &places(store).0.join(ASIDE)) {
        tracing::warn!("{error}; a later `tapdeck reindex` may find other names");
    }
}
