//! The program under test as a user runs it: a process with arguments, an exit status and two outputs.

use std::ffi::OsStr;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub const TAPDECK: &str = env!("CARGO_BIN_EXE_tapdeck");

/// `tapdeck` with no configuration file but what the arguments say.
pub fn tapdeck() -> Command {
    let mut command = Command::new(TAPDECK);
    command.env("TAPDECK_CONFIG", "").env_remove("TAPDECK_STORE").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Runs it; anything but status 0 fails the test with what it said.
pub fn run<S: AsRef<OsStr>>(arguments: &[S]) -> Output {
    let output = tapdeck().args(arguments).output().expect("the built program starts");
    let shown: Vec<_> = arguments.iter().map(|a| a.as_ref().to_string_lossy().into_owned()).collect();
    assert!(
        output.status.success(),
        "tapdeck {} ended with {}:\n{}",
        shown.join(" "),
        output.status,
        text(&output.stderr)
    );
    output
}

pub fn json<S: AsRef<OsStr>>(arguments: &[S]) -> Value {
    let output = run(arguments);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("not one JSON document: {e}\n{}", text(&output.stdout)))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory of its own with a store in it; both go when this is dropped.
pub struct Store {
    pub dir: TempDir,
    pub path: PathBuf,
}

/// Whether tests leave their directories behind, for someone who looks into a failure.
pub fn keep() -> bool {
    std::env::var_os("TAPDECK_TEST_KEEP").is_some()
}

impl Store {
    /// The directory only; `record` or `import` makes the store.
    pub fn empty() -> Self {
        let mut dir = TempDir::with_prefix("tapdeck-test-").expect("a temporary directory");
        dir.disable_cleanup(keep());
        let path = dir.path().join("store");
        Store { dir, path }
    }

    pub fn import(files: &[PathBuf]) -> Self {
        let store = Self::empty();
        store.add(files);
        store
    }

    pub fn add(&self, files: &[PathBuf]) {
        let mut arguments = vec![OsStr::new("import")];
        arguments.extend(files.iter().map(|f| f.as_os_str()));
        arguments.extend([OsStr::new("--store"), self.path.as_os_str()]);
        run(&arguments);
    }

    pub fn at(&self) -> &str {
        self.path.to_str().expect("temporary paths are text")
    }

    pub fn streams(&self) -> Vec<Value> {
        json(&["streams", "--store", self.at(), "--json"])
            .as_array()
            .expect("an array, as documented")
            .clone()
    }

    /// The only video stream.
    pub fn video(&self) -> Value {
        let streams = self.streams();
        let mut videos = streams.iter().filter(|s| s["kind"] == "video");
        let video = videos.next().unwrap_or_else(|| panic!("no video stream in {streams:#?}"));
        assert!(videos.next().is_none(), "more than one video stream: {streams:#?}");
        video.clone()
    }

    pub fn export(&self, stream: &str) -> PathBuf {
        let file = self.dir.path().join(format!("{stream}.es").replace('/', "_"));
        let to = file.to_str().expect("text");
        run(&["export", stream, "--store", self.at(), "--format", "es", "--force", "-o", to]);
        file
    }

    pub fn serve(&self) -> Server {
        let address = free_address();
        let mut command = tapdeck();
        command.args(["serve", "--store", self.at(), "--rtsp", &address.to_string()]);
        Server::start(command, address)
    }
}

/// An id or a name, whatever JSON type it has.
pub fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
    listener.local_addr().expect("it is bound")
}

/// A running `tapdeck serve` or any child that must not outlive the test.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
}

impl Server {
    fn start(mut command: Command, address: SocketAddr) -> Self {
        let child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the built program starts");
        let mut server = Server { child, address };
        let waited = Instant::now();
        while TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
            if let Some(status) = server.child.try_wait().expect("our own child") {
                let mut said = String::new();
                let _ = server.child.stderr.take().expect("piped").read_to_string(&mut said);
                panic!("serve ended with {status}: {said}");
            }
            assert!(waited.elapsed() < Duration::from_secs(20), "nothing listens at {address} after 20 s");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// On demand: a stream's whole footage.
    pub fn url(&self, stream: &Value) -> String {
        let (from, to) = (word(&stream["first"]), word(&stream["last"]));
        format!("rtsp://{}/{}?from={from}&to={to}", self.address, word(&stream["name"]))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// SIGINT, as from Ctrl-C.
pub fn interrupt(child: &Child) {
    let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
}

/// Waits for the child's end; kills it and fails when it takes longer.
pub fn finish(child: Child, within: Duration) -> Output {
    let pid = child.id().to_string();
    let (done, waiting) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if waiting.recv_timeout(within) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
            return true;
        }
        false
    });
    let output = child.wait_with_output().expect("our own child");
    drop(done);
    assert!(
        !guard.join().expect("the guard never panics"),
        "did not end within {within:?}:\n{}",
        text(&output.stderr)
    );
    output
}

pub fn path_text(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}
