//! Checks of one interface: is it there, may we listen, do its offloads alter packets, is the mirror one-way.

use super::Finding;
use super::ffi::{Offload, offload};
use std::fs;
use std::io;
use std::path::PathBuf;

/// What the given interfaces can bring together, in bytes a second, as far as their drivers say.
pub fn wire_speed_bytes(interfaces: &[String]) -> Option<u64> {
    let mbits: u64 = interfaces.iter().filter_map(|name| attribute(name, "speed")?.parse::<u64>().ok()).sum();
    (mbits > 0).then_some(mbits * 1_000_000 / 8)
}

fn attribute(interface: &str, name: &str) -> Option<String> {
    let path: PathBuf = ["/sys/class/net", interface, name].iter().collect();
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

pub(super) fn examine(name: &str) -> Vec<Finding> {
    let subject = Some(name);
    if !capture::interfaces().iter().any(|known| known == name) {
        let there = capture::interfaces().join(", ");
        return vec![
            Finding::bad("interface", subject, "there is no such interface")
                .remedy(format!("use one of {there}; `ip link` shows them")),
        ];
    }
    let mut findings = vec![link_state(name)];
    // The counter is read before and after the tap is open, so that what opening causes is seen as well.
    let sent_before = sent(name);
    findings.push(permission(name));
    findings.extend([Offload::Gro, Offload::Lro].map(|which| offload_finding(name, which)));
    findings.push(one_way(name, sent_before));
    findings
}

/// The `IFF_` flags of netdevice(7).
fn flags(name: &str) -> u32 {
    let text = attribute(name, "flags").unwrap_or_default();
    u32::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0)
}

fn is_loopback(name: &str) -> bool {
    flags(name) & 8 != 0
}

fn link_state(name: &str) -> Finding {
    let is_up = flags(name) & 1 != 0;
    let has_carrier = attribute(name, "carrier").as_deref() == Some("1");
    let mtu = attribute(name, "mtu").unwrap_or_default();
    match (is_up, has_carrier) {
        (true, true) => Finding::good("interface", Some(name), format!("up, with a link, MTU {mtu}")),
        (true, false) => Finding::warning("interface", Some(name), "up, but without a link")
            .remedy("check the cable and the switch's mirror port"),
        (false, _) => Finding::bad("interface", Some(name), "down").remedy(format!("ip link set {name} up")),
    }
}

fn permission(name: &str) -> Finding {
    let opened = pcap::Capture::from_device(name)
        .and_then(|tap| tap.promisc(true).snaplen(96).timeout(10).precision(pcap::Precision::Nano).open());
    match opened {
        Ok(_) => Finding::good("permission", Some(name), "may listen, promiscuous, nanosecond times"),
        Err(error) => Finding::bad("permission", Some(name), format!("may not listen: {error}")).remedy(
            "sudo setcap cap_net_raw+ep \"$(command -v tapdeck)\"; a service gets AmbientCapabilities=CAP_NET_RAW",
        ),
    }
}

fn offload_finding(name: &str, which: Offload) -> Finding {
    let (check, flag) = match which {
        Offload::Gro => ("GRO", "gro"),
        Offload::Lro => ("LRO", "lro"),
    };
    match offload(name, which) {
        Ok(false) => Finding::good(check, Some(name), "off"),
        Ok(true) => Finding::warning(
            check,
            Some(name),
            "on: packets are merged before they are recorded, not as they were on the wire",
        )
        .remedy(format!("ethtool -K {name} {flag} off")),
        Err(error)
            if error.kind() == io::ErrorKind::Unsupported
                || error.raw_os_error() == Some(libc::EOPNOTSUPP) =>
        {
            Finding::good(check, Some(name), "the driver has none")
        }
        Err(error) => Finding::warning(check, Some(name), format!("unknown: {error}"))
            .remedy(format!("ethtool -k {name} shows it")),
    }
}

fn sent(name: &str) -> Option<u64> {
    attribute(name, "statistics/tx_packets")?.parse().ok()
}

fn one_way(name: &str, sent_before: Option<u64>) -> Finding {
    let addresses: Vec<String> = pcap::Device::list()
        .unwrap_or_default()
        .into_iter()
        .filter(|device| device.name == name)
        .flat_map(|device| device.addresses)
        .map(|address| address.addr.to_string())
        .collect();
    if is_loopback(name) {
        return Finding::good("one-way", Some(name), "the loopback: for trials, no mirror port");
    }
    let quiet = format!(
        "when nothing but the mirror uses it: ip addr flush dev {name}; sysctl -w net.ipv6.conf.{name}.disable_ipv6=1; or refuse all of it: \
         nft 'add table netdev tapdeck; add chain netdev tapdeck out {{ type filter hook egress device {name} priority 0; policy drop; }}'"
    );
    if !addresses.is_empty() {
        let seen = format!("has addresses ({}): the kernel answers on the mirror port", addresses.join(", "));
        return Finding::warning("one-way", Some(name), seen).remedy(quiet);
    }
    match (sent_before, sent(name)) {
        (Some(0), Some(0)) => Finding::good("one-way", Some(name), "no address, nothing was ever sent"),
        (Some(before), Some(after)) if after > before => {
            Finding::warning("one-way", Some(name), format!("sent {} packets just now", after - before))
                .remedy(quiet)
        }
        (_, Some(after)) => Finding::good(
            "one-way",
            Some(name),
            format!("no address; {after} packets sent since it exists, none now"),
        ),
        _ => Finding::warning("one-way", Some(name), "the interface does not say what it sent").remedy(quiet),
    }
}
