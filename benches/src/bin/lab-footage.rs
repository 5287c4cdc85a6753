//! Makes a capture file of many cameras: `lab-footage FILE MEGABYTES [STREAMS=200] [tcp|udp] [ACKS=0] [START_SECONDS=1767225600]`.
//!
//! Each stream is a whole RTSP session (DESCRIBE with SDP, SETUP, PLAY) and then H.264 in 1,300-byte RTP packets, 25 frames a
//! second, a key frame with parameter sets every 50, all streams interleaved in time as on a mirror port. Over TCP the interleaved
//! frames fill segments of 1,448 bytes without regard to where packets begin, as a camera's kernel does it. ACKS=N adds the VMS's
//! acknowledgement after each N segments. Everything is seeded: the same arguments, the same bytes. Writes about 1 GB/s.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};

use tapdeck_benches::camera::{FRAME_NS, Options, Sink, Stream, noise};

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
}

impl Sink for Output {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.frame
    }

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
    let options = Options { tcp, acks, pieces: 4, stamped: false };
    let start = rest.get(3).map_or(Ok(1_767_225_600), |w| w.parse::<u64>())? * 1_000_000_000;
    let noise = noise();
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
