//! Checks of the disk under the store: its filesystem, direct writes, room, and speed.

use super::Finding;
use crate::size::ByteSize;
use crate::stores::nearest_directory;
use rustix::fs::{FallocateFlags, OFlags, fallocate, statfs, statvfs};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CHUNK: usize = 1 << 20;
/// What the speed is measured with, unless the time is up first.
const SPEED_BYTES: u64 = 256 << 20;
const SPEED_TIME: Duration = Duration::from_secs(2);
const LITTLE_ROOM: u64 = 10 << 30;
/// What a disk should do when nothing is known about the wire: a full gigabit.
const GIGABIT: u64 = 125_000_000;

pub(super) fn examine(store: &Path, wire_speed: Option<u64>) -> Vec<Finding> {
    let Some(dir) = nearest_directory(store) else {
        return vec![
            Finding::bad("store", store.to_str(), "neither it nor any directory above it exists")
                .remedy("give --store a place that exists"),
        ];
    };
    let place = dir.display().to_string();
    let mut findings = vec![filesystem(&dir, &place), room(&dir, &place)];
    match Scratch::new(&dir) {
        Ok(scratch) => findings.push(speed(&scratch, &place, wire_speed.unwrap_or(GIGABIT))),
        Err(error) => findings.push(
            Finding::bad("store", Some(&place), format!("cannot write there: {error}"))
                .remedy(format!("give the recorder's user the directory: chown USER {place}")),
        ),
    }
    findings
}

fn filesystem(dir: &Path, place: &str) -> Finding {
    const CHECK: &str = "filesystem";
    let kind = match statfs(dir) {
        Ok(found) => found.f_type as u64 & 0xffff_ffff,
        Err(error) => return Finding::bad(CHECK, Some(place), format!("cannot be asked: {error}")),
    };
    // The numbers are the constants of statfs(2).
    match kind {
        0xef53 => Finding::good(CHECK, Some(place), "ext4"),
        0x5846_5342 => Finding::good(CHECK, Some(place), "XFS"),
        0xf2f5_2010 => Finding::good(CHECK, Some(place), "F2FS"),
        0x9123_683e => Finding::warning(
            CHECK,
            Some(place),
            "btrfs writes every block to a new place: slower, and a reserved shard is no promise of room",
        )
        .remedy(format!("chattr +C {place} before the store is made, or use XFS or ext4")),
        0x2fc1_2fc1 => Finding::warning(CHECK, Some(place), "ZFS: a reserved shard is no promise of room")
            .remedy("use XFS or ext4 for the store"),
        0x0102_1994 => {
            Finding::warning(CHECK, Some(place), "tmpfs: all is gone with the next start of the machine")
                .remedy("give --store a directory on a disk")
        }
        0x794c_7630 => Finding::warning(CHECK, Some(place), "overlayfs, as inside a container")
            .remedy("mount a volume for the store"),
        0x6969 | 0xff53_4d42 | 0xfe53_4d42 | 0x517b => Finding::bad(
            CHECK,
            Some(place),
            "a network filesystem: its stalls lose packets, and its locks and maps are not dependable",
        )
        .remedy("use a local disk"),
        other => Finding::warning(CHECK, Some(place), format!("unknown kind {other:#x}"))
            .remedy("XFS and ext4 are the ones that are tried"),
    }
}

fn room(dir: &Path, place: &str) -> Finding {
    const CHECK: &str = "room";
    match statvfs(dir) {
        Ok(room) => {
            let free = room.f_bavail * room.f_frsize;
            let seen = format!("{} free", ByteSize(free));
            match free >= LITTLE_ROOM {
                true => Finding::good(CHECK, Some(place), seen),
                false => Finding::warning(CHECK, Some(place), seen).remedy(
                    "a 1080p camera takes 20 to 60 GB a day; set --keep-bytes, --keep-days or --min-free",
                ),
            }
        }
        Err(error) => Finding::bad(CHECK, Some(place), format!("cannot be asked: {error}")),
    }
}

/// A file that is gone when the check is.
struct Scratch {
    file: File,
    path: PathBuf,
    direct: bool,
}

impl Scratch {
    fn new(dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!(".tapdeck-doctor-{}", std::process::id()));
        let direct = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        match options.clone().custom_flags(direct).open(&path) {
            Ok(file) => Ok(Self { file, path, direct: true }),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                // Some filesystems create the name before they refuse the flag.
                let _ = std::fs::remove_file(&path);
                Ok(Self { file: options.open(&path)?, path, direct: false })
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

fn speed(scratch: &Scratch, place: &str, wanted: u64) -> Finding {
    const CHECK: &str = "disk speed";
    match measure(&scratch.file) {
        Ok(rate) => {
            let way = if scratch.direct { "direct" } else { "through the page cache (no O_DIRECT here)" };
            let seen = format!("{}/s written {way}", ByteSize(rate));
            if rate < wanted {
                return Finding::warning(
                    CHECK,
                    Some(place),
                    format!("{seen}; the wire can bring {}/s", ByteSize(wanted)),
                )
                .remedy("use a faster disk, or a --filter that records less");
            }
            match scratch.direct {
                true => Finding::good(CHECK, Some(place), seen),
                false => Finding::warning(CHECK, Some(place), seen).remedy("XFS and ext4 take direct writes"),
            }
        }
        Err(error) => Finding::bad(CHECK, Some(place), format!("cannot write: {error}"))
            .remedy("free some room, or give --store another place"),
    }
}

fn measure(file: &File) -> io::Result<u64> {
    // O_DIRECT wants aligned memory: take the aligned part of a buffer that is one page longer.
    const PAGE: usize = 4_096;
    let buffer = vec![0x5a_u8; CHUNK + PAGE];
    let aligned = buffer.as_ptr().align_offset(PAGE);
    let chunk = &buffer[aligned..aligned + CHUNK];
    // Reserved like a shard is; a filesystem that cannot is measured without.
    let _ = fallocate(file, FallocateFlags::empty(), 0, SPEED_BYTES);
    let began = Instant::now();
    let mut written = 0;
    while written < SPEED_BYTES && began.elapsed() < SPEED_TIME {
        file.write_all_at(chunk, written)?;
        written += CHUNK as u64;
    }
    file.sync_data()?;
    Ok((written as f64 / began.elapsed().as_secs_f64().max(1e-6)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scratch_file_is_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let findings = examine(&dir.path().join("not/yet/made"), Some(1));
        assert!(findings.iter().any(|f| f.check == "disk speed"), "{findings:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
