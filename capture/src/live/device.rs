//! Opening an interface, and saying what is in the way.

use super::LiveConfig;
use super::filter::widen;
use crate::{LinkType, StoreError};
use pcap::{Active, Capture, Precision};

/// An interface that can't be tapped.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// No such interface.
    #[error("there is no interface {name}; there are: {}", existing.join(", "))]
    NoInterface {
        /// As it was named.
        name: String,
        /// Those that exist.
        existing: Vec<String>,
    },
    /// The right to capture is missing.
    #[error(
        "no permission to capture on {name}: run as root, or give the program the right once: \
         sudo setcap cap_net_raw+ep \"$(command -v tapdeck)\""
    )]
    Permission {
        /// The interface.
        name: String,
    },
    /// The filter is not valid.
    #[error("the filter {filter:?} is not valid: {reason}; `man pcap-filter` has the language")]
    Filter {
        /// The filter.
        filter: String,
        /// What libpcap says.
        reason: String,
    },
    /// Something else that libpcap says.
    #[error("interface {name} can't be opened: {reason}; `tapdeck doctor -i {name}` looks further")]
    Open {
        /// The interface.
        name: String,
        /// What libpcap says.
        reason: String,
    },
    /// The store could not take the tap.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The interfaces of this process's network namespace, sorted. `/sys/class/net` has those of the namespace that it was mounted in, which may be another.
pub fn interfaces() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let mut names: Vec<String> =
        table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect();
    names.sort();
    names
}

/// One of the interface's counters.
pub(super) fn statistic(interface: &str, name: &str) -> Option<u64> {
    std::fs::read_to_string(format!("/sys/class/net/{interface}/statistics/{name}")).ok()?.trim().parse().ok()
}

/// Whether the link is up (RFC 2863's `ifOperStatus`); interfaces that can't tell (`unknown`) are taken to be. `None` where the system does not say.
pub(super) fn is_up(interface: &str) -> Option<bool> {
    let state = std::fs::read_to_string(format!("/sys/class/net/{interface}/operstate")).ok()?;
    Some(!matches!(state.trim(), "down" | "lowerlayerdown" | "notpresent"))
}

/// An open interface.
pub(super) struct Device {
    pub capture: Capture<Active>,
}

impl Device {
    pub fn open(config: &LiveConfig) -> Result<Self, LiveError> {
        let name = &config.interface;
        let existing = interfaces();
        if !existing.contains(name) {
            return Err(LiveError::NoInterface { name: name.clone(), existing });
        }
        let failed = |error: pcap::Error| {
            let reason = reason(&error);
            match reason.to_lowercase() {
                r if r.contains("permission") || r.contains("not permitted") => {
                    LiveError::Permission { name: name.clone() }
                }
                _ => LiveError::Open { name: name.clone(), reason },
            }
        };
        let capture = Capture::from_device(name.as_str())
            .map_err(failed)?
            .promisc(config.promiscuous)
            .snaplen(config.snaplen as i32)
            .buffer_size(i32::try_from(config.ring_bytes).unwrap_or(i32::MAX))
            // 0 would hold blocks back for ever on a quiet link.
            .timeout(config.block_timeout_ms.max(1) as i32)
            .precision(Precision::Nano)
            .open()
            .map_err(failed)?;
        let mut capture = capture.setnonblock().map_err(failed)?;
        if let Some(filter) = &config.filter {
            let set = |capture: &mut Capture<Active>, f: &str| {
                let wrong = |e: pcap::Error| LiveError::Filter { filter: filter.clone(), reason: reason(&e) };
                capture.filter(f, true).map_err(wrong)
            };
            // The user's own first: an error is about what they wrote.
            set(&mut capture, filter)?;
            if !config.filter_exact
                && let Some(wider) = widen(filter)
                && set(&mut capture, &wider).is_err()
            {
                // A link type without tags; fragments and tagged frames stay out, as the filter says.
                set(&mut capture, filter)?;
            }
        }
        Ok(Self { capture })
    }

    pub fn link(&self) -> LinkType {
        LinkType(u16::try_from(self.capture.get_datalink().0).unwrap_or(u16::MAX))
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("link", &self.link()).finish()
    }
}

fn reason(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(text) => text.trim().to_owned(),
        other => other.to_string(),
    }
}
