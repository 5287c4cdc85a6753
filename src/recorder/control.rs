//! What other commands may order the recorder to do, and the thread that listens for it.

use super::importing::{Importing, Job, Means, Wanted};
use crate::control::{ControlServer, Reply, Request, Waker};
use crate::failure::Failure;
use crate::naming;
use crate::status::RecorderStatus;
use reconstruct::indexer::Renewal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long somebody who asks for a commit waits at most.
const COMMIT_TIME: Duration = Duration::from_secs(5);

/// What an order needs of the recorder.
pub struct Orders {
    /// The store, its index, and the indexer while the recording goes on.
    pub means: Means,
    /// Files that are taken in beside the recording.
    pub importing: Importing,
}

impl Orders {
    fn handle(&self, request: Request, status: &Mutex<RecorderStatus>) -> Reply {
        match request {
            Request::Status => {
                let status = status.lock().unwrap_or_else(PoisonError::into_inner).clone();
                match serde_json::to_value(status) {
                    Ok(document) => Reply::Status { document },
                    Err(error) => Reply::Failed { text: error.to_string() },
                }
            }
            Request::Commit => match self.means.indexer.upgrade() {
                Some(indexer) if !indexer.flush(COMMIT_TIME) => {
                    Reply::Failed { text: format!("it is more than {} s behind", COMMIT_TIME.as_secs()) }
                }
                _ => Reply::Done { text: "committed".to_owned() },
            },
            Request::Reindex => answer(self.reindex().map(|()| Reply::Running { done: 0, total: 0 })),
            Request::Reindexed => match self.means.indexer.upgrade().map(|indexer| indexer.renewal()) {
                Some(Renewal::Running { done, total }) => Reply::Running { done, total },
                Some(Renewal::Done(made)) => Reply::Reindexed(made.into()),
                Some(Renewal::Failed(text)) => Reply::Failed { text },
                Some(Renewal::None) => Reply::Failed { text: "nobody asked for it".to_owned() },
                None => Reply::Failed { text: STOPPING.to_owned() },
            },
            Request::Import { files, again, shard_size } => {
                let files = files.into_iter().map(PathBuf::from).collect();
                answer(self.import(Wanted { files, again, shard_size }).map(|job| Reply::Importing { job }))
            }
            Request::Imported { job } => match self.importing.job() {
                (last, Job::Running { done, total }) if last == job => Reply::Running { done, total },
                (last, Job::Done(imported)) if last == job => Reply::Imported(imported),
                (last, Job::Failed(text)) if last == job => Reply::Failed { text },
                _ => Reply::Failed {
                    text: "another import has begun since, what came of this one is not known any more"
                        .to_owned(),
                },
            },
            Request::Name { stream, name } => match self.name(&stream, &name) {
                Ok(()) => Reply::Done { text: "named".to_owned() },
                Err(failure) => Reply::Failed { text: failure.to_string() },
            },
        }
    }
}

const STOPPING: &str = "it is stopping";

fn answer(done: Result<Reply, String>) -> Reply {
    done.unwrap_or_else(|text| Reply::Failed { text })
}

impl Orders {
    /// Neither goes together with the other: what one folds the other would miss.
    fn reindex(&self) -> Result<(), String> {
        if self.importing.is_running() {
            return Err("files are being imported; try again when they are".to_owned());
        }
        let indexer = self.means.indexer.upgrade().ok_or(STOPPING)?;
        indexer.renew().map_err(|error| error.to_string())
    }

    fn import(&self, wanted: Wanted) -> Result<u64, String> {
        let indexer = self.means.indexer.upgrade().ok_or(STOPPING)?;
        if matches!(indexer.renewal(), Renewal::Running { .. }) {
            return Err("the index is being made anew; try again when it is".to_owned());
        }
        self.importing.begin(self.means.clone(), wanted)
    }

    fn name(&self, stream: &str, name: &str) -> Result<(), Failure> {
        let store = self.means.footage.store();
        store.append(&naming::record(&self.means.footage, stream, name)?)?;
        Ok(store.sync_journal()?)
    }
}

/// The control socket with its thread.
pub struct Control {
    status: Arc<Mutex<RecorderStatus>>,
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Listens.
    pub fn start(orders: Orders) -> Result<Self, Failure> {
        let path = orders.means.footage.store().control_socket();
        let cannot = |error| Failure::failed(format_args!("cannot listen at {}: {error}", path.display()));
        let server = ControlServer::bind(&path).map_err(cannot)?;
        let waker = server.waker().map_err(cannot)?;
        let (status, stop) =
            (Arc::new(Mutex::new(RecorderStatus::default())), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (status, stop) = (status.clone(), stop.clone());
            let listen = move || {
                server.serve(|| stop.load(Ordering::Acquire), |request| orders.handle(request, &status));
            };
            std::thread::Builder::new().name("control".into()).spawn(listen).map_err(cannot)?
        };
        Ok(Self { status, stop, waker, thread: Some(thread) })
    }

    /// What `status` is answered from now on.
    pub fn publish(&self, status: &RecorderStatus) {
        status.clone_into(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
