//! Many RTSP viewers of one server over TCP: delivered rate, sequence gaps, the server's CPU and memory.

use std::process::Command;
use std::time::{Duration, Instant};

use tapdeck_benches::client::View;
use tapdeck_benches::proc::{cpu_seconds, memory};

use crate::Plan;
use crate::served::Served;
use crate::tools::{Result, Scratch, quantile, sibling, tapdeck, timed};
use crate::verdict::Verdicts;

/// All viewers play at once for `seconds`; one thread reads for all of them.
pub fn run(plan: &Plan, _: &mut Verdicts) -> Result<()> {
    let scratch = Scratch::new()?;
    let (file, store) = (scratch.path("f.pcap"), scratch.path("store"));
    let mut command = Command::new(sibling("lab-footage")?);
    command.arg(&file).args(["1000", "100", "tcp"]);
    timed(command)?;
    let mut command = tapdeck()?;
    command.arg("import").arg(&file).arg("--store").arg(&store);
    timed(command)?;
    let served = Served::start(&store)?;
    println!("\n### Fan-out: viewers over TCP, on demand, 100 streams of about 1.2 Mbit/s\n");
    println!(
        "| viewers | delivered Mbit/s | slowest viewer ÷ median | sequence gaps | CPU ms a viewer and second | anonymous MiB |\n|---|---|---|---|---|---|"
    );
    for clients in [1, 10, plan.clients / 2, plan.clients] {
        let mut views = Vec::new();
        for n in 0..clients {
            let mut view = View::open(
                served.address,
                &format!(
                    "{}?from={}",
                    served.streams[n % served.streams.len()].name,
                    served.streams[n % served.streams.len()].moment(0.0)
                ),
            )?;
            view.play()?;
            view.socket.set_nonblocking(true)?;
            views.push(view);
        }
        let measure = Duration::from_secs(5);
        let (began, cpu) = (Instant::now(), cpu_seconds(served.child.id()));
        views.iter_mut().for_each(|v| v.seen.bytes = 0);
        while began.elapsed() < measure {
            for view in &mut views {
                // A viewer that the server closed shows as a slow one.
                let _ = view.read();
                view.frames();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let seconds = began.elapsed().as_secs_f64();
        let cpu = cpu_seconds(served.child.id()) - cpu;
        let rates: Vec<f64> = views.iter().map(|v| v.seen.bytes as f64 * 8.0 / seconds / 1e6).collect();
        let (total, gaps) = (rates.iter().sum::<f64>(), views.iter().map(|v| v.seen.gaps).sum::<u64>());
        let slowest = quantile(&rates, 0.0) / quantile(&rates, 0.5);
        let anonymous = memory(served.child.id()).anonymous as f64 / 1048576.0;
        println!(
            "| {clients} | {total:.0} | {slowest:.2} | {gaps} | {:.2} | {anonymous:.0} |",
            1e3 * cpu / seconds / clients as f64
        );
    }
    Ok(())
}
