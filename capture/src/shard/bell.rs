//! Wakes one thread, or lets it sleep for a while.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// Rung by the capture thread too, so never a lock: who waits has a lower priority.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    /// The one thread that waits for it.
    waiter: OnceLock<Thread>,
}

impl Bell {
    /// Wakes the thread, or keeps it from its next sleep.
    pub fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        if let Some(waiter) = self.waiter.get() {
            waiter.unpark();
        }
    }

    /// Sleeps until it is rung, or for `at_most`; now and then less. Always called by the same thread.
    pub fn wait(&self, at_most: Duration) {
        let waiter = self.waiter.get_or_init(std::thread::current);
        debug_assert_eq!(waiter.id(), std::thread::current().id());
        if !self.rung.swap(false, Ordering::Acquire) {
            std::thread::park_timeout(at_most);
            self.rung.swap(false, Ordering::Acquire);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_ring_before_or_during_the_wait_ends_it() {
        let bell = Bell::default();
        bell.ring();
        let started = Instant::now();
        bell.wait(Duration::from_secs(20));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                bell.ring();
            });
            bell.wait(Duration::from_secs(20));
        });
        assert!(started.elapsed() < Duration::from_secs(10));
        let started = Instant::now();
        // The token of a ring that came between may end one wait early, not two.
        bell.wait(Duration::from_millis(50));
        bell.wait(Duration::from_millis(50));
        assert!(started.elapsed() >= Duration::from_millis(50));
    }
}
