//! Giving up every privilege but the one to open packet sockets.

use rustix::thread::{CapabilitySet, CapabilitySets};

/// Leaves this thread, and all that it starts from now on, nothing but CAP_NET_RAW (which a tap needs again when its interface
/// comes back). Call it before other threads are started. Without any privileges there is nothing to do.
pub fn keep_only_net_raw() -> std::io::Result<()> {
    crate::priority::keep_tap_priority();
    let now = rustix::thread::capabilities(None)?;
    let keep = now.permitted & CapabilitySet::NET_RAW;
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(())
}
