#[path = "../../../tests/lab/skip.rs"]
mod skip;

use super::*;
use crate::journal::SourceKind;
use crate::{Shard, TapTail};
use std::net::UdpSocket;

/// Needs CAP_NET_RAW; says so and passes without.
fn loopback_tap(store: &Store, lock: &WriterLock, filter: String) -> Option<LiveTap> {
    let source = store.open_source(lock, SourceKind::Live, wall_clock()).unwrap();
    let mut config = LiveConfig::new("lo");
    (config.filter, config.ring_bytes) = (Some(filter), 64 << 20);
    config.writer.shard_size = 4 << 20;
    config.writer.staging_bytes = 8 << 20;
    match LiveTap::start(store, lock, source, config) {
        Ok(tap) => Some(tap),
        Err(LiveError::Permission { .. }) => {
            skip::skip("tests that capture on lo", "no permission");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn packets_on_loopback_are_recorded_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    let (from, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let port = to.local_addr().unwrap().port();
    let Some(tap) = loopback_tap(&store, &lock, format!("udp dst port {port}")) else { return };
    let id = tap.tap();
    for n in 0u32..2_000 {
        from.send_to(&n.to_be_bytes(), to.local_addr().unwrap()).unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    let stopped = tap.stop();
    stopped.result.unwrap();
    let stats = stopped.stats;
    assert_eq!((stats.packets, stats.dropped_kernel, stats.dropped_ours), (2_000, 0, 0), "{stats:?}");
    let mut tail = TapTail::new(&store, id, None);
    let (mut n, mut last) = (0u32, CaptureTime::MIN);
    while let Some((_, chunk)) = tail.next().unwrap() {
        for record in chunk.records() {
            // Ethernet, IPv4 and UDP headers.
            assert_eq!(record.data[14 + 20 + 8..], n.to_be_bytes());
            assert!(record.time >= last);
            (n, last) = (n + 1, record.time);
        }
    }
    assert_eq!(n, 2_000);
    let _: Vec<std::sync::Arc<Shard>> = store.shards().iter().map(|s| store.shard(s.id).unwrap()).collect();
}

/// Nothing reaches the disk for a second, in which more arrives than staging holds: it stays in the ring meanwhile.
#[test]
fn what_staging_has_no_room_for_waits_in_the_ring() {
    const PACKETS: u64 = 12_000;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    let (from, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let port = to.local_addr().unwrap().port();
    let Some(tap) = loopback_tap(&store, &lock, format!("udp dst port {port}")) else { return };
    let live = store.live_tap(tap.tap()).unwrap();
    // Flusher and keeper need this to find their work. The capture thread takes no lock.
    let stalled = live.shards.write().unwrap();
    for n in 0..PACKETS {
        from.send_to(&[n as u8; 1_200], to.local_addr().unwrap()).unwrap();
        if n % 100 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    std::thread::sleep(Duration::from_millis(400));
    let before = tap.shared.load();
    assert!(before.packets < PACKETS && before.packets * 1_200 < 8 << 20, "{before:?}");
    // A stop meanwhile takes it from there.
    let stopping = std::thread::spawn(move || tap.stop());
    std::thread::sleep(Duration::from_millis(700));
    drop(stalled);
    let stopped = stopping.join().unwrap();
    stopped.result.unwrap();
    let stats = stopped.stats;
    assert_eq!((stats.packets, stats.dropped_kernel, stats.dropped_ours), (PACKETS, 0, 0), "{stats:?}");
}

#[test]
fn a_quiet_link_stops_at_once_and_time_passes_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    let Some(tap) = loopback_tap(&store, &lock, "udp port 1".into()) else { return };
    let mut tail = TapTail::new(&store, tap.tap(), None);
    std::thread::sleep(Duration::from_millis(400));
    assert!(tail.next().unwrap().is_none());
    assert!(wall_clock().nanos_since(tail.watermark()) < 300_000_000);
    let started = Instant::now();
    tap.stop().result.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_wrong_interface_or_filter_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    let source = store.open_source(&lock, SourceKind::Live, wall_clock()).unwrap();
    let error = LiveTap::start(&store, &lock, source, LiveConfig::new("eth99")).unwrap_err().to_string();
    assert!(error.contains("eth99") && error.contains("lo"), "{error}");
    let wrong = LiveConfig { filter: Some("prot 5".into()), ..LiveConfig::new("lo") };
    let error = LiveTap::start(&store, &lock, source, wrong).unwrap_err();
    match error {
        LiveError::Filter { .. } => {}
        LiveError::Permission { .. } => skip::skip("a wrong filter in capture::live", "no permission"),
        other => panic!("{other}"),
    }
}

/// What a tap has, as far as it is published: capture times and the numbers that were sent.
fn published(store: &Store, tap: TapId) -> Vec<(CaptureTime, u32)> {
    let (mut tail, mut packets) = (TapTail::new(store, tap, None), Vec::new());
    while let Some((_, chunk)) = tail.next().unwrap() {
        let number = |data: &[u8]| u32::from_be_bytes(data[14 + 20 + 8..].try_into().unwrap());
        packets.extend(chunk.records().map(|record| (record.time, number(record.data))));
    }
    packets
}

/// What came of a change-over.
struct ChangedOver {
    /// The moment that was asked for.
    at: CaptureTime,
    took: Duration,
    /// For each of two taps what it has in the part before, and in the next.
    before: [Vec<(CaptureTime, u32)>; 2],
    after: [Vec<(CaptureTime, u32)>; 2],
}

/// Numbers go to two sockets in turns; taps of both, and a third that hears nothing, go on in a next part as of `lead` from now. `None` without
/// permission.
fn change_over(lead: Duration) -> Option<ChangedOver> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let port = |n: usize| to[n].local_addr().unwrap().port();
    let mut taps = vec![loopback_tap(&store, &lock, format!("udp dst port {}", port(0)))?];
    taps.extend((1..3).map(|n| loopback_tap(&store, &lock, format!("udp dst port {}", port(n))).unwrap()));
    // Of one interface a source has one tap.
    let next = || store.open_source(&lock, SourceKind::Live, wall_clock()).unwrap();
    let prepared: Vec<_> = taps.iter().map(|tap| tap.prepare(&store, &lock, next()).unwrap()).collect();
    let before: Vec<TapId> = taps.iter().map(LiveTap::tap).collect();
    let enough = std::sync::atomic::AtomicBool::new(false);
    let (at, took, at_once, sent) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut n = 0u32;
            // A bound, should the other side fail.
            while !enough.load(Ordering::Acquire) && n < 1_000_000 {
                from.send_to(&n.to_be_bytes(), to[n as usize % 2].local_addr().unwrap()).unwrap();
                n += 1;
                if n.is_multiple_of(50) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            n
        });
        std::thread::sleep(Duration::from_millis(150));
        let (at, asked) = (wall_clock().plus(lead), Instant::now());
        taps.iter_mut().zip(prepared).for_each(|(tap, prepared)| tap.go_on(prepared, at));
        let left: Vec<Leaving> = taps.iter_mut().map(|tap| tap.gone_on().0).collect();
        let took = asked.elapsed();
        // A kill would lose what is not.
        let at_once: Vec<usize> = before.iter().map(|tap| published(&store, *tap).len()).collect();
        left.into_iter().for_each(|left| left.finish().unwrap());
        std::thread::sleep(Duration::from_millis(150));
        enough.store(true, Ordering::Release);
        (at, took, at_once, sender.join().unwrap())
    });
    assert_eq!(at_once, before.iter().map(|tap| published(&store, *tap).len()).collect::<Vec<_>>());
    std::thread::sleep(Duration::from_millis(300));
    let after: Vec<TapId> = taps.iter().map(LiveTap::tap).collect();
    taps.into_iter().for_each(|tap| tap.stop().result.unwrap());
    let [before, after] = [before, after].map(|taps| [taps[0], taps[1]].map(|tap| published(&store, tap)));
    let mut numbers: Vec<u32> = before.iter().chain(&after).flatten().map(|packet| packet.1).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..sent), "{} packets of {sent}", numbers.len());
    Some(ChangedOver { at, took, before, after })
}

/// All that two taps have in one part lies before all that they have in the next, and no packet is missing; one that hears nothing comes along.
#[test]
fn taps_go_on_in_a_next_part_at_one_moment() {
    let Some(ChangedOver { at, before, after, .. }) = change_over(Duration::from_millis(50)) else { return };
    assert!(before.iter().chain(&after).all(|packets| !packets.is_empty()));
    assert!(before.iter().flatten().all(|packet| packet.0 < at), "{at}");
    assert!(after.iter().flatten().all(|packet| packet.0 >= at), "{at}");
}

/// A clock that is set back while they wait, or another one: they go on all the same.
#[test]
fn a_moment_that_does_not_come_is_not_waited_for_long() {
    let Some(ChangedOver { took, before, after, .. }) = change_over(Duration::from_secs(3600)) else {
        return;
    };
    assert!(took > CHANGE_WITHIN && took < 3 * CHANGE_WITHIN, "{took:?}");
    assert!(before.iter().chain(&after).all(|packets| !packets.is_empty()));
}
