//! What the end-to-end tests share: the program under test, the mirror-port lab, real players, and the comparison of video.
#![allow(dead_code, missing_docs, reason = "each test binary uses its part")]

pub mod audio;
pub mod nal;
pub mod players;
pub mod program;
pub mod rtsp;
mod skip;
pub mod timing;
pub mod topology;

use std::path::{Path, PathBuf};

pub use skip::skip;

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn fixture(file: &str) -> PathBuf {
    root().join("fixtures").join(file)
}

/// True when the program `name` is on the path.
pub fn have(name: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|p: PathBuf| p.join(name).is_file())
}

/// Leaves the test, saying why, when a tool is missing.
#[macro_export]
macro_rules! need {
    ($what:expr, $($tool:expr),+) => {
        $(if !$crate::lab::have($tool) {
            $crate::lab::skip($what, concat!($tool, " is not installed (scripts/install)"));
            return;
        })+
    };
}
