//! `Range` and `RTP-Info` of a PLAY reply beside the packets that follow: both name the first one, whatever was asked for.
#![allow(missing_docs, reason = "a test")]

mod common;

use common::*;
use replay::Config;
use replay::source::MediaKind;

/// Pictures with a clean point every second, and sound that has none.
fn picture_and_sound() -> Synthetic {
    let source = ten_seconds();
    let mut sound = info(2, "sound", at_ms(0), at_ms(9_960));
    (sound.media, sound.encoding) = (MediaKind::Audio, Some("PCMU".into()));
    source.tracks.lock().expect("lock").push((sound, frames(1, 1, at_ms(0), 250, 1, 160)));
    source
}

/// A moment of these ten seconds as `Range: clock=` has it.
fn clock(ms: i64) -> String {
    let second = at_ms(0).plus(std::time::Duration::from_millis(ms.unsigned_abs()));
    let in_minute = second.nanos() / 1_000_000 - (T0 - 20) * 1000;
    format!("20231114T2213{:02}.{:03}Z", in_minute / 1000, in_minute % 1000)
}

/// Plays some of the tracks and checks that `rtptime` is that of the first picture or sound, whose frame is `number`. Gives `Range`.
async fn play(server: &Running, path: &str, tracks: &[u8], range: &str, first: u32) -> String {
    let mut c = Client::connect(server.address).await;
    let url = server.url(path);
    let mut session = String::new();
    for (n, track) in tracks.iter().enumerate() {
        let channels = format!("{}-{}", 2 * n, 2 * n + 1);
        let headers = format!("{session}Transport: RTP/AVP/TCP;interleaved={channels}\r\n");
        let setup = c.ask("SETUP", &format!("{url}/trackID={track}"), &headers).await;
        assert_eq!(setup.status, 200, "{}", setup.text);
        session = format!("Session: {}\r\n", setup.session());
    }
    let played = c.ask("PLAY", &url, &format!("{session}{range}")).await;
    assert_eq!(played.status, 200, "{}", played.text);
    let info = played.header("RTP-Info").expect("RTP-Info");
    let mut told = info.split(',').map(|track| {
        let value = |name: &str| track.split(name).nth(1).and_then(|v| v.split(';').next()).expect("a value");
        (value("seq=").parse::<u16>().expect("seq"), value("rtptime=").parse::<u32>().expect("rtptime"))
    });
    for channel in (0..).step_by(2).take(tracks.len()) {
        let told = told.next().expect("of each track");
        let packet = loop {
            let (on, data) = c.frame().await.expect("a packet");
            if on == channel {
                break data;
            }
        };
        assert_eq!((seq(&packet), timestamp(&packet)), told, "{path} {range} {info}");
        assert_eq!(number(&packet), first, "{path} {range}");
    }
    played.header("Range").expect("Range")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn range_and_rtptime_name_the_first_packet() {
    let server = Running::start(picture_and_sound(), Config::default());
    let of = |from: f64, to: f64| format!("from={}&to={}", T0 as f64 + from, T0 as f64 + to);
    let both = format!("/cam?{}", of(2.5, 4.0));
    let described = Client::connect(server.address).await.ask("DESCRIBE", &server.url(&both), "").await;
    assert!(described.body.contains("a=range:npt=0-2.000\r\n"), "{}", described.body);
    let whole = |from: i64, to: i64| format!("clock={}-{}", clock(from), clock(to));
    let ask = |from: i64| format!("Range: clock={}-\r\n", clock(from));
    for (path, tracks, range, first, said) in [
        (&both, &[1, 2][..], String::new(), 50, "npt=0.000-2.000".to_owned()),
        (&both, &[1, 2], "Range: npt=0.000-\r\n".into(), 50, "npt=0.000-2.000".into()),
        (&both, &[1, 2], "Range: npt=0.4-\r\n".into(), 50, "npt=0.000-2.000".into()),
        (&both, &[1, 2], "Range: npt=1.3-\r\n".into(), 75, "npt=1.000-2.000".into()),
        (&both, &[1, 2], ask(2_500), 50, whole(2_000, 4_000)),
        (&both, &[1, 2], ask(3_500), 75, whole(3_000, 4_000)),
        // Sound alone has no clean point to go back to: it begins at the moment that the URL names.
        (&both, &[2], String::new(), 63, "npt=0.520-2.000".into()),
        (&format!("/door?{}", of(2.0, 4.0)), &[1], String::new(), 50, "npt=0.000-2.000".into()),
        (&"/door".into(), &[1], "Range: npt=3.5-\r\n".into(), 75, "npt=3.000-9.960".into()),
    ] {
        assert_eq!(play(&server, path, tracks, &range, first).await, said, "{path} {tracks:?} {range}");
    }
}

/// After the last packet there is no clean point and no packet: the range is what was asked for all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_without_packets_is_the_one_that_was_asked_for() {
    let source = picture_and_sound();
    source.tracks.lock().expect("lock")[1].1.truncate(25);
    let server = Running::start(source, Config::default());
    let mut c = Client::connect(server.address).await;
    let url = server.url("/sound");
    let session = c.set_up(&url).await;
    let played = c.ask("PLAY", &url, &format!("Session: {session}\r\nRange: npt=5-\r\n")).await;
    assert_eq!(played.header("Range"), Some("npt=5.000-9.960".into()), "{}", played.text);
}
