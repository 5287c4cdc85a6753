//! What the recorder itself dropped, held against the gaps.
//!
//! Drop counters are read once a second, so that a gap can be found before the drop that made it is known, and the other
//! way round. Both orders give the same rows.

use crate::index::IndexBatch;
use crate::model::{GapCause, GapEvidence, GapRow};
use capture::{CaptureTime, TapId};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// Gaps that can still be explained by drops that are told later: more than arise in the seconds until they are.
const RECENT_GAPS_MAX: usize = 4096;
/// Spans of drops that are kept: a span a second for more than a day of continuous dropping. The oldest go first.
const SPANS_MAX: usize = 131_072;

/// How far apart in time the counters of different taps may be read.
const READ_APART: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
struct Span {
    tap: TapId,
    from: CaptureTime,
    to: CaptureTime,
    packets: u64,
}

/// Intervals in which packets were dropped, and the gaps of the last while.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DropSpans {
    /// Told anew after a restart: they are in the journal.
    #[serde(skip)]
    spans: VecDeque<Span>,
    recent: VecDeque<(u32, GapRow)>,
}

impl DropSpans {
    /// `packets` were dropped from `from` to `to`.
    pub fn handle_drops(
        &mut self,
        tap: TapId,
        (from, to): (CaptureTime, CaptureTime),
        packets: u64,
        batch: &mut IndexBatch,
    ) {
        if packets == 0 {
            return;
        }
        if self.spans.len() >= SPANS_MAX {
            self.spans.pop_front();
        }
        self.spans.push_back(Span { tap, from, to, packets });
        for (n, row) in &mut self.recent {
            if row.from <= to && row.to >= from && row.cause != GapCause::Recorder {
                row.cause = GapCause::Recorder;
                row.evidence = Some(GapEvidence::Drops { tap, packets });
                batch.put_gap(*n, row);
            }
        }
    }

    /// The earliest drops in an interval.
    pub fn overlapping(&self, from: CaptureTime, to: CaptureTime) -> Option<(TapId, u64)> {
        // Spans come in the order of their ends, but for the few seconds by which taps may be read apart.
        let begin = self.spans.partition_point(|s| s.to < from.minus(READ_APART));
        let mut near = self.spans.iter().skip(begin).take_while(|s| s.from <= to.plus(READ_APART));
        near.find(|s| s.from <= to && s.to >= from).map(|s| (s.tap, s.packets))
    }

    /// A gap was written as the `n`th of its segment and shard.
    pub fn remember(&mut self, n: u32, row: GapRow) {
        if self.recent.len() >= RECENT_GAPS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((n, row));
    }
}
