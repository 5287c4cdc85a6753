//! Loss between camera and VMS themselves. Where packets are lost behind the mirror, the tap has heard them; where before it, it has
//! not, and says so. The kernel's packet filter loses every so many-th packet, and counts.

mod lab;

use std::time::Duration;

use lab::nal::{Codec, assert_same_video, split};
use lab::program::{Store, finish, interrupt, json, text, word};
use lab::topology::{Camera, Kind, Lab, Place};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
/// Segments with media from the camera; neither the dialogue nor acknowledgements.
const SEGMENTS: &str = "tcp sport 554 meta length > 200";
/// RTP packets of the video, payload type 96 (not RTCP).
const RTP: &str = "udp length > 20 @th,73,7 96";

struct Recorded {
    lab: Lab,
    store: Store,
    video: Value,
    truth: std::path::PathBuf,
    lost: u64,
}

/// The camera streams to the VMS for a few seconds while each `nth` packet that `rule` matches is lost at `place`.
fn recorded(
    test: &str,
    (server, codec): (Kind, Codec),
    transport: &str,
    (place, rule, nth): (Place, &str, u32),
) -> Option<Recorded> {
    let mode = if place == Place::BeforeMirror { "vms" } else { "in" };
    let mut lab = Lab::up(test, &[("LAB_CAMERAS", "1"), ("LAB_MODE", mode)])?;
    let (video, format) = if codec == Codec::H264 { ("h264", "h264") } else { ("h265", "hevc") };
    let arguments = ["--video", video, "--size", "640x360", "--kbps", "1500", "--gop", "15"];
    let url = lab.camera(1, &Camera { server, arguments: &arguments });
    lab.lose(place, rule, nth);
    let store = Store::empty();
    let recorder = lab.record(&store.path, &[]);
    let truth = lab.dir().join("truth");
    let vms = finish(lab.vms(&url, transport, format, 5.0, &truth), PATIENCE);
    assert!(vms.status.success(), "the VMS: {}", text(&vms.stderr));
    std::thread::sleep(Duration::from_millis(500));
    interrupt(&recorder);
    let ended = finish(recorder, PATIENCE);
    assert!(ended.status.success(), "record: {}", text(&ended.stderr));
    let lost = lab.lost(place);
    assert!(lost >= 5, "only {lost} packets were lost: nothing is shown");
    let video = store.video();
    Some(Recorded { lab, store, video, truth, lost })
}

fn retransmitted(lab: &Lab) -> u64 {
    let mut nstat = lab.at("cam1", "nstat");
    // Its own place to remember in may be another user's.
    nstat.args(["-az", "TcpRetransSegs"]).env("NSTAT_HISTORY", lab.dir().join("nstat"));
    let counter = nstat.output().expect("nstat");
    let said = text(&counter.stdout);
    let line = said.lines().find(|l| l.starts_with("TcpRetransSegs")).unwrap_or_else(|| panic!("{said}"));
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a count")
}

fn tcp_is_whole(test: &str, server: Kind, codec: Codec, place: Place) {
    need!(test, "ffmpeg", "nft", "nstat");
    if server == Kind::Live555 && !lab::topology::live555() {
        return lab::skip(test, "live555 is not built (scripts/lab/live555)");
    }
    let Some(r) = recorded(test, (server, codec), "tcp", (place, SEGMENTS, 25)) else { return };
    let again = retransmitted(&r.lab);
    assert!(again >= r.lost, "{} segments were lost and {again} sent again", r.lost);
    assert_eq!(r.video["lost"], 0, "{:#}", r.video);
    assert_same_video(&r.store.export(&word(&r.video["id"])), &r.truth, codec);
}

macro_rules! tcp {
    ($($test:ident: $server:expr, $codec:expr, $place:expr;)+) => {
        $(#[test] fn $test() { tcp_is_whole(stringify!($test), $server, $codec, $place); })+
    };
}

// Behind the mirror the tap hears a segment that the VMS does not get, and hears it again. Before it, it hears only the retransmission, late
// and out of order.
tcp! {
    tcp_retransmits_what_was_lost_behind_the_mirror: Kind::GStreamer, Codec::H264, Place::BehindMirror;
    tcp_retransmits_what_was_lost_before_the_mirror: Kind::GStreamer, Codec::H264, Place::BeforeMirror;
    tcp_retransmits_h265_of_gst: Kind::GStreamer, Codec::H265, Place::BeforeMirror;
    tcp_retransmits_h264_of_live555: Kind::Live555, Codec::H264, Place::BeforeMirror;
    tcp_retransmits_h265_of_live555: Kind::Live555, Codec::H265, Place::BehindMirror;
}

/// UDP loses for good, but only for the VMS: the tap has more than the VMS.
#[test]
fn udp_that_only_the_vms_lost_is_there() {
    let test = "udp_that_only_the_vms_lost_is_there";
    need!(test, "ffmpeg", "nft");
    let Some(r) = recorded(test, (Kind::GStreamer, Codec::H264), "udp", (Place::BehindMirror, RTP, 40))
    else {
        return;
    };
    assert_eq!(r.video["lost"], 0, "{:#}", r.video);
    let export = r.store.export(&word(&r.video["id"]));
    let (ours, theirs) = (lab::nal::video(&export, Codec::H264), lab::nal::video(&r.truth, Codec::H264));
    // What the VMS has whole stands in ours in the same order; nothing of ours is a piece.
    let mut at = 0;
    let mut whole = 0;
    for unit in &theirs {
        if let Some(found) = ours[at..].iter().position(|u| u == unit) {
            at += found + 1;
            whole += 1;
        }
    }
    assert!(whole >= 20 && whole < theirs.len(), "{whole} of the VMS's {} are whole", theirs.len());
    let seen = lab::players::recorded_frames(&export, Codec::H264, r.lab.dir());
    assert!(seen.len() >= 60, "{} frames in five seconds", seen.len());
}

/// What neither heard is counted, packet by packet, and shown on the time line.
#[test]
fn udp_lost_before_the_mirror_is_counted() {
    let test = "udp_lost_before_the_mirror_is_counted";
    need!(test, "ffmpeg", "nft");
    let Some(r) = recorded(test, (Kind::GStreamer, Codec::H264), "udp", (Place::BeforeMirror, RTP, 40))
    else {
        return;
    };
    let told = r.video["lost"].as_u64().expect("a number");
    // Nobody can know of one that was lost behind the last that came.
    assert!(told == r.lost || told + 1 == r.lost, "{} were lost, {told} are told: {:#}", r.lost, r.video);
    let line = json(&["timeline", &word(&r.video["id"]), "--store", r.store.at(), "--json"]);
    let gaps = line["gaps"].as_array().unwrap_or_else(|| panic!("no gaps in {line:#}"));
    let missing: u64 = gaps.iter().filter_map(|g| g["packets"].as_u64()).sum();
    assert_eq!(missing, told, "{line:#}");
    // What is exported is what the VMS had: the same units, but for those that lost a part.
    let export = r.store.export(&word(&r.video["id"]));
    let ours = split(&std::fs::read(&export).expect("just written"));
    let theirs = split(&std::fs::read(&r.truth).expect("the VMS's"));
    let common = theirs.iter().filter(|unit| ours.contains(unit)).count() as u64;
    assert!(
        common + told >= theirs.len() as u64,
        "{common} of the VMS's {} are ours, {told} lost",
        theirs.len()
    );
}
