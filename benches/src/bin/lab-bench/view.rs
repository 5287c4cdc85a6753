//! A viewer beside a recorder, in the recorder's namespace: the client's side of recording and of live latency.

use std::process::Stdio;

use crate::recorder::RTSP;
use crate::tools::{Result, Running, sibling};
use crate::wire::Wire;

/// A viewer that plays. Killed when dropped.
pub struct Viewer(Running);

/// What a viewer saw.
pub struct Viewed {
    pub packets: u64,
    pub gaps: u64,
    pub longest_pause_ms: f64,
    /// Packets sent while it played, and their age at arrival.
    pub live_packets: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Why it ended early, or nothing.
    pub ended: String,
}

impl Viewer {
    /// Plays camera `number` live for `seconds`, over `transport`.
    pub fn start(wire: &Wire, number: u16, seconds: u64, transport: &str) -> Result<Self> {
        let [high, low] = number.to_be_bytes();
        let path = format!("198.18.{}.{low}-cam", 16 + high);
        let mut command = wire.at("b", "0,1", &sibling("lab-view")?);
        command.args([RTSP, &path, &seconds.to_string(), transport]);
        Ok(Viewer(Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?))
    }

    pub fn end(self) -> Result<Viewed> {
        let out = self.0.output()?;
        let said: serde_json::Value = serde_json::from_slice(&out.stdout)
            .map_err(|_| format!("the viewer said: {}", String::from_utf8_lossy(&out.stderr).trim()))?;
        let (count, number) =
            (|key: &str| said[key].as_u64().unwrap_or(0), |key: &str| said[key].as_f64().unwrap_or(f64::NAN));
        Ok(Viewed {
            packets: count("packets"),
            gaps: count("gaps"),
            longest_pause_ms: number("longest_pause_ms"),
            live_packets: count("live_packets"),
            p50_ms: number("p50_ms"),
            p99_ms: number("p99_ms"),
            max_ms: number("max_ms"),
            ended: said["ended"].as_str().unwrap_or_default().to_owned(),
        })
    }
}
