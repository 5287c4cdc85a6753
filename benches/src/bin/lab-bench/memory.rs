//! Memory of a recorder while as many packets go through it as an hour of 100 Mbit/s has, faster than in an hour.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Plan;
use crate::recorder::Recorder;
use crate::tools::{Result, Samples, Scratch, tapdeck};
use crate::verdict::Verdicts;
use crate::wire::{Sending, Wire};

const CAMERAS: u64 = 300;
/// 300 cameras with four packets a picture.
const CAMERA_RATE: u64 = 31_000;
/// So long the index may take to catch up.
const PATIENCE: Duration = Duration::from_secs(120);
/// Aim, for anonymous memory, in MiB.
pub const AIM_MIB: f64 = 256.0;

/// Under the aim.
pub fn judge_bound(what: &str, samples: &Samples, verdicts: &mut Verdicts) {
    let whole = samples.most(1.0).0;
    verdicts.add(
        format!("{what}: at most {AIM_MIB:.0} MiB of anonymous memory"),
        format!("{whole:.0} MiB"),
        whole <= AIM_MIB,
    );
}

/// No more at the end than at half time but for what an allocator keeps back.
pub fn judge_growth(what: &str, samples: &Samples, verdicts: &mut Verdicts) {
    let (half, whole) = (samples.most(0.5).0, samples.most(1.0).0);
    verdicts.add(
        format!("{what}: memory does not grow (at most a tenth and 4 MiB after half time)"),
        format!("{half:.0} MiB by 50 %, {whole:.0} MiB by 100 %"),
        whole <= half * 1.1 + 4.0,
    );
}

pub fn run(plan: &Plan, verdicts: &mut Verdicts) -> Result<()> {
    let wire = match Wire::up() {
        Ok(wire) => wire,
        Err(why) => {
            eprintln!("bench: memory left out: {why}");
            return Ok(());
        }
    };
    let scratch = Scratch::new()?;
    let dir = scratch.path("memory");
    let more = ["--rtsp", "off", "--keep-bytes", "8GiB"];
    let recorder = Recorder::start(&wire, "tapdeck", "0,1", &dir, &more)?;
    let store = dir.join("store");
    let seconds = (plan.packets / (plan.feed + CAMERA_RATE)).max(3).to_string();
    let cameras = Sending::start(&wire, "lab-camera", &[&CAMERAS.to_string(), &seconds])?;
    let mut blast = Sending::start(&wire, "lab-blast", &[&plan.feed.to_string(), &seconds])?;
    let (started, mut samples) = (Instant::now(), Samples::default());
    while !blast.ended()? {
        samples.take(started, recorder.child.id());
        std::thread::sleep(Duration::from_millis(100));
    }
    let sent = blast.sent()? + cameras.sent()?;
    // The status is a second old at most: what it says of the index is believed once all packets are in it.
    let (ended, behind) = (Instant::now(), status(&store)?.behind_mb);
    let last = loop {
        samples.take(started, recorder.child.id());
        std::thread::sleep(Duration::from_millis(500));
        let now = status(&store)?;
        let settled = ended.elapsed() > Duration::from_secs(3) && now.behind_mb == 0;
        if settled || ended.elapsed() > PATIENCE {
            break now;
        }
    };
    let minutes = sent as f64 * 1200.0 * 8.0 / 100e6 / 60.0;
    println!(
        "\n### Memory: recording, {CAMERAS} cameras and 64 flows beside them, the oldest shards go at 8 GiB\n"
    );
    println!(
        "| packets sent | recorded | dropped | as long as this of 100 Mbit/s | index behind when the last was sent, and when it ended | anonymous + shared MiB, most by 10 / 50 / 100 % |"
    );
    println!("|---|---|---|---|---|---|");
    println!(
        "| {sent} | {} | {} | {minutes:.0} min | {behind} MB, {} MB after {:.0} s | {} |",
        last.packets,
        last.dropped,
        last.behind_mb,
        ended.elapsed().as_secs_f64(),
        samples.text()
    );
    let what = format!("recording {minutes:.0} min of 100 Mbit/s");
    judge_bound(&what, &samples, verdicts);
    judge_growth(&what, &samples, verdicts);
    Ok(())
}

/// What a recorder says of itself.
struct Status {
    packets: u64,
    dropped: u64,
    behind_mb: u64,
}

fn status(store: &Path) -> Result<Status> {
    let said = tapdeck()?.args(["status", "--json", "--store"]).arg(store).output()?;
    let said: serde_json::Value = serde_json::from_slice(&said.stdout)?;
    let sum = |key: &str| -> u64 {
        let interfaces = said["recorder"]["interfaces"].as_array();
        interfaces.into_iter().flatten().filter_map(|i| i[key].as_u64()).sum()
    };
    let behind = said["recorder"]["index_lag_bytes"].as_u64().ok_or("the recorder is gone")?;
    Ok(Status {
        packets: sum("packets"),
        dropped: sum("dropped_by_kernel") + sum("dropped_by_nic") + sum("dropped_by_us"),
        behind_mb: behind / 1_000_000,
    })
}
