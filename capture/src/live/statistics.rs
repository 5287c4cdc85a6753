//! A tap's statistics, second by second, on their way into their journal.

use super::counters::TapStats;
use crate::journal::{JournalRecord, Statistics, StatisticsRow};
use crate::{CaptureTime, Drops, TapId};

/// Rows of a journal record. What a kill takes away is at most this many seconds of statistics, never packets.
const ROWS: usize = 10;

/// Differences of a tap's totals since they were looked at last.
#[derive(Debug)]
pub(super) struct Seconds {
    tap: TapId,
    before: TapStats,
    at: CaptureTime,
    from: CaptureTime,
    rows: Vec<StatisticsRow>,
}

impl Seconds {
    pub fn new(tap: TapId, now: CaptureTime) -> Self {
        Self { tap, before: TapStats::default(), at: now, from: now, rows: Vec::with_capacity(ROWS) }
    }

    /// What comes from now on is another tap's. Gives what the journals are to know of the one before.
    pub fn go_on(&mut self, tap: TapId, stats: TapStats) -> Vec<JournalRecord> {
        let records = self.pass(stats, true);
        self.tap = tap;
        records
    }

    /// A second is over, by `stats.counted` it was so. Gives what the journals are to know: losses at once, since they explain gaps; statistics
    /// when there are [`ROWS`] of them, or it is the `last` time.
    pub fn pass(&mut self, stats: TapStats, last: bool) -> Vec<JournalRecord> {
        // As of when the counters were read, not of when they are asked for: else a loss could seem to lie behind the gap that it made.
        let now = stats.counted.unwrap_or(self.at);
        if now == self.at && !last {
            return Vec::new();
        }
        let (before, from) =
            (std::mem::replace(&mut self.before, stats.clone()), std::mem::replace(&mut self.at, now));
        let row = StatisticsRow {
            // A clock that was set back says nothing of how long it was.
            millis: u32::try_from((now.nanos_since(from) / 1_000_000).max(0)).unwrap_or(u32::MAX),
            received: stats.received - before.received,
            bytes: stats.bytes - before.bytes,
            dropped_kernel: stats.dropped_kernel - before.dropped_kernel,
            dropped_nic: stats.dropped_nic - before.dropped_nic,
            dropped_ours: stats.dropped_ours - before.dropped_ours,
            queued_bytes: stats.queued_bytes,
        };
        let drops = Drops {
            tap: self.tap,
            from,
            to: now,
            received: row.received,
            kernel: row.dropped_kernel,
            nic: row.dropped_nic,
            ours: row.dropped_ours,
        };
        let lost = drops.kernel + drops.nic + drops.ours > 0;
        if row.millis > 0 || row.received > 0 {
            self.rows.push(row);
        }
        let mut records: Vec<_> = lost.then_some(JournalRecord::Drops(drops)).into_iter().collect();
        if self.rows.len() >= ROWS || last && !self.rows.is_empty() {
            let rows = std::mem::replace(&mut self.rows, Vec::with_capacity(ROWS));
            let from = std::mem::replace(&mut self.from, now);
            records.push(JournalRecord::Statistics(Statistics { tap: self.tap, from, rows }));
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64, lost: u64) -> TapStats {
        TapStats {
            counted: Some(CaptureTime::from_nanos(1_000_000_000 * n.cast_signed())),
            received: 100 * n + lost,
            packets: 100 * n,
            bytes: 50_000 * n,
            dropped_ours: lost,
            ..TapStats::default()
        }
    }

    #[test]
    fn rows_add_up_to_the_totals_and_losses_are_told_at_once() {
        let at = |s: u64| CaptureTime::from_nanos(1_000_000_000 * s.cast_signed());
        let mut seconds = Seconds::new(TapId(4), at(0));
        let mut records = Vec::new();
        for n in 1..=25 {
            let told = seconds.pass(second(n, if n >= 7 { 3 } else { 0 }), n == 25);
            let lost = told
                .iter()
                .any(|r| matches!(r, JournalRecord::Drops(d) if (d.ours, d.from, d.to) == (3, at(6), at(7))));
            assert_eq!(lost, n == 7);
            records.extend(told);
        }
        let told: Vec<Statistics> = records
            .into_iter()
            .filter_map(|r| match r {
                JournalRecord::Statistics(s) => Some(s),
                _ => None,
            })
            .collect();
        assert_eq!(
            told.iter().map(|s| (s.from, s.rows.len())).collect::<Vec<_>>(),
            [(at(0), 10), (at(10), 10), (at(20), 5)]
        );
        let rows = || told.iter().flat_map(|s| &s.rows);
        assert!(rows().all(|r| r.millis == 1_000));
        assert_eq!(rows().map(|r| r.received).sum::<u64>(), 2_503);
        assert_eq!(rows().map(|r| r.bytes).sum::<u64>(), 1_250_000);
        assert_eq!(rows().map(|r| r.dropped_ours).sum::<u64>(), 3);
    }
}
