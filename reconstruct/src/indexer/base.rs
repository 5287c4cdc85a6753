//! What a source's indexing begins with, when it begins anew: nothing, if all of it is retained, else a state that was kept.
//!
//! A source of one tap begins with the state of its oldest retained shard. Of a source of several, the state has to lie behind
//! everything that was deleted, and so may lie behind the beginning of other taps' shards: their rows were kept with it
//! (see `retain`). Without a state that fits, a source is read as if its capture had begun with what is left of it.

use super::bulk::taps_of;
use super::kept::{Rest, State};
use super::saved::Saved;
use crate::index::Row;
use capture::{ShardId, ShardInfo, SourceId, Store, TapId};

/// See the module's text.
#[derive(Debug)]
pub enum Base {
    /// The fold as it is: nothing is missing before the source's packets, or nothing is left of it.
    Whole,
    /// This state, and rows of footage that lies before it.
    Kept(Box<Saved>, Vec<Row>),
    /// Something was deleted, and no state that fits is there.
    Unknown,
}

/// What `source` begins with after `folded` packets of those before it.
pub fn find(store: &Store, source: SourceId, folded: u64) -> Base {
    let of_source = Of::new(store, source);
    if of_source.shards.is_empty() {
        return Base::Whole;
    }
    match of_source.with_rest().or_else(|| of_source.without_rest()) {
        Some((state, _, _)) if state.packets == folded => Base::Whole,
        Some((_, saved, rows)) => Base::Kept(Box::new(saved), rows),
        None if anything_gone(store, source) => Base::Unknown,
        None => Base::Whole,
    }
}

/// A shard whose deletion was prepared and, as a crash will have it, not carried out.
pub fn half_deleted(store: &Store, source: SourceId) -> Option<ShardId> {
    let of_source = Of::new(store, source);
    let mut found = of_source.rests().filter(|(rest, _, saved)| {
        let covers: Vec<_> = rest.covers.iter().copied().chain([rest.leaving]).collect();
        !of_source.fits(saved, &rest.covers) && of_source.fits(saved, &covers)
    });
    found.next().map(|(rest, ..)| rest.leaving)
}

type Found = (State, Saved, Vec<Row>);

/// A source's taps and what is retained of it.
struct Of<'a> {
    store: &'a Store,
    taps: Vec<TapId>,
    shards: Vec<ShardInfo>,
}

impl<'a> Of<'a> {
    fn new(store: &'a Store, source: SourceId) -> Self {
        let shards = store.shards().into_iter().filter(|s| s.source == source).collect();
        Self { store, taps: taps_of(store, source), shards }
    }

    /// Whether nothing that was deleted lies behind a state, and nothing that is retained before it but what is covered.
    fn fits(&self, saved: &Saved, covers: &[ShardId]) -> bool {
        let behind = |tap: &TapId| match self.store.trimmed(*tap).last {
            Some(last) => saved.positions.get(tap).is_some_and(|at| *at >= last),
            None => true,
        };
        self.taps.iter().all(behind)
            && self.shards.iter().all(|s| !begun(saved, s.tap, s.id) || covers.contains(&s.id))
    }

    fn rests(&self) -> impl Iterator<Item = (Rest, State, Saved)> {
        self.shards.iter().filter_map(|s| {
            let rest = Rest::read(self.store, s.id)?;
            let read = if rest.end { State::read_end } else { State::read };
            let (state, saved) = read(self.store, rest.state)?;
            Some((rest, state, saved))
        })
    }

    /// The state that the last deletion left, with what lies before it.
    fn with_rest(&self) -> Option<Found> {
        let (rest, state, saved) = self.rests().find(|(rest, _, saved)| self.fits(saved, &rest.covers))?;
        Some((state, saved, rest.rows))
    }

    /// The state of the shard that was come to first, if nothing lies before it.
    fn without_rest(&self) -> Option<Found> {
        let first = |tap: &TapId| self.shards.iter().find(|s| s.tap == *tap);
        let states = self.taps.iter().filter_map(first).filter_map(|s| State::read(self.store, s.id));
        let (state, saved) = states.min_by_key(|(state, _)| state.packets)?;
        self.fits(&saved, &[]).then_some((state, saved, Vec::new()))
    }
}

/// Whether a state lies behind the beginning of a tap's shard.
pub fn begun(saved: &Saved, tap: TapId, shard: ShardId) -> bool {
    saved
        .positions
        .get(&tap)
        .is_some_and(|&(at, offset)| shard < at || shard == at && offset > capture::SHARD_HEADER_LEN)
}

/// Whether retention deleted anything up to this source.
fn anything_gone(store: &Store, source: SourceId) -> bool {
    let sources = store.sources();
    let before = || sources.iter().filter(|s| s.id <= source);
    // Of a recording nothing is known any more once nothing is left of it.
    before().count() < source.0 as usize
        || before().any(|s| {
            let taps = taps_of(store, s.id);
            taps.iter().any(|tap| store.trimmed(*tap).shards > 0) || taps.is_empty() && s.packets > 0
        })
}
