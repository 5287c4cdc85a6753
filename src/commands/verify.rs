//! `tapdeck verify`: are the shards what they were when they were written?

use crate::cli::{JsonArg, StoreArg};
use crate::config::Config;
use crate::console::Console;
use crate::failure::{Failure, Outcome};
use crate::listing;
use crate::size::{ByteSize, count};
use capture::{ByteRange, ShardInfo, ShardReport, Store, StoreError, verify_shard};
use clap::Args;
use serde_json::json;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Check that the shards are what they were when they were written
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck verify --store DIR
  tapdeck verify --store DIR --json | jq '.shards[] | select(.sound | not)'

Every sealed shard is read from end to end: its hash against the journal's, its records one after the other. The shards that a
recorder is writing at the moment are left out. What is damaged is named by file and bytes; everything else stays playable.
Exit status: 0 when all is sound, 1 when something is damaged.")]
pub struct Verify {
    /// Where.
    #[command(flatten)]
    pub store: StoreArg,
    /// How it is printed.
    #[command(flatten)]
    pub json: JsonArg,
}

impl Verify {
    /// Checks all sealed shards.
    pub fn run(self, config: &Config, console: &Console) -> Outcome {
        let store = self.store.open(config)?;
        let (sealed, open): (Vec<_>, Vec<_>) = store.shards().into_iter().partition(|shard| shard.sealed);
        let mut reports = check(&store, &sealed, console)?;
        // What retention deleted meanwhile is not damaged.
        store.refresh()?;
        reports.retain(|report| store.shard_info(report.shard).is_some());
        let damaged = reports.iter().filter(|report| !report.sound()).count();
        let journal_damage = store.journal_damage();
        if self.json.json {
            let shards: Vec<_> = reports.iter().map(document).collect();
            listing::print_json(&json!({
                "sound": damaged == 0 && journal_damage == 0,
                "damaged": damaged,
                "unsealed": open.len(),
                "journal_damage": journal_damage,
                "shards": shards,
            }))?;
        } else {
            listing::print_lines(lines(&reports, open.len(), journal_damage))?;
        }
        match damaged == 0 && journal_damage == 0 {
            true => Ok(()),
            false => Err(Failure::silent()),
        }
    }
}

/// Reads the shards on all cores, each from end to end.
fn check(store: &Store, shards: &[ShardInfo], console: &Console) -> Result<Vec<ShardReport>, StoreError> {
    let bar = console.byte_bar(shards.iter().map(|shard| shard.bytes).sum(), "verifying");
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(shards.len()));
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get).min(shards.len().max(1));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(shard) = shards.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = verify_shard(store, shard);
                    bar.inc(shard.bytes);
                    done.lock().expect("no worker panics while it holds the list").push(report);
                }
            });
        }
    });
    bar.finish_and_clear();
    let done = done.into_inner().expect("no worker panics while it holds the list");
    let mut reports = done.into_iter().collect::<Result<Vec<_>, _>>()?;
    reports.sort_by_key(|report| report.shard);
    Ok(reports)
}

fn document(report: &ShardReport) -> serde_json::Value {
    let mut value = json!(report);
    value["sound"] = json!(report.sound());
    value
}

fn lines(reports: &[ShardReport], open: usize, journal_damage: u64) -> Vec<String> {
    let mut lines = Vec::new();
    for report in reports.iter().filter(|report| !report.sound()) {
        lines.push(format!("damaged: {}", report.path));
        if report.found_bytes != report.bytes {
            lines.push(format!("  {} bytes long, should be {}", report.found_bytes, report.bytes));
        }
        let ranges = |lines: &mut Vec<String>, what: &str, ranges: &[ByteRange]| {
            lines.extend(ranges.iter().map(|r| format!("  bytes {} to {}: {what}", r.from, r.to)));
        };
        ranges(&mut lines, "changed since it was sealed", &report.changed);
        ranges(&mut lines, "no packets can be read", &report.unreadable);
        if report.unchanged == Some(false) && report.changed.is_empty() && report.unreadable.is_empty() {
            lines.push("  changed since it was sealed".to_owned());
        }
        if report.packets != report.expected_packets {
            lines.push(format!(
                "  {} of {} packets can be read",
                count(report.packets),
                count(report.expected_packets)
            ));
        }
    }
    if journal_damage > 0 {
        lines.push(format!("damaged: {journal_damage} bytes of the journal"));
    }
    let damaged = reports.iter().filter(|report| !report.sound()).count();
    let unhashed = reports.iter().filter(|report| report.unchanged.is_none()).count();
    let bytes: u64 = reports.iter().map(|report| report.bytes).sum();
    let mut summary = format!(
        "{} of {} sealed shards are sound, {}",
        reports.len() - damaged,
        reports.len(),
        ByteSize(bytes)
    );
    if unhashed > 0 {
        summary.push_str(&format!("; {unhashed} have no hash yet, only their records were checked"));
    }
    if open > 0 {
        summary.push_str(&format!("; {open} are still being written and were left out"));
    }
    lines.push(summary);
    lines
}
