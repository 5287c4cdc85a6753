//! What a tap counts. The kernel's counters are 32 bits wide and wrap; totals here don't.

use crate::CaptureTime;
use crate::import::wall_clock;
use crate::shard::ShardWriter;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// How often it is looked whether the capture thread has gone on.
const EXCHANGE: Duration = Duration::from_millis(1);

/// Totals of a tap since it was started, and its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TapStats {
    /// Packets that passed the filter, recorded or lost.
    pub received: u64,
    /// Packets in shards.
    pub packets: u64,
    /// Captured bytes in shards, without record headers.
    pub bytes: u64,
    /// Dropped by the kernel: the ring was full.
    pub dropped_kernel: u64,
    /// Dropped by the network interface (`rx_missed_errors`): before any filter, so not all of them would have been recorded.
    pub dropped_nic: u64,
    /// Dropped by tapdeck: staging was full, the disk was behind.
    pub dropped_ours: u64,
    /// Bytes that wait for the disk.
    pub queued_bytes: u64,
    /// Room for them.
    pub queue_bytes: u64,
    /// Whether the interface is there and up.
    pub up: bool,
    /// How often the interface was opened again.
    pub reopened: u64,
    /// When all of that was so; nothing before the first time.
    pub counted: Option<CaptureTime>,
}

/// The capture thread's own counters: plain integers.
#[derive(Debug, Default)]
pub struct Counters {
    packets: u64,
    bytes: u64,
    /// Packets that found no room in staging.
    pub dropped_ours: u64,
    received: Wrapping,
    dropped_kernel: Wrapping,
    nic: Option<Since>,
}

/// A cumulative 32-bit counter, continued beyond its wrap and beyond a new socket.
#[derive(Debug, Default)]
struct Wrapping {
    total: u64,
    last: u32,
}

impl Wrapping {
    fn update(&mut self, now: u32) {
        self.total += u64::from(now.wrapping_sub(self.last));
        self.last = now;
    }
}

/// A counter that began before us.
#[derive(Debug)]
struct Since {
    total: u64,
    last: u64,
}

impl Counters {
    /// One packet is in the shard.
    #[inline]
    pub fn stored(&mut self, captured_len: u32) {
        self.packets += 1;
        self.bytes += u64::from(captured_len);
    }

    /// What the packet socket says, cumulative.
    pub fn kernel(&mut self, received: u32, dropped: u32) {
        self.received.update(received);
        self.dropped_kernel.update(dropped);
    }

    /// What the interface says, cumulative since long ago; it begins anew when a driver is loaded again.
    pub fn nic(&mut self, missed: Option<u64>) {
        let Some(missed) = missed else { return };
        let since = self.nic.get_or_insert(Since { total: 0, last: missed });
        since.total += missed.checked_sub(since.last).unwrap_or(missed);
        since.last = missed;
    }

    /// A new socket counts from 0.
    pub fn reopened(&mut self) {
        self.received.last = 0;
        self.dropped_kernel.last = 0;
    }
}

/// What the capture thread and the handle of the tap share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub stop: AtomicBool,
    pub reopened: AtomicU64,
    /// A writer lies ready to be gone on with: one load a look at the ring.
    pub asked: AtomicBool,
    writers: Mutex<Writers>,
    stats: Mutex<TapStats>,
    trouble: Mutex<Option<String>>,
}

/// Writers on their way between the two.
#[derive(Debug, Default)]
struct Writers {
    /// With the time of the first packet that goes there.
    next: Option<(ShardWriter, CaptureTime)>,
    left: Option<ShardWriter>,
}

impl Shared {
    pub fn load(&self) -> TapStats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Never waits for who reads them: what is not taken over now is the next time, and at the end (`last`) there is
    /// time.
    pub fn store(&self, counters: &Counters, up: bool, last: bool) {
        let mut stats = match self.stats.try_lock() {
            Ok(stats) => stats,
            Err(TryLockError::WouldBlock) if !last => return,
            Err(_) => self.stats.lock().unwrap_or_else(PoisonError::into_inner),
        };
        *stats = TapStats {
            // The socket's number lags behind what was taken from the ring since.
            received: counters
                .received
                .total
                .max(counters.packets + counters.dropped_ours + counters.dropped_kernel.total),
            packets: counters.packets,
            bytes: counters.bytes,
            dropped_kernel: counters.dropped_kernel.total,
            dropped_nic: counters.nic.as_ref().map_or(0, |s| s.total),
            dropped_ours: counters.dropped_ours,
            queued_bytes: 0,
            queue_bytes: 0,
            up,
            reopened: self.reopened.load(Ordering::Relaxed),
            counted: Some(wall_clock()),
        };
    }

    /// Gives the capture thread another writer, for packets from that time on.
    pub fn offer(&self, next: ShardWriter, from: CaptureTime) {
        self.writers().next = Some((next, from));
        self.asked.store(true, Ordering::Release);
    }

    /// The writer that it had, when it has gone on with the other. `None`: the thread has ended.
    pub fn left(&self, running: impl Fn() -> bool) -> Option<ShardWriter> {
        loop {
            if let Some(left) = self.writers().left.take() {
                return Some(left);
            }
            if !running() {
                // It may have taken it as the last thing that it did.
                let mut writers = self.writers();
                writers.next = None;
                return writers.left.take();
            }
            std::thread::sleep(EXCHANGE);
        }
    }

    /// For the capture thread: what it was offered.
    pub fn offered(&self) -> Option<(ShardWriter, CaptureTime)> {
        self.asked.store(false, Ordering::Release);
        self.writers().next.take()
    }

    /// For the capture thread: it has gone on with the other.
    pub fn leave(&self, left: ShardWriter) {
        self.writers().left = Some(left);
    }

    fn writers(&self) -> MutexGuard<'_, Writers> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_go_on_over_a_wrap_and_a_new_socket() {
        let mut counters = Counters::default();
        counters.kernel(u32::MAX - 1, 5);
        counters.kernel(3, 5);
        counters.reopened();
        counters.kernel(10, 2);
        assert_eq!(
            (counters.received.total, counters.dropped_kernel.total),
            (u64::from(u32::MAX) + 4 + 10, 7)
        );
        counters.nic(Some(1_000));
        counters.nic(Some(1_004));
        counters.nic(Some(2));
        assert_eq!(counters.nic.unwrap().total, 6);
    }
}
