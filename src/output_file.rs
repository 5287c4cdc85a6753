//! A result that goes into a file: whole or not at all, also when it is ended half-way.

use crate::failure::Failure;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Standard output, a device, or a file that gets its name when it is complete.
pub struct OutputFile {
    target: Target,
}

enum Target {
    Standard(BufWriter<io::StdoutLock<'static>>),
    /// A device, pipe or socket: written as it is.
    Special(BufWriter<File>),
    File {
        out: BufWriter<File>,
        temporary: PathBuf,
        /// It has no name at all yet, so that nothing is left of it however this process ends. Not every filesystem has that.
        nameless: bool,
        path: PathBuf,
        finished: bool,
    },
}

impl OutputFile {
    /// `-` is standard output. A file that is there already is replaced only with `force`.
    pub fn create(path: &Path, force: bool) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self { target: Target::Standard(BufWriter::new(io::stdout().lock())) });
        }
        let cannot =
            |error: io::Error| Failure::failed(format_args!("cannot write {}: {error}", path.display()));
        match path.metadata() {
            Ok(found) if found.is_dir() => {
                return Err(Failure::failed(format_args!("{} is a directory", path.display()))
                    .next("name a file in it"));
            }
            Ok(found) if !found.is_file() => {
                let file = OpenOptions::new().write(true).open(path).map_err(cannot)?;
                return Ok(Self { target: Target::Special(BufWriter::new(file)) });
            }
            Ok(_) if !force => {
                return Err(Failure::failed(format_args!("{} is there already", path.display()))
                    .next("choose another name, or replace it with --force"));
            }
            _ => {}
        }
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".part-{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let (file, nameless) = match nameless(path) {
            Some(file) => (file, true),
            None => (File::create_new(&temporary).map_err(cannot)?, false),
        };
        let out = BufWriter::with_capacity(1 << 20, file);
        let path = path.to_owned();
        Ok(Self { target: Target::File { out, temporary, nameless, path, finished: false } })
    }

    /// Gives the file its name. Without this it is removed again.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.flush()?;
        if let Target::File { out, temporary, nameless, path, finished } = &mut self.target {
            let file = out.get_ref();
            let named = file.sync_data().and_then(|()| match std::mem::take(nameless) {
                true => give_name(file, temporary),
                false => Ok(()),
            });
            named
                .and_then(|()| std::fs::rename(&temporary, &path))
                .map_err(|error| Failure::failed(format_args!("cannot write {}: {error}", path.display())))?;
            *finished = true;
        }
        Ok(())
    }
}

/// A file without a name on the filesystem of `path`, where that can be had.
fn nameless(path: &Path) -> Option<File> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::open(dir, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode).ok().map(File::from)
}

fn give_name(file: &File, name: &Path) -> io::Result<()> {
    let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, itself, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.target {
            Target::Standard(out) => out.write(bytes),
            Target::Special(out) | Target::File { out, .. } => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::Standard(out) => out.flush(),
            Target::Special(out) | Target::File { out, .. } => out.flush(),
        }
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Target::File { temporary, finished: false, nameless: false, .. } = &self.target {
            // What is half written is of no use to anyone.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.h264");
        let mut out = OutputFile::create(&path, false).unwrap();
        out.write_all(b"half").unwrap();
        out.flush().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "what a signal would leave behind");
        drop(out);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

        let mut out = OutputFile::create(&path, false).unwrap();
        out.write_all(b"whole").unwrap();
        out.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert!(OutputFile::create(&path, false).is_err(), "not replaced");
        OutputFile::create(&path, true).unwrap().finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_device_is_written_and_never_replaced() {
        let mut out = OutputFile::create(Path::new("/dev/null"), false).unwrap();
        out.write_all(b"x").unwrap();
        out.finish().unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }
}
