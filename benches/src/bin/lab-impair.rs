//! A forwarder that worsens what passes: loss, reordering, duplicates, VLAN tags. Same seed, same frames: same impairment.
//!
//! `lab-impair IN OUT [loss=PCT] [reorder=PCT] [hold=FRAMES] [dup=PCT] [vlan=ID] [seed=N]`
//!
//! A reordered frame is held back until `hold` later frames have passed, or the link was silent for 50 ms. Prints `ready` when it
//! forwards. At most 64 frames are held. It counts nothing on its way: what went in and out is read at the interfaces.

use std::collections::VecDeque;
use std::error::Error;
use std::time::{Duration, Instant};

use pcap::{Active, Capture, Direction};
use tapdeck_benches::random::Random;

const HELD_MAX: usize = 64;
const SILENCE: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Impairments {
    loss: f64,
    reorder: f64,
    hold: u32,
    dup: f64,
    vlan: Option<u16>,
    seed: u64,
}

impl Impairments {
    fn parse(words: &[String]) -> Result<Self, Box<dyn Error>> {
        let mut all = Impairments { hold: 3, seed: 1, ..Impairments::default() };
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("'{word}' is not KEY=VALUE"))?;
            match key {
                "loss" => all.loss = value.parse()?,
                "reorder" => all.reorder = value.parse()?,
                "hold" => all.hold = value.parse()?,
                "dup" => all.dup = value.parse()?,
                "vlan" => all.vlan = Some(value.parse()?),
                "seed" => all.seed = value.parse()?,
                _ => return Err(format!("unknown impairment '{key}'").into()),
            }
        }
        Ok(all)
    }
}

/// A frame that waits for later ones to pass it.
struct Held {
    frame: Vec<u8>,
    later_frames_left: u32,
}

struct Forwarder {
    out: Capture<Active>,
    impairments: Impairments,
    random: Random,
    held: VecDeque<Held>,
}

impl Forwarder {
    fn send(&mut self, frame: &[u8]) {
        // A full queue on the veth is a loss like any other; the tests that must not lose look at the interface's counters.
        let _ = self.out.sendpacket(frame);
    }

    fn forward(&mut self, frame: &[u8]) {
        let mut frame = frame.to_vec();
        if let Some(id) = self.impairments.vlan {
            frame.splice(12..12, [0x81, 0x00, (id >> 8) as u8, id as u8]);
        }
        if self.random.percent(self.impairments.loss) {
            return;
        }
        if self.held.len() < HELD_MAX && self.random.percent(self.impairments.reorder) {
            self.held.push_back(Held { frame, later_frames_left: self.impairments.hold });
            return;
        }
        self.send(&frame);
        if self.random.percent(self.impairments.dup) {
            self.send(&frame);
        }
        for held in &mut self.held {
            held.later_frames_left = held.later_frames_left.saturating_sub(1);
        }
        while self.held.front().is_some_and(|h| h.later_frames_left == 0) {
            let due = self.held.pop_front().expect("looked at it just now");
            self.send(&due.frame);
        }
    }

    fn release_all(&mut self) {
        while let Some(held) = self.held.pop_front() {
            self.send(&held.frame);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [input, output, rest @ ..] = words.as_slice() else {
        return Err(
            "usage: lab-impair IN OUT [loss=PCT] [reorder=PCT] [hold=FRAMES] [dup=PCT] [vlan=ID] [seed=N]"
                .into(),
        );
    };
    let impairments = Impairments::parse(rest)?;
    // Immediate mode: frames are handed over one by one, as they come; the rates of the lab are far below what that costs.
    let open = |name: &str| -> Result<Capture<Active>, pcap::Error> {
        Capture::from_device(name)?
            .promisc(true)
            .immediate_mode(true)
            .snaplen(65535)
            .buffer_size(64 << 20)
            .timeout(SILENCE.as_millis() as i32)
            .open()
    };
    let source = open(input)?;
    source.direction(Direction::In)?;
    let mut source = source.setnonblock()?;
    let random = Random::new(impairments.seed);
    let mut forwarder = Forwarder { out: open(output)?, impairments, random, held: VecDeque::new() };
    println!("ready");
    // By the clock: on a busy machine a sleep of a millisecond takes several.
    let mut last = Instant::now();
    loop {
        match source.next_packet() {
            Ok(packet) if packet.data.len() >= 14 => {
                last = Instant::now();
                let frame = packet.data.to_vec();
                forwarder.forward(&frame);
            }
            Ok(_) => {}
            Err(pcap::Error::TimeoutExpired | pcap::Error::NoMorePackets) => {
                if last.elapsed() >= SILENCE {
                    forwarder.release_all();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
