//! Paced RTP-like UDP frames: `lab-blast IF PACKETS_PER_SECOND(0 = top speed) SECONDS [FRAME_BYTES=1200] [FLOWS=64]`.
//!
//! Prints one line: `sent=N seconds=S`. Each flow has its own ports, SSRC and continuous sequence numbers, so a reader can tell what is
//! missing; payloads are H.264 FU-A fragments with a marker on each eighth.

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tapdeck_benches::frames::{self, Ends};
use tapdeck_benches::random::Random;
use tapdeck_benches::sender::{BATCH, Sender};

const RTP_AT: usize = 14 + 20 + 8;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: u64| words.get(i).map_or(Ok(default), |w| w.parse::<u64>());
    let Some(interface) = words.first() else {
        return Err(
            "usage: lab-blast IF PACKETS_PER_SECOND(0 = top speed) SECONDS [FRAME_BYTES=1200] [FLOWS=64]"
                .into(),
        );
    };
    let (rate, seconds, size, flows) =
        (number(1, 0)?, number(2, 5)?, number(3, 1200)? as usize, number(4, 64)? as u16);
    let sender = Sender::open(interface)?;
    let mut random = Random::new(7);
    let mut frames: Vec<Vec<u8>> = (0..BATCH).map(|_| template(&mut random, size)).collect();
    let mut sequences = vec![0u16; flows as usize];
    let (mut sent, mut flow) = (0u64, 0u16);
    let started = Instant::now();
    let end = Duration::from_secs(seconds);
    let mut next = 0; // frames[..next] were not taken by the kernel and are sent again
    while started.elapsed() < end {
        if let Some(due) = (sent * 1_000_000_000).checked_div(rate).map(Duration::from_nanos) {
            let early = due.saturating_sub(started.elapsed());
            if early > Duration::from_micros(60) {
                std::thread::sleep(early - Duration::from_micros(50));
            }
            while started.elapsed() < due {
                std::hint::spin_loop();
            }
        }
        for frame in frames.iter_mut().skip(next) {
            stamp(frame, flow, sequences[flow as usize]);
            sequences[flow as usize] = sequences[flow as usize].wrapping_add(1);
            flow = (flow + 1) % flows;
        }
        let taken = sender.send(&frames);
        frames.rotate_left(taken);
        next = BATCH - taken;
        sent += taken as u64;
    }
    println!("sent={sent} seconds={:.3}", started.elapsed().as_secs_f64());
    Ok(())
}

fn template(random: &mut Random, size: usize) -> Vec<u8> {
    let mut payload = Vec::new();
    frames::rtp(&mut payload, false, 96, 0, 0, 0);
    payload.extend([0x7c, 0x01]);
    let from = payload.len();
    payload.resize(size - RTP_AT, 0);
    random.fill(&mut payload[from..]);
    let ends =
        Ends { source: (Ipv4Addr::new(198, 18, 1, 11), 0), destination: (Ipv4Addr::new(198, 18, 1, 2), 0) };
    let mut frame = Vec::new();
    frames::udp(&mut frame, ends, &payload);
    frame
}

fn stamp(frame: &mut [u8], flow: u16, sequence: u16) {
    frame[34..36].copy_from_slice(&(20_000 + 2 * flow).to_be_bytes());
    frame[36..38].copy_from_slice(&(30_000 + 2 * flow).to_be_bytes());
    let last = sequence % 8 == 7;
    frame[RTP_AT + 1] = 96 | u8::from(last) << 7;
    frame[RTP_AT + 2..RTP_AT + 4].copy_from_slice(&sequence.to_be_bytes());
    frame[RTP_AT + 4..RTP_AT + 8].copy_from_slice(&(u32::from(sequence / 8) * 3600).to_be_bytes());
    frame[RTP_AT + 8..RTP_AT + 12].copy_from_slice(&(0x1000_0000 + u32::from(flow)).to_be_bytes());
    frame[RTP_AT + 13] = match sequence % 8 {
        0 => 0x81,
        7 => 0x41,
        _ => 0x01,
    };
}
