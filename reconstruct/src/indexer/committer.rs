//! Commits: what is written in one piece, and the thread that writes it.
//!
//! With 300 cameras over TCP a commit takes some 15 ms, once a second and at the beginning of each shard. Neither live viewers nor a `reindex` wait for it: the
//! fold goes on as soon as its state is written down, the rest (encoding, the database) happens here, in order.

use super::error::IndexerError;
use super::kept::{Keeper, State};
use super::saved::Saved;
use crate::index::{Index, IndexBatch, IndexError};
use capture::{ShardId, Store};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// Commits that wait behind the one that is being written; who has more to commit waits as well.
const WAITING_MAX: usize = 1;

/// Rows and the state that they belong to.
pub struct Commit {
    /// Rows and positions.
    pub batch: IndexBatch,
    /// The state, as of the last of them.
    pub saved: Saved,
    /// What the state is kept for besides.
    pub keep: Option<Keep>,
}

/// A state that is kept beside the shards.
pub struct Keep {
    /// The shard that begins with it, or that its source ends with.
    pub shard: ShardId,
    /// Whether it is that of the source's end.
    pub end: bool,
    /// Packets that were folded before.
    pub packets: u64,
}

impl Commit {
    /// Writes it, and gives what is to be kept beside the shards.
    pub fn write(self, index: &Index) -> Result<Option<Kept>, IndexError> {
        let Self { mut batch, saved, keep } = self;
        let saved = saved.encode();
        if let Some(Keep { shard, end: false, .. }) = keep {
            batch.put_checkpoint(shard, saved.clone());
        }
        batch.put_state(saved.clone());
        index.commit(batch)?;
        Ok(keep.map(|Keep { shard, end, packets }| Kept { end, state: State { shard, packets, saved } }))
    }
}

/// A state that was committed.
pub struct Kept {
    end: bool,
    state: State,
}

impl Kept {
    /// Has it written beside its shard.
    pub fn hand_to(self, keeper: &mut Keeper, store: &Store) {
        match self.end {
            false => keeper.keep(store, self.state),
            true => keeper.keep_end(store, self.state),
        }
    }
}

/// The thread.
pub struct Committer {
    commits: Option<SyncSender<Commit>>,
    written: Receiver<Result<(), IndexError>>,
    under_way: usize,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts it. States are kept in `aside`, if that is given, else beside the shards.
    pub fn start(store: &Store, index: &Index, aside: Option<PathBuf>) -> Result<Self, IndexerError> {
        let (commits, to_write) = sync_channel::<Commit>(WAITING_MAX);
        let (done, written) = channel();
        let (store, index) = (store.clone(), index.clone());
        let body = move || {
            let mut keeper = Keeper::new(aside);
            while let Ok(commit) = to_write.recv() {
                match commit.write(&index) {
                    Ok(kept) => {
                        // First: nobody who waits for the commit needs the file, whose predecessor may still be on its way to the disk.
                        if done.send(Ok(())).is_err() {
                            return;
                        }
                        kept.into_iter().for_each(|kept| kept.hand_to(&mut keeper, &store));
                    }
                    Err(error) => {
                        // What follows one that is missing must not be written.
                        drop(to_write);
                        let _ = done.send(Err(error));
                        return;
                    }
                }
            }
        };
        let thread =
            std::thread::Builder::new().name("commit".into()).spawn(body).map_err(IndexerError::Thread)?;
        Ok(Self { commits: Some(commits), written, under_way: 0, thread: Some(thread) })
    }

    /// Hands a commit over. An error is that of an earlier one.
    pub fn send(&mut self, commit: Commit) -> Result<(), IndexerError> {
        self.look()?;
        if self.commits.as_ref().is_some_and(|commits| commits.send(commit).is_ok()) {
            self.under_way += 1;
            return Ok(());
        }
        // It has ended: with an error that lies there, or with a panic.
        self.wait().and_then(|()| self.fail())
    }

    /// Whether all that was written meanwhile could be.
    pub fn look(&mut self) -> Result<(), IndexerError> {
        while let Ok(result) = self.written.try_recv() {
            self.under_way -= 1;
            result?;
        }
        Ok(())
    }

    /// Until everything is written.
    pub fn wait(&mut self) -> Result<(), IndexerError> {
        while self.under_way > 0 {
            match self.written.recv() {
                Ok(result) => {
                    self.under_way -= 1;
                    result?;
                }
                Err(_) => return self.fail(),
            }
        }
        Ok(())
    }

    /// Ends the thread, when all that it was given is written and what is to stand beside the shards stands there.
    pub fn close(&mut self) {
        self.commits = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// The thread has ended before.
    fn fail(&mut self) -> Result<(), IndexerError> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            _ => Err(IndexerError::Unwritten),
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::{Fold, Limits};
    use capture::SourceId;
    use std::collections::BTreeMap;

    fn commit(keep: Option<Keep>) -> Commit {
        let fold = Fold::new(Limits::default()).save();
        let saved = Saved { source: SourceId(3), positions: BTreeMap::new(), fold };
        Commit { batch: IndexBatch::new(), saved, keep }
    }

    #[test]
    fn what_is_waited_for_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        let index = Index::open(&store.index_dir()).unwrap();
        let mut committer = Committer::start(&store, &index, None).unwrap();
        for n in 1..=5 {
            committer.send(commit(Some(Keep { shard: ShardId(n), end: false, packets: n }))).unwrap();
        }
        committer.wait().unwrap();
        let state = Saved::decode(&index.state().unwrap().unwrap()).unwrap();
        assert_eq!(state.source, SourceId(3));
        assert!((1..=5).all(|n| index.checkpoint(ShardId(n)).unwrap().is_some()));
    }

    #[test]
    fn an_error_is_told_and_nothing_follows_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        drop(Index::open(&store.index_dir()).unwrap());
        let readers = Index::open_secondary(&store.index_dir()).unwrap();
        let mut committer = Committer::start(&store, &readers, None).unwrap();
        committer.send(commit(None)).unwrap();
        assert!(matches!(committer.wait(), Err(IndexerError::Index(IndexError::ReadOnly))));
        assert!(matches!(committer.send(commit(None)), Err(IndexerError::Unwritten)));
        assert!(matches!(committer.send(commit(None)), Err(IndexerError::Unwritten)));
    }
}
