//! Frames and dialogues made for the tests.

use capture::CaptureTime;
use etherparse::{PacketBuilder, SingleVlanHeader, VlanId};
use std::net::{Ipv4Addr, SocketAddrV4};

pub const CAMERA: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 11);
pub const VMS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 50);

/// A captured frame.
#[derive(Clone, Debug)]
pub struct Captured {
    pub time: CaptureTime,
    pub tap: u32,
    pub data: Vec<u8>,
}

/// Frames in the order of capture, and a clock.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    pub frames: Vec<Captured>,
    pub now_ms: i64,
}

/// The camera's end is even numbered in time: nothing depends on it, all is deterministic.
fn builder(
    src: SocketAddrV4,
    dst: SocketAddrV4,
    vlan: Option<u16>,
) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let ethernet = PacketBuilder::ethernet2(
        [2, 0, 0, 0, 0, src.ip().octets()[3]],
        [2, 0, 0, 0, 0, dst.ip().octets()[3]],
    );
    let (s, d) = (src.ip().octets(), dst.ip().octets());
    match vlan {
        Some(id) => {
            let id = VlanId::try_new(id).expect("a test's VLAN id");
            ethernet
                .vlan(etherparse::VlanHeader::Single(SingleVlanHeader { vlan_id: id, ..Default::default() }))
                .ipv4(s, d, 64)
        }
        None => ethernet.ipv4(s, d, 64),
    }
}

impl Wire {
    pub fn at(now_ms: i64) -> Self {
        Self { frames: Vec::new(), now_ms }
    }

    pub fn wait(&mut self, ms: i64) {
        self.now_ms += ms;
    }

    fn push(&mut self, data: Vec<u8>) {
        self.now_ms += 1;
        self.frames.push(Captured { time: CaptureTime::from_nanos(self.now_ms * 1_000_000), tap: 1, data });
    }

    pub fn udp(&mut self, src: SocketAddrV4, dst: SocketAddrV4, payload: &[u8]) {
        self.udp_in(src, dst, None, payload);
    }

    pub fn udp_in(&mut self, src: SocketAddrV4, dst: SocketAddrV4, vlan: Option<u16>, payload: &[u8]) {
        let mut data = Vec::new();
        builder(src, dst, vlan).udp(src.port(), dst.port()).write(&mut data, payload).expect("a frame");
        self.push(data);
    }

    pub fn tcp(
        &mut self,
        src: SocketAddrV4,
        dst: SocketAddrV4,
        seq: u32,
        ack: u32,
        flags: &str,
        payload: &[u8],
    ) {
        let mut step = builder(src, dst, None).tcp(src.port(), dst.port(), seq, 64_000);
        for flag in flags.chars() {
            step = match flag {
                'S' => step.syn(),
                'A' => step.ack(ack),
                'P' => step.psh(),
                'F' => step.fin(),
                'R' => step.rst(),
                _ => step,
            };
        }
        let mut data = Vec::new();
        step.write(&mut data, payload).expect("a frame");
        self.push(data);
    }
}

/// A TCP connection that speaks.
#[derive(Clone, Debug)]
pub struct Talk {
    pub client: SocketAddrV4,
    pub server: SocketAddrV4,
    pub client_seq: u32,
    pub server_seq: u32,
    cseq: u32,
}

impl Talk {
    /// With its three-way handshake.
    pub fn open(w: &mut Wire, client: SocketAddrV4, server: SocketAddrV4) -> Self {
        let (c, s) = (1_000, 0xffff_ff00);
        w.tcp(client, server, c, 0, "S", &[]);
        w.tcp(server, client, s, c + 1, "SA", &[]);
        w.tcp(client, server, c + 1, s + 1, "A", &[]);
        Self { client, server, client_seq: c + 1, server_seq: s + 1, cseq: 0 }
    }

    /// The client sends.
    pub fn ask(&mut self, w: &mut Wire, bytes: &[u8]) {
        w.tcp(self.client, self.server, self.client_seq, self.server_seq, "PA", bytes);
        self.client_seq = self.client_seq.wrapping_add(bytes.len() as u32);
    }

    /// The server sends, in segments of at most `segment` bytes, each acknowledged.
    pub fn answer(&mut self, w: &mut Wire, bytes: &[u8], segment: usize) {
        for part in bytes.chunks(segment.max(1)) {
            w.tcp(self.server, self.client, self.server_seq, self.client_seq, "PA", part);
            self.server_seq = self.server_seq.wrapping_add(part.len() as u32);
            w.tcp(self.client, self.server, self.client_seq, self.server_seq, "A", &[]);
        }
    }

    /// A request and its answer.
    pub fn exchange(&mut self, w: &mut Wire, method: &str, uri: &str, asks: &str, answers: &str, body: &str) {
        self.cseq += 1;
        let n = self.cseq;
        let request = format!("{method} {uri} RTSP/1.0\r\nCSeq: {n}\r\nUser-Agent: test vms\r\n{asks}\r\n");
        self.ask(w, request.as_bytes());
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let response =
            format!("RTSP/1.0 200 OK\r\nCSeq: {n}\r\nServer: test camera\r\n{answers}{length}\r\n{body}");
        self.answer(w, response.as_bytes(), 1448);
    }

    /// OPTIONS and DESCRIBE with pictures and sound.
    pub fn describe(&mut self, w: &mut Wire) {
        let uri = self.uri();
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 {CAMERA}\r\ns=test\r\nt=0 0\r\na=control:*\r\n\
             m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:trackID=0\r\n\
             m=audio 0 RTP/AVP 0\r\na=control:trackID=1\r\n"
        );
        self.exchange(w, "OPTIONS", &uri, "", "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", "");
        let head = format!("Content-Type: application/sdp\r\nContent-Base: {uri}/\r\n");
        self.exchange(w, "DESCRIBE", &uri, "Accept: application/sdp\r\n", &head, &sdp);
    }

    /// SETUP of a track.
    pub fn set_up(&mut self, w: &mut Wire, track: u16, asked: &str, granted: &str) {
        let uri = format!("{}/trackID={track}", self.uri());
        let (asks, answers) =
            (format!("Transport: {asked}\r\n"), format!("Transport: {granted}\r\nSession: 4711\r\n"));
        self.exchange(w, "SETUP", &uri, &asks, &answers, "");
    }

    pub fn play(&mut self, w: &mut Wire) {
        let uri = self.uri();
        self.exchange(w, "PLAY", &uri, "Session: 4711\r\n", "Session: 4711\r\n", "");
    }

    pub fn tear_down(&mut self, w: &mut Wire) {
        let uri = self.uri();
        self.exchange(w, "TEARDOWN", &uri, "Session: 4711\r\n", "", "");
        w.tcp(self.client, self.server, self.client_seq, self.server_seq, "FA", &[]);
        self.client_seq = self.client_seq.wrapping_add(1);
        w.tcp(self.server, self.client, self.server_seq, self.client_seq, "FA", &[]);
    }

    /// TEARDOWN, and the client resets the connection.
    pub fn reset(&mut self, w: &mut Wire) {
        let uri = self.uri();
        self.exchange(w, "TEARDOWN", &uri, "Session: 4711\r\n", "", "");
        w.tcp(self.client, self.server, self.client_seq, self.server_seq, "AR", &[]);
    }

    fn uri(&self) -> String {
        format!("rtsp://{}/cam", self.server)
    }
}

/// An RTP packet.
pub fn rtp(pt: u8, ssrc: u32, seq: u16, timestamp: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
    let mut p = vec![0x80, pt | if marker { 0x80 } else { 0 }];
    p.extend_from_slice(&seq.to_be_bytes());
    p.extend_from_slice(&timestamp.to_be_bytes());
    p.extend_from_slice(&ssrc.to_be_bytes());
    p.extend_from_slice(payload);
    p
}

/// Interleaved.
pub fn framed(channel: u8, packet: &[u8]) -> Vec<u8> {
    let mut out = vec![b'$', channel];
    out.extend_from_slice(&(packet.len() as u16).to_be_bytes());
    out.extend_from_slice(packet);
    out
}

/// RTP packets of H.264 pictures: every tenth is an IDR with its parameter sets, the others are in two fragments.
pub fn pictures(ssrc: u32, first: u16, count: u16) -> Vec<Vec<u8>> {
    let (mut out, mut seq) = (Vec::new(), first);
    let mut add = |out: &mut Vec<Vec<u8>>, n: u16, marker, payload: &[u8]| {
        out.push(rtp(96, ssrc, seq, u32::from(n) * 3000, marker, payload));
        seq = seq.wrapping_add(1);
    };
    for n in 0..count {
        let kind = if n % 10 == 0 { 5 } else { 1 };
        if kind == 5 {
            add(&mut out, n, false, &[0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x47, 0xfe, 0xc8]);
            add(&mut out, n, false, &[0x68, 0xce, 0x3c, 0x80]);
        }
        let filler: Vec<u8> = (0..400u32).map(|i| (i * 7 + u32::from(n)) as u8 | 1).collect();
        add(&mut out, n, false, &[&[0x7c, 0x80 | kind, 0x88][..], &filler].concat());
        add(&mut out, n, true, &[&[0x7c, 0x40 | kind][..], &filler[..200]].concat());
    }
    out
}
