//! Deleting a shard so that the index can be made again from what is left.
//!
//! Of a source of several taps the state behind the deleted shard lies behind the beginning of the other taps' shards too.
//! What the index has of those is written beside that state before the shard goes: a shard of each other tap at the most, since
//! retention goes by the time of a shard's last packet.

use super::base::begun;
use super::error::IndexerError;
use super::kept::{Rest, State};
use super::saved::Saved;
use crate::index::Index;
use capture::{ShardId, ShardInfo, SourceId, Store, TapId, WriterLock};

/// Deletes a sealed shard and its rows.
pub fn delete_shard(
    store: &Store,
    lock: &WriterLock,
    index: &Index,
    shard: ShardId,
) -> Result<(), IndexerError> {
    let _held = store.hold_deletions();
    let Some(info) = store.shard_info(shard) else { return Ok(()) };
    // An index that has not come so far has not all rows either. What was written before stays then.
    let past =
        index.positions()?.iter().any(|&(tap, at, to)| tap == info.tap && (at, to) >= (shard, info.bytes));
    let kept = if past { keep_rest(store, index, &info) } else { Ok(None) };
    if let Err(error) = &kept {
        // The disk may be full, which is why the shard goes.
        tracing::warn!("{error}; a later `tapdeck reindex` may find other names");
    }
    store.delete_shard(lock, shard)?;
    index.drop_shard(shard, &beside(store, shard, Some(info.source)))?;
    let behind = store.shards().into_iter().filter(|s| s.source == info.source).map(|s| s.id);
    for other in behind.filter(|other| past && kept.as_ref().is_ok_and(|kept| *kept != Some(*other))) {
        // What was kept for an earlier deletion.
        let _ = std::fs::remove_file(store.rest_path(other));
    }
    Ok(())
}

/// Forgets what the index has of shards that are gone: a crash can come between the two deletions.
pub fn drop_deleted(store: &Store, index: &Index) -> Result<(), IndexerError> {
    for shard in index.shards()?.into_iter().filter(|shard| store.shard_info(*shard).is_none()) {
        index.drop_shard(shard, &beside(store, shard, index.source_of(shard)?))?;
    }
    Ok(())
}

/// The lower shards that may refer to the same flows, segments and sessions: those of its source, if that has several taps.
fn beside(store: &Store, shard: ShardId, source: Option<SourceId>) -> Vec<ShardId> {
    let taps = store.taps();
    let several = |source: SourceId| taps.iter().filter(|tap| tap.source == source).nth(1).is_some();
    let shards = store.shards().into_iter().filter(|s| s.id < shard);
    shards.filter(|s| source.is_none_or(|of| of == s.source) && several(s.source)).map(|s| s.id).collect()
}

/// Writes what is needed beside a state behind `leaving`. Gives the shard that it was written with, if anything was.
fn keep_rest(store: &Store, index: &Index, leaving: &ShardInfo) -> Result<Option<ShardId>, IndexerError> {
    let of_source = |s: &ShardInfo| s.source == leaving.source && s.id != leaving.id;
    let retained: Vec<ShardInfo> = store.shards().into_iter().filter(of_source).collect();
    let Some((state, saved, end)) = behind(store, leaving, &retained) else { return Ok(None) };
    let covered = || retained.iter().filter(|s| begun(&saved, s.tap, s.id));
    let covers: Vec<ShardId> = covered().map(|s| s.id).collect();
    if covers.is_empty() && !end {
        // The state of a shard that nothing lies before needs no naming.
        return Ok(None);
    }
    let mut rows = Vec::new();
    for shard in &covers {
        rows.extend(index.rows_of(*shard, leaving.id)?);
    }
    let rest = Rest { state: state.shard, end, leaving: leaving.id, covers, rows };
    rest.write(store).map_err(IndexerError::Kept)?;
    Ok(Some(state.shard))
}

/// The earliest state behind a shard's end: mostly that of the tap's next shard. Says whether it is that of the source's end.
fn behind(store: &Store, leaving: &ShardInfo, retained: &[ShardInfo]) -> Option<(State, Saved, bool)> {
    let next = retained.iter().find(|s| s.tap == leaving.tap);
    if let Some((state, saved)) = next.and_then(|next| State::read(store, next.id)) {
        return Some((state, saved, false));
    }
    let past = |saved: &Saved| {
        saved.positions.get(&leaving.tap).is_some_and(|at| *at >= (leaving.id, leaving.bytes))
    };
    let mut taps: Vec<TapId> = retained.iter().map(|s| s.tap).collect();
    taps.sort_unstable();
    taps.dedup();
    let shards_of = |tap: &TapId| retained.iter().filter(|s| s.tap == *tap).collect::<Vec<_>>();
    let first_past = |tap: &TapId| {
        let shards = shards_of(tap);
        // States come in the order of their shards.
        let before = |s: &&ShardInfo| State::read(store, s.id).is_some_and(|(_, saved)| !past(&saved));
        let at = shards.partition_point(before);
        State::read(store, shards.get(at)?.id).filter(|(_, saved)| past(saved))
    };
    if let Some((state, saved)) = taps.iter().filter_map(first_past).min_by_key(|(state, _)| state.packets) {
        return Some((state, saved, false));
    }
    let (state, saved) = taps.iter().find_map(|tap| State::read_end(store, shards_of(tap).last()?.id))?;
    Some((state, saved, true))
}
