use super::*;
use crate::events::TrackStart;
use crate::presentation::Window;
use crate::request::{Decoder, Incoming};
use crate::session::Plan;
use crate::synthetic::track;
use proptest::prelude::*;
use std::time::Duration;

const URL: &str = "rtsp://h/door";
const C1: ConnectionId = ConnectionId(1);
const C2: ConnectionId = ConnectionId(2);

struct Bench {
    machine: ServerMachine,
    /// What every lookup finds.
    found: Presentation,
    /// The last plan, and where its first packet lies: at its start, unless the clean point is known.
    plan: Option<Plan>,
    clean_point: Option<CaptureTime>,
    start: Instant,
    elapsed: Duration,
    replies: Vec<String>,
    others: Vec<&'static str>,
}

fn presentation() -> Presentation {
    let t = |s| CaptureTime::from_secs_nanos(s, 0);
    Presentation {
        name: "door".into(),
        label: "/door".into(),
        tracks: vec![track(1, "door", "cam", 0, 100), track(2, "sound", "cam", 0, 100)],
        window: Window::Recorded { from: t(0), asked: t(0), to: t(100) },
    }
}

impl Bench {
    fn new() -> Self {
        let mut n = 0;
        let random = move || {
            n += 1;
            n
        };
        let machine = ServerMachine::new(Config::default(), Box::new(random));
        let mut b = Self {
            machine,
            found: presentation(),
            plan: None,
            clean_point: None,
            start: Instant::now(),
            elapsed: Duration::ZERO,
            replies: vec![],
            others: vec![],
        };
        b.connect(C1, "10.0.0.1:1");
        b.connect(C2, "10.0.0.2:1");
        b
    }

    fn now(&self) -> Now {
        Now { instant: self.start + self.elapsed, wall: CaptureTime::from_nanos(0) }
    }

    fn connect(&mut self, id: ConnectionId, peer: &str) {
        let local = "10.0.0.9:8554".parse().expect("address");
        self.machine.handle_connected(id, peer.parse().expect("address"), local, self.now());
    }

    /// Answers every event as a willing acting side does.
    fn drain(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Reply { bytes, .. } => self.replies.push(String::from_utf8(bytes).expect("text")),
                Event::LookUp { ticket, .. } => {
                    let now = self.now();
                    self.machine.handle_found(ticket, Ok(self.found.clone()), now);
                }
                Event::Prepare { ticket, .. } => {
                    self.machine.handle_prepared(ticket, Ok(Some((20_000, 20_001))))
                }
                Event::Play { ticket, plan, .. } => {
                    self.plan = Some(plan);
                    let tracks = vec![TrackStart { index: 0, seq: 5, rtptime: 6 }];
                    let first = match plan {
                        Plan::Recorded { from, .. } => self.clean_point.or(Some(from)),
                        Plan::Live => None,
                    };
                    self.machine.handle_started(ticket, Ok(Started { first, tracks }));
                }
                Event::Pause { ticket, .. } => self.machine.handle_paused(ticket, None),
                Event::Remove { ticket, .. } => {
                    self.others.push("remove");
                    self.machine.handle_torn_down(ticket);
                }
                Event::Close { ticket, .. } => {
                    self.others.push("close");
                    self.machine.handle_torn_down(ticket);
                }
                Event::Disconnect { .. } => self.others.push("disconnect"),
            }
        }
    }

    fn ask(&mut self, id: ConnectionId, method: &str, url: &str, headers: &str) -> String {
        self.ask_with(id, method, url, headers, "")
    }

    fn ask_with(&mut self, id: ConnectionId, method: &str, url: &str, headers: &str, body: &str) -> String {
        let mut d = Decoder::new(10_000);
        d.handle_bytes(format!("{method} {url} RTSP/1.0\r\nCSeq: 1\r\n{headers}\r\n{body}").as_bytes());
        let Ok(Some(Incoming::Request(request))) = d.poll() else { panic!("a request") };
        let now = self.now();
        self.machine.handle_request(id, &request, now);
        self.drain();
        self.replies.pop().expect("a reply")
    }

    /// A session with its first track set up.
    fn session(&mut self, transport: &str) -> String {
        let r = self.ask(C1, "SETUP", &format!("{URL}/trackID=1"), &format!("Transport: {transport}\r\n"));
        let id = r.split("Session: ").nth(1).and_then(|s| s.split(';').next()).expect("session");
        format!("Session: {id}\r\n")
    }

    fn tick(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.elapsed += Duration::from_secs(1);
            let now = self.now();
            self.machine.handle_timeout(now);
            self.drain();
        }
    }
}

const UDP: &str = "RTP/AVP;unicast;client_port=5000-5001";
const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=4-5";

#[test]
fn states_allow_what_rfc_2326_allows() {
    let mut b = Bench::new();
    let s = b.session(UDP);
    let two = format!("{URL}/trackID=2");
    let setup = format!("{s}Transport: {UDP}\r\n");
    for (method, url, headers, status) in [
        ("PAUSE", URL, s.as_str(), 200),
        ("SETUP", &two, &setup, 200),
        ("PLAY", URL, &s, 200),
        ("SETUP", &two, &setup, 455),
        ("PLAY", URL, &s, 200),
        ("PAUSE", URL, &s, 200),
        ("SETUP", &two, &setup, 455),
        ("PLAY", URL, &s, 200),
        ("TEARDOWN", URL, &s, 200),
        ("PLAY", URL, &s, 454),
        ("TEARDOWN", URL, &s, 454),
    ] {
        let r = b.ask(C1, method, url, headers);
        assert!(r.starts_with(&format!("RTSP/1.0 {status} ")), "{method} {headers}: {r}");
    }
}

#[test]
fn a_track_without_its_stream_is_the_described_one() {
    let mut b = Bench::new();
    let base = format!("{URL}?from=1700000000");
    let set_up = |b: &mut Bench| b.ask(C1, "SETUP", "rtsp://h/trackID=1", &format!("Transport: {UDP}\r\n"));
    assert!(set_up(&mut b).starts_with("RTSP/1.0 400 "), "nothing was described");
    b.ask(C1, "DESCRIBE", &base, "");
    let r = set_up(&mut b);
    assert!(r.starts_with("RTSP/1.0 200 "), "{r}");
}

#[test]
fn tracks_of_a_session_are_told_by_what_their_urls_ask_for() {
    let mut b = Bench::new();
    let s = b.session(UDP);
    let headers = format!("{s}Transport: {UDP}\r\n");
    for (url, status) in [
        ("rtsp://h/gate/trackID=2", 459),
        ("rtsp://h/door?from=1/trackID=2", 459),
        ("rtsp://user:secret@10.0.0.9:8554/d%6For/trackID=2", 200),
    ] {
        let r = b.ask(C1, "SETUP", url, &headers);
        assert!(r.starts_with(&format!("RTSP/1.0 {status} ")), "{url}: {r}");
    }
}

#[test]
fn the_content_base_of_a_query_alone_has_a_path() {
    let mut b = Bench::new();
    for url in ["rtsp://h:9701/?id=0", "rtsp://h:9701?id=0"] {
        let r = b.ask(C1, "DESCRIBE", url, "");
        assert!(r.contains("\r\nContent-Base: rtsp://h:9701/?id=0/\r\n"), "{r}");
    }
}

#[test]
fn parameters_are_not_understood_and_none_is_a_sign_of_life() {
    let mut b = Bench::new();
    let s = b.session(UDP);
    for (method, body, names) in [
        ("GET_PARAMETER", "", None),
        ("SET_PARAMETER", "", None),
        ("GET_PARAMETER", "\r\n", None),
        ("GET_PARAMETER", "packets_received\r\njitter\r\n", Some("packets_received\r\njitter\r\n")),
        ("SET_PARAMETER", "barparam: barstuff", Some("barparam\r\n")),
    ] {
        let headers = format!("{s}Content-Type: text/parameters\r\nContent-Length: {}\r\n", body.len());
        let r = b.ask_with(C1, method, URL, &headers, body);
        let session = s.trim_end();
        assert!(r.contains(session), "{r}");
        match names {
            None => assert!(r.starts_with("RTSP/1.0 200 OK\r\n") && r.ends_with("\r\n\r\n"), "{r}"),
            Some(names) => {
                let (head, told) = r.split_once("\r\n\r\n").expect("a body");
                assert!(head.starts_with("RTSP/1.0 451 Parameter Not Understood\r\n"), "{r}");
                assert!(head.contains("Content-Type: text/parameters\r\n") && told == names, "{r}");
            }
        }
    }
}

/// RFC 2326, section 10.5: the reply's range is what is played. `rtptime` is the first packet's, so the range begins there too.
#[test]
fn a_range_begins_with_the_first_packet_also_before_the_start_that_the_url_names() {
    let mut b = Bench::new();
    let t = |ms: i64| CaptureTime::from_nanos(ms * 1_000_000);
    b.found.window = Window::Recorded { from: t(8_000), asked: t(10_500), to: t(20_000) };
    assert!(b.ask(C1, "DESCRIBE", URL, "").contains("a=range:npt=0-12.000\r\n"));
    let s = b.session(TCP);
    for (asked, from_ms, clean_ms, said) in [
        ("", 10_500, 8_000, "npt=0.000-12.000"),
        // The whole window from its first picture on, which is pre-roll up to the moment that the URL names.
        ("Range: npt=0-\r\n", 10_500, 8_000, "npt=0.000-12.000"),
        ("Range: npt=1.5-\r\n", 10_500, 8_000, "npt=0.000-12.000"),
        ("Range: npt=5-\r\n", 13_000, 12_000, "npt=4.000-12.000"),
        (
            "Range: clock=19700101T000010.5Z-\r\n",
            10_500,
            8_000,
            "clock=19700101T000008.000Z-19700101T000020.000Z",
        ),
        (
            "Range: clock=19700101T000013Z-\r\n",
            13_000,
            12_000,
            "clock=19700101T000012.000Z-19700101T000020.000Z",
        ),
    ] {
        b.clean_point = Some(t(clean_ms));
        let r = b.ask(C1, "PLAY", URL, &format!("{s}{asked}"));
        assert!(r.contains(&format!("\r\nRange: {said}\r\n")), "{asked}: {r}");
        let Some(Plan::Recorded { from, resume: false, .. }) = b.plan else {
            panic!("{asked}: {:?}", b.plan)
        };
        assert_eq!(from, t(from_ms), "{asked}");
    }
    // Who pauses within the pre-roll goes on within it.
    let session = b.machine.sessions.values_mut().next().expect("a session");
    (session.state, session.position) = (State::Ready, Some(t(9_000)));
    b.clean_point = Some(t(9_000));
    assert!(b.ask(C1, "PLAY", URL, &s).contains("\r\nRange: npt=1.000-12.000\r\n"));
    assert_eq!(b.plan, Some(Plan::Recorded { from: t(9_000), to: t(20_000), resume: true }));
}

#[test]
fn a_session_answers_only_to_who_set_it_up() {
    let mut b = Bench::new();
    let s = b.session(UDP);
    assert!(b.ask(C2, "TEARDOWN", URL, &s).starts_with("RTSP/1.0 454"));
    // The same client may come back on another connection: the session over UDP is still there.
    b.machine.handle_disconnected(C1);
    b.connect(ConnectionId(3), "10.0.0.1:9");
    assert!(b.ask(ConnectionId(3), "PLAY", URL, &s).starts_with("RTSP/1.0 200"));
}

#[test]
fn what_is_carried_by_a_connection_ends_with_it() {
    let mut b = Bench::new();
    b.session(TCP);
    b.machine.handle_disconnected(C1);
    b.drain();
    assert_eq!(b.others, ["close"]);
}

#[test]
fn time_outs_in_simulated_time() {
    let mut b = Bench::new();
    let s = b.session(UDP);
    b.ask(C1, "PLAY", URL, &s);
    b.tick(50);
    b.ask(C1, "GET_PARAMETER", URL, &s);
    b.tick(64);
    assert!(!b.others.contains(&"close"), "a request is a sign of life");
    b.tick(1);
    assert!(b.others.contains(&"close"));
    // Over TCP the connection is the sign of life while it plays, and not while it does not.
    let mut b = Bench::new();
    let s = b.session(TCP);
    b.ask(C1, "PLAY", URL, &s);
    b.tick(600);
    assert!(!b.others.contains(&"close"));
    b.ask(C1, "PAUSE", URL, &s);
    b.tick(65);
    assert!(b.others.contains(&"close"));
}

#[test]
fn channels_are_adjacent_and_never_shared() {
    let mut b = Bench::new();
    let first = b.ask(C1, "SETUP", &format!("{URL}/trackID=1"), "Transport: RTP/AVP/TCP;interleaved=0-1\r\n");
    let again = b.ask(C1, "SETUP", &format!("{URL}/trackID=2"), "Transport: RTP/AVP/TCP;interleaved=1-2\r\n");
    assert!(first.contains("interleaved=0-1;") && again.contains("interleaved=2-3;"), "{again}");
}

#[test]
fn a_session_is_interleaved_in_one_connection() {
    let mut b = Bench::new();
    let s = b.session(TCP);
    // The same client, on another connection.
    b.connect(ConnectionId(3), "10.0.0.1:9");
    let two = format!("{URL}/trackID=2");
    let r = b.ask(ConnectionId(3), "SETUP", &two, &format!("{s}Transport: RTP/AVP/TCP;interleaved=2-3\r\n"));
    assert!(r.starts_with("RTSP/1.0 461"), "{r}");
    let r = b.ask(C1, "SETUP", &two, &format!("{s}Transport: RTP/AVP/TCP;interleaved=2-3\r\n"));
    assert!(r.starts_with("RTSP/1.0 200"), "{r}");
}

#[test]
fn channels_are_free_again_when_what_had_them_is_torn_down() {
    let mut b = Bench::new();
    for _ in 0..300 {
        let s = b.session(TCP);
        let two = format!("{s}Transport: RTP/AVP/TCP;interleaved=4-5\r\n");
        let r = b.ask(C1, "SETUP", &format!("{URL}/trackID=2"), &two);
        assert!(r.contains("interleaved=0-1;"), "{r}");
        b.ask(C1, "TEARDOWN", &format!("{URL}/trackID=1"), &s);
        let r = b.ask(C1, "SETUP", &format!("{URL}/trackID=1"), &two);
        assert!(r.contains("interleaved=4-5;"), "{r}");
        b.ask(C1, "TEARDOWN", URL, &s);
    }
    // Not before the last packet is out: it would be taken for one of the new track.
    let s = b.session(TCP);
    let now = b.now();
    let mut d = Decoder::new(10_000);
    d.handle_bytes(format!("TEARDOWN {URL} RTSP/1.0\r\nCSeq: 1\r\n{s}\r\n").as_bytes());
    let Ok(Some(Incoming::Request(request))) = d.poll() else { panic!("a request") };
    b.machine.handle_request(C1, &request, now);
    assert!(b.machine.channels_of(C1)[4]);
    b.drain();
    assert!(!b.machine.channels_of(C1)[4]);
}

/// Its BYE is still to come: on a channel that another track has by then, it would end that one.
#[test]
fn what_timed_out_keeps_its_channels_until_its_player_has_ended() {
    let mut b = Bench::new();
    b.session(TCP);
    b.elapsed += Duration::from_secs(65);
    // The connection itself is in use.
    b.ask(C1, "OPTIONS", "*", "");
    let now = b.now();
    b.machine.handle_timeout(now);
    let Some(Event::Close { ticket, .. }) = b.machine.poll_event() else { panic!("the session ends") };
    let set_up =
        |b: &mut Bench| b.ask(C1, "SETUP", &format!("{URL}/trackID=1"), &format!("Transport: {TCP}\r\n"));
    let r = set_up(&mut b);
    assert!(r.contains("interleaved=0-1;"), "{r}");
    b.machine.handle_torn_down(ticket);
    let r = set_up(&mut b);
    assert!(r.contains("interleaved=4-5;"), "{r}");
    // Nor does it matter that who asked for the end has gone meanwhile.
    let s = r.split("Session: ").nth(1).and_then(|s| s.split(';').next()).expect("session").to_owned();
    let c3 = ConnectionId(3);
    b.connect(c3, "10.0.0.1:2");
    let mut d = Decoder::new(10_000);
    d.handle_bytes(format!("TEARDOWN {URL} RTSP/1.0\r\nCSeq: 1\r\nSession: {s}\r\n\r\n").as_bytes());
    let Ok(Some(Incoming::Request(request))) = d.poll() else { panic!("a request") };
    b.machine.handle_request(c3, &request, now);
    b.machine.handle_disconnected(c3);
    assert!(b.machine.channels_of(C1)[4]);
    b.drain();
    assert!(!b.machine.channels_of(C1)[4] && b.machine.ending.is_empty());
}

#[test]
fn a_track_is_torn_down_alone_and_the_last_one_with_its_session() {
    let mut b = Bench::new();
    let s = b.session(UDP);
    let (one, two) = (format!("{URL}/trackID=1"), format!("{URL}/trackID=2"));
    b.ask(C1, "SETUP", &two, &format!("{s}Transport: {UDP}\r\n"));
    b.ask(C1, "PLAY", URL, &s);
    for (method, url, status, events) in [
        ("TEARDOWN", "rtsp://h/gate/trackID=1", 404, 0),
        ("TEARDOWN", "rtsp://h/door/trackID=3", 404, 0),
        ("TEARDOWN", two.as_str(), 200, 1),
        ("TEARDOWN", &two, 404, 1),
        ("PAUSE", URL, 200, 1),
        ("PLAY", URL, 200, 1),
        ("TEARDOWN", &one, 200, 2),
        ("PLAY", URL, 454, 2),
    ] {
        let r = b.ask(C1, method, url, &s);
        assert!(r.starts_with(&format!("RTSP/1.0 {status} ")), "{method} {url}: {r}");
        assert_eq!(b.others.len(), events, "{method} {url}");
        assert_eq!(r.contains(s.trim_end()), status == 200 && b.others.len() < 2, "{r}");
    }
    assert_eq!(b.others, ["remove", "close"]);
    // As GStreamer names a track, and a set up one more time.
    let s = b.session(UDP);
    let again = format!("{s}Transport: {UDP}\r\n");
    assert!(b.ask(C1, "SETUP", &two, &again).starts_with("RTSP/1.0 200"));
    assert!(b.ask(C1, "TEARDOWN", "rtsp://h/trackID=2", &s).starts_with("RTSP/1.0 200"));
    assert!(b.ask(C1, "SETUP", &two, &again).starts_with("RTSP/1.0 200"));
    assert!(b.ask(C1, "TEARDOWN", &format!("{URL}/"), &s).starts_with("RTSP/1.0 200"));
    assert_eq!(b.others[2..], ["remove", "close"]);
}

#[test]
fn an_acting_side_that_fails_is_answered_for() {
    let mut b = Bench::new();
    let now = b.now();
    let mut d = Decoder::new(10_000);
    d.handle_bytes(
        format!("SETUP {URL}/trackID=1 RTSP/1.0\r\nCSeq: 1\r\nTransport: {UDP}\r\n\r\n").as_bytes(),
    );
    let Ok(Some(Incoming::Request(request))) = d.poll() else { panic!("a request") };
    b.machine.handle_request(C1, &request, now);
    let Some(Event::LookUp { ticket, .. }) = b.machine.poll_event() else { panic!("a lookup") };
    b.machine.handle_found(ticket, Ok(presentation()), now);
    let Some(Event::Prepare { ticket, .. }) = b.machine.poll_event() else { panic!("a track") };
    b.machine.handle_prepared(ticket, Err(Refusal::new(Status::UNAVAILABLE, "no ports")));
    b.drain();
    assert_eq!((b.others.as_slice(), b.replies.len()), (&["close"][..], 1));
    assert!(b.replies[0].starts_with("RTSP/1.0 503 no ports"));
}

proptest! {
    /// Whatever is asked in whatever order: one reply to each request, and never more sessions than SETUPs.
    #[test]
    fn every_request_is_answered_once(steps in proptest::collection::vec((0usize..9, 0usize..4, any::<bool>(), 0u64..40), 1..60)) {
        let mut b = Bench::new();
        let methods = ["OPTIONS", "DESCRIBE", "SETUP", "PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER", "SET_PARAMETER", "X"];
        let urls = [URL, "rtsp://h/door/trackID=1", "rtsp://h/door/trackID=2", "rtsp://h/other"];
        let s = b.session(TCP);
        for (m, u, with_session, wait) in steps {
            let headers = format!("Transport: {TCP}\r\n{}", if with_session { s.as_str() } else { "" });
            b.ask(C1, methods[m], urls[u], &headers);
            prop_assert!(b.replies.is_empty());
            b.tick(wait);
        }
        prop_assert_eq!(b.machine.sessions.len(), b.machine.by_id.len());
        prop_assert!(b.machine.waiting.is_empty() && b.machine.ending.is_empty());
    }
}
