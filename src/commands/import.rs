//! `tapdeck import`: capture files into a store.

use crate::capture_head;
use crate::cli::{JsonArg, StoreArg};
use crate::config::Config;
use crate::console::Console;
use crate::failure::{Failure, Outcome};
use crate::listing;
use crate::options::{self, ImportOptions};
use crate::size::{ByteSize, several};
use crate::writing::WrittenStore;
use capture::{ImportError, ImportReport, SourceId, SourceKind, WhenFull, WriterOptions, import_file};
use clap::Args;
use reconstruct::footage::Footage;
use reconstruct::index::Index;
use reconstruct::indexer;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Copy capture files (pcap, pcapng) into a store and find the streams in them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck import office.pcapng --store /tmp/office
  tapdeck import *.pcap --store /tmp/office --json | jq '.files[] | {file, packets, damage}'

The files are left as they are, and come in by the time of their first packets, however they are named here. A file that is in the store already is recognised by its content; one whose import was
interrupted is gone on with, or imported anew if other footage came after it, or if something of it is missing since. A damaged file is imported up to the damage, which is reported with its offset.")]
pub struct Import {
    /// Capture files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Import files again that the store has already, in place of what it has of them: after `tapdeck verify` found that damaged
    #[arg(long)]
    pub again: bool,
    /// How shards are written.
    #[command(flatten)]
    pub options: ImportOptions,
    /// Where.
    #[command(flatten)]
    pub store: StoreArg,
    /// How it is printed.
    #[command(flatten)]
    pub json: JsonArg,
}

/// Less than this a stream's packets are put in order anyway.
const DISORDER_TOLD_NS: i64 = 100_000_000;

/// What became of one file.
struct Imported {
    path: PathBuf,
    result: Result<ImportReport, ImportError>,
    /// Packets that were indexed out of their order.
    out_of_order: u64,
    /// Packets of it that are in the store although it failed.
    kept: u64,
}

impl Imported {
    /// Whether the store refused it: then it refuses others as well.
    fn refused(&self) -> bool {
        matches!(self.result, Err(ImportError::Store(_)))
    }
}

impl Import {
    /// Imports file by file; one that can't be read does not keep the others from it, a store that takes no more does.
    pub fn run(self, config: &Config, console: &Console) -> Outcome {
        let options = self.options.or(&config.import);
        let mut files = Vec::new();
        for path in &self.files {
            files.push((capture_head::check(path)?, path));
        }
        // A session that goes on from one file to the next is known by that.
        files.sort_by_key(|(first, _)| *first);
        let began = Instant::now();
        let defaults = WriterOptions::default();
        let writer = WriterOptions {
            shard_size: options.shard_size.map_or(Ok(defaults.shard_size), options::shard_size)?,
            when_full: WhenFull::Wait,
            ..defaults
        };
        let written = WrittenStore::create(&self.store.path(config)?, console)?;
        let index = Index::open(&written.store.index_dir())?;
        catch_up(&written, &index, console)?;
        let (mut imported, mut in_order, mut refused) = (Vec::new(), true, false);
        for (_, path) in files {
            // Behind another file's footage, what is cut off could not be gone on with.
            if !in_order || refused {
                console.line(&format!("tapdeck: {}: not tried after that", path.display()));
                continue;
            }
            let mut file = one(&written, &index, path, (writer, self.again), console)?;
            refused = file.refused();
            // The disk may have refused half-way: as after a kill, and then what others brought in is told all the same.
            in_order = file.result.is_ok() || written.recover(console);
            if file.result.is_err() && in_order {
                file.kept = kept(&written, path);
            }
            if file.kept > 0 {
                let next = if refused { "; the same command goes on there when there is room" } else { "" };
                let kept = several(file.kept, "packet");
                console.line(&format!("tapdeck: {}: {kept} of it are in the store{next}", path.display()));
            }
            imported.push(file);
        }
        let replaced = imported.iter().filter_map(|file| file.result.as_ref().ok()).filter(|_| in_order);
        for source in replaced.flat_map(|report| &report.replaces) {
            strike_off(&written, &index, *source, console)?;
        }
        if in_order {
            hash_rest(&written, console)?;
        }
        if imported.iter().all(|file| file.result.is_err() && file.kept == 0) && !self.json.json {
            return Err(Failure::silent());
        }
        // Not what rows there are: what something is retained of.
        let streams = Footage::with(written.store.clone(), index, None).streams()?.len();
        report(&imported, streams, self.json.json, began, console)?;
        match imported.iter().any(|file| file.result.is_err()) {
            true => Err(Failure::silent()),
            false => Ok(()),
        }
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        Self::failed(error)
    }
}

/// What an interrupted import or recording left is indexed first: sources are indexed in order.
fn catch_up(written: &WrittenStore, index: &Index, console: &Console) -> Outcome {
    if written.store.shards().is_empty() {
        return Ok(());
    }
    let bar = console.byte_bar(0, "catching up");
    let mut progress = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
    };
    indexer::bulk_index(&written.store, &written.lock, index, &mut progress)?;
    bar.finish_and_clear();
    Ok(())
}

/// What an earlier import brought in, of a file that is now in the store as a whole.
fn strike_off(written: &WrittenStore, index: &Index, source: SourceId, console: &Console) -> Outcome {
    let shards: Vec<_> = written.store.shards().into_iter().filter(|s| s.source == source).collect();
    for shard in &shards {
        indexer::delete_shard(&written.store, &written.lock, index, shard.id)?;
    }
    console.say(format!(
        "{} of an earlier import of it, which is not whole, were replaced",
        several(shards.iter().map(|s| s.packets).sum(), "packet")
    ));
    Ok(())
}

/// Packets of a file that was begun last and not brought to its end.
fn kept(written: &WrittenStore, path: &Path) -> u64 {
    // A path need not be text, the journal is.
    let path = path.display().to_string();
    let of_file = |kind: &SourceKind| matches!(kind, SourceKind::File { path: named, .. } if *named == path);
    let last = written.store.sources().into_iter().next_back();
    let Some(last) = last.filter(|s| !s.complete && of_file(&s.kind)) else { return 0 };
    written.store.shards().iter().filter(|s| s.source == last.id).map(|s| s.packets).sum()
}

/// What an interrupted import or recording left unhashed: this one's shards were hashed as they were written.
fn hash_rest(written: &WrittenStore, console: &Console) -> Outcome {
    let left = written.store.shards().iter().filter(|shard| shard.sealed && shard.hash.is_none()).count();
    let bar = console.count_bar(left as u64, "hashing");
    while written.store.hash_next_shard(Duration::ZERO)? {
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Copies one file while another thread indexes what has been copied.
fn one(
    written: &WrittenStore,
    index: &Index,
    path: &Path,
    (options, again): (WriterOptions, bool),
    console: &Console,
) -> Result<Imported, Failure> {
    let size = path.metadata().map_or(0, |found| found.len());
    let name =
        path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
    let bar = console.byte_bar(size, &name);
    let (open, opened) = channel();
    // Asked before the copying begins: what is there then is not added to, but for the last one.
    let known = written.store.sources();
    let (result, indexed) = std::thread::scope(|scope| {
        let (store, known) = (&written.store, &known);
        let indexing = scope.spawn(move || indexer::index_beside(store, index, known, &opened));
        let mut progress = |done: u64, total: u64| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let mut tap_opened = move |source, taps| {
            // The indexer is only gone when it failed, which is told below.
            let _ = open.send((source, taps));
        };
        let result =
            import_file(&written.store, &written.lock, path, options, again, &mut progress, &mut tap_opened);
        drop(tap_opened);
        bar.finish_and_clear();
        let waiting = console.spinner("indexing what was copied");
        let indexed = indexing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        waiting.finish_and_clear();
        (result, indexed)
    });
    match &result {
        Ok(_) => {}
        Err(ImportError::Store(error)) => console.line(&format!("tapdeck: {}: {error}", path.display())),
        Err(error) => console.line(&format!("tapdeck: {error}")),
    }
    let (_, out_of_order) = indexed?;
    if out_of_order > 0 {
        console.line(&format!(
            "tapdeck: {}: an interface that is described behind packets of another has earlier packets than those: {} were indexed out of \
             their order; `tapdeck reindex` puts them right",
            path.display(),
            several(out_of_order, "packet")
        ));
    }
    Ok(Imported { path: path.to_owned(), result, out_of_order, kept: 0 })
}

fn report(
    imported: &[Imported],
    streams: usize,
    as_json: bool,
    began: Instant,
    console: &Console,
) -> Outcome {
    let done = || imported.iter().filter_map(|file| file.result.as_ref().ok());
    let kept: u64 = imported.iter().map(|file| file.kept).sum();
    let packets: u64 = kept + done().map(|report| report.packets).sum::<u64>();
    let bytes: u64 = done().map(|report| report.bytes).sum();
    if as_json {
        return listing::print_json(&json!({
            "packets": packets,
            "bytes": bytes,
            "streams": streams,
            "seconds": began.elapsed().as_secs_f64(),
            "files": imported.iter().map(document).collect::<Vec<_>>(),
        }));
    }
    listing::print_lines(imported.iter().flat_map(lines))?;
    let seconds = began.elapsed().as_secs_f64().max(1e-3);
    let rate = ByteSize((bytes as f64 / seconds) as u64);
    console.say(format!("{}, {} in {seconds:.1} s ({rate}/s)", several(packets, "packet"), ByteSize(bytes)));
    console.say(match streams {
        0 => "no streams were found; `tapdeck packets` lists what is there".to_owned(),
        n => format!("{} in the store; `tapdeck streams` lists them", several(n as u64, "stream")),
    });
    Ok(())
}

fn document(file: &Imported) -> Value {
    // A path need not be text, JSON is.
    let name = file.path.to_string_lossy();
    match &file.result {
        Ok(report) => json!({
            "file": name,
            "source": report.source,
            "bytes": report.bytes,
            "packets": report.packets,
            "added": report.added,
            "out_of_order": file.out_of_order,
            "cut": report.quality.cut,
            "disordered": report.quality.disordered,
            "disorder_s": report.quality.disorder_ns as f64 / 1e9,
            "already": report.already,
            "damage": report.damage.as_ref().map(|d| json!({ "offset": d.offset, "what": d.kind.to_string() })),
            "error": Value::Null,
            "kept": report.packets,
        }),
        Err(error) => json!({ "file": name, "error": error.to_string(), "kept": file.kept }),
    }
}

fn lines(file: &Imported) -> Vec<String> {
    let Ok(report) = &file.result else { return Vec::new() };
    let path = file.path.display();
    let mut lines = vec![match report.already {
        true => format!("{path}: is in the store already, {}", several(report.packets, "packet")),
        false => format!("{path}: {}", several(report.added, "packet")),
    }];
    if report.quality.cut > 0 {
        lines.push(format!(
            "  {} were captured without their end (snap length): what they carry can't be played",
            several(report.quality.cut, "packet")
        ));
    }
    if report.quality.disorder_ns > DISORDER_TOLD_NS {
        lines.push(format!(
            "  {} stand behind later ones, by up to {:.1} s: streams may lack packets; `reordercap` puts a file in order",
            several(report.quality.disordered, "packet"),
            report.quality.disorder_ns as f64 / 1e9
        ));
    }
    if let Some(damage) = &report.damage {
        lines.push(format!(
            "  damaged at byte {}: {}; everything before it is imported",
            damage.offset, damage.kind
        ));
    }
    lines
}
