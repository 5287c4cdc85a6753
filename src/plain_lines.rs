//! When the next status line is due where there is no terminal to show a block on: often at the beginning, when somebody looks whether it works,
//! and where something happens; else once a minute, for logs are kept for long.

use crate::status::RecorderStatus;
use std::time::Duration;

const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);

/// The pace of the lines.
#[derive(Debug)]
pub struct PlainLines {
    /// When the last one was written, and what it told.
    last: Option<(Duration, Told)>,
    every: Duration,
}

/// What is not to wait for a minute.
#[derive(Debug, PartialEq)]
struct Told {
    lost: u64,
    down: usize,
    failed: usize,
    work: bool,
}

impl Told {
    fn of(status: &RecorderStatus) -> Self {
        let interfaces = &status.interfaces;
        Self {
            lost: interfaces.iter().map(|i| i.dropped_by_kernel + i.dropped_by_nic + i.dropped_by_us).sum(),
            down: interfaces.iter().filter(|i| !i.up).count(),
            failed: status.failed,
            work: status.work.is_some(),
        }
    }
}

impl PlainLines {
    /// Before the first line.
    pub fn new() -> Self {
        Self { last: None, every: SHORTEST }
    }

    /// Whether a line is due at `now`, since the beginning; it is then taken to be written.
    pub fn due(&mut self, now: Duration, status: &RecorderStatus) -> bool {
        let told = Told::of(status);
        if let Some((last, before)) = &self.last {
            let news = told != *before;
            if now.saturating_sub(*last) < if news { SHORTEST } else { self.every } {
                return false;
            }
            self.every = if news { SHORTEST } else { (self.every * 2).min(LONGEST) };
        }
        self.last = Some((now, told));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::InterfaceStatus;

    #[test]
    fn once_a_minute_but_at_the_beginning_and_where_something_happens() {
        let mut lines = PlainLines::new();
        let mut status = RecorderStatus {
            interfaces: vec![InterfaceStatus { up: true, ..InterfaceStatus::default() }],
            ..RecorderStatus::default()
        };
        let mut due = |status: &RecorderStatus, seconds: std::ops::Range<u64>| -> Vec<u64> {
            seconds.filter(|s| lines.due(Duration::from_secs(*s), status)).collect()
        };
        assert_eq!(due(&status, 0..400), [0, 5, 15, 35, 75, 135, 195, 255, 315, 375]);
        status.interfaces[0].dropped_by_us = 7;
        assert_eq!(due(&status, 400..500), [400, 405, 415, 435, 475]);
        status.interfaces[0].up = false;
        assert_eq!(due(&status, 476..490), [480, 485]);
    }
}
