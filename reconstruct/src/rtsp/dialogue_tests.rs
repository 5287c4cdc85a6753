//! One scenario a test; messages as real servers and clients write them.

use super::*;
use crate::rtsp::message::{Parsed, parse};

const SDP: &str = "v=0\r\ns=x\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:stream=0\r\n\
    m=audio 0 RTP/AVP 0\r\na=control:stream=1\r\n";
const BASE: &str = "rtsp://198.18.0.11:554/cam";

struct Lab {
    dialogue: Dialogue,
    now: i64,
}

impl Lab {
    fn new() -> Lab {
        let dialogue = Dialogue::new("198.18.0.2:40000".parse().unwrap(), "198.18.0.11:554".parse().unwrap());
        Lab { dialogue, now: 0 }
    }

    fn send(&mut self, from: End, text: &str) -> Vec<Event> {
        let Parsed::Message(message) = parse(text.as_bytes()) else { panic!("{text}") };
        self.now += 1_000_000;
        self.dialogue.handle_message(from, CaptureTime::from_nanos(self.now), message);
        self.events()
    }

    fn close(&mut self) -> Vec<Event> {
        self.dialogue.handle_close(CaptureTime::from_nanos(self.now), Closed::Orderly);
        self.events()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.dialogue.poll_event()).collect()
    }

    fn ask(&mut self, method: &str, uri: &str, cseq: u32, headers: &str) -> Vec<Event> {
        self.send(End::A, &format!("{method} {uri} RTSP/1.0\r\nCSeq: {cseq}\r\n{headers}\r\n"))
    }

    fn answer(&mut self, status: u16, cseq: u32, headers: &str, body: &str) -> Vec<Event> {
        let len = body.len();
        self.send(
            End::B,
            &format!("RTSP/1.0 {status} X\r\nCSeq: {cseq}\r\n{headers}Content-Length: {len}\r\n\r\n{body}"),
        )
    }

    fn describe(&mut self) -> Vec<Event> {
        self.ask("DESCRIBE", BASE, 2, "");
        self.answer(200, 2, &format!("Content-Base: {BASE}/\r\nContent-Type: application/sdp\r\n"), SDP)
    }
}

fn track(events: &[Event]) -> &TrackSetUp {
    let tracks: Vec<_> =
        events.iter().filter_map(|e| if let Event::TrackSetUp(t) = e { Some(t) } else { None }).collect();
    assert_eq!(tracks.len(), 1, "{events:?}");
    tracks[0]
}

fn only_exchanges(events: &[Event]) -> bool {
    events.iter().all(|e| matches!(e, Event::Exchange(_)))
}

#[test]
fn a_whole_session_over_udp() {
    let mut lab = Lab::new();
    lab.ask("OPTIONS", BASE, 1, "");
    assert!(only_exchanges(&lab.answer(200, 1, "Public: DESCRIBE\r\n", "")));
    let events = lab.describe();
    let Event::Described(described) = &events[1] else { panic!() };
    assert_eq!((described.base.as_str(), described.sdp.media.len()), ("rtsp://198.18.0.11:554/cam/", 2));
    assert_eq!(described.sdp.raw, SDP.as_bytes());

    lab.ask(
        "SETUP",
        "rtsp://198.18.0.11:554/cam/stream=1",
        3,
        "Transport: RTP/AVP/UDP;unicast;client_port=5002-5003\r\n",
    );
    let events = lab.answer(
        200,
        3,
        "Transport: RTP/AVP;unicast;client_port=5002-5003;server_port=6002-6003;ssrc=DEADBEEF\r\nSession: abc;timeout=60\r\n",
        "",
    );
    let t = track(&events);
    assert_eq!(
        (t.media, t.session.as_deref(), t.timeout_s, t.ssrc),
        (Some(1), Some("abc"), Some(60), Some(Ssrc(0xdead_beef)))
    );
    assert_eq!(
        t.transport,
        Transport::Udp {
            sender: "198.18.0.11".parse().unwrap(),
            receiver: "198.18.0.2".parse().unwrap(),
            sender_ports: Some((6002, 6003)),
            receiver_ports: Some((5002, 5003)),
        }
    );
    assert_eq!(t.evidence, Evidence::Granted);

    lab.ask("PLAY", BASE, 4, "Session: abc\r\nRange: npt=0-\r\n");
    let events = lab.answer(
        200,
        4,
        "Session: abc\r\nRTP-Info: url=rtsp://198.18.0.11:554/cam/stream=1;seq=7;rtptime=9\r\n",
        "",
    );
    let Event::Playing(playing) = &events[1] else { panic!() };
    assert_eq!(playing.range.as_deref(), Some("npt=0-"));
    assert_eq!((playing.rtp_info[0].media, playing.rtp_info[0].seq), (Some(1), Some(SequenceNumber(7))));

    lab.ask("GET_PARAMETER", BASE, 5, "Session: abc\r\n");
    assert!(
        matches!(&lab.answer(200, 5, "", "")[1], Event::KeepAlive(k) if k.session.as_deref() == Some("abc"))
    );
    lab.ask("TEARDOWN", BASE, 6, "Session: abc\r\n");
    let events = lab.answer(200, 6, "", "");
    assert!(matches!(&events[1], Event::Ended(e) if e.how == EndedHow::Teardown));
    assert!(lab.close().is_empty(), "ended once");
}

#[test]
fn refusals_grant_nothing() {
    let mut lab = Lab::new();
    lab.ask("DESCRIBE", BASE, 1, "");
    assert!(only_exchanges(&lab.answer(401, 1, "WWW-Authenticate: Basic realm=\"x\"\r\n", "")));
    lab.describe();
    lab.ask(
        "SETUP",
        &format!("{BASE}/stream=0"),
        3,
        "Transport: RTP/AVP/UDP;unicast;client_port=5002-5003\r\n",
    );
    assert!(only_exchanges(&lab.answer(
        461,
        3,
        "Transport: RTP/AVP/UDP;unicast;client_port=5002-5003\r\n",
        ""
    )));
    lab.ask("SETUP", &format!("{BASE}/stream=0"), 4, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n");
    let events = lab.answer(200, 4, "Transport: RTP/AVP/TCP;unicast;interleaved=4-5\r\nSession: 1\r\n", "");
    assert_eq!(track(&events).transport, Transport::Interleaved { rtp: 4, rtcp: 5 });
    assert_eq!(track(&events).media, Some(0));
}

#[test]
fn multicast() {
    let mut lab = Lab::new();
    lab.describe();
    lab.ask("SETUP", &format!("{BASE}/stream=0"), 3, "Transport: RTP/AVP;multicast\r\n");
    let events = lab.answer(
        200,
        3,
        "Transport: RTP/AVP;multicast;destination=239.10.0.1;port=5000-5001;ttl=4\r\nSession: 1\r\n",
        "",
    );
    assert_eq!(
        track(&events).transport,
        Transport::Multicast {
            group: Some("239.10.0.1".parse().unwrap()),
            ports: Some((5000, 5001)),
            ttl: Some(4),
            sender: "198.18.0.11".parse().unwrap(),
        }
    );
}

#[test]
fn what_the_grant_leaves_out_is_what_was_asked() {
    let mut lab = Lab::new();
    lab.ask("SETUP", &format!("{BASE}/stream=0"), 3, "Transport: RTP/AVP/TCP;unicast;interleaved=2-3\r\n");
    let events = lab.answer(200, 3, "Transport: RTP/AVP/TCP;unicast\r\nSession: 1\r\n", "");
    assert_eq!(track(&events).transport, Transport::Interleaved { rtp: 2, rtcp: 3 });
}

#[test]
fn only_the_server_is_seen() {
    let mut lab = Lab::new();
    let events =
        lab.answer(200, 2, &format!("Content-Base: {BASE}/\r\nContent-Type: application/sdp\r\n"), SDP);
    assert!(matches!(&events[1], Event::Described(d) if d.uri.is_none() && d.base == format!("{BASE}/")));
    let events = lab.answer(
        200,
        3,
        "Transport: RTP/AVP;unicast;client_port=5002-5003;server_port=6002-6003\r\nSession: 9\r\n",
        "",
    );
    assert_eq!((track(&events).control_uri.as_ref(), track(&events).session.as_deref()), (None, Some("9")));
    let events = lab.answer(200, 4, "Session: 9\r\nRTP-Info: url=rtsp://h/cam/stream=0;seq=1\r\n", "");
    assert!(matches!(&events[1], Event::Playing(p) if p.rtp_info[0].media == Some(0)));
}

#[test]
fn only_the_client_is_seen() {
    let mut lab = Lab::new();
    lab.ask("DESCRIBE", BASE, 1, "");
    let setup = lab.ask(
        "SETUP",
        &format!("{BASE}/stream=0"),
        2,
        "Transport: RTP/AVP;unicast;client_port=5002-5003\r\n",
    );
    assert!(setup.is_empty());
    let events = lab.ask("PLAY", BASE, 3, "Session: 77\r\n");
    let t = track(&events);
    assert_eq!((t.evidence, t.session.as_deref()), (Evidence::Offered, Some("77")));
    assert!(matches!(
        t.transport,
        Transport::Udp { receiver_ports: Some((5002, 5003)), sender_ports: None, .. }
    ));
    assert!(events.iter().any(|e| matches!(e, Event::Playing(_))));
    let events = lab.close();
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Exchange(x) if x.response.is_none())).count(), 3);
    assert!(
        matches!(events.last(), Some(Event::Ended(e)) if e.how == EndedHow::Closed && e.session.is_none())
    );
}

#[test]
fn quirk_wrong_cseq_on_a_rejected_keep_alive() {
    let mut lab = Lab::new();
    lab.ask("GET_PARAMETER", BASE, 5, "Session: abc\r\n");
    let events = lab.answer(454, 0, "", "");
    assert!(matches!(&events[0], Event::Exchange(x) if x.request.is_some() && x.response.is_some()));
    assert!(matches!(&events[1], Event::Ended(e) if e.how == EndedHow::Unknown));
}

#[test]
fn after_a_hole_a_foreign_cseq_is_no_answer() {
    let mut lab = Lab::new();
    lab.ask("OPTIONS", BASE, 7, "");
    lab.dialogue.handle_hole(End::A);
    let events = lab.answer(200, 5, "", "");
    assert!(matches!(&events[0], Event::Exchange(x) if x.request.is_none()));
    let events = lab.answer(200, 7, "", "");
    assert!(matches!(&events[0], Event::Exchange(x) if x.request.is_some()));
}

#[test]
fn an_answer_that_overtook_its_request_is_paired() {
    let mut lab = Lab::new();
    lab.answer(200, 3, "Transport: RTP/AVP/TCP;interleaved=0-1\r\nSession: 1\r\n", "");
    let events =
        lab.ask("SETUP", &format!("{BASE}/stream=0"), 3, "Transport: RTP/AVP/TCP;interleaved=0-1\r\n");
    assert_eq!(track(&events).control_uri.as_deref(), Some("rtsp://198.18.0.11:554/cam/stream=0"));
}

#[test]
fn the_server_asks_too() {
    let mut lab = Lab::new();
    let request = "OPTIONS rtsp://198.18.0.2/ RTSP/1.0\r\nCSeq: 1\r\n\r\n";
    lab.send(End::B, request);
    lab.ask("OPTIONS", BASE, 1, "");
    let events = lab.send(End::A, "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n");
    assert!(matches!(&events[0], Event::Exchange(x) if x.server == "198.18.0.2:40000".parse().unwrap()
        && x.request.as_ref().unwrap().bytes() == request.as_bytes()));
}

#[test]
fn publishing_turns_sender_and_receiver() {
    let mut lab = Lab::new();
    let len = SDP.len();
    lab.send(End::A, &format!("ANNOUNCE {BASE} RTSP/1.0\r\nCSeq: 1\r\nContent-Type: application/sdp\r\nContent-Length: {len}\r\n\r\n{SDP}"));
    let events = lab.answer(200, 1, "", "");
    assert!(matches!(&events[1], Event::Described(d) if d.published));
    lab.ask(
        "SETUP",
        &format!("{BASE}/stream=0"),
        2,
        "Transport: RTP/AVP/UDP;unicast;client_port=5000-5001;mode=record\r\n",
    );
    let events = lab.answer(
        200,
        2,
        "Transport: RTP/AVP/UDP;unicast;client_port=5000-5001;server_port=6000-6001\r\nSession: 1\r\n",
        "",
    );
    let sender: std::net::IpAddr = "198.18.0.2".parse().unwrap();
    assert!(
        matches!(track(&events).transport, Transport::Udp { sender: s, sender_ports: Some((5000, 5001)), .. } if s == sender)
    );
}

#[test]
fn teardown_of_one_track_leaves_the_other() {
    let mut lab = Lab::new();
    for (cseq, n) in [(1, 0), (2, 1)] {
        lab.ask("SETUP", &format!("{BASE}/stream={n}"), cseq, "");
        lab.answer(
            200,
            cseq,
            &format!("Transport: RTP/AVP/TCP;interleaved={}-{}\r\nSession: 1\r\n", 2 * n, 2 * n + 1),
            "",
        );
    }
    lab.ask("TEARDOWN", &format!("{BASE}/stream=0"), 3, "Session: 1\r\n");
    assert!(only_exchanges(&lab.answer(200, 3, "", "")));
    lab.ask("TEARDOWN", &format!("{BASE}/stream=1"), 4, "Session: 1\r\n");
    assert!(matches!(lab.answer(200, 4, "", "").last(), Some(Event::Ended(_))));
}

#[test]
fn bounds() {
    let mut lab = Lab::new();
    let mut unanswered = 0;
    for cseq in 0..1000 {
        unanswered += lab
            .ask("SETUP", &format!("{BASE}/{cseq}"), cseq, "Transport: RTP/AVP/TCP;interleaved=0-1\r\n")
            .len();
    }
    assert_eq!(unanswered + super::super::pairing::MAX_WAITING, 1000);
    let state = postcard::to_stdvec(&lab.dialogue).unwrap();
    assert!(state.len() < 64 * 1024, "{}", state.len());
    let back: Dialogue = postcard::from_bytes(&state).unwrap();
    assert_eq!(back, lab.dialogue);
}
