//! Indexing what is there: catching up after a crash, imports (beside the copying), and `reindex`.

use super::base::{self, Base};
use super::driver::{Driver, Mode, Step};
use super::error::IndexerError;
use super::kept::forget;
use super::retain::drop_deleted;
use super::saved::Saved;
use crate::fold::{Fold, FoldStats};
use crate::index::{Index, IndexError};
use capture::{ShardId, SourceId, SourceInfo, SourceKind, Store, TapId, WriterLock};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(50);

/// What `reindex` made.
#[derive(Clone, Copy, Debug)]
pub struct Reindexed {
    /// Streams in it.
    pub streams: usize,
    /// Packets of retained shards that are in it.
    pub packets: u64,
    /// RTP packets of them.
    pub media_packets: u64,
    /// The first source, if there is one, of which retention deleted the beginning and no state was kept that fits: from there on
    /// sessions and streams were found as if the capture had begun with what is left, and may have other names.
    pub cold: Option<SourceId>,
}

/// Told bytes done and in all.
pub type Progress<'a> = dyn FnMut(u64, u64) + Send + 'a;

/// Folds every source that is not folded yet, in the order of their numbers. `progress` is told bytes done and in all.
pub fn bulk_index(
    store: &Store,
    lock: &WriterLock,
    index: &Index,
    progress: &mut Progress<'_>,
) -> Result<FoldStats, IndexerError> {
    let mut driver = Driver::new(store, index, None, Mode::Bulk)?;
    fold_all(&mut driver, store, lock, progress)?;
    Ok(driver.stats())
}

/// Makes the index anew from shards, journal and what is kept beside the shards. The one that is there stays until the new one is whole, and
/// when this fails.
pub fn reindex(
    store: &Store,
    lock: &WriterLock,
    progress: &mut Progress<'_>,
) -> Result<Reindexed, IndexerError> {
    let (dir, new) = places(store);
    Index::remove(&new)?;
    let made = make(store, lock, &new, progress).and_then(|made| {
        Index::replace(&dir, &new)?;
        Ok(made)
    });
    if made.is_err() {
        // That it failed is what matters.
        let _ = Index::remove(&new);
    }
    made
}

/// The store's index to be written to. One that can't be gone on with (of an older format, or ahead of the shards) is begun anew: what is in it
/// stands in shards and journal as well. Says why, if so.
pub fn open_or_begin(store: &Store, lock: &WriterLock) -> Result<(Index, Option<String>), IndexerError> {
    let (dir, _) = places(store);
    let begin = |why: String| {
        Index::remove(&dir)?;
        for source in store.sources() {
            if let Some(shard) = base::half_deleted(store, source.id) {
                store.delete_shard(lock, shard)?;
            }
        }
        Ok((Index::open(&dir)?, Some(why)))
    };
    match Index::open(&dir) {
        Ok(index) => match can_go_on(store, &index) {
            Ok(()) => Ok((index, None)),
            // What a newer program has made is kept for it.
            Err(error) if error.is_newer() => Err(error),
            Err(why @ (IndexerError::State | IndexerError::Fold(_) | IndexerError::Ahead { .. })) => {
                drop(index);
                begin(why.to_string())
            }
            Err(error) => Err(error),
        },
        Err(why @ IndexError::OlderFormat { .. }) => begin(why.to_string()),
        Err(error) => Err(error.into()),
    }
}

fn can_go_on(store: &Store, index: &Index) -> Result<(), IndexerError> {
    if let Some(saved) = Saved::look(store, index)? {
        Fold::restore(&saved.fold)?;
    }
    Ok(())
}

/// Where the index is, and where a new one is made.
pub(super) fn places(store: &Store) -> (PathBuf, PathBuf) {
    // It may be a link to another disk.
    let dir = std::fs::canonicalize(store.index_dir()).unwrap_or_else(|_| store.index_dir());
    let new = dir.with_extension("new");
    (dir, new)
}

/// An index in `dir`, closed.
fn make(
    store: &Store,
    lock: &WriterLock,
    dir: &Path,
    progress: &mut Progress<'_>,
) -> Result<Reindexed, IndexerError> {
    let index = Index::open(dir)?;
    let mut driver = Driver::new(store, &index, None, Mode::Bulk)?;
    let folded = fold_all(&mut driver, store, lock, progress)?;
    // A state may still have spoken of a shard that is gone.
    drop_deleted(store, &index)?;
    Ok(folded.with_streams(index.streams()?.len()))
}

/// What was folded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Folded {
    pub packets: u64,
    pub media_packets: u64,
    /// The first source that was begun without a state that it should have had.
    pub cold: Option<SourceId>,
}

impl Folded {
    pub fn with_streams(self, streams: usize) -> Reindexed {
        let Self { packets, media_packets, cold } = self;
        Reindexed { streams, packets, media_packets, cold }
    }
}

fn fold_all(
    driver: &mut Driver,
    store: &Store,
    lock: &WriterLock,
    progress: &mut Progress<'_>,
) -> Result<Folded, IndexerError> {
    let total: u64 = store.shards().iter().map(|s| s.bytes).sum();
    let due = driver.unfolded_bytes();
    let (mut told, mut near_end) = (Instant::now(), false);
    let range = Range { until: None, alone: Some(lock), kept_stays: false };
    let folded = fold_sources(driver, store, &range, &mut |driver| {
        // How far it is takes a look at every shard that there is.
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            let left = driver.unfolded_bytes();
            progress(total.saturating_sub(left), total);
            if left < due / 4 && !std::mem::replace(&mut near_end, true) {
                driver.finish_ahead()?;
            }
        }
        Ok(())
    })?;
    progress(total, total);
    driver.finish()?;
    Ok(folded)
}

/// Which sources are folded, and what may be done for it.
pub(super) struct Range<'a> {
    /// Those before this one. Its beginning is taken up, and it is still to be turned to.
    pub until: Option<SourceId>,
    /// Nobody else deletes shards meanwhile.
    pub alone: Option<&'a WriterLock>,
    /// What stands beside the shards is of the index that is in use, and stays.
    pub kept_stays: bool,
}

/// Folds the sources that are not folded yet, in the order of their numbers. `stepped` is asked all the time whether to go on.
pub(super) fn fold_sources(
    driver: &mut Driver,
    store: &Store,
    range: &Range<'_>,
    stepped: &mut dyn FnMut(&mut Driver) -> Result<(), IndexerError>,
) -> Result<Folded, IndexerError> {
    let (sources, first) = (store.sources(), driver.source());
    let mut folded = Folded::default();
    for source in sources.iter().filter(|s| s.id >= first) {
        // Else what is decided on could be gone before it is looked whether it goes.
        let held = store.hold_deletions();
        let gone = gone_of(store, source.id);
        if source.id > first && folded.cold.is_none() {
            folded.cold = begin(driver, store, range, source.id)?;
        }
        let ends_here = range.until.is_some_and(|until| source.id >= until);
        if !ends_here {
            driver.begin_source(source.id, &taps_of(store, source.id));
        }
        driver.watch_retention(gone);
        drop(held);
        if ends_here {
            break;
        }
        let before = driver.stats();
        while driver.step()? != Step::End {
            driver.commit_if_due()?;
            stepped(driver)?;
            if driver.is_overtaken() && folded.cold.is_none() {
                folded.cold = Some(source.id);
                if !range.kept_stays {
                    forget(store, SourceId(source.id.0 + 1));
                }
            }
        }
        if !may_go_on(source) || sources.last().is_some_and(|last| last.id != source.id) {
            driver.end_source()?;
        }
        folded.packets += driver.stats().packets - before.packets;
        folded.media_packets += driver.stats().media_packets - before.media_packets;
    }
    Ok(folded)
}

/// Takes up what was kept for the beginning of a source. Says so if it should be there and is not.
fn begin(
    driver: &mut Driver,
    store: &Store,
    range: &Range<'_>,
    source: SourceId,
) -> Result<Option<SourceId>, IndexerError> {
    if let Some(lock) = range.alone
        && let Some(shard) = base::half_deleted(store, source)
    {
        store.delete_shard(lock, shard)?;
    }
    match base::find(store, source, driver.stats().packets) {
        Base::Whole => {}
        Base::Kept(saved, rows) => driver.adopt(*saved, rows)?,
        Base::Unknown => {
            // What was kept for later ones is of an index that will not be this one.
            if !range.kept_stays {
                forget(store, source);
            }
            return Ok(Some(source));
        }
    }
    Ok(None)
}

/// An import that was cut off may go on: its sessions are not over then.
fn may_go_on(source: &SourceInfo) -> bool {
    !source.complete && matches!(source.kind, SourceKind::File { .. })
}

/// Taps that an import makes known: one as it opens, several of one file when all of them are there as a whole, so that they are merged
/// as they will be whenever the index is made again.
pub type Opened = (SourceId, Vec<TapId>);

/// Folds a source while its file is copied into the store. `known` is what the store had before the copying began; `opened` brings the
/// source's taps and is closed when the copying is done. Gives what was folded, and how many packets came too late to be in their order.
pub fn index_beside(
    store: &Store,
    index: &Index,
    known: &[SourceInfo],
    opened: &Receiver<Opened>,
) -> Result<(FoldStats, u64), IndexerError> {
    let mut driver = Driver::new(store, index, None, Mode::Bulk)?;
    let first = driver.source();
    // One that was cut off may be gone on with: then its taps come by `opened`.
    let mut unfinished = None;
    for source in known.iter().filter(|s| s.id >= first) {
        if may_go_on(source) && known.last().is_some_and(|last| last.id == source.id) {
            driver.begin_source(source.id, &[]);
            unfinished = Some(source.id);
        } else {
            fold_to_the_end(&mut driver, store, source.id)?;
        }
    }
    let (mut open, mut begun) = (true, false);
    while open || begun {
        match opened.try_recv() {
            Ok((source, taps)) => {
                if source != driver.source() {
                    if let Some(cut_off) = unfinished.take() {
                        fold_to_the_end(&mut driver, store, cut_off)?;
                    } else if begun {
                        while driver.step()? != Step::End {}
                        driver.end_source()?;
                    }
                    driver.begin_source(source, &[]);
                } else if begun {
                    // Those that come later come behind all of those before, whenever one looks.
                    while driver.step()? != Step::End {
                        driver.commit_if_due()?;
                    }
                }
                unfinished = None;
                taps.into_iter().for_each(|tap| driver.add_tap(tap));
                begun = true;
            }
            Err(TryRecvError::Empty) if !begun => std::thread::sleep(Duration::from_millis(2)),
            Err(nothing) => {
                open = nothing == TryRecvError::Empty;
                match driver.step()? {
                    Step::End if !open => break,
                    Step::Folded => driver.commit_if_due()?,
                    Step::Idle | Step::End => store.wait(Duration::from_millis(10)),
                }
            }
        }
    }
    // An import that failed half-way may be gone on with.
    let goes_on = store.sources().last().is_some_and(|last| last.id == driver.source() && may_go_on(last));
    if begun && !goes_on {
        driver.end_source()?;
    }
    driver.finish()?;
    Ok((driver.stats(), driver.skew_exceeded))
}

/// A whole source, of which nothing is written any more.
fn fold_to_the_end(driver: &mut Driver, store: &Store, source: SourceId) -> Result<(), IndexerError> {
    driver.begin_source(source, &taps_of(store, source));
    while driver.step()? != Step::End {
        driver.commit_if_due()?;
    }
    driver.end_source()
}

/// Up to where retention has deleted a source's taps.
fn gone_of(store: &Store, source: SourceId) -> BTreeMap<TapId, (ShardId, u64)> {
    taps_of(store, source)
        .into_iter()
        .map(|tap| (tap, store.trimmed(tap).last.unwrap_or((ShardId(0), 0))))
        .collect()
}

/// A source's taps.
pub(super) fn taps_of(store: &Store, source: SourceId) -> Vec<TapId> {
    store.taps().iter().filter(|t| t.source == source).map(|t| t.id).collect()
}
