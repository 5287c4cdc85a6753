//! How closely datagrams may follow one another.
//!
//! A client's socket takes some 200 kB before it drops (Linux' default, and the kernel counts a datagram of 1,300 bytes as more than 2,000).
//! What is due at once, such as everything from the last clean point on when a viewer comes, can be more. So it leaves at a pace at which
//! the client's kernel wakes the client in between; a camera's own bursts are hardly ever that fast. Pure: instants in, durations out.

use std::time::{Duration, Instant};

/// Bytes that may follow one another without a pause.
pub const BURST_BYTES: u64 = 48 << 10;
/// Bytes in a millisecond beyond that: 268 Mbit/s, a picture of 1 MB in some 30 ms.
pub const BYTES_PER_MS: u64 = 32 << 10;
/// A timer is no finer.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// What may be sent at the moment.
#[derive(Debug)]
pub struct Burst {
    bytes: u64,
    filled: Option<Instant>,
}

impl Default for Burst {
    fn default() -> Self {
        Self { bytes: BURST_BYTES, filled: None }
    }
}

impl Burst {
    /// Counts a datagram of `len` bytes as sent and gives `None`, or says how long to wait before it is asked for again.
    pub fn take(&mut self, len: usize, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.filled.unwrap_or(now));
        let more = u64::try_from(since.as_micros()).unwrap_or(u64::MAX).saturating_mul(BYTES_PER_MS) / 1_000;
        if more > 0 || self.filled.is_none() {
            self.bytes = self.bytes.saturating_add(more).min(BURST_BYTES);
            self.filled = Some(now);
        }
        // One that is longer than all that may be saved up goes when that is saved up.
        let wanted = (len as u64).min(BURST_BYTES);
        if self.bytes >= wanted {
            self.bytes -= wanted;
            return None;
        }
        let wait = Duration::from_micros((wanted - self.bytes) * 1_000 / BYTES_PER_MS);
        Some(wait.max(PAUSE_MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `count` datagrams as fast as it may; how long that takes, and the most that went within a millisecond.
    fn send(burst: &mut Burst, count: usize, len: usize, start: Instant) -> (Duration, u64) {
        let (mut now, mut at_once, mut most) = (start, 0, 0);
        for _ in 0..count {
            while let Some(wait) = burst.take(len, now) {
                now += wait;
                at_once = 0;
            }
            at_once += len as u64;
            most = most.max(at_once);
        }
        (now - start, most)
    }

    #[test]
    fn a_picture_leaves_in_pieces_and_soon() {
        let (took, most) = send(&mut Burst::default(), 800, 1_300, Instant::now());
        assert!(most <= BURST_BYTES, "{most} bytes at once");
        assert!((25..45).contains(&took.as_millis()), "a picture of 1 MB took {took:?}");
    }

    #[test]
    fn an_ordinary_stream_never_waits() {
        let (mut burst, mut now) = (Burst::default(), Instant::now());
        for _ in 0..1_000 {
            // 30 Mbit/s, in frames of 20 packets each 7 ms.
            for _ in 0..20 {
                assert_eq!(burst.take(1_300, now), None);
            }
            now += Duration::from_millis(7);
        }
    }

    #[test]
    fn the_longest_datagram_goes_too() {
        let (took, _) = send(&mut Burst::default(), 3, 65_507, Instant::now());
        assert!(took < Duration::from_millis(10), "{took:?}");
    }

    #[test]
    fn many_looks_in_a_microsecond_lose_nothing() {
        let (mut burst, mut now) = (Burst::default(), Instant::now());
        while burst.take(1_000, now).is_none() {}
        let mut sent = 0;
        for _ in 0..40_000 {
            now += Duration::from_nanos(100);
            sent += u64::from(burst.take(BURST_BYTES as usize, now).is_none());
        }
        assert_eq!(sent, 4 * BYTES_PER_MS / BURST_BYTES, "bursts in 4 ms");
    }
}
