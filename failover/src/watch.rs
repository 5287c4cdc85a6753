//! One thing that should keep giving signs of life, judged with hysteresis.
//!
//! It learns the longest usual pause first, so that a VMS that reports every five seconds is not called dead after three,
//! and it believes a return only when the signs go on for a while.

use capture::CaptureTime;
use std::time::Duration;

/// How patient a watch is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Never failed before this.
    pub(crate) silent_min: Duration,
    /// Always failed after this, whatever was learned.
    pub(crate) silent_max: Duration,
    /// Failed after this many of the longest usual pause.
    pub(crate) pauses: u32,
    /// Signs must go on for this long before a return is believed.
    pub(crate) back_after: Duration,
    /// Signs seen before anything is judged: what never spoke can't fall silent.
    pub(crate) learn_signs: u32,
}

/// What a watch decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Silent for too long.
    Failed { since: CaptureTime },
    /// Alive again, steadily.
    Back { after: Duration },
}

#[derive(Clone, Copy, Debug)]
enum State {
    Alive,
    Failed {
        since: CaptureTime,
    },
    /// Signs again since `first`; not believed yet.
    Returning {
        since: CaptureTime,
        first: CaptureTime,
    },
}

/// The state of one watched side.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    state: State,
    last_sign: CaptureTime,
    signs: u32,
    /// The longest pause between two signs while alive, halved slowly so that one odd pause is forgotten.
    longest_pause: Duration,
}

impl Watch {
    pub(crate) fn new(now: CaptureTime) -> Self {
        Self { state: State::Alive, last_sign: now, signs: 0, longest_pause: Duration::ZERO }
    }

    pub(crate) fn has_failed(&self) -> bool {
        !matches!(self.state, State::Alive)
    }

    /// A sign of life was seen at `now`.
    pub(crate) fn sign(&mut self, now: CaptureTime, patience: &Patience) -> Option<Verdict> {
        let pause = duration(self.last_sign, now);
        self.last_sign = self.last_sign.max(now);
        match self.state {
            State::Alive => {
                if self.signs > 0 {
                    self.learn(pause);
                }
                self.signs = self.signs.saturating_add(1);
                None
            }
            State::Failed { since } => {
                self.state = State::Returning { since, first: now };
                None
            }
            State::Returning { since, first } if duration(first, now) >= patience.back_after => {
                self.state = State::Alive;
                Some(Verdict::Back { after: duration(since, first) })
            }
            State::Returning { .. } => None,
        }
    }

    /// Time passed without a sign.
    pub(crate) fn silence(&mut self, now: CaptureTime, patience: &Patience) -> Option<Verdict> {
        let limit = self.limit(patience);
        let silent = duration(self.last_sign, now);
        match self.state {
            State::Alive if self.signs >= patience.learn_signs && silent > limit => {
                self.state = State::Failed { since: self.last_sign };
                Some(Verdict::Failed { since: self.last_sign })
            }
            // It was a twitch: the failure goes on, and was already told.
            State::Returning { since, .. } if silent > limit => {
                self.state = State::Failed { since };
                None
            }
            _ => None,
        }
    }

    /// The silence until now doesn't count: nobody could have been heard, or nothing was due.
    pub(crate) fn excuse(&mut self, now: CaptureTime) {
        if matches!(self.state, State::Alive) {
            self.last_sign = self.last_sign.max(now);
        }
    }

    fn learn(&mut self, pause: Duration) {
        let faded = self.longest_pause - self.longest_pause / 64;
        self.longest_pause = faded.max(pause);
    }

    fn limit(&self, patience: &Patience) -> Duration {
        (self.longest_pause * patience.pauses).clamp(patience.silent_min, patience.silent_max)
    }
}

/// How long it is from `earlier` to `later`; nothing when the clock stepped backward.
fn duration(earlier: CaptureTime, later: CaptureTime) -> Duration {
    Duration::from_nanos(u64::try_from(later.nanos_since(earlier)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        silent_min: Duration::from_secs(3),
        silent_max: Duration::from_secs(90),
        pauses: 3,
        back_after: Duration::from_secs(2),
        learn_signs: 3,
    };

    fn at(seconds: i64) -> CaptureTime {
        CaptureTime::from_secs_nanos(1_000_000 + seconds, 0)
    }

    fn alive_with_pauses_of(pause: i64) -> (Watch, i64) {
        let mut watch = Watch::new(at(0));
        for n in 1..=10 {
            assert_eq!(watch.sign(at(n * pause), &PATIENCE), None);
        }
        (watch, 10 * pause)
    }

    #[test]
    fn silence_is_judged_by_the_usual_pause() {
        let (mut watch, last) = alive_with_pauses_of(5);
        assert_eq!(watch.silence(at(last + 15), &PATIENCE), None);
        assert_eq!(watch.silence(at(last + 16), &PATIENCE), Some(Verdict::Failed { since: at(last) }));
        assert_eq!(watch.silence(at(last + 17), &PATIENCE), None, "told once");
    }

    #[test]
    fn a_return_must_last() {
        let (mut watch, last) = alive_with_pauses_of(1);
        assert!(watch.silence(at(last + 10), &PATIENCE).is_some());
        assert_eq!(watch.sign(at(last + 11), &PATIENCE), None);
        assert_eq!(watch.silence(at(last + 15), &PATIENCE), None, "a twitch is no new failure");
        assert_eq!(watch.sign(at(last + 20), &PATIENCE), None);
        let back = watch.sign(at(last + 22), &PATIENCE);
        assert_eq!(back, Some(Verdict::Back { after: Duration::from_secs(20) }));
        assert!(!watch.has_failed());
    }

    #[test]
    fn what_never_spoke_cannot_fall_silent() {
        let mut watch = Watch::new(at(0));
        watch.sign(at(1), &PATIENCE);
        assert_eq!(watch.silence(at(1_000), &PATIENCE), None);
    }

    #[test]
    fn a_clock_that_steps_backward_is_no_failure() {
        let (mut watch, last) = alive_with_pauses_of(1);
        assert_eq!(watch.sign(at(last - 3_600), &PATIENCE), None);
        assert_eq!(watch.silence(at(last - 3_590), &PATIENCE), None);
    }
}
