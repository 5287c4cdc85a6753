//! A bare RTSP client that shows each byte of the server's answers, for what real clients demand on the wire.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    cseq: u32,
    pub frames: Vec<Frame>,
}

/// An interleaved frame.
#[derive(Debug)]
pub struct Frame {
    pub channel: u8,
    pub data: Vec<u8>,
    /// When it was taken off the connection.
    pub at: Instant,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self
            .head
            .lines()
            .find(|l| l.to_ascii_lowercase().starts_with(&format!("{}:", name.to_ascii_lowercase())))?;
        Some(line[name.len() + 1..].trim())
    }

    pub fn session(&self) -> String {
        let session = self.header("Session").unwrap_or_else(|| panic!("no Session in {}", self.head));
        session.split(';').next().unwrap_or_default().to_owned()
    }
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket option");
        Wire { stream, buffer: Vec::new(), cseq: 0, frames: Vec::new() }
    }

    /// Sends a request; interleaved frames that come before the answer are kept in `frames`.
    pub fn ask(&mut self, method: &str, url: &str, headers: &str) -> Answer {
        self.cseq += 1;
        let request =
            format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\nUser-Agent: wire\r\n{headers}\r\n", self.cseq);
        self.stream.write_all(request.as_bytes()).expect("the server reads");
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            assert!(Instant::now() < until, "no answer to {method}");
            if let Some(answer) = self.step() {
                assert_eq!(answer.header("CSeq"), Some(self.cseq.to_string().as_str()));
                return answer;
            }
        }
    }

    /// Reads frames until `enough` says so or the time is over; true when it was enough.
    pub fn listen(&mut self, within: Duration, enough: impl Fn(&[Frame]) -> bool) -> bool {
        let until = Instant::now() + within;
        while Instant::now() < until {
            if enough(&self.frames) {
                return true;
            }
            self.step();
        }
        enough(&self.frames)
    }

    /// Takes one message off the connection: an answer is returned, a frame kept.
    fn step(&mut self) -> Option<Answer> {
        if self.buffer.first() == Some(&b'$') && self.buffer.len() >= 4 {
            let len = usize::from(u16::from_be_bytes([self.buffer[2], self.buffer[3]]));
            if self.buffer.len() >= 4 + len {
                let data = self.buffer[4..4 + len].to_vec();
                self.frames.push(Frame { channel: self.buffer[1], data, at: Instant::now() });
                self.buffer.drain(..4 + len);
                return None;
            }
        } else if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            let status = head
                .split(' ')
                .nth(1)
                .and_then(|s| s.parse().ok())
                .unwrap_or_else(|| panic!("not a status line: {head}"));
            let mut answer = Answer { status, head, body: String::new() };
            let len = answer.header("Content-Length").map_or(0, |l| l.parse().expect("a length"));
            if self.buffer.len() >= end + 4 + len {
                answer.body = String::from_utf8_lossy(&self.buffer[end + 4..end + 4 + len]).into_owned();
                self.buffer.drain(..end + 4 + len);
                return Some(answer);
            }
        }
        let mut chunk = [0; 65536];
        match self.stream.read(&mut chunk) {
            Ok(0) => std::thread::sleep(Duration::from_millis(20)),
            Ok(n) => self.buffer.extend(&chunk[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => panic!("the connection broke: {e}"),
        }
        None
    }
}
