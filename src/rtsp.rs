//! The RTSP server in threads of its own, for `serve` and `record`.

use crate::console::Console;
use crate::failure::Failure;
use crate::open_files;
use reconstruct::footage::Footage;
use replay::{BindError, Bound, Config, DEFAULT_ADDRESS, RtspServer, ServerHandle, ServerStats};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::thread::JoinHandle;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

impl From<BindError> for Failure {
    /// The sentences of the server name the remedy themselves.
    fn from(error: BindError) -> Self {
        Self::failed(error)
    }
}

/// Where to listen: `HOST:PORT`, or nothing when the text is `off`.
pub fn address(text: Option<&str>) -> Result<Option<SocketAddr>, Failure> {
    let text = match text {
        None => return Ok(Some(DEFAULT_ADDRESS)),
        Some("off") => return Ok(None),
        Some(text) => text,
    };
    let resolved = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    resolved.map(Some).ok_or_else(|| {
        Failure::usage(format_args!("`{text}` is no address to listen on"))
            .next("give an address of this machine and a port, such as 127.0.0.1:8554 or [::]:8554")
    })
}

/// Where clients reach a server: of one that listens on all addresses, the first of this machine's `own` that other machines can use.
pub fn reached_at(listening: SocketAddr, own: impl IntoIterator<Item = IpAddr>) -> SocketAddr {
    if !listening.ip().is_unspecified() {
        return listening;
    }
    let (mut v4, mut v6) = (None, None);
    for address in own.into_iter().filter(|address| !address.is_loopback()) {
        match address {
            IpAddr::V4(own) if !own.is_link_local() => v4 = v4.or(Some(address)),
            IpAddr::V6(own) if !own.is_unicast_link_local() => v6 = v6.or(Some(address)),
            _ => {}
        }
    }
    // One that listens on `[::]` hears IPv4 as well.
    let of_its_kind = if listening.is_ipv4() { v4 } else { v4.or(v6) };
    let itself = if listening.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    SocketAddr::new(of_its_kind.unwrap_or(itself), listening.port())
}

/// The addresses of this machine; first those that it has on the way to everybody else.
pub fn own_addresses() -> impl Iterator<Item = IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849): nothing is sent, it is only looked up which way would be taken.
    let elsewhere: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    let on_the_way = elsewhere.into_iter().filter_map(|(any, to)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    let devices = pcap::Device::list().unwrap_or_default();
    on_the_way.chain(devices.into_iter().flat_map(|device| device.addresses).map(|address| address.addr))
}

/// A server that runs.
pub struct Rtsp {
    address: SocketAddr,
    handle: ServerHandle,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Rtsp {
    /// A server of that footage; says who can watch when that is not this machine alone.
    pub fn server(bound: Bound, footage: Footage, console: &Console) -> RtspServer {
        let server = RtspServer::new(bound, footage, Config::default().within(open_files::raise()));
        if let Some(notice) = server.notice() {
            console.say(format!("note: {notice}"));
        }
        server
    }

    /// Listens, and serves from threads of its own until [`stop`](Self::stop).
    pub fn start(server: RtspServer) -> Result<Self, Failure> {
        server.listen()?;
        let (address, handle) = (server.local_addr(), server.handle());
        let (shutdown, asked) = oneshot::channel();
        let cannot = |error| Failure::failed(format_args!("cannot start the RTSP server: {error}"));
        let runtime = Builder::new_multi_thread()
            .worker_threads(std::thread::available_parallelism().map_or(1, |n| n.get().min(4)))
            .thread_name("rtsp")
            .enable_all()
            .build()
            .map_err(cannot)?;
        let serve = move || {
            let ended = runtime.block_on(server.run(async {
                // A dropped sender means the same as a message.
                let _ = asked.await;
            }));
            if let Err(error) = ended {
                tracing::error!("the RTSP server ended: {error}");
            }
        };
        let thread = std::thread::Builder::new().name("rtsp-main".into()).spawn(serve).map_err(cannot)?;
        Ok(Self { address, handle, shutdown: Some(shutdown), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its counters.
    pub fn stats(&self) -> ServerStats {
        self.handle.stats()
    }

    /// Says BYE to all clients and ends.
    pub fn stop(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            let _ = shutdown.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Rtsp {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_addresses_is_reached_at_one() {
        let own = ["127.0.0.1", "::1", "fe80::1", "169.254.1.2", "2001:db8::5", "192.168.1.5", "10.0.0.1"];
        let reached = |listening: &str, own: &[&str]| {
            let own = own.iter().map(|address| address.parse().unwrap());
            reached_at(listening.parse().unwrap(), own).to_string()
        };
        assert_eq!(reached("0.0.0.0:8554", &own), "192.168.1.5:8554");
        assert_eq!(reached("[::]:8554", &own), "192.168.1.5:8554");
        assert_eq!(reached("[::]:8554", &own[..5]), "[2001:db8::5]:8554");
        assert_eq!(reached("0.0.0.0:8554", &own[..5]), "127.0.0.1:8554");
        assert_eq!(reached("[::]:8554", &[]), "[::1]:8554");
        assert_eq!(reached("10.0.0.1:8554", &own), "10.0.0.1:8554");
    }

    #[test]
    fn addresses_read_as_given() {
        assert_eq!(address(None).unwrap(), Some(DEFAULT_ADDRESS));
        assert_eq!(address(Some("off")).unwrap(), None);
        assert_eq!(address(Some("[::1]:0")).unwrap().unwrap().to_string(), "[::1]:0");
        for wrong in ["8554", "", "127.0.0.1", "127.0.0.1:99999", "a b:1"] {
            assert_eq!(address(Some(wrong)).unwrap_err().status(), 2, "{wrong}");
        }
    }
}
