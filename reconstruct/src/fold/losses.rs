//! What the recorder itself missed, held against the gaps.
//!
//! Drop counters are read once a second, and an interface that was away is told when it is back: a gap can be found before what
//! made it is known, and the other way round. Both orders give the same rows.

use crate::index::IndexBatch;
use crate::model::{GapCause, GapEvidence, GapRow};
use capture::CaptureTime;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// Gaps that can still be explained by losses that are told later: more than arise in the seconds until they are.
const RECENT_GAPS_MAX: usize = 4096;
/// Spans that are kept: a span a second for more than a day of continuous dropping. The oldest go first.
const SPANS_MAX: usize = 131_072;

/// How far apart in time different taps may tell theirs.
const READ_APART: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
struct Span {
    from: CaptureTime,
    to: CaptureTime,
    evidence: GapEvidence,
}

/// Intervals in which a tap missed packets, and the gaps of the last while.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Losses {
    /// Told anew after a restart: they are in the journal.
    #[serde(skip)]
    spans: VecDeque<Span>,
    recent: VecDeque<(u32, GapRow)>,
}

impl Losses {
    /// A tap missed packets from `from` to `to`.
    pub fn handle_loss(
        &mut self,
        (from, to): (CaptureTime, CaptureTime),
        evidence: GapEvidence,
        batch: &mut IndexBatch,
    ) {
        if self.spans.len() >= SPANS_MAX {
            self.spans.pop_front();
        }
        for (n, row) in &mut self.recent {
            if row.from <= to && row.to >= from && !proven(row) {
                row.cause = GapCause::Recorder;
                row.evidence = Some(evidence.clone());
                batch.put_gap(*n, row);
            }
        }
        self.spans.push_back(Span { from, to, evidence });
    }

    /// The earliest loss in an interval.
    pub fn overlapping(&self, from: CaptureTime, to: CaptureTime) -> Option<GapEvidence> {
        // Spans come in the order of their ends, but for the few seconds by which taps may be read apart.
        let begin = self.spans.partition_point(|s| s.to < from.minus(READ_APART));
        let mut near = self.spans.iter().skip(begin).take_while(|s| s.from <= to.plus(READ_APART));
        near.find(|s| s.from <= to && s.to >= from).map(|s| s.evidence.clone())
    }

    /// A gap was written as the `n`th of its segment and shard.
    pub fn remember(&mut self, n: u32, row: GapRow) {
        if self.recent.len() >= RECENT_GAPS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((n, row));
    }
}

/// Whether what a tap missed explains the gap already.
fn proven(row: &GapRow) -> bool {
    matches!(row.evidence, Some(GapEvidence::Drops { .. } | GapEvidence::InterfaceAway { .. }))
}
