//! A source with made-up packets, a server on loopback, and a raw RTSP client.
#![allow(
    dead_code,
    clippy::type_complexity,
    clippy::missing_docs_in_private_items,
    missing_docs,
    reason = "each test file uses a part of it"
)]

use bytes::Bytes;
use capture::CaptureTime;
use replay::source::*;
use replay::{Bound, Config, RtspServer, ServerHandle};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

pub const T0: i64 = 1_700_000_000;

pub fn at_ms(ms: i64) -> CaptureTime {
    CaptureTime::from_nanos(T0 * 1_000_000_000 + ms * 1_000_000)
}

pub fn wall() -> CaptureTime {
    let d = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    CaptureTime::from_nanos(i64::try_from(d.as_nanos()).expect("before 2262"))
}

pub fn rtp(segment: u32, seq: u64, timestamp: u32, time: CaptureTime, clean: bool, payload: &[u8]) -> Packet {
    let mut head = vec![0x80, 96 | 0x80];
    head.extend((seq as u16).to_be_bytes());
    head.extend(timestamp.to_be_bytes());
    head.extend([0xAA; 4]);
    // Two pieces, as of a packet that TCP carried in two segments.
    let (a, b) = payload.split_at(payload.len() / 2);
    head.extend(a);
    let pieces = [Bytes::from(head).into(), Bytes::copy_from_slice(b).into()].into_iter().collect();
    Packet { time, segment, seq, timestamp, marker: true, payload_type: 96, clean, pieces }
}

pub fn info(id: u32, name: &str, first: CaptureTime, last: CaptureTime) -> TrackInfo {
    TrackInfo {
        id: TrackId(id),
        name: name.into(),
        camera: "cam".into(),
        media: MediaKind::Video,
        encoding: Some("H264".into()),
        payload_type: 96,
        clock_rate: NonZeroU32::new(90_000),
        channels: None,
        fmtp: None,
        sdp_media: None,
        parameter_sets: vec![],
        first,
        last,
        encrypted: false,
    }
}

#[derive(Default)]
pub struct Live {
    items: VecDeque<Packet>,
    lagged: u64,
    ended: bool,
    waker: Option<Waker>,
    capacity: usize,
}

/// Tracks with packets, and one live queue a subscription.
#[derive(Clone, Default)]
pub struct Synthetic {
    pub tracks: Arc<Mutex<Vec<(TrackInfo, Vec<Packet>)>>>,
    pub live: Arc<Mutex<Vec<(u32, Arc<Mutex<Live>>)>>>,
    pub records: bool,
}

impl Synthetic {
    pub fn with(info: TrackInfo, packets: Vec<Packet>) -> Self {
        let s = Self::default();
        s.tracks.lock().expect("lock").push((info, packets));
        s
    }

    pub fn publish(&self, id: u32, packet: Packet) {
        for (track, live) in self.live.lock().expect("lock").iter() {
            if *track != id {
                continue;
            }
            let mut l = live.lock().expect("lock");
            if l.items.len() >= l.capacity {
                l.lagged += l.items.len() as u64;
                l.items.clear();
            }
            l.items.push_back(packet.clone());
            if let Some(w) = l.waker.take() {
                w.wake();
            }
        }
        for (info, packets) in self.tracks.lock().expect("lock").iter_mut() {
            if info.id.0 == id {
                info.last = packet.time;
                packets.push(packet.clone());
            }
        }
    }
}

struct Reader(VecDeque<Packet>);

impl PacketReader for Reader {
    fn next(&mut self) -> Result<Option<Packet>, SourceError> {
        Ok(self.0.pop_front())
    }
}

struct Subscription(Arc<Mutex<Live>>, CaptureTime);

impl LivePackets for Subscription {
    fn handoff(&self) -> CaptureTime {
        self.1
    }
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<LiveItem>> {
        let mut l = self.0.lock().expect("lock");
        if l.lagged > 0 {
            return Poll::Ready(Some(LiveItem::Lagged(std::mem::take(&mut l.lagged))));
        }
        match l.items.pop_front() {
            Some(p) => Poll::Ready(Some(LiveItem::Packet(p))),
            None if l.ended => Poll::Ready(None),
            None => {
                l.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Source for Synthetic {
    fn find(&self, s: &Selection) -> Result<Vec<TrackInfo>, SourceError> {
        let tracks = self.tracks.lock().expect("lock");
        let named = |i: &TrackInfo| s.name.as_ref().is_none_or(|n| *n == i.name || *n == i.camera);
        Ok(tracks.iter().map(|t| &t.0).filter(|i| named(i)).cloned().collect())
    }

    fn reader(
        &self,
        track: TrackId,
        from: CaptureTime,
        to: CaptureTime,
        start: StartAt,
    ) -> Result<Box<dyn PacketReader>, SourceError> {
        let tracks = self.tracks.lock().expect("lock");
        let Some((_, packets)) = tracks.iter().find(|t| t.0.id == track) else {
            return Ok(Box::new(Reader(VecDeque::new())));
        };
        let exact = packets.iter().position(|p| p.time >= from).unwrap_or(packets.len());
        let begin = match start {
            StartAt::Exact => exact,
            StartAt::CleanPointBefore | StartAt::LiveEdge => packets
                .iter()
                .rposition(|p| p.clean && p.time <= from)
                .or_else(|| packets.iter().position(|p| p.clean))
                .unwrap_or(packets.len()),
        };
        Ok(Box::new(Reader(packets[begin..].iter().take_while(|p| p.time <= to).cloned().collect())))
    }

    fn records(&self) -> bool {
        self.records
    }

    fn subscribe(
        &self,
        track: TrackId,
        capacity: usize,
    ) -> Result<Option<Box<dyn LivePackets>>, SourceError> {
        if !self.records {
            return Ok(None);
        }
        let live = Arc::new(Mutex::new(Live { capacity, ..Live::default() }));
        self.live.lock().expect("lock").push((track.0, live.clone()));
        let handoff =
            self.tracks.lock().expect("lock").iter().find(|t| t.0.id == track).map_or(wall(), |t| t.0.last);
        Ok(Some(Box::new(Subscription(live, handoff))))
    }
}

/// `frames` frames of `packets_each` packets, 40 ms apart, a clean point every `gop`.
pub fn frames(
    segment: u32,
    first_seq: u64,
    start: CaptureTime,
    frames: u32,
    gop: u32,
    payload_len: usize,
) -> Vec<Packet> {
    (0..frames)
        .map(|i| {
            let clean = i % gop == 0;
            let mut payload = vec![if clean { 0x65 } else { 0x41 }; payload_len];
            payload[1..5].copy_from_slice(&i.to_be_bytes());
            let time = start.plus(Duration::from_millis(u64::from(i) * 40));
            rtp(segment, first_seq + u64::from(i), 1000 + i * 3600, time, clean, &payload)
        })
        .collect()
}

/// One track of ten seconds.
pub fn ten_seconds() -> Synthetic {
    let packets = frames(1, 65_500, at_ms(0), 250, 25, 500);
    Synthetic::with(info(1, "door", at_ms(0), at_ms(9_960)), packets)
}

/// Whether an RTCP compound has a BYE. Packet by packet (RFC 3550, section 6.1): a sender report's random numbers may look like one.
pub fn says_goodbye(mut compound: &[u8]) -> bool {
    while let [first, kind, a, b, ..] = *compound {
        if first >> 6 == 2 && kind == 203 {
            return true;
        }
        let len = (usize::from(u16::from_be_bytes([a, b])) + 1) * 4;
        compound = compound.get(len..).unwrap_or_default();
    }
    false
}

pub struct Running {
    pub address: SocketAddr,
    pub handle: ServerHandle,
    stop: Option<oneshot::Sender<()>>,
    pub task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Running {
    pub fn start(source: impl Source, config: Config) -> Self {
        Self::start_at(Bound::to("127.0.0.1:0".parse().expect("address")).expect("binds"), source, config)
    }

    pub fn start_at(bound: Bound, source: impl Source, config: Config) -> Self {
        let server = RtspServer::new(bound, source, config);
        server.listen().expect("listens");
        let (stop, stopped) = oneshot::channel();
        let (address, handle) = (server.local_addr(), server.handle());
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { address, handle, stop: Some(stop), task }
    }

    pub fn stop(&mut self) {
        self.stop.take();
    }

    pub fn url(&self, path: &str) -> String {
        format!("rtsp://{}{path}", self.address)
    }
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub text: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<String> {
        self.text.lines().find_map(|l| {
            let (n, v) = l.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| v.trim().to_owned())
        })
    }

    pub fn session(&self) -> String {
        self.header("Session").expect("a session").split(';').next().expect("id").to_owned()
    }
}

#[derive(Debug)]
pub enum Got {
    Reply(Reply),
    Frame(u8, Vec<u8>),
}

/// Speaks RTSP byte by byte.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    cseq: u32,
    /// Frames that came before a reply that was waited for.
    pub frames: VecDeque<(u8, Vec<u8>)>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connects");
        Self { stream, buffer: Vec::new(), cseq: 0, frames: VecDeque::new() }
    }

    pub async fn ask(&mut self, method: &str, url: &str, headers: &str) -> Reply {
        self.cseq += 1;
        let request = format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n{headers}\r\n", self.cseq);
        self.stream.write_all(request.as_bytes()).await.expect("writes");
        loop {
            match self.next().await.expect("a reply before the end") {
                Got::Reply(reply) => {
                    assert_eq!(reply.header("CSeq"), Some(self.cseq.to_string()), "{}", reply.text);
                    return reply;
                }
                Got::Frame(c, d) => self.frames.push_back((c, d)),
            }
        }
    }

    /// What was read and is no whole answer or frame yet.
    pub fn unread(&self) -> &[u8] {
        &self.buffer
    }

    pub async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        if let Some(f) = self.frames.pop_front() {
            return Some(f);
        }
        match self.next().await? {
            Got::Frame(c, d) => Some((c, d)),
            Got::Reply(r) => panic!("a reply that nobody asked for: {}", r.text),
        }
    }

    /// Whatever comes next; `None` when the server closed, panics after 20 s of silence.
    pub async fn next(&mut self) -> Option<Got> {
        loop {
            if let Some(got) = self.take() {
                return Some(got);
            }
            let mut chunk = [0; 65_536];
            let n = tokio::time::timeout(Duration::from_secs(20), self.stream.read(&mut chunk))
                .await
                .expect("something within 20 s")
                .unwrap_or(0);
            if n == 0 {
                return None;
            }
            self.buffer.extend_from_slice(&chunk[..n]);
        }
    }

    fn take(&mut self) -> Option<Got> {
        if self.buffer.first() == Some(&b'$') {
            let len = usize::from(u16::from_be_bytes([*self.buffer.get(2)?, *self.buffer.get(3)?]));
            let data = self.buffer.get(4..4 + len)?.to_vec();
            let channel = self.buffer[1];
            self.buffer.drain(..4 + len);
            return Some(Got::Frame(channel, data));
        }
        let end = self.buffer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let text = String::from_utf8(self.buffer[..end].to_vec()).expect("text");
        assert!(text.starts_with("RTSP/1.0 "), "{text}");
        let status = text[9..12].parse().expect("status");
        let mut reply = Reply { status, text, body: String::new() };
        let len: usize = reply.header("Content-Length").map_or(0, |l| l.parse().expect("length"));
        reply.body = String::from_utf8(self.buffer.get(end..end + len)?.to_vec()).expect("body");
        self.buffer.drain(..end + len);
        Some(Got::Reply(reply))
    }

    /// DESCRIBE, SETUP of the only track over TCP; the session's id.
    pub async fn set_up(&mut self, url: &str) -> String {
        let described = self.ask("DESCRIBE", url, "Accept: application/sdp\r\n").await;
        assert_eq!(described.status, 200, "{}", described.text);
        let base = described.header("Content-Base").expect("base");
        let setup = self
            .ask("SETUP", &format!("{base}trackID=1"), "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n")
            .await;
        assert_eq!(setup.status, 200, "{}", setup.text);
        setup.session()
    }
}

pub fn seq(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[2], packet[3]])
}

pub fn timestamp(packet: &[u8]) -> u32 {
    u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]])
}

/// The frame's number in the payload of [`frames`].
pub fn number(packet: &[u8]) -> u32 {
    u32::from_be_bytes([packet[13], packet[14], packet[15], packet[16]])
}
