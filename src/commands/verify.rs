//! `tapdeck verify`: are the shards what they were when they were written?

use crate::cli::{JsonArg, StoreArg};
use crate::config::Config;
use crate::console::Console;
use crate::failure::{Failure, Outcome};
use crate::listing;
use crate::size::{ByteSize, count};
use capture::{ByteRange, ShardInfo, ShardReport, SourceKind, Store, verify_shard};
use clap::Args;
use reconstruct::index::{Index, IndexError, IndexReport, Sums};
use serde_json::json;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Check that the shards are what they were when they were written, and that the index says what is in them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck verify --store DIR
  tapdeck verify --store DIR --json | jq '.shards[] | select(.sound | not)'

Every sealed shard is read from end to end: its hash against the journal's, its records one after the other, each against what \
the index says of it. The shards that a recorder is writing at the moment are left out. What is damaged is named by file and bytes; everything else stays playable.
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
        let index = open_index(&store, console)?;
        let mut reports = check(&store, index.as_ref(), &sealed, console)?;
        // What retention deleted meanwhile is not damaged.
        store.refresh()?;
        reports.retain(|report| store.shard_info(report.shard.shard).is_some());
        let damaged = reports.iter().filter(|report| !report.sound()).count();
        let journal_damage = store.journal_damage();
        let unknown = store.unknown_shards()?;
        let sound = damaged == 0 && journal_damage == 0 && unknown.is_empty();
        if self.json.json {
            let shards: Vec<_> = reports.iter().map(|report| document(report, &store)).collect();
            listing::print_json(&json!({
                "sound": sound,
                "damaged": damaged,
                "unsealed": open.len(),
                "journal_damage": journal_damage,
                "unknown": unknown.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
                "shards": shards,
            }))?;
        } else {
            let mut lines = lines(&reports, open.len(), &store);
            lines.extend(unknown.iter().flat_map(|path| {
                let (path, store) = (path.display(), store.dir().display());
                [
                    format!("not in the journal, which is older: {path}"),
                    format!("  to bring it in: tapdeck import {path} --store {store}; delete it afterwards"),
                ]
            }));
            lines.extend(remedies(&store, &reports));
            listing::print_lines(lines)?;
        }
        match sound {
            true => Ok(()),
            false => Err(Failure::silent()),
        }
    }
}

/// What was found of a shard, and of what the index has of it.
struct Report {
    shard: ShardReport,
    /// None while nothing of it is indexed.
    index: Option<IndexReport>,
}

impl Report {
    fn sound(&self) -> bool {
        self.shard.sound() && self.index.as_ref().is_none_or(IndexReport::sound)
    }
}

/// A store without an index is sound all the same.
fn open_index(store: &Store, console: &Console) -> Result<Option<Index>, Failure> {
    match Index::open_secondary(&store.index_dir()) {
        Ok(index) => Ok(Some(index)),
        Err(error @ IndexError::Missing { .. }) => {
            console.say(error.to_string());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn check_one(store: &Store, index: Option<&Index>, info: &ShardInfo) -> Result<Report, Failure> {
    // Before the shard is read: what is indexed meanwhile is not missing.
    let up_to = index.map(|index| index.indexed_up_to(info)).transpose()?.flatten();
    let mut sums = Sums::default();
    let shard = verify_shard(store, info, &mut |record| {
        if up_to.is_some_and(|up_to| record.offset < up_to) {
            sums.add(record);
        }
    })?;
    let mut again = |seen: &mut dyn FnMut(&_)| {
        // It could be read a moment ago; should that have changed, records seem to be missing, which is so.
        let _ = verify_shard(store, info, seen);
    };
    let index = match (index, up_to) {
        (Some(index), Some(up_to)) => {
            Some(index.check_shard(info, up_to, &shard.unreadable, &sums, &mut again)?)
        }
        _ => None,
    };
    Ok(Report { shard, index })
}

/// Reads the shards on all cores, each from end to end.
fn check(
    store: &Store,
    index: Option<&Index>,
    shards: &[ShardInfo],
    console: &Console,
) -> Result<Vec<Report>, Failure> {
    let bar = console.byte_bar(shards.iter().map(|shard| shard.bytes).sum(), "verifying");
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(shards.len()));
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get).min(shards.len().max(1));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(shard) = shards.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = check_one(store, index, shard);
                    bar.inc(shard.bytes);
                    done.lock().expect("no worker panics while it holds the list").push(report);
                }
            });
        }
    });
    bar.finish_and_clear();
    let done = done.into_inner().expect("no worker panics while it holds the list");
    let mut reports = done.into_iter().collect::<Result<Vec<_>, _>>()?;
    reports.sort_by_key(|report| report.shard.shard);
    Ok(reports)
}

/// What was found, and what the journal has of where the shard comes from.
fn document(report: &Report, store: &Store) -> serde_json::Value {
    let mut value = json!(report.shard);
    value["sound"] = json!(report.sound());
    value["index"] = json!(report.index);
    let info = store.shard_info(report.shard.shard);
    let hash = info.as_ref().and_then(|info| info.hash);
    value["blake3"] =
        json!(hash.map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
    value["provenance"] = json!(info.as_ref().map(|info| info.provenance));
    value["tap"] = json!(
        info.and_then(|info| store.taps().into_iter().find(|tap| tap.id == info.tap)).map(|tap| tap.name)
    );
    value
}

/// What brings back what is damaged and came out of a file.
fn remedies(store: &Store, reports: &[Report]) -> Vec<String> {
    let damaged = |source| {
        let mut of_it = reports.iter().filter(|report| !report.shard.sound());
        of_it.any(|report| store.shard_info(report.shard.shard).is_some_and(|info| info.source == source))
    };
    let sources = store.sources().into_iter().filter(|source| damaged(source.id));
    let files = sources.filter_map(|source| match source.kind {
        SourceKind::File { path, .. } => {
            Some(format!("to replace it: tapdeck import --again {path} --store {}", store.dir().display()))
        }
        SourceKind::Live => None,
    });
    files.collect()
}

fn lines(reports: &[Report], open: usize, store: &Store) -> Vec<String> {
    let mut lines = Vec::new();
    let journal_damage = store.journal_damage();
    for report in reports.iter().map(|r| &r.shard).filter(|report| !report.sound()) {
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
    lines.extend(reports.iter().flat_map(index_lines));
    if journal_damage > 0 {
        lines.push(format!("damaged: {journal_damage} bytes of the journal"));
    }
    let unindexed = reports.iter().filter(|report| report.index.is_none()).count();
    let wrong = reports.iter().any(|report| report.index.as_ref().is_some_and(|index| !index.sound()));
    let reports: Vec<&ShardReport> = reports.iter().map(|report| &report.shard).collect();
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
    if unindexed > 0 {
        summary.push_str(&format!("; {unindexed} are not indexed yet"));
    }
    if wrong {
        summary.push_str("; the index does not fit: `tapdeck reindex` makes it anew");
    }
    match open {
        0 => {}
        n if store.is_written() => {
            summary.push_str(&format!("; {n} are still being written and were left out"));
        }
        n => summary.push_str(&format!(
            "; {n} are not sealed, because who wrote them was interrupted, and were left out: the next `tapdeck record` or `tapdeck import` seals them"
        )),
    }
    lines.push(summary);
    lines
}

/// What of the index does not fit to a shard.
fn index_lines(report: &Report) -> Vec<String> {
    let Some(index) = report.index.as_ref().filter(|index| !index.sound()) else { return Vec::new() };
    let mut lines = vec![format!("index: {}", report.shard.path)];
    if let Some(at) = index.beyond {
        lines.push(format!("  indexed up to byte {at}, it has {}", report.shard.bytes));
    }
    let offsets = |offsets: &[u64]| offsets.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    if !index.without_row.is_empty() {
        lines.push(format!(
            "  not in the index, or otherwise: records at bytes {}",
            offsets(&index.without_row)
        ));
    }
    if !index.without_record.is_empty() {
        lines.push(format!("  in the index, but no such record: bytes {}", offsets(&index.without_record)));
    }
    lines.extend(index.unreadable.iter().map(|what| format!("  {what}")));
    lines
}
