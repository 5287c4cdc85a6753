//! Running programs and measuring them.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tapdeck_benches::proc::{Memory, memory};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A program built beside this one.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() { Ok(path) } else { Err(format!("{} is not built", path.display()).into()) }
}

pub fn have(name: &str) -> bool {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"]
        .iter()
        .any(|d| Path::new(d).join(name).exists())
}

/// Scratch space on the disk that is measured: BENCH_DIR, or the system's temporary directory. Removed when dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Result<Self> {
        let base = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let path = base.join(format!("tapdeck-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Scratch(path))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program beside others. Killed when dropped, so that a turn that fails leaves none behind.
pub struct Running(Option<Child>);

impl Running {
    pub fn start(command: &mut Command) -> Result<Self> {
        Ok(Running(Some(command.spawn()?)))
    }

    /// True once it has ended.
    pub fn ended(&mut self) -> Result<bool> {
        Ok(match &mut self.0 {
            Some(child) => child.try_wait()?.is_some(),
            None => true,
        })
    }

    /// Waits for its end.
    pub fn output(mut self) -> Result<Output> {
        Ok(self.0.take().ok_or("was waited for")?.wait_with_output()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Memory at several times of a run.
#[derive(Default)]
pub struct Samples(Vec<(f64, Memory)>);

impl Samples {
    pub fn take(&mut self, since: Instant, pid: u32) {
        self.0.push((since.elapsed().as_secs_f64(), memory(pid)));
    }

    /// The most of anonymous and of shared memory in the first `share` (0 to 1) of the run, in MiB.
    pub fn most(&self, share: f64) -> (f64, f64) {
        let until = self.0.last().map_or(0.0, |s| s.0 * share);
        let taken = self.0.iter().filter(|s| s.0 <= until);
        let most = taken.fold((0, 0), |most, s| (most.0.max(s.1.anonymous), most.1.max(s.1.shared)));
        (most.0 as f64 / 1048576.0, most.1 as f64 / 1048576.0)
    }

    /// What [`most`](Samples::most) says at 10, 50 and 100 %, as text.
    pub fn text(&self) -> String {
        let at = |share| {
            let (anonymous, shared) = self.most(share);
            format!("{anonymous:.0} + {shared:.0}")
        };
        format!("{} / {} / {}", at(0.1), at(0.5), at(1.0))
    }
}

/// What a finished program took.
pub struct Took {
    pub wall: f64,
    pub memory: Samples,
}

/// Runs `command` to its end, sampling its memory every 20 ms.
pub fn timed(mut command: Command) -> Result<Took> {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut samples = Samples::default();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        samples.take(started, child.id());
        std::thread::sleep(Duration::from_millis(20));
    };
    if !status.success() {
        return Err(format!("{command:?} ended with {status}").into());
    }
    Ok(Took { wall: started.elapsed().as_secs_f64(), memory: samples })
}

pub fn tapdeck() -> Result<Command> {
    let mut command = Command::new(sibling("tapdeck")?);
    command.env("TAPDECK_CONFIG", "").env_remove("TAPDECK_STORE");
    Ok(command)
}

pub fn interrupt(child: &Child) {
    let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which `share` (0 to 1) of them lie.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(at - 1).copied().unwrap_or(f64::NAN)
}

pub fn size_of(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.metadata().map_or(0, |m| if m.is_dir() { size_of(&e.path()) } else { m.len() })).sum()
}

/// Free bytes where `dir` is.
pub fn free_bytes(dir: &Path) -> Result<u64> {
    let out = Command::new("df").args(["--output=avail", "-B1"]).arg(dir).output()?;
    let said = String::from_utf8(out.stdout)?;
    Ok(said.lines().nth(1).ok_or("df said nothing")?.trim().parse()?)
}

/// Empties the page cache, if we may; false when not.
pub fn drop_caches() -> bool {
    let _ = Command::new("sync").status();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// Spread of rounds as text.
pub fn rounds(values: &[f64], digits: usize) -> String {
    values.iter().map(|v| format!("{v:.digits$}")).collect::<Vec<_>>().join(" / ")
}
