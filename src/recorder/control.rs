//! What other commands may order the recorder to do, and the thread that listens for it.

use crate::control::{self, ControlServer, Reply, Request};
use crate::failure::Failure;
use crate::status::RecorderStatus;
use capture::Store;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What an order needs of the recorder.
pub struct Orders {
    /// The store that is written.
    pub store: Store,
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
            Request::Commit => Reply::Done { text: "committed".to_owned() },
            Request::Name { .. } => Reply::Failed { text: "not while recording".to_owned() },
        }
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
        let path = orders.store.control_socket();
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
