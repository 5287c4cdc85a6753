//! Giving up every privilege but the one to open packet sockets.

use rustix::thread::{CapabilitySet, CapabilitySets};

/// Leaves this thread, and all that it starts from now on, nothing but CAP_NET_RAW (which a tap needs again when its interface
/// comes back). Without any privileges there is nothing to do. Fails when there are other threads: they would keep theirs.
pub fn keep_only_net_raw() -> std::io::Result<()> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads > 1 {
        return Err(std::io::Error::other(format!(
            "{} threads run already that would keep them",
            threads - 1
        )));
    }
    crate::priority::keep_tap_priority();
    let now = rustix::thread::capabilities(None)?;
    let keep = now.permitted & CapabilitySet::NET_RAW;
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(())
}
