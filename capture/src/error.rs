//! What can go wrong with a store, said so that the next step is plain.

use crate::shard::LEFT_FREE;
use crate::{ShardId, TapId};
use std::io;
use std::path::PathBuf;

/// A store that can't be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory holds something else, or does not exist.
    #[error("{} is not a tapdeck store; `tapdeck import FILE --store DIR` or `tapdeck record` makes one", dir.display())]
    NotAStore {
        /// The directory that was named.
        dir: PathBuf,
    },
    /// `create` was given a directory with foreign files in it.
    #[error("{} is not empty and not a tapdeck store; name an empty or a new directory", dir.display())]
    NotEmpty {
        /// The directory that was named.
        dir: PathBuf,
    },
    /// Written by a newer tapdeck.
    #[error("{} has store format {found}, this tapdeck knows {known}; use a newer tapdeck for it", dir.display())]
    NewerFormat {
        /// The store's directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// Another process writes the store.
    #[error("{} is being written by process {pid}; stop that one first, or use another store", dir.display())]
    AlreadyWritten {
        /// The store's directory.
        dir: PathBuf,
        /// The other process, 0 if it could not be told.
        pid: u32,
    },
    /// No shard of that number is there (any more).
    #[error(
        "shard {shard} is not in the store: deleted by retention, or its file is missing (`tapdeck verify` tells)"
    )]
    Gone {
        /// The shard that was asked for.
        shard: ShardId,
    },
    /// No tap of that number was ever opened.
    #[error("tap {tap} is not in the store's journal")]
    UnknownTap {
        /// The tap that was asked for.
        tap: TapId,
    },
    /// The journal has a damaged record where no crash can have left one.
    #[error("{}: damaged record at byte {offset}; what is before it stands, `tapdeck verify` tells more", path.display())]
    Journal {
        /// The journal's file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
    },
    /// There are shards, and nothing that says what they are.
    #[error(
        "the journal of {} is missing, which says what its shards are: put {} back, or import the shards into a new store: `tapdeck import {}/*.pcap --store NEW`",
        dir.display(), journal.display(), shards.display()
    )]
    NoJournal {
        /// The store's directory.
        dir: PathBuf,
        /// The file that is missing, or empty.
        journal: PathBuf,
        /// Where the shards are.
        shards: PathBuf,
    },
    /// No room for the next shard.
    #[error(
        "no room in {} for a shard of {} MiB and {} MiB for the index, {}: make room there, or give a smaller --shard-size (`tapdeck record` deletes the oldest footage by itself with --keep-bytes or --min-free)",
        dir.display(), needed.div_ceil(1 << 20), LEFT_FREE >> 20, room(*free, *needed)
    )]
    Full {
        /// The shards' directory.
        dir: PathBuf,
        /// The size of a shard in bytes.
        needed: u64,
        /// What is free, in bytes; more than is needed, if a quota refuses it.
        free: u64,
    },
    /// The operating system said no.
    #[error("{what} {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// What was attempted, as a present participle.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What to do about an error of the system that leaves only one thing to do.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room there",
        io::ErrorKind::ReadOnlyFilesystem => "; mount it for writing, or name another directory",
        _ => "",
    }
}

impl StoreError {
    /// An `Io` error in the form that `map_err` takes.
    pub fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

/// Bytes of a shard that can't be given.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Beyond what is published.
    #[error("shard {shard}: {len} bytes at {offset} were asked for, {committed} are published")]
    Beyond {
        /// The shard.
        shard: ShardId,
        /// Where.
        offset: u64,
        /// How many bytes.
        len: u64,
        /// How many bytes are published.
        committed: u64,
    },
    /// No record can begin there: the shard is torn or zeroed.
    #[error("shard {shard}: no record at byte {offset}; `tapdeck verify` shows how much is damaged")]
    Torn {
        /// The shard.
        shard: ShardId,
        /// Where a record should be.
        offset: u64,
    },
    /// The store could not give the shard.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn room(free: u64, needed: u64) -> String {
    match free < needed + LEFT_FREE {
        true => format!("{} MiB are free", free >> 20),
        false => "which a quota forbids".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_what_to_do_wherever_it_shows() {
        let told =
            |error: io::Error| StoreError::io("writing", "/s/journal/000001.journal")(error).to_string();
        let full = told(io::ErrorKind::StorageFull.into());
        assert!(full.starts_with("writing /s/journal") && full.ends_with("make room there"), "{full}");
        assert!(told(io::ErrorKind::ReadOnlyFilesystem.into()).contains("mount it for writing"));
    }
}
