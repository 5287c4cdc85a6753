//! Nanoseconds a packet of the pure path: dissection, TCP reassembly, interleaved framing; and of the UDP path with sequence
//! accounting. `cargo run --release -p tapdeck-reconstruct --example wire_bench`

use capture::{CaptureTime, LinkType, ShardId};
use reconstruct::interleaved::{Interleaved, InterleavedEvent};
use reconstruct::recognise::Recogniser;
use reconstruct::rtp::RtpPacket;
use reconstruct::sequence::SequenceTracker;
use reconstruct::span::{Location, Slice};
use reconstruct::tcp::{Connection, Segment, Side, TcpEvent, TcpLimits};
use reconstruct::wire::{Transport, dissect_record, offset_in};
use std::hint::black_box;
use std::time::Instant;

const SEGMENT: usize = 1448;
const FLOWS: usize = 200;
const ROUNDS: usize = 40;

fn main() {
    let rtp_lens = [1400, 1400, 1400, 700, 1400, 200];
    let streams: Vec<Vec<u8>> = (0..FLOWS).map(|_| interleaved_stream(&rtp_lens, 200_000)).collect();
    let packets: Vec<(usize, Vec<u8>)> = (0..200_000 / SEGMENT)
        .flat_map(|n| streams.iter().enumerate().map(move |(flow, s)| (flow, tcp_packet(flow, n, s))))
        .collect();
    report("TCP: dissect", packets.len(), || {
        for (_, p) in &packets {
            black_box(dissect_record(LinkType::ETHERNET, p, p.len() as u32)).ok();
        }
    });
    let mut frames = 0;
    report("TCP: dissect + reassembly", packets.len(), || frames += tcp_path(&packets, false));
    report("TCP: dissect + reassembly + framing", packets.len(), || frames += tcp_path(&packets, true));
    println!("{:.2} frames a packet", frames as f64 / packets.len() as f64 / ROUNDS as f64);
    let packets: Vec<(usize, Vec<u8>)> =
        (0..200u16).flat_map(|n| (0..FLOWS).map(move |flow| (flow, udp_packet(flow, n)))).collect();
    report("UDP: dissect + RTP + sequence", packets.len(), || udp_path(&packets, false));
    report("UDP: dissect + recognise + RTP + sequence", packets.len(), || udp_path(&packets, true));
}

fn report(name: &str, packets: usize, mut run: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        run();
        best = best.min(begin.elapsed().as_nanos() as f64 / packets as f64);
    }
    println!("{name}: {best:.1} ns a packet");
}

fn tcp_path(packets: &[(usize, Vec<u8>)], framing: bool) -> u64 {
    let limits = TcpLimits::default();
    let mut state: Vec<(Connection, Interleaved)> = (0..FLOWS).map(|_| Default::default()).collect();
    let mut frames = 0;
    for (n, (flow, p)) in packets.iter().enumerate() {
        let Ok(d) = dissect_record(LinkType::ETHERNET, p, p.len() as u32) else { continue };
        let Transport::Tcp { seq, ack, flags, payload, payload_len_on_wire, .. } = d.transport else {
            continue;
        };
        let at = Location {
            shard: ShardId(1),
            record: n as u64 * 1500,
            entry: n as u32,
            offset: offset_in(p, payload),
        };
        let payload = &Slice { bytes: payload, at, time: CaptureTime::from_nanos(n as i64) };
        let segment = Segment { seq, ack, flags, payload, len_on_wire: payload_len_on_wire };
        let (connection, interleaved) = &mut state[*flow];
        connection.handle_segment(&limits, Side::A, &segment, &mut |_, event| match *event {
            TcpEvent::Data(data) if framing => {
                interleaved.handle_data(data, &mut |e| {
                    if let InterleavedEvent::Frame(f) = *e {
                        frames += 1;
                        black_box(f);
                    }
                });
            }
            other => {
                black_box(other);
            }
        });
    }
    frames
}

fn udp_path(packets: &[(usize, Vec<u8>)], recognise: bool) {
    let mut state: Vec<(Recogniser, SequenceTracker)> = (0..FLOWS).map(|_| Default::default()).collect();
    for (n, (flow, p)) in packets.iter().enumerate() {
        let Ok(d) = dissect_record(LinkType::ETHERNET, p, p.len() as u32) else { continue };
        let Transport::Udp { payload, payload_len_on_wire, .. } = d.transport else { continue };
        let (recogniser, tracker) = &mut state[*flow];
        if recognise {
            black_box(recogniser.handle(
                CaptureTime::from_nanos(n as i64),
                payload,
                payload_len_on_wire as usize,
            ));
        }
        let Ok(rtp) = RtpPacket::parse(payload, payload_len_on_wire as usize) else { continue };
        black_box(tracker.handle(CaptureTime::from_nanos(n as i64), rtp.sequence, rtp.timestamp));
    }
}

fn rtp(n: u16, len: usize) -> Vec<u8> {
    let mut p = vec![0x80, 96];
    p.extend_from_slice(&n.to_be_bytes());
    p.extend_from_slice(&(u32::from(n) * 3000).to_be_bytes());
    p.resize(len, 7);
    p
}

fn interleaved_stream(lens: &[usize], total: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    for (n, len) in lens.iter().cycle().enumerate() {
        if stream.len() > total {
            break;
        }
        stream.extend_from_slice(&[b'$', 0, (len >> 8) as u8, *len as u8]);
        stream.extend(rtp(n as u16, *len));
    }
    stream
}

fn headers(proto: u8, flow: usize, payload: usize, transport: &[u8]) -> Vec<u8> {
    let mut p = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    p.extend_from_slice(&((20 + transport.len() + payload) as u16).to_be_bytes());
    p.extend_from_slice(&[0, 0, 0x40, 0, 64, proto, 0, 0, 198, 18, 0, flow as u8, 198, 18, 1, 1]);
    p.extend_from_slice(transport);
    p
}

fn tcp_packet(flow: usize, n: usize, stream: &[u8]) -> Vec<u8> {
    let payload = &stream[n * SEGMENT..][..SEGMENT];
    let mut transport = vec![2, 0x2a, 0xc3, 0x50];
    transport.extend_from_slice(&((n * SEGMENT) as u32).to_be_bytes());
    transport
        .extend_from_slice(&[0, 0, 0, 1, 0x80, 0x10, 4, 0, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut p = headers(6, flow, payload.len(), &transport);
    p.extend_from_slice(payload);
    p
}

fn udp_packet(flow: usize, n: u16) -> Vec<u8> {
    let payload = rtp(n, 1300);
    let mut transport = vec![0x13, 0x88, 0x13, 0x8a];
    transport.extend_from_slice(&(payload.len() as u16 + 8).to_be_bytes());
    transport.extend_from_slice(&[0, 0]);
    let mut p = headers(17, flow, payload.len(), &transport);
    p.extend_from_slice(&payload);
    p
}
