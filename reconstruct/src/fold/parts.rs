//! A recording that goes on in a later source: what is open in it rests while the sources in between are folded.

use super::engine::Fold;
use super::sweep;
use capture::SourceId;
use serde::{Deserialize, Serialize};

/// A recording that rests while other sources are folded.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Resting {
    /// Its first part.
    pub recording: SourceId,
    pub fold: Box<Fold>,
}

impl Fold {
    /// The recording that rests, if one does, by its first part.
    pub fn rests(&self) -> Option<SourceId> {
        self.resting.as_ref().map(|resting| resting.recording)
    }

    /// The source is at its end and goes on in a later one: what is open in it rests meanwhile. Once it rests this changes nothing.
    pub fn suspend(&mut self, recording: SourceId) {
        if self.rests().is_some() {
            return;
        }
        let Self { world, flows, .. } = self;
        for state in &self.taps {
            world.end_shard(state.tap, state.shard);
            flows.end_shard(state.tap, state.shard, &mut world.out.batch);
        }
        sweep::note_kinds(self);
        self.world.forget_written();
        self.put_open();
        self.flows.leave_taps();
        for (_, track) in self.world.tracks.iter_mut() {
            track.sources.iter_mut().for_each(|source| source.segment.leave_taps());
        }
        self.taps.clear();
        let mut next = Self::new(self.world.limits);
        next.hasher = self.hasher.clone();
        next.tcp_limits = self.tcp_limits;
        next.world.take_common(&mut self.world);
        let resting = std::mem::replace(self, next);
        self.resting = Some(Resting { recording, fold: Box::new(resting) });
    }

    /// What was suspended goes on.
    pub fn resume(&mut self) {
        let Some(resting) = self.resting.take() else { return };
        let mut others = std::mem::replace(self, *resting.fold);
        self.world.take_common(&mut others.world);
    }
}
