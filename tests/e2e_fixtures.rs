//! Fixtures: what tapdeck makes of recorded captures is, NAL unit for NAL unit, what the VMS recorded at the time; and ffmpeg plays
//! it over UDP and TCP without an error and sees the same frames. Needs no root.

mod lab;

use std::path::Path;

use lab::audio::{self, assert_same_sound};
use lab::fixture;
use lab::nal::{Codec, assert_rest_of_video, assert_same_video, is_key_picture, position, video};
use lab::players::{frames, recorded_frames, samples};
use lab::program::{Store, path_text, run, tapdeck, text, word};
use lab::timing::{assert_same_frames, sent};

fn codec_of(name: &str) -> (Codec, &'static str) {
    if name.contains("h265") { (Codec::H265, "h265") } else { (Codec::H264, "h264") }
}

fn exports_and_plays(name: &str) {
    let (codec, extension) = codec_of(name);
    let store = Store::import(&[fixture(&format!("{name}.pcap"))]);
    let video = store.video();
    assert_eq!(video["codec"], extension, "{video:#}");
    assert_eq!(video["lost"], 0, "{video:#}");
    let truth = fixture(&format!("{name}.{extension}"));
    let export = store.export(&word(&video["id"]));
    assert_same_video(&export, &truth, codec);

    need!(&format!("playing {name}"), "ffmpeg", "tshark");
    let theirs = recorded_frames(&truth, codec, store.dir.path());
    let sent: Vec<i64> = sent(&fixture(&format!("{name}.pcap"))).iter().map(|s| s.time).collect();
    let server = store.serve();
    let url = server.url(&video);
    std::thread::scope(|scope| {
        for transport in ["tcp", "udp"] {
            let (url, theirs, sent) = (&url, &theirs, &sent);
            scope.spawn(move || {
                let seen = frames(&["-rtsp_transport", transport, "-i", url]);
                assert_same_frames(&format!("{name} over {transport}"), &seen, theirs, sent);
            });
        }
    });
}

macro_rules! fixtures {
    ($($test:ident: $name:literal,)+) => { $(#[test] fn $test() { exports_and_plays($name); })+ };
}

fixtures! {
    gst_udp_h264: "gst-udp-h264",
    gst_udp_h265: "gst-udp-h265",
    gst_tcp_h264: "gst-tcp-h264",
    gst_tcp_h265: "gst-tcp-h265",
    live555_udp_h264: "live555-udp-h264",
    live555_udp_h265: "live555-udp-h265",
    live555_tcp_h264: "live555-tcp-h264",
    live555_tcp_h265: "live555-tcp-h265",
    each_frame_twice_udp: "span-both",
    each_frame_twice_tcp: "span-both-tcp",
    vlan_tags: "vlan",
    impaired_udp: "impaired-udp",
    impaired_tcp: "impaired-tcp",
    offloads_on: "offloads",
    beside_aac: "aac",
    beside_pcmu: "pcmu",
    b_frames: "bframes",
}

fn tap_came_late(name: &str) {
    let store = Store::import(&[fixture(&format!("{name}.pcap"))]);
    let video = store.video();
    assert_eq!((&video["codec"], &video["sdp"]), (&"h264".into(), &false.into()), "{video:#}");
    let export = store.export(&word(&video["id"]));
    assert_rest_of_video(&export, &fixture(&format!("{name}.h264")), Codec::H264);
}

#[test]
fn late_tap_udp() {
    tap_came_late("late-udp");
}

#[test]
fn late_tap_tcp() {
    tap_came_late("late-tcp");
}

#[test]
fn doubled_frames_are_counted_and_tags_are_told() {
    let twice = Store::import(&[fixture("span-both.pcap")]).video();
    let (packets, duplicates) =
        (twice["packets"].as_u64().expect("a number"), twice["duplicates"].as_u64().expect("a number"));
    assert!(duplicates * 10 >= packets * 4, "each frame came twice: {twice:#}");
    let tagged = Store::import(&[fixture("vlan.pcap")]).video();
    assert_eq!(tagged["vlans"], serde_json::json!([100]), "{tagged:#}");
}

/// The description of a stream is of all its footage: what was recorded before the camera was set to another codec stays playable.
#[test]
fn a_camera_that_changes_its_codec_and_back_has_two_streams() {
    let names = ["gst-tcp-h264", "gst-tcp-h265", "gst-udp-h264"];
    let store = Store::import(&names.map(|name| fixture(&format!("{name}.pcap"))));
    let streams = store.streams();
    let mut found: Vec<_> = streams.iter().map(|s| (word(&s["codec"]), s["sessions"].clone())).collect();
    found.sort_by_key(|(codec, _)| codec.clone());
    assert_eq!(found, [("h264".into(), 2.into()), ("h265".into(), 1.into())], "{streams:#?}");
    for stream in &streams {
        let (codec, extension) = codec_of(&word(&stream["codec"]));
        let truth = fixture(&format!("gst-tcp-{extension}.{extension}"));
        assert_same_video(&store.export(&word(&stream["id"])), &truth, codec);
    }
}

#[test]
fn audio_is_found_beside_the_video() {
    for (name, codec, rate) in [("aac", "aac", 16000), ("pcmu", "pcmu", 8000)] {
        let streams = Store::import(&[fixture(&format!("{name}.pcap"))]).streams();
        let audio = streams
            .iter()
            .find(|s| s["kind"] == "audio")
            .unwrap_or_else(|| panic!("no audio in {streams:#?}"));
        assert_eq!((&audio["codec"], &audio["clock_rate"]), (&codec.into(), &rate.into()), "{audio:#}");
    }
}

/// A player that plays picture and sound hears what was sent.
#[test]
fn sound_beside_the_picture_is_the_same() {
    need!("sound", "ffmpeg", "tshark");
    for (name, truth) in [("aac", audio::aac as fn(&Path, &Path) -> Vec<i16>), ("pcmu", audio::pcmu)] {
        let capture = fixture(&format!("{name}.pcap"));
        let store = Store::import(std::slice::from_ref(&capture));
        let sent = truth(&capture, store.dir.path());
        let server = store.serve();
        let video = store.video();
        let both = server.url(&video).replacen(&word(&video["name"]), &word(&video["presentation"]), 1);
        std::thread::scope(|scope| {
            for transport in ["tcp", "udp"] {
                let (both, sent) = (&both, &sent);
                scope.spawn(move || {
                    let picture = ["-map", "0:v:0", "-f", "null", "-"];
                    let heard = samples(&["-rtsp_transport", transport, "-i", both], &picture);
                    assert_same_sound(&format!("{name} over {transport}"), &heard, sent);
                });
            }
        });
    }
}

#[test]
fn the_same_file_twice_is_recognised() {
    let store = Store::import(&[fixture("gst-udp-h264.pcap")]);
    let before = store.streams();
    store.add(&[fixture("gst-udp-h264.pcap")]);
    assert_eq!(store.streams(), before);
}

/// Captured with a snap length: what has lost its end is told, and nothing wrong is exported or played.
#[test]
fn packets_without_their_end_are_not_played() {
    need!("packets without their end", "editcap");
    let dir = tempfile::TempDir::with_prefix("tapdeck-test-").expect("a temporary directory");
    let cut = dir.path().join("cut.pcap");
    let mut editcap = std::process::Command::new("editcap");
    editcap.args(["-F", "nsecpcap", "-s", "1000"]).arg(fixture("gst-udp-h264.pcap")).arg(&cut);
    assert!(editcap.status().expect("editcap").success());
    let store = Store::empty();
    let told = lab::program::json(&["import", path_text(&cut), "--store", store.at(), "--json"]);
    let cut = told["files"][0]["cut"].as_u64().expect("a number");
    assert!(cut > 10, "{told:#}");
    let id = word(&store.video()["id"]);
    let mut export = tapdeck();
    export.args(["export", &id, "--store", store.at(), "-o"]).arg(dir.path().join("x"));
    let said = text(&export.output().expect("it starts").stderr);
    assert!(said.contains("without their end"), "{said}");
    let truth = video(&fixture("gst-udp-h264.h264"), Codec::H264);
    let exported = video(&dir.path().join("x"), Codec::H264);
    assert!(!exported.is_empty());
    assert!(exported.iter().all(|unit| truth.contains(unit)), "a unit that the camera never sent");
}

/// What was damaged comes back out of the file that it came from: `verify` says how, and nothing is there twice.
#[test]
fn a_damaged_import_is_replaced() {
    let file = fixture("gst-udp-h264.pcap");
    let store = Store::import(std::slice::from_ref(&file));
    let before = store.streams();
    let shards = || {
        let listed =
            std::fs::read_dir(store.path.join("shards")).expect("shards").flatten().map(|e| e.path());
        let mut shards: Vec<_> = listed.filter(|p| p.extension().is_some_and(|e| e == "pcap")).collect();
        shards.sort();
        shards
    };
    let verify = || tapdeck().args(["verify", "--store", store.at()]).output().expect("it starts");

    let mut bytes = std::fs::read(&shards()[0]).expect("a shard");
    let told = &lab::program::json(&["verify", "--store", store.at(), "--json"])["shards"][0];
    let hash = blake3::hash(&bytes).to_string();
    assert_eq!((&told["blake3"], &told["provenance"]), (&hash.into(), &"imported".into()), "{told:#}");
    assert_eq!(told["tap"], "gst-udp-h264.pcap");

    let middle = bytes.len() / 2;
    bytes[middle..middle + 5_000].fill(0);
    std::fs::write(&shards()[0], bytes).expect("our own store");
    let said = text(&verify().stdout);
    let remedy = format!("tapdeck import --again {}", path_text(&file));
    assert!(said.contains(&remedy), "{said}");
    run(&["import", "--again", path_text(&file), "--store", store.at()]);
    assert_eq!((shards().len(), verify().status.code()), (1, Some(0)));

    // What is gone altogether is seen without being told.
    std::fs::remove_file(&shards()[0]).expect("our own store");
    store.add(std::slice::from_ref(&file));
    assert_eq!((shards().len(), verify().status.code()), (1, Some(0)));
    let of = |streams: &[serde_json::Value], key: &str| streams[0][key].clone();
    for key in ["name", "packets", "access_units", "first", "last", "lost"] {
        assert_eq!(of(&store.streams(), key), of(&before, key), "{key}");
    }
}

/// From the VMS's first picture to its last, by their times on the wire: that, and nothing else.
#[test]
fn a_range_is_exported_and_nothing_beside_it() {
    need!("a range", "tshark");
    for name in ["gst-udp-h264", "gst-udp-h265", "live555-udp-h264", "live555-udp-h265"] {
        let (codec, extension) = codec_of(name);
        let (capture, truth) = (fixture(&format!("{name}.pcap")), fixture(&format!("{name}.{extension}")));
        let store = Store::import(std::slice::from_ref(&capture));
        let theirs = video(&truth, codec);
        let pictures = is_key_picture(&truth, codec).len();
        let sent = sent(&capture);
        let whole = video(&store.export(&word(&store.video()["id"])), codec);
        let before = position(&whole, &theirs).expect("it is in the whole");
        assert_eq!(before, 0, "{name}: the VMS has the first picture");
        assert!(whole.len() > theirs.len() && sent.len() > pictures, "{name}: there must be more than that");
        let time = |seconds: f64, micros: i64| {
            jiff::Timestamp::from_microsecond((seconds * 1e6) as i64 + micros).expect("a time").to_string()
        };
        // A hair before the first packet of the first picture, and of the one after the last.
        let (from, to) = (time(sent[0].captured, -5), time(sent[pictures].captured, -5));
        let file = store.dir.path().join("range");
        let id = word(&store.video()["id"]);
        let to_file = path_text(&file);
        run(&["export", &id, "--store", store.at(), "--from", &from, "--to", &to, "-o", to_file]);
        assert_eq!(video(&file, codec).len(), theirs.len(), "{name}");
        assert!(video(&file, codec) == theirs, "{name}: other units");
    }
}

#[test]
fn reindex_gives_the_same_answers() {
    let names = ["gst-udp-h264", "gst-tcp-h265", "live555-tcp-h264", "impaired-tcp", "late-udp"];
    let files: Vec<_> = names.iter().map(|n| fixture(&format!("{n}.pcap"))).collect();
    let store = Store::import(&files);
    let answers = |store: &Store| {
        let at = store.at();
        let mut all = vec![
            lab::program::json(&["streams", "--store", at, "--json"]),
            lab::program::json(&["packets", "--store", at, "--json"]),
        ];
        all.extend(
            store
                .streams()
                .iter()
                .map(|s| lab::program::json(&["timeline", &word(&s["id"]), "--store", at, "--json"])),
        );
        all
    };
    let before = answers(&store);
    lab::program::run(&["reindex", "--store", store.at()]);
    assert_eq!(answers(&store), before);
    lab::program::run(&["verify", "--store", store.at()]);
}
