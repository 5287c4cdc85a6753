//! A client that stops reading in the middle of an interleaved frame, and what it finds there when it goes on.
#![allow(missing_docs, reason = "a test")]

mod common;

use common::*;
use replay::{Config, ServerStats};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const FRAME_LEN: usize = 60_000;
const STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// Ten megabytes at once: more than the connection holds.
fn flood() -> Synthetic {
    let mut packets = frames(1, 1, at_ms(0), 170, 25, FRAME_LEN);
    (0..).zip(&mut packets).for_each(|(i, packet)| packet.time = at_ms(i));
    Synthetic::with(info(1, "door", at_ms(0), at_ms(169)), packets)
}

/// What comes up to the end of the connection, and whether that end came.
async fn rest(stream: &mut tokio::net::TcpStream) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    // A reset is an end as good as any.
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut all)).await;
    (all, read.is_ok())
}

/// Waits until a figure of the server has been the same for a while, and is more than none.
async fn stands_still(server: &Running, figure: fn(&ServerStats) -> u64) {
    let (mut last, mut same) = (0, 0);
    while same < 5 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = figure(&server.handle.stats());
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
    }
}

/// Waits until something is so, or long enough to say that it will not be.
async fn until(server: &Running, so: fn(&ServerStats) -> bool) {
    let mut looks = 0;
    while !so(&server.handle.stats()) && looks < 1_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        looks += 1;
    }
}

/// Whole frames, and at the end a part of one.
fn assert_frames_alone(mut bytes: &[u8]) {
    let text = bytes.windows(9).position(|w| w == b"RTSP/1.0 ");
    let mut whole = 0;
    while let [b'$', _, a, b, rest @ ..] = bytes {
        let len = usize::from(u16::from_be_bytes([*a, *b]));
        if len > rest.len() {
            break;
        }
        (bytes, whole) = (&rest[len..], whole + 1);
    }
    assert_eq!(text, None, "an answer among {whole} frames");
    assert!(whole > 2 && bytes.len() < FRAME_LEN + 20, "{whole} frames, then {} bytes", bytes.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_into_a_frame_that_a_session_left_unfinished() {
    for torn_by in ["TEARDOWN of the session", "TEARDOWN of the track", "PAUSE"] {
        let config = Config { stall_timeout: STALL_TIMEOUT, ..Config::default() };
        let server = Running::start(flood(), config);
        let mut c = Client::connect(server.address).await;
        rustix::net::sockopt::set_socket_recv_buffer_size(&c.stream, 16_384).expect("buffer");
        let url = server.url("/door");
        let session = c.set_up(&url).await;
        assert_eq!(c.ask("PLAY", &url, &format!("Session: {session}\r\n")).await.status, 200);
        stands_still(&server, |stats| stats.packets).await;
        let (method, uri) = match torn_by {
            "PAUSE" => ("PAUSE", url.clone()),
            "TEARDOWN of the track" => ("TEARDOWN", format!("{url}/trackID=1")),
            _ => ("TEARDOWN", url.clone()),
        };
        let request = format!("{method} {uri} RTSP/1.0\r\nCSeq: 99\r\nSession: {session}\r\n\r\n");
        c.stream.write_all(request.as_bytes()).await.expect("writes");
        // The server gives the frame up, and an answer would still wait to be taken.
        until(&server, |stats| stats.connections == 0).await;
        let mut got = c.unread().to_vec();
        let (rest, closed) = rest(&mut c.stream).await;
        got.extend(rest);
        assert_frames_alone(&got);
        assert!(closed, "{torn_by}: nothing can be said on this connection any more");
    }
}
