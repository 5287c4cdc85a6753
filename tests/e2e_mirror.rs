//! Live over a mirror port: cameras, a VMS and `tapdeck record` in network namespaces. Each real server, transport and codec, also
//! with what mirrors do to frames; what is exported is what the VMS recorded, and what is played live are the same frames at the same
//! times.

mod lab;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use lab::nal::{self, Codec, assert_same_video};
use lab::players::{
    frames_of, gstreamer_ended, recorded_frames, recorded_pictures, snapshot, spawn_frames, spawn_gstreamer,
};
use lab::program::{Store, finish, interrupt, json, path_text, run, text, word};
use lab::skip;
use lab::timing::assert_part_of;
use lab::topology::{Camera, Kind, Lab, Setting};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
/// How many a live player shows.
const FRAMES: &str = "25";
/// How many NAL units GStreamer takes live.
const UNITS: u32 = 60;

/// One camera, one tap that records; both ends of what is compared.
struct Scene {
    lab: Lab,
    store: Store,
    recorder: Child,
    url: String,
    codec: Codec,
}

impl Scene {
    /// None, and said why, where there can be no lab.
    fn set(
        test: &str,
        server: Kind,
        codec: Codec,
        settings: &[Setting<'_>],
        camera: &[&str],
    ) -> Option<Scene> {
        for tool in ["ffmpeg", "nft"] {
            if !lab::have(tool) {
                skip(test, &format!("{tool} is not installed (scripts/install)"));
                return None;
            }
        }
        if server == Kind::Live555 && !lab::topology::live555() {
            skip(test, "live555 is not built (scripts/lab/live555)");
            return None;
        }
        let mut all = vec![("LAB_CAMERAS", "1")];
        all.extend_from_slice(settings);
        let mut lab = Lab::up(test, &all)?;
        let mut arguments = vec!["--video", name(codec), "--size", "640x360", "--kbps", "800", "--gop", "15"];
        arguments.extend(camera);
        let url = lab.camera(1, &Camera { server, arguments: &arguments });
        let store = Store::empty();
        let two = settings.iter().any(|s| matches!(s, ("LAB_MODE", "split" | "two")));
        let recorder = lab.record(&store.path, if two { &["-i", "tap1"] } else { &[] });
        Some(Scene { lab, store, recorder, url, codec })
    }

    fn truth(&self, transport: &str) -> PathBuf {
        self.lab.dir().join(format!("truth.{transport}"))
    }

    fn vms(&self, transport: &str, seconds: f32) -> Child {
        let format = if self.codec == Codec::H264 { "h264" } else { "hevc" };
        self.lab.vms(&self.url, transport, format, seconds, &self.truth(transport))
    }

    /// Ends the recording; returns the only video stream.
    fn ended(self) -> (Lab, Store, Value) {
        std::thread::sleep(Duration::from_millis(500));
        interrupt(&self.recorder);
        let ended = finish(self.recorder, PATIENCE);
        assert!(ended.status.success(), "record: {}", text(&ended.stderr));
        let video = self.store.video();
        (self.lab, self.store, video)
    }
}

fn name(codec: Codec) -> &'static str {
    if codec == Codec::H264 { "h264" } else { "h265" }
}

fn recorded(vms: Child) {
    let vms = finish(vms, PATIENCE);
    assert!(vms.status.success(), "the VMS: {}", text(&vms.stderr));
}

/// Both sessions are one stream; its export plays one session at a time, so that each truth stands in it.
fn assert_exports(store: &Store, video: &Value, codec: Codec, truths: &[PathBuf]) {
    assert_eq!((&video["codec"], &video["lost"]), (&name(codec).into(), &0.into()), "{video:#}");
    let export = store.export(&word(&video["id"]));
    for truth in truths {
        assert_same_video(&export, truth, codec);
    }
}

/// Whichever taps captured them, in the list and in the export. What one tap has stays as it was captured: on several CPUs the kernel may stamp
/// packets a little out of their order.
fn assert_packets_in_order(store: &Store, video: &Value) {
    const STAMPS_NANOS: i128 = 20_000_000;
    let times = |store: &Store, only: &[&str]| {
        let rows = json(&[&["packets", "--store", store.at(), "--json"], only].concat());
        let nanos =
            |row: &Value| word(&row["time"]).parse::<jiff::Timestamp>().expect("RFC 3339").as_nanosecond();
        let times: Vec<i128> = rows.as_array().expect("a list").iter().map(nanos).collect();
        let mut latest = i128::MIN;
        for time in &times {
            latest = latest.max(*time);
            assert!(latest - time < STAMPS_NANOS, "not in the order of capture: {only:?}");
        }
        times
    };
    let id = word(&video["id"]);
    let (all, of_stream) = (times(store, &[]), times(store, &["--stream", &id]));
    assert!(of_stream.len() > 100 && of_stream.iter().all(|time| all.contains(time)));
    let pcap = store.dir.path().join("stream.pcap");
    run(&["export", &id, "--store", store.at(), "--format", "pcap", "-o", path_text(&pcap)]);
    let exported = times(&Store::import(&[pcap]), &[]);
    assert_eq!(exported, of_stream, "the exported packets are others than the listed ones");
}

fn records_what_the_vms_records(
    test: &str,
    server: Kind,
    codec: Codec,
    settings: &[Setting<'_>],
    camera: &[&str],
) -> Option<Value> {
    let scene = Scene::set(test, server, codec, settings, camera)?;
    let truths = ["udp", "tcp"].map(|transport| {
        recorded(scene.vms(transport, 3.0));
        scene.truth(transport)
    });
    let (_lab, store, video) = scene.ended();
    assert_exports(&store, &video, codec, &truths);
    assert_packets_in_order(&store, &video);
    Some(video)
}

/// As `records_what_the_vms_records`; and while each session runs, ffmpeg plays it live over both transports, and takes a snapshot.
fn records_and_plays_live(test: &str, server: Kind, codec: Codec) {
    let Some(scene) = Scene::set(test, server, codec, &[], &[]) else { return };
    let truths = ["udp", "tcp"].map(|transport| {
        // Until it is told: live555's proxy sends what it has kept at once, so that seconds of video may take less.
        let vms = scene.vms(transport, 60.0);
        std::thread::sleep(Duration::from_secs(2));
        let live = format!("rtsp://198.19.0.10:8554/{}", word(&scene.store.video()["name"]));
        let players = ["tcp", "udp"].map(|how| {
            let mut ffmpeg = scene.lab.at("client", "ffmpeg");
            (
                how,
                spawn_frames(
                    &mut ffmpeg,
                    &[
                        "-fflags",
                        "nofillin",
                        "-fpsprobesize",
                        "0",
                        "-rtsp_transport",
                        how,
                        "-i",
                        &live,
                        "-frames:v",
                        FRAMES,
                    ],
                ),
            )
        });
        let received = scene.lab.dir().join(format!("gst.{transport}"));
        let gst = lab::have("gst-launch-1.0").then(|| {
            let mut launch = scene.lab.at("client", "gst-launch-1.0");
            spawn_gstreamer(&mut launch, &live, "udp", name(codec), &received, Some(UNITS))
        });
        let png = scene.lab.dir().join(format!("{transport}.png"));
        let shot =
            snapshot(&mut scene.lab.at("client", "ffmpeg"), &["-rtsp_transport", "tcp", "-i", &live], &png);
        let seen = players.map(|(how, player)| (how, frames_of(player)));
        let by_gst = gst.is_some();
        gst.into_iter().for_each(gstreamer_ended);
        interrupt(&vms);
        let vms = finish(vms, PATIENCE);
        assert_eq!(vms.status.code(), Some(255), "the VMS, interrupted: {}", text(&vms.stderr));
        let truth = scene.truth(transport);
        let theirs = recorded_frames(&truth, codec, scene.lab.dir());
        for (how, seen) in seen {
            let what = format!("camera over {transport}, client over {how}");
            assert_eq!(seen.len().to_string(), FRAMES, "{what}");
            assert_part_of(&what, &seen, &theirs, &truth);
        }
        if by_gst {
            let (ours, all) = (nal::video(&received, codec), nal::video(&truth, codec));
            assert!(ours.len() > 20, "GStreamer received {} units", ours.len());
            assert!(
                nal::position(&all, &ours).is_some(),
                "GStreamer received something else, live over {transport}"
            );
        }
        let pictures = recorded_pictures(&truth, codec, scene.lab.dir());
        assert!(
            pictures.contains(&shot),
            "the snapshot is no picture that the VMS recorded over {transport}"
        );
        truth
    });
    assert_silent(&scene.lab, "tap0");
    let (_lab, store, video) = scene.ended();
    assert_exports(&store, &video, codec, &truths);
}

fn assert_silent(lab: &Lab, tap: &str) {
    let counter = Path::new("/sys/class/net").join(tap).join("statistics/tx_packets");
    let sent = lab.at("tap", "cat").arg(counter).output().expect("cat");
    assert_eq!(text(&sent.stdout).trim(), "0", "{tap} sent something");
}

macro_rules! live {
    ($($test:ident: $server:expr, $codec:expr;)+) => {
        $(#[test] fn $test() { records_and_plays_live(stringify!($test), $server, $codec); })+
    };
}

live! {
    live555_h264: Kind::Live555, Codec::H264;
    gst_h264: Kind::GStreamer, Codec::H264;
    live555_h265: Kind::Live555, Codec::H265;
    gst_h265: Kind::GStreamer, Codec::H265;
}

macro_rules! mirrors {
    ($($test:ident: $server:expr, $codec:expr, [$($setting:expr),*], [$($argument:expr),*];)+) => {
        $(#[test] fn $test() {
            records_what_the_vms_records(stringify!($test), $server, $codec, &[$($setting),*], &[$($argument),*]);
        })+
    };
}

mirrors! {
    live555_h264_reordered_and_doubled: Kind::Live555, Codec::H264, [("LAB_IMPAIR", "reorder=3 hold=3 dup=2 seed=13")], [];
    live555_h265_reordered_and_doubled: Kind::Live555, Codec::H265, [("LAB_IMPAIR", "reorder=3 hold=3 dup=2 seed=14")], [];
    gst_h264_reordered_and_doubled: Kind::GStreamer, Codec::H264, [("LAB_IMPAIR", "reorder=3 hold=3 dup=2 seed=11")], [];
    gst_h265_reordered_and_doubled: Kind::GStreamer, Codec::H265, [("LAB_IMPAIR", "reorder=3 hold=3 dup=2 seed=12")], [];
    each_frame_twice: Kind::GStreamer, Codec::H264, [("LAB_MODE", "both")], [];
    one_port_mirrored: Kind::GStreamer, Codec::H264, [("LAB_MODE", "vms")], [];
    offloads_on: Kind::GStreamer, Codec::H264, [("LAB_OFFLOADS", "on")], [];
    tagged: Kind::GStreamer, Codec::H264, [("LAB_IMPAIR", "vlan=100")], [];
    several_slices_h264: Kind::GStreamer, Codec::H264, [], ["--slices", "4"];
    several_slices_h265: Kind::GStreamer, Codec::H265, [], ["--slices", "4"];
}

/// Two taps of which each hears one direction: neither has a whole dialogue or a whole TCP connection.
#[test]
fn two_taps_one_direction_each() {
    let test = "two_taps_one_direction_each";
    let video =
        records_what_the_vms_records(test, Kind::GStreamer, Codec::H264, &[("LAB_MODE", "split")], &[]);
    let Some(video) = video else { return };
    assert_eq!((&video["duplicates"], &video["sdp"]), (&0.into(), &true.into()), "{video:#}");
}

/// Two taps that hear the same: each packet is stored twice and played once.
#[test]
fn two_taps_that_hear_the_same() {
    let test = "two_taps_that_hear_the_same";
    let video = records_what_the_vms_records(test, Kind::GStreamer, Codec::H264, &[("LAB_MODE", "two")], &[]);
    let Some(video) = video else { return };
    let (packets, duplicates) = (video["packets"].as_u64(), video["duplicates"].as_u64());
    // The first of the two sessions is over UDP; a segment of TCP that comes twice makes no second RTP packet.
    assert!(duplicates > Some(50) && duplicates < packets, "{video:#}");
}
