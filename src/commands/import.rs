//! `tapdeck import`: capture files into a store.

use crate::capture_head;
use crate::cli::{JsonArg, StoreArg};
use crate::config::Config;
use crate::console::Console;
use crate::control::{self, Reply, Request};
use crate::failure::{Failure, Outcome};
use crate::importing::{FileOutcome, Imported};
use crate::options::{self, ImportOptions};
use crate::size::several;
use crate::writing::WrittenStore;
use capture::{ImportError, ImportReport, SourceId, Store, WhenFull, WriterOptions, import_file};
use clap::Args;
use reconstruct::footage::Footage;
use reconstruct::index::Index;
use reconstruct::indexer;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// How often a recorder that imports is asked how far it is.
const ASK: Duration = Duration::from_millis(200);

/// Copy capture files (pcap, pcapng) into a store and find the streams in them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck import office.pcapng --store /tmp/office
  tapdeck import *.pcap --store /tmp/office --json | jq '.files[].damage'

The files are left as they are, and come in by the time of their first packets, however they are named here. A file that is in the store already is recognised by its content; one whose import was \
interrupted is gone on with, or imported anew if other footage came after it, or if something of it is missing since. A damaged file is imported up to the damage, which is reported with its offset. \
While a recorder writes the store it is the recorder that reads the files, with its own rights; the recording goes on, those who watch it live wait \
while the files are indexed (about a second a GB), and ending this command does not end that.")]
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

impl Import {
    /// Imports file by file; one that can't be read does not keep the others from it, a store that takes no more does.
    pub fn run(self, config: &Config, console: &Console) -> Outcome {
        let options = self.options.clone().or(&config.import);
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
        let path = self.store.path(config)?;
        let in_order: Vec<&PathBuf> = files.iter().map(|(_, path)| *path).collect();
        if let Some(imported) = self.by_recorder(&path, &in_order, writer.shard_size, console)? {
            return self.told(&imported, began, console);
        }
        let written = WrittenStore::create(&path, console)?;
        let index = Index::open(&written.store.index_dir())?;
        catch_up(&written, &index, console)?;
        let (mut imported, mut in_order, mut refused) = (Imported::default(), true, false);
        let mut replaced = Vec::new();
        for (_, path) in files {
            // Behind another file's footage, what is cut off could not be gone on with.
            if !in_order || refused {
                console.line(&format!("tapdeck: {}: not tried after that", path.display()));
                continue;
            }
            let (result, out_of_order) = one(&written, &index, path, (writer, self.again), console)?;
            // Then it refuses others as well.
            refused = matches!(result, Err(ImportError::Store(_)));
            // The disk may have refused half-way: as after a kill, and then what others brought in is told all the same.
            in_order = result.is_ok() || written.recover(console);
            let kept = || if in_order { written.store.packets_of_unfinished(path) } else { 0 };
            let file = FileOutcome::new(path, &result, out_of_order, kept);
            tell_failure(&file, refused, console);
            replaced.extend(result.into_iter().filter(|_| in_order).flat_map(|report| report.replaces));
            imported.files.push(file);
        }
        for source in replaced {
            strike_off(&written, &index, source, console)?;
        }
        if in_order {
            hash_rest(&written, console)?;
        }
        // Not what rows there are: what something is retained of.
        imported.streams = Footage::with(written.store.clone(), index, None).streams()?.len();
        self.told(&imported, began, console)
    }

    fn told(&self, imported: &Imported, began: Instant, console: &Console) -> Outcome {
        if imported.is_nothing() && !self.json.json {
            return Err(Failure::silent());
        }
        imported.print(self.json.json, began.elapsed(), console)?;
        if imported.failed() { Err(Failure::silent()) } else { Ok(()) }
    }

    /// Has the recorder of the store do it, if one is running.
    fn by_recorder(
        &self,
        store: &Path,
        files: &[&PathBuf],
        shard_size: u64,
        console: &Console,
    ) -> Result<Option<Imported>, Failure> {
        let Ok(store) = Store::open(store) else { return Ok(None) };
        if !control::is_there(&store.control_socket()) {
            return Ok(None);
        }
        let mut paths = Vec::new();
        for path in files {
            let whole = std::fs::canonicalize(path)
                .map_err(|error| Failure::failed(format_args!("cannot read {}: {error}", path.display())))?;
            let text = whole.to_str().ok_or_else(|| {
                Failure::failed(format_args!("the name of {} is no text", path.display()))
                    .next("the recorder that writes the store takes only names that are: rename it")
            });
            paths.push(text?.to_owned());
        }
        let bar = console.byte_bar(0, "by the recorder");
        let mut job = 0;
        let mut request = Request::Import { files: paths, again: self.again, shard_size };
        loop {
            match control::ask(&store.control_socket(), &request)? {
                Some(Reply::Importing { job: begun }) => job = begun,
                Some(Reply::Running { done, total }) => {
                    bar.set_length(total);
                    bar.set_position(done);
                }
                Some(Reply::Imported(imported)) => {
                    bar.finish_and_clear();
                    imported.files.iter().for_each(|file| tell_failure(file, false, console));
                    return Ok(Some(imported));
                }
                Some(Reply::Failed { text }) => {
                    return Err(Failure::failed(format_args!(
                        "the recorder did not import anything: {text}"
                    )));
                }
                Some(_) => return Err(Failure::failed("the recorder is of another version of tapdeck")),
                None if job == 0 => return Ok(None),
                None => {
                    return Err(Failure::failed("the recorder ended before everything was imported")
                        .next("run this again: it goes on where that stopped"));
                }
            }
            request = Request::Imported { job };
            std::thread::sleep(ASK);
        }
    }
}

fn tell_failure(file: &FileOutcome, refused: bool, console: &Console) {
    if let Some(error) = &file.error {
        console.line(&format!("tapdeck: {error}"));
        if file.kept > 0 {
            let next = if refused { "; the same command goes on there when there is room" } else { "" };
            let kept = several(file.kept, "packet");
            console.line(&format!("tapdeck: {}: {kept} of it are in the store{next}", file.file));
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
        "{} of an earlier import of it left the store for this one",
        several(shards.iter().map(|s| s.packets).sum(), "packet")
    ));
    Ok(())
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
) -> Result<(Result<ImportReport, ImportError>, u64), Failure> {
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
            true
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
    let (_, out_of_order) = indexed?;
    if out_of_order > 0 {
        console.line(&format!(
            "tapdeck: {}: an interface that is described behind packets of another has earlier packets than those: {} came into the index out of \
             order; `tapdeck reindex` puts that right",
            path.display(),
            several(out_of_order, "packet")
        ));
    }
    Ok((result, out_of_order))
}
