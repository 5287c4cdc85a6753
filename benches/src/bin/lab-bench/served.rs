//! A store that is served, and its streams.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::tools::{Result, tapdeck};

/// A running `tapdeck serve`, stopped when dropped.
pub struct Served {
    pub child: Child,
    pub address: SocketAddr,
    pub streams: Vec<Stream>,
}

pub struct Stream {
    pub name: String,
    first: String,
    seconds: f64,
}

impl Stream {
    /// A moment of the footage, `share` (0 to 1) of the way through, as RFC 3339.
    pub fn moment(&self, share: f64) -> String {
        // Through the shell's date: the benches need no calendar of their own.
        let later = format!("{} {:+.3} seconds", self.first, self.seconds * share);
        let out = Command::new("date").args(["-u", "-d", &later, "+%Y-%m-%dT%H:%M:%S.%3NZ"]).output();
        out.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
    }
}

fn seconds_of(time: &str) -> Result<f64> {
    let out = Command::new("date").args(["-u", "-d", time, "+%s.%N"]).output()?;
    Ok(String::from_utf8(out.stdout)?.trim().parse()?)
}

impl Served {
    pub fn start(store: &Path) -> Result<Self> {
        let listed = tapdeck()?.args(["streams", "--json", "--store"]).arg(store).output()?;
        let json: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
        let mut streams = Vec::new();
        for stream in json.as_array().into_iter().flatten().filter(|s| s["kind"] == "video") {
            let text = |key: &str| stream[key].as_str().unwrap_or_default().to_owned();
            let (first, last) = (text("first"), text("last"));
            streams.push(Stream {
                name: text("name"),
                seconds: seconds_of(&last)? - seconds_of(&first)?,
                first,
            });
        }
        if streams.is_empty() {
            return Err("no video in the store".into());
        }
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = tapdeck()?;
        command.args(["serve", "--rtsp", &address.to_string(), "--store"]).arg(store);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let served = Served { child, address, streams };
        let waited = Instant::now();
        while TcpStream::connect(address).is_err() {
            if waited.elapsed() > Duration::from_secs(30) {
                return Err("serve does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(served)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
