//! Real players: ffmpeg and GStreamer get every frame, on demand and live, over TCP and UDP. Skipped where they are not installed.
#![allow(missing_docs, reason = "a test")]

mod common;
#[path = "../../tests/lab/skip.rs"]
mod skip;

use common::*;
use replay::Config;
use replay::source::Packet;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const FRAMES: u32 = 75;

fn installed(program: &str) -> bool {
    let found = std::process::Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        skip::skip(&format!("players, {program}"), "it is not installed (scripts/install)");
    }
    found
}

/// Three seconds of a test picture, as an encoder gives them.
fn encode() -> Vec<u8> {
    let out = std::process::Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc=size=320x240:rate=25",
            "-frames:v",
            &FRAMES.to_string(),
        ])
        .args([
            "-c:v",
            "libx264",
            "-g",
            "25",
            "-bf",
            "0",
            "-pix_fmt",
            "yuv420p",
            "-bsf:v",
            "h264_mp4toannexb",
            "-f",
            "h264",
            "-",
        ])
        .output()
        .expect("ffmpeg runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// NAL units of an Annex B stream.
fn nals(stream: &[u8]) -> Vec<&[u8]> {
    let mut starts: Vec<usize> =
        stream.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(i, _)| i + 3).collect();
    starts.push(stream.len() + 3);
    starts
        .windows(2)
        .map(|w| {
            let nal = &stream[w[0]..(w[1] - 3).min(stream.len())];
            let zeros = nal.iter().rev().take_while(|b| **b == 0).count();
            &nal[..nal.len() - zeros]
        })
        .collect()
}

/// RFC 6184: single NAL units and FU-A, 25 frames a second from `start`.
fn packetize(stream: &[u8], start: capture::CaptureTime) -> Vec<Packet> {
    let mut packets: Vec<Packet> = Vec::new();
    let mut frame = 0u32;
    for nal in nals(stream) {
        let kind = nal[0] & 0x1f;
        let time = start.plus(Duration::from_millis(u64::from(frame) * 40));
        let mut push = |payload: &[u8], clean, marker| {
            let seq = 1000 + packets.len() as u64;
            let mut p = rtp(1, seq, 5000 + frame * 3600, time, clean, payload);
            p.marker = marker;
            packets.push(p);
        };
        let slice = kind == 1 || kind == 5;
        if nal.len() <= 1200 {
            push(nal, kind == 7, slice);
        } else {
            let count = (nal.len() - 1).div_ceil(1200);
            for (i, part) in nal[1..].chunks(1200).enumerate() {
                let flags = if i == 0 { 0x80 } else { 0 } | if i + 1 == count { 0x40 } else { 0 };
                let mut payload = vec![nal[0] & 0xe0 | 28, kind | flags];
                payload.extend(part);
                push(&payload, false, slice && i + 1 == count);
            }
        }
        frame += u32::from(slice);
    }
    packets
}

fn source(start: capture::CaptureTime) -> Synthetic {
    let stream = encode();
    let mut track = info(1, "door", start, start.plus(Duration::from_secs(3)));
    track.parameter_sets = nals(&stream)
        .into_iter()
        .filter(|n| matches!(n[0] & 0x1f, 7 | 8))
        .take(2)
        .map(<[u8]>::to_vec)
        .collect();
    Synthetic::with(track, packetize(&stream, start))
}

/// The frames' checksums as ffmpeg decodes them, and what it complained about.
async fn decode(input: &[&str]) -> (Vec<String>, String) {
    let run = Command::new("ffmpeg")
        .args(["-v", "warning"])
        .args(input)
        .args(["-an", "-fps_mode", "passthrough", "-f", "framemd5", "-"])
        .stdin(Stdio::null())
        .output();
    let out = tokio::time::timeout(Duration::from_secs(40), run).await.expect("ends").expect("runs");
    let sums = String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.rsplit(',').next().map(|s| s.trim().to_owned()))
        .collect();
    (sums, String::from_utf8_lossy(&out.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpeg_decodes_the_same_frames_over_tcp_and_udp() {
    if !installed("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("truth.h264");
    std::fs::write(&file, encode()).expect("writes");
    let (truth, _) = decode(&["-i", file.to_str().expect("path")]).await;
    assert_eq!(truth.len(), FRAMES as usize);
    let server = Running::start(source(at_ms(0)), Config::default());
    for transport in ["tcp", "udp"] {
        for path in ["/door".to_owned(), format!("/door?from={T0}&to={}", T0 + 3)] {
            let url = server.url(&path);
            let (got, complaints) = decode(&["-rtsp_transport", transport, "-i", &url]).await;
            let (n, first) = (got.len(), got.iter().zip(&truth).position(|(a, b)| a != b));
            assert!(
                got == truth,
                "{transport} {path}: {n} frames, first difference at {first:?}: {complaints}"
            );
            assert!(
                !complaints.contains("error") && !complaints.contains("missed"),
                "{transport}: {complaints}"
            );
        }
    }
    // A seek: ffmpeg plays from the clean point at 2 s and gives what lies after 2.4 s.
    let url = server.url("/door");
    let (got, complaints) = decode(&["-rtsp_transport", "tcp", "-ss", "2.4", "-i", &url]).await;
    let places: Vec<_> = got.iter().map(|g| truth.iter().position(|t| t == g)).collect();
    // ffmpeg 5.1 lets the first picture after a seek, the clean point, through as well.
    assert!(matches!(places[0], Some(50 | 60 | 61)), "{places:?}: {complaints}");
    assert!(got.len() >= 15 && truth.ends_with(&got[1..]), "{places:?}: {complaints}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpeg_plays_live() {
    if !installed("ffmpeg") {
        return;
    }
    let now = wall();
    let mut live = source(now.minus(Duration::from_millis(400)));
    live.records = true;
    // The first ten frames are recorded, the rest is to come.
    let later = {
        let mut tracks = live.tracks.lock().expect("lock");
        let (info, packets) = &mut tracks[0];
        let at = packets.iter().position(|p| p.time > now).expect("packets to come");
        info.last = packets[at - 1].time;
        packets.split_off(at)
    };
    let server = Running::start(live.clone(), Config::default());
    let url = server.url("/door");
    let publisher = async {
        while live.live.lock().expect("lock").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let offset = wall().nanos_since(now);
        for mut p in later {
            let due = capture::CaptureTime::from_nanos(p.time.nanos() + offset);
            let wait = u64::try_from(due.nanos_since(wall())).unwrap_or(0);
            tokio::time::sleep(Duration::from_nanos(wait)).await;
            p.time = wall();
            live.publish(1, p);
        }
    };
    let arguments = ["-rtsp_transport", "tcp", "-i", &url, "-frames:v", "60"];
    let player = decode(&arguments);
    let ((got, complaints), ()) = tokio::join!(player, publisher);
    assert_eq!(got.len(), 60, "{complaints}");
    assert!(!complaints.contains("error"), "{complaints}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffprobe_sees_the_description_and_an_unknown_stream_is_explained() {
    if !installed("ffprobe") {
        return;
    }
    let server = Running::start(source(at_ms(0)), Config::default());
    let probe = |path: &str| {
        let url = server.url(path);
        async move {
            let run = Command::new("ffprobe")
                .args([
                    "-v",
                    "error",
                    "-rtsp_transport",
                    "tcp",
                    "-show_entries",
                    "stream=codec_name,width:format=duration",
                    "-of",
                    "csv",
                    &url,
                ])
                .stdin(Stdio::null())
                .output();
            tokio::time::timeout(Duration::from_secs(20), run).await.expect("ends").expect("runs")
        }
    };
    let out = probe("/door").await;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("stream,h264,320") && text.contains("format,3.0"), "{text}");
    let out = probe("/nix").await;
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(text.contains("no stream or camera is called 'nix'"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gstreamer_plays_to_the_end() {
    if !installed("gst-launch-1.0") || !installed("ffmpeg") {
        return;
    }
    let server = Running::start(source(at_ms(0)), Config::default());
    for protocols in ["tcp", "udp"] {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("out.h264");
        let url = server.url(&format!("/door?from={T0}"));
        let run = Command::new("gst-launch-1.0")
            .args([
                "-q",
                "rtspsrc",
                &format!("location={url}"),
                &format!("protocols={protocols}"),
                "latency=200",
                "!",
                "rtph264depay",
                "!",
            ])
            .args([
                "h264parse",
                "!",
                "video/x-h264,stream-format=byte-stream",
                "!",
                "filesink",
                &format!("location={}", file.display()),
            ])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let out =
            tokio::time::timeout(Duration::from_secs(30), run).await.expect("BYE ends it").expect("runs");
        // After the end gst-launch pauses and closes at once, and rtspsrc's closing now and then interrupts its own PAUSE.
        let said =
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        let own_race = said.contains("gst_rtspsrc_pause ()")
            && said.matches("Could not write to resource").count() == said.matches("ERROR").count();
        assert!(out.status.success() || own_race, "{protocols}: {said}");
        let (got, _) = decode(&["-i", file.to_str().expect("path")]).await;
        assert_eq!(got.len(), FRAMES as usize, "{protocols}: {}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(server.handle.stats().errors, 0, "it asked for nothing that was refused");
    }
}
