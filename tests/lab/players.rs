//! Real clients: ffmpeg, GStreamer. What ffmpeg shows is compared as frames, each with its presentation time.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::nal::{self, Codec};
use super::program::{finish, path_text, text};

const PATIENCE: Duration = Duration::from_secs(60);

/// A picture as a player shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// When it is presented, in ticks of 1/90,000 s from an origin of the player's own.
    pub time: i64,
    pub md5: String,
}

pub fn pictures(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|f| f.md5.as_str()).collect()
}

/// Decodes with ffmpeg, strictly, until the input ends. What ffmpeg complains about fails the test.
///
/// `nofillin` leaves the presentation times as RTP carries them; else ffmpeg invents decoding times and, where there are B-frames,
/// takes some of those instead. (On a live stream it needs `-fpsprobesize 0`, else ffmpeg
/// looks for a frame rate for ever.)
pub fn frames(input: &[&str]) -> Vec<Frame> {
    let input: Vec<_> = ["-fflags", "nofillin"].iter().chain(input).copied().collect();
    frames_of(spawn_frames(&mut Command::new("ffmpeg"), &input))
}

/// The frames of a recorded elementary stream, from its first key frame on. Such a file has no times of its own: ffmpeg's are made up.
pub fn recorded_frames(file: &Path, codec: Codec, scratch: &Path) -> Vec<String> {
    let from_key = scratch.join("from-key");
    nal::from_key_frame(file, codec, &from_key);
    frames(&["-f", format(codec), "-i", path_text(&from_key)]).into_iter().map(|f| f.md5).collect()
}

fn format(codec: Codec) -> &'static str {
    if codec == Codec::H264 { "h264" } else { "hevc" }
}

/// Starts ffmpeg as `command` (which may enter a namespace first). `-strict 1` waits for the B-frames that a parameter set allows
/// instead of guessing. The times are printed to standard error by a filter and then replaced by numbers: framemd5 refuses a clock that
/// steps back, as some servers' do.
pub fn spawn_frames(command: &mut Command, input: &[&str]) -> Child {
    let times =
        format!("settb=1/90000,metadata=add:key={MARK}:value=1,metadata=print:file='pipe\\:2',setpts=N");
    command.args(["-nostdin", "-v", "error", "-xerror", "-strict", "1"]).args(input);
    command.args(["-map", "0:v:0", "-vf", &times, "-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ffmpeg starts")
}

const MARK: &str = "seen";

pub fn frames_of(ffmpeg: Child) -> Vec<Frame> {
    let output = finish(ffmpeg, PATIENCE);
    let said = text(&output.stderr);
    let mark = format!("{MARK}=1");
    let (times, complaints): (Vec<_>, Vec<_>) =
        said.lines().filter(|l| *l != mark).partition(|l| l.starts_with("frame:"));
    assert!(
        output.status.success() && complaints.is_empty(),
        "ffmpeg ended with {} after {} frames: {complaints:?}",
        output.status,
        times.len()
    );
    let mut frames = framemd5(&text(&output.stdout));
    // With `-frames:v`, one more may have passed the filter before ffmpeg ends.
    assert!((frames.len()..=frames.len() + 1).contains(&times.len()), "{} of {}", frames.len(), times.len());
    for (frame, line) in frames.iter_mut().zip(times) {
        let pts =
            line.split_whitespace().find_map(|f| f.strip_prefix("pts:")).unwrap_or_else(|| panic!("{line}"));
        frame.time = pts.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
    }
    frames
}

/// ffmpeg's framemd5: `stream, dts, pts, duration, size, hash`. Packets that were copied have a decoding time that nobody needs.
pub fn framemd5(lines: &str) -> Vec<Frame> {
    let rows = lines.lines().filter(|l| !l.starts_with('#'));
    let fields = rows.map(|l| l.split(',').map(str::trim).collect::<Vec<_>>());
    fields
        .map(|f| Frame { time: f[2].parse().unwrap_or_else(|e| panic!("{f:?}: {e}")), md5: f[5].to_owned() })
        .collect()
}

/// One frame as anyone would take it from a player, as PNG; returns the MD5 of its RGB picture.
pub fn snapshot(command: &mut Command, input: &[&str], to: &Path) -> String {
    command.args(["-nostdin", "-v", "error", "-xerror", "-y"]).args(input);
    command.args(["-map", "0:v:0", "-frames:v", "1", "-pix_fmt", "rgb24", "-update", "1"]).arg(to);
    let output = finish(
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("ffmpeg starts"),
        PATIENCE,
    );
    assert!(output.status.success(), "ffmpeg: {}", text(&output.stderr));
    let png = std::fs::read(to).expect("ffmpeg has written it");
    assert!(png.starts_with(b"\x89PNG"), "{} is no PNG", to.display());
    rgb(&["-i", path_text(to)]).swap_remove(0)
}

/// The frames of a recorded elementary stream as RGB, as a PNG of each would hold it.
pub fn recorded_pictures(file: &Path, codec: Codec, scratch: &Path) -> Vec<String> {
    let from_key = scratch.join("from-key");
    nal::from_key_frame(file, codec, &from_key);
    rgb(&["-strict", "1", "-f", format(codec), "-i", path_text(&from_key)])
}

fn rgb(input: &[&str]) -> Vec<String> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-xerror"]).args(input);
    command.args(["-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "framemd5", "-"]);
    let output = command.output().expect("ffmpeg starts");
    assert!(output.status.success(), "ffmpeg: {}", text(&output.stderr));
    let lines = text(&output.stdout);
    lines
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| Some(l.rsplit(',').next()?.trim().into()))
        .collect()
}

/// Decodes the audio; returns the samples, mono, as ffmpeg's decoder gives them. `beside`: what else ffmpeg does with the input.
pub fn samples(input: &[&str], beside: &[&str]) -> Vec<i16> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-xerror"]).args(input);
    command.args(beside).args(["-map", "0:a:0", "-f", "s16le", "-"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ffmpeg starts");
    let output = finish(child, PATIENCE);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "ffmpeg ended with {}: {said}", output.status);
    output.stdout.chunks_exact(2).map(|s| i16::from_le_bytes([s[0], s[1]])).collect()
}

/// Lets GStreamer's rtspsrc receive, depacketise and write Annex B until the server ends the stream.
pub fn gstreamer(url: &str, protocol: &str, codec: &str, to: &Path) {
    gstreamer_ended(spawn_gstreamer(&mut Command::new("gst-launch-1.0"), url, protocol, codec, to, None));
}

/// Starts it as `command` (which may enter a namespace first); a live stream has no end, but for `units`, after which it leaves.
pub fn spawn_gstreamer(
    command: &mut Command,
    url: &str,
    protocol: &str,
    codec: &str,
    to: &Path,
    units: Option<u32>,
) -> Child {
    let depay = format!("rtp{codec}depay");
    let caps = format!("video/x-{codec},stream-format=byte-stream,alignment=nal");
    command.args([
        "-q",
        "rtspsrc",
        &format!("location={url}"),
        &format!("protocols={protocol}"),
        "latency=300",
        "!",
    ]);
    command.args([&depay, "!", &caps, "!"]);
    if let Some(units) = units {
        command.args(["identity", &format!("eos-after={units}"), "!"]);
    }
    command.args(["filesink", &format!("location={}", to.display())]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gst-launch-1.0 starts")
}

pub fn gstreamer_ended(child: Child) {
    let output = finish(child, PATIENCE);
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    // After the last picture gst-launch pauses and closes at once, and rtspsrc's closing now and then interrupts its own PAUSE
    // before it is sent. On the wire the TEARDOWN follows on the same connection: nobody closed it. What was received is compared by the caller.
    let own_race = said.contains("gst_rtspsrc_pause ()")
        && said.matches("Could not write to resource").count() == said.matches("ERROR").count();
    assert!(output.status.success() || own_race, "GStreamer: {said}");
}
