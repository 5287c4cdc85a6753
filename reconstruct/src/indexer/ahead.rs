//! Stage one on the other cores, ahead of the fold: chunks are taken apart as soon as they are known, and come back in their order.
//!
//! The fold has a core of its own and never helps: it is the longest part of a `reindex`, and whatever else its thread did made that
//! longer (a fifth was measured when both went in steps, each as long as its longer half).

use super::error::IndexerError;
use super::feed::Batch;
use crate::fold::FlowHasher;
use capture::{ShardId, Store};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::mpsc::{Receiver, sync_channel};

/// The threads that take chunks apart.
#[derive(Debug)]
pub struct Dissectors(ThreadPool);

/// A chunk that is being taken apart.
pub type UnderWay = Receiver<Batch>;

impl Dissectors {
    /// One thread for each core but the fold's.
    pub fn start() -> Result<Self, IndexerError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let pool = ThreadPoolBuilder::new()
            .num_threads(cores.saturating_sub(1).max(1))
            .thread_name(|_| "dissect".into())
            // Who waits for the chunk panics in its place.
            .panic_handler(|_| {})
            .build();
        pool.map(Self).map_err(|e| IndexerError::Thread(std::io::Error::other(e)))
    }

    /// Has a chunk taken apart.
    pub fn dissect(&self, mut batch: Batch, hasher: &FlowHasher) -> UnderWay {
        let (done, under_way) = sync_channel(1);
        let hasher = hasher.clone();
        self.0.spawn(move || {
            batch.dissect(&hasher);
            // Nobody may want it any more.
            let _ = done.send(batch);
        });
        under_way
    }

    /// Has a shard's mapping given back that is folded: with all its pages that takes as long as folding some thousand packets.
    pub fn let_go(&self, store: &Store, shard: ShardId) {
        let store = store.clone();
        self.0.spawn(move || store.let_go(shard));
    }
}
