//! Sound: what tshark reads off a capture, decoded by ffmpeg without tapdeck and without RTP; and the comparison with what a player hears.

use std::path::Path;
use std::process::Command;

use super::players::samples;
use super::program::{path_text, text};

/// Frames of a decoder's that depend on where it began: AAC's overlap.
const WARM_UP: usize = 2048;

/// The payloads of a capture's RTP packets of one type, in the order of capture.
fn payloads(capture: &Path, payload_type: u8) -> Vec<Vec<u8>> {
    let filter = format!("rtp.p_type == {payload_type}");
    let mut tshark = Command::new("tshark");
    tshark.args(["-r", path_text(capture), "-Y", &filter, "-T", "fields"]);
    let output = tshark.args(["-e", "rtp.p_type", "-e", "rtp.payload"]).output().expect("tshark is there");
    assert!(output.status.success(), "tshark: {}", text(&output.stderr));
    let mut all = Vec::new();
    for line in text(&output.stdout).lines() {
        // One line a frame; with RTP in TCP a frame may hold several packets, video among them.
        let (types, bytes) = line.split_once('\t').expect("two fields");
        let packets = types.split(',').zip(bytes.split(','));
        all.extend(packets.filter(|(t, _)| *t == payload_type.to_string()).map(|(_, hex)| from_hex(hex)));
    }
    all
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks_exact(2).map(|d| d[0] << 4 | d[1]).collect()
}

/// The samples of a capture's PCMU, mono.
pub fn pcmu(capture: &Path, scratch: &Path) -> Vec<i16> {
    let file = scratch.join("truth.ul");
    std::fs::write(&file, payloads(capture, 0).concat()).expect("a test's own directory");
    samples(&["-f", "mulaw", "-ar", "8000", "-ac", "1", "-i", path_text(&file)], &[])
}

/// The samples of a capture's AAC (RFC 3640, AAC-hbr, AAC-LC at 16 kHz, mono): each access unit gets a header of ADTS.
pub fn aac(capture: &Path, scratch: &Path) -> Vec<i16> {
    let mut adts = Vec::new();
    for payload in payloads(capture, 97) {
        let headers = usize::from(u16::from_be_bytes([payload[0], payload[1]])) / 8;
        let (mut sizes, mut units) = (&payload[2..2 + headers], &payload[2 + headers..]);
        while let [high, low, rest @ ..] = sizes {
            let (unit, others) = units.split_at(usize::from(u16::from_be_bytes([*high, *low]) >> 3));
            let len = unit.len() + 7;
            let length = [0x40 | (len >> 11) as u8, (len >> 3) as u8, (len << 5) as u8 | 0x1f];
            adts.extend([&[0xff, 0xf1, 0x60][..], &length, &[0xfc], unit].concat());
            (sizes, units) = (rest, others);
        }
    }
    let file = scratch.join("truth.aac");
    std::fs::write(&file, adts).expect("a test's own directory");
    samples(&["-f", "aac", "-i", path_text(&file)], &[])
}

/// Asserts that what was heard is one unbroken part of what was sent, and nearly all of it: the sound begins with the picture.
pub fn assert_same_sound(what: &str, heard: &[i16], sent: &[i16]) {
    assert!(heard.iter().any(|s| s.unsigned_abs() > 1000), "{what}: silence");
    assert!(heard.len() * 10 >= sent.len() * 9, "{what}: {} of {} samples", heard.len(), sent.len());
    let rest = &heard[WARM_UP..];
    assert!(sent.windows(rest.len()).any(|w| w == rest), "{what}: other samples than those that were sent");
}
