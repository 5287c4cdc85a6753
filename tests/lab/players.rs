//! Real clients: ffmpeg, GStreamer, live555.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::nal::{self, Codec};
use super::program::{finish, text};

const PATIENCE: Duration = Duration::from_secs(60);

/// Decodes with ffmpeg, strictly; returns one MD5 a frame. What ffmpeg complains about fails the test.
pub fn frames(input: &[&str]) -> Vec<String> {
    frames_of(spawn_frames(&mut Command::new("ffmpeg"), input))
}

/// The frames of a recorded elementary stream, from its first key frame on.
pub fn recorded_frames(file: &Path, codec: Codec, scratch: &Path) -> Vec<String> {
    let from_key = scratch.join("from-key");
    nal::from_key_frame(file, codec, &from_key);
    let format = if codec == Codec::H264 { "h264" } else { "hevc" };
    frames(&["-f", format, "-i", from_key.to_str().expect("test paths are text")])
}

/// (`-strict 1` waits for the B-frames that a parameter set allows instead of guessing. `setpts=N` numbers the frames: framemd5 refuses what some cameras do to time, and only the pictures are compared.)
///
/// Starts ffmpeg as `command` (which may enter a namespace first).
pub fn spawn_frames(command: &mut Command, input: &[&str]) -> Child {
    command.args(["-nostdin", "-v", "error", "-xerror", "-strict", "1"]).args(input);
    command.args(["-map", "0:v:0", "-vf", "setpts=N", "-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ffmpeg starts")
}

pub fn frames_of(ffmpeg: Child) -> Vec<String> {
    let output = finish(ffmpeg, PATIENCE);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "ffmpeg ended with {}: {said}", output.status);
    let lines = text(&output.stdout);
    lines
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.rsplit(',').next())
        .map(|l| l.trim().to_owned())
        .collect()
}

/// Lets GStreamer's rtspsrc receive, depacketise and write Annex B until the server ends the stream.
pub fn gstreamer(url: &str, protocol: &str, codec: &str, to: &Path) {
    let depay = format!("rtp{codec}depay");
    let caps = format!("video/x-{codec},stream-format=byte-stream,alignment=nal");
    let mut command = Command::new("gst-launch-1.0");
    command.args([
        "-q",
        "rtspsrc",
        &format!("location={url}"),
        &format!("protocols={protocol}"),
        "latency=300",
        "!",
    ]);
    command.args([&depay, "!", &caps, "!", "filesink", &format!("location={}", to.display())]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gst-launch-1.0 starts");
    let output = finish(child, PATIENCE);
    assert!(output.status.success(), "GStreamer: {}{}", text(&output.stdout), text(&output.stderr));
}
