//! Checks of the machine as a whole: clock, shared memory, open files.

use super::Finding;
use super::ffi::clock_state;
use crate::size::ByteSize;
use capture::WriterOptions;
use rustix::process::{Resource, getrlimit};

/// For each tap: the packets on their way to the disk, and as much again that a recorder may have left behind when it was killed.
const STAGINGS: u64 = 2;
/// Shards, index tables and clients of a busy recorder.
const OPEN_FILES: u64 = 4_096;

pub(super) fn examine(taps: usize) -> Vec<Finding> {
    vec![clock(), shared_memory(taps), open_files()]
}

fn clock() -> Finding {
    const CHECK: &str = "clock";
    match clock_state() {
        Ok(state) if state.synchronised => {
            Finding::good(CHECK, None, format!("synchronised, estimated error {} µs", state.error_us))
        }
        Ok(_) => Finding::warning(
            CHECK,
            None,
            "not synchronised: capture times drift from the cameras' and from other recorders'",
        )
        .remedy("run chrony or systemd-timesyncd (timedatectl set-ntp true)"),
        Err(error) => Finding::warning(CHECK, None, format!("the kernel does not say: {error}"))
            .remedy("timedatectl shows whether NTP runs"),
    }
}

fn shared_memory(taps: usize) -> Finding {
    const CHECK: &str = "shared memory";
    let wanted = STAGINGS * WriterOptions::default().staging_bytes * taps as u64;
    match rustix::fs::statvfs("/dev/shm") {
        Ok(room) => {
            let free = room.f_bavail * room.f_frsize;
            let seen = format!("{} free in /dev/shm", ByteSize(free));
            match free >= wanted {
                true => Finding::good(CHECK, None, seen),
                false => Finding::warning(CHECK, None, format!("{seen}, {} wanted", ByteSize(wanted))).remedy(
                    format!("mount -o remount,size={}M /dev/shm; without it the store's own directory is used, which is slower", (wanted >> 20) * 2),
                ),
            }
        }
        Err(error) => Finding::warning(CHECK, None, format!("no /dev/shm: {error}")).remedy(
            "mount -t tmpfs tmpfs /dev/shm; without it the store's own directory is used, which is slower",
        ),
    }
}

fn open_files() -> Finding {
    const CHECK: &str = "open files";
    // Every command raises its own limit as far as that.
    let limit = getrlimit(Resource::Nofile);
    match limit.maximum {
        Some(hard) if hard < OPEN_FILES => Finding::warning(CHECK, None, format!("at most {hard}"))
            .remedy(format!("raise it: ulimit -n {OPEN_FILES}, or LimitNOFILE= in the service")),
        Some(hard) => Finding::good(CHECK, None, format!("up to {hard}")),
        None => Finding::good(CHECK, None, "no limit"),
    }
}
