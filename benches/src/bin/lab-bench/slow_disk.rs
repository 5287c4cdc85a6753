//! A disk of a known speed: a loop device over a file, formatted and mounted, which the kernel lets take only so many bytes a second
//! (cgroup v1, `blkio.throttle.write_bps_device` of the root group, which counts writeback as well).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::tools::{Result, Scratch};

const LIMIT: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device";

/// Mounted until it is dropped.
pub struct SlowDisk {
    dir: PathBuf,
    image: PathBuf,
    device: String,
    /// Major and minor number, as the limit wants it.
    numbers: String,
}

fn run(program: &str, args: &[&str]) -> Result<String> {
    let out = Command::new(program).args(args).stdin(Stdio::null()).output()?;
    match out.status.success() {
        true => Ok(String::from_utf8(out.stdout)?.trim().to_owned()),
        false => {
            Err(format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim())
                .into())
        }
    }
}

impl SlowDisk {
    /// Of `bytes`, and `bytes_a_second` for what is written. Needs root, and a kernel with that limit.
    pub fn new(scratch: &Scratch, bytes: u64, bytes_a_second: u64) -> Result<Self> {
        if !Path::new(LIMIT).exists() {
            return Err(format!("{LIMIT} is not there").into());
        }
        let (image, dir) = (scratch.path("slow.img"), scratch.path("slow"));
        let text = |path: &Path| path.to_str().map(str::to_owned).ok_or("a path that is no text");
        run("fallocate", &["-l", &bytes.to_string(), &text(&image)?])?;
        let device =
            run("losetup", &["--direct-io=on", "--find", "--show", &text(&image)?]).inspect_err(|_| {
                let _ = std::fs::remove_file(&image);
            })?;
        let mut this = Self { dir, image, device, numbers: String::new() };
        let name = this.device.trim_start_matches("/dev/");
        this.numbers = std::fs::read_to_string(format!("/sys/block/{name}/dev"))?.trim().to_owned();
        std::fs::create_dir_all(&this.dir)?;
        run("mkfs.ext4", &["-q", &this.device])?;
        run("mount", &[&this.device, &text(&this.dir)?])?;
        std::fs::write(LIMIT, format!("{} {bytes_a_second}", this.numbers))?;
        Ok(this)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        if !self.numbers.is_empty() {
            let _ = std::fs::write(LIMIT, format!("{} 0", self.numbers));
        }
        let _ = Command::new("umount").arg(&self.dir).status();
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
        let _ = std::fs::remove_file(&self.image);
    }
}
