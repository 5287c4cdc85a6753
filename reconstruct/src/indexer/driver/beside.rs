//! One driver beside another, which folds the same packets into another index: how far each is, and whether retention is faster.

use super::{Driver, Step};
use crate::indexer::error::IndexerError;
use crate::indexer::feed::Feed;
use capture::{ShardId, TapId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long folding up to a place takes at the most that is a few MiB away.
const REACH: Duration = Duration::from_secs(5);
/// Before a tap's first packet.
const NOWHERE: (ShardId, u64) = (ShardId(0), 0);

impl Driver {
    /// From now on it is looked whether retention deletes what is not folded yet. `gone` is what it had deleted of the source's taps before it was
    /// decided what to begin with.
    pub fn watch_retention(&mut self, gone: BTreeMap<TapId, (ShardId, u64)>) {
        self.passed = gone;
        self.is_overtaken();
    }

    /// Whether retention has deleted something that was not folded when this was last asked.
    pub fn is_overtaken(&mut self) -> bool {
        let Self { passed, store, positions, .. } = self;
        let mut overtaken = false;
        for (tap, passed) in passed {
            overtaken |= store.trimmed(*tap).last > Some(*passed);
            *passed = positions.get(tap).copied().map_or(*passed, |at| at.max(*passed));
        }
        overtaken
    }

    /// Follows another in the place that it had: live, what was counted of packets too late or unreadable goes on.
    pub fn succeed(&mut self, before: &mut Self) {
        self.skew_exceeded = before.skew_exceeded;
        self.unreadable_bytes = before.unreadable_bytes;
        self.latest = before.latest;
        self.fold.output().events = before.take_events();
        self.fold.output().live = before.hub.as_ref().is_some_and(|hub| hub.subscriptions() > 0);
    }

    /// Whether numbers mean the same in both.
    pub fn numbers_as(&self, other: &Self) -> bool {
        self.fold.next_ids() == other.fold.next_ids() && self.fold.names_as(&other.fold)
    }

    /// Folds exactly up to there, which is published already; a tap that is not named, or is further, stays where it is.
    pub fn reach(&mut self, positions: &BTreeMap<TapId, (ShardId, u64)>) -> Result<(), IndexerError> {
        let bound = |feed: &Feed| (feed.tap(), positions.get(&feed.tap()).copied().unwrap_or(NOWHERE));
        self.bounds = self.feeds.iter().map(bound).collect();
        let reached = self.step_to_bounds();
        self.bounds.clear();
        reached
    }

    fn step_to_bounds(&mut self) -> Result<(), IndexerError> {
        let give_up = Instant::now() + REACH;
        while !self.feeds.iter().all(|feed| self.is_bound(feed)) {
            if self.step()? == Step::Folded {
                self.commit_if_due()?;
            } else if Instant::now() > give_up {
                return Err(IndexerError::Behind);
            } else {
                self.store.wait(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// Whether a tap is folded to its bound.
    pub(super) fn is_bound(&self, feed: &Feed) -> bool {
        let Some(bound) = self.bounds.get(&feed.tap()) else { return false };
        let at = || self.positions.get(&feed.tap()).copied().unwrap_or(NOWHERE);
        feed.head_place().unwrap_or_else(at) >= *bound
    }
}
