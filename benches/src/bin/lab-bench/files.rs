//! Import beside `cp`, reindex beside `tcpdump` and `tshark`, the index's size, memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Plan;
use crate::index_size::IndexSize;
use crate::memory;
use crate::slow_disk::SlowDisk;
use crate::tools::{Result, Samples, Scratch, Took, have, median, rounds, sibling, tapdeck, timed};
use crate::verdict::Verdicts;

fn shell(script: &str, file: &Path, other: &Path) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", script, "bench"]).arg(file).arg(other);
    command
}

/// Makes the capture file and warms the page cache with it.
fn footage(scratch: &Scratch, name: &str, megabytes: u64, transport: &str) -> Result<PathBuf> {
    let file = scratch.path(name);
    let mut command = Command::new(sibling("lab-footage")?);
    command.arg(&file).args([&megabytes.to_string(), "300", transport, "0"]);
    timed(command)?;
    timed(shell("sync; cat \"$1\" >/dev/null", &file, &file))?;
    Ok(file)
}

/// Imports `file` into a new store, and syncs, which is in the time that is returned.
fn import(file: &Path, store: &Path) -> Result<Took> {
    let _ = std::fs::remove_dir_all(store);
    timed(shell("sync", file, store))?;
    let mut command = shell("exec \"$TAPDECK\" import \"$1\" --store \"$2\"", file, store);
    command.env("TAPDECK", sibling("tapdeck")?).env("TAPDECK_CONFIG", "");
    let mut took = timed(command)?;
    took.wall += timed(shell("sync", file, store))?.wall;
    Ok(took)
}

/// Wall seconds of each round.
#[derive(Default)]
struct Times {
    cp: Vec<f64>,
    import: Vec<f64>,
    reindex: Vec<f64>,
    tcpdump: Vec<f64>,
    tshark: Vec<f64>,
}

/// `cp` and import onto a disk of `plan.disk`; `None` where such a disk can't be made.
fn on_a_slow_disk(plan: &Plan, scratch: &Scratch, file: &Path) -> Result<Option<Times>> {
    if plan.disk == 0 {
        return Ok(None);
    }
    let disk = match SlowDisk::new(scratch, (plan.mb * 1_300_000) + (1 << 30), plan.disk * 1_000_000) {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!("no disk of {} MB/s to measure on: {why}", plan.disk);
            return Ok(None);
        }
    };
    let (store, copy) = (disk.path("store"), disk.path("copy"));
    let mut times = Times::default();
    for _ in 0..plan.rounds {
        timed(shell("sync", file, &copy))?;
        times.cp.push(timed(shell("cp --reflink=never \"$1\" \"$2\" && sync", file, &copy))?.wall);
        std::fs::remove_file(&copy)?;
        times.import.push(import(file, &store)?.wall);
        std::fs::remove_dir_all(&store)?;
    }
    Ok(Some(times))
}

/// One transport's measurements.
struct Measured {
    times: Times,
    slow: Option<Times>,
    import_memory: Samples,
    reindex_memory: Samples,
    index: IndexSize,
    /// The index of a third of the file: the difference is what a packet costs.
    third: IndexSize,
}

fn measure(plan: &Plan, scratch: &Scratch, transport: &str) -> Result<Measured> {
    let (store, copy) = (scratch.path("store"), scratch.path("copy"));
    let part = footage(scratch, "third.pcap", (plan.mb / 3).max(1), transport)?;
    import(&part, &store)?;
    let third = IndexSize::of(&store)?;
    std::fs::remove_file(&part)?;
    let file = footage(scratch, "whole.pcap", plan.mb, transport)?;
    let mut times = Times::default();
    let (mut import_memory, mut reindex_memory) = (Samples::default(), Samples::default());
    let mut index = IndexSize::default();
    for round in 0..plan.rounds {
        timed(shell("rm -f \"$2\"; sync", &file, &copy))?;
        times.cp.push(timed(shell("cp --reflink=never \"$1\" \"$2\" && sync", &file, &copy))?.wall);
        std::fs::remove_file(&copy)?;
        let took = import(&file, &store)?;
        times.import.push(took.wall);
        import_memory = took.memory;
        if round == 0 {
            index = IndexSize::of(&store)?;
        }
        timed(shell("cat \"$2\"/shards/*.pcap \"$1\" >/dev/null", &file, &store))?;
        let mut command = tapdeck()?;
        command.args(["reindex", "--store"]).arg(&store);
        let took = timed(command)?;
        times.reindex.push(took.wall);
        reindex_memory = took.memory;
        if have("tcpdump") {
            let read = shell("tcpdump -n -r \"$1\" -w /dev/null", &file, &file);
            times.tcpdump.push(timed(read)?.wall);
        }
    }
    if have("tshark") && plan.others > 0 {
        times.tshark.push(timed(shell("tshark -n -q -z rtp,streams -r \"$1\"", &file, &file))?.wall);
    }
    std::fs::remove_dir_all(&store)?;
    let slow = on_a_slow_disk(plan, scratch, &file)?;
    std::fs::remove_file(&file)?;
    Ok(Measured { times, slow, import_memory, reindex_memory, index, third })
}

pub fn run(plan: &Plan, verdicts: &mut Verdicts) -> Result<()> {
    let scratch = Scratch::new()?;
    println!(
        "\n### Files: {} MB, 300 interleaved streams, page cache warm, wall seconds, rounds in order\n",
        plan.mb
    );
    println!("| transport | what | rounds s | median s | tapdeck's speed ÷ the reference's |");
    println!("|---|---|---|---|---|");
    for transport in ["udp", "tcp"] {
        let measured = measure(plan, &scratch, transport)?;
        print_rows(plan, transport, &measured);
        judge(plan, transport, &measured, verdicts);
    }
    Ok(())
}

fn print_rows(plan: &Plan, transport: &str, measured: &Measured) {
    let times = &measured.times;
    let row = |what: &str, values: &[f64], ratio: String| {
        println!("| {transport} | {what} | {} | {:.2} | {ratio} |", rounds(values, 2), median(values))
    };
    row("`cp --reflink=never` and sync", &times.cp, String::new());
    row("import and sync", &times.import, format!("{:.2}", median(&times.cp) / median(&times.import)));
    if let Some(slow) = &measured.slow {
        row(&format!("the same onto a disk of {} MB/s, `cp`", plan.disk), &slow.cp, String::new());
        row("and import", &slow.import, format!("{:.2}", median(&slow.cp) / median(&slow.import)));
    }
    row("`tcpdump -r F -w /dev/null`", &times.tcpdump, String::new());
    let (tcpdump, reindex) = (median(&times.tcpdump), median(&times.reindex));
    row("reindex", &times.reindex, format!("{:.2} × tcpdump", tcpdump / reindex));
    if !times.tshark.is_empty() {
        let tshark = median(&times.tshark) / reindex;
        row("`tshark -q -z rtp,streams`", &times.tshark, format!("{tshark:.1} × tshark"));
    }
    let (index, third) = (&measured.index, &measured.third);
    println!("| {transport} | index | {} | | |", index.text());
    println!(
        "| {transport} | each further packet | {:.2} B, beside an index of a third | | |",
        index.marginal(third)
    );
    let memory = "anonymous + shared MiB, most by 10 / 50 / 100 %";
    println!("| {transport} | import, {memory} | {} | | |", measured.import_memory.text());
    println!("| {transport} | reindex, {memory} | {} | | |", measured.reindex_memory.text());
}

fn judge(plan: &Plan, transport: &str, measured: &Measured, verdicts: &mut Verdicts) {
    let times = &measured.times;
    let mut ratio = |what: &str, reference: &[f64], ours: &[f64], at_least: f64| {
        if !reference.is_empty() {
            let ratio = median(reference) / median(ours);
            let target = format!("{transport}, {} MB: {what}", plan.mb);
            verdicts.add(target, format!("{ratio:.2} times"), ratio >= at_least);
        }
    };
    ratio("import no slower than cp, both synced", &times.cp, &times.import, 1.0);
    if let Some(slow) = &measured.slow {
        let what = format!("the same onto a disk of {} MB/s", plan.disk);
        ratio(&what, &slow.cp, &slow.import, 1.0);
    }
    ratio("reindex at least as fast as tcpdump reads", &times.tcpdump, &times.reindex, 1.0);
    ratio("reindex 10 times as fast as tshark", &times.tshark, &times.reindex, 10.0);
    let index = &measured.index;
    if transport == "udp" {
        verdicts.add(
            "index: at most 5 bytes a packet of 1,300 bytes",
            format!("{:.2} ({:.2} each further one)", index.a_packet(), index.marginal(&measured.third)),
            index.a_packet() <= 5.0,
        );
        verdicts.add(
            "index: at most 0.5 % of the bytes",
            format!("{:.3} %", index.percent()),
            index.percent() <= 0.5,
        );
    }
    let what = format!("import, {transport}, {} MB", plan.mb);
    memory::judge_bound(&what, &measured.import_memory, verdicts);
    // The index gathers up to 32 MiB before it writes a table: a shorter import is over before that is full.
    if plan.mb >= 6_000 {
        memory::judge_growth(&what, &measured.import_memory, verdicts);
    }
}
