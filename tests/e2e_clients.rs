//! Clients other than ffmpeg, and what VLC demands on the wire. From fixtures; needs no root.

mod lab;

use std::process::{Command, Stdio};
use std::time::Duration;

use lab::nal::{Codec, assert_same_video, is_key_picture, position};
use lab::players::{gstreamer, recorded_frames, recorded_pictures, snapshot};
use lab::program::{Server, Store, word};
use lab::rtsp::{Frame, Wire};
use lab::timing::{Sent, sent};
use lab::{fixture, root, skip, topology};

#[test]
fn gstreamer_receives_the_same_video() {
    need!("GStreamer plays", "gst-launch-1.0");
    for (name, extension, codec) in
        [("gst-udp-h264", "h264", Codec::H264), ("gst-tcp-h265", "h265", Codec::H265)]
    {
        let store = Store::import(&[fixture(&format!("{name}.pcap"))]);
        let server = store.serve();
        for protocol in ["tcp", "udp"] {
            let received = store.dir.path().join(format!("{name}.{protocol}"));
            gstreamer(&server.url(&store.video()), protocol, extension, &received);
            assert_same_video(&received, &fixture(&format!("{name}.{extension}")), codec);
        }
    }
}

/// live555's client half (VLC's RTSP stack) pulls from tapdeck, its server half gives it to ffmpeg.
#[test]
fn live555_plays() {
    need!("live555 plays", "ffmpeg");
    if !topology::live555() {
        return skip("live555 plays", "live555 is not built (scripts/lab/live555)");
    }
    live555_plays_from("gst-udp-h264.pcap", Codec::H264);
    live555_plays_from("gst-tcp-h265.pcap", Codec::H265);
}

fn live555_plays_from(capture: &str, codec: Codec) {
    let store = Store::import(&[fixture(capture)]);
    let server = store.serve();
    let port = lab::program::free_address().port().to_string();
    let mut proxy = Command::new(root().join("scripts/lab/live555-proxy"))
        .args(["127.0.0.1", &port, &server.url(&store.video()), "cam"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 is there");
    std::thread::sleep(Duration::from_secs(3));
    let seen = Command::new("timeout")
        .args([
            "20",
            "ffmpeg",
            "-nostdin",
            "-v",
            "error",
            "-rtsp_transport",
            "tcp",
            "-i",
            &format!("rtsp://127.0.0.1:{port}/cam"),
        ])
        .args(["-frames:v", "15", "-fps_mode", "passthrough", "-f", "framemd5", "-"])
        .output()
        .expect("ffmpeg is there");
    let _ = proxy.kill();
    let _ = proxy.wait();
    let lines = String::from_utf8_lossy(&seen.stdout).into_owned();
    let seen: Vec<String> = lines
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.rsplit(',').next())
        .map(|l| l.trim().into())
        .collect();
    let export = store.export(&word(&store.video()["id"]));
    let all = recorded_frames(&export, codec, store.dir.path());
    assert!(seen.len() >= 10, "ffmpeg saw {} frames behind live555", seen.len());
    assert!(position(&all, &seen[..10]).is_some(), "what came through live555 is another picture");
}

/// A snapshot of some moment is the picture of the clean point at or before it, as the VMS recorded it.
#[test]
fn snapshots_show_the_picture() {
    need!("snapshots", "ffmpeg", "tshark");
    for (name, extension, codec) in
        [("gst-udp-h264", "h264", Codec::H264), ("live555-tcp-h265", "h265", Codec::H265)]
    {
        let (capture, truth) = (fixture(&format!("{name}.pcap")), fixture(&format!("{name}.{extension}")));
        let store = Store::import(std::slice::from_ref(&capture));
        let server = store.serve();
        let scratch = store.dir.path();
        let theirs = recorded_pictures(&truth, codec, scratch);
        let video = store.video();
        let first = snapshot(
            &mut Command::new("ffmpeg"),
            &["-rtsp_transport", "tcp", "-i", &server.url(&video)],
            &scratch.join("first.png"),
        );
        let at = theirs.iter().position(|p| *p == first).expect("the first picture is one of the VMS's");
        // The VMS recorded from the first picture on, and one picture is one slice here.
        let sent = &sent(&capture)[..theirs.len()];
        assert_eq!(at, 0);
        let keys = is_key_picture(&truth, codec);
        for moment in [sent.len() / 3, sent.len() / 2, sent.len() * 4 / 5] {
            let key = (0..=moment).rev().find(|&i| keys[i]).expect("it begins with a key frame");
            // A hair after the picture's first packet.
            let from =
                jiff::Timestamp::from_microsecond((sent[moment].captured * 1e6) as i64 + 5).expect("a time");
            let url = format!(
                "rtsp://{}/{}?from={from}&to={}",
                server.address,
                word(&video["name"]),
                word(&video["last"])
            );
            let to = scratch.join(format!("{moment}.png"));
            for transport in ["tcp", "udp"] {
                let seen =
                    snapshot(&mut Command::new("ffmpeg"), &["-rtsp_transport", transport, "-i", &url], &to);
                assert_eq!(
                    seen, theirs[key],
                    "{name}: {from} is in picture {moment}, whose key frame is {key}"
                );
            }
        }
    }
}

/// Who does not know a name says what is wanted: where it comes from, the codec, the number.
#[test]
fn streams_are_selected_by_what_they_are() {
    let store = Store::import(&["gst-tcp-h265.pcap", "gst-udp-h264.pcap", "pcmu.pcap"].map(fixture));
    let server = store.serve();
    let mut wire = Wire::connect(server.address);
    let mut ask = |query: &str| {
        let url = format!("rtsp://{}/{query}", server.address);
        wire.ask("DESCRIBE", &url, "Accept: application/sdp\r\n")
    };
    let id =
        store.streams().iter().find(|s| s["codec"] == "h265").map(|s| word(&s["id"])).expect("there is one");
    for (query, format) in [
        ("?codec=h265".to_owned(), "H265/90000"),
        ("?source=198.18.0.11&codec=h264".to_owned(), "H264/90000"),
        ("?codec=pcmu".to_owned(), "PCMU/8000"),
        (format!("?id={id}"), "H265/90000"),
    ] {
        let answer = ask(&query);
        assert_eq!(answer.status, 200, "{query}: {}", answer.head);
        let body = &answer.body;
        assert!(
            body.contains(format) || format == "PCMU/8000" && body.contains("RTP/AVP 0"),
            "{query}: {body}"
        );
        assert_eq!(body.matches("m=").count(), 1, "{query}: {body}");
    }
    for nothing in ["?codec=aac", "?source=198.18.0.99", "?id=77", "nobody"] {
        let answer = ask(nothing);
        assert_eq!(answer.status, 404, "{nothing}: {}", answer.head);
        assert!(
            answer.head.lines().next().is_some_and(|line| line.len() > "RTSP/1.0 404 Not Found".len()),
            "{}",
            answer.head
        );
    }
}

fn npt_end(range: &str) -> f64 {
    let npt = range.trim().strip_prefix("npt=").unwrap_or_else(|| panic!("not npt: {range}"));
    npt.split('-').nth(1).and_then(|end| end.trim().parse().ok()).unwrap_or_else(|| panic!("no end: {range}"))
}

fn is_rtcp(frame: &Frame, packet_type: u8) -> bool {
    // A compound packet: walk it.
    let mut at = 0;
    while frame.channel == 1 && at + 4 <= frame.data.len() {
        if frame.data[at + 1] == packet_type {
            return true;
        }
        at += 4 + 4 * usize::from(u16::from_be_bytes([frame.data[at + 2], frame.data[at + 3]]));
    }
    false
}

/// VLC seeks and pauses only when it knows an npt end, keeps alive only by an announced GET_PARAMETER, sets its clock by the first
/// sender report, and ends at BYE.
#[test]
fn vlc_gets_what_it_needs() {
    let store = Store::import(&[fixture("gst-udp-h264.pcap")]);
    let server = store.serve();
    let url = server.url(&store.video());
    let mut wire = Wire::connect(server.address);

    let options = wire.ask("OPTIONS", &url, "");
    let public = options.header("Public").expect("Public").to_owned();
    for method in ["DESCRIBE", "SETUP", "PLAY", "PAUSE", "GET_PARAMETER", "TEARDOWN"] {
        assert!(public.contains(method), "{method} is missing in {public}");
    }

    let describe = wire.ask("DESCRIBE", &url, "Accept: application/sdp\r\n");
    assert_eq!(describe.status, 200, "{}", describe.head);
    let range = describe
        .body
        .lines()
        .find_map(|l| l.strip_prefix("a=range:"))
        .unwrap_or_else(|| panic!("no a=range in {}", describe.body));
    let end = npt_end(range);
    assert!(end > 1.0 && end < 10.0, "{range}");

    let base = describe.header("Content-Base").unwrap_or(&url).to_owned();
    let media = describe.body.split("m=").nth(1).expect("a media");
    let control = media.lines().find_map(|l| l.strip_prefix("a=control:")).expect("a control URI").trim();
    let track = match () {
        () if control.starts_with("rtsp://") => control.to_owned(),
        () if base.ends_with('/') => format!("{base}{control}"),
        () => format!("{base}/{control}"),
    };
    let setup = wire.ask("SETUP", &track, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n");
    assert_eq!(setup.status, 200, "{}", setup.head);
    assert!(setup.header("Session").is_some_and(|s| s.contains(";timeout=")), "{}", setup.head);
    let session = format!("Session: {}\r\n", setup.session());

    let play = wire.ask("PLAY", &url, &format!("{session}Range: npt=0.000-\r\n"));
    assert_eq!(play.status, 200, "{}", play.head);
    assert!(wire.frames.is_empty(), "media came before the answer to PLAY");
    assert!(npt_end(play.header("Range").expect("Range")) > 1.0, "{}", play.head);
    let info = play.header("RTP-Info").expect("RTP-Info").to_owned();
    assert!(info.contains("seq=") && info.contains("rtptime="), "{info}");
    assert!(wire.listen(Duration::from_secs(5), |frames| frames.iter().any(|f| f.channel == 0)), "no media");
    let report = wire.frames.iter().position(|f| is_rtcp(f, 200)).expect("a sender report");
    let first = wire.frames.iter().position(|f| f.channel == 0).expect("just seen");
    assert!(report < first, "the sender report comes after the first RTP packet");
    let seq = u16::from_be_bytes([wire.frames[first].data[2], wire.frames[first].data[3]]);
    assert!(info.contains(&format!("seq={seq}")), "{info}, but the first packet is {seq}");

    let pause = wire.ask("PAUSE", &url, &session);
    assert_eq!(pause.status, 200, "{}", pause.head);
    wire.frames.clear();
    let still = !wire.listen(Duration::from_millis(700), |frames| frames.iter().any(|f| f.channel == 0));
    assert!(still, "media goes on after PAUSE");
    let keep_alive = wire.ask("GET_PARAMETER", &url, &session);
    assert_eq!(keep_alive.status, 200, "{}", keep_alive.head);

    let again = wire.ask("PLAY", &url, &format!("{session}Range: npt=1.000-\r\n"));
    assert_eq!(again.status, 200, "{}", again.head);
    assert!(
        wire.listen(Duration::from_secs(8), |frames| frames.iter().any(|f| is_rtcp(f, 203))),
        "no BYE at the end of the range"
    );
    let teardown = wire.ask("TEARDOWN", &url, &session);
    assert_eq!(teardown.status, 200, "{}", teardown.head);
}

/// SETUP over the client's own connection and PLAY; what comes is in `frames`.
fn play(server: &Server, url: &str) -> Wire {
    let mut wire = Wire::connect(server.address);
    let describe = wire.ask("DESCRIBE", url, "Accept: application/sdp\r\n");
    let media = describe.body.split("m=").nth(1).unwrap_or_else(|| panic!("no media in {}", describe.body));
    let control = media.lines().find_map(|l| l.strip_prefix("a=control:")).expect("a control URI").trim();
    let base = describe.header("Content-Base").expect("Content-Base").trim_end_matches('/').to_owned();
    let track = if control.starts_with("rtsp://") { control.to_owned() } else { format!("{base}/{control}") };
    let setup = wire.ask("SETUP", &track, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n");
    assert_eq!(setup.status, 200, "{}", setup.head);
    let play = wire.ask("PLAY", url, &format!("Session: {}\r\n", setup.session()));
    assert_eq!(play.status, 200, "{}", play.head);
    wire
}

/// Packets come at the pace at which the camera sent them, whatever their time stamps say.
#[test]
fn playback_keeps_the_original_pace() {
    need!("pace", "tshark");
    let capture = fixture("gst-udp-h264.pcap");
    let store = Store::import(std::slice::from_ref(&capture));
    let server = store.serve();
    let mut wire = play(&server, &server.url(&store.video()));
    let ended = wire.listen(Duration::from_secs(10), |frames| frames.iter().any(|f| is_rtcp(f, 203)));
    assert!(ended, "no BYE");
    let packets: Vec<_> = wire.frames.iter().filter(|f| f.channel == 0).collect();
    let pictures: Vec<_> = packets.split_inclusive(|p| p.data[1] & 0x80 != 0).map(|p| p[0]).collect();
    let sent: Vec<Sent> = sent(&capture);
    assert!(pictures.len() >= 30 && pictures.len() <= sent.len(), "{} of {}", pictures.len(), sent.len());
    let late: Vec<f64> = pictures
        .iter()
        .zip(&sent)
        .map(|(p, s)| (p.at - pictures[0].at).as_secs_f64() - (s.captured - sent[0].captured))
        .collect();
    let mut sorted = late.clone();
    sorted.sort_by(f64::total_cmp);
    // The first picture is the measure of all others; it may itself have been late by what this machine was busy with.
    assert!(sorted[0] > -0.1, "a picture came {} s early: {late:.3?}", -sorted[0]);
    assert!(sorted[sorted.len() / 2].abs() < 0.04, "half of the pictures came late: {late:.3?}");
    assert!(sorted[sorted.len() - 1] < 0.5, "{late:.3?}");
}

#[test]
fn what_is_not_there_is_a_404_and_nonsense_is_a_400_and_neither_ends_the_server() {
    let store = Store::import(&[fixture("gst-udp-h264.pcap")]);
    let server = store.serve();
    let address = server.address;
    let mut wire = Wire::connect(address);
    assert_eq!(
        wire.ask("DESCRIBE", &format!("rtsp://{address}/nobody"), "Accept: application/sdp\r\n").status,
        404
    );
    assert_eq!(wire.ask("FROBNICATE", &format!("rtsp://{address}/"), "").status, 501);
    let name = word(&store.video()["name"]);
    let bad_time = wire.ask(
        "DESCRIBE",
        &format!("rtsp://{address}/{name}?from=yesterdayish"),
        "Accept: application/sdp\r\n",
    );
    assert!((400..500).contains(&bad_time.status), "{}", bad_time.head);
    assert_eq!(Wire::connect(address).ask("OPTIONS", "*", "").status, 200);
}
