//! `tapdeck reindex`: the index anew, from shards and journal.

use crate::cli::StoreArg;
use crate::config::Config;
use crate::console::Console;
use crate::control::{self, Reindexed, Reply, Request};
use crate::failure::{Failure, Outcome};
use crate::size::{count, several};
use crate::writing::WrittenStore;
use capture::Store;
use clap::Args;
use reconstruct::indexer;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often a recorder that makes it is asked how far it is.
const ASK: Duration = Duration::from_millis(200);

/// Make the index anew from the shards and the journal
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck reindex --store DIR

The index holds nothing that the store's other files do not: it can be thrown away at any time. The old one stays until the new one \
is whole, so there must be room for both (some 0.3 % of the footage). While a recorder writes the store it is the recorder that does it, beside \
the recording; ending this command does not end that. Streams keep their names, also when what they began with was deleted by retention.")]
pub struct Reindex {
    /// Where.
    #[command(flatten)]
    pub store: StoreArg,
}

impl Reindex {
    /// Makes it again, and puts it in the old one's place.
    pub fn run(self, config: &Config, console: &Console) -> Outcome {
        let path = self.store.path(config)?;
        let began = Instant::now();
        let bar = console.byte_bar(0, "indexing");
        let mut progress = |done: u64, total: u64| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let made = match by_recorder(&path, &mut progress)? {
            Some(made) => made,
            None => {
                let written = WrittenStore::open(&path, console)?;
                indexer::reindex(&written.store, &written.lock, &mut progress)?.into()
            }
        };
        bar.finish_and_clear();
        console.say(format!(
            "{}, {} of them media, {} in {:.1} s",
            several(made.packets, "packet"),
            count(made.media_packets),
            several(made.streams as u64, "stream"),
            began.elapsed().as_secs_f64()
        ));
        if made.cold {
            console.say(
                "what had been deleted before the oldest shards was not known any more: \
                 streams and sessions that began in it may have other names than before",
            );
        }
        Ok(())
    }
}

/// Has the recorder of the store do it, if one is running.
fn by_recorder(path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Option<Reindexed>, Failure> {
    let socket = Store::open(path)?.control_socket();
    let mut request = Request::Reindex;
    loop {
        match control::ask(&socket, &request)? {
            Some(Reply::Running { done, total }) => progress(done, total),
            Some(Reply::Reindexed(made)) => return Ok(Some(made)),
            Some(Reply::Failed { text }) => {
                return Err(Failure::failed(format_args!(
                    "the recorder did not make the index anew: {text}"
                )));
            }
            Some(_) => return Err(Failure::failed("the recorder is of another version of tapdeck")),
            None if request == Request::Reindex => return Ok(None),
            None => {
                return Err(Failure::failed(
                    "the recorder ended before the new index was whole; the old one stays",
                )
                .next("run this again"));
            }
        }
        request = Request::Reindexed;
        std::thread::sleep(ASK);
    }
}
