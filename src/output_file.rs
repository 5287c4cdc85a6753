//! A result that goes into a file: whole or not at all.

use crate::failure::Failure;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
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
        let out = BufWriter::with_capacity(1 << 20, File::create_new(&temporary).map_err(cannot)?);
        Ok(Self { target: Target::File { out, temporary, path: path.to_owned(), finished: false } })
    }

    /// Gives the file its name. Without this it is removed again.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.flush()?;
        if let Target::File { out, temporary, path, finished } = &mut self.target {
            let named = out.get_ref().sync_data().and_then(|()| std::fs::rename(&temporary, &path));
            named
                .map_err(|error| Failure::failed(format_args!("cannot write {}: {error}", path.display())))?;
            *finished = true;
        }
        Ok(())
    }
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
        if let Target::File { temporary, finished: false, .. } = &self.target {
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
