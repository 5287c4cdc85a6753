//! A live tap on a real interface: a veth pair whose other end is in a namespace. The link goes down and comes back, disappears and is
//! made again; the tap itself never sends. Needs root; without, it is skipped with the reason.

#[path = "../../tests/lab/skip.rs"]
mod skip;

use capture::{LiveConfig, LiveError, LiveTap, SourceKind, Store, TapTail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

struct Lab {
    namespace: String,
    tap: String,
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|e| format!("ip: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

impl Lab {
    fn new() -> Result<Self, String> {
        let number = std::process::id() % 100_000;
        let lab = Self { namespace: format!("tapdeck-{number}"), tap: format!("tap{number}") };
        ip(&format!("netns add {}", lab.namespace))?;
        lab.link()?;
        Ok(lab)
    }

    fn link(&self) -> Result<(), String> {
        let (tap, ns) = (&self.tap, &self.namespace);
        ip(&format!("link add {tap} type veth peer name cam0 netns {ns}"))?;
        // The kernel must not speak on the tap's side by itself.
        let quiet = format!("/proc/sys/net/ipv6/conf/{tap}/disable_ipv6");
        if std::path::Path::new(&quiet).exists() {
            std::fs::write(&quiet, "1").map_err(|e| format!("{quiet}: {e}"))?;
        }
        ip(&format!("link set {tap} arp off up"))?;
        ip(&format!("-n {ns} link set cam0 up"))?;
        ip(&format!("-n {ns} addr add 198.18.7.1/24 dev cam0"))?;
        ip(&format!("-n {ns} neigh replace 198.18.7.2 lladdr 02:00:00:00:00:02 dev cam0 nud permanent"))
    }

    /// Sends packets `numbers` from the other end.
    fn send(&self, numbers: std::ops::Range<u32>) {
        let namespace = File::open(format!("/run/netns/{}", self.namespace)).unwrap();
        // A thread's namespace is its own; it ends with it.
        let sender = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let socket = UdpSocket::bind("198.18.7.1:0").unwrap();
            for n in numbers {
                socket.send_to(&n.to_be_bytes(), "198.18.7.2:5004").unwrap();
            }
        };
        std::thread::spawn(sender).join().unwrap();
    }

    fn sent_by_tap(&self) -> u64 {
        let path = format!("/sys/class/net/{}/statistics/tx_packets", self.tap);
        std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = ip(&format!("link del {}", self.tap));
        let _ = ip(&format!("netns del {}", self.namespace));
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(8), "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const TEST: &str = "a_link_that_goes_and_comes_back_is_recorded_and_never_spoken_on";

#[test]
fn a_link_that_goes_and_comes_back_is_recorded_and_never_spoken_on() {
    let lab = match Lab::new() {
        Ok(lab) => lab,
        Err(why) => return skip::skip(TEST, &format!("a veth pair needs root: {why}")),
    };
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store")).unwrap();
    let lock = store.lock().unwrap();
    let source = store.open_source(&lock, SourceKind::Live, capture::CaptureTime::from_nanos(1)).unwrap();
    let mut config = LiveConfig::new(&lab.tap);
    (config.filter, config.ring_bytes) = (Some("udp dst port 5004".into()), 8 << 20);
    (config.writer.shard_size, config.writer.staging_bytes) = (4 << 20, 8 << 20);
    let tap = match LiveTap::start(&store, &lock, source, config) {
        Err(LiveError::Permission { .. }) => return skip::skip(TEST, "no permission to capture"),
        started => started.unwrap(),
    };
    lab.send(0..3_000);
    wait_for("the first packets", || tap.stats().packets == 3_000);
    assert!(tap.stats().up);

    ip(&format!("link set {} down", lab.tap)).unwrap();
    wait_for("the link being missed", || tap.trouble().is_some() || !tap.stats().up);
    ip(&format!("link set {} up", lab.tap)).unwrap();
    wait_for("the link being back", || tap.trouble().is_none() && tap.stats().up);
    lab.send(3_000..4_000);
    wait_for("packets after the link was down", || tap.stats().packets == 4_000);
    assert_eq!(lab.sent_by_tap(), 0);

    ip(&format!("link del {}", lab.tap)).unwrap();
    wait_for("the interface being missed", || tap.trouble().is_some());
    lab.link().unwrap();
    wait_for("the new interface", || tap.trouble().is_none() && tap.stats().up);
    lab.send(4_000..4_500);
    wait_for("packets of the new interface", || tap.stats().packets == 4_500);
    assert_eq!(lab.sent_by_tap(), 0);

    let id = tap.tap();
    let stopped = tap.stop();
    stopped.result.unwrap();
    let stats = stopped.stats;
    assert_eq!((stats.packets, stats.dropped_kernel, stats.dropped_ours), (4_500, 0, 0), "{stats:?}");
    assert!(stats.reopened >= 1 && stats.received >= 4_500, "{stats:?}");
    let mut tail = TapTail::new(&store, id, None);
    let mut numbers = Vec::new();
    while let Some((_, chunk)) = tail.next().unwrap() {
        numbers
            .extend(chunk.records().map(|r| u32::from_be_bytes(r.data[14 + 20 + 8..].try_into().unwrap())));
    }
    assert_eq!(numbers, (0..4_500).collect::<Vec<_>>());
}
