//! Notices when the recorder's clock is set: capture times before and after don't belong to one scale then.

use crate::CaptureTime;
use std::time::Duration;

/// Smaller changes between two looks are the clock being steered (NTP slews at most 0.5 ms a second), not set.
const STEP_NANOS_MIN: i64 = 50_000_000;

/// Compares the wall clock with one that nobody sets. Pure: the times are arguments.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockWatch {
    /// Wall clock minus monotonic clock at the last look, in nanoseconds.
    offset: Option<i64>,
}

impl ClockWatch {
    /// To be called about once a second with both clocks read together. When the wall clock was set since the last look: the time that it would
    /// show, and by how many nanoseconds it was moved.
    pub fn look(&mut self, wall: CaptureTime, monotonic: Duration) -> Option<(CaptureTime, i64)> {
        let offset = wall.nanos().saturating_sub(i64::try_from(monotonic.as_nanos()).unwrap_or(i64::MAX));
        let moved = offset.saturating_sub(self.offset.replace(offset)?);
        (moved.abs() >= STEP_NANOS_MIN)
            .then(|| (CaptureTime::from_nanos(wall.nanos().saturating_sub(moved)), moved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_noticed_once_and_steering_is_not() {
        let mut watch = ClockWatch::default();
        let mut look = |wall_ms: i64, monotonic_ms: u64| {
            watch.look(CaptureTime::from_nanos(wall_ms * 1_000_000), Duration::from_millis(monotonic_ms))
        };
        assert_eq!(look(1_000_000, 10), None);
        assert_eq!(look(1_001_000, 1_010), None);
        assert_eq!(look(1_002_001, 2_010), None);
        let hour = 3_600_000;
        assert_eq!(
            look(1_003_001 - hour, 3_010),
            Some((CaptureTime::from_nanos(1_003_001_000_000), -hour * 1_000_000))
        );
        assert_eq!(look(1_004_001 - hour, 4_010), None);
    }
}
