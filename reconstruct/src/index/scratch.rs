//! Directories for what RocksDB writes beside a reader: its log, which nobody reads.

use std::fs::DirBuilder;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const PREFIX: &str = "tapdeck-index-";
/// Names that are tried.
const TRIES: usize = 8;

/// Makes a directory of this process's own in `parent`, and removes those of processes that were killed before they could.
pub fn make(parent: &Path) -> Result<PathBuf, (PathBuf, Error)> {
    remove_left(parent);
    let _ = std::fs::create_dir_all(parent);
    let mut last = None;
    for _ in 0..TRIES {
        // Each is seeded anew, from the system.
        let random = RandomState::new().build_hasher().finish();
        let path = parent.join(format!("{PREFIX}{}-{random:016x}", std::process::id()));
        // Never one that is there already: in a directory that everyone may write to it could lead anywhere.
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => last = Some((path, e)),
            Err(e) => return Err((path, e)),
        }
    }
    Err(last.unwrap_or_else(|| (parent.into(), ErrorKind::AlreadyExists.into())))
}

fn remove_left(parent: &Path) {
    // Where processes can't be seen, none is known to be dead.
    if !Path::new("/proc/self").exists() {
        return;
    }
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another user's stays.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_process_leaves_nothing_for_long_and_a_taken_name_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        // Process numbers end below 2^22.
        let (dead, alive) =
            (dir.path().join("tapdeck-index-4194305-0"), dir.path().join("tapdeck-index-1-0"));
        let other = dir.path().join("tapdeck-index-x");
        for path in [&dead, &alive, &other] {
            std::fs::create_dir(path).unwrap();
        }
        let first = make(dir.path()).unwrap();
        assert!(!dead.exists() && alive.exists() && other.exists() && first.is_dir());
        let second = make(dir.path()).unwrap();
        assert_ne!(first, second);
    }
}
