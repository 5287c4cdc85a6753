//! What other commands may order the recorder to do, and the thread that listens for it.

use crate::control::{self, ControlServer, Reply, Request};
use crate::failure::Failure;
use crate::naming;
use crate::status::RecorderStatus;
use reconstruct::footage::Footage;
use reconstruct::indexer::{LiveIndexer, Renewal};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long somebody who asks for a commit waits at most.
const COMMIT_TIME: Duration = Duration::from_secs(5);

/// What an order needs of the recorder.
pub struct Orders {
    /// The store and its index.
    pub footage: Footage,
    /// The indexer, while the recording goes on.
    pub indexer: Weak<LiveIndexer>,
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
            Request::Commit => match self.indexer.upgrade() {
                Some(indexer) if !indexer.flush(COMMIT_TIME) => {
                    Reply::Failed { text: format!("it is more than {} s behind", COMMIT_TIME.as_secs()) }
                }
                _ => Reply::Done { text: "committed".to_owned() },
            },
            Request::Reindex => match self.indexer.upgrade().map(|indexer| indexer.renew()) {
                Some(Ok(())) => Reply::Running { done: 0, total: 0 },
                Some(Err(error)) => Reply::Failed { text: error.to_string() },
                None => Reply::Failed { text: "it is stopping".to_owned() },
            },
            Request::Reindexed => match self.indexer.upgrade().map(|indexer| indexer.renewal()) {
                Some(Renewal::Running { done, total }) => Reply::Running { done, total },
                Some(Renewal::Done(made)) => Reply::Reindexed(made.into()),
                Some(Renewal::Failed(text)) => Reply::Failed { text },
                Some(Renewal::None) => Reply::Failed { text: "nobody asked for it".to_owned() },
                None => Reply::Failed { text: "it is stopping".to_owned() },
            },
            Request::Name { stream, name } => match self.name(&stream, &name) {
                Ok(()) => Reply::Done { text: "named".to_owned() },
                Err(failure) => Reply::Failed { text: failure.to_string() },
            },
        }
    }
}

impl Orders {
    fn name(&self, stream: &str, name: &str) -> Result<(), Failure> {
        let store = self.footage.store();
        store.append(&naming::record(&self.footage, stream, name)?)?;
        Ok(store.sync_journal()?)
    }
}

/// The control socket with its thread.
pub struct Control {
    status: Arc<Mutex<RecorderStatus>>,
    stop: Arc<AtomicBool>,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Listens.
    pub fn start(orders: Orders) -> Result<Self, Failure> {
        let path = orders.footage.store().control_socket();
        let cannot = |error| Failure::failed(format_args!("cannot listen at {}: {error}", path.display()));
        let server = ControlServer::bind(&path).map_err(cannot)?;
        let (status, stop) =
            (Arc::new(Mutex::new(RecorderStatus::default())), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (status, stop) = (status.clone(), stop.clone());
            let listen = move || {
                server.serve(|| stop.load(Ordering::Acquire), |request| orders.handle(request, &status));
            };
            std::thread::Builder::new().name("control".into()).spawn(listen).map_err(cannot)?
        };
        Ok(Self { status, stop, path, thread: Some(thread) })
    }

    /// What `status` is answered from now on.
    pub fn publish(&self, status: &RecorderStatus) {
        status.clone_into(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        control::wake(&self.path);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
