//! The two questions to the kernel that no safe library asks: a NIC's offloads and the state of the clock.
#![allow(unsafe_code)]

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::net::{AddressFamily, SocketType, socket};
use std::io;

/// An on/off setting of a NIC, by its number in `linux/ethtool.h`.
#[derive(Clone, Copy, Debug)]
pub enum Offload {
    /// `ETHTOOL_GGRO`: generic receive offload.
    Gro,
    /// Bit `ETH_FLAG_LRO` of `ETHTOOL_GFLAGS`: large receive offload.
    Lro,
}

const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETH_FLAG_LRO: u32 = 1 << 15;

#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// Whether `interface` has the offload on.
pub fn offload(interface: &str, which: Offload) -> io::Result<bool> {
    let (cmd, mask) = match which {
        Offload::Gro => (ETHTOOL_GGRO, u32::MAX),
        Offload::Lro => (ETHTOOL_GFLAGS, ETH_FLAG_LRO),
    };
    let name = interface.as_bytes();
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(&0) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let control: OwnedFd = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let mut value = EthtoolValue { cmd, data: 0 };
    // SAFETY: `ifreq` is plain old data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL with a getter of one value reads `ifr_name` (terminated: at most 15 of 16 bytes are set) and
    // writes the struct `ethtool_value` that `ifru_data` points to; both outlive the call, nothing keeps the pointer.
    let result =
        unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCETHTOOL as libc::Ioctl, &raw mut request) };
    match result {
        0 => Ok(value.data & mask != 0),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the kernel knows about its clock.
#[derive(Clone, Copy, Debug)]
pub struct ClockState {
    /// Some program disciplines it.
    pub synchronised: bool,
    /// Estimated error.
    pub error_us: i64,
}

/// Asks the kernel how good its clock is.
pub fn clock_state() -> io::Result<ClockState> {
    // SAFETY: `timex` is plain old data for which all zeroes is a valid value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `modes` is zero, so the call changes nothing and only fills in the struct, which outlives it.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    match state {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(ClockState {
            synchronised: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
            error_us: timex.esterror,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interface_is_an_error_and_a_long_name_as_well() {
        assert!(offload("no-such-if0", Offload::Gro).is_err());
        assert!(offload("an-interface-name-that-is-too-long", Offload::Gro).is_err());
        assert!(offload("", Offload::Lro).is_err());
    }
}
