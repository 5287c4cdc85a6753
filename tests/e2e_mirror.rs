//! Live over a mirror port: cameras, a VMS and `tapdeck record` in network namespaces. Each real server, transport and codec, also
//! with what mirrors do to frames; what is exported is what the VMS recorded, and what is played live are the same frames.

mod lab;

use std::process::Command;
use std::time::Duration;

use lab::nal::{Codec, assert_same_video, position};
use lab::players::{frames_of, recorded_frames, spawn_frames};
use lab::program::{Store, finish, interrupt, text, word};
use lab::skip;
use lab::topology::{Camera, Kind, Lab, Setting};

const PATIENCE: Duration = Duration::from_secs(30);

fn records_what_the_vms_records(test: &str, server: Kind, codec: Codec, settings: &[Setting<'_>]) {
    need!(test, "ffmpeg");
    if server == Kind::Live555 && !lab::topology::live555() {
        return skip(test, "live555 is not built (scripts/lab/live555)");
    }
    let mut all = vec![("LAB_CAMERAS", "1")];
    all.extend_from_slice(settings);
    let Some(mut lab) = Lab::up(test, &all) else { return };
    let (name, format) = if codec == Codec::H264 { ("h264", "h264") } else { ("h265", "hevc") };
    let url = lab.camera(
        1,
        &Camera {
            server,
            arguments: &["--video", name, "--size", "640x360", "--kbps", "800", "--gop", "15"],
        },
    );
    let store = Store::empty();
    let recorder = lab.record(&store.path, &[]);
    let mut truths = Vec::new();
    for transport in ["udp", "tcp"] {
        let truth = lab.dir().join(format!("truth.{transport}"));
        let vms = finish(lab.vms(&url, transport, format, 3.0, &truth), PATIENCE);
        assert!(vms.status.success(), "the VMS: {}", text(&vms.stderr));
        truths.push(truth);
    }
    std::thread::sleep(Duration::from_millis(500));
    interrupt(&recorder);
    let ended = finish(recorder, PATIENCE);
    assert!(ended.status.success(), "record: {}", text(&ended.stderr));
    // Both sessions are one stream; its export plays one session at a time, so that each truth stands in it.
    let video = store.video();
    assert_eq!((&video["codec"], &video["lost"]), (&name.into(), &0.into()), "{video:#}");
    let export = store.export(&word(&video["id"]));
    for truth in &truths {
        assert_same_video(&export, truth, codec);
    }
}

macro_rules! mirrors {
    ($($(#[$attribute:meta])* $test:ident: $server:expr, $codec:expr, [$($setting:expr),*];)+) => {
        $(#[test] $(#[$attribute])* fn $test() { records_what_the_vms_records(stringify!($test), $server, $codec, &[$($setting),*]); })+
    };
}

mirrors! {
    live555_h264: Kind::Live555, Codec::H264, [];
    live555_h265: Kind::Live555, Codec::H265, [];
    live555_h264_reordered_and_doubled: Kind::Live555, Codec::H264, [("LAB_IMPAIR", "reorder=3 hold=3 dup=2 seed=13")];
    gst_h264: Kind::GStreamer, Codec::H264, [];
    gst_h265: Kind::GStreamer, Codec::H265, [];
    gst_h264_reordered_and_doubled: Kind::GStreamer, Codec::H264, [("LAB_IMPAIR", "reorder=3 hold=3 dup=2 seed=11")];
    gst_h265_reordered_and_doubled: Kind::GStreamer, Codec::H265, [("LAB_IMPAIR", "reorder=3 hold=3 dup=2 seed=12")];
    each_frame_twice: Kind::GStreamer, Codec::H264, [("LAB_MODE", "both")];
    one_port_mirrored: Kind::GStreamer, Codec::H264, [("LAB_MODE", "vms")];
    offloads_on: Kind::GStreamer, Codec::H264, [("LAB_OFFLOADS", "on")];
    tagged: Kind::GStreamer, Codec::H264, [("LAB_IMPAIR", "vlan=100")];
}

#[test]
fn plays_live_while_it_records() {
    let test = "plays_live_while_it_records";
    need!(test, "ffmpeg");
    let Some(mut lab) = Lab::up(test, &[("LAB_CAMERAS", "1")]) else { return };
    let url =
        lab.camera(1, &Camera { server: Kind::GStreamer, arguments: &["--video", "h264", "--gop", "15"] });
    let store = Store::empty();
    let recorder = lab.record(&store.path, &[]);
    let truth = lab.dir().join("truth.h264");
    let vms = lab.vms(&url, "udp", "h264", 9.0, &truth);
    std::thread::sleep(Duration::from_secs(3));
    let live = format!("rtsp://198.19.0.10:8554/{}", word(&store.video()["name"]));
    let players: Vec<_> = ["tcp", "udp"]
        .map(|transport| {
            let mut command: Command = lab.at("client", "ffmpeg");
            spawn_frames(&mut command, &["-rtsp_transport", transport, "-t", "3", "-i", &live])
        })
        .into();
    let seen: Vec<_> = players.into_iter().map(frames_of).collect();
    let vms = finish(vms, PATIENCE);
    assert!(vms.status.success(), "the VMS: {}", text(&vms.stderr));
    interrupt(&recorder);
    let ended = finish(recorder, PATIENCE);
    assert!(ended.status.success(), "record: {}", text(&ended.stderr));
    let theirs = recorded_frames(&truth, Codec::H264, lab.dir());
    for seen in seen {
        assert!(seen.len() >= 30, "only {} frames in three seconds", seen.len());
        assert!(
            position(&theirs, &seen).is_some(),
            "what was played live are not the frames that the VMS recorded"
        );
    }
    let sent = lab.at("tap", "cat").arg("/sys/class/net/tap0/statistics/tx_packets").output().expect("cat");
    assert_eq!(text(&sent.stdout).trim(), "0", "the tap sent something");
}
