//! Indexing what is there: catching up after a crash, imports (beside the copying), and `reindex`.

use super::driver::{Driver, Mode, Step};
use super::error::IndexerError;
use crate::fold::FoldStats;
use crate::index::Index;
use capture::{SourceId, SourceKind, Store, TapId, WriterLock};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

/// Folds every source that is not folded yet, in the order of their numbers. `progress` is told bytes done and in all.
pub fn bulk_index(
    store: &Store,
    _lock: &WriterLock,
    index: &Index,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<FoldStats, IndexerError> {
    let mut driver = Driver::new(store, index, None, Mode::Bulk)?;
    let total: u64 = store.shards().iter().map(|s| s.bytes).sum();
    for source in store.sources() {
        if source.id < driver.source() {
            continue;
        }
        driver.begin_source(source.id, &taps_of(store, source.id));
        while driver.step()? != Step::End {
            driver.commit_if_due()?;
            progress(total.saturating_sub(driver.lag_bytes()).min(total), total);
        }
        driver.end_source()?;
    }
    progress(total, total);
    driver.finish()?;
    Ok(driver.stats())
}

/// Makes the index anew from shards and journal, and gives it. Nobody may have it open.
pub fn reindex(
    store: &Store,
    lock: &WriterLock,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Index, FoldStats), IndexerError> {
    Index::destroy(&store.index_dir())?;
    let index = Index::open(&store.index_dir())?;
    let stats = bulk_index(store, lock, &index, progress)?;
    Ok((index, stats))
}

/// Folds a source while its file is copied into the store. `taps` brings the source's taps as they open and is closed when the
/// copying is done.
pub fn index_beside(
    store: &Store,
    index: &Index,
    source_taps: &Receiver<(SourceId, TapId)>,
) -> Result<FoldStats, IndexerError> {
    let mut driver = Driver::new(store, index, None, Mode::Bulk)?;
    let (sources, first) = (store.sources(), driver.source());
    for source in sources.iter().filter(|s| s.id >= first) {
        driver.begin_source(source.id, &taps_of(store, source.id));
        while driver.step()? != Step::End {
            driver.commit_if_due()?;
        }
        // An import that was cut off may go on: its sessions are not over then.
        let may_go_on = !source.complete && matches!(source.kind, SourceKind::File { .. });
        if !may_go_on || sources.last().is_some_and(|last| last.id != source.id) {
            driver.end_source()?;
        }
    }
    let (mut open, mut begun) = (true, false);
    while open || begun {
        let mut idle = false;
        match source_taps.try_recv() {
            Ok((source, tap)) if source == driver.source() => {
                driver.add_tap(tap);
                begun = true;
                continue;
            }
            Ok((source, tap)) => {
                if begun {
                    while driver.step()? != Step::End {}
                    driver.end_source()?;
                }
                driver.begin_source(source, &[tap]);
                begun = true;
                continue;
            }
            Err(TryRecvError::Empty) => idle = true,
            Err(TryRecvError::Disconnected) => open = false,
        }
        if !begun {
            if idle {
                std::thread::sleep(Duration::from_millis(2));
            }
            continue;
        }
        match driver.step()? {
            Step::End if !open => break,
            Step::Folded => driver.commit_if_due()?,
            Step::Idle | Step::End => store.wait(Duration::from_millis(10)),
        }
    }
    if begun {
        driver.end_source()?;
    }
    driver.finish()?;
    Ok(driver.stats())
}

/// A source's taps.
pub(super) fn taps_of(store: &Store, source: SourceId) -> Vec<TapId> {
    store.taps().iter().filter(|t| t.source == source).map(|t| t.id).collect()
}
