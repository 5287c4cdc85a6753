//! How frames leave: interleaved into the RTSP connection, or as datagrams.
//!
//! Payload bytes go from the shard's mapping to the socket by vectored writes; only headers are made here. A batch
//! remembers how far it got, so waiting for a slow client can be dropped and taken up again without tearing a
//! frame. Packets go over UDP whatever their size: up to 65,507 bytes in one datagram, which the kernel
//! fragments when it is larger than the path takes (counted); larger ones can't be sent that way (counted).

use crate::burst::Burst;
use crate::rewrite::{RTP_HEADER_LEN, Rewritten};
use crate::session::Carriage;
use crate::source::{Packet, Payload};
use crate::stats::{ClientCounters, LARGE_DATAGRAM_BYTES};
use crate::writer::{SharedWriter, Turn};
use bytes::Bytes;
use capture::CaptureTime;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use tokio::io::Interest;
use tokio::net::UdpSocket;

const INTERLEAVED_HEADER_LEN: usize = 4;
/// Slices handed to the kernel at once; the limit is IOV_MAX, 1024.
const SLICES_MAX: usize = 512;
const DATAGRAM_LEN_MAX: usize = 65_507;

/// One RTP packet or RTCP compound on its way.
pub struct Frame {
    slot: usize,
    /// When it was captured, if it is an RTP packet.
    time: Option<CaptureTime>,
    /// Interleaved header, then the rewritten RTP header.
    head: [u8; INTERLEAVED_HEADER_LEN + RTP_HEADER_LEN],
    /// What follows the header, each from an offset on.
    rest: SmallVec<[(Payload, usize); 2]>,
    len: usize,
}

impl Frame {
    /// An RTP packet with its new header.
    pub fn rtp(slot: usize, packet: Packet, rewritten: &Rewritten) -> Self {
        let mut head = [0; INTERLEAVED_HEADER_LEN + RTP_HEADER_LEN];
        head[INTERLEAVED_HEADER_LEN..].copy_from_slice(&rewritten.header);
        let mut skip = rewritten.rest_from;
        let (time, mut rest) = (Some(packet.time), SmallVec::new());
        let mut len = RTP_HEADER_LEN;
        for piece in packet.pieces {
            let piece_len = piece.as_ref().len();
            if skip < piece_len {
                len += piece_len - skip;
                rest.push((piece, skip));
                skip = 0;
            } else {
                skip -= piece_len;
            }
        }
        Self { slot, time, head, rest, len }
    }

    /// An RTCP compound packet.
    pub fn rtcp(slot: usize, data: Vec<u8>) -> Self {
        let len = data.len();
        let rest = [(Payload::from(Bytes::from(data)), 0)].into_iter().collect();
        Self { slot, time: None, head: [0; INTERLEAVED_HEADER_LEN + RTP_HEADER_LEN], rest, len }
    }

    fn is_rtcp(&self) -> bool {
        self.time.is_none()
    }

    fn slices<'a>(&'a self, framed: bool, out: &mut Vec<IoSlice<'a>>) {
        let from = if framed { 0 } else { INTERLEAVED_HEADER_LEN };
        let to = if self.is_rtcp() { INTERLEAVED_HEADER_LEN } else { self.head.len() };
        if from < to {
            out.push(IoSlice::new(&self.head[from..to]));
        }
        out.extend(self.rest.iter().map(|(p, skip)| IoSlice::new(&p.as_ref()[*skip..])));
    }

    fn detach(&mut self) {
        self.rest.iter_mut().for_each(|(p, _)| *p = p.detached());
    }
}

/// One track's way out.
pub enum TrackOutlet {
    /// Interleaved.
    Tcp {
        /// Channel of RTP.
        rtp: u8,
        /// Channel of RTCP.
        rtcp: u8,
    },
    /// Datagrams.
    Udp {
        /// Connected to the client's RTP port.
        rtp: Arc<UdpSocket>,
        /// Connected to the client's RTCP port.
        rtcp: Arc<UdpSocket>,
    },
    /// None any more: the track was torn down.
    Gone,
}

/// What flushing can end with.
#[derive(Debug)]
pub enum OutletError {
    /// The connection is gone or broken.
    Broken,
}

/// All ways out of a session, and what is on its way.
pub struct Outlet {
    tracks: Vec<TrackOutlet>,
    writer: Option<SharedWriter>,
    frames: VecDeque<Frame>,
    bytes: usize,
    /// When the last RTP packet that is out was captured.
    last: Option<CaptureTime>,
    /// Bytes of the first frame that are out already.
    written: usize,
    /// Held while a frame is partly out: nobody else may write in between. Let go of before its end, it is the connection's last.
    turn: Option<Turn>,
    counters: Arc<ClientCounters>,
    /// The client's ports refused datagrams in a row.
    refused: u32,
    burst: Burst,
}

impl Outlet {
    /// Without tracks yet.
    pub fn new(counters: Arc<ClientCounters>) -> Self {
        Self {
            tracks: Vec::new(),
            writer: None,
            frames: VecDeque::new(),
            bytes: 0,
            last: None,
            written: 0,
            turn: None,
            counters,
            refused: 0,
            burst: Burst::default(),
        }
    }

    /// Adds a slot: the next one, or one that was removed.
    pub fn add(&mut self, slot: usize, track: TrackOutlet, writer: Option<SharedWriter>) {
        match self.tracks.get_mut(slot) {
            Some(gone) => *gone = track,
            None => self.tracks.push(track),
        }
        self.writer = self.writer.take().or(writer);
    }

    /// Closes a slot's way out. What waits for it is not sent any more, so it is to be flushed before.
    pub fn remove(&mut self, slot: usize) {
        if let Some(track) = self.tracks.get_mut(slot) {
            *track = TrackOutlet::Gone;
        }
        if !self.tracks.iter().any(|t| matches!(t, TrackOutlet::Tcp { .. })) {
            self.writer = None;
        }
    }

    /// Puts a frame at the end.
    pub fn push(&mut self, mut frame: Frame) {
        let Some(track) = self.tracks.get(frame.slot) else { return };
        if matches!(track, TrackOutlet::Gone) {
            return;
        }
        if let TrackOutlet::Tcp { rtp, rtcp } = track {
            let Ok(len) = u16::try_from(frame.len) else {
                ClientCounters::add(&self.counters.unsent, 1);
                return;
            };
            let channel = if frame.is_rtcp() { *rtcp } else { *rtp };
            let [a, b] = len.to_be_bytes();
            frame.head[..INTERLEAVED_HEADER_LEN].copy_from_slice(&[b'$', channel, a, b]);
        }
        self.bytes += frame.len;
        self.frames.push_back(frame);
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The client's ports refused so many datagrams in a row.
    pub fn refused(&self) -> u32 {
        self.refused
    }

    /// True if a frame is partly out: the connection can only be closed, or the frame finished.
    pub fn is_torn(&self) -> bool {
        self.written > 0
    }

    /// Throws away what waits, but for the rest of what was captured at one moment and is partly out: packets that came in one TCP segment.
    /// Gives that moment, and the earliest of what was thrown away. (They are in the order of their numbers, not of their capture.)
    pub fn keep_begun(&mut self) -> (Option<CaptureTime>, Option<CaptureTime>) {
        let torn = usize::from(self.is_torn());
        let begun = self.frames.front().filter(|_| torn > 0).and_then(|frame| frame.time).or(self.last);
        let same = self.frames.iter().skip(torn).take_while(|frame| begun.is_some() && frame.time == begun);
        let keep = torn + same.count();
        let unsent = self.frames.iter().skip(keep).filter_map(|frame| frame.time).min();
        self.frames.truncate(keep);
        self.bytes = self.frames.iter().map(|f| f.len).sum();
        (begun, unsent)
    }

    /// Whether nothing waits.
    pub fn is_idle(&self) -> bool {
        self.frames.is_empty()
    }

    /// Frees the recorder's memory.
    pub fn detach(&mut self) {
        self.frames.iter_mut().for_each(Frame::detach);
    }

    /// Throws away what waits, but for a frame that is partly out.
    pub fn drop_unsent(&mut self) {
        self.frames.truncate(usize::from(self.is_torn()));
        if !self.is_torn() {
            self.turn = None;
        }
        self.bytes = self.frames.iter().map(|f| f.len).sum();
    }

    /// Sends everything that waits. Can be dropped and called again.
    pub async fn flush(&mut self) -> Result<(), OutletError> {
        while let Some(first) = self.frames.front() {
            match self.tracks.get(first.slot) {
                Some(TrackOutlet::Tcp { .. }) => self.flush_tcp().await?,
                Some(TrackOutlet::Udp { .. }) => self.flush_udp().await,
                // The rest of it can't be sent any more.
                Some(TrackOutlet::Gone) | None if self.is_torn() => return Err(OutletError::Broken),
                Some(TrackOutlet::Gone) | None => {
                    if let Some(frame) = self.frames.pop_front() {
                        self.bytes -= frame.len;
                    }
                }
            }
        }
        self.turn = None;
        Ok(())
    }

    async fn flush_tcp(&mut self) -> Result<(), OutletError> {
        if self.turn.is_none() {
            let Some(writer) = &self.writer else { return Err(OutletError::Broken) };
            self.turn = Some(writer.turn().await.map_err(|_| OutletError::Broken)?);
        }
        let Some(turn) = &mut self.turn else { return Err(OutletError::Broken) };
        let mut slices = Vec::with_capacity(SLICES_MAX.min(self.frames.len() * 3));
        for frame in &self.frames {
            if !matches!(self.tracks.get(frame.slot), Some(TrackOutlet::Tcp { .. }))
                || slices.len() + 8 > SLICES_MAX
            {
                break;
            }
            frame.slices(true, &mut slices);
        }
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, self.written);
        let n = turn.write_frames(rest).await.map_err(|_| OutletError::Broken)?;
        if n == 0 {
            return Err(OutletError::Broken);
        }
        drop(slices);
        self.advance(n);
        if let Some(turn) = &mut self.turn {
            turn.set_torn(self.written > 0);
        }
        if self.written == 0 {
            // Between two frames others may write: a reply need not wait for the whole batch.
            self.turn = None;
        }
        Ok(())
    }

    fn advance(&mut self, n: usize) {
        self.written += n;
        while let Some(first) = self.frames.front() {
            let framed = first.len + INTERLEAVED_HEADER_LEN;
            if self.written < framed {
                break;
            }
            self.written -= framed;
            self.count_sent();
        }
    }

    fn count_sent(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= frame.len;
            if !frame.is_rtcp() {
                self.last = frame.time;
                ClientCounters::add(&self.counters.packets, 1);
                ClientCounters::add(&self.counters.bytes, frame.len as u64);
            }
        }
    }

    async fn flush_udp(&mut self) {
        let Some(len) = self.frames.front().map(|frame| frame.len) else { return };
        while let Some(wait) = self.burst.take(len, Instant::now()) {
            tokio::time::sleep(wait).await;
        }
        let Some(frame) = self.frames.front() else { return };
        let Some(TrackOutlet::Udp { rtp, rtcp }) = self.tracks.get(frame.slot) else { return };
        let socket = if frame.is_rtcp() { rtcp } else { rtp };
        let mut sent = Err(io::ErrorKind::InvalidInput.into());
        if frame.len <= DATAGRAM_LEN_MAX {
            let mut slices = Vec::with_capacity(4);
            frame.slices(false, &mut slices);
            sent = send_datagram(socket, &slices).await;
            if sent.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
                // That was the answer to an earlier datagram; this one was not tried yet.
                self.refused = self.refused.saturating_add(1);
                sent = send_datagram(socket, &slices).await;
            } else if sent.is_ok() {
                self.refused = 0;
            }
        }
        match sent {
            Ok(()) => {
                if frame.len > LARGE_DATAGRAM_BYTES {
                    ClientCounters::add(&self.counters.large_datagrams, 1);
                }
                self.count_sent();
            }
            Err(_) => {
                if let Some(frame) = self.frames.pop_front() {
                    self.bytes -= frame.len;
                }
                ClientCounters::add(&self.counters.unsent, 1);
            }
        }
    }
}

async fn send_datagram(socket: &UdpSocket, slices: &[IoSlice<'_>]) -> io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
    let send = || {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags)?)
    };
    socket.async_io(Interest::WRITABLE, send).await.map(|_: usize| ())
}

/// The ports that RTP/RTCP pairs are taken from: the sockets themselves say which are in use.
pub struct PortPairs {
    first: u16,
    pairs: u32,
    next: AtomicU32,
}

/// Pairs that are tried before a SETUP is refused.
const PAIRS_TRIED_MAX: u32 = 256;

impl PortPairs {
    /// Pairs of an even port and the one after it (RFC 3550, section 11).
    pub fn new(range: &RangeInclusive<u16>) -> Self {
        let first = range.start().saturating_add(range.start() % 2);
        let pairs = u32::from(range.end().saturating_sub(first)).div_ceil(2);
        Self { first, pairs, next: AtomicU32::new(0) }
    }

    /// A bound pair, connected to the client's ports.
    pub fn open(
        &self,
        local: SocketAddr,
        rtp: SocketAddr,
        rtcp: SocketAddr,
    ) -> io::Result<(UdpSocket, UdpSocket)> {
        for _ in 0..PAIRS_TRIED_MAX.min(self.pairs) {
            let n = self.next.fetch_add(1, Ordering::Relaxed) % self.pairs;
            let port = self.first + (n * 2) as u16;
            let bound = bind(local, port, rtp).and_then(|a| Ok((a, bind(local, port + 1, rtcp)?)));
            if let Ok(pair) = bound {
                return Ok(pair);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

fn bind(mut local: SocketAddr, port: u16, peer: SocketAddr) -> io::Result<UdpSocket> {
    local.set_port(port);
    let socket = std::net::UdpSocket::bind(local)?;
    socket.connect(peer)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// What a carriage becomes: sockets for UDP, and the server's ports that the client is told.
pub fn open_track(carriage: Carriage, ports: &PortPairs) -> io::Result<(TrackOutlet, Option<(u16, u16)>)> {
    match carriage {
        Carriage::Interleaved { rtp, rtcp, .. } => Ok((TrackOutlet::Tcp { rtp, rtcp }, None)),
        Carriage::Udp { local, rtp, rtcp } => {
            let (a, b) = ports.open(local, rtp, rtcp)?;
            let told = (a.local_addr()?.port(), b.local_addr()?.port());
            Ok((TrackOutlet::Udp { rtp: Arc::new(a), rtcp: Arc::new(b) }, Some(told)))
        }
    }
}
