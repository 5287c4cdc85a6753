//! Live sessions: a picture at once, then packets as they come; a slow client skips and holds nobody up.
#![allow(missing_docs, reason = "a test")]

mod common;
use common::*;
use replay::Config;
use std::time::{Duration, Instant};

fn recording(payload_len: usize) -> Synthetic {
    let start = wall().minus(Duration::from_millis(1200));
    let packets = frames(1, 100, start, 30, 12, payload_len);
    let last = packets.last().expect("packets").time;
    Synthetic { records: true, ..Synthetic::with(info(1, "door", start, last), packets) }
}

fn next_packet(i: u32, clean: bool, payload_len: usize) -> replay::source::Packet {
    let mut payload = vec![if clean { 0x65 } else { 0x41 }; payload_len];
    payload[1..5].copy_from_slice(&i.to_be_bytes());
    rtp(1, 100 + u64::from(i), 1000 + i * 3600, wall(), clean, &payload)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_begins_with_the_last_clean_point_and_goes_on_without_a_seam() {
    let source = recording(300);
    let server = Running::start(source.clone(), Config::default());
    let mut c = Client::connect(server.address).await;
    let url = server.url("/cam");
    let described = c.ask("DESCRIBE", &url, "").await;
    assert!(described.body.contains("a=range:npt=now-"), "{}", described.body);
    let session = c.set_up(&url).await;
    let began = Instant::now();
    // ffmpeg asks for 0- of a live stream.
    let play = c.ask("PLAY", &url, &format!("Session: {session}\r\nRange: npt=0.000-\r\n")).await;
    assert_eq!((play.status, play.header("Range")), (200, Some("npt=now-".into())));
    let (channel, _) = c.frame().await.expect("a frame");
    assert_eq!(channel, 1, "a sender report first");
    let (_, first) = c.frame().await.expect("a frame");
    assert_eq!(number(&first), 24, "the last clean point");
    for i in 25..30 {
        assert_eq!(number(&c.frame().await.expect("a frame").1), i);
    }
    assert!(began.elapsed() < Duration::from_millis(300), "a picture at once: {:?}", began.elapsed());
    let mut latencies = Vec::new();
    // The indexer may publish what the store already had.
    source.live.lock().expect("lock").len();
    for i in 30..60 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let sent = Instant::now();
        source.publish(1, next_packet(i, i % 12 == 0, 300));
        let (_, data) = c.frame().await.expect("a frame");
        latencies.push(sent.elapsed());
        assert_eq!((number(&data), seq(&data)), (i, seq(&first).wrapping_add((i - 24) as u16)));
    }
    latencies.sort();
    println!("live latency p50 {:?} max {:?}", latencies[15], latencies[29]);
    assert!(latencies[15] < Duration::from_millis(20));
    let clock =
        c.ask("PLAY", &url, &format!("Session: {session}\r\nRange: clock=20240101T000000Z-\r\n")).await;
    assert_eq!(clock.status, 457);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_skips_to_a_clean_point_and_another_loses_nothing() {
    const LEN: usize = 20_000;
    let source = recording(LEN);
    let config = Config { live_queue_bytes: 400_000, ..Config::default() };
    let server = Running::start(source.clone(), config);
    let url = server.url("/door");
    let (mut slow, mut fast) = (Client::connect(server.address).await, Client::connect(server.address).await);
    rustix::net::sockopt::set_socket_recv_buffer_size(&slow.stream, 16_384).expect("buffer");
    for c in [&mut slow, &mut fast] {
        let session = c.set_up(&url).await;
        assert_eq!(c.ask("PLAY", &url, &format!("Session: {session}\r\n")).await.status, 200);
    }
    let mut fast_numbers = Vec::new();
    for i in 30..400 {
        source.publish(1, next_packet(i, i % 12 == 0, LEN));
        loop {
            let (channel, data) = fast.frame().await.expect("a frame");
            if channel == 0 {
                fast_numbers.push(number(&data));
                if number(&data) == i {
                    break;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(fast_numbers, (24..400).collect::<Vec<u32>>());
    let reader = async {
        let mut got = Vec::new();
        while let Some((channel, data)) = slow.frame().await {
            if channel == 0 {
                got.push((number(&data), data[12], seq(&data)));
                if number(&data) >= 408 {
                    break;
                }
            }
        }
        got
    };
    let publisher = async {
        for i in 400..500 {
            source.publish(1, next_packet(i, i % 12 == 0, LEN));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (got, ()) = tokio::join!(reader, publisher);
    let jumps: Vec<_> = got.windows(2).filter(|w| w[1].0 != w[0].0 + 1).collect();
    assert!(!jumps.is_empty(), "it skipped");
    for jump in jumps {
        assert_eq!(jump[1].1, 0x65, "to a clean point");
        assert_eq!(
            u32::from(jump[1].2.wrapping_sub(jump[0].2)),
            jump[1].0 - jump[0].0,
            "and the hole is visible"
        );
    }
    let skipped: u64 = server.handle.stats().clients.iter().map(|c| c.skipped).sum();
    assert!(skipped > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_coming_in_is_not_live() {
    let mut source = ten_seconds();
    source.records = true;
    let server = Running::start(source, Config::default());
    let mut c = Client::connect(server.address).await;
    let reply = c.ask("DESCRIBE", &server.url("/door"), "").await;
    assert_eq!(reply.status, 503);
    assert!(
        reply.text.contains("no packets since 2023-11-14T22:13:29.960Z: add ?from=TIME"),
        "{}",
        reply.text
    );
    assert_eq!(c.ask("DESCRIBE", &server.url(&format!("/door?from={T0}")), "").await.status, 200);
}
