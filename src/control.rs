//! `control.sock`: how other commands talk to the recorder that is writing a store.
//!
//! One JSON line is asked, one is answered, then the connection closes. Owns the socket and the wording; what a request
//! does is the recorder's business. Requests are served one after the other with a time-out, so that a client that says
//! nothing holds up others for two seconds at most, and the capture not at all.

use crate::failure::Failure;
use crate::importing::Imported;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A client must say what it wants within this time.
const REQUEST_TIME: Duration = Duration::from_secs(2);
/// A recorder must answer within this time; committing the index may take a while on a slow disk.
const REPLY_TIME: Duration = Duration::from_secs(15);
/// A request is a line of at most this many bytes.
const REQUEST_BYTES: u64 = 1 << 20;

/// What can be asked of a running recorder.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// Rates, drops, lag, clients.
    Status,
    /// Bring the index up to what was published until now, so that an outside reader finds it.
    Commit,
    /// Begin to make the index anew, unless that is under way.
    Reindex,
    /// How far that has come.
    Reindexed,
    /// Begin to import files, unless that is under way.
    Import {
        /// In the order of their time; read with the recorder's own rights.
        files: Vec<String>,
        /// Also those that are in the store already.
        again: bool,
        /// Room for each shard, in bytes.
        shard_size: u64,
    },
    /// How far that has come.
    Imported {
        /// Its number.
        job: u64,
    },
    /// Give a stream (or its camera) a name.
    Name {
        /// An id or a name.
        stream: String,
        /// The new name.
        name: String,
    },
}

/// What a recorder answers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// Done.
    Done {
        /// What was done, for the person who asked.
        text: String,
    },
    /// The status document.
    Status {
        /// As `tapdeck status --json` prints it.
        document: serde_json::Value,
    },
    /// It is at work on it.
    Running {
        /// Bytes that are done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The index was made anew.
    Reindexed(Reindexed),
    /// The import has begun.
    Importing {
        /// Its number.
        job: u64,
    },
    /// The import is over.
    Imported(Imported),
    /// Not done.
    Failed {
        /// Why, and what to do.
        text: String,
    },
}

/// What making the index anew came to.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Reindexed {
    /// Packets of retained shards that are in it.
    pub packets: u64,
    /// RTP packets of them.
    pub media_packets: u64,
    /// Streams in it.
    pub streams: usize,
    /// What retention had deleted before the oldest shards was not known any more.
    pub cold: bool,
}

impl From<reconstruct::indexer::Reindexed> for Reindexed {
    fn from(made: reconstruct::indexer::Reindexed) -> Self {
        let reconstruct::indexer::Reindexed { streams, packets, media_packets, cold } = made;
        Self { packets, media_packets, streams, cold: cold.is_some() }
    }
}

/// Listens for other commands; removes its socket when dropped.
pub struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlServer {
    /// Takes the socket's place in the store. Only whoever holds the store's lock may call this: an older socket is
    /// a leftover and is replaced.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = through_directory(path, |short| UnixListener::bind(short))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// What ends its wait for the next client, also where its socket has no path any more.
    pub fn waker(&self) -> io::Result<Waker> {
        self.listener.try_clone().map(Waker)
    }

    /// Answers requests with `handle` until it says that it is time to stop. `stopping` is asked between requests; to
    /// end a wait, use the [`waker`](Self::waker).
    pub fn serve(&self, stopping: impl Fn() -> bool, mut handle: impl FnMut(Request) -> Reply) {
        for connection in self.listener.incoming() {
            if stopping() {
                return;
            }
            match connection {
                Ok(stream) => {
                    if let Err(error) = answer(stream, &mut handle) {
                        tracing::debug!("control connection: {error}");
                    }
                }
                Err(error) => {
                    // Out of file descriptors, most likely: try again when some are back.
                    tracing::warn!("control socket: {error}");
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // A leftover is replaced by the next recorder and told from a live one by connecting.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Ends a server's wait for its next client; it takes no more of them.
pub struct Waker(UnixListener);

impl Waker {
    /// Does it.
    pub fn wake(&self) {
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

/// Whether a recorder answers there.
pub fn is_there(path: &Path) -> bool {
    through_directory(path, |short| UnixStream::connect(short)).is_ok()
}

/// Asks the recorder of the store whose socket is `path`; `None` when no recorder is running.
pub fn ask(path: &Path, request: &Request) -> Result<Option<Reply>, Failure> {
    let stream = match through_directory(path, |short| UnixStream::connect(short)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => {
            return Err(Failure::failed(format_args!(
                "cannot reach the recorder at {}: {error}",
                path.display()
            ))
            .next("run this as the recorder's user"));
        }
    };
    match exchange(&stream, request) {
        Ok(reply) => Ok(Some(reply)),
        Err(error) => {
            Err(Failure::failed(format_args!("the recorder at {} does not answer: {error}", path.display()))
                .next("look at its log; it may be stopping, or its disk may be slow"))
        }
    }
}

fn exchange(mut stream: &UnixStream, request: &Request) -> io::Result<Reply> {
    stream.set_read_timeout(Some(REPLY_TIME))?;
    stream.set_write_timeout(Some(REQUEST_TIME))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

fn answer(mut stream: UnixStream, handle: &mut impl FnMut(Request) -> Reply) -> io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_TIME))?;
    stream.set_write_timeout(Some(REQUEST_TIME))?;
    let mut line = String::new();
    BufReader::new((&stream).take(REQUEST_BYTES)).read_line(&mut line)?;
    let reply = match serde_json::from_str(&line) {
        Ok(request) => handle(request),
        Err(error) => Reply::Failed { text: format!("the request is not understood: {error}") },
    };
    let mut text = serde_json::to_vec(&reply)?;
    text.push(b'\n');
    stream.write_all(&text)
}

/// Socket paths end at 108 bytes, stores' paths do not: the socket is reached through its opened directory.
fn through_directory<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let dir: OwnedFd =
        rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    act(&PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn requests_are_answered_even_below_a_long_path() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("control.sock");
        assert!(ask(&path, &Request::Status).unwrap().is_none(), "nobody listens yet");

        let server = ControlServer::bind(&path).unwrap();
        let (stop, waker) = (AtomicBool::new(false), server.waker().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                server.serve(
                    || stop.load(Ordering::Acquire),
                    |request| match request {
                        Request::Commit => Reply::Done { text: "committed".into() },
                        other => Reply::Failed { text: format!("{other:?}") },
                    },
                );
            });
            let reply = ask(&path, &Request::Commit).unwrap();
            assert_eq!(reply, Some(Reply::Done { text: "committed".into() }));
            let name = Request::Name { stream: "1".into(), name: "Tür 1".into() };
            assert!(
                matches!(ask(&path, &name).unwrap(), Some(Reply::Failed { text }) if text.contains("Tür 1"))
            );
            stop.store(true, Ordering::Release);
            // Somebody may have removed or moved the store.
            std::fs::remove_dir_all(&deep).unwrap();
            waker.wake();
        });
        drop(server);
        assert!(ask(&path, &Request::Status).unwrap().is_none());
    }

    #[test]
    fn a_leftover_socket_is_no_recorder_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        assert!(ask(&path, &Request::Status).unwrap().is_none());
        ControlServer::bind(&path).unwrap();
    }
}
