//! What the kernel counted for a process: CPU time and memory, from `/proc`.

use std::fs;

/// CPU seconds (user and system) that process `pid` has used, or 0 when it is gone. Ticks are 10 ms. Holds for a process that has ended
/// but was not waited for.
pub fn cpu_seconds(pid: u32) -> f64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    let Some((_, rest)) = stat.rsplit_once(')') else { return 0.0 };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().filter_map(|&i| fields.get(i)?.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// Resident memory of a process in bytes.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    /// Anonymous: heap and stacks.
    pub anonymous: u64,
    /// Shared, without a file on a disk: a recorder's staging.
    pub shared: u64,
}

/// Memory of process `pid`, zeros when it is gone.
pub fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find(|l| l.starts_with(name));
        line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    };
    Memory { anonymous: kib("RssAnon:") * 1024, shared: kib("RssShmem:") * 1024 }
}
