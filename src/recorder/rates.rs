//! Rates of late: totals now against totals a few seconds ago, so that the display neither jumps nor lags.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(3);
/// One entry a second fits in the window several times over.
const ENTRIES_MAX: usize = 64;

/// Totals of the last few seconds.
#[derive(Debug, Default)]
pub struct Rates {
    totals: VecDeque<(Instant, u64, u64)>,
}

impl Rates {
    /// Takes the totals at `at` and gives packets and bytes a second.
    pub fn update(&mut self, at: Instant, packets: u64, bytes: u64) -> (f64, f64) {
        self.totals.push_back((at, packets, bytes));
        while self.totals.len() > ENTRIES_MAX
            || (self.totals.len() > 2
                && self.totals.get(1).is_some_and(|(t, ..)| at.duration_since(*t) >= WINDOW))
        {
            self.totals.pop_front();
        }
        let Some(&(since, before_packets, before_bytes)) = self.totals.front() else { return (0.0, 0.0) };
        let seconds = at.duration_since(since).as_secs_f64();
        if seconds <= 0.0 {
            return (0.0, 0.0);
        }
        (
            packets.saturating_sub(before_packets) as f64 / seconds,
            bytes.saturating_sub(before_bytes) as f64 / seconds,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_the_last_seconds() {
        let start = Instant::now();
        let mut rates = Rates::default();
        let mut last = (0.0, 0.0);
        for second in 0..10 {
            last = rates.update(start + Duration::from_secs(second), second * 1_000, second * 500_000);
        }
        assert_eq!(last, (1_000.0, 500_000.0));
        for second in 10..14 {
            last = rates.update(start + Duration::from_secs(second), 9_000, 4_500_000);
        }
        assert_eq!(last, (0.0, 0.0), "what stopped is soon shown as stopped");
    }
}
