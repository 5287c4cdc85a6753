//! `tapdeck reindex`: the index anew, from shards and journal.

use crate::cli::StoreArg;
use crate::config::Config;
use crate::console::Console;
use crate::failure::Outcome;
use crate::size::{count, several};
use crate::writing::WrittenStore;
use clap::Args;
use reconstruct::indexer;
use std::time::Instant;

/// Make the index anew from the shards and the journal
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck reindex --store DIR

The index holds nothing that the store's other files do not: it can be thrown away at any time. The old one stays until the new one
is whole, so there must be room for both (some 0.3 % of the footage). Nobody may be writing the store meanwhile; streams keep their
names, also when what they began with was deleted by retention.")]
pub struct Reindex {
    /// Where.
    #[command(flatten)]
    pub store: StoreArg,
}

impl Reindex {
    /// Makes it again, and puts it in the old one's place.
    pub fn run(self, config: &Config, console: &Console) -> Outcome {
        let written = WrittenStore::open(&self.store.path(config)?, console)?;
        let began = Instant::now();
        let bar = console.byte_bar(0, "indexing");
        let mut progress = |done: u64, total: u64| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let made = indexer::reindex(&written.store, &written.lock, &mut progress)?;
        bar.finish_and_clear();
        console.say(format!(
            "{}, {} of them media, {} in {:.1} s",
            several(made.packets, "packet"),
            count(made.media_packets),
            several(made.streams as u64, "stream"),
            began.elapsed().as_secs_f64()
        ));
        if made.cold.is_some() {
            console.say(
                "what had been deleted before the oldest shards was not known any more: \
                 streams and sessions that began in it may have other names than before",
            );
        }
        Ok(())
    }
}
