//! What `tapdeck status` shows of the server: counters that the players add to and anyone may read.

use capture::CaptureTime;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The server at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerStats {
    /// Open TCP connections.
    pub connections: u64,
    /// Connections closed at once because there were too many.
    pub connections_refused: u64,
    /// Requests answered.
    pub requests: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// RTP packets sent since the start, sessions that have ended included.
    pub packets: u64,
    /// Bytes of RTP sent since the start, sessions that have ended included.
    pub bytes: u64,
    /// Sessions, in the order in which they were set up.
    pub clients: Vec<ClientStats>,
}

/// One session at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientStats {
    /// The client.
    pub peer: SocketAddr,
    /// What it calls itself (`User-Agent`).
    pub user_agent: String,
    /// What it plays: the path of its request.
    pub stream: String,
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// True for a live session.
    pub live: bool,
    /// True between PLAY and PAUSE or the end.
    pub playing: bool,
    /// RTP packets sent.
    pub packets: u64,
    /// Bytes of RTP sent.
    pub bytes: u64,
    /// Packets left out because the client was too slow (live only).
    pub skipped: u64,
    /// Packets that no datagram could carry (more than 65,507 bytes), or that the network refused.
    pub unsent: u64,
    /// Packets larger than [`LARGE_DATAGRAM_BYTES`] sent over UDP: the kernel fragments them on most paths.
    pub large_datagrams: u64,
    /// How far the last packet was sent behind its time.
    pub lag: Duration,
    /// Capture time of the last packet sent.
    pub position: Option<CaptureTime>,
}

/// A UDP payload that an Ethernet path carries in one frame.
pub const LARGE_DATAGRAM_BYTES: usize = 1472;

/// One session's counters; written by its player alone.
#[derive(Debug, Default)]
pub(crate) struct ClientCounters {
    pub(crate) packets: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) unsent: AtomicU64,
    pub(crate) large_datagrams: AtomicU64,
    pub(crate) lag_ns: AtomicU64,
    /// Nanoseconds since the epoch plus one; 0 before the first packet.
    pub(crate) position: AtomicU64,
    pub(crate) playing: AtomicU64,
}

impl ClientCounters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }

    pub(crate) fn set_position(&self, time: CaptureTime) {
        self.position.store(u64::try_from(time.nanos()).unwrap_or(0).saturating_add(1), Relaxed);
    }
}

/// What does not change during a session.
#[derive(Clone, Debug)]
pub(crate) struct ClientFacts {
    pub(crate) peer: SocketAddr,
    pub(crate) user_agent: String,
    pub(crate) stream: String,
    pub(crate) transport: &'static str,
    pub(crate) live: bool,
    pub(crate) counters: Arc<ClientCounters>,
}

/// All counters of a server.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) errors: AtomicU64,
    ended_packets: AtomicU64,
    ended_bytes: AtomicU64,
    clients: Mutex<BTreeMap<u64, ClientFacts>>,
}

impl Counters {
    pub(crate) fn insert(&self, key: u64, facts: ClientFacts) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).insert(key, facts);
    }

    pub(crate) fn remove(&self, key: u64) {
        let gone = self.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        if let Some(gone) = gone {
            self.ended_packets.fetch_add(gone.counters.packets.load(Relaxed), Relaxed);
            self.ended_bytes.fetch_add(gone.counters.bytes.load(Relaxed), Relaxed);
        }
    }

    pub(crate) fn snapshot(&self) -> ServerStats {
        let clients: Vec<ClientStats> = {
            let map = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            map.values().map(client_stats).collect()
        };
        ServerStats {
            connections: self.connections.load(Relaxed),
            connections_refused: self.connections_refused.load(Relaxed),
            requests: self.requests.load(Relaxed),
            errors: self.errors.load(Relaxed),
            packets: self.ended_packets.load(Relaxed) + clients.iter().map(|c| c.packets).sum::<u64>(),
            bytes: self.ended_bytes.load(Relaxed) + clients.iter().map(|c| c.bytes).sum::<u64>(),
            clients,
        }
    }
}

fn client_stats(facts: &ClientFacts) -> ClientStats {
    let c = &facts.counters;
    let position = c.position.load(Relaxed);
    ClientStats {
        peer: facts.peer,
        user_agent: facts.user_agent.clone(),
        stream: facts.stream.clone(),
        transport: facts.transport,
        live: facts.live,
        playing: c.playing.load(Relaxed) != 0,
        packets: c.packets.load(Relaxed),
        bytes: c.bytes.load(Relaxed),
        skipped: c.skipped.load(Relaxed),
        unsent: c.unsent.load(Relaxed),
        large_datagrams: c.large_datagrams.load(Relaxed),
        lag: Duration::from_nanos(c.lag_ns.load(Relaxed)),
        position: (position != 0)
            .then(|| CaptureTime::from_nanos(i64::try_from(position - 1).unwrap_or(i64::MAX))),
    }
}
