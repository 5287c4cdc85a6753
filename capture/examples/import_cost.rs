//! What taking a capture file over costs without an index, beside `cp --reflink=never` of the same file onto the same disk, both
//! synced, alternated.
//!
//! `cargo run --release -p tapdeck-capture --example import_cost -- FILE DIR [ROUNDS]`

use capture::{Store, WriterOptions, import_file};
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, dir, rest @ ..] = &arguments[..] else {
        return Err("usage: import_cost FILE DIR [ROUNDS]".into());
    };
    let rounds: u32 = rest.first().and_then(|r| r.parse().ok()).unwrap_or(3);
    let bytes = std::fs::metadata(file)?.len() as f64;
    for round in 1..=rounds {
        let copy = Path::new(dir).join("import-cost-copy");
        let begun = Instant::now();
        Command::new("cp").args(["--reflink=never", file]).arg(&copy).status()?;
        std::fs::File::open(&copy)?.sync_all()?;
        let cp = begun.elapsed().as_secs_f64();
        std::fs::remove_file(&copy)?;

        let at = Path::new(dir).join("import-cost-store");
        let begun = Instant::now();
        let store = Store::create(&at)?;
        let lock = store.lock()?;
        let report = import_file(
            &store,
            &lock,
            Path::new(file),
            WriterOptions::default(),
            false,
            &mut |_, _| true,
            &mut |_, _| {},
        )?;
        let import = begun.elapsed().as_secs_f64();
        std::fs::remove_dir_all(&at)?;
        println!(
            "round {round}: cp {cp:.2} s ({:.2} GB/s), import {import:.2} s ({:.2} GB/s, {} packets), ratio {:.2}",
            bytes / cp / 1e9,
            bytes / import / 1e9,
            report.packets,
            import / cp
        );
    }
    Ok(())
}
