//! From PLAY to the first RTP packet at random moments, in a store of 2 GB and in one ten times that size.
//!
//! Both stores are made of the same parts: 2 GB, the same 100 streams, which reconnect at each part, a few seconds after the last.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tapdeck_benches::client::View;
use tapdeck_benches::random::Random;

use crate::Plan;
use crate::served::Served;
use crate::tools::{Result, Scratch, drop_caches, free_bytes, quantile, sibling, tapdeck, timed};
use crate::verdict::Verdicts;

/// Adds footage to a store until it has `gigabytes`, a file of 2 GB after the other, so that little else needs to lie on the disk.
struct Filling {
    gigabytes: u64,
    next_start: u64,
    imports_mib: Vec<f64>,
}

impl Filling {
    fn up_to(&mut self, gigabytes: u64, scratch: &Scratch, store: &Path) -> Result<()> {
        let file = scratch.path("part.pcap");
        while self.gigabytes < gigabytes {
            let part = 2.min(gigabytes - self.gigabytes);
            let mut command = Command::new(sibling("lab-footage")?);
            command.arg(&file).args([&(part * 1000).to_string(), "100", "tcp", "0"]);
            let said = command.arg(self.next_start.to_string()).output()?;
            let said = String::from_utf8(said.stdout)?;
            let seconds = said.trim().rsplit('=').next().ok_or("lab-footage said nothing")?.parse::<f64>()?;
            self.next_start += seconds as u64 + 5;
            let mut command = tapdeck()?;
            command.arg("import").arg(&file).arg("--store").arg(store);
            self.imports_mib.push(timed(command)?.memory.most(1.0).0);
            self.gigabytes += part;
        }
        std::fs::remove_file(&file)?;
        Ok(())
    }
}

/// One seek, in ms: from PLAY, which reads the clean point, to its first packet at the client.
fn seek(served: &Served, random: &mut Random) -> Result<f64> {
    let stream = &served.streams[random.below(served.streams.len() as u64) as usize];
    let moment = stream.moment(random.below(980) as f64 / 1000.0);
    let mut view = View::open(served.address, &format!("{}?from={moment}", stream.name))?;
    let asked = Instant::now();
    view.play()?;
    if !view.until_rtp(Duration::from_secs(10))? {
        return Err(format!("nothing came from {moment} on").into());
    }
    let took = asked.elapsed().as_secs_f64() * 1e3;
    // lab-footage's clean points begin with their parameter sets.
    if view.seen.first_nal.map(|n| n & 31) != Some(7) {
        return Err(format!("the first packet at {moment} is no clean point's").into());
    }
    Ok(took)
}

/// Cold: before each seek the page cache is emptied and the server started anew.
fn seeks(store: &Path, count: usize, cold: bool) -> Result<Vec<f64>> {
    let mut random = Random::new(11);
    let mut took = Vec::new();
    let mut served = Served::start(store)?;
    for _ in 0..count {
        if cold {
            served = restarted(served, store)?;
        }
        took.push(seek(&served, &mut random)?);
    }
    Ok(took)
}

fn restarted(served: Served, store: &Path) -> Result<Served> {
    drop(served);
    if !drop_caches() {
        eprintln!("bench: may not empty the page cache: 'cold' is only a fresh process");
    }
    Served::start(store)
}

pub fn run(plan: &Plan, verdicts: &mut Verdicts) -> Result<()> {
    let scratch = Scratch::new()?;
    let (need, free) = ((plan.big + 4) * 1_050_000_000, free_bytes(&scratch.0)?);
    if free < need {
        eprintln!(
            "bench: seek left out: needs {need} bytes on the disk, {free} are free (BENCH_DIR names another)"
        );
        return Ok(());
    }
    let store = scratch.path("store");
    println!(
        "\n### Seek: from PLAY to the first RTP packet of the clean point, random moments of 100 streams, ms\n"
    );
    println!("| store | cache | seeks | p50 | p99 | max | filled in s |\n|---|---|---|---|---|---|---|");
    let mut filling = Filling { gigabytes: 0, next_start: 1_767_225_600, imports_mib: Vec::new() };
    let (mut at_p50, mut filled) = (Vec::new(), 0);
    let mut sizes = vec![2.min(plan.big), plan.big];
    sizes.dedup();
    for gigabytes in sizes {
        let began = Instant::now();
        filling.up_to(gigabytes, &scratch, &store)?;
        filled += began.elapsed().as_secs();
        for (cache, count) in [("cold", plan.seeks / 2), ("warm", plan.seeks)] {
            let took = seeks(&store, count.max(1), cache == "cold")?;
            let (p50, p99) = (quantile(&took, 0.5), quantile(&took, 0.99));
            println!(
                "| {gigabytes} GB | {cache} | {} | {p50:.2} | {p99:.2} | {:.2} | {filled} |",
                took.len(),
                quantile(&took, 1.0)
            );
            let target = format!("seek, {gigabytes} GB, {cache}: p99 ≤ 20 ms");
            verdicts.add(target, format!("p50 {p50:.1}, p99 {p99:.1} ms"), p99 <= 20.0);
            at_p50.push((cache, p50, p99));
        }
    }
    if let [cold, warm, cold_big, warm_big] = at_p50.as_slice() {
        for ((cache, p50, p99), (_, p50_big, p99_big)) in [(cold, cold_big), (warm, warm_big)] {
            verdicts.add(
                format!("seek, {cache}: {} GB like 2 GB (p50 and p99 within half again and 1 ms)", plan.big),
                format!("p50 {p50:.1} and {p50_big:.1}, p99 {p99:.1} and {p99_big:.1} ms"),
                *p50_big <= 1.5 * p50 + 1.0 && *p99_big <= 1.5 * p99 + 1.0,
            );
        }
    }
    if let [first, .., last] = filling.imports_mib.as_slice() {
        println!("\nAnonymous memory of the first import {first:.0} MiB, of the last {last:.0} MiB.");
        verdicts.add(
            format!("importing into {} GB takes no more memory than into an empty store", plan.big),
            format!("{first:.0} MiB and {last:.0} MiB"),
            *last <= first * 1.1 + 4.0,
        );
    }
    Ok(())
}
