//! Recording from a veth: loss and CPU at offered rates. The senders are on CPU 0, each recorder has a 64 MiB ring.
//!
//! One camera of 4 Mbit/s is in every turn's traffic beside the blast, so that the turn with a viewer offers what the others do.

use std::path::Path;
use std::time::Duration;

use crate::Plan;
use crate::recorder::{Lost, RTSP, Recorder};
use crate::tools::{Result, Scratch, free_bytes, have, median, rounds};
use crate::verdict::Verdicts;
use crate::view::{Viewed, Viewer};
use crate::wire::{Sending, Wire};

/// Stays free beside what a turn writes: what `record` keeps free, and its index.
const SPARE_BYTES: u64 = 3 << 30;

/// A recorder as it is run here.
struct Contender {
    key: &'static str,
    label: &'static str,
    tool: &'static str,
    cpus: &'static str,
    viewer: bool,
}

const fn contender(
    key: &'static str,
    label: &'static str,
    tool: &'static str,
    cpus: &'static str,
) -> Contender {
    Contender { key, label, tool, cpus, viewer: false }
}

/// tapdeck has threads beside the capture and may use both CPUs, as in use; a second turn pins it like the others, since it otherwise
/// takes from the sender's CPU what the others leave to the sender.
const CONTENDERS: [Contender; 7] = [
    contender("tapdeck", "tapdeck", "tapdeck", "0,1"),
    contender("stenotype", "stenotype", "stenotype", "1"),
    contender("one-cpu", "tapdeck (one CPU)", "tapdeck", "1"),
    Contender { viewer: true, ..contender("viewer", "tapdeck, one client plays", "tapdeck", "0,1") },
    contender("tcpdump", "tcpdump", "tcpdump", "1"),
    contender("dumpcap", "dumpcap", "dumpcap", "1"),
    contender("netsniff-ng", "netsniff-ng", "netsniff-ng", "1"),
];

struct Turn {
    lost_percent: f64,
    told: Lost,
    cpu_us: f64,
    sent_k: f64,
    viewed: Option<Viewed>,
}

fn turn(wire: &Wire, who: &Contender, rate: u64, seconds: u64, dir: &Path) -> Result<Turn> {
    let more: &[&str] = match (who.tool, who.viewer) {
        ("tapdeck", false) => &["--rtsp", "off"],
        ("tapdeck", true) => &["--rtsp", RTSP],
        _ => &[],
    };
    let recorder = Recorder::start(wire, who.tool, who.cpus, dir, more)?;
    let camera = Sending::start(wire, "lab-camera", &["1", &(seconds + 5).to_string(), "udp", "15"])?;
    let viewer = if who.viewer { Some(Viewer::start(wire, 1, seconds + 1, "tcp")?) } else { None };
    std::thread::sleep(Duration::from_secs(2));
    let blast =
        Sending::start(wire, "lab-blast", &[&rate.to_string(), &seconds.to_string(), "1200"])?.sent()?;
    let viewed = viewer.map(Viewer::end).transpose()?;
    let sent = (blast + camera.sent()?) as f64;
    std::thread::sleep(Duration::from_secs(1));
    let kept = recorder.stop()?;
    if kept.packets as f64 > sent {
        return Err(
            format!("{} packets on disk, {sent} sent: something else is on the wire", kept.packets).into()
        );
    }
    Ok(Turn {
        lost_percent: (100.0 * (sent - kept.packets as f64) / sent).max(0.0),
        told: kept.told,
        cpu_us: kept.cpu * 1e6 / kept.packets.max(1) as f64,
        sent_k: blast as f64 / seconds as f64 / 1e3,
        viewed,
    })
}

/// What the sender manages when nobody records: no recorder can be offered more.
fn alone(wire: &Wire) -> Result<f64> {
    Ok(Sending::start(wire, "lab-blast", &["0", "5", "1200"])?.sent()? as f64 / 5e3)
}

pub fn run(plan: &Plan, verdicts: &mut Verdicts) -> Result<()> {
    let wire = match Wire::up() {
        Ok(wire) => wire,
        Err(why) => {
            eprintln!("bench: capture left out: {why}");
            return Ok(());
        }
    };
    let scratch = Scratch::new()?;
    let mut contenders = Vec::new();
    for who in &CONTENDERS {
        let asked = plan.tools.is_empty() || plan.tools.iter().any(|t| t == who.key);
        if asked && who.tool != "tapdeck" && !have(who.tool) {
            eprintln!("bench: {} left out: not installed (scripts/install bench)", who.tool);
        } else if asked {
            contenders.push(who);
        }
    }
    let alone = alone(&wire)?;
    println!(
        "\n### Capture: 1,200-byte frames on veth, {} s a turn, rounds in order\n\n\
         The sender alone, nobody recording: {alone:.0} k/s.\n",
        plan.seconds
    );
    println!(
        "| offered | recorder | loss % | told: ring + staging | CPU µs a packet | sent k/s | the client's RTP packets, gaps, longest pause, p99 age |"
    );
    println!("|---|---|---|---|---|---|---|");
    for &rate in &plan.rates {
        // What a recorder deletes because the disk gets full would be counted as lost.
        let at_most = if rate == 0 { alone * 1.1e3 } else { rate as f64 };
        let (need, free) =
            ((plan.seconds as f64 * at_most * 1_250.0) as u64 + SPARE_BYTES, free_bytes(&scratch.0)?);
        if free < need {
            eprintln!(
                "bench: capture at {} left out: needs {need} bytes on the disk, {free} are free (BENCH_DIR names another)",
                offered(rate)
            );
            continue;
        }
        let mut results: Vec<Vec<Turn>> = contenders.iter().map(|_| Vec::new()).collect();
        for round in 0..plan.rounds {
            for (who, results) in contenders.iter().zip(&mut results) {
                let other = !matches!(who.tool, "tapdeck" | "stenotype");
                if other && round >= plan.others {
                    continue;
                }
                match turn(&wire, who, rate, plan.seconds, &scratch.path(who.key)) {
                    Ok(result) => results.push(result),
                    Err(why) => eprintln!("bench: {} at {rate}/s: {why}", who.label),
                }
            }
        }
        for (who, results) in contenders.iter().zip(&results) {
            print_row(&offered(rate), who.label, results);
        }
        judge(rate, plan.seconds, &contenders, &results, verdicts);
    }
    Ok(())
}

fn print_row(offered: &str, label: &str, turns: &[Turn]) {
    let column = |f: fn(&Turn) -> f64| turns.iter().map(f).collect::<Vec<_>>();
    let viewed: Vec<String> = turns
        .iter()
        .filter_map(|t| t.viewed.as_ref())
        .map(|v| {
            let (pause, age) = (v.longest_pause_ms, v.p99_ms);
            format!("{}, {}, {pause:.0} ms, {age:.1} ms {}", v.packets, v.gaps, v.ended)
        })
        .collect();
    let told: Vec<String> = turns.iter().map(|t| format!("{} + {}", t.told.ring, t.told.staging)).collect();
    println!(
        "| {offered} | {label} | {} | {} | {} | {} | {} |",
        rounds(&column(|t| t.lost_percent), 3),
        told.join(" / "),
        rounds(&column(|t| t.cpu_us), 2),
        rounds(&column(|t| t.sent_k), 0),
        viewed.join(" / ")
    );
}

/// Up to 300 k/s: no worse than stenotype in the median of the rounds. At top speed: under 0.1 %. Neither says anything when less was
/// offered than should have been: at top speed than stenotype left room for, the tenth part aside.
fn judge(rate: u64, seconds: u64, who: &[&Contender], turns: &[Vec<Turn>], verdicts: &mut Verdicts) {
    let medians = |key: &str| {
        let turns = &turns[who.iter().position(|w| w.key == key)?];
        let column = |f: fn(&Turn) -> f64| median(&turns.iter().map(f).collect::<Vec<_>>());
        (!turns.is_empty()).then(|| (column(|t| t.lost_percent), column(|t| t.sent_k)))
    };
    let stenotype = medians("stenotype");
    for who in who.iter().filter(|w| w.tool == "tapdeck") {
        let Some((lost, sent)) = medians(who.key) else { continue };
        let what = format!("{}, {}, {seconds} s", who.label, offered(rate));
        let beside = stenotype.map_or("stenotype was not run".into(), |(lost, sent)| {
            format!("stenotype {lost:.3} % of {sent:.0} k/s")
        });
        let figure = format!("{lost:.3} % of {sent:.0} k/s; {beside}");
        let (target, met) = if rate == 0 {
            (format!("{what}: under 0.1 % lost"), Some(lost < 0.1))
        } else {
            let met = stenotype.map(|(theirs, _)| lost <= theirs);
            (format!("{what}: lost no more than stenotype"), met)
        };
        let wanted =
            if rate == 0 { stenotype.map_or(0.0, |(_, sent)| 0.9 * sent) } else { 0.98 * rate as f64 / 1e3 };
        match met {
            // A loss at a lower offer is a loss at a higher one as well.
            Some(met) if sent >= wanted || !met => verdicts.add(target, figure, met),
            _ => verdicts.open(target, figure),
        }
    }
}

fn offered(rate: u64) -> String {
    if rate == 0 { "top speed".into() } else { format!("{} k/s", rate / 1000) }
}
