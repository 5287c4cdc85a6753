use super::*;
use crate::presentation::Window;
use crate::session::Carriage;
use crate::synthetic::{SyntheticSource, track};

/// A free pair of an even port and the one after it.
fn free_pair() -> u16 {
    let free = |port: u16| std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok();
    let mut pairs = (0..1000).map(|n| 28_200 + (std::process::id() as u16 % 500 + n) * 2);
    pairs.find(|&port| free(port) && free(port + 1)).expect("a free pair of ports")
}

/// Nothing runs between two commands here that is not waited for: what is only told to end still has its ports.
#[tokio::test]
async fn ports_are_free_when_a_track_or_session_is_torn_down() {
    let port = free_pair();
    let config = Config { udp_ports: port..=port + 1, ..Config::default() };
    let (notes, mut said) = mpsc::channel(8);
    let context = PlayerContext {
        session: SessionKey(1),
        presentation: Arc::new(Presentation {
            name: "door".into(),
            label: "/door".into(),
            tracks: vec![track(1, "door", "cam", 0, 100)],
            window: Window::Live,
        }),
        source: Arc::new(SyntheticSource::default()),
        ports: Arc::new(PortPairs::new(&config.udp_ports)),
        config,
        counters: Arc::default(),
        notes,
    };
    let (commands, receiver) = mpsc::channel(8);
    let local = "127.0.0.1:8554".parse().expect("address");
    let carriage = Carriage::udp("127.0.0.1:1234".parse().expect("address"), local, 9, 9);
    let prepare = |n| Command::Prepare {
        ticket: Ticket(n),
        track: SessionTrack { index: 0, uri: String::new(), carriage, ssrc: 1 },
        writer: None,
    };
    let ended = [Command::Remove { ticket: Ticket(2), index: 0 }, Command::Close { ticket: Some(Ticket(4)) }];
    for (n, end) in [1, 3].into_iter().zip(ended) {
        commands.try_send(prepare(n)).expect("room");
        commands.try_send(end).expect("room");
    }
    Player::new(context, receiver).run().await;
    for _ in 0..2 {
        let Some(Note::Prepared { result, .. }) = said.recv().await else { panic!("a track") };
        assert_eq!(result, Ok(Some((port, port + 1))));
        assert!(matches!(said.recv().await, Some(Note::TornDown { .. })));
    }
    for port in [port, port + 1] {
        std::net::UdpSocket::bind(("127.0.0.1", port)).expect("the port is free again");
    }
}
