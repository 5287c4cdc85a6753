//! Import beside `cp`, reindex beside `tcpdump` and `tshark`, the index's size, memory.

use std::path::Path;
use std::process::Command;

use crate::Plan;
use crate::tools::{Result, Scratch, have, median, rounds, sibling, size_of, tapdeck, timed};

fn shell(script: &str, file: &Path, other: &Path) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", script, "bench"]).arg(file).arg(other);
    command
}

/// Makes the capture file and warms the page cache with it.
fn footage(scratch: &Scratch, name: &str, megabytes: u64, transport: &str) -> Result<std::path::PathBuf> {
    let file = scratch.path(name);
    let mut command = Command::new(sibling("lab-footage")?);
    command.arg(&file).args([&megabytes.to_string(), "300", transport, "0"]);
    timed(command)?;
    timed(shell("sync; cat \"$1\" >/dev/null", &file, &file))?;
    Ok(file)
}

pub fn run(plan: &Plan) -> Result<()> {
    let scratch = Scratch::new()?;
    println!(
        "\n### Files: {} MB, 300 interleaved streams, page cache warm, wall seconds, rounds in order\n",
        plan.mb
    );
    println!(
        "| transport | what | rounds s | median s | tapdeck's speed ÷ the reference's |\n|---|---|---|---|---|"
    );
    for transport in ["tcp", "udp"] {
        let file = footage(&scratch, &format!("{transport}.pcap"), plan.mb, transport)?;
        let (store, copy) = (scratch.path("store"), scratch.path("copy"));
        let (mut import, mut cp, mut reindex, mut tcpdump, mut memory) =
            (vec![], vec![], vec![], vec![], vec![]);
        let mut sizes = String::new();
        for round in 0..plan.rounds {
            let _ = std::fs::remove_file(&copy);
            cp.push(timed(shell("cp --reflink=never \"$1\" \"$2\" && sync", &file, &copy))?.wall);
            std::fs::remove_file(&copy)?;
            let _ = std::fs::remove_dir_all(&store);
            let mut command = shell("exec \"$TAPDECK\" import \"$1\" --store \"$2\"", &file, &store);
            command.env("TAPDECK", sibling("tapdeck")?).env("TAPDECK_CONFIG", "");
            let took = timed(command)?;
            import.push(took.wall + timed(shell("sync", &file, &file))?.wall);
            memory.push(took.anonymous_max as f64 / 1048576.0);
            if round == 0 {
                sizes = index_size(&store)?;
            }
            timed(shell("cat \"$2\"/shards/*.pcap \"$1\" >/dev/null", &file, &store))?;
            let mut command = tapdeck()?;
            command.args(["reindex", "--store"]).arg(&store);
            reindex.push(timed(command)?.wall);
            if have("tcpdump") {
                tcpdump.push(timed(shell("tcpdump -n -r \"$1\" -w /dev/null", &file, &file))?.wall);
            }
        }
        let row = |what: &str, values: &[f64], ratio: String| {
            println!("| {transport} | {what} | {} | {:.2} | {ratio} |", rounds(values, 2), median(values))
        };
        row("`cp --reflink=never` and sync", &cp, String::new());
        row("import and sync", &import, format!("{:.2}", median(&cp) / median(&import)));
        if have("tcpdump") {
            row("`tcpdump -r F -w /dev/null`", &tcpdump, String::new());
            row("reindex", &reindex, format!("{:.2}", median(&tcpdump) / median(&reindex)));
        } else {
            row("reindex", &reindex, "tcpdump is not installed".into());
        }
        if have("tshark") {
            let slow = timed(shell("tshark -n -q -z rtp,streams -r \"$1\"", &file, &file))?.wall;
            row("`tshark -q -z rtp,streams`", &[slow], format!("{:.1}", slow / median(&reindex)));
        }
        row("import's anonymous memory, MiB", &memory, String::new());
        println!("| {transport} | index | {sizes} | | |");
        std::fs::remove_file(&file)?;
    }
    Ok(())
}

fn index_size(store: &Path) -> Result<String> {
    let mut command = tapdeck()?;
    let listed = command.args(["streams", "--json", "--store"]).arg(store).output()?;
    let streams: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
    let packets: u64 = streams.as_array().into_iter().flatten().filter_map(|s| s["packets"].as_u64()).sum();
    let (index, shards) = (size_of(&store.join("index")), size_of(&store.join("shards")));
    let percent = 100.0 * index as f64 / shards as f64;
    Ok(format!("{:.2} B an RTP packet, {percent:.3} % of the bytes", index as f64 / packets.max(1) as f64))
}
