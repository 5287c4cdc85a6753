//! A file as shared memory, in large pages where the system has them.
//!
//! The disk takes memory in pieces that are contiguous: a block of 1 MiB is 256 of them in pages of 4 KiB, and one or two in large ones. On
//! a virtual disk, whose ring has room for 256 pieces, that is the difference between one write under way and many: 1.5 GB went from
//! such memory past the page cache in 1.3 to 2.0 s with small pages and in 0.9 to 1.1 s with large ones, for 0.2 and 0.03 s of the writer's CPU.
#![allow(unsafe_code)]

use rustix::fs::{FallocateFlags, fallocate, ftruncate};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::fs::File;
use std::io;
use std::ptr::{NonNull, null_mut};

/// A large page on x86-64, and on arm64 with pages of 4 KiB.
const LARGE_PAGE: usize = 2 << 20;
/// What whoever opens a file looks at first is within this. Whole pages, whatever their size.
const HEAD_LEN: usize = 64 << 10;
/// `madvise(2)`: make large pages of what is there, whatever the system's setting is. Linux 6.1 and later, tmpfs included.
const MADV_COLLAPSE: libc::c_int = 25;

/// Readable and writable, shared with whoever maps the same file. Its pages are all there.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is memory; who reads and writes what of it, and when, is for its user to see to.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves `len` bytes for an empty file and maps them.
    pub fn create(file: &File, len: usize) -> io::Result<Self> {
        // Its head is there before it is as long as it says: who opens it meanwhile looks there.
        fallocate(file, FallocateFlags::empty(), 0, len.min(HEAD_LEN) as u64)?;
        ftruncate(file, len as u64)?;
        let this = Self::reserve(len)?.place(file, MapFlags::empty())?;
        this.enlarge(file)?;
        // What could not be had in large pages. A store into the mapping can't fail for want of space then.
        fallocate(file, FallocateFlags::empty(), 0, len as u64)?;
        this.place(file, MapFlags::POPULATE)
    }

    /// Maps the first `len` bytes of a file that was made so.
    pub fn open(file: &File, len: usize) -> io::Result<Self> {
        Self::reserve(len)?.place(file, MapFlags::POPULATE)
    }

    /// Addresses with nothing behind them, that begin where a large page can.
    fn reserve(len: usize) -> io::Result<Self> {
        // SAFETY: at a place that the kernel chooses.
        let start = unsafe {
            mmap_anonymous(null_mut(), len + LARGE_PAGE, ProtFlags::empty(), MapFlags::PRIVATE)?.cast::<u8>()
        };
        let before = start.align_offset(LARGE_PAGE);
        // SAFETY: parts of what was just reserved, on page boundaries (`before` and the rest of LARGE_PAGE are multiples of the page size).
        unsafe {
            if before > 0 {
                munmap(start.cast(), before)?;
            }
            let end = before + len.next_multiple_of(rustix::param::page_size());
            munmap(start.add(end).cast(), len + LARGE_PAGE - end)?;
            let start = NonNull::new(start.add(before)).ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok(Self { start, len })
        }
    }

    fn place(self, file: &File, how: MapFlags) -> io::Result<Self> {
        let (access, how) = (ProtFlags::READ | ProtFlags::WRITE, how | MapFlags::SHARED | MapFlags::FIXED);
        // SAFETY: in place of this object's own addresses, which nobody has been given yet.
        match unsafe { mmap(self.start.as_ptr().cast(), self.len, access, how, file, 0) } {
            Ok(_) => Ok(self),
            Err(error) => {
                // What was there may be gone already, and the addresses another's.
                std::mem::forget(self);
                Err(error.into())
            }
        }
    }

    /// Large pages for all that is as long as one. Where they can't be had nothing is different but the speed.
    fn enlarge(&self, file: &File) -> io::Result<()> {
        let whole = self.len / LARGE_PAGE * LARGE_PAGE;
        for at in (0..whole).step_by(LARGE_PAGE) {
            // Only where something is already; reserved before it is touched, so that a full tmpfs is an error and no signal.
            fallocate(file, FallocateFlags::empty(), at as u64, 1)?;
            // SAFETY: inside the mapping, and reserved.
            unsafe { self.start.as_ptr().add(at).write_volatile(0) };
        }
        // SAFETY: changes which pages the bytes are in, not the bytes.
        unsafe { libc::madvise(self.start.as_ptr().cast(), whole, MADV_COLLAPSE) };
        Ok(())
    }

    /// Its first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: its own addresses, which nobody uses any more. There is nothing to be done should it fail.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &std::path::Path) -> File {
        File::options().read(true).write(true).create_new(true).open(dir.join("m")).unwrap()
    }

    #[test]
    fn what_one_writes_another_reads() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        let len = 3 * LARGE_PAGE + 4_096;
        let one = Mapping::create(&file, len).unwrap();
        assert_eq!(file.metadata().unwrap().len(), len as u64);
        let other = Mapping::open(&file, len).unwrap();
        assert_eq!((one.as_ptr() as usize % LARGE_PAGE, other.as_ptr() as usize % LARGE_PAGE), (0, 0));
        for at in [0, LARGE_PAGE - 1, LARGE_PAGE, len - 1] {
            // SAFETY: inside both; one thread.
            unsafe {
                assert_eq!(one.as_ptr().add(at).read(), 0);
                one.as_ptr().add(at).write(at as u8 | 1);
                assert_eq!(other.as_ptr().add(at).read(), at as u8 | 1);
            }
        }
    }

    #[test]
    fn a_file_system_without_room_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = Mapping::create(&file(dir.path()), 1 << 50).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EFBIG | libc::ENOMEM)), "{error}");
    }
}
