//! Cameras on a wire in real time: `lab-camera IF STREAMS SECONDS [udp|tcp] [PACKETS_PER_PICTURE=4]`.
//!
//! Each is a whole RTSP session (DESCRIBE with SDP, SETUP, PLAY) and then 25 pictures a second, each at its own phase; all packets of a
//! picture follow each other at once, as a camera sends them. Each packet says when it was sent. 15 packets a picture are
//! 4 Mbit/s. Prints one line: `sent=N seconds=S`. A picture that is late is sent at once, none is left out.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use tapdeck_benches::camera::{FRAME_NS, Options, Sink, Stream, noise};
use tapdeck_benches::sender::Sender;

/// An interface that takes nothing for so long is gone.
const STUCK_MAX: Duration = Duration::from_secs(2);

/// Frames that wait for the next system call; their buffers are used again.
struct Wire {
    sender: Sender,
    frames: Vec<Vec<u8>>,
    waiting: usize,
    sent: u64,
}

impl Wire {
    fn flush(&mut self) -> io::Result<()> {
        let (mut from, mut stuck) = (0, None);
        while from < self.waiting {
            let taken = self.sender.send(&self.frames[from..self.waiting]);
            from += taken;
            self.sent += taken as u64;
            match taken {
                0 if stuck.get_or_insert_with(Instant::now).elapsed() > STUCK_MAX => {
                    return Err(io::Error::other("the interface takes nothing any more"));
                }
                0 => {}
                _ => stuck = None,
            }
        }
        self.frames[..self.waiting].iter_mut().for_each(Vec::clear);
        self.waiting = 0;
        Ok(())
    }
}

impl Sink for Wire {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.frames[self.waiting]
    }

    fn packet(&mut self, _time_ns: u64) -> io::Result<()> {
        self.waiting += 1;
        if self.waiting == self.frames.len() {
            self.frames.push(Vec::new());
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [interface, count, seconds, rest @ ..] = words.as_slice() else {
        return Err("usage: lab-camera IF STREAMS SECONDS [udp|tcp] [PACKETS_PER_PICTURE=4]".into());
    };
    let (count, seconds) = (count.parse::<u32>()?, seconds.parse()?);
    let tcp = rest.first().is_some_and(|w| w == "tcp");
    let pieces = rest.get(1).map_or(Ok(4), |w| w.parse())?;
    let options = Options { tcp, acks: 2 * u32::from(tcp), pieces, stamped: true };
    let noise = noise();
    let mut wire = Wire { sender: Sender::open(interface)?, frames: vec![Vec::new()], waiting: 0, sent: 0 };
    let mut streams: Vec<Stream> = (1..=count).map(Stream::new).collect();
    for stream in &mut streams {
        stream.dialogue(&mut wire, tcp, 0)?;
        wire.flush()?;
        std::thread::sleep(Duration::from_micros(500));
    }
    let (started, end) = (Instant::now(), Duration::from_secs(seconds));
    let mut index = 0;
    'run: loop {
        for (i, stream) in streams.iter_mut().enumerate() {
            let due = Duration::from_nanos(index * FRAME_NS + FRAME_NS * i as u64 / u64::from(count));
            if due >= end {
                break 'run;
            }
            let early = due.saturating_sub(started.elapsed());
            if early > Duration::ZERO {
                std::thread::sleep(early);
            }
            stream.access_unit(&mut wire, &options, index, &noise, due.as_nanos() as u64)?;
            wire.flush()?;
        }
        index += 1;
    }
    println!("sent={} seconds={:.3}", wire.sent, started.elapsed().as_secs_f64());
    Ok(())
}
