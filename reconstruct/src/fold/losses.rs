//! What the recorder itself missed, held against the gaps of what its taps heard.
//!
//! Drop counters are read once a second, and an interface that was away is told when it is back: a gap can be found before what
//! made it is known, and the other way round. Both orders give the same rows: drops go before an absence, and of either the earliest.

use crate::index::IndexBatch;
use crate::model::{GapCause, GapEvidence, GapRow};
use capture::{CaptureTime, ShardId, TapId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::time::Duration;

/// Gaps that can still be explained by losses that are told later: more than arise in the seconds until drops are.
const RECENT_GAPS_MAX: usize = 4096;
/// Spans of drops that are kept: a span a second for more than a day of continuous dropping. The oldest go first.
const DROPS_MAX: usize = 131_072;
/// Absences that are kept, likewise.
const ABSENCES_MAX: usize = 1024;

/// How far apart in time the counters of different taps may be read.
const READ_APART: Duration = Duration::from_secs(5);

/// A time in which a tap missed packets.
#[derive(Clone, Debug)]
struct Span {
    tap: TapId,
    from: CaptureTime,
    to: CaptureTime,
    evidence: GapEvidence,
}

impl Span {
    fn explains(&self, from: CaptureTime, to: CaptureTime, taps: &[TapId]) -> bool {
        self.from <= to && self.to >= from && taps.contains(&self.tap)
    }
}

/// A gap that may still be explained.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Unexplained {
    /// Its number in its segment and shard.
    n: u32,
    row: GapRow,
    /// The taps that its segment was heard on.
    taps: SmallVec<[TapId; 2]>,
}

/// Times in which taps missed packets, and the gaps of the last while.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Losses {
    /// Told anew after a restart, as are absences: they are in the journal.
    #[serde(skip)]
    drops: VecDeque<Span>,
    #[serde(skip)]
    absences: VecDeque<Span>,
    recent: VecDeque<Unexplained>,
}

impl Losses {
    /// `tap` dropped packets from `from` to `to`.
    pub fn handle_drops(
        &mut self,
        tap: TapId,
        (from, to): (CaptureTime, CaptureTime),
        packets: u64,
        batch: &mut IndexBatch,
    ) {
        let span = Span { tap, from, to, evidence: GapEvidence::Drops { tap, packets } };
        let dropped = |row: &GapRow| matches!(row.evidence, Some(GapEvidence::Drops { .. }));
        self.explain(&span, dropped, batch);
        push(&mut self.drops, span, DROPS_MAX);
    }

    /// The interface of `tap` was away from `from` to `to`.
    pub fn handle_absence(
        &mut self,
        tap: TapId,
        (from, to): (CaptureTime, CaptureTime),
        batch: &mut IndexBatch,
    ) {
        let span = Span { tap, from, to, evidence: GapEvidence::InterfaceAway { tap } };
        let proven = |row: &GapRow| {
            matches!(row.evidence, Some(GapEvidence::Drops { .. } | GapEvidence::InterfaceAway { .. }))
        };
        self.explain(&span, proven, batch);
        push(&mut self.absences, span, ABSENCES_MAX);
    }

    fn explain(&mut self, span: &Span, already: impl Fn(&GapRow) -> bool, batch: &mut IndexBatch) {
        for Unexplained { n, row, taps } in &mut self.recent {
            if span.explains(row.from, row.to, taps) && !already(row) {
                row.cause = GapCause::Recorder;
                row.evidence = Some(span.evidence.clone());
                batch.put_gap(*n, row);
            }
        }
    }

    /// What any of these taps missed in an interval.
    pub fn overlapping(&self, from: CaptureTime, to: CaptureTime, taps: &[TapId]) -> Option<GapEvidence> {
        // Spans of drops are short and come in the order of their ends, but for the few seconds by which taps may be read apart.
        let begin = self.drops.partition_point(|s| s.to < from.minus(READ_APART));
        let mut near = self.drops.iter().skip(begin).take_while(|s| s.from <= to.plus(READ_APART));
        let dropped = near.find(|s| s.explains(from, to, taps));
        let explained = dropped.or_else(|| self.absences.iter().find(|s| s.explains(from, to, taps)));
        explained.map(|s| s.evidence.clone())
    }

    /// A gap was written as the `n`th of its segment and shard.
    pub fn remember(&mut self, n: u32, row: GapRow, taps: SmallVec<[TapId; 2]>) {
        push(&mut self.recent, Unexplained { n, row, taps }, RECENT_GAPS_MAX);
    }

    /// Forgets gaps of shards that are not there any more: their rows went with them.
    pub fn retain(&mut self, there: impl Fn(ShardId) -> bool) {
        self.recent.retain(|gap| there(gap.row.shard));
    }
}

fn push<T>(all: &mut VecDeque<T>, one: T, most: usize) {
    if all.len() >= most {
        all.pop_front();
    }
    all.push_back(one);
}
