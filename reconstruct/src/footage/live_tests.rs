use super::*;
use crate::index::SegmentId;
use smallvec::SmallVec;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

const S: StreamId = StreamId(3);

fn packet(seq: u64, clean: bool) -> MediaPacket {
    MediaPacket {
        time: CaptureTime::from_nanos(seq as i64),
        seq,
        timestamp: 0,
        marker: false,
        ssrc: 0,
        payload_type: 96,
        segment: SegmentId(0),
        clean,
        len: 0,
        pieces: SmallVec::new(),
    }
}

fn answered(hub: &LiveHub, capacity: usize) -> LiveSubscription {
    let subscription = hub.subscribe(S, capacity);
    for request in hub.take_requests() {
        request.answer(CaptureTime::from_nanos(7));
    }
    subscription
}

fn seqs(subscription: &mut LiveSubscription) -> Vec<i64> {
    std::iter::from_fn(|| subscription.try_next())
        .map(|item| match item {
            LiveItem::Packet(p) => p.seq as i64,
            LiveItem::Lagged(n) => -(n as i64),
        })
        .collect()
}

#[test]
fn nothing_is_wanted_until_somebody_is_answered() {
    let hub = LiveHub::new();
    assert!(!hub.wanted(S));
    let mut subscription = hub.subscribe(S, 10);
    assert!(!hub.wanted(S) && subscription.handoff().is_none());
    hub.publish(S, packet(1, true));
    for request in hub.take_requests() {
        assert_eq!(request.stream(), S);
        request.answer(CaptureTime::from_nanos(7));
    }
    assert!(hub.wanted(S));
    assert_eq!(subscription.wait_handoff(Duration::ZERO), Some(CaptureTime::from_nanos(7)));
    hub.publish(S, packet(2, false));
    hub.publish(StreamId(4), packet(9, false));
    hub.publish(S, packet(3, false));
    assert_eq!(seqs(&mut subscription), [2, 3]);
    drop(subscription);
    assert!(!hub.wanted(S));
    assert_eq!(hub.subscriptions(), 0);
}

#[test]
fn who_lags_is_told_and_goes_on_at_a_clean_point() {
    let hub = LiveHub::new();
    let mut slow = answered(&hub, 4);
    let mut quick = answered(&hub, 100);
    for seq in 0..12 {
        hub.publish(S, packet(seq, seq % 10 == 0));
    }
    assert_eq!(seqs(&mut slow), [-10, 10, 11]);
    assert_eq!(seqs(&mut quick), (0..12).collect::<Vec<_>>());
    hub.publish(S, packet(12, false));
    assert_eq!(seqs(&mut slow), [12]);
}

#[test]
fn without_clean_points_a_lag_ends_at_once() {
    let hub = LiveHub::new();
    let mut slow = answered(&hub, 4);
    (0..6).for_each(|seq| hub.publish(S, packet(seq, false)));
    assert_eq!(seqs(&mut slow), [-4, 4, 5]);
}

#[test]
fn the_task_is_woken() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(count.clone());
    let mut cx = Context::from_waker(&waker);
    let hub = LiveHub::new();
    let mut subscription = hub.subscribe(S, 4);
    assert!(subscription.poll_next(&mut cx).is_pending());
    hub.take_requests().into_iter().for_each(|r| r.answer(CaptureTime::MIN));
    assert_eq!(count.0.load(Ordering::Relaxed), 1, "by the answer");
    assert!(subscription.poll_next(&mut cx).is_pending());
    hub.publish(S, packet(1, true));
    hub.publish(S, packet(2, true));
    assert_eq!(count.0.load(Ordering::Relaxed), 2, "by a packet, once");
    assert!(matches!(subscription.poll_next(&mut cx), Poll::Ready(Some(LiveItem::Packet(_)))));
    assert!(matches!(subscription.poll_next(&mut cx), Poll::Ready(Some(LiveItem::Packet(_)))));
    assert!(subscription.poll_next(&mut cx).is_pending());
    hub.close();
    assert!(matches!(subscription.poll_next(&mut cx), Poll::Ready(None)));
    assert!(matches!(hub.subscribe(S, 4).poll_next(&mut cx), Poll::Ready(None)), "the hub is closed");
}

#[test]
fn a_request_that_is_given_up_is_not_served() {
    let hub = LiveHub::new();
    drop(hub.subscribe(S, 4));
    assert!(hub.take_requests().is_empty());
    let late = hub.subscribe(S, 4);
    let requests = hub.take_requests();
    drop(late);
    requests.into_iter().for_each(|r| r.answer(CaptureTime::MIN));
    assert_eq!(hub.subscriptions(), 0);
}
