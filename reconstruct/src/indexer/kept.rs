//! What stands beside the shards: the indexer's state as of each shard's beginning, and rows of footage before it.
//!
//! ```text
//! | "TDS1" or "TDR1" (4) | layout (4) | length of the body (8) | CRC-32 of what follows (4) | body, compressed |
//! ```
//! Written under another name and renamed, by a thread of its own: the fold does not wait for the disk. A file that is not there, or
//! not whole, or of another layout, is as none: then the index is made from the packets alone.

use super::saved::Saved;
use crate::fold::Fold;
use crate::index::Row;
use capture::{ShardId, SourceId, Store};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

const STATE_MAGIC: [u8; 4] = *b"TDS1";
const REST_MAGIC: [u8; 4] = *b"TDR1";
const LAYOUT: u32 = 1;
const HEAD_LEN: usize = 20;
/// No body is longer: a length that says otherwise is not believed.
const BODY_LEN_MAX: u64 = 1 << 30;

/// The indexer's state when a tap came to a shard, or when a source had ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    /// The shard that begins, or ends its source.
    pub shard: ShardId,
    /// Packets that were folded before, in all sources: this orders states.
    pub packets: u64,
    /// The state, [encoded](Saved::encode).
    #[serde(with = "serde_bytes")]
    pub saved: Vec<u8>,
}

impl State {
    /// The state as of a shard's beginning, if it was kept.
    pub fn read(store: &Store, shard: ShardId) -> Option<(Self, Saved)> {
        Self::read_at(&store.state_path(shard), shard)
    }

    /// The state as of the end of a source, kept beside its last shard.
    pub fn read_end(store: &Store, shard: ShardId) -> Option<(Self, Saved)> {
        Self::read_at(&store.end_path(shard), shard)
    }

    fn read_at(path: &Path, shard: ShardId) -> Option<(Self, Saved)> {
        let state: Self = read(path, STATE_MAGIC)?;
        let saved =
            Saved::decode(&state.saved).filter(|saved| state.shard == shard && Fold::reads(&saved.fold))?;
        Some((state, saved))
    }
}

/// What is retained of a source and lies before the state that the source begins with: other taps' shards that were begun then.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rest {
    /// The shard that the state is kept with.
    pub state: ShardId,
    /// Whether it is the source's last, and the state that of its end: no state fits that is earlier.
    pub end: bool,
    /// The shard that was about to be deleted.
    pub leaving: ShardId,
    /// The shards that lie, wholly or with their beginning, before the state.
    pub covers: Vec<ShardId>,
    /// The index's rows of them.
    pub rows: Vec<Row>,
}

impl Rest {
    /// What is kept with a shard's state.
    pub fn read(store: &Store, shard: ShardId) -> Option<Self> {
        read(&store.rest_path(shard), REST_MAGIC)
    }

    /// Writes it. It has to be there before the shard goes.
    pub fn write(&self, store: &Store) -> io::Result<()> {
        write(&store.rest_path(self.state), REST_MAGIC, self)
    }
}

/// Writes states without the fold waiting for it.
#[derive(Debug, Default)]
pub struct Keeper {
    aside: Option<PathBuf>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// One that keeps states in `aside`, under the names that they have beside the shards, or there.
    pub fn new(aside: Option<PathBuf>) -> Self {
        Self { aside, thread: None }
    }

    /// Keeps the state as of a shard's beginning. Waits only if the one before is not written yet.
    pub fn keep(&mut self, store: &Store, state: State) {
        self.write(store, store.state_path(state.shard), state);
    }

    /// Keeps the state as of a source's end, with its last shard.
    pub fn keep_end(&mut self, store: &Store, state: State) {
        self.write(store, store.end_path(state.shard), state);
    }

    fn write(&mut self, store: &Store, path: PathBuf, state: State) {
        self.wait();
        let path = match (&self.aside, path.file_name()) {
            (Some(aside), Some(name)) => aside.join(name),
            _ => path,
        };
        let store = store.clone();
        let body = move || {
            if let Err(error) = write(&path, STATE_MAGIC, &state) {
                tracing::warn!("{}: {error}; a later `tapdeck reindex` may need it", path.display());
            }
            // Retention may have been faster.
            if store.shard_info(state.shard).is_none() {
                let _ = std::fs::remove_file(path);
            }
        };
        match std::thread::Builder::new().name("keep-state".into()).spawn(body) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => tracing::warn!("keeping the index's state beside the shards: {error}"),
        }
    }

    /// Until everything is written.
    pub fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.wait();
    }
}

/// Brings what was kept in `aside` beside the shards that there are.
pub fn bring_in(store: &Store, aside: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(aside)?.flatten() {
        let (from, name) = (entry.path(), entry.file_name());
        let shard = from.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok()).map(ShardId);
        if shard.is_some_and(|shard| store.shard_info(shard).is_some()) {
            std::fs::rename(from, store.shards_dir().join(name))?;
        }
    }
    std::fs::remove_dir_all(aside)
}

/// Removes what is kept with the shards of a source and of later ones: it is of another index.
pub fn forget(store: &Store, source: SourceId) {
    for shard in store.shards().iter().filter(|s| s.source >= source) {
        for path in [store.state_path(shard.id), store.rest_path(shard.id), store.end_path(shard.id)] {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn write<T: Serialize>(path: &Path, magic: [u8; 4], what: &T) -> io::Result<()> {
    let body = postcard::to_stdvec(what).map_err(io::Error::other)?;
    let packed = lz4_flex::compress(&body);
    let mut head = [0; HEAD_LEN];
    head[..4].copy_from_slice(&magic);
    head[4..8].copy_from_slice(&LAYOUT.to_le_bytes());
    head[8..16].copy_from_slice(&(body.len() as u64).to_le_bytes());
    head[16..].copy_from_slice(&crc32fast::hash(&packed).to_le_bytes());
    let part = part_of(path);
    let done = (|| {
        let mut file = File::create(&part)?;
        file.write_all(&head)?;
        file.write_all(&packed)?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    })();
    if done.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    done
}

/// The name that a file has until it is whole.
fn part_of(path: &Path) -> PathBuf {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    path.with_extension(format!("{extension}-part"))
}

fn read<T: DeserializeOwned>(path: &Path, magic: [u8; 4]) -> Option<T> {
    let bytes = std::fs::read(path).ok()?;
    let (head, packed) = bytes.split_first_chunk::<HEAD_LEN>()?;
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|n| head[at + n]));
    let len = u64::from_le_bytes(std::array::from_fn(|n| head[8 + n]));
    let known = head[..4] == magic && word(4) == LAYOUT && len <= BODY_LEN_MAX;
    if !known || crc32fast::hash(packed) != word(16) {
        tracing::warn!("{} is damaged or of another version and is not used", path.display());
        return None;
    }
    postcard::from_bytes(&lz4_flex::decompress(packed, len as usize).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_another_layout_is_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0000000000000001.state");
        let positions = std::collections::BTreeMap::new();
        let fold = Fold::new(crate::fold::Limits::default()).save();
        for (version, read) in [(fold[0], true), (fold[0] - 1, false), (fold[0] + 1, false)] {
            let mut fold = fold.clone();
            fold[0] = version;
            let saved = Saved { source: capture::SourceId(1), positions: positions.clone(), fold };
            let state = State { shard: ShardId(1), packets: 7, saved: saved.encode() };
            write(&path, STATE_MAGIC, &state).unwrap();
            assert_eq!(State::read_at(&path, ShardId(1)).is_some(), read, "layout {version}");
        }
    }

    #[test]
    fn what_is_not_whole_is_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0000000000000001.state");
        let state = State { shard: ShardId(1), packets: 7, saved: b"state ".repeat(100) };
        write(&path, STATE_MAGIC, &state).unwrap();
        assert!(!part_of(&path).exists());
        let back: State = read(&path, STATE_MAGIC).unwrap();
        assert_eq!((back.shard, back.packets, &back.saved), (state.shard, 7, &state.saved));
        assert!(read::<State>(&path, REST_MAGIC).is_none());
        let whole = std::fs::read(&path).unwrap();
        assert!(whole.len() < 200, "{} bytes", whole.len());
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&path, &damaged).unwrap();
            assert!(read::<State>(&path, STATE_MAGIC).is_none_or(|s| s.saved == state.saved), "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(read::<State>(&path, STATE_MAGIC).is_none(), "cut at {at}");
        }
    }
}
