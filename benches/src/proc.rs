//! What the kernel counted for a process: CPU time and memory, from `/proc`.

use std::fs;

/// CPU seconds (user and system) that process `pid` has used, or 0 when it is gone. Ticks are 10 ms.
pub fn cpu_seconds(pid: u32) -> f64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    let Some((_, rest)) = stat.rsplit_once(')') else { return 0.0 };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().filter_map(|&i| fields.get(i)?.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// Anonymous resident memory of process `pid` in bytes.
pub fn anonymous_bytes(pid: u32) -> u64 {
    field_kib(pid, "RssAnon:") * 1024
}

fn field_kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(name));
    line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}
