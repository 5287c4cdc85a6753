//! From a frame on the wire at the tap to the same RTP packet at a live client.
//!
//! The camera writes the time of sending into each packet; the client, on the same host, compares it with its own clock. The time that
//! the sender needs to hand a picture to the kernel is in it, and so is all that the two CPUs do beside.

use crate::Plan;
use crate::recorder::{RTSP, Recorder};
use crate::tools::{Result, Scratch};
use crate::verdict::Verdicts;
use crate::view::Viewer;
use crate::wire::{Sending, Wire};

/// tapdeck's default: the kernel may hold an unfinished block of the ring for so long.
const BLOCK_TIMEOUT_MS: f64 = 10.0;
/// Above the block time-out, at p99.
const AIM_MS: f64 = 20.0;

pub fn run(plan: &Plan, verdicts: &mut Verdicts) -> Result<()> {
    let wire = match Wire::up() {
        Ok(wire) => wire,
        Err(why) => {
            eprintln!("bench: latency left out: {why}");
            return Ok(());
        }
    };
    let scratch = Scratch::new()?;
    let seconds = plan.seconds.clamp(3, 20);
    println!(
        "\n### Live: from the wire to a live client, {seconds} s a row, ms; the ring's block time-out is {BLOCK_TIMEOUT_MS:.0} ms\n"
    );
    println!(
        "| cameras | their transport | on the wire | client | packets | gaps | p50 | p99 | max |\n|---|---|---|---|---|---|---|---|---|"
    );
    for (cameras, pieces) in [(1u16, 15), (300, 6)] {
        for transport in ["udp", "tcp"] {
            let recorder =
                Recorder::start(&wire, "tapdeck", "0,1", &scratch.path("live"), &["--rtsp", RTSP])?;
            let lasts = 2 * seconds + 10;
            let words = [&cameras.to_string(), &lasts.to_string(), transport, &pieces.to_string()];
            let sending = Sending::start(&wire, "lab-camera", &words)?;
            let mut rows = Vec::new();
            for client in ["udp", "tcp"] {
                rows.push((client, Viewer::start(&wire, cameras.div_ceil(2), seconds, client)?.end()));
            }
            let rate = sending.sent()? as f64 / lasts as f64;
            recorder.stop()?;
            for (client, viewed) in rows {
                let row = format!("{cameras} | {transport} | {:.1} k/s | {client}", rate / 1e3);
                match viewed {
                    Ok(v) => {
                        println!(
                            "| {row} | {} | {} | {:.2} | {:.2} | {:.2} | {}",
                            v.live_packets, v.gaps, v.p50_ms, v.p99_ms, v.max_ms, v.ended
                        );
                        verdicts.add(
                            format!("live, {cameras} × {transport}, {client} client: p99 ≤ {AIM_MS:.0} ms above the block time-out"),
                            format!("p50 {:.1}, p99 {:.1} ms, time-out {BLOCK_TIMEOUT_MS:.0} ms", v.p50_ms, v.p99_ms),
                            v.live_packets > 0 && v.p99_ms <= AIM_MS + BLOCK_TIMEOUT_MS,
                        );
                    }
                    Err(why) => println!("| {row} | {why} | | | | |"),
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_time_out_is_the_recorders() {
        let source = include_str!("../../../../capture/src/live/mod.rs");
        assert!(source.contains(&format!("block_timeout_ms: {},", super::BLOCK_TIMEOUT_MS)));
    }
}
