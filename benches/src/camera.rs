//! A camera's whole RTSP session as frames: handshake, DESCRIBE with SDP, SETUP, PLAY, and then H.264 in 1,300-byte RTP packets.
//!
//! Pure but for the stamps: frames go to a [`Sink`], a file or a wire. 25 pictures a second, a key frame with parameter sets every 50.
//! Over TCP the interleaved frames fill segments of 1,448 bytes without regard to where packets begin, as a camera's kernel does it.

use std::io;
use std::net::Ipv4Addr;

use crate::frames::{self, Ends, PPS, SPS, flag};
use crate::random::Random;
use crate::stamp;

/// Bytes of an RTP packet with its header.
pub const RTP_BYTES: usize = 1300;
/// From picture to picture.
pub const FRAME_NS: u64 = 40_000_000;
const SEGMENT: usize = 1448;
const GOP: u64 = 50;

/// Where frames go.
pub trait Sink {
    /// The frame that is being made, empty after each [`packet`](Sink::packet).
    fn buffer(&mut self) -> &mut Vec<u8>;
    /// What stands in the buffer is a frame of the time `time_ns`.
    fn packet(&mut self, time_ns: u64) -> io::Result<()>;
}

/// What all cameras of a run have in common.
#[derive(Clone, Copy)]
pub struct Options {
    /// RTP interleaved in the RTSP connection, rather than UDP.
    pub tcp: bool,
    /// The VMS acknowledges each so many segments; 0 is never.
    pub acks: u32,
    /// RTP packets of a picture that is no key frame.
    pub pieces: u64,
    /// Each packet of a picture ends with the time at which it was made.
    pub stamped: bool,
}

/// Payload that all cameras share; the same on every machine.
pub fn noise() -> Vec<u8> {
    let mut noise = vec![0; 4096 + RTP_BYTES];
    Random::new(3).fill(&mut noise);
    noise
}

/// One camera and its VMS.
pub struct Stream {
    control: Ends, // from the camera to the VMS
    media: Ends,
    number: u32,
    seq: u32,
    ack: u32,
    rtp_seq: u16,
    pending: Vec<u8>, // interleaved bytes that do not fill a segment yet
    segments: u32,
}

impl Stream {
    /// Camera `number`, from 1 on: its address is 198.18.16.0 plus the number.
    pub fn new(number: u32) -> Self {
        let [high, low] = (number as u16).to_be_bytes();
        let camera = Ipv4Addr::new(198, 18, 16 + high, low);
        let vms = Ipv4Addr::new(198, 18, 0, 2);
        let port = 20_000 + 2 * number as u16;
        Stream {
            control: Ends { source: (camera, 554), destination: (vms, 40_000 + number as u16) },
            media: Ends { source: (camera, 6970), destination: (vms, port) },
            number,
            seq: 1_000_000 * number,
            ack: 7_000 + number,
            rtp_seq: (number * 977) as u16,
            pending: Vec::new(),
            segments: 0,
        }
    }

    fn camera_says(&mut self, out: &mut impl Sink, time: u64, flags: u8, payload: &[u8]) -> io::Result<()> {
        frames::tcp(out.buffer(), self.control, self.seq, self.ack, flags, millis(time), payload);
        self.seq = after(self.seq, flags, payload);
        out.packet(time)
    }

    fn vms_says(&mut self, out: &mut impl Sink, time: u64, flags: u8, payload: &[u8]) -> io::Result<()> {
        frames::tcp(out.buffer(), self.control.reversed(), self.ack, self.seq, flags, millis(time), payload);
        self.ack = after(self.ack, flags, payload);
        out.packet(time)
    }

    /// Handshake and dialogue, a millisecond a step.
    pub fn dialogue(&mut self, out: &mut impl Sink, tcp: bool, mut time: u64) -> io::Result<()> {
        self.vms_says(out, time, flag::SYN, b"")?;
        self.camera_says(out, time + 300_000, flag::SYN | flag::ACK, b"")?;
        self.vms_says(out, time + 500_000, flag::ACK, b"")?;
        let url = format!("rtsp://{}/cam", self.control.source.0);
        let session = format!("{:08X}", 0x5e55_0000 + self.number);
        let (port, far) = (self.media.destination.1, self.media.source.1);
        let (ask, give) = if tcp {
            let transport = "RTP/AVP/TCP;unicast;interleaved=0-1".to_owned();
            (transport.clone(), format!("{transport};ssrc={:08X}", self.ssrc()))
        } else {
            let transport = format!("RTP/AVP;unicast;client_port={port}-{}", port + 1);
            let answer = format!("{transport};server_port={far}-{};ssrc={:08X}", far + 1, self.ssrc());
            (transport, answer)
        };
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=camera {1}\r\nt=0 0\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\n\
             a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id=42C01E;\
             sprop-parameter-sets=Z0LAHtkAoC/5cBEAAAMAAQAAAwAeDxYuSA==,aMuDyyA=\r\na=control:track1\r\n",
            self.control.source.0, self.number
        );
        let body = format!(
            "Content-Base: {url}/\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        let steps = [
            (
                format!("DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n"),
                format!("CSeq: 1\r\n{body}"),
            ),
            (
                format!("SETUP {url}/track1 RTSP/1.0\r\nCSeq: 2\r\nTransport: {ask}\r\n\r\n"),
                format!("CSeq: 2\r\nSession: {session};timeout=60\r\nTransport: {give}\r\n\r\n"),
            ),
            (
                format!("PLAY {url} RTSP/1.0\r\nCSeq: 3\r\nSession: {session}\r\nRange: npt=0.000-\r\n\r\n"),
                format!(
                    "CSeq: 3\r\nSession: {session}\r\nRTP-Info: url={url}/track1;seq={};rtptime=0\r\n\r\n",
                    self.rtp_seq
                ),
            ),
        ];
        for (question, answer) in steps {
            time += 1_000_000;
            self.vms_says(out, time, flag::PSH | flag::ACK, question.as_bytes())?;
            self.camera_says(
                out,
                time + 400_000,
                flag::PSH | flag::ACK,
                format!("RTSP/1.0 200 OK\r\n{answer}").as_bytes(),
            )?;
        }
        Ok(())
    }

    fn ssrc(&self) -> u32 {
        0x7a00_0000 + self.number
    }

    /// One access unit: parameter sets and a key frame of three times as many packets, or a picture of `options.pieces`.
    pub fn access_unit(
        &mut self,
        out: &mut impl Sink,
        options: &Options,
        index: u64,
        noise: &[u8],
        time: u64,
    ) -> io::Result<()> {
        let key = index == 0 || (index + u64::from(self.number)).is_multiple_of(GOP);
        let pieces = if key { 3 * options.pieces } else { options.pieces };
        let timestamp = (index * 3600) as u32;
        let mut time = time;
        if key {
            self.rtp(out, options, false, timestamp, &[SPS], &mut time)?;
            self.rtp(out, options, false, timestamp, &[PPS], &mut time)?;
        }
        let (indicator, kind) = if key { (0x7c, 5) } else { (0x5c, 1) };
        for piece in 0..pieces {
            let last = piece == pieces - 1;
            let head = [indicator, kind | u8::from(piece == 0) << 7 | u8::from(last) << 6];
            let from = ((index * 31 + piece * 7 + u64::from(self.number)) % 4096) as usize;
            // The first bits of a slice: first_mb_in_slice 0, slice_type 7 (I) or 5 (P).
            let slice: &[u8] = if piece > 0 {
                &[]
            } else if key {
                &[0x88, 0x84]
            } else {
                &[0x9a, 0x02]
            };
            let tail = if options.stamped { stamp::LEN } else { 0 };
            let body = &noise[from..from + RTP_BYTES - 12 - 2 - slice.len() - tail];
            if options.stamped {
                self.rtp(out, options, last, timestamp, &[&head, slice, body, &stamp::now()], &mut time)?;
            } else {
                self.rtp(out, options, last, timestamp, &[&head, slice, body], &mut time)?;
            }
        }
        if options.tcp && !self.pending.is_empty() {
            let rest = std::mem::take(&mut self.pending);
            self.segment(out, options, time, flag::PSH | flag::ACK, &rest)?;
        }
        Ok(())
    }

    fn rtp(
        &mut self,
        out: &mut impl Sink,
        options: &Options,
        marker: bool,
        timestamp: u32,
        payload: &[&[u8]],
        time: &mut u64,
    ) -> io::Result<()> {
        let mut packet = Vec::with_capacity(RTP_BYTES);
        frames::rtp(&mut packet, marker, 96, self.rtp_seq, timestamp, self.ssrc());
        self.rtp_seq = self.rtp_seq.wrapping_add(1);
        payload.iter().for_each(|p| packet.extend_from_slice(p));
        *time += 5_000;
        if !options.tcp {
            frames::udp(out.buffer(), self.media, &packet);
            return out.packet(*time);
        }
        self.pending.extend([b'$', 0]);
        self.pending.extend((packet.len() as u16).to_be_bytes());
        self.pending.extend(&packet);
        while self.pending.len() >= SEGMENT {
            let full: Vec<u8> = self.pending.drain(..SEGMENT).collect();
            self.segment(out, options, *time, flag::ACK, &full)?;
        }
        Ok(())
    }

    fn segment(
        &mut self,
        out: &mut impl Sink,
        options: &Options,
        time: u64,
        flags: u8,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.camera_says(out, time, flags, bytes)?;
        self.segments += 1;
        if options.acks > 0 && self.segments.is_multiple_of(options.acks) {
            self.vms_says(out, time + 5_000, flag::ACK, b"")?;
        }
        Ok(())
    }
}

/// Of nanoseconds, as TCP's time stamps count.
fn millis(time: u64) -> u32 {
    (time / 1_000_000) as u32
}

/// The sequence number behind a segment (RFC 9293 section 3.4: SYN counts as one).
fn after(seq: u32, flags: u8, payload: &[u8]) -> u32 {
    seq.wrapping_add(payload.len() as u32 + u32::from(flags & flag::SYN != 0))
}
