//! When frames are presented, told by someone else than tapdeck, and the comparison with what a player shows.

use std::path::Path;
use std::process::Command;

use super::players::{Frame, framemd5};
use super::program::{path_text, text};
use super::topology::packets_of;

/// RTP clocks are rounded once by the camera and once by the player.
const TOLERANCE: i64 = 90;

/// A picture as it stands in a capture: its presentation time in ticks, and when its first packet passed the tap, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub time: i64,
    pub captured: f64,
}

/// An RTP packet as tshark reads it.
struct Packet {
    seq: u16,
    marker: bool,
    sent: Sent,
}

/// The pictures of a capture's only stream of RTP payload type 96, in the order in which they were sent, as tshark reads them. A
/// picture ends with a marker and has its first packet's time: live555's proxy may set its clock in the middle of a picture.
pub fn sent(capture: &Path) -> Vec<Sent> {
    let mut packets = packets(capture);
    let first = packets.first().expect("RTP is in the capture").seq;
    // A mirror may have doubled and reordered them; in a few seconds the numbers do not come half-way around.
    packets.sort_by_key(|p| p.seq.wrapping_sub(first).cast_signed());
    packets.dedup_by_key(|p| p.seq);
    packets.split_inclusive(|p| p.marker).map(|picture| picture[0].sent).collect()
}

fn packets(capture: &Path) -> Vec<Packet> {
    let mut tshark = Command::new("tshark");
    tshark.args([
        "-r",
        path_text(capture),
        "-o",
        "tcp.reassemble_out_of_order:TRUE",
        "-Y",
        "rtp.p_type == 96",
    ]);
    tshark.args(["-T", "fields", "-e", "frame.time_epoch"]);
    tshark.args(["-e", "rtp.p_type", "-e", "rtp.seq", "-e", "rtp.marker", "-e", "rtp.timestamp"]);
    let output = tshark.output().expect("tshark is there");
    assert!(output.status.success(), "tshark: {}", text(&output.stderr));
    let mut packets = Vec::new();
    for line in text(&output.stdout).lines() {
        // One line a frame; with RTP in TCP a frame may hold several packets, and each field has a value for each of them.
        let fields: Vec<Vec<&str>> = line.split('\t').map(|f| f.split(',').collect()).collect();
        let captured: f64 = fields[0][0].parse().expect("a time");
        for i in (0..fields[1].len()).filter(|&i| fields[1][i] == "96") {
            let seq = fields[2][i].parse().expect("a sequence number");
            let time = fields[4][i].parse().expect("ticks");
            packets.push(Packet { seq, marker: fields[3][i] == "1", sent: Sent { time, captured } });
        }
    }
    packets
}

/// Asserts that `seen` shows each picture of the VMS's recording at its time. `sent`: the times of all pictures, in the order in which
/// they were sent, from the same clean point as `seen`'s first. The VMS recorded in that order as well: where it stopped
/// between a picture and the B-frames that are shown before it, `seen` has those in addition, and at no other place.
pub fn assert_same_frames(what: &str, seen: &[Frame], recorded: &[String], sent: &[i64]) {
    assert!(seen.len() <= sent.len(), "{what}: {} frames were sent, {} seen", sent.len(), seen.len());
    let shown = in_order_shown(&sent[..seen.len()]);
    for (i, (frame, time)) in seen.iter().zip(&shown).enumerate() {
        let (ours, theirs) = (frame.time - seen[0].time, time - shown[0]);
        assert!(
            (ours - theirs).abs() <= TOLERANCE,
            "{what}: frame {i} is shown {ours} ticks after the first, the camera said {theirs}"
        );
    }
    let at = seen.iter().position(|f| f.md5 == recorded[0]);
    let at = at.unwrap_or_else(|| panic!("{what}: the VMS's first frame is not among {}", seen.len()));
    assert!(
        at + recorded.len() <= seen.len(),
        "{what}: {} frames seen, the VMS has {}",
        seen.len(),
        recorded.len()
    );
    // What both have: the VMS's pictures. What was sent before the VMS's last picture and is shown before it, the VMS has.
    let theirs = in_order_shown(&sent[at..at + recorded.len()]);
    let mut rest = shown[at..].iter().zip(&seen[at..]);
    for (i, (md5, time)) in recorded.iter().zip(&theirs).enumerate() {
        let found = rest.find(|(shown, _)| *shown == time).map(|(_, frame)| &frame.md5);
        assert_eq!(found, Some(md5), "{what}: the VMS's frame {i} of {}", recorded.len());
    }
}

/// The presentation times of pictures that stand in the order in which they were sent. A picture is shown after those that were sent
/// later but carry an earlier time, if they are near: a step of a second or more is no B-frame but a clock that was set.
fn in_order_shown(sent: &[i64]) -> Vec<i64> {
    let mut shown = Vec::with_capacity(sent.len());
    for steady in sent.chunk_by(|a, b| (b - a).abs() < 90_000) {
        let mut steady = steady.to_vec();
        steady.sort_unstable();
        shown.extend(steady);
    }
    shown
}

/// Asserts that what was seen of a running stream is a part of what the VMS recorded (decoded: `recorded`), with the VMS's times.
/// For streams without B-frames.
pub fn assert_part_of(what: &str, seen: &[Frame], recorded: &[String], vms: &Path) {
    let packets = framemd5(&std::fs::read_to_string(packets_of(vms)).expect("the VMS has written it"));
    assert!(packets.len() >= recorded.len(), "{} packets, {} frames", packets.len(), recorded.len());
    let at = recorded.iter().position(|md5| *md5 == seen[0].md5);
    let at =
        at.unwrap_or_else(|| panic!("{what}: its first frame is not among the VMS's {}", recorded.len()));
    assert!(
        at + seen.len() <= recorded.len(),
        "{what}: {} frames, the VMS has {} from there",
        seen.len(),
        recorded.len() - at
    );
    // The very first packet's time ffmpeg, as VMS, makes up: seen 331 ticks beside what RTP said.
    let base = usize::from(at == 0);
    for (i, frame) in seen.iter().enumerate() {
        assert_eq!(frame.md5, recorded[at + i], "{what}: frame {i} is another picture than the VMS's");
        let (ours, theirs) = (frame.time - seen[base].time, packets[at + i].time - packets[at + base].time);
        assert!(
            i < base || (ours - theirs).abs() <= TOLERANCE,
            "{what}: frame {i} is shown {ours} ticks after frame {base}, the VMS has it after {theirs}"
        );
    }
}
