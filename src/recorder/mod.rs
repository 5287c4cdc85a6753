//! A running recording: taps, index, retention, hashes, RTSP and the control socket, wired together.
//!
//! Owns the order in which they start and stop, and the once-a-second round: drops into the journal, retention, failure
//! detection, the status document. Each part has threads of its own; none waits for this one.

mod control;
mod housekeeping;
mod rates;

use crate::console::Console;
use crate::failure::Failure;
use crate::status::{InterfaceStatus, RecorderStatus};
use crate::times;
use crate::writing::WrittenStore;
use capture::{CaptureTime, LiveConfig, LiveError, LiveTap, Retention, SourceId, SourceKind, TapStats};
use housekeeping::Hashing;
use rates::Rates;
use std::time::Instant;

pub use control::{Control, Orders};
pub use housekeeping::check_writable;

impl From<LiveError> for Failure {
    /// The sentences of the tap name the remedy themselves.
    fn from(error: LiveError) -> Self {
        match error {
            LiveError::Filter { .. } => Self::usage(error),
            LiveError::Store(error) => error.into(),
            error => Self::failed(error),
        }
    }
}

/// What is recorded, decided once.
pub struct Plan {
    /// The taps.
    pub taps: Vec<LiveConfig>,
    /// How long it is kept.
    pub retention: Retention,
}

/// A recording that runs.
pub struct Recorder {
    written: WrittenStore,
    source: SourceId,
    taps: Vec<(LiveTap, Rates)>,
    retention: Retention,
    hashing: Hashing,
    started: (Instant, CaptureTime),
    /// What was complained about already, for each tap.
    troubles: Vec<Option<String>>,
}

/// What a recording came to.
#[derive(Default)]
pub struct Summary {
    /// For each tap its interface and final counts.
    pub taps: Vec<(String, TapStats)>,
}

impl Recorder {
    /// Opens all taps, or none: when one can't be opened, those before it are closed again.
    pub fn start(written: WrittenStore, plan: Plan) -> Result<Self, Failure> {
        let now = times::now();
        let source = written.store.open_source(&written.lock, SourceKind::Live, now)?;
        let mut taps = Vec::with_capacity(plan.taps.len());
        for config in plan.taps {
            match LiveTap::start(&written.store, &written.lock, source, config) {
                Ok(tap) => taps.push((tap, Rates::default())),
                Err(error) => {
                    for (tap, _) in taps {
                        let _ = tap.stop();
                    }
                    written.store.close_source(source, 0, None, None)?;
                    return Err(error.into());
                }
            }
        }
        let hashing = Hashing::start(&written.store)?;
        let troubles = vec![None; taps.len()];
        let (retention, started) = (plan.retention, (Instant::now(), now));
        Ok(Self { written, source, taps, retention, hashing, started, troubles })
    }

    /// What the control socket may order.
    pub fn orders(&self) -> Orders {
        Orders { store: self.written.store.clone() }
    }

    /// The once-a-second round; gives the status document.
    pub fn round(&mut self, console: &Console) -> RecorderStatus {
        self.journal_drops(console);
        self.retain(console);
        self.complain(console);
        self.status()
    }

    /// Losses stand beside the footage, with the second in which they happened.
    fn journal_drops(&mut self, console: &Console) {
        for (tap, _) in &mut self.taps {
            if let Some(drops) = tap.take_drops()
                && let Err(error) = self.written.store.append(&capture::JournalRecord::Drops(drops))
            {
                console.line(&format!(
                    "tapdeck: {} packets were lost and could not be noted: {error}",
                    drops.kernel + drops.nic + drops.ours
                ));
            }
        }
    }

    fn retain(&mut self, console: &Console) {
        if let Err(error) = housekeeping::retain(&self.written, &self.retention) {
            console.line(&format!("tapdeck: retention: {error}"));
        }
    }

    /// Each trouble is told when it comes and when it goes.
    fn complain(&mut self, console: &Console) {
        for ((tap, _), before) in self.taps.iter().zip(&mut self.troubles) {
            let now = tap.trouble();
            if now != *before {
                match &now {
                    Some(trouble) => console.line(&format!("tapdeck: {}: {trouble}", tap.interface())),
                    None => console.say(format!("{}: recording again", tap.interface())),
                }
                *before = now;
            }
        }
    }

    /// True while every tap's thread runs.
    pub fn is_running(&self) -> bool {
        self.taps.iter().all(|(tap, _)| tap.running())
    }

    fn status(&mut self) -> RecorderStatus {
        let store = &self.written.store;
        let shards = store.shards();
        let at = Instant::now();
        let interfaces = self.taps.iter_mut().map(|(tap, rates)| {
            let stats = tap.stats();
            let (packets_per_second, bytes_per_second) = rates.update(at, stats.packets, stats.bytes);
            InterfaceStatus {
                name: tap.interface().to_owned(),
                up: stats.up,
                packets: stats.packets,
                bytes: stats.bytes,
                packets_per_second,
                bytes_per_second,
                dropped_by_kernel: stats.dropped_kernel,
                dropped_by_nic: stats.dropped_nic,
                dropped_by_us: stats.dropped_ours,
                queued_bytes: stats.queued_bytes,
                queue_bytes: stats.queue_bytes,
                trouble: tap.trouble(),
            }
        });
        RecorderStatus {
            pid: std::process::id(),
            started: times::rfc3339(self.started.1),
            uptime_s: self.started.0.elapsed().as_secs(),
            store: store.dir().display().to_string(),
            shards: shards.len(),
            stored_bytes: shards.iter().map(|shard| shard.bytes).sum(),
            free_bytes: store.free_bytes().unwrap_or(0),
            interfaces: interfaces.collect(),
            ..RecorderStatus::default()
        }
    }

    /// Takes what is in the rings, brings everything to disk, seals. Even if one part fails the others are finished.
    pub fn stop(mut self, console: &Console) -> Result<Summary, Failure> {
        self.journal_drops(console);
        let mut summary = Summary::default();
        let mut failure = None;
        for (tap, _) in self.taps.drain(..) {
            let interface = tap.interface().to_owned();
            match tap.stop() {
                Ok(stats) => summary.taps.push((interface, stats)),
                Err(error) => failure = Some(Failure::from(error)),
            }
        }
        let packets = summary.taps.iter().map(|(_, stats)| stats.packets).sum();
        self.hashing.stop();
        let closed = self.written.store.close_source(self.source, packets, None, None);
        match (failure, closed) {
            (Some(failure), _) => Err(failure),
            (None, closed) => closed.map(|()| summary).map_err(Failure::from),
        }
    }
}
