//! Where to begin: which session of a stream is the most complete at a time, and which of its blocks holds the packet to start
//! with.
//!
//! Costs: the rows of the time directory around the time (blocks reach at most [`BLOCK_NANOS_MAX`] from their first
//! packet) and one or two more, whatever the store's size.

use super::{Footage, FootageError, LIVE_EDGE_NANOS, Start};
use crate::index::{BLOCK_NANOS_MAX, DirectoryEntry, L2Key, SegmentId, StreamId};
use crate::model::SegmentRow;
use capture::{CaptureTime, ShardId, TapId};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Sessions side by side: with more of them at once (all of one camera's stream), the rest is not looked at.
const CANDIDATES_MAX: usize = 256;
const REACH_MS: i64 = BLOCK_NANOS_MAX / 1_000_000 + 1;
/// How far a parallel session has to be ahead before it is worth leaving one that has nothing more, while both may go on: sessions of a
/// running recording end at slightly different times.
const AHEAD_NANOS: i64 = 2_000_000_000;
/// Of sessions that begin so closely together, the most complete is played: VMSs connect one after the other.
const TOGETHER_NANOS: i64 = 2_000_000_000;

/// Where a cursor enters a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entrance {
    pub segment: SegmentId,
    pub block: L2Key,
    pub rule: Rule,
}

/// Which packet of the segment, from the block on, is the first to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The last clean point of the block that is not after the time.
    LastCleanBefore(CaptureTime),
    /// The first clean point after everything up to the time.
    FirstCleanFrom(CaptureTime),
    /// The first packet not before the time.
    FirstFrom(CaptureTime),
}

/// A segment's blocks around the time.
#[derive(Default)]
struct Around {
    /// The last of each tap that begins at or before the time.
    before: SmallVec<[(Option<TapId>, DirectoryEntry); 1]>,
    /// The first that begins after it.
    after: Option<DirectoryEntry>,
}

impl Around {
    fn covers(&self, time: CaptureTime) -> bool {
        !self.before.is_empty()
            && (self.after.is_some() || self.before.iter().any(|(_, b)| b.row.last >= time))
    }

    fn all(&self) -> impl Iterator<Item = &DirectoryEntry> {
        self.before.iter().map(|(_, entry)| entry).chain(&self.after)
    }

    /// Smaller is more complete.
    fn rank(&self) -> (u64, u64) {
        let sum = |of: fn(&DirectoryEntry) -> u32| self.all().map(|e| u64::from(of(e))).sum::<u64>();
        let (lost, packets) = (sum(|e| e.row.lost), sum(|e| e.row.packets));
        // Lost of a million expected, then as many packets as possible.
        (lost.saturating_mul(1_000_000) / (lost + packets).max(1), u64::MAX - packets)
    }
}

fn around(
    footage: &Footage,
    stream: StreamId,
    time: CaptureTime,
) -> Result<BTreeMap<SegmentId, Around>, FootageError> {
    let mut found: BTreeMap<SegmentId, Around> = BTreeMap::new();
    let ms = time.millis();
    let window = (ms.saturating_sub(REACH_MS), ms.saturating_add(REACH_MS));
    footage.index.directory(stream, window.0, window.1, |entry| {
        let segment = entry.block.segment;
        if !found.contains_key(&segment) && found.len() >= CANDIDATES_MAX {
            return true;
        }
        let around = found.entry(segment).or_default();
        if entry.row.first.millis() <= ms {
            let tap = footage.store.shard_info(entry.block.shard).map(|info| info.tap);
            match around.before.iter_mut().find(|(other, _)| *other == tap) {
                Some((_, before)) => *before = entry,
                None => around.before.push((tap, entry)),
            }
        } else if around.after.is_none() {
            around.after = Some(entry);
        }
        true
    })?;
    Ok(found)
}

/// The entrance for a cursor that starts at `time` and goes on to `to`.
pub(super) fn first(
    footage: &Footage,
    stream: StreamId,
    (time, to): (CaptureTime, CaptureTime),
    start: Start,
) -> Result<Option<Entrance>, FootageError> {
    let around = around(footage, stream, time)?;
    if start == Start::LiveEdge {
        let newest = |a: &Around| a.before.iter().map(|(_, e)| (e.row.last, e.block.segment)).max();
        let best = around.into_values().max_by_key(newest);
        let best =
            best.filter(|a| newest(a).is_some_and(|(last, _)| time.nanos_since(last) <= LIVE_EDGE_NANOS));
        return Ok(best.map(|a| enter(footage, stream, &a, time, start)).transpose()?.flatten());
    }
    let best = around.iter().filter(|(_, a)| a.covers(time)).min_by_key(|(id, a)| (a.rank(), **id));
    // Not where the clock was set back in it to before its first packet: there it has begun.
    let begins = |segment, around: &Around| {
        let row = footage.index.segment(segment)?;
        let earlier = around.before.iter().any(|(_, entry)| entry.row.first < time);
        Ok::<_, FootageError>(!earlier && row.is_some_and(|s| s.began >= time))
    };
    match best {
        Some((segment, around)) if !begins(*segment, around)? => enter(footage, stream, around, time, start),
        // In a gap, or with the first packet, which is the time that a stream is told to begin at: forward.
        _ => match next_from(footage, stream, time)? {
            Some(entry) => {
                let clean = start == Start::CleanPointBefore && has_clean_points(footage, stream, &entry)?;
                let rule = if clean { Rule::FirstCleanFrom(time) } else { Rule::FirstFrom(time) };
                let segment = entry.block.segment;
                let nothing_before =
                    around.get(&segment).is_none_or(|a| a.before.is_empty() || entry.row.first == time);
                let block = match nothing_before {
                    true => begin_of(footage, &entry, to)?,
                    false => entry.block,
                };
                Ok(Some(Entrance { segment, block, rule }))
            }
            None => Ok(None),
        },
    }
}

/// Where a segment begins of which this is the earliest block: elsewhere if the clock was set back to before its first packet. What was captured until
/// then comes first, unless that is beyond the end.
fn begin_of(footage: &Footage, entry: &DirectoryEntry, to: CaptureTime) -> Result<L2Key, FootageError> {
    let segment = entry.block.segment;
    let began = footage.index.segment(segment)?.map_or(CaptureTime::MIN, |row| row.began);
    let tap = footage.store.shard_info(entry.block.shard).map(|info| info.tap);
    let Some(tap) = tap.filter(|_| began > entry.row.first && began <= to) else { return Ok(entry.block) };
    let mut shard = ShardId(0);
    while let Some(found) = footage.store.next_shard_of(tap, shard).filter(|found| *found < entry.block.shard)
    {
        if footage.index.has_segment(found, segment)? {
            return Ok(L2Key { shard: found, segment, block: 0 });
        }
        shard = ShardId(found.0 + 1);
    }
    Ok(L2Key { block: 0, ..entry.block })
}

fn enter(
    footage: &Footage,
    stream: StreamId,
    around: &Around,
    time: CaptureTime,
    start: Start,
) -> Result<Option<Entrance>, FootageError> {
    let Some(&(_, any)) = around.before.first() else { return Ok(None) };
    let at = |block: L2Key, rule| Ok(Some(Entrance { segment: block.segment, block, rule }));
    if start == Start::Exact {
        return at(any.block, Rule::FirstFrom(time));
    }
    // Each tap knows of its own: the one that has a clean point last leads.
    let mut last_clean: Option<(CaptureTime, L2Key)> = None;
    for (_, entry) in &around.before {
        let clean = match (entry.row.clean, entry.row.clean_before) {
            (Some(clean), _) if clean.millis() <= time.millis() => Some((clean, entry.block)),
            (_, Some(before)) => {
                let block = L2Key { shard: before.shard, block: before.block, ..entry.block };
                footage.index.l2(&block)?.map(|_| (before.time, block))
            }
            _ => None,
        };
        last_clean = last_clean.max(clean);
    }
    if let Some((_, block)) = last_clean {
        return at(block, Rule::LastCleanBefore(time));
    }
    if has_clean_points(footage, stream, &any)? {
        return at(any.block, Rule::FirstCleanFrom(time));
    }
    at(any.block, Rule::FirstFrom(time))
}

/// Whether the shard's part of the segment has clean points at all. What was not understood has none, and is played
/// from anywhere.
fn has_clean_points(
    footage: &Footage,
    stream: StreamId,
    entry: &DirectoryEntry,
) -> Result<bool, FootageError> {
    if entry.row.clean.is_some() || entry.row.clean_before.is_some() {
        return Ok(true);
    }
    let part = footage.index.part(stream, entry.block.shard, entry.block.segment)?;
    Ok(part.is_some_and(|p| p.clean_points > 0))
}

/// The first block that begins after `time`; of sessions that begin together there, the most complete one's.
fn next_from(
    footage: &Footage,
    stream: StreamId,
    time: CaptureTime,
) -> Result<Option<DirectoryEntry>, FootageError> {
    let mut together = BTreeMap::<SegmentId, DirectoryEntry>::new();
    let mut begin = None;
    footage.index.directory(stream, time.millis(), i64::MAX, |entry| {
        if entry.row.last < time {
            return true;
        }
        let begin = *begin.get_or_insert(entry.row.first);
        together.entry(entry.block.segment).or_insert(entry);
        entry.row.first.nanos_since(begin) <= TOGETHER_NANOS && together.len() < CANDIDATES_MAX
    })?;
    let lost = |e: &DirectoryEntry| {
        u64::from(e.row.lost) * 1_000_000 / (u64::from(e.row.lost) + u64::from(e.row.packets)).max(1)
    };
    let near = |e: &DirectoryEntry| begin.is_some_and(|b| e.row.first.nanos_since(b) <= TOGETHER_NANOS);
    // One that only looked in is no session to play. Equally complete, the one that begins first: nothing of the beginning is left out.
    let lasts = |e: &DirectoryEntry| e.row.last.nanos_since(e.row.first) > TOGETHER_NANOS;
    let short = |e: &DirectoryEntry| Some(e.row.first) != begin && !lasts(e);
    let sessions = together.into_values().filter(near);
    Ok(sessions.min_by_key(|e| (short(e), lost(e), e.row.first, e.block.segment)))
}

/// So far a segment has to go on beyond a time to be worth going into it: one that nobody writes any more has come as far as it ever will.
fn ahead(footage: &Footage, segment: Option<&SegmentRow>) -> Result<i64, FootageError> {
    if !footage.store.is_written() {
        return Ok(1);
    }
    let session = segment.map(|row| footage.index.session(row.session)).transpose()?.flatten();
    Ok(if session.is_some_and(|session| session.ended.is_some()) { 1 } else { AHEAD_NANOS })
}

/// The entrance for a cursor whose segment ended, when everything up to `time` was given: into a session that was recorded
/// beside it and went on, else into the next one.
pub(super) fn following(
    footage: &Footage,
    stream: StreamId,
    time: CaptureTime,
    ended: &[SegmentId],
) -> Result<Option<Entrance>, FootageError> {
    // Nothing is given twice.
    let after = CaptureTime::from_nanos(time.nanos().saturating_add(1));
    let mut beside: Option<((u64, u64), DirectoryEntry)> = None;
    for (segment, around) in around(footage, stream, time)? {
        if ended.contains(&segment) {
            continue;
        }
        let latest = around.all().max_by_key(|e| e.row.last).filter(|e| e.row.last > time);
        let (Some(&(_, entry)), Some(latest)) = (around.before.first(), latest) else { continue };
        if beside.is_some_and(|(rank, _)| around.rank() >= rank) {
            continue;
        }
        let row = footage.index.segment(segment)?;
        let goes_on = latest.row.last.nanos_since(time) >= ahead(footage, row.as_ref())?;
        if goes_on && !begins_here(row.as_ref(), time) {
            beside = Some((around.rank(), entry));
        }
    }
    if let Some((_, entry)) = beside {
        let clean = has_clean_points(footage, stream, &entry)?;
        let rule = if clean { Rule::FirstCleanFrom(after) } else { Rule::FirstFrom(after) };
        return Ok(Some(Entrance { segment: entry.block.segment, block: entry.block, rule }));
    }
    next_after(footage, stream, time, ended)
}

/// One that begins here, in the same millisecond even, was not recorded beside what ended here: a file ends in the middle of a burst.
fn begins_here(segment: Option<&SegmentRow>, time: CaptureTime) -> bool {
    segment.is_some_and(|row| row.began >= time)
}

/// What is still to be seen of a segment that is met behind a time.
struct Met {
    /// Its first block there.
    entry: DirectoryEntry,
    begins_here: bool,
    ahead: i64,
}

/// The entrance into the next session.
fn next_after(
    footage: &Footage,
    stream: StreamId,
    time: CaptureTime,
    ended: &[SegmentId],
) -> Result<Option<Entrance>, FootageError> {
    let meet = |entry: DirectoryEntry| {
        let row = footage.index.segment(entry.block.segment)?;
        let ahead = ahead(footage, row.as_ref())?;
        Ok::<_, FootageError>(Met { entry, begins_here: begins_here(row.as_ref(), time), ahead })
    };
    let (mut met, mut failed) = (BTreeMap::<SegmentId, Met>::new(), None);
    let (mut next, mut looked_at) = (None, 0);
    footage.index.directory(stream, time.millis(), i64::MAX, |entry| {
        let segment = entry.block.segment;
        if entry.row.last <= time || ended.contains(&segment) {
            return true;
        }
        let met = match met.entry(segment) {
            Entry::Occupied(met) => met.into_mut(),
            Entry::Vacant(place) => match meet(entry) {
                Ok(new) => place.insert(new),
                Err(error) => {
                    failed = Some(error);
                    return false;
                }
            },
        };
        looked_at += 1;
        // A session that began before is one of those beside: not far enough ahead yet it is passed over, for one that begins later.
        if met.begins_here || entry.row.last.nanos_since(time) >= met.ahead {
            next = Some((met.entry, met.begins_here));
        }
        next.is_none() && looked_at < CANDIDATES_MAX
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let Some((entry, begins_here)) = next else { return Ok(None) };
    // Of one that begins here all is new, also what has the same time.
    let after = CaptureTime::from_nanos(time.nanos().saturating_add(1));
    let rule = Rule::FirstFrom(if begins_here { CaptureTime::MIN } else { after });
    Ok(Some(Entrance { segment: entry.block.segment, block: entry.block, rule }))
}
