//! When a packet is due: presentation time from capture times, and the wall clock of sending from presentation time.
//!
//! Presentation time starts at 0 with the first packet of a PLAY and runs as the captured times do, with three exceptions,
//! the same for all tracks of a session: time without any footage is shortened to [`GAP_SHOWN_NS`] once it is longer
//! than [`GAP_KEPT_NS`] (VLC takes 10 s of silence for the end); a capture clock that was set back does not
//! take presentation back; what lies before the requested time (the pre-roll from the clean point) is due at once.
//! Live, packets are due when they come, and a jump of the capture clock is measured by our own clock instead.
//! Pure: capture times and `now` in, instants out.

use capture::CaptureTime;
use std::time::{Duration, Instant};

/// Silence up to so long is kept as it was.
pub const GAP_KEPT_NS: i64 = 5_000_000_000;
/// What is left of a longer silence.
pub const GAP_SHOWN_NS: i64 = 1_000_000_000;
/// A capture time so far behind its predecessor is a clock that was set back, not reordering.
const BACK_NS: i64 = 1_000_000_000;

/// Nanoseconds since the start of a play, on which all its tracks agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Presentation(pub i64);

/// Where the packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// From the store: sending is timed by the captured times, `preroll` before the requested time is sent at once.
    Recorded {
        /// Presentation time of what was asked for.
        preroll: Duration,
    },
    /// From the recorder: the packets come when they are due.
    Live,
}

/// The clock of one PLAY.
#[derive(Clone, Debug)]
pub struct Pacer {
    mode: Mode,
    started: Instant,
    /// Capture time of presentation time 0 as if nothing had been left out: moves when time is skipped.
    zero: CaptureTime,
    last: i64,
    /// When the last packet was placed, for live jumps.
    placed: Instant,
}

impl Pacer {
    /// Presentation begins at `first`, the capture time of the first packet.
    pub fn new(mode: Mode, first: CaptureTime, now: Instant) -> Self {
        Self { mode, started: now, zero: first, last: 0, placed: now }
    }

    /// Sending begins now: the client has its answer. Called before the first packet is due.
    pub fn start(&mut self, now: Instant) {
        self.started = now;
        self.placed = now;
    }

    /// Presentation time of a packet. Packets are placed in the order in which they are sent.
    pub fn place(&mut self, time: CaptureTime, now: Instant) -> Presentation {
        let mut p = time.nanos_since(self.zero);
        let step = p.saturating_sub(self.last);
        if !(-BACK_NS..=GAP_KEPT_NS).contains(&step) {
            let shown = match self.mode {
                _ if step < 0 => 0,
                Mode::Recorded { .. } => GAP_SHOWN_NS,
                Mode::Live => nanos(now.saturating_duration_since(self.placed)),
            };
            let kept = self.last.saturating_add(shown);
            if let Mode::Recorded { preroll } = &mut self.mode
                && p > kept
            {
                // A gap inside the pre-roll shortens it: what follows the gap is not to be hurried.
                let left_out = Duration::from_nanos(p.saturating_sub(kept).unsigned_abs());
                *preroll = preroll.saturating_sub(left_out);
            }
            self.zero = CaptureTime::from_nanos(time.nanos().saturating_sub(kept));
            p = kept;
        }
        self.last = self.last.max(p);
        self.placed = now;
        Presentation(p)
    }

    /// When a packet is to be sent.
    pub fn due(&self, p: Presentation) -> Instant {
        match self.mode {
            Mode::Live => self.started,
            Mode::Recorded { preroll } => {
                let ahead = Duration::from_nanos(u64::try_from(p.0).unwrap_or(0));
                // A day of presentation time per play is more than an instant can't hold.
                self.started.checked_add(ahead.saturating_sub(preroll)).unwrap_or(self.started)
            }
        }
    }

    /// The presentation time that the wall clock shows now, for sender reports.
    pub fn now(&self, now: Instant) -> Presentation {
        Presentation(nanos(now.saturating_duration_since(self.started)))
    }
}

fn nanos(d: Duration) -> i64 {
    i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    fn at(ms: i64) -> CaptureTime {
        CaptureTime::from_nanos(1_700_000_000_000_000_000 + ms * MS)
    }

    fn recorded(preroll_ms: u64) -> (Pacer, Instant) {
        let now = Instant::now();
        (Pacer::new(Mode::Recorded { preroll: Duration::from_millis(preroll_ms) }, at(0), now), now)
    }

    #[test]
    fn the_preroll_is_a_burst_and_the_rest_follows_the_original_times() {
        let (mut p, t0) = recorded(2000);
        for (ms, due) in [(0, 0), (1999, 0), (2000, 0), (2040, 40), (5000, 3000)] {
            let place = p.place(at(ms), t0);
            assert_eq!(p.due(place), t0 + Duration::from_millis(due), "{ms}");
        }
    }

    #[test]
    fn a_long_gap_is_shortened_and_a_short_one_kept() {
        let (mut p, t0) = recorded(0);
        let mut due = |ms| {
            let place = p.place(at(ms), t0);
            p.due(place).duration_since(t0).as_millis()
        };
        assert_eq!(due(0), 0);
        assert_eq!(due(4_900), 4_900);
        assert_eq!(due(3_600_000), 5_900);
        assert_eq!(due(3_600_040), 5_940);
        // Reordering by less than a second is no step.
        assert_eq!(due(3_600_030), 5_930);
    }

    #[test]
    fn a_clock_that_was_set_back_goes_on() {
        let (mut p, t0) = recorded(0);
        let mut due = |ms| {
            let place = p.place(at(ms), t0);
            p.due(place).duration_since(t0).as_millis()
        };
        assert_eq!(due(10), 10);
        assert_eq!(due(-3_600_000), 10);
        assert_eq!(due(-3_599_960), 50);
    }

    #[test]
    fn live_is_due_at_once_and_jumps_are_measured_by_our_clock() {
        let t0 = Instant::now();
        let mut p = Pacer::new(Mode::Live, at(0), t0);
        let place = p.place(at(100), t0);
        assert_eq!((place, p.due(place)), (Presentation(100 * MS), t0));
        let later = t0 + Duration::from_millis(40);
        assert_eq!(p.place(at(3_600_100), later), Presentation(140 * MS));
        assert_eq!(p.place(at(3_600_140), later), Presentation(180 * MS));
    }

    proptest! {
        /// Whatever the capture times, nothing is due before its predecessor by more than reordering, nor long after it.
        #[test]
        fn due_times_never_jump(times in proptest::collection::vec(any::<i64>(), 1..60)) {
            let t0 = Instant::now();
            let mut p = Pacer::new(Mode::Recorded { preroll: Duration::ZERO }, CaptureTime::from_nanos(times[0]), t0);
            let mut last = 0;
            for t in times {
                let place = p.place(CaptureTime::from_nanos(t), t0);
                prop_assert!(place.0 - last <= GAP_KEPT_NS && place.0 - last >= -BACK_NS, "{} {}", last, place.0);
                last = last.max(place.0);
            }
        }
    }
}
