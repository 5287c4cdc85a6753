//! Drives the fold: refills the feeds, folds packets in order, publishes to live viewers, commits.
//!
//! Owned by one thread. A commit is one atomic write of rows, state and positions: a crash neither repeats nor skips a packet.

mod beside;
mod parts;

use super::ahead::Dissectors;
use super::committer::{Commit, Committer, Keep};
use super::error::IndexerError;
use super::feed::{Feed, Refill};
use super::order::{Head, Next, next};
use super::saved::Saved;
use crate::fold::{FlowHasher, Fold, FoldEvent, FoldStats, Limits, Observation, Place};
use crate::footage::{Footage, LiveHub};
use crate::index::{Index, Row};
use capture::{CaptureTime, Drops, Missed, ShardId, ShardInfo, SourceId, Store, TapId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a packet waits for a quiet tap of the same source that has not said how far it is.
const SKEW: Duration = Duration::from_millis(250);
/// Chunks (about 1 MiB each) of a tap that are known and not folded, in bulk: the one that is being folded, and those that other cores take
/// apart meanwhile. Refilled when half are left: each time the other cores may have to be woken, which takes as long as folding some packets.
const AHEAD_BULK: usize = 8;
/// Likewise live: one is folded while the next is written.
const AHEAD_LIVE: usize = 2;
/// Packets whose headers are fetched before they are folded, and the cache lines that these take.
const FETCH_AHEAD: usize = 6;
const HEADER_LINES: usize = 3;
/// Offset of a shard's first record.
const SHARD_BEGIN: u64 = capture::SHARD_HEADER_LEN;
/// A batch that has grown to this is committed whatever the time.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Whether packets are being captured meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Follow a recording: every packet as soon as it is published, a commit a second.
    Live,
    /// Through what is there as fast as possible, on all cores.
    Bulk,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Packets were folded.
    Folded,
    /// Nothing to do now.
    Idle,
    /// All taps are at their end.
    End,
}

/// See the module's text.
pub struct Driver {
    store: Store,
    index: Index,
    hub: Option<LiveHub>,
    footage: Footage,
    /// The other cores, in bulk.
    dissectors: Option<Dissectors>,
    mode: Mode,
    fold: Fold,
    hasher: FlowHasher,
    feeds: Vec<Feed>,
    source: SourceId,
    positions: BTreeMap<TapId, (ShardId, u64)>,
    /// The shard that each tap was in last.
    in_shard: BTreeMap<TapId, ShardId>,
    checkpoints: Vec<ShardId>,
    committer: Committer,
    latest: CaptureTime,
    /// The latest packet of the source that was folded, whichever tap's.
    folded_to: CaptureTime,
    waiting_since: Option<Instant>,
    committed: Instant,
    dirty: bool,
    missed_read: usize,
    /// Where each tap's folding ends for now; beyond that its packets wait.
    bounds: BTreeMap<TapId, (ShardId, u64)>,
    /// For each tap of the source how far it was folded when it was last looked whether retention is faster.
    passed: BTreeMap<TapId, (ShardId, u64)>,
    /// Packets that were folded behind later ones of other taps: they became known too late.
    pub skew_exceeded: u64,
    /// Bytes in which no record could be read.
    pub unreadable_bytes: u64,
}

impl Driver {
    /// Goes on from what the index has saved, or from the beginning.
    pub fn new(store: &Store, index: &Index, hub: Option<LiveHub>, mode: Mode) -> Result<Self, IndexerError> {
        Self::keeping(store, index, hub, mode, None)
    }

    /// One that keeps its states in `aside`, if that is given, until it is clear that its index is the one that stays.
    pub fn keeping(
        store: &Store,
        index: &Index,
        hub: Option<LiveHub>,
        mode: Mode,
        aside: Option<PathBuf>,
    ) -> Result<Self, IndexerError> {
        let saved = Saved::load(store, index)?;
        let (mut fold, source, positions, rows) = match saved {
            Some((saved, rows)) => (Fold::restore(&saved.fold)?, saved.source, saved.positions, rows),
            None => (Fold::new(Limits::default()), SourceId(0), BTreeMap::new(), None),
        };
        let dirty = rows.is_some();
        if let Some(rows) = rows {
            fold.output().batch.put_rows(rows);
            fold.put_again();
        }
        let in_shard = fold.positions().map(|(tap, shard, ..)| (tap, shard)).collect();
        let taps = store.taps();
        let of_source = |tap| taps.iter().any(|t| t.id == tap && t.source == source);
        let folded_to = fold.positions().filter(|p| of_source(p.0)).map(|p| p.3).max();
        Ok(Self {
            footage: Footage::with(store.clone(), index.clone(), hub.clone()),
            store: store.clone(),
            index: index.clone(),
            hub,
            dissectors: (mode == Mode::Bulk).then(Dissectors::start).transpose()?,
            mode,
            hasher: fold.hasher().clone(),
            fold,
            feeds: Vec::new(),
            source,
            positions,
            in_shard,
            checkpoints: Vec::new(),
            committer: Committer::start(store, index, aside)?,
            latest: CaptureTime::MIN,
            folded_to: folded_to.unwrap_or(CaptureTime::MIN),
            waiting_since: None,
            committed: Instant::now(),
            dirty,
            missed_read: 0,
            bounds: BTreeMap::new(),
            passed: BTreeMap::new(),
            skew_exceeded: 0,
            unreadable_bytes: 0,
        })
    }

    /// The source that was begun last.
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// For each tap the shard and the offset of the next record.
    pub fn positions(&self) -> &BTreeMap<TapId, (ShardId, u64)> {
        &self.positions
    }

    /// Turns to a source: its taps are merged. Those that open later are added with [`add_tap`](Self::add_tap).
    pub fn begin_source(&mut self, source: SourceId, taps: &[TapId]) {
        if source != self.source {
            self.wake(source);
            self.fold.begin_source(source);
            self.source = source;
            self.folded_to = CaptureTime::MIN;
        }
        self.feeds.clear();
        for tap in taps {
            self.add_tap(*tap);
        }
    }

    /// Goes on from a state that was kept beside a shard, as if this index had been made with it from the beginning: with the rows
    /// of what is open in it, and those of footage before it.
    pub fn adopt(&mut self, saved: Saved, rows: Vec<Row>) -> Result<(), IndexerError> {
        self.commit()?;
        self.fold = Fold::restore(&saved.fold)?;
        self.hasher = self.fold.hasher().clone();
        self.in_shard = self.fold.positions().map(|(tap, shard, ..)| (tap, shard)).collect();
        (self.source, self.positions) = (saved.source, saved.positions);
        self.fold.output().batch.put_rows(rows);
        self.fold.put_again();
        self.missed_read = 0;
        self.dirty = true;
        self.commit()
    }

    /// One more tap of the source.
    pub fn add_tap(&mut self, tap: TapId) {
        // One that was read to its end is written on when an interrupted import goes on; nothing of it is in the feed then.
        self.feeds.retain(|f| f.tap() != tap);
        let latest = self.fold.positions().find(|p| p.0 == tap).map(|p| p.3);
        self.feeds.push(Feed::new(&self.store, tap, self.positions.get(&tap).copied(), latest));
        self.feeds.sort_by_key(Feed::tap);
    }

    /// Folds what is there; in bulk at most to the end of a chunk, so that the other cores always have some ahead of them.
    pub fn step(&mut self) -> Result<Step, IndexerError> {
        let ended = self.refill()?;
        if self.fold_ready()? {
            self.dirty = true;
            self.publish()?;
            return Ok(Step::Folded);
        }
        Ok(if ended && self.feeds.iter().all(Feed::is_empty) { Step::End } else { Step::Idle })
    }

    /// Takes chunks from the tails, for feeds that run low, and has them taken apart. Says whether all taps are at their end.
    fn refill(&mut self) -> Result<bool, IndexerError> {
        let (mut ended, mut fresh) = (true, Vec::new());
        for feed in &mut self.feeds {
            let room = match self.mode {
                Mode::Bulk if feed.ahead() > AHEAD_BULK / 2 => 0,
                Mode::Bulk => AHEAD_BULK - feed.ahead(),
                Mode::Live => usize::from(feed.ahead() < AHEAD_LIVE),
            };
            if room == 0 {
                ended = false;
                continue;
            }
            ended &= feed.pull(room, &mut fresh)? == Refill::End;
            for mut batch in fresh.drain(..) {
                match &self.dissectors {
                    Some(cores) => feed.expect(cores.dissect(batch, &self.hasher)),
                    None => {
                        batch.dissect(&self.hasher);
                        feed.put(batch);
                    }
                }
            }
            self.unreadable_bytes += std::mem::take(&mut feed.unreadable_bytes);
        }
        Ok(ended)
    }

    fn fold_ready(&mut self) -> Result<bool, IndexerError> {
        let mut folded = false;
        loop {
            // However long that takes: nobody goes ahead of packets that are there.
            self.feeds.iter_mut().for_each(Feed::await_next);
            let heads: smallvec::SmallVec<[Head; 4]> = self
                .feeds
                .iter()
                .map(|feed| if self.is_bound(feed) { Head::End } else { head(feed) })
                .collect();
            let impatient =
                self.mode == Mode::Live && self.waiting_since.is_some_and(|since| since.elapsed() > SKEW);
            match next(&heads, impatient) {
                Next::Take(n, until) => {
                    self.waiting_since = None;
                    folded = true;
                    if self.take(n, until)? && self.mode == Mode::Bulk {
                        return Ok(true);
                    }
                }
                Next::Wait => {
                    let anything = heads.iter().any(|h| matches!(h, Head::Packet(_)));
                    if anything {
                        self.waiting_since.get_or_insert_with(Instant::now);
                    }
                    return Ok(folded);
                }
                Next::End => return Ok(folded),
            }
        }
    }

    /// Folds one tap's packets up to a time, at most to the end of its batch. Says whether it came to that end.
    fn take(&mut self, n: usize, until: CaptureTime) -> Result<bool, IndexerError> {
        let tap = self.feeds[n].tap();
        let Some(batch) = self.feeds[n].ready.front() else { return Ok(false) };
        let place = Place { tap, shard: batch.shard.id(), link: batch.shard.link() };
        let from = batch.chunk.base;
        self.enter(&place, from)?;
        let shard = place.shard;
        let bound = self.bounds.get(&tap).filter(|bound| bound.0 == shard).map(|bound| bound.1);
        let (folded_to, mut late) = (self.folded_to, 0);
        let Self { feeds, fold, .. } = self;
        let feed = &mut feeds[n];
        let (Some(batch), mut at, mut latest) = (feed.ready.front(), feed.at, feed.latest) else {
            return Ok(false);
        };
        let bytes = batch.bytes();
        let up_to = bound
            .map_or(batch.descriptors.len(), |bound| batch.descriptors.partition_point(|d| d.record < bound));
        while let Some(d) = batch.descriptors[..up_to].get(at) {
            latest = latest.max(d.time);
            if latest > until {
                break;
            }
            late += u64::from(latest < folded_to);
            // Another core took it apart: its headers are in the cache that both share, not in this core's.
            if let Some(soon) = batch.descriptors.get(at + FETCH_AHEAD)
                && soon.shows_at_its_head()
            {
                capture::prefetch(bytes.of(soon), HEADER_LINES);
            }
            fold.handle(&place, d, bytes.of(d));
            at += 1;
        }
        let position = batch.descriptors.get(at).map_or(batch.chunk.end(), |d| d.record);
        (feed.at, feed.latest) = (at, feed.latest.max(latest.min(until)));
        self.latest = self.latest.max(feed.latest);
        self.folded_to = folded_to.max(feed.latest);
        self.skew_exceeded += late;
        let ended = at >= batch.descriptors.len();
        if ended {
            feed.retire();
        }
        self.positions.insert(tap, (shard, position));
        self.dirty = true;
        if self.fold.output().batch.bytes() > BATCH_BYTES_MAX {
            self.hand_over(None)?;
        }
        Ok(ended)
    }

    /// A tap moves on to another shard: blocks of the old one are closed, and the state is kept as of the new one's beginning.
    fn enter(&mut self, place: &Place, from: u64) -> Result<(), IndexerError> {
        let before = self.in_shard.insert(place.tap, place.shard);
        if before == Some(place.shard) {
            return Ok(());
        }
        if let (Some(cores), Some(before)) = (&self.dissectors, before) {
            cores.let_go(&self.store, before);
        }
        let within = |(shard, offset): &(ShardId, u64)| *shard == place.shard && *offset > SHARD_BEGIN;
        if self.positions.get(&place.tap).is_some_and(within) {
            // In mid-shard, after the source had been ended: what is kept for its beginning was kept then.
            self.fold.begin_shard(place.tap, place.shard, from);
            return Ok(());
        }
        // Damage there is passed over: it is the shard's beginning all the same.
        self.fold.begin_shard(place.tap, place.shard, SHARD_BEGIN);
        self.positions.insert(place.tap, (place.shard, SHARD_BEGIN));
        self.dirty = true;
        self.checkpoints.push(place.shard);
        // Recovery never cuts further back than the shard before the one that was being written.
        if self.checkpoints.len() > 2 {
            let oldest = self.checkpoints.remove(0);
            self.fold.output().batch.put_checkpoint(oldest, Vec::new());
        }
        let packets = self.fold.stats().packets;
        self.hand_over(Some(Keep { shard: place.shard, end: false, packets }))
    }

    /// Hands out packets to live viewers, and promises.
    fn publish(&mut self) -> Result<(), IndexerError> {
        let Some(hub) = &self.hub else { return Ok(()) };
        let media = std::mem::take(&mut self.fold.output().media);
        for live in &media {
            if hub.wanted(live.stream)
                && let Some(packet) = self.footage.media_packet(live.segment, &live.entry)?
            {
                hub.publish(live.stream, packet);
            }
        }
        let mut media = media;
        media.clear();
        self.fold.output().media = media;
        Ok(())
    }

    /// Answers subscriptions: everything before is committed first. To be called between steps.
    pub fn answer(&mut self) -> Result<(), IndexerError> {
        let Some(hub) = self.hub.clone() else { return Ok(()) };
        let requests = hub.take_requests();
        if !requests.is_empty() {
            self.commit()?;
            for request in requests {
                request.answer(self.latest);
            }
        }
        self.fold.output().live = hub.subscriptions() > 0;
        Ok(())
    }

    /// Commits when a second has passed since the last time; readers see it a little later.
    pub fn commit_if_due(&mut self) -> Result<(), IndexerError> {
        self.committer.look()?;
        if self.dirty && self.committed.elapsed() >= Duration::from_secs(1) {
            self.hand_over(None)?;
        }
        Ok(())
    }

    /// Commits what there is. Readers see it when this returns.
    pub fn commit(&mut self) -> Result<(), IndexerError> {
        self.committed = Instant::now();
        if self.dirty || !self.fold.output().batch.is_empty() {
            self.hand_over(None)?;
        }
        self.committer.wait()
    }

    /// Rows, state and positions are to be written in one piece; the state is kept besides if that is asked for.
    fn hand_over(&mut self, keep: Option<Keep>) -> Result<(), IndexerError> {
        self.committed = Instant::now();
        self.note_missed();
        self.fold.put_open();
        let mut batch = std::mem::take(&mut self.fold.output().batch);
        for (tap, (shard, offset)) in &self.positions {
            batch.put_position(*tap, *shard, *offset);
        }
        let saved = Saved { source: self.source, positions: self.positions.clone(), fold: self.fold.save() };
        self.committer.send(Commit { batch, saved, keep })?;
        self.dirty = false;
        Ok(())
    }

    /// The end of bulk indexing, behind which nothing is committed any more: everything is in tables, so that whoever opens the index next has no log to replay.
    pub fn finish(&mut self) -> Result<(), IndexerError> {
        self.commit()?;
        self.committer.close();
        Ok(self.index.settle()?)
    }

    /// The end is near: most of what is to be brought into tables then is brought there while the rest is folded.
    pub fn finish_ahead(&self) -> Result<(), IndexerError> {
        Ok(self.index.settle_ahead()?)
    }

    /// All packets of the source are folded: what waits for more is written.
    pub fn end_source(&mut self) -> Result<(), IndexerError> {
        self.note_missed();
        match self.goes_on() {
            Some(recording) => self.fold.suspend(recording),
            None => self.fold.end_source(),
        }
        self.in_shard.clear();
        self.dirty = true;
        self.publish()?;
        // Where only one tap's packets are left, there is nothing that a state could lie in the middle of.
        let last = self.feeds.iter().max_by_key(|f| (f.latest, f.tap())).filter(|_| self.feeds.len() > 1);
        let shard = last.and_then(|last| self.positions.get(&last.tap())).map(|position| position.0);
        let packets = self.fold.stats().packets;
        self.hand_over(shard.map(|shard| Keep { shard, end: true, packets }))?;
        self.committer.wait()
    }

    /// Tells the fold of what the journal says that taps missed: it explains gaps.
    fn note_missed(&mut self) {
        let missed = self.store.missed_since(&mut self.missed_read);
        if !missed.is_empty() {
            self.fold.retain_gaps(|shard| self.store.shard_info(shard).is_some());
        }
        for missed in missed {
            match missed {
                Missed::Dropped(Drops { tap, from, to, kernel, nic, ours, .. }) => {
                    let packets = kernel + nic + ours;
                    if packets > 0 {
                        self.fold.handle_drops(tap, (from, to), packets);
                    }
                }
                Missed::Away { tap, from, to } => self.fold.handle_absence(tap, (from, to)),
            }
        }
    }

    /// News since they were taken last.
    pub fn take_events(&mut self) -> Vec<FoldEvent> {
        std::mem::take(&mut self.fold.output().events)
    }

    /// Sessions' signs of life.
    pub fn observations(&self) -> Vec<Observation> {
        self.fold.observations().collect()
    }

    /// Counts since the index began.
    pub fn stats(&self) -> FoldStats {
        self.fold.stats()
    }

    /// Bytes of the source that are published and not folded.
    pub fn lag_bytes(&self) -> u64 {
        let mine = |s: &ShardInfo| self.feeds.iter().any(|f| f.tap() == s.tap);
        self.store.shards().iter().filter(|s| mine(s)).map(|s| self.unfolded_of(s)).sum()
    }

    /// Bytes of this and later sources that are published and not folded.
    pub fn unfolded_bytes(&self) -> u64 {
        let due = |s: &&ShardInfo| s.source >= self.source;
        self.store.shards().iter().filter(due).map(|s| self.unfolded_of(s)).sum()
    }

    fn unfolded_of(&self, shard: &ShardInfo) -> u64 {
        match self.positions.get(&shard.tap) {
            Some((at, _)) if shard.id < *at => 0,
            Some((at, offset)) if shard.id == *at => shard.bytes.saturating_sub(*offset),
            _ => shard.bytes,
        }
    }
}

fn head(feed: &Feed) -> Head {
    match (feed.head_time(), feed.watermark) {
        (Some(time), _) => Head::Packet(time),
        (None, Some(CaptureTime::MAX)) => Head::End,
        (None, Some(watermark)) => Head::Quiet(watermark),
        (None, None) => Head::Quiet(CaptureTime::MIN),
    }
}
