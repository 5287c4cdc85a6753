//! Makes a capture file of many cameras: `lab-footage FILE MEGABYTES [STREAMS=200] [tcp|udp] [ACKS=0] [START_SECONDS=1767225600]`.
//!
//! Each stream is a whole RTSP session (DESCRIBE with SDP, SETUP, PLAY) and then H.264 in 1,300-byte RTP packets, 25 frames a
//! second, a key frame with parameter sets every 50, all streams interleaved in time as on a mirror port. Over TCP the interleaved
//! frames fill segments of 1,448 bytes without regard to where packets begin, as a camera's kernel does it. ACKS=N adds the VMS's
//! acknowledgement after each N segments. Everything is seeded: the same arguments, the same bytes. Writes about 1 GB/s.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::Ipv4Addr;

use tapdeck_benches::frames::{self, Ends, PPS, SPS, flag};
use tapdeck_benches::random::Random;

const RTP_BYTES: usize = 1300;
const SEGMENT: usize = 1448;
const FRAME_NS: u64 = 40_000_000;
const GOP: u64 = 50;

struct Output {
    file: BufWriter<File>,
    written: u64,
    frame: Vec<u8>,
}

impl Output {
    fn create(path: &str) -> std::io::Result<Self> {
        let mut file = BufWriter::with_capacity(4 << 20, File::create(path)?);
        file.write_all(&0xa1b2_3c4d_u32.to_le_bytes())?;
        file.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0])?;
        Ok(Output { file, written: 24, frame: Vec::with_capacity(2048) })
    }

    /// Writes what stands in `self.frame` as a packet captured at `time_ns`.
    fn packet(&mut self, time_ns: u64) -> std::io::Result<()> {
        let len = self.frame.len() as u32;
        for word in [(time_ns / 1_000_000_000) as u32, (time_ns % 1_000_000_000) as u32, len, len] {
            self.file.write_all(&word.to_le_bytes())?;
        }
        self.file.write_all(&self.frame)?;
        self.written += 16 + u64::from(len);
        self.frame.clear();
        Ok(())
    }
}

struct Stream {
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
    fn new(number: u32) -> Self {
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

    fn from_camera(&mut self, out: &mut Output, time: u64, flags: u8, payload: &[u8]) -> std::io::Result<()> {
        frames::tcp(
            &mut out.frame,
            self.control,
            self.seq,
            self.ack,
            flags,
            (time / 1_000_000) as u32,
            payload,
        );
        self.seq = self.seq.wrapping_add(payload.len() as u32 + u32::from(flags & flag::SYN != 0));
        out.packet(time)
    }

    fn from_vms(&mut self, out: &mut Output, time: u64, flags: u8, payload: &[u8]) -> std::io::Result<()> {
        frames::tcp(
            &mut out.frame,
            self.control.reversed(),
            self.ack,
            self.seq,
            flags,
            (time / 1_000_000) as u32,
            payload,
        );
        self.ack = self.ack.wrapping_add(payload.len() as u32 + u32::from(flags & flag::SYN != 0));
        out.packet(time)
    }

    /// Handshake and dialogue, a millisecond a step.
    fn dialogue(&mut self, out: &mut Output, tcp: bool, mut time: u64) -> std::io::Result<()> {
        self.from_vms(out, time, flag::SYN, b"")?;
        self.from_camera(out, time + 300_000, flag::SYN | flag::ACK, b"")?;
        self.from_vms(out, time + 500_000, flag::ACK, b"")?;
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
            self.from_vms(out, time, flag::PSH | flag::ACK, question.as_bytes())?;
            self.from_camera(
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

    /// One access unit: parameter sets and 12 packets of a key frame, or 4 packets.
    fn access_unit(
        &mut self,
        out: &mut Output,
        options: &Options,
        index: u64,
        noise: &[u8],
        time: u64,
    ) -> std::io::Result<()> {
        let key = index == 0 || (index + u64::from(self.number)) % GOP == 0;
        let pieces = if key { 12 } else { 4 };
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
            let body = &noise[from..from + RTP_BYTES - 12 - 2 - slice.len()];
            self.rtp(out, options, last, timestamp, &[&head, slice, body], &mut time)?;
        }
        if options.tcp && !self.pending.is_empty() {
            let rest = std::mem::take(&mut self.pending);
            self.segment(out, options, time, flag::PSH | flag::ACK, &rest)?;
        }
        Ok(())
    }

    fn rtp(
        &mut self,
        out: &mut Output,
        options: &Options,
        marker: bool,
        timestamp: u32,
        payload: &[&[u8]],
        time: &mut u64,
    ) -> std::io::Result<()> {
        let mut packet = Vec::with_capacity(RTP_BYTES);
        frames::rtp(&mut packet, marker, 96, self.rtp_seq, timestamp, self.ssrc());
        self.rtp_seq = self.rtp_seq.wrapping_add(1);
        payload.iter().for_each(|p| packet.extend_from_slice(p));
        *time += 5_000;
        if !options.tcp {
            frames::udp(&mut out.frame, self.media, &packet);
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
        out: &mut Output,
        options: &Options,
        time: u64,
        flags: u8,
        bytes: &[u8],
    ) -> std::io::Result<()> {
        self.from_camera(out, time, flags, bytes)?;
        self.segments += 1;
        if options.acks > 0 && self.segments % options.acks == 0 {
            self.from_vms(out, time + 5_000, flag::ACK, b"")?;
        }
        Ok(())
    }
}

struct Options {
    tcp: bool,
    acks: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [path, megabytes, rest @ ..] = words.as_slice() else {
        return Err(
            "usage: lab-footage FILE MEGABYTES [STREAMS=200] [tcp|udp] [ACKS=0] [START_SECONDS]".into()
        );
    };
    let wanted = megabytes.parse::<u64>()? * 1_000_000;
    let count: u32 = rest.first().map_or(Ok(200), |w| w.parse())?;
    let tcp = rest.get(1).is_none_or(|w| w == "tcp");
    let acks = rest.get(2).map_or(Ok(0), |w| w.parse())?;
    let options = Options { tcp, acks };
    let start = rest.get(3).map_or(Ok(1_767_225_600), |w| w.parse::<u64>())? * 1_000_000_000;
    let mut noise = vec![0; 4096 + RTP_BYTES];
    Random::new(3).fill(&mut noise);
    let mut out = Output::create(path)?;
    let mut streams: Vec<Stream> = (1..=count).map(Stream::new).collect();
    for (i, stream) in streams.iter_mut().enumerate() {
        stream.dialogue(&mut out, tcp, start + i as u64 * 5_000_000)?;
    }
    let first = start + u64::from(count) * 5_000_000;
    let mut index = 0;
    while out.written < wanted {
        // Cameras are not in step: each has its own phase within the frame interval, and its own place in the group of pictures.
        for (i, stream) in streams.iter_mut().enumerate() {
            let phase = FRAME_NS * i as u64 / u64::from(count);
            stream.access_unit(&mut out, &options, index, &noise, first + index * FRAME_NS + phase)?;
        }
        index += 1;
    }
    out.file.flush()?;
    println!("streams={count} bytes={} seconds={:.2}", out.written, index as f64 / 25.0);
    Ok(())
}
