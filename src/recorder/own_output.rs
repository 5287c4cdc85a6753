//! tapdeck does not record its own RTSP output: what the server sends is kept out of the taps by their filters.
//!
//! Only where a tap can see it at all: a server on the loopback reaches no mirror port.

use capture::LiveConfig;
use replay::Config;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Adds what keeps our own output out of this tap, if the tap can see it; true when it did.
pub fn leave_out(tap: &mut LiveConfig, server: SocketAddr, addresses: &BTreeSet<IpAddr>) -> bool {
    let on_loopback = tap.interface == "lo";
    let own: BTreeSet<IpAddr> = match server.ip().is_unspecified() {
        true => addresses.clone(),
        false => BTreeSet::from([server.ip()]),
    };
    let seen: Vec<String> = own
        .into_iter()
        .filter(|ip| ip.is_loopback() == on_loopback || on_loopback)
        .map(|ip| ip.to_string())
        .collect();
    if seen.is_empty() {
        return false;
    }
    let ports = Config::default().udp_ports;
    let (first, last) = (ports.start(), ports.end());
    let hosts = |direction: &str| {
        let each: Vec<String> = seen.iter().map(|ip| format!("{direction}host {ip}")).collect();
        each.join(" or ")
    };
    let own = format!(
        "(tcp port {} and ({})) or (udp src portrange {first}-{last} and ({}))",
        server.port(),
        hosts(""),
        hosts("src ")
    );
    // First of all, because `vlan` in a filter moves what stands behind it.
    tap.filter = Some(match &tap.filter {
        Some(filter) if !filter.trim().is_empty() => format!("not ({own}) and ({filter})"),
        _ => format!("not ({own})"),
    });
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(interface: &str, server: &str, filter: Option<&str>) -> Option<String> {
        let mut tap = LiveConfig::new(interface);
        tap.filter = filter.map(str::to_owned);
        let addresses = ["127.0.0.1", "192.168.1.5", "fe80::1"].map(|a| a.parse().unwrap()).into();
        leave_out(&mut tap, server.parse().unwrap(), &addresses);
        tap.filter
    }

    #[test]
    fn a_mirror_port_never_sees_the_loopback() {
        assert_eq!(after("eth1", "127.0.0.1:8554", None), None);
        assert_eq!(after("eth1", "127.0.0.1:8554", Some("udp")).as_deref(), Some("udp"));
    }

    #[test]
    fn what_a_tap_can_see_is_left_out_and_compiles() {
        for (interface, server, filter) in [
            ("lo", "127.0.0.1:8554", None),
            ("eth1", "192.168.1.5:554", Some("vlan and udp")),
            ("eth1", "0.0.0.0:8554", Some("net 10.0.0.0/8")),
            ("lo", "[::]:8554", None),
        ] {
            let filter = after(interface, server, filter).unwrap();
            assert!(filter.starts_with("not ("), "{filter}");
            crate::packet_filter::PacketFilter::new(&filter).unwrap();
        }
    }
}
