//! Live packets: from the indexer to whoever watches.
//!
//! Owns the subscriptions and their bounded queues. The indexer asks [`LiveHub::wanted`] for each packet, which is one
//! atomic load while nobody subscribes; it never waits for a subscriber. A subscriber that does not keep up loses
//! packets: it is told how many, and goes on at the next clean point.
//!
//! The handing over: a subscription begins as a request, which the indexer answers between two batches, when everything
//! before is committed. What was captured up to [`LiveSubscription::handoff`] is found by a cursor, and everything that the
//! indexer publishes afterwards comes here. Packets can be in both; their segment and sequence number tell.

use super::MediaPacket;
use crate::index::StreamId;
use capture::CaptureTime;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Streams share bits of the filter by the low bits of their numbers.
const FILTER_BITS: usize = 4096;
/// Subscriptions at a time; more are refused (they end at once).
pub const SUBSCRIPTIONS_MAX: usize = 4096;

/// One thing that a subscription delivers.
#[derive(Clone, Debug)]
pub enum LiveItem {
    /// A packet, in the order of capture.
    Packet(MediaPacket),
    /// So many packets were not fetched in time; the next packet begins a clean point, or in a stream without clean points is
    /// simply the next.
    Lagged(u64),
}

/// Where the indexer publishes and replay subscribes. Cheap to clone.
#[derive(Clone)]
pub struct LiveHub {
    inner: Arc<Hub>,
}

struct Hub {
    filter: Box<[AtomicU64]>,
    /// Requests that are not answered yet.
    waiting: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    requests: Vec<Arc<Shared>>,
    active: Vec<Arc<Shared>>,
}

struct Shared {
    stream: StreamId,
    capacity: usize,
    queue: Mutex<Queue>,
    arrived: Condvar,
}

#[derive(Default)]
struct Queue {
    handoff: Option<CaptureTime>,
    items: VecDeque<MediaPacket>,
    /// Packets left out since the last one delivered.
    lagged: u64,
    /// Whether clean points have been seen, so that it is worth waiting for one after a lag.
    has_clean: bool,
    waker: Option<Waker>,
    /// The hub is closed, or the subscriber gone.
    ended: bool,
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done when a holder panics: queues and lists are changed by single operations.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for LiveHub {
    fn default() -> Self {
        Self::new()
    }
}

impl LiveHub {
    /// Without subscriptions.
    pub fn new() -> Self {
        let filter = (0..FILTER_BITS / 64).map(|_| AtomicU64::new(0)).collect();
        Self { inner: Arc::new(Hub { filter, waiting: AtomicU64::new(0), state: Mutex::default() }) }
    }

    /// Asks for a stream's packets from now on. At most `capacity` of them wait for the subscriber.
    pub fn subscribe(&self, stream: StreamId, capacity: usize) -> LiveSubscription {
        let queue = Mutex::default();
        let shared = Arc::new(Shared { stream, capacity: capacity.max(1), queue, arrived: Condvar::new() });
        let mut state = guard(&self.inner.state);
        if state.closed || state.requests.len() + state.active.len() >= SUBSCRIPTIONS_MAX {
            guard(&shared.queue).ended = true;
        } else {
            state.requests.push(shared.clone());
            self.inner.waiting.fetch_add(1, Ordering::Release);
        }
        LiveSubscription { hub: self.clone(), shared }
    }

    /// Whether somebody may want this stream's packets: one atomic load. Can be true when nobody does.
    #[inline]
    pub fn wanted(&self, stream: StreamId) -> bool {
        let bit = stream.0 as usize % FILTER_BITS;
        self.inner.filter[bit / 64].load(Ordering::Relaxed) >> (bit % 64) & 1 != 0
    }

    /// Requests that wait for an answer: one atomic load when there are none. The indexer takes them when everything
    /// before is committed.
    pub fn take_requests(&self) -> Vec<LiveRequest> {
        if self.inner.waiting.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let taken = std::mem::take(&mut guard(&self.inner.state).requests);
        self.inner.waiting.fetch_sub(taken.len() as u64, Ordering::Release);
        taken.into_iter().map(|shared| LiveRequest { hub: self.clone(), shared }).collect()
    }

    /// Hands a packet to the stream's subscribers. Never waits for one of them.
    pub fn publish(&self, stream: StreamId, packet: MediaPacket) {
        let state = guard(&self.inner.state);
        for shared in state.active.iter().filter(|s| s.stream == stream) {
            shared.push(packet.clone());
        }
    }

    /// Ends all subscriptions: nothing more will be published.
    pub fn close(&self) {
        self.end(true);
    }

    /// Ends all subscriptions that there are.
    pub fn end_all(&self) {
        self.end(false);
    }

    fn end(&self, closed: bool) {
        let mut state = guard(&self.inner.state);
        state.closed |= closed;
        let requests = std::mem::take(&mut state.requests);
        self.inner.waiting.fetch_sub(requests.len() as u64, Ordering::Release);
        for shared in requests.into_iter().chain(std::mem::take(&mut state.active)) {
            let mut queue = guard(&shared.queue);
            queue.ended = true;
            shared.wake(queue);
        }
        self.set_filter(&state);
    }

    /// How many subscriptions are served or wait.
    pub fn subscriptions(&self) -> usize {
        let state = guard(&self.inner.state);
        state.requests.len() + state.active.len()
    }

    fn set_filter(&self, state: &State) {
        let mut bits = [0u64; FILTER_BITS / 64];
        for shared in &state.active {
            let bit = shared.stream.0 as usize % FILTER_BITS;
            bits[bit / 64] |= 1 << (bit % 64);
        }
        for (word, bits) in self.inner.filter.iter().zip(bits) {
            word.store(bits, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn push(&self, packet: MediaPacket) {
        let mut queue = guard(&self.queue);
        queue.has_clean |= packet.clean;
        if queue.items.len() >= self.capacity {
            queue.lagged += queue.items.len() as u64;
            queue.items.clear();
        }
        // After a lag only a clean point is worth sending, where there are clean points.
        if queue.lagged > 0 && queue.items.is_empty() && queue.has_clean && !packet.clean {
            queue.lagged += 1;
            return;
        }
        queue.items.push_back(packet);
        self.wake(queue);
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        let waker = queue.waker.take();
        drop(queue);
        self.arrived.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Queue {
    /// `Some(None)`: it is over.
    fn take(&mut self) -> Option<Option<LiveItem>> {
        if self.lagged > 0 && (!self.items.is_empty() || self.ended) {
            return Some(Some(LiveItem::Lagged(std::mem::take(&mut self.lagged))));
        }
        match self.items.pop_front() {
            Some(packet) => Some(Some(LiveItem::Packet(packet))),
            None => self.ended.then_some(None),
        }
    }
}

/// A subscription that the indexer has not answered yet.
pub struct LiveRequest {
    hub: LiveHub,
    shared: Arc<Shared>,
}

impl LiveRequest {
    /// The stream that is asked for.
    pub fn stream(&self) -> StreamId {
        self.shared.stream
    }

    /// Begins the subscription: what was captured up to `handoff` is committed, and every packet after it will be published.
    pub fn answer(self, handoff: CaptureTime) {
        let mut state = guard(&self.hub.inner.state);
        let mut queue = guard(&self.shared.queue);
        if queue.ended {
            return;
        }
        if state.closed {
            queue.ended = true;
        } else {
            queue.handoff = Some(handoff);
            state.active.push(self.shared.clone());
            self.hub.set_filter(&state);
        }
        self.shared.wake(queue);
    }
}

/// A stream's packets from the moment of subscribing on. Dropping it ends it.
pub struct LiveSubscription {
    hub: LiveHub,
    shared: Arc<Shared>,
}

impl LiveSubscription {
    /// Everything captured up to here is found by a cursor. `None` until the indexer has answered.
    pub fn handoff(&self) -> Option<CaptureTime> {
        guard(&self.shared.queue).handoff
    }

    /// Waits for the indexer's answer, at most so long. `None` when there was none, or the recorder ends.
    pub fn wait_handoff(&self, at_most: Duration) -> Option<CaptureTime> {
        let queue = guard(&self.shared.queue);
        let open = |q: &mut Queue| q.handoff.is_none() && !q.ended;
        let (queue, _) = self
            .shared
            .arrived
            .wait_timeout_while(queue, at_most, open)
            .unwrap_or_else(PoisonError::into_inner);
        queue.handoff
    }

    /// The next item without waiting; `Ready(None)` at the end of the recording. Wakes the task when there is more.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<LiveItem>> {
        let mut queue = guard(&self.shared.queue);
        match queue.take() {
            Some(item) => Poll::Ready(item),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The next item, if there is one now.
    pub fn try_next(&mut self) -> Option<LiveItem> {
        guard(&self.shared.queue).take().flatten()
    }
}

impl Drop for LiveSubscription {
    fn drop(&mut self) {
        let mut state = guard(&self.hub.inner.state);
        let mut queue = guard(&self.shared.queue);
        queue.ended = true;
        queue.items.clear();
        let before = state.requests.len();
        state.requests.retain(|s| !Arc::ptr_eq(s, &self.shared));
        self.hub.inner.waiting.fetch_sub((before - state.requests.len()) as u64, Ordering::Release);
        state.active.retain(|s| !Arc::ptr_eq(s, &self.shared));
        self.hub.set_filter(&state);
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
