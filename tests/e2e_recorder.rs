//! A recorder that runs: what every other command says beside it, what it may do, what it notices, and what its store holds afterwards.

mod lab;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::nal::{self, Codec};
use lab::players::{frames, frames_of, pictures, recorded_frames, spawn_frames};
use lab::program::{Store, TAPDECK, finish, interrupt, json, run, tapdeck, text, word};
use lab::topology::{Camera, Kind, Lab, tool};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// A camera that a VMS plays over UDP, and a recorder that hears it.
struct Scene {
    lab: Lab,
    store: Store,
    recorder: Child,
    vms: Child,
    truth: PathBuf,
}

impl Scene {
    fn set(test: &str, more: &[&str]) -> Option<Scene> {
        Self::set_over("udp", test, more)
    }

    fn set_over(transport: &str, test: &str, more: &[&str]) -> Option<Scene> {
        let mut lab = Lab::up(test, &[("LAB_CAMERAS", "1")])?;
        let arguments = ["--video", "h264", "--size", "640x360", "--kbps", "800", "--gop", "15"];
        let url = lab.camera(1, &Camera { server: Kind::GStreamer, arguments: &arguments });
        let store = Store::empty();
        let recorder = lab.record(&store.path, more);
        let truth = lab.dir().join("truth.h264");
        let vms = lab.vms(&url, transport, "h264", 90.0, &truth);
        Some(Scene { lab, store, recorder, vms, truth })
    }

    fn status(&self) -> Value {
        json(&["status", "--store", self.store.at(), "--json"])["recorder"].clone()
    }

    /// Ends the VMS, then the recorder.
    fn ended(self) -> (Lab, Store, PathBuf) {
        interrupt(&self.vms);
        finish(self.vms, PATIENCE);
        std::thread::sleep(Duration::from_millis(300));
        stopped(self.recorder);
        (self.lab, self.store, self.truth)
    }
}

fn stopped(recorder: Child) {
    interrupt(&recorder);
    let ended = finish(recorder, PATIENCE);
    assert!(ended.status.success(), "record: {}", text(&ended.stderr));
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no array: {value:#}"))
}

fn sum(rows: &[Value], key: &str) -> u64 {
    rows.iter().map(|row| row[key].as_u64().unwrap_or_else(|| panic!("no {key} in {row:#}"))).sum()
}

/// What the journal has of each second.
fn seconds(store: &Store) -> Vec<Value> {
    array(&json(&["status", "--store", store.at(), "--from", "-1h", "--json"])).to_vec()
}

#[test]
fn every_command_works_beside_it() {
    let test = "every_command_works_beside_it";
    need!(test, "ffmpeg");
    let Some(scene) = Scene::set(test, &[]) else { return };
    let at = scene.store.at().to_owned();
    std::thread::sleep(Duration::from_secs(4));

    let own = word(&scene.store.video()["name"]);
    run(&["name", &own, "door", "--store", &at]);
    assert_eq!(scene.store.video()["name"], "door");
    let line = json(&["timeline", "door", "--store", &at, "--json"]);
    assert!(sum(array(&line["segments"]), "packets") > 50, "{line:#}");
    let listed = json(&["packets", "--stream", "door", "--limit", "10", "--store", &at, "--json"]);
    assert_eq!(array(&listed).len(), 10);
    let so_far = scene.store.dir.path().join("so-far.h264");
    run(&["export", "door", "--store", &at, "-o", so_far.to_str().expect("text")]);
    let packets = scene.store.dir.path().join("so-far.pcap");
    run(&["export", "door", "--format", "pcap", "--store", &at, "-o", packets.to_str().expect("text")]);
    assert!(Store::import(&[packets]).video()["packets"].as_u64() > Some(50));
    run(&["verify", "--store", &at]);
    let status = scene.status();
    assert!(status["interfaces"][0]["packets"].as_u64() > Some(100), "{status:#}");
    assert_eq!(status["interfaces"][0]["dropped_by_kernel"], 0, "{status:#}");
    let mut doctor = scene.lab.at("tap", TAPDECK);
    let fit =
        doctor.args(["doctor", "-i", "tap0", "--json", "--store", &at]).output().expect("bash is there");
    let fit: Value = serde_json::from_slice(&fit.stdout).expect("one JSON document");
    assert!(fit["fit"].is_boolean() && !array(&fit["findings"]).is_empty(), "{fit:#}");

    // Another process serves the same store; and the recorder itself what it has just written, some of it from memory.
    let server = scene.store.serve();
    let theirs = frames(&["-rtsp_transport", "tcp", "-i", &server.url(&scene.store.video())]);
    let mut ffmpeg = scene.lab.at("client", "ffmpeg");
    // Asking has the recorder commit: on demand there is what is committed, which else can end a second ago.
    scene.store.video();
    let lately = "rtsp://198.19.0.10:8554/door?from=-2s&to=now";
    let lately = frames_of(spawn_frames(
        &mut ffmpeg,
        &["-fflags", "nofillin", "-rtsp_transport", "tcp", "-i", lately],
    ));
    assert!(theirs.len() > 40 && lately.len() > 20, "{} and {} frames", theirs.len(), lately.len());
    drop(server);

    // The recorder makes its index anew, while it records and is watched.
    let watching = spawn_frames(
        &mut scene.lab.at("client", "ffmpeg"),
        &["-rtsp_transport", "tcp", "-i", "rtsp://198.19.0.10:8554/door", "-frames:v", "90"],
    );
    std::thread::sleep(Duration::from_secs(2));
    let said = text(&run(&["reindex", "--store", &at]).stderr);
    assert!(said.contains("1 stream") || said.contains("streams in"), "{said}");
    assert_eq!(scene.store.video()["name"], "door");
    let live = frames_of(watching);
    assert!(live.len() > 60, "{} frames", live.len());

    let (lab, store, truth) = scene.ended();
    let whole = nal::video(&store.export("door"), Codec::H264);
    let begun = nal::video(&so_far, Codec::H264);
    assert!(begun.len() > 40 && whole.starts_with(&begun), "what was exported meanwhile is the beginning");
    let all = recorded_frames(&truth, Codec::H264, lab.dir());
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for seen in [&theirs, &lately, &live] {
        let seen = pictures(seen);
        // The VMS may have begun to record a picture later, and ends with a picture that the others may not have had yet.
        let of_both: Vec<_> = seen.iter().copied().filter(|picture| all.contains(picture)).collect();
        assert!(of_both.len() + 2 >= seen.len() && nal::position(&all, &of_both).is_some(), "other pictures");
    }

    // What was recorded live plays on demand as the VMS recorded it; the name lasts, and the old one leads there too.
    run(&["reindex", "--store", store.at()]);
    let video = store.video();
    assert_eq!(video["name"], "door");
    let server = store.serve();
    for name in ["door", &own] {
        let mut called = video.clone();
        called["name"] = name.into();
        let seen = frames(&["-rtsp_transport", "tcp", "-i", &server.url(&called)]);
        assert!(
            nal::position(&pictures(&seen), &all).is_some(),
            "{name}: {} frames, {} at the VMS",
            seen.len(),
            all.len()
        );
    }

    // Statistics of each second are there, and add up.
    let seconds = seconds(&store);
    let held = json(&["status", "--store", store.at(), "--json"])["store"]["packets"].clone();
    assert!(seconds.len() >= 5, "{} seconds", seconds.len());
    assert_eq!(held, sum(&seconds, "received"), "{seconds:#?}");
    assert_eq!(sum(&seconds, "dropped_by_kernel") + sum(&seconds, "dropped_by_us"), 0);
    let lasted: u64 =
        seconds[1..seconds.len() - 1].iter().filter_map(|s| s["milliseconds"].as_u64()).max().expect("rows");
    assert!(lasted < 3_000, "a row of {lasted} ms");
}

/// Two clients pull the camera: who watches live sees the pictures of one of them, and those of the other when that one has gone.
#[test]
fn a_live_viewer_sees_one_of_two_sessions() {
    let test = "a_live_viewer_sees_one_of_two_sessions";
    need!(test, "ffmpeg");
    let Some(mut lab) = Lab::up(test, &[("LAB_CAMERAS", "1")]) else { return };
    let arguments = ["--video", "h264", "--size", "640x360", "--kbps", "800", "--gop", "15"];
    let url = lab.camera(1, &Camera { server: Kind::GStreamer, arguments: &arguments });
    let store = Store::empty();
    let recorder = lab.record(&store.path, &[]);
    let truths = ["first.h264", "second.h264"].map(|name| lab.dir().join(name));
    let [first, second] = truths.each_ref().map(|truth| lab.vms(&url, "udp", "h264", 90.0, truth));
    std::thread::sleep(Duration::from_secs(3));
    let name = word(&store.video()["name"]);
    let live = format!("rtsp://198.19.0.10:8554/{name}");
    let watch = |frames| {
        let input = ["-rtsp_transport", "tcp", "-i", &live, "-frames:v", frames];
        spawn_frames(&mut lab.at("client", "ffmpeg"), &input)
    };
    let beside = frames_of(watch("60"));
    let over = watch("120");
    std::thread::sleep(Duration::from_secs(3));
    // Whichever it is: one of the two viewers' sessions ends, and with the other it goes on.
    interrupt(&first);
    finish(first, PATIENCE);
    let over = frames_of(over);
    interrupt(&second);
    finish(second, PATIENCE);
    stopped(recorder);
    let all = truths.map(|truth| recorded_frames(&truth, Codec::H264, lab.dir()));
    let all = all.each_ref().map(|all| all.iter().map(String::as_str).collect::<Vec<_>>());
    let beside = pictures(&beside);
    assert!(beside.len() >= 58, "{} frames", beside.len());
    let of_one = |seen: &[&str]| all.iter().any(|all| nal::position(all, seen).is_some());
    assert!(of_one(&beside[..beside.len() - 2]), "pictures of one session, all of them");
    let over = pictures(&over);
    assert!(over.len() >= 118, "{} frames", over.len());
    let runs = over.chunk_by(|a, b| of_one(&[*a, *b])).count();
    assert!(runs <= 3, "one change at the most: {runs} runs");
}

/// Files are taken in while it records, in the middle of a camera's frames over TCP: the recording has them all, as the camera sent them.
#[test]
fn files_come_in_beside_it() {
    let test = "files_come_in_beside_it";
    need!(test, "ffmpeg");
    let Some(scene) = Scene::set_over("tcp", test, &[]) else { return };
    let at = scene.store.at().to_owned();
    std::thread::sleep(Duration::from_secs(3));
    let own = word(&scene.store.video()["name"]);
    let live = format!("rtsp://198.19.0.10:8554/{own}");
    let watching = spawn_frames(
        &mut scene.lab.at("client", "ffmpeg"),
        &["-rtsp_transport", "tcp", "-i", &live, "-frames:v", "120"],
    );
    std::thread::sleep(Duration::from_secs(2));
    let files = ["late-udp.pcap", "gst-udp-h265.pcap"].map(lab::fixture);
    let import = |more: &[&str]| {
        let files = files.iter().map(|f| f.to_str().expect("text"));
        let arguments: Vec<&str> = ["import", "--json", "--store", &at].into_iter().chain(files).collect();
        json(&[&arguments[..], more].concat())
    };
    let imported = import(&[]);
    assert!(
        array(&imported["files"]).iter().all(|f| f["error"].is_null() && f["added"].as_u64() > Some(0)),
        "{imported:#}"
    );
    let alone = Store::import(&files);
    let streams = |of: &str| array(&json(&["streams", "--store", of, "--json"])).to_vec();
    assert_eq!(imported["streams"].as_u64(), Some(streams(alone.at()).len() as u64 + 1), "{imported:#}");
    // As they are in a store of their own.
    for theirs in streams(alone.at()) {
        // The camera has the recorded one's address, and another name where that is taken.
        let here =
            streams(&at).into_iter().find(|s| s["codec"] == theirs["codec"] && s["name"] != own.as_str());
        let here = here.unwrap_or_else(|| panic!("no {}", theirs["name"]));
        for what in ["packets", "lost", "bytes", "access_units", "first", "last"] {
            assert_eq!(here[what], theirs[what], "{what} of {}", theirs["name"]);
        }
    }
    // Once more: they are there. And a file that the recorder can't read is told, by name.
    let again = import(&[]);
    assert!(array(&again["files"]).iter().all(|f| f["already"] == true), "{again:#}");
    let missing = scene.store.dir.path().join("empty.pcap");
    std::fs::write(&missing, b"no capture at all").expect("our directory");
    let refused = tapdeck().args(["import", "--store", &at]).arg(&missing).output().expect("starts");
    assert!(refused.status.code() == Some(1) && text(&refused.stderr).contains("empty.pcap"), "{refused:?}");
    // And with another part behind it.
    let third = lab::fixture("live555-tcp-h265.pcap");
    run(&["import", "--again", "--store", &at, third.to_str().expect("text")]);

    let live = frames_of(watching);
    std::thread::sleep(Duration::from_secs(2));
    let status = scene.status();
    assert_eq!(status["failed"], 0, "{status:#}");
    assert!(status["events"].as_array().is_some_and(Vec::is_empty), "{status:#}");
    let (lab, store, truth) = scene.ended();
    let line = json(&["timeline", &own, "--store", store.at(), "--json"]);
    assert!(array(&line["gaps"]).is_empty() && array(&line["segments"]).len() == 1, "{line:#}");
    let whole = nal::video(&store.export(&own), Codec::H264);
    let sent = nal::video(&truth, Codec::H264);
    assert!(nal::position(&whole, &sent).is_some(), "{} NAL units, {} at the VMS", whole.len(), sent.len());
    let all = recorded_frames(&truth, Codec::H264, lab.dir());
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let seen = pictures(&live);
    let of_both: Vec<_> = seen.iter().copied().filter(|picture| all.contains(picture)).collect();
    assert!(of_both.len() + 2 >= seen.len() && nal::position(&all, &of_both).is_some(), "other pictures");
    run(&["verify", "--store", store.at()]);
    let before = streams(store.at());
    run(&["reindex", "--store", store.at()]);
    assert_eq!(before, streams(store.at()));
}

/// Killed while files come in, while they wait for their turn, and while they are indexed: the next start has all that was in, and what is
/// imported again comes in once.
#[test]
fn a_kill_while_files_come_in_loses_nothing() {
    let test = "a_kill_while_files_come_in_loses_nothing";
    need!(test, "ffmpeg");
    let Some(mut scene) = Scene::set_over("tcp", test, &[]) else { return };
    let at = scene.store.at().to_owned();
    let files = ["live555-tcp-h265.pcap", "aac.pcap", "gst-udp-h265.pcap", "vlan.pcap"].map(lab::fixture);
    for round in 0..4u64 {
        std::thread::sleep(Duration::from_millis(1_500));
        let mut import = tapdeck();
        import.args(["import", "--again", "--store", &at]).args(&files).stderr(Stdio::null());
        let mut import = import.stdout(Stdio::null()).spawn().expect("starts");
        std::thread::sleep(Duration::from_millis(60 + 450 * round));
        scene.recorder.kill().expect("ours");
        scene.recorder.wait().expect("ours");
        import.wait().expect("ours");
        scene.recorder = scene.lab.record(&scene.store.path, &[]);
    }
    std::thread::sleep(Duration::from_secs(1));
    run(&["import", "--again", "--store", &at, files[0].to_str().expect("text")]);
    let (_lab, store, _) = scene.ended();
    let mut arguments = vec!["import", "--json", "--store", store.at()];
    arguments.extend(files.iter().map(|f| f.to_str().expect("text")));
    let imported = json(&arguments);
    assert!(array(&imported["files"]).iter().all(|f| f["error"].is_null()), "{imported:#}");
    run(&["verify", "--store", store.at()]);
    let streams = || array(&json(&["streams", "--store", store.at(), "--json"])).to_vec();
    let before = streams();
    run(&["reindex", "--store", store.at()]);
    assert_eq!(before, streams());
    // Each file is there once: the packets are those of the files and of the recording.
    let held: u64 =
        array(&json(&["packets", "--store", store.at(), "--json", "--limit", "1000000"])).len() as u64;
    let status = json(&["status", "--store", store.at(), "--json"]);
    assert_eq!(status["store"]["packets"], held, "{status:#}");
}

/// The kernel's own account of the socket (`packet_diag`): TPACKET_V3, which it numbers from 0, in a ring of blocks of the size that was asked for.
#[test]
fn it_reads_a_ring_of_blocks() {
    need!("the kernel's ring", "ss");
    let Some(lab) = Lab::up("it_reads_a_ring_of_blocks", &[("LAB_CAMERAS", "1")]) else { return };
    let store = Store::empty();
    let recorder = lab.record(&store.path, &["--buffer", "32MiB"]);
    let said = text(&lab.at("tap", "ss").args(["-0", "-e", "-n"]).output().expect("ss").stdout);
    stopped(recorder);
    assert!(said.contains("ver:2 "), "{said}");
    let number = |name: &str| {
        let value = said
            .split([',', '(', ')'])
            .find_map(|f| f.strip_prefix(name))
            .unwrap_or_else(|| panic!("{said}"));
        value.parse::<u64>().unwrap_or_else(|e| panic!("{e}: {said}"))
    };
    assert_eq!(number("blk_size:") * number("blk_nr:"), 32 << 20, "{said}");
    assert_eq!(number("tmo:"), 10, "{said}");
}

/// What it needs is CAP_NET_RAW (bit 13); nothing else is left in any thread.
#[test]
fn it_keeps_one_capability_and_hears_everything() {
    let test = "it_keeps_one_capability_and_hears_everything";
    let Some(lab) = Lab::up(test, &[("LAB_CAMERAS", "1")]) else { return };
    let promiscuity = || {
        let said =
            text(&lab.at("tap", "ip").args(["-d", "link", "show", "tap0"]).output().expect("ip").stdout);
        let mut words = said.split_whitespace().skip_while(|w| *w != "promiscuity");
        words.nth(1).and_then(|n| n.parse::<u32>().ok()).unwrap_or_else(|| panic!("{said}"))
    };
    let before = promiscuity();
    let plain = Store::empty();
    let recorder = lab.record(&plain.path, &["--no-promisc"]);
    assert_eq!(promiscuity(), before);
    stopped(recorder);
    let store = Store::empty();
    let recorder = lab.record(&store.path, &[]);
    assert_eq!(promiscuity(), before + 1);
    let mut threads = 0;
    for task in std::fs::read_dir(format!("/proc/{}/task", recorder.id())).expect("it runs").flatten() {
        // One that has ended meanwhile has none.
        let Ok(said) = std::fs::read_to_string(task.path().join("status")) else { continue };
        let field = |name: &str| {
            let line = said.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("{said}"));
            u64::from_str_radix(line.trim_start_matches(':').trim(), 16).expect("a mask")
        };
        assert_eq!((field("CapEff"), field("CapPrm"), field("CapInh")), (1 << 13, 1 << 13, 0), "{said}");
        threads += 1;
    }
    assert!(threads > 3, "{threads} threads");
    stopped(recorder);
}

#[test]
fn packets_are_cut_to_the_snaplen_and_have_nanoseconds() {
    let test = "packets_are_cut_to_the_snaplen_and_have_nanoseconds";
    let Some(lab) = Lab::up(test, &[("LAB_CAMERAS", "1")]) else { return };
    let store = Store::empty();
    let recorder = lab.record(&store.path, &["--snaplen", "96"]);
    let sent = blast(&lab, "2000", "1");
    std::thread::sleep(Duration::from_millis(500));
    stopped(recorder);
    let listed = json(&["packets", "-f", "udp and src host 198.18.1.11", "--store", store.at(), "--json"]);
    let packets = array(&listed);
    assert_eq!(packets.len() as u64, sent);
    assert!(
        packets.iter().all(|p| (&p["captured"], &p["length"]) == (&96.into(), &1200.into())),
        "{:#}",
        packets[0]
    );
    let fine = packets.iter().filter(|p| !word(&p["time"]).trim_end_matches('Z').ends_with("000")).count();
    assert!(fine > packets.len() / 2, "{fine} of {} times are finer than a microsecond", packets.len());
}

/// 1,200-byte RTP packets of 16 flows; returns how many were sent.
fn blast(lab: &Lab, rate: &str, seconds: &str) -> u64 {
    let sent = lab.at("cam1", tool("lab-blast")).args(["eth0", rate, seconds, "1200", "16"]).output();
    let said = text(&sent.expect("bash is there").stdout);
    let sent = said.split_whitespace().find_map(|word| word.strip_prefix("sent="));
    sent.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

/// A recorder that gets no CPU for a while loses what its ring has no room for. Each packet is counted, the second is in the journal,
/// and the gaps that it made are put down to the recorder.
#[test]
fn what_the_ring_had_no_room_for_is_counted_and_explains_the_gaps() {
    let test = "what_the_ring_had_no_room_for_is_counted_and_explains_the_gaps";
    let Some(lab) = Lab::up(test, &[("LAB_CAMERAS", "1")]) else { return };
    let store = Store::empty();
    let recorder = lab.record(&store.path, &["--buffer", "4MiB", "-f", "udp and src host 198.18.1.11"]);
    let pid = recorder.id().to_string();
    let signal =
        |name: &str| assert!(Command::new("kill").args([name, &pid]).status().is_ok_and(|s| s.success()));
    let sent = std::thread::scope(|scope| {
        let sent = scope.spawn(|| blast(&lab, "8000", "5"));
        std::thread::sleep(Duration::from_millis(1500));
        signal("-STOP");
        std::thread::sleep(Duration::from_millis(1500));
        signal("-CONT");
        sent.join().expect("it has sent")
    });
    std::thread::sleep(Duration::from_millis(500));
    stopped(recorder);
    let held =
        json(&["status", "--store", store.at(), "--json"])["store"]["packets"].as_u64().expect("a number");
    let seconds = seconds(&store);
    let lost = sum(&seconds, "dropped_by_kernel");
    assert!(lost > 2_000, "only {lost} of {sent} were lost: nothing is shown");
    assert_eq!(held + lost, sent, "{seconds:#?}");
    assert_eq!(sum(&seconds, "received"), sent);
    let streams = store.streams();
    assert_eq!(streams.len(), 16);
    assert_eq!(sum(&streams, "lost"), lost, "each stream misses its part");
    for stream in &streams {
        let line = json(&["timeline", &word(&stream["id"]), "--store", store.at(), "--json"]);
        let gaps = array(&line["gaps"]);
        assert!(!gaps.is_empty() && gaps.iter().all(|gap| gap["cause"] == "recorder"), "{line:#}");
    }
}

/// The mirror port's interface goes down and comes back: what passed meanwhile is a gap with its reason.
#[test]
fn an_interface_that_was_down_is_heard_again_and_explains_the_gap() {
    let test = "an_interface_that_was_down_is_heard_again_and_explains_the_gap";
    need!(test, "ffmpeg");
    let Some(scene) = Scene::set(test, &[]) else { return };
    let link = |what: &str| {
        let set = scene.lab.at("tap", "ip").args(["link", "set", "tap0", what]).status();
        assert!(set.is_ok_and(|s| s.success()), "ip link set tap0 {what}");
    };
    let packets = || scene.store.video()["packets"].as_u64().unwrap_or(0);
    std::thread::sleep(Duration::from_secs(4));
    link("down");
    std::thread::sleep(Duration::from_secs(2));
    let meanwhile = packets();
    link("up");
    let began = Instant::now();
    while packets() < meanwhile + 50 {
        assert!(began.elapsed() < PATIENCE, "nothing more is recorded: {:#}", scene.status());
        std::thread::sleep(Duration::from_millis(200));
    }
    // Longer than a gap takes to be final.
    std::thread::sleep(Duration::from_secs(2));
    let (_lab, store, _) = scene.ended();
    let line = json(&["timeline", &word(&store.video()["name"]), "--store", store.at(), "--json"]);
    let gaps = array(&line["gaps"]);
    assert_eq!(gaps.len(), 1, "{line:#}");
    assert_eq!(
        (&gaps[0]["cause"], &gaps[0]["evidence"]["kind"]),
        (&"recorder".into(), &"interface-away".into())
    );
    assert!(gaps[0]["packets"].as_u64() > Some(50), "{line:#}");
}

/// An interface that is removed (an adapter unplugged, a driver loaded anew) is waited for, and heard again.
#[test]
fn an_interface_that_was_removed_is_opened_again() {
    let test = "an_interface_that_was_removed_is_opened_again";
    let Some(lab) = Lab::up(test, &[("LAB_CAMERAS", "1")]) else { return };
    let plugged = |what: &str| {
        let script = match what {
            "in" => {
                "ip link add tap1 type veth peer name port1 && ip link set tap1 up && ip link set port1 up"
            }
            _ => "ip link del tap1",
        };
        let done = lab.at("tap", "sh").args(["-c", script]).status();
        assert!(done.is_ok_and(|s| s.success()), "{script}");
    };
    plugged("in");
    let store = Store::empty();
    let recorder = lab.record(&store.path, &["-i", "tap1"]);
    let heard = |at_least: u64| {
        let began = Instant::now();
        loop {
            let sent = lab.at("tap", tool("lab-blast")).args(["port1", "200", "1", "1200", "16"]).output();
            assert!(sent.is_ok_and(|s| s.status.success()));
            let status = json(&["status", "--store", store.at(), "--json"])["recorder"].clone();
            let all = array(&status["interfaces"]);
            let tap = all.iter().find(|i| i["name"] == "tap1").unwrap_or_else(|| panic!("{status:#}"));
            if tap["packets"].as_u64() >= Some(at_least) {
                return tap.clone();
            }
            assert!(began.elapsed() < PATIENCE, "not heard: {status:#}");
        }
    };
    let before = heard(150)["packets"].as_u64().expect("a number");
    plugged("out");
    std::thread::sleep(Duration::from_secs(2));
    plugged("in");
    heard(before + 150);
    stopped(recorder);
    run(&["verify", "--store", store.at()]);
}

/// A camera that falls silent in the middle of a session becomes an event, and its return another.
#[test]
fn a_camera_that_falls_silent_is_told() {
    let test = "a_camera_that_falls_silent_is_told";
    need!(test, "ffmpeg");
    let Some(scene) = Scene::set(test, &[]) else { return };
    // Other traffic goes on: a mirror port on which nothing comes any more is an event of another kind.
    let mut other = scene.lab.at("vms", tool("lab-blast"));
    let mut other = other.args(["eth0", "50", "80"]).stdout(Stdio::null()).spawn().expect("bash is there");
    std::thread::sleep(Duration::from_secs(4));
    let inside = text(
        &scene
            .lab
            .at("cam1", "sh")
            .args(["-c", "ip netns pids \"$(ip netns identify $$)\""])
            .output()
            .expect("sh")
            .stdout,
    );
    let own = std::process::id().to_string();
    let cameras: Vec<_> = inside.split_whitespace().filter(|pid| *pid != own).collect();
    assert!(!cameras.is_empty(), "nothing runs at the camera");
    let signal = |name: &str| {
        let mut kill = Command::new("kill");
        kill.arg(name).args(&cameras).stderr(Stdio::null());
        let _ = kill.status(); // the shell that listed them is gone
    };
    let told = |failure: bool| {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let status = scene.status();
            if array(&status["events"]).iter().any(|e| e["failure"] == failure) {
                return status;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        panic!("no event after {PATIENCE:?}: {:#}", scene.status())
    };
    signal("-STOP");
    let status = told(true);
    assert_eq!(status["failed"], 1, "{status:#}");
    assert!(word(&status["events"][0]["text"]).contains("198.18.0.11"), "{status:#}");
    signal("-CONT");
    let status = told(false);
    assert_eq!(status["failed"], 0, "{status:#}");
    let _ = other.kill();
    let _ = other.wait();
    scene.ended();
}
