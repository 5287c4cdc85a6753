//! An RTSP client of one stream's video, over TCP or UDP: what came, what is missing, how long nothing came, and how old it was.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::stamp;

/// A socket is asked at least this often whether it is still worth waiting.
const TICK: Duration = Duration::from_millis(100);
/// An answer to a request takes no longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A result with any error.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What a viewer has seen.
#[derive(Default)]
pub struct Seen {
    /// Bytes from the server's socket.
    pub bytes: u64,
    /// RTP packets.
    pub packets: u64,
    /// Places where the sequence number did not count on.
    pub gaps: u64,
    /// The longest time between two packets.
    pub longest_pause: Duration,
    /// The first byte of the first packet's payload: its NAL unit's type.
    pub first_nal: Option<u8>,
    /// Age at arrival, of those packets that were sent after `fresh_from`, in nanoseconds.
    pub ages: Vec<u64>,
    /// Packets sent before this are a clean point's, and say nothing about how late live packets are.
    pub fresh_from: u64,
    last_seq: Option<u16>,
    last_at: Option<Instant>,
}

impl Seen {
    fn packet(&mut self, rtp: &[u8]) {
        let (now, clock) = (Instant::now(), stamp::clock());
        let seq = u16::from_be_bytes([rtp[2], rtp[3]]);
        self.gaps += u64::from(self.last_seq.is_some_and(|last| seq != last.wrapping_add(1)));
        self.last_seq = Some(seq);
        if let Some(last) = self.last_at {
            self.longest_pause = self.longest_pause.max(now - last);
        }
        self.last_at = Some(now);
        self.first_nal = self.first_nal.or(rtp.get(12).copied());
        self.packets += 1;
        if let Some(sent) = stamp::read(rtp).filter(|&sent| sent >= self.fresh_from) {
            self.ages.push(clock.saturating_sub(sent));
        }
    }
}

/// One viewer.
pub struct View {
    /// The RTSP connection.
    pub socket: TcpStream,
    udp: Option<UdpSocket>,
    url: String,
    session: String,
    buffer: Vec<u8>,
    /// What came so far.
    pub seen: Seen,
}

impl View {
    /// DESCRIBE and SETUP of the video, interleaved in the connection.
    pub fn open(address: SocketAddr, path: &str) -> Result<Self> {
        View::open_over(address, path, false)
    }

    /// The same over UDP if `udp`.
    pub fn open_over(address: SocketAddr, path: &str, udp: bool) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(TICK))?;
        let url = format!("rtsp://{address}/{path}");
        let (session, buffer, seen) = (String::new(), Vec::new(), Seen::default());
        let mut view = View { socket, udp: None, url, session, buffer, seen };
        let described = view.ask("DESCRIBE", &view.url.clone(), "Accept: application/sdp\r\n")?;
        let base = field(&described, "Content-Base:").unwrap_or(&view.url).trim_end_matches('/').to_owned();
        let media = described.split("m=video").nth(1).ok_or("no video in the SDP")?;
        let control = field(media, "a=control:").ok_or("no control URI")?;
        let track =
            if control.starts_with("rtsp:") { control.to_owned() } else { format!("{base}/{control}") };
        let transport = if udp {
            let (rtp, port) = even_port(address)?;
            view.udp = Some(rtp);
            format!("RTP/AVP;unicast;client_port={port}-{}", port + 1)
        } else {
            "RTP/AVP/TCP;unicast;interleaved=0-1".to_owned()
        };
        let setup = view.ask("SETUP", &track, &format!("Transport: {transport}\r\n"))?;
        let session = field(&setup, "Session:").ok_or("no session")?;
        view.session = session.split(';').next().unwrap_or_default().to_owned();
        Ok(view)
    }

    /// PLAY from where the path says.
    pub fn play(&mut self) -> Result<()> {
        let headers = format!("Session: {}\r\nRange: npt=0.000-\r\n", self.session);
        self.ask("PLAY", &self.url.clone(), &headers).map(|_| ())
    }

    /// PLAY what is live: without a range.
    pub fn play_live(&mut self) -> Result<()> {
        let headers = format!("Session: {}\r\n", self.session);
        self.ask("PLAY", &self.url.clone(), &headers).map(|_| ())
    }

    fn ask(&mut self, method: &str, url: &str, headers: &str) -> Result<String> {
        write!(self.socket, "{method} {url} RTSP/1.0\r\nCSeq: 1\r\n{headers}\r\n")?;
        let asked = Instant::now();
        loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end + 4]).into_owned();
                let body: usize = field(&head, "Content-Length:").map_or(Ok(0), str::parse)?;
                if self.buffer.len() >= end + 4 + body {
                    let whole: Vec<u8> = self.buffer.drain(..end + 4 + body).collect();
                    let whole = String::from_utf8_lossy(&whole).into_owned();
                    if !whole.starts_with("RTSP/1.0 200") {
                        let said = whole.lines().next().unwrap_or_default();
                        return Err(format!("{method} {url}: {said}").into());
                    }
                    return Ok(whole);
                }
            }
            self.read()?;
            if asked.elapsed() > PATIENCE {
                return Err(format!("{method} {url}: no answer").into());
            }
        }
    }

    /// Reads what the RTSP connection has; 0 when that is nothing.
    pub fn read(&mut self) -> Result<usize> {
        let mut chunk = [0; 65536];
        let n = match self.socket.read(&mut chunk) {
            Ok(0) => return Err("the server closed".into()),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            Err(e) => return Err(e.into()),
        };
        self.buffer.extend_from_slice(&chunk[..n]);
        self.seen.bytes += n as u64;
        Ok(n)
    }

    /// Takes whole interleaved frames off the buffer; true when one of them was RTP.
    pub fn frames(&mut self) -> bool {
        let (mut at, mut rtp) = (0, false);
        while at + 4 <= self.buffer.len() {
            let len = usize::from(u16::from_be_bytes([self.buffer[at + 2], self.buffer[at + 3]]));
            if at + 4 + len > self.buffer.len() {
                break;
            }
            if self.buffer[at] == b'$' && self.buffer[at + 1] == 0 && len >= 12 {
                self.seen.packet(&self.buffer[at + 4..at + 4 + len]);
                rtp = true;
            }
            at += 4 + len;
        }
        self.buffer.drain(..at);
        rtp
    }

    /// Waits for the next RTP packet; false when none came in time. RTCP of a stream that has ended does not prolong it.
    pub fn until_rtp(&mut self, patience: Duration) -> Result<bool> {
        let asked = Instant::now();
        let mut packet = [0; 65536];
        while asked.elapsed() < patience {
            let Some(udp) = &self.udp else {
                if self.frames() {
                    return Ok(true);
                }
                self.read()?;
                continue;
            };
            match udp.recv(&mut packet) {
                Ok(n) if n >= 12 => {
                    self.seen.bytes += n as u64;
                    self.seen.packet(&packet[..n]);
                    return Ok(true);
                }
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(false)
    }
}

/// A socket on an even port for RTP; its neighbour, for RTCP, is free by luck, and nobody listens there.
fn even_port(near: SocketAddr) -> Result<(UdpSocket, u16)> {
    for _ in 0..100 {
        let socket = UdpSocket::bind((near.ip(), 0))?;
        let port = socket.local_addr()?.port();
        if port % 2 == 0 {
            socket.set_read_timeout(Some(TICK))?;
            return Ok((socket, port));
        }
    }
    Err("no even port".into())
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|l| l.trim().strip_prefix(name)).map(str::trim)
}
