//! One RTSP viewer: `lab-view ADDRESS:PORT PATH SECONDS [tcp|udp]`, live unless the path has a range.
//!
//! Waits up to 20 seconds for the stream to be there, plays, and prints one line of JSON: packets, places where the sequence number did not
//! count on, the longest pause, and how old the packets of `lab-camera` were that were sent a second after PLAY or later.

use std::time::{Duration, Instant};

use tapdeck_benches::client::{Result, View};
use tapdeck_benches::stamp;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, seconds, rest @ ..] = words.as_slice() else {
        return Err("usage: lab-view ADDRESS:PORT PATH SECONDS [tcp|udp]".into());
    };
    let (address, seconds) = (address.parse()?, Duration::from_secs(seconds.parse()?));
    let udp = rest.first().is_some_and(|w| w == "udp");
    let asked = Instant::now();
    let mut view = loop {
        match View::open_over(address, path, udp) {
            Ok(view) => break view,
            Err(_) if asked.elapsed() < Duration::from_secs(20) => {
                std::thread::sleep(Duration::from_millis(100))
            }
            Err(why) => return Err(why),
        }
    };
    let waited = asked.elapsed();
    view.seen.fresh_from = stamp::clock() + 1_000_000_000;
    view.play_live()?;
    let started = Instant::now();
    let mut ended = String::new();
    while started.elapsed() < seconds {
        if let Err(why) = view.until_rtp(seconds.saturating_sub(started.elapsed())) {
            ended = why.to_string();
            break;
        }
    }
    let mut ages = std::mem::take(&mut view.seen.ages);
    ages.sort_unstable();
    let at = |share: f64| {
        let place = ((ages.len() as f64 * share).ceil() as usize).clamp(1, ages.len().max(1));
        ages.get(place - 1).map(|&ns| ns as f64 / 1e6)
    };
    let said = serde_json::json!({
        "packets": view.seen.packets, "gaps": view.seen.gaps, "seconds": started.elapsed().as_secs_f64(),
        "waited": waited.as_secs_f64(), "longest_pause_ms": view.seen.longest_pause.as_secs_f64() * 1e3,
        "live_packets": ages.len(), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0), "ended": ended,
    });
    println!("{said}");
    Ok(())
}
