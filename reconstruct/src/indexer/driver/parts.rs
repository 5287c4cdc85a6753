//! A recording of several parts, and the sources that are folded between them.

use super::{Driver, Mode};
use crate::footage::LiveHub;
use crate::indexer::ahead::Dissectors;
use crate::indexer::error::IndexerError;
use capture::{CaptureTime, SourceId, SourceInfo, SourceKind};

/// What a recording that rests comes back to.
pub struct Paused {
    hub: Option<LiveHub>,
    latest: CaptureTime,
}

impl Driver {
    /// A recording that rests goes on with its next part; or it is over, if there is none any more.
    pub(super) fn wake(&mut self, source: SourceId) {
        let Some(recording) = self.fold.rests() else { return };
        let sources = self.store.sources();
        let part = |s: &&SourceInfo| s.recording() == recording;
        match sources.iter().find(|s| s.id == source) {
            Some(next) if part(&next) => self.fold.resume(),
            Some(SourceInfo { kind: SourceKind::File { .. }, .. })
                if sources.iter().filter(part).any(|s| s.id > source) => {}
            // An empty one that was to be the next part and did not come to be.
            Some(SourceInfo { complete: true, packets: 0, .. })
                if sources.iter().filter(part).any(|s| s.id > source) => {}
            _ => {
                self.fold.resume();
                self.fold.end_source();
            }
        }
    }

    /// The recording of the source, if that goes on in a later part.
    pub(super) fn goes_on(&self) -> Option<SourceId> {
        let sources = self.store.sources();
        let recording = sources.iter().find(|s| s.id == self.source).map(SourceInfo::recording)?;
        sources.iter().any(|s| s.id > self.source && s.recording() == recording).then_some(recording)
    }

    /// What is folded from now on is not live: on all cores, and not for those who watch.
    pub fn leave_live(&mut self) -> Result<Paused, IndexerError> {
        self.dissectors = Some(Dissectors::start()?);
        self.mode = Mode::Bulk;
        self.fold.output().live = false;
        Ok(Paused { hub: self.hub.take(), latest: self.latest })
    }

    /// Follows a recording again.
    pub fn be_live(&mut self, paused: Paused) {
        self.dissectors = None;
        self.mode = Mode::Live;
        (self.hub, self.latest) = (paused.hub, paused.latest);
        self.fold.output().live = self.hub.as_ref().is_some_and(|hub| hub.subscriptions() > 0);
    }
}
