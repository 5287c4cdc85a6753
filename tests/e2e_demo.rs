//! `make demo` as someone new sees it: what it prints can be opened, shows a picture, and Ctrl-C leaves nothing behind.

mod lab;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use lab::players::frames;
use lab::program::{TAPDECK, finish, free_address, text};

/// Longer than cameras take that run GStreamer for the first time.
const PATIENCE: Duration = Duration::from_secs(120);

struct Demo {
    child: Option<Child>,
    lines: Receiver<String>,
    said: Vec<String>,
    /// Where it keeps its files.
    scratch: tempfile::TempDir,
}

impl Demo {
    /// With the program under test, which is built already.
    fn start(settings: &[(&str, &str)]) -> Self {
        let scratch = tempfile::TempDir::with_prefix("tapdeck-test-").expect("a temporary directory");
        // As from a terminal: who runs the tests in the background of a script has SIGINT ignored, and all that they start.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT").arg(lab::root().join("scripts/demo"));
        command.env("DEMO_TAPDECK", TAPDECK).env("DEMO_RTSP", free_address().to_string());
        command.env("DEMO_SECONDS", "0").env("TMPDIR", scratch.path()).envs(settings.iter().copied());
        // A group of its own, as a shell gives it: Ctrl-C reaches all of it.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).process_group(0);
        let mut child = command.spawn().expect("bash is there");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (send, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child: Some(child), lines, said: Vec::new(), scratch }
    }

    /// The addresses that it prints.
    fn addresses(&mut self) -> Vec<String> {
        let begun = Instant::now();
        while !self.said.iter().any(|line| line.contains("Ctrl-C ends it")) {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let line = self.lines.recv_timeout(left);
            self.said.push(line.unwrap_or_else(|e| panic!("{e}; it said: {:#?}", self.said)));
        }
        let addresses = self.said.iter().map(|line| line.trim().trim_matches('\''));
        addresses.filter(|line| line.starts_with("rtsp://")).map(str::to_owned).collect()
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    /// The signal reaches all of its group, as Ctrl-C does.
    fn ctrl_c(self) {
        let group = self.pid();
        self.end(|| signal("-INT", group));
    }

    fn end(mut self, tell: impl FnOnce()) {
        let child = self.child.take().expect("running");
        tell();
        let ended = finish(child, Duration::from_secs(30));
        assert!(ended.status.success(), "it ended with {}", ended.status);
        // The lab's numbers are locks that stay.
        let found = std::fs::read_dir(self.scratch.path()).expect("our own").flatten();
        let left: Vec<_> =
            found.filter(|e| !e.file_name().to_string_lossy().starts_with("tapdeck-lab.")).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal("-INT", child.id());
            let _ = child.wait();
        }
    }
}

fn signal(which: &str, group: u32) {
    let _ = Command::new("kill").args([which, "--", &format!("-{group}")]).status();
}

#[test]
fn the_demo_of_the_bundled_captures() {
    need!("the demo", "ffmpeg", "python3");
    let mut demo = Demo::start(&[("DEMO_CAPTURES", "1")]);
    let addresses = demo.addresses();
    // Cameras of both codecs, some of them recorded in several captures.
    assert!(addresses.len() >= 4, "{:#?}", demo.said);
    for address in &addresses {
        let shown = frames(&["-rtsp_transport", "tcp", "-fpsprobesize", "0", "-t", "1", "-i", address]);
        assert!(shown.len() > 5, "{} frames of {address}", shown.len());
    }
    demo.ctrl_c();

    // `timeout make demo`, or a service manager: it alone is told.
    let mut demo = Demo::start(&[("DEMO_CAPTURES", "1")]);
    demo.addresses();
    let pid = demo.pid().to_string();
    demo.end(|| assert!(Command::new("kill").args(["-TERM", &pid]).status().is_ok_and(|s| s.success())));
}

#[test]
fn the_demo_at_a_mirror_port() {
    need!("the demo", "ffmpeg", "python3", "ip", "tc");
    let can = Command::new(lab::root().join("scripts/lab/lab")).arg("can").output().expect("bash is there");
    if !can.status.success() {
        return lab::skip("the demo at a mirror port", &text(&can.stdout));
    }
    let mut demo = Demo::start(&[]);
    let addresses = demo.addresses();
    assert_eq!(addresses.len(), 4, "one of each camera: {:#?}", demo.said);
    for address in &addresses {
        // Live: the first two seconds.
        let shown = frames(&["-rtsp_transport", "tcp", "-fpsprobesize", "0", "-t", "2", "-i", address]);
        assert!(shown.len() > 10, "{} frames of {address}", shown.len());
    }
    let pid = demo.pid();
    demo.ctrl_c();
    let spaces = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let left: Vec<_> = spaces
        .map(|e| e.file_name())
        .filter(|n| n.to_string_lossy().contains(&format!("demo{pid}")))
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
