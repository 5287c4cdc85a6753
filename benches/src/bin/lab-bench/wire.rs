//! A cable between two namespaces: cameras and blast at end `a`, the recorder and its viewers at end `b`.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::tools::{Result, Running, sibling};

/// Two namespaces with a cable between them; removed when dropped.
pub struct Wire(String);

impl Wire {
    pub fn up() -> Result<Self> {
        let wire = Wire(format!("td-bench{}", std::process::id()));
        let (a, b) = (wire.space("a"), wire.space("b"));
        let quiet = "tx off rx off tso off gso off gro off sg off >/dev/null 2>&1 || true";
        let script = format!(
            "set -e; ip netns add {a}; ip netns add {b}
             for n in {a} {b}; do ip netns exec $n sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1; done
             ip -n {a} link add wire0 type veth peer name wire0 netns {b}
             for n in {a} {b}; do ip netns exec $n ethtool -K wire0 {quiet}; ip -n $n link set wire0 up promisc on; ip -n $n link set lo up; done"
        );
        let done = Command::new("bash").args(["-c", &script]).output()?;
        if !done.status.success() {
            return Err(format!("no namespaces: {}", String::from_utf8_lossy(&done.stderr)).into());
        }
        Ok(wire)
    }

    fn space(&self, end: &str) -> String {
        format!("{}-{end}", self.0)
    }

    /// `program` at an end, on the CPUs of the list `cpu`, silent.
    pub fn at(&self, end: &str, cpu: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.space(end), "taskset", "-c", cpu])
            .arg(program)
            .env("TAPDECK_CONFIG", "");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for end in ["a", "b"] {
            let _ = Command::new("ip").args(["netns", "del", &self.space(end)]).status();
        }
    }
}

/// Something that sends on the wire. Killed when dropped.
pub struct Sending(Running);

impl Sending {
    /// Starts `program` on CPU 0 of end `a`.
    pub fn start(wire: &Wire, program: &str, words: &[&str]) -> Result<Self> {
        let mut command = wire.at("a", "0", &sibling(program)?);
        Ok(Sending(Running::start(command.arg("wire0").args(words).stdout(Stdio::piped()))?))
    }

    /// Has it sent everything?
    pub fn ended(&mut self) -> Result<bool> {
        self.0.ended()
    }

    /// Waits for its end; what the kernel took from it.
    pub fn sent(self) -> Result<u64> {
        let said = String::from_utf8(self.0.output()?.stdout)?;
        Ok(said.split(['=', ' ']).nth(1).ok_or("a sender said nothing")?.parse()?)
    }
}
