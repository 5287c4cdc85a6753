//! The dialogue on the wire, as a raw client sees it: each demand of VLC, ffmpeg, GStreamer and retina that the server meets.
#![allow(missing_docs, reason = "a test")]

mod common;
#[path = "../../tests/lab/skip.rs"]
mod skip;

use common::*;
use replay::{Bound, Config, RtspServer};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_is_described_set_up_and_played_over_tcp() {
    let server = Running::start(ten_seconds(), Config::default());
    let mut c = Client::connect(server.address).await;
    let options = c.ask("OPTIONS", "*", "").await;
    // VLC keeps a session alive only if GET_PARAMETER is announced.
    assert!(options.header("Public").expect("Public").contains("GET_PARAMETER"));
    let url = server.url(&format!("/door?from={}&to={}", T0 + 2, T0 + 4));
    let described = c.ask("DESCRIBE", &url, "").await;
    assert_eq!(described.header("Content-Base"), Some(format!("{url}/")));
    // VLC seeks only if the range has an end above 0.
    assert!(described.body.contains("a=range:npt=0-2.000\r\n"), "{}", described.body);
    let session = c.set_up(&url).await;
    // ffmpeg glues a slash to the query.
    let play =
        c.ask("PLAY", &format!("{url}/"), &format!("Session: {session}\r\nRange: npt=0.000-\r\n")).await;
    assert_eq!(play.status, 200, "{}", play.text);
    assert_eq!(play.header("Session"), Some(format!("{session};timeout=60")));
    assert_eq!(play.header("Range"), Some("npt=0.000-2.000".into()));
    let info = play.header("RTP-Info").expect("RTP-Info");
    assert!(c.frames.is_empty(), "nothing before the answer to PLAY");
    let (channel, first) = c.frame().await.expect("a frame");
    assert_eq!((channel, first[1]), (1, 200), "a sender report comes before the first RTP packet");
    let mut received = Vec::new();
    let began = Instant::now();
    let bye = loop {
        let (channel, data) = c.frame().await.expect("frames up to the end");
        match channel {
            0 => received.push(data),
            _ => break data,
        }
    };
    assert!(
        began.elapsed() > Duration::from_millis(1800),
        "paced by the original times: {:?}",
        began.elapsed()
    );
    assert!(says_goodbye(&bye), "BYE at the end");
    let numbers: Vec<u32> = received.iter().map(|p| number(p)).collect();
    assert_eq!(numbers, (50..=100).collect::<Vec<u32>>(), "the clean point at 2 s up to 4 s");
    let expected =
        format!("url={url}/trackID=1;seq={};rtptime={}", seq(&received[0]), timestamp(&received[0]));
    assert_eq!(info, expected);
    for pair in received.windows(2) {
        assert_eq!(seq(&pair[1]), seq(&pair[0]).wrapping_add(1));
        assert_eq!(timestamp(&pair[1]).wrapping_sub(timestamp(&pair[0])), 3600);
        assert_eq!(pair[0][17..], [pair[0][12]; 495], "the payload, from both pieces");
    }
    let stats = server.handle.stats();
    assert_eq!((stats.clients.len(), stats.clients[0].packets, stats.clients[0].transport), (1, 51, "tcp"));
    assert_eq!(c.ask("TEARDOWN", &url, &format!("Session: {session}\r\n")).await.status, 200);
    assert_eq!(c.ask("GET_PARAMETER", &url, &format!("Session: {session}\r\n")).await.status, 454);
    assert_eq!(server.handle.stats().packets, 51);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeking_goes_to_the_clean_point_and_pause_resumes_where_it_was() {
    let server = Running::start(ten_seconds(), Config::default());
    let mut c = Client::connect(server.address).await;
    let url = server.url("/door");
    let session = c.set_up(&url).await;
    let with = |range: &str| format!("Session: {session}\r\n{range}");
    let play = c.ask("PLAY", &url, &with("Range: npt=3.5-\r\n")).await;
    assert_eq!(play.header("Range"), Some("npt=3.000-9.960".into()), "the clean point at or before");
    let mut last = Vec::new();
    let mut burst = 0;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        let (channel, data) = c.frame().await.expect("frames");
        if channel == 0 {
            burst += u32::from(began.elapsed() < Duration::from_millis(35));
            last = data;
        }
    }
    assert!((12..=15).contains(&burst), "half a second of pre-roll at once, not {burst} packets");
    let paused = c.ask("PAUSE", &url, &with("")).await;
    assert_eq!(paused.status, 200);
    if let Some((_, data)) = c.frames.drain(..).rfind(|f| f.0 == 0) {
        last = data;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let play = c.ask("PLAY", &url, &with("")).await;
    assert!(play.status == 200 && c.frames.is_empty(), "nothing while paused");
    let resumed = loop {
        let (channel, data) = c.frame().await.expect("frames");
        if channel == 0 {
            break data;
        }
    };
    assert_eq!((number(&resumed), seq(&resumed)), (number(&last) + 1, seq(&last).wrapping_add(1)));
    // A seek without PAUSE, by wall clock: numbering goes on, time too.
    let play = c.ask("PLAY", &url, &with("Range: clock=20231114T221328.500Z-\r\n")).await;
    assert_eq!(play.header("Range"), Some("clock=20231114T221328.000Z-20231114T221329.960Z".into()));
    c.frames.clear();
    let mut previous: Option<Vec<u8>> = None;
    while let Some((channel, data)) = c.frame().await {
        if channel == 0 {
            let n = seq(&data);
            assert!(previous.is_none_or(|p| n == seq(&p).wrapping_add(1)));
            previous = Some(data);
        } else if says_goodbye(&data) {
            break;
        }
    }
    assert_eq!(previous.map(|p| number(&p)), Some(249));
    // After the end, a client may still seek back.
    let play = c.ask("PLAY", &url, &with("Range: npt=9-\r\n")).await;
    assert_eq!(play.header("Range"), Some("npt=9.000-9.960".into()));
    // So too while the BYE of that end is still to come, and none comes then.
    let mut ends = 0;
    while let Some((channel, data)) = c.frame().await {
        match channel {
            0 if number(&data) == 249 => {
                ends += 1;
                if ends == 1 {
                    assert_eq!(c.ask("PLAY", &url, &with("Range: npt=9.5-\r\n")).await.status, 200);
                }
            }
            1 if says_goodbye(&data) => break,
            _ => {}
        }
    }
    assert_eq!(ends, 2, "one BYE, after the second end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_again_for_what_the_reply_said_gets_the_same() {
    // Clean points lie a third of a millisecond behind the whole second.
    let packets = frames(1, 1, at_ms(0).plus(Duration::from_nanos(333_333)), 250, 25, 100);
    let server =
        Running::start(Synthetic::with(info(1, "door", at_ms(0), at_ms(9_961)), packets), Config::default());
    let mut c = Client::connect(server.address).await;
    let url = server.url("/door");
    let session = c.set_up(&url).await;
    for unit in ["npt=3.5-", "clock=20231114T221323.500Z-"] {
        let with = |range: &str| format!("Session: {session}\r\nRange: {range}\r\n");
        let first = c.ask("PLAY", &url, &with(unit)).await.header("Range").expect("Range");
        let again = c.ask("PLAY", &url, &with(&first)).await.header("Range").expect("Range");
        assert!(first.starts_with("npt=3.001-") || first.contains("T221323.001Z-"), "{first}");
        assert_eq!(first, again);
    }
}

/// A player keeps its clock by them (RFC 3550, section 6.4.1): they come again and again, and count what was sent before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sender_reports_come_regularly_and_lie_on_one_line() {
    let config = Config { report_interval: Duration::from_millis(300), ..Config::default() };
    let server = Running::start(ten_seconds(), config);
    let mut c = Client::connect(server.address).await;
    let url = server.url(&format!("/door?from={}&to={}", T0 + 2, T0 + 4));
    let session = c.set_up(&url).await;
    assert_eq!(c.ask("PLAY", &url, &format!("Session: {session}\r\n")).await.status, 200);
    let word = |data: &[u8], at: usize| u32::from_be_bytes(data[at..at + 4].try_into().expect("four bytes"));
    let (mut rtp, mut octets, mut reports) = (0, 0, Vec::new());
    loop {
        let (channel, data) = c.frame().await.expect("frames up to the end");
        if channel == 0 {
            rtp += 1;
            octets += data.len() as u32 - 12;
            continue;
        }
        assert_eq!(data[1], 200);
        assert_eq!((word(&data, 20), word(&data, 24)), (rtp, octets), "what was sent before");
        let ntp = f64::from(word(&data, 8)) + f64::from(word(&data, 12)) / 2f64.powi(32);
        reports.push((ntp, word(&data, 16)));
        if says_goodbye(&data) {
            break;
        }
    }
    assert!((6..=9).contains(&reports.len()), "{} reports in two seconds", reports.len());
    let (ntp, ticks) = reports[0];
    for &(later, then) in &reports[1..] {
        let off = f64::from(then.wrapping_sub(ticks)) / 90_000.0 - (later - ntp);
        assert!(off.abs() < 0.005, "{off} s off the line of the first report");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_pauses_while_it_lags_misses_nothing() {
    const LEN: usize = 20_000;
    let mut packets = frames(1, 1, at_ms(0), 500, 25, LEN);
    // 10 MB/s: more than the connection holds. Five come at a time, as in TCP segments.
    (0..).zip(&mut packets).for_each(|(i, packet)| packet.time = at_ms(2 * (i / 5 * 5)));
    let server =
        Running::start(Synthetic::with(info(1, "door", at_ms(0), at_ms(998)), packets), Config::default());
    let mut c = Client::connect(server.address).await;
    rustix::net::sockopt::set_socket_recv_buffer_size(&c.stream, 16_384).expect("buffer");
    let url = server.url("/door");
    let session = c.set_up(&url).await;
    let with = |range: &str| format!("Session: {session}\r\n{range}");
    assert_eq!(c.ask("PLAY", &url, &with("Range: npt=0-\r\n")).await.status, 200);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(c.ask("PAUSE", &url, &with("")).await.status, 200);
    let mut got: Vec<u32> = c.frames.drain(..).filter(|f| f.0 == 0).map(|f| number(&f.1)).collect();
    assert!((10..499).contains(got.last().expect("some")), "it lags, it has got {:?}", got.last());
    assert_eq!(c.ask("PLAY", &url, &with("")).await.status, 200);
    while let Some((channel, data)) = c.frame().await {
        match channel {
            0 => got.push(number(&data)),
            _ if says_goodbye(&data) => break,
            _ => {}
        }
    }
    assert_eq!(got, (0..500).collect::<Vec<u32>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_clear_and_the_connection_goes_on() {
    let server = Running::start(ten_seconds(), Config::default());
    let mut c = Client::connect(server.address).await;
    let url = server.url("/door");
    let session = c.set_up(&url).await;
    let with = |h: &str| format!("Session: {session}\r\n{h}");
    let tcp = "Transport: RTP/AVP/TCP;interleaved=2-3\r\n";
    let table = [
        ("DESCRIBE", server.url("/nix"), String::new(), 404, "no stream or camera is called 'nix'"),
        ("DESCRIBE", server.url("/door?from=soon"), String::new(), 400, "'soon' is no time"),
        ("DESCRIBE", url.clone(), "Accept: text/html\r\n".into(), 406, ""),
        ("DESCRIBE", url.clone(), "Require: onvif-replay\r\n".into(), 551, "Unsupported: onvif-replay"),
        ("SETUP", format!("{url}/trackID=9"), tcp.into(), 404, "no track 9"),
        ("SETUP", url.clone(), "Transport: RTP/AVP;multicast\r\n".into(), 461, "interleaved"),
        ("SETUP", url.clone(), String::new(), 461, ""),
        ("SETUP", url.clone(), with(tcp), 455, "set up already"),
        ("SETUP", server.url("/door?from=10"), with(tcp), 459, ""),
        ("PLAY", url.clone(), String::new(), 454, ""),
        ("PLAY", url.clone(), "Session: 123\r\n".into(), 454, ""),
        ("PLAY", url.clone(), with("Range: npt=100-\r\n"), 457, "outside of npt=0-9.960"),
        ("PLAY", url.clone(), with("Range: npt=x-\r\n"), 457, ""),
        ("PLAY", url.clone(), with("Range: smpte=10:00-\r\n"), 501, ""),
        ("RECORD", url.clone(), with(""), 501, "Public:"),
        ("GET_PARAMETER", url.clone(), with(""), 200, ""),
        ("SET_PARAMETER", url.clone(), with(""), 200, ""),
        ("GET_PARAMETER", url.clone(), String::new(), 200, ""),
        ("PAUSE", url.clone(), with(""), 200, ""),
        ("PLAY", url.clone(), with("Scale: 2.0\r\n"), 200, "Scale: 1.0"),
        ("SETUP", url.clone(), with(tcp), 455, ""),
    ];
    for (method, url, headers, status, says) in table {
        let reply = c.ask(method, &url, &headers).await;
        assert_eq!(reply.status, status, "{method} {url} {headers}: {}", reply.text);
        assert!(reply.text.contains(says), "{says}: {}", reply.text);
    }
    // Counted when the answer is on its way: that may be seen before the count.
    let asked = Instant::now();
    while server.handle.stats().errors < 16 {
        assert!(asked.elapsed() < Duration::from_secs(5), "{} errors", server.handle.stats().errors);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut garbage = Client::connect(server.address).await;
    tokio::io::AsyncWriteExt::write_all(&mut garbage.stream, b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("writes");
    let Some(Got::Reply(reply)) = garbage.next().await else { panic!("an answer") };
    assert_eq!(reply.status, 400);
    assert!(garbage.next().await.is_none(), "closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_carries_everything_up_to_the_largest_datagram() {
    let mut packets = frames(1, 1, at_ms(0), 10, 5, 400);
    packets.push(rtp(1, 11, 50_000, at_ms(400), true, &vec![7; 60_000]));
    packets.push(rtp(1, 12, 50_000, at_ms(401), true, &vec![7; 65_500]));
    packets.push(rtp(1, 13, 50_000, at_ms(402), true, &[7; 100]));
    let server =
        Running::start(Synthetic::with(info(1, "door", at_ms(0), at_ms(402)), packets), Config::default());
    let (a, b) = (
        UdpSocket::bind("127.0.0.1:0").await.expect("binds"),
        UdpSocket::bind("127.0.0.1:0").await.expect("binds"),
    );
    let ports = (a.local_addr().expect("address").port(), b.local_addr().expect("address").port());
    let mut c = Client::connect(server.address).await;
    let url = server.url("/door");
    let setup = c
        .ask(
            "SETUP",
            &format!("{url}/trackID=1"),
            &format!("Transport: RTP/AVP;unicast;client_port={}-{}\r\n", ports.0, ports.1),
        )
        .await;
    assert_eq!(setup.status, 200, "without DESCRIBE too: {}", setup.text);
    let transport = setup.header("Transport").expect("Transport");
    let told: Vec<u16> = transport
        .split("server_port=")
        .nth(1)
        .expect("ports")
        .split(';')
        .next()
        .expect("ports")
        .split('-')
        .map(|p| p.parse().expect("port"))
        .collect();
    assert!(
        Config::default().udp_ports.contains(&told[0]) && told[1] == told[0] + 1 && told[0].is_multiple_of(2)
    );
    let session = setup.session();
    c.ask("PLAY", &url, &format!("Session: {session}\r\n")).await;
    let mut buffer = vec![0; 70_000];
    let (n, from) = b.recv_from(&mut buffer).await.expect("receives");
    assert_eq!((buffer[1], from.port()), (200, told[1]), "a sender report first");
    assert!(n > 28);
    let mut sizes = Vec::new();
    let mut numbers = Vec::new();
    while sizes.len() < 12 {
        let received = tokio::time::timeout(Duration::from_secs(3), a.recv_from(&mut buffer)).await;
        let (n, from) = received.expect("in time").expect("receives");
        assert_eq!(from.port(), told[0]);
        sizes.push(n);
        numbers.push(seq(&buffer));
    }
    assert_eq!(sizes[10..], [60_012, 112], "the one of 65,512 bytes can't be a datagram");
    assert_eq!(numbers[11].wrapping_sub(numbers[10]), 2, "and stays visible as a hole");
    let n = b.recv(&mut buffer).await.expect("receives");
    assert!(says_goodbye(&buffer[..n]), "BYE");
    let client = server.handle.stats().clients[0].clone();
    assert_eq!((client.unsent, client.large_datagrams, client.packets), (1, 1, 12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipv4_client_of_an_ipv6_listener_is_served_as_one() {
    let Ok(bound) = Bound::to("[::]:0".parse().expect("address")) else {
        return skip::skip("wire, [::]", "this machine has no IPv6");
    };
    let server = Running::start_at(bound, ten_seconds(), Config::default());
    let Ok(stream) = tokio::net::TcpStream::connect(("127.0.0.1", server.address.port())).await else {
        return skip::skip("wire, [::]", "sockets of IPv6 take no IPv4 here (net.ipv6.bindv6only)");
    };
    drop(stream);
    let address = ([127, 0, 0, 1], server.address.port()).into();
    let url = format!("rtsp://{address}/door");
    let mut c = Client::connect(address).await;
    let described = c.ask("DESCRIBE", &url, "").await.body;
    for line in [" IN IP4 127.0.0.1\r\n", "c=IN IP4 0.0.0.0\r\n"] {
        assert!(described.contains(line), "{described}");
    }
    let session = c.set_up(&url).await;
    assert_eq!(c.ask("PLAY", &url, &format!("Session: {session}\r\n")).await.status, 200);
    assert_eq!(c.frame().await.expect("a sender report").0, 1);
    assert_eq!(c.frame().await.expect("a packet").0, 0);
    let mut c = Client::connect(address).await;
    let a = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
    let port = a.local_addr().expect("address").port();
    let setup =
        c.ask("SETUP", &url, &format!("Transport: RTP/AVP;unicast;client_port={port}-{port}\r\n")).await;
    assert_eq!(setup.status, 200, "{}", setup.text);
    c.ask("PLAY", &url, &format!("Session: {}\r\n", setup.session())).await;
    assert_sends(&a, address.ip()).await;
    let stats = server.handle.stats();
    assert!(stats.clients.iter().all(|client| client.peer.is_ipv4()), "{stats:?}");
}

/// Some datagrams come, and from that address.
async fn assert_sends(to: &UdpSocket, from: IpAddr) {
    let mut buffer = vec![0; 2048];
    for _ in 0..3 {
        let received = tokio::time::timeout(Duration::from_secs(3), to.recv_from(&mut buffer)).await;
        let (_, sender) = received.expect("in time").expect("receives");
        assert_eq!(sender.ip(), from);
    }
}

/// An address of this machine that is valid on one of its links alone.
fn link_local() -> Option<SocketAddrV6> {
    // As proc(5) has it: address, number of the interface, prefix, scope, flags, name; the numbers in hexadecimal.
    let table = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let ip = words.first()?.starts_with("fe80").then_some(u128::from_str_radix(words[0], 16).ok()?)?;
        Some(SocketAddrV6::new(ip.into(), 0, 0, u32::from_str_radix(words.get(1)?, 16).ok()?))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_local_client_gets_datagrams() {
    let Some(address) = link_local() else {
        return skip::skip("wire, fe80::", "this machine has no link-local address of IPv6");
    };
    let Ok(bound) = Bound::to(address.into()) else {
        return skip::skip("wire, fe80::", "this machine's link-local address can't be bound yet");
    };
    let server = Running::start_at(bound, ten_seconds(), Config::default());
    let mut c = Client::connect(server.address).await;
    let a = UdpSocket::bind(SocketAddr::from(address)).await.expect("binds");
    let port = a.local_addr().expect("address").port();
    let url = server.url("/door");
    let transport = format!("Transport: RTP/AVP;unicast;client_port={port}-{port}\r\n");
    let setup = c.ask("SETUP", &url, &transport).await;
    assert_eq!(setup.status, 200, "{}", setup.text);
    c.ask("PLAY", &url, &format!("Session: {}\r\n", setup.session())).await;
    assert_sends(&a, server.address.ip()).await;
}

/// RFC 2326, section 10.7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_track_is_torn_down_while_the_other_plays_on() {
    let source = ten_seconds();
    let packets = frames(1, 1, at_ms(0), 250, 25, 500);
    source.tracks.lock().expect("lock").push((info(2, "gate", at_ms(0), at_ms(9_960)), packets));
    let server = Running::start(source, Config::default());
    let mut c = Client::connect(server.address).await;
    let url = server.url(&format!("/cam?from={T0}&to={}", T0 + 2));
    let session = c.set_up(&url).await;
    let two = format!("{url}/trackID=2");
    let udp = [
        UdpSocket::bind("127.0.0.1:0").await.expect("binds"),
        UdpSocket::bind("127.0.0.1:0").await.expect("binds"),
    ];
    let [a, b] = udp.each_ref().map(|s| s.local_addr().expect("address").port());
    let with = |h: &str| format!("Session: {session}\r\n{h}");
    for transport in
        ["RTP/AVP/TCP;interleaved=2-3".to_owned(), format!("RTP/AVP;unicast;client_port={a}-{b}")]
    {
        let setup = c.ask("SETUP", &two, &with(&format!("Transport: {transport}\r\n"))).await;
        assert_eq!(setup.status, 200, "{}", setup.text);
        let play = c.ask("PLAY", &url, &with("Range: npt=0-\r\n")).await;
        assert!(play.header("RTP-Info").expect("RTP-Info").contains("trackID=2"), "{}", play.text);
        tokio::time::sleep(Duration::from_millis(400)).await;
        let torn = c.ask("TEARDOWN", &two, &with("")).await;
        assert_eq!((torn.status, torn.session()), (200, session.clone()), "{}", torn.text);
        let mut frames: Vec<_> = c.frames.drain(..).collect();
        let mut buffer = vec![0; 2048];
        while let Ok(n) = udp[0].try_recv(&mut buffer) {
            frames.push((2, buffer[..n].to_vec()));
        }
        while let Ok(n) = udp[1].try_recv(&mut buffer) {
            frames.push((3, buffer[..n].to_vec()));
        }
        let second = frames.iter().filter(|f| f.0 == 2).count();
        assert!((5..45).contains(&second), "{second} packets of the second track");
        let last = frames.iter().rfind(|f| f.0 == 3).expect("reports of the second track");
        assert!(says_goodbye(&last.1), "BYE is the last of it");
        // The first track goes on without a hole, and nothing of the second comes any more.
        let mut first: Vec<u16> = frames.iter().filter(|f| f.0 == 0).map(|f| seq(&f.1)).collect();
        while let Some((channel, data)) = c.frame().await {
            match channel {
                0 => first.push(seq(&data)),
                1 if says_goodbye(&data) => break,
                1 => {}
                other => panic!("channel {other} is gone"),
            }
        }
        assert_eq!(first.len(), 51);
        assert!(first.windows(2).all(|p| p[1] == p[0].wrapping_add(1)), "{first:?}");
        assert!(udp[0].try_recv(&mut buffer).is_err() && udp[1].try_recv(&mut buffer).is_err());
        let header = setup.header("Transport").expect("Transport");
        if let Some(port) = header.split("server_port=").nth(1).and_then(|p| p.split('-').next()) {
            let port: u16 = port.parse().expect("port");
            // Another test may be given it for a moment.
            let end = Instant::now() + Duration::from_secs(2);
            while let Err(error) = std::net::UdpSocket::bind(("127.0.0.1", port)) {
                assert!(Instant::now() < end, "port {port} is not free again: {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    assert_eq!(c.ask("TEARDOWN", &format!("{url}/trackID=1"), &with("")).await.status, 200);
    assert_eq!(c.ask("PLAY", &url, &with("")).await.status, 454, "it was the last");
    assert_eq!(server.handle.stats().clients.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconnects_of_the_camera_are_continuous_and_holes_are_not() {
    let mut packets = frames(1, 65_530, at_ms(0), 10, 5, 100);
    packets.remove(7);
    packets.extend(frames(2, 99, at_ms(800), 10, 5, 100));
    // Half an hour without the camera is shortened: VLC takes 10 s of silence for the end.
    packets.extend(frames(3, 5000, at_ms(1_800_000), 5, 5, 100));
    let server = Running::start(
        Synthetic::with(info(1, "door", at_ms(0), at_ms(1_800_160)), packets),
        Config::default(),
    );
    let mut c = Client::connect(server.address).await;
    let url = server.url("/door");
    let session = c.set_up(&url).await;
    c.ask("PLAY", &url, &format!("Session: {session}\r\n")).await;
    let mut got = Vec::new();
    let mut sources = Vec::new();
    while let Some((channel, data)) = c.frame().await {
        if channel == 0 {
            sources.push(data[8..12].to_vec());
            got.push((seq(&data), timestamp(&data)));
        } else if says_goodbye(&data) {
            break;
        }
    }
    sources.dedup();
    assert_eq!((got.len(), sources.len()), (24, 1));
    let (s0, t0) = got[0];
    let relative: Vec<(u16, u32)> =
        got.iter().map(|(s, t)| (s.wrapping_sub(s0), t.wrapping_sub(t0))).collect();
    assert_eq!(relative[6..8], [(6, 6 * 3600), (8, 8 * 3600)], "the hole stays");
    assert_eq!(relative[9], (10, 800 * 90), "the next number, at the elapsed time");
    assert_eq!(relative[19], (20, (800 + 360 + 1000) * 90), "after a long gap, a second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_without_a_sign_of_life_ends() {
    let config = Config {
        session_timeout: Duration::from_secs(1),
        timeout_grace: Duration::ZERO,
        idle_timeout: Duration::from_secs(2),
        ..Config::default()
    };
    let server = Running::start(ten_seconds(), config);
    let a = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
    let b = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
    let ports = (a.local_addr().expect("address").port(), b.local_addr().expect("address").port());
    let mut c = Client::connect(server.address).await;
    let url = server.url("/door");
    let setup = c
        .ask("SETUP", &url, &format!("Transport: RTP/AVP;unicast;client_port={}-{}\r\n", ports.0, ports.1))
        .await;
    assert!(setup.header("Session").expect("session").ends_with(";timeout=1"));
    c.ask("PLAY", &url, &format!("Session: {}\r\n", setup.session())).await;
    // Receiver reports keep it alive.
    let mut buffer = vec![0; 2048];
    let (_, rtcp) = b.recv_from(&mut buffer).await.expect("receives");
    for _ in 0..6 {
        b.send_to(&[0x80, 201, 0, 1, 1, 2, 3, 4], rtcp).await.expect("sends");
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(server.handle.stats().clients.len(), 1);
    }
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(server.handle.stats().clients.len(), 0, "without them it ends");
    let mut last = 0;
    while let Ok(n) = b.try_recv(&mut buffer) {
        last = n;
    }
    assert!(says_goodbye(&buffer[..last]), "with a BYE");
    assert!(c.next().await.is_none(), "an idle connection is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_sessions_are_refused_and_shutdown_says_goodbye() {
    let mut server =
        Running::start(ten_seconds(), Config { sessions_max: 1, connections_max: 2, ..Config::default() });
    let url = server.url("/door");
    let mut c = Client::connect(server.address).await;
    let session = c.set_up(&url).await;
    let mut d = Client::connect(server.address).await;
    let refused = d.ask("SETUP", &url, "Transport: RTP/AVP/TCP\r\n").await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    let mut e = Client::connect(server.address).await;
    assert!(e.next().await.is_none(), "one connection too many");
    c.ask("PLAY", &url, &format!("Session: {session}\r\n")).await;
    // Nobody says BYE who has sent nothing yet (RFC 3550, section 6.3.7).
    assert!(c.frame().await.is_some());
    server.stop();
    let mut bye = false;
    while let Some((channel, data)) = c.frame().await {
        bye |= channel == 1 && says_goodbye(&data);
    }
    assert!(bye);
}

#[test]
fn a_port_in_use_is_named() {
    let bound = Bound::to("127.0.0.1:0".parse().expect("address")).expect("binds");
    let a = RtspServer::new(bound, ten_seconds(), Config::default());
    let refused = std::net::TcpStream::connect(a.local_addr());
    assert!(refused.is_err(), "it took a connection before it was told to listen");
    a.listen().expect("listens");
    let Err(e) = Bound::to(a.local_addr()) else { panic!("bound twice") };
    assert!(
        e.to_string().starts_with(&format!("port {} on 127.0.0.1 is in use", a.local_addr().port())),
        "{e}"
    );
    assert!(a.notice().is_none());
    let bound = Bound::to("0.0.0.0:0".parse().expect("address")).expect("binds");
    let open = RtspServer::new(bound, ten_seconds(), Config::default());
    assert!(open.notice().is_some_and(|said| said.contains("no users yet")), "{:?}", open.notice());
}
