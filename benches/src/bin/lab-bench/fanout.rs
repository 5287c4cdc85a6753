//! Many RTSP viewers of one server over TCP: delivered rate, sequence gaps, the server's CPU and memory. Also the client that `seek` uses.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tapdeck_benches::proc::{anonymous_bytes, cpu_seconds};

use crate::Plan;
use crate::tools::{Result, Scratch, quantile, sibling, tapdeck, timed};

/// A running `tapdeck serve`, stopped when dropped.
pub struct Served {
    child: Child,
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

/// One viewer over TCP.
pub struct View {
    socket: TcpStream,
    url: String,
    session: String,
    buffer: Vec<u8>,
    last_seq: Option<u16>,
    pub bytes: u64,
    pub gaps: u64,
}

impl View {
    /// DESCRIBE and SETUP of the first media.
    pub fn open(address: SocketAddr, path: &str) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let url = format!("rtsp://{address}/{path}");
        let mut view = View {
            socket,
            url,
            session: String::new(),
            buffer: Vec::new(),
            last_seq: None,
            bytes: 0,
            gaps: 0,
        };
        let described = view.ask("DESCRIBE", &view.url.clone(), "Accept: application/sdp\r\n")?;
        let base = field(&described, "Content-Base:").unwrap_or(&view.url).trim_end_matches('/').to_owned();
        let media = described.split("m=video").nth(1).ok_or("no video in the SDP")?;
        let control = field(media, "a=control:").ok_or("no control URI")?;
        let track =
            if control.starts_with("rtsp:") { control.to_owned() } else { format!("{base}/{control}") };
        let setup = view.ask("SETUP", &track, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n")?;
        let session = field(&setup, "Session:").ok_or("no session")?;
        view.session = session.split(';').next().unwrap_or_default().to_owned();
        Ok(view)
    }

    pub fn play(&mut self) -> Result<()> {
        let headers = format!("Session: {}\r\nRange: npt=0.000-\r\n", self.session);
        self.ask("PLAY", &self.url.clone(), &headers).map(|_| ())
    }

    fn ask(&mut self, method: &str, url: &str, headers: &str) -> Result<String> {
        write!(self.socket, "{method} {url} RTSP/1.0\r\nCSeq: 1\r\n{headers}\r\n")?;
        loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end + 4]).into_owned();
                let body: usize = field(&head, "Content-Length:").map_or(Ok(0), str::parse)?;
                if self.buffer.len() >= end + 4 + body {
                    let whole: Vec<u8> = self.buffer.drain(..end + 4 + body).collect();
                    let whole = String::from_utf8_lossy(&whole).into_owned();
                    if !whole.starts_with("RTSP/1.0 200") {
                        return Err(
                            format!("{method} {url}: {}", whole.lines().next().unwrap_or_default()).into()
                        );
                    }
                    return Ok(whole);
                }
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<usize> {
        let mut chunk = [0; 65536];
        let n = match self.socket.read(&mut chunk) {
            Ok(0) => return Err("the server closed".into()),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            Err(e) => return Err(e.into()),
        };
        self.buffer.extend_from_slice(&chunk[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    /// Takes whole interleaved frames off the buffer; true when one of them was RTP.
    fn frames(&mut self) -> bool {
        let (mut at, mut rtp) = (0, false);
        while at + 4 <= self.buffer.len() {
            let len = usize::from(u16::from_be_bytes([self.buffer[at + 2], self.buffer[at + 3]]));
            if at + 4 + len > self.buffer.len() {
                break;
            }
            if self.buffer[at] == b'$' && self.buffer[at + 1] == 0 && len >= 12 {
                let seq = u16::from_be_bytes([self.buffer[at + 6], self.buffer[at + 7]]);
                self.gaps += u64::from(self.last_seq.is_some_and(|last| seq != last.wrapping_add(1)));
                self.last_seq = Some(seq);
                rtp = true;
            }
            at += 4 + len;
        }
        self.buffer.drain(..at);
        rtp
    }

    pub fn until_rtp(&mut self) -> Result<()> {
        while !self.frames() {
            self.read()?;
        }
        Ok(())
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|l| l.trim().strip_prefix(name)).map(str::trim)
}

/// All viewers play at once for `seconds`; one thread reads for all of them.
pub fn run(plan: &Plan) -> Result<()> {
    let scratch = Scratch::new()?;
    let (file, store) = (scratch.path("f.pcap"), scratch.path("store"));
    let mut command = Command::new(sibling("lab-footage")?);
    command.arg(&file).args(["1000", "100", "tcp"]);
    timed(command)?;
    let mut command = tapdeck()?;
    command.arg("import").arg(&file).arg("--store").arg(&store);
    timed(command)?;
    let served = Served::start(&store)?;
    println!("\n### Fan-out: viewers over TCP, on demand, 100 streams of about 1.2 Mbit/s\n");
    println!(
        "| viewers | delivered Mbit/s | slowest viewer ÷ median | sequence gaps | CPU ms a viewer and second | anonymous MiB |\n|---|---|---|---|---|---|"
    );
    for clients in [1, 10, plan.clients / 2, plan.clients] {
        let mut views = Vec::new();
        for n in 0..clients {
            let mut view = View::open(
                served.address,
                &format!(
                    "{}?from={}",
                    served.streams[n % served.streams.len()].name,
                    served.streams[n % served.streams.len()].moment(0.0)
                ),
            )?;
            view.play()?;
            view.socket.set_nonblocking(true)?;
            views.push(view);
        }
        let measure = Duration::from_secs(5);
        let (began, cpu) = (Instant::now(), cpu_seconds(served.child.id()));
        views.iter_mut().for_each(|v| v.bytes = 0);
        while began.elapsed() < measure {
            for view in &mut views {
                // A viewer that the server closed shows as a slow one.
                let _ = view.read();
                view.frames();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let seconds = began.elapsed().as_secs_f64();
        let cpu = cpu_seconds(served.child.id()) - cpu;
        let rates: Vec<f64> = views.iter().map(|v| v.bytes as f64 * 8.0 / seconds / 1e6).collect();
        let (total, gaps) = (rates.iter().sum::<f64>(), views.iter().map(|v| v.gaps).sum::<u64>());
        let slowest = quantile(&rates, 0.0) / quantile(&rates, 0.5);
        let memory = anonymous_bytes(served.child.id()) as f64 / 1048576.0;
        println!(
            "| {clients} | {total:.0} | {slowest:.2} | {gaps} | {:.2} | {memory:.0} |",
            1e3 * cpu / seconds / clients as f64
        );
    }
    Ok(())
}
