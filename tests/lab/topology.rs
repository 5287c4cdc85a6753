//! The mirror-port lab of `scripts/lab/lab` as a value: it is built by `Lab::up` and gone when dropped.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::program::{TAPDECK, finish, keep, text};
use super::{root, skip};

/// An environment variable of `lab up`.
pub type Setting<'a> = (&'a str, &'a str);

pub struct Lab {
    id: String,
    dir: tempfile::TempDir,
    children: Vec<Child>,
}

/// One camera: which server, what it sends.
pub struct Camera<'a> {
    pub server: Kind,
    pub arguments: &'a [&'a str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    GStreamer,
    Live555,
}

/// Where packets on their way from the first camera to the VMS can be lost.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where the switch receives them; for a mirror of the VMS's port (`LAB_MODE=vms`). Not in the camera: a sender that loses packets
    /// itself is told, and it is not TCP that sends them again.
    BeforeMirror,
    /// In the VMS.
    BehindMirror,
}

impl Place {
    /// The node, and nftables' family and hook.
    fn hook(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Place::BeforeMirror => ("sw", "netdev", "ingress device cam1-eth0"),
            Place::BehindMirror => ("vms", "inet", "input"),
        }
    }
}

fn script() -> PathBuf {
    root().join("scripts/lab/lab")
}

/// The programs of the benches package, which stand beside the program under test.
pub fn tool(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let path = Path::new(TAPDECK).with_file_name(name);
    BUILT.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "tapdeck-benches", "--bins"])
            .current_dir(root())
            .status();
        assert!(built.is_ok_and(|s| s.success()) || path.exists(), "cargo build -p tapdeck-benches");
    });
    path
}

pub fn live555() -> bool {
    Command::new(root().join("scripts/lab/live555"))
        .arg("--have")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

impl Lab {
    /// Builds a lab, or says why not and returns None.
    pub fn up(test: &str, settings: &[Setting<'_>]) -> Option<Lab> {
        let can = Command::new(script()).arg("can").output().expect("bash is there");
        if !can.status.success() {
            skip(test, &format!("no network namespaces: {}", text(&can.stdout).trim()));
            return None;
        }
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = format!("t{}x{number}", std::process::id());
        let mut dir = tempfile::TempDir::with_prefix("tapdeck-lab-").expect("a temporary directory");
        dir.disable_cleanup(keep());
        let up = Command::new(script())
            .args(["up", &id])
            .env("LAB_OWNER", std::process::id().to_string())
            .env("LAB_IMPAIR_BIN", tool("lab-impair"))
            .envs(settings.iter().copied())
            .output()
            .expect("bash is there");
        let lab = Lab { id, dir, children: Vec::new() };
        assert!(up.status.success(), "lab up: {}", text(&up.stderr));
        Some(lab)
    }

    /// A command at a node: `cam1`, `vms`, `client`, `tap`, `sw`.
    pub fn at(&self, node: &str, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(script());
        command.args(["exec", &self.id, node]).arg(program).env("TAPDECK_CONFIG", "").stdin(Stdio::null());
        command
    }

    /// Starts camera `number` and waits until it listens; returns its address.
    pub fn camera(&mut self, number: u8, camera: &Camera<'_>) -> String {
        let node = format!("cam{number}");
        let address = format!("198.18.0.{}", 10 + number);
        let behind = camera.server == Kind::Live555;
        let (inner, port) = if behind { ("127.0.0.1", "8554") } else { (address.as_str(), "554") };
        let mut server = self.at(&node, root().join("scripts/lab/camera"));
        server.args(["--address", inner, "--port", port]).args(camera.arguments);
        let url = self.background(server, &node);
        if !behind {
            return url;
        }
        let mut proxy = self.at(&node, root().join("scripts/lab/live555-proxy"));
        proxy.args([&address, "554", &url]);
        let url = self.background(proxy, &format!("{node}-live555"));
        std::thread::sleep(Duration::from_secs(2)); // its client half has described the camera by then
        url
    }

    /// Starts what prints an address when it is ready, and returns that line.
    fn background(&mut self, mut command: Command, name: &str) -> String {
        let log = self.dir.path().join(name);
        let file = File::create(&log).expect("our own directory");
        let errors = file.try_clone().expect("a second handle");
        self.children.push(command.stdout(file).stderr(errors).spawn().expect("bash is there"));
        let started = Instant::now();
        loop {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(line) = said.lines().find(|l| l.starts_with("rtsp://")) {
                return line.to_owned();
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{name} is not ready: {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The VMS: ffmpeg copies the video that it receives into a file for `seconds`, and what it knows of each packet into another
    /// (`packets_of`).
    pub fn vms(&self, url: &str, transport: &str, format: &str, seconds: f32, to: &Path) -> Child {
        let seconds = seconds.to_string();
        let mut command = self.at("vms", "ffmpeg");
        command.args(["-nostdin", "-y", "-v", "error", "-rtsp_transport", transport, "-i", url]);
        command.args(["-map", "0:v", "-t", &seconds, "-c", "copy"]);
        if format == "hevc" {
            // x265 sends its parameter sets once. Who joins later has them from SDP, and a bare stream has no other place for them.
            command.args(["-bsf:v", "dump_extra=freq=keyframe"]);
        }
        command.args(["-f", format]).arg(to);
        // Decoding times out of the way: where a camera's clock is set back, ffmpeg would else write one and the same presentation
        // time until the clock has caught up.
        command.args(["-map", "0:v", "-t", &seconds, "-c", "copy", "-bsf:v", "setts=dts=N-1000000000000"]);
        command.args(["-f", "framemd5"]).arg(packets_of(to));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("bash is there")
    }

    /// From now on packets are lost at `place`: of those that `rule` (nftables) matches each `nth`.
    pub fn lose(&self, place: Place, rule: &str, nth: u32) {
        let (node, family, hook) = place.hook();
        let table = format!(
            "table {family} loss {{ counter lost {{ }}; chain c {{ type filter hook {hook} priority 0; \
             {rule} numgen inc mod {nth} {} counter name lost drop; }}; }}",
            nth / 2
        );
        let loaded = self.at(node, "nft").arg(table).output().expect("bash is there");
        assert!(loaded.status.success(), "nft: {}", text(&loaded.stderr));
    }

    /// How many packets were lost by `lose`.
    pub fn lost(&self, place: Place) -> u64 {
        let (node, family, _) = place.hook();
        let counter = self.at(node, "nft").args(["list", "counter", family, "loss", "lost"]).output();
        let said = text(&counter.expect("bash is there").stdout);
        let mut words = said.split_whitespace().skip_while(|w| *w != "packets");
        words.nth(1).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no counter in {said}"))
    }

    /// `tapdeck record` at the tap, with RTSP on the management network; returns when it listens.
    pub fn record(&self, store: &Path, more: &[&str]) -> Child {
        let mut command = self.at("tap", TAPDECK);
        command.args(["record", "-i", "tap0", "--rtsp", "198.19.0.10:8554", "--store"]).arg(store).args(more);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("bash is there");
        let started = Instant::now();
        loop {
            let listens = self
                .at("client", "bash")
                .args(["-c", "exec 3<>/dev/tcp/198.19.0.10/8554"])
                .stderr(Stdio::null())
                .status();
            if listens.is_ok_and(|s| s.success()) {
                return child;
            }
            if child.try_wait().expect("our own child").is_some()
                || started.elapsed() > Duration::from_secs(20)
            {
                let _ = child.kill();
                panic!("record does not listen: {}", text(&finish(child, Duration::from_secs(1)).stderr));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Beside a recording of `Lab::vms`: one line a packet, with its presentation time, as ffmpeg's framemd5 writes them.
pub fn packets_of(recording: &Path) -> PathBuf {
    let mut name = recording.file_name().unwrap_or_default().to_owned();
    name.push(".packets");
    recording.with_file_name(name)
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = Command::new(script()).args(["down", &self.id]).status();
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}
