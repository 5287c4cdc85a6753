//! The server's limits, parsed once at the edge.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Where the server listens when no address is given: on this machine only, because there are no users yet.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8554);

/// Every bound of the server that traffic can reach.
#[derive(Clone, Debug)]
pub struct Config {
    /// RTSP sessions at a time; one more SETUP is answered 503.
    pub sessions_max: usize,
    /// TCP connections at a time; one more is closed at once.
    pub connections_max: usize,
    /// Tracks of one presentation; a camera with more is cut here, and it is logged.
    pub tracks_max: usize,
    /// A request's header and body together.
    pub request_bytes_max: usize,
    /// Told to clients as `timeout=`; a session without sign of life for so long (and `timeout_grace`) is ended.
    pub session_timeout: Duration,
    /// Added to `session_timeout` for requests that are on their way.
    pub timeout_grace: Duration,
    /// A connection without a session and without a request for so long is closed.
    pub idle_timeout: Duration,
    /// A TCP client that takes no byte for so long is disconnected.
    pub stall_timeout: Duration,
    /// UDP ports that RTP/RTCP pairs are taken from.
    pub udp_ports: RangeInclusive<u16>,
    /// Time between sender reports.
    pub report_interval: Duration,
    /// Bytes that are read ahead of the pacer for each session.
    pub read_ahead_bytes: usize,
    /// Bytes that wait for a slow live client before it skips to the next clean point.
    pub live_queue_bytes: usize,
    /// Packets that wait in a live subscription.
    pub live_queue_packets: usize,
    /// The most bytes written with one call.
    pub batch_bytes: usize,
    /// A stream whose last packet is older than this is not live.
    pub live_age_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sessions_max: 1024,
            connections_max: 2048,
            tracks_max: 16,
            request_bytes_max: 64 * 1024,
            session_timeout: Duration::from_secs(60),
            timeout_grace: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(15),
            udp_ports: 20_000..=28_191,
            report_interval: Duration::from_secs(5),
            read_ahead_bytes: 512 * 1024,
            live_queue_bytes: 2 * 1024 * 1024,
            live_queue_packets: 2048,
            batch_bytes: 64 * 1024,
            live_age_max: Duration::from_secs(30),
        }
    }
}

/// Files of a process that are not clients: index, shards, taps; as much as half of a low limit.
const OTHER_FILES: u64 = 1024;

impl Config {
    /// With no more clients than a process can have that may keep so many files open: who records beside it needs some for the next shard.
    #[must_use]
    pub fn within(mut self, open_files: u64) -> Self {
        let room = open_files - (open_files / 2).min(OTHER_FILES);
        let at_most = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        // A session of four tracks over UDP has eight sockets beside its connection.
        self.connections_max = self.connections_max.min(at_most(room / 5));
        let pairs = at_most(room / 5 * 2).min(self.udp_ports.len() / 2);
        let first = *self.udp_ports.start();
        self.udp_ports = first..=first + (2 * pairs.max(1) - 1) as u16;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_files_to_who_records() {
        for open_files in [16, 256, 1024, 4096, 20_000, u64::MAX] {
            let config = Config::default().within(open_files);
            let clients = (config.connections_max + config.udp_ports.len()) as u64;
            assert!(
                clients <= open_files / 2 || clients + OTHER_FILES <= open_files,
                "{clients} of {open_files}"
            );
            assert_eq!(config.udp_ports.len() % 2, 0);
            let all =
                clients == (Config::default().connections_max + Config::default().udp_ports.len()) as u64;
            assert_eq!(all, open_files >= 20_000);
        }
    }
}
