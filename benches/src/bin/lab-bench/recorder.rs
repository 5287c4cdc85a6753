//! The recorders that are compared: how each is started, stopped and charged.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tapdeck_benches::proc::cpu_seconds;

use crate::count::recorded;
use crate::tools::{Result, interrupt, sibling};
use crate::wire::Wire;

/// Where a recorder in the bench listens for viewers: in its own namespace, so no port is ever taken.
pub const RTSP: &str = "127.0.0.1:8554";

/// A running recorder at end `b` of a wire. Killed, and what it wrote removed, when dropped.
pub struct Recorder {
    tool: &'static str,
    dir: PathBuf,
    pub child: Child,
    cpu_before: f64,
}

/// What it came to.
pub struct Recorded {
    pub packets: u64,
    pub cpu: f64,
    /// What tapdeck's journal says was lost; 0 for others.
    pub told: Lost,
}

/// Packets that were lost, by where.
#[derive(Clone, Copy, Default)]
pub struct Lost {
    /// The ring was full: the capture thread came too late.
    pub ring: u64,
    /// Staging was full: the disk came too late.
    pub staging: u64,
}

impl Recorder {
    /// Starts `tool` on the CPUs `cpus`, with a kernel ring of 64 MiB, writing into `dir`; `more` are further options.
    pub fn start(wire: &Wire, tool: &'static str, cpus: &str, dir: &Path, more: &[&str]) -> Result<Self> {
        open_dir(dir)?;
        let file = dir.join("out.pcap");
        let file = file.to_str().ok_or("a path that is text")?;
        let program = if tool == "tapdeck" { sibling("tapdeck")? } else { tool.into() };
        let mut command = wire.at("b", cpus, &program);
        match tool {
            "tapdeck" => {
                command.args(["record", "-i", "wire0", "--buffer", "64MiB", "--store"]);
                command.arg(dir.join("store"))
            }
            "tcpdump" => command.args(["-n", "-i", "wire0", "-B", "65536", "-s", "65535", "-w", file]),
            "dumpcap" => command.args(["-q", "-P", "-i", "wire0", "-B", "64", "-s", "65535", "-w", file]),
            "netsniff-ng" => {
                command.args(["-G", "-s", "--in", "wire0", "--out", file, "--ring-size", "64MiB"])
            }
            "stenotype" => {
                open_dir(&dir.join("PKT0"))?;
                open_dir(&dir.join("IDX0"))?;
                command.args(["--iface=wire0", "--threads=1", "--blocks=64", "--aiops=32", "--seccomp=none"]);
                command.arg(format!("--dir={}", dir.display()))
            }
            _ => return Err(format!("no tool {tool}").into()),
        };
        let child = command.args(more).spawn()?;
        let mut recorder = Recorder { tool, dir: dir.to_owned(), child, cpu_before: 0.0 };
        std::thread::sleep(Duration::from_secs(2));
        if let Some(status) = recorder.child.try_wait()? {
            return Err(format!("{tool} ended with {status}").into());
        }
        recorder.cpu_before = cpu_seconds(recorder.child.id());
        Ok(recorder)
    }

    /// Ends it and counts. CPU is charged to its very end: what it puts off it pays too.
    pub fn stop(mut self) -> Result<Recorded> {
        interrupt(&self.child);
        let asked = Instant::now();
        // stenotype does not always end: what it has written by then counts, block by block, as it lies on disk.
        let patience = Duration::from_secs(if self.tool == "stenotype" { 5 } else { 120 });
        let mut cpu = 0.0;
        loop {
            cpu = f64::max(cpu, cpu_seconds(self.child.id()));
            if self.child.try_wait()?.is_some() {
                break;
            }
            if asked.elapsed() > patience {
                self.child.kill()?;
                self.child.wait()?;
                if self.tool != "stenotype" {
                    return Err(format!("{} did not end within two minutes of SIGINT", self.tool).into());
                }
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let told = if self.tool == "tapdeck" { told(&self.dir.join("store"))? } else { Lost::default() };
        Ok(Recorded { packets: recorded(self.tool, &self.dir)?, cpu: cpu - self.cpu_before, told })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
        // Its removal must not be written while the next one records.
        let _ = Command::new("sync").status();
    }
}

/// What a store's journal says was lost.
fn told(store: &Path) -> Result<Lost> {
    let missed = capture::Store::open(store)?.missed_since(&mut 0);
    let drops = || {
        missed.iter().filter_map(|m| match m {
            capture::Missed::Dropped(drops) => Some(drops),
            capture::Missed::Away { .. } => None,
        })
    };
    let sum = |f: fn(&capture::Drops) -> u64| drops().map(f).sum();
    Ok(Lost { ring: sum(|d| d.kernel + d.nic), staging: sum(|d| d.ours) })
}

/// A directory that anyone may write into: some recorders change their user.
fn open_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777))?;
    Ok(())
}
