//! From PLAY to the first RTP packet at random moments, in a store of 2 GB and in one ten times that size.

use std::path::Path;
use std::time::Instant;

use tapdeck_benches::random::Random;

use crate::Plan;
use crate::fanout::{Served, View};
use crate::tools::{Result, Scratch, drop_caches, quantile, sibling, tapdeck, timed};

const SEEKS: usize = 200;

/// Fills a store with `gigabytes` of footage, a file of 2 GB after the other, so that little else needs to lie on the disk.
fn fill(scratch: &Scratch, store: &Path, gigabytes: u64) -> Result<()> {
    let file = scratch.path("part.pcap");
    let mut start = 1_767_225_600;
    for part in 0..gigabytes.div_ceil(2) {
        let megabytes = 2000.min(gigabytes * 1000 - part * 2000);
        let mut command = std::process::Command::new(sibling("lab-footage")?);
        command.arg(&file).args([&megabytes.to_string(), "100", "tcp", "0", &start.to_string()]);
        timed(command)?;
        let mut command = tapdeck()?;
        command.arg("import").arg(&file).arg("--store").arg(store);
        timed(command)?;
        start += 600;
    }
    std::fs::remove_file(&file)?;
    Ok(())
}

pub fn run(plan: &Plan) -> Result<()> {
    println!("\n### Seek: from PLAY to the first RTP packet, {SEEKS} random moments, ms\n");
    println!("| store | cache | p50 | p99 | max |\n|---|---|---|---|---|");
    for gigabytes in [2, plan.big] {
        let scratch = Scratch::new()?;
        let store = scratch.path("store");
        fill(&scratch, &store, gigabytes)?;
        let mut served = Served::start(&store)?;
        for cache in ["cold", "warm"] {
            let mut random = Random::new(gigabytes);
            let mut took = Vec::new();
            for n in 0..SEEKS {
                // Cold: the page cache is emptied and the server started anew before each tenth seek.
                if cache == "cold" && n % 10 == 0 {
                    drop(served);
                    if !drop_caches() {
                        eprintln!("bench: may not empty the page cache: 'cold' is only a fresh process");
                    }
                    served = Served::start(&store)?;
                }
                let stream = &served.streams[random.below(served.streams.len() as u64) as usize];
                let moment = stream.moment(random.below(900) as f64 / 1000.0);
                let mut view = View::open(served.address, &format!("{}?from={moment}", stream.name))?;
                let asked = Instant::now();
                view.play()?;
                view.until_rtp()?;
                took.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            println!(
                "| {gigabytes} GB | {cache} | {:.2} | {:.2} | {:.2} |",
                quantile(&took, 0.5),
                quantile(&took, 0.99),
                quantile(&took, 1.0)
            );
        }
    }
    Ok(())
}
