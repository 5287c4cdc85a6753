//! What a test says that can't run here. Also for the tests of the crates.

use std::fs::OpenOptions;
use std::io::Write;

/// Says why a test is skipped: on standard error and, for `make test`, in the file that TAPDECK_SKIPPED names.
pub fn skip(what: &str, why: &str) {
    eprintln!("skipped {what}: {why}");
    if let Some(file) = std::env::var_os("TAPDECK_SKIPPED")
        && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(file)
    {
        let _ = writeln!(file, "{what}: {why}");
    }
}
