//! Scenarios: what is captured of a camera and a VMS, and what the index says afterwards.

mod resume;
pub(crate) mod scenarios;
pub(crate) mod wire;

use super::{Descriptor, Fold, Limits, Place};
use crate::index::Index;
use crate::model::{GapRow, SegmentPart, StreamRow};
use capture::{LinkType, RecordView, ShardId, SourceId, TapId};
use wire::Captured;

/// The fold with an index behind it, and shards that are only thought of.
struct Bench {
    fold: Fold,
    index: Index,
    shard: u64,
    offset: u64,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let index = Index::open(dir.path()).expect("an index");
        let mut fold = Fold::new(Limits::default());
        fold.begin_source(SourceId(1));
        Self { fold, index, shard: 1, offset: 24, _dir: dir }
    }

    fn take(&mut self, frame: &Captured) {
        let place = Place { tap: TapId(frame.tap), shard: ShardId(self.shard), link: LinkType::ETHERNET };
        let record = RecordView {
            offset: self.offset,
            time: frame.time,
            original_len: frame.data.len() as u32,
            data: &frame.data,
        };
        let d = Descriptor::new(place.link, &record, self.fold.hasher());
        self.fold.handle(&place, &d, &frame.data);
        self.offset += 16 + frame.data.len() as u64;
    }

    fn take_all(&mut self, frames: &[Captured]) {
        for frame in frames {
            self.take(frame);
        }
    }

    /// What follows lies in another shard.
    fn next_shard(&mut self) {
        self.shard += 1;
        self.offset = 24;
        self.fold.begin_shard(TapId(1), ShardId(self.shard), 24);
    }

    /// The recorder is started anew: taps and shards are others.
    fn next_source(&mut self) {
        self.fold.end_source();
        self.commit();
        self.crash();
        self.fold.begin_source(SourceId(self.fold.source().0 + 1));
        self.shard += 1;
        self.offset = 24;
    }

    fn commit(&mut self) {
        self.fold.put_open();
        let batch = std::mem::take(&mut self.fold.output().batch);
        self.index.commit(batch).expect("a commit");
    }

    /// As after a crash: only what is saved is known.
    fn crash(&mut self) {
        let saved = self.fold.save();
        self.fold = Fold::restore(&saved).expect("a state");
    }

    fn finish(mut self) -> Outcome {
        self.fold.end_source();
        self.commit();
        let mut dump = Vec::new();
        self.index.dump(&mut dump).expect("a dump");
        let mut streams = self.index.streams().expect("streams");
        streams.sort_by_key(|s| s.id);
        let of_stream = |s: &StreamRow| self.index.parts(s.id).expect("parts");
        let parts = streams.iter().map(of_stream).collect();
        let gaps = streams.iter().map(|s| self.index.gaps(s.id).expect("gaps")).collect();
        Outcome { dump: String::from_utf8(dump).expect("text"), streams, parts, gaps, fold: self.fold }
    }
}

/// What the index says.
struct Outcome {
    dump: String,
    streams: Vec<StreamRow>,
    /// Of each stream.
    parts: Vec<Vec<SegmentPart>>,
    /// Of each stream.
    gaps: Vec<Vec<GapRow>>,
    fold: Fold,
}

impl Outcome {
    fn names(&self) -> Vec<&str> {
        self.streams.iter().map(|s| s.name.as_str()).collect()
    }

    fn sum(&self, stream: usize, of: impl Fn(&SegmentPart) -> u64) -> u64 {
        self.parts[stream].iter().map(of).sum()
    }

    fn segments(&self, stream: usize) -> usize {
        let mut all: Vec<_> = self.parts[stream].iter().map(|p| p.segment).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    }
}

fn fold(frames: &[Captured]) -> Outcome {
    let mut bench = Bench::new();
    bench.take_all(frames);
    bench.finish()
}
