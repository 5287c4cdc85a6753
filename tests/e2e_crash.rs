//! kill -9 under load, twenty times, with an outside reader; a disk that is full; a shard with a hole. Live parts need namespaces.

mod lab;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::nal::Codec;
use lab::program::{Store, TAPDECK, finish, interrupt, json, run, tapdeck, text, word};
use lab::skip;
use lab::topology::{Lab, tool};
use reconstruct::recognise::PROBATION;
use serde_json::Value;

const ROUNDS: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(30);
/// In lab-blast's frames: Ethernet, IPv4, UDP.
const RTP_AT: usize = 42;

/// Frames onto the switch, and so onto the mirror. Nobody there has the destination's address, so each port gets them once.
fn blast(lab: &Lab, rate: &str, seconds: &str) -> Child {
    let mut command = lab.at("cam1", tool("lab-blast"));
    command
        .args(["eth0", rate, seconds, "1200", "16"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("bash is there")
}

fn recorder(lab: &Lab, store: &Path, more: &[&str]) -> Child {
    recorder_of(lab, store, &[&["--shard-size", "8MiB"], more].concat())
}

fn recorder_of(lab: &Lab, store: &Path, options: &[&str]) -> Child {
    let mut command = lab.at("tap", TAPDECK);
    command.args(["record", "-i", "tap0", "--rtsp", "off", "--store"]).arg(store).args(options);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("bash is there")
}

/// What the outside reader saw: for each shard, the bytes it had published.
type Seen = HashMap<capture::ShardId, (u64, blake3::Hash)>;

fn look(store: &Path, seen: &mut Seen) -> u64 {
    let Ok(store) = capture::Store::open(store) else { return 0 };
    let mut packets = 0;
    for info in store.shards() {
        packets += info.packets;
        let Ok(shard) = store.shard(info.id) else { continue };
        let committed = shard.committed();
        if committed <= 24 {
            continue; // reserved, and no packet published in it yet
        }
        let Some(hash) = hash_of(&shard, committed) else { continue };
        seen.insert(info.id, (committed, hash));
    }
    packets
}

/// The newest shard that an outside reader finds, and its packets. (Not all packets: retention takes some away.)
fn newest(store: &Path) -> Option<(capture::ShardId, u64)> {
    capture::Store::open(store).ok()?.shards().last().map(|s| (s.id, s.packets))
}

fn hash_of(shard: &capture::Shard, bytes: u64) -> Option<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 24;
    while at < bytes {
        let chunk = shard.chunk(at).ok()??;
        let all: &[u8] = &chunk.bytes;
        let wanted = usize::try_from(bytes - at).ok()?.min(all.len());
        hasher.update(&all[..wanted]);
        at += wanted as u64;
    }
    Some(hasher.finalize())
}

/// Packets of each SSRC.
type BySsrc = HashMap<u32, u64>;

/// Reads a shard as what it is, a pcap file; each flow's RTP numbers only go forward, and nothing but our frames is in it.
fn assert_only_ours(file: &Path) -> BySsrc {
    let bytes = fs::read(file).expect("a shard");
    assert_eq!(bytes[..4], 0xa1b2_3c4d_u32.to_le_bytes(), "{}: not a nanosecond pcap file", file.display());
    let (mut at, mut packets, mut last) = (24, BySsrc::new(), HashMap::<u32, u16>::new());
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().expect("four bytes")) as usize;
        let frame = &bytes[at + 16..at + 16 + len];
        assert_eq!(len, 1200, "{} at {at}: not a frame that was sent", file.display());
        let sequence = u16::from_be_bytes([frame[RTP_AT + 2], frame[RTP_AT + 3]]);
        let ssrc = u32::from_be_bytes(frame[RTP_AT + 8..RTP_AT + 12].try_into().expect("four bytes"));
        assert_eq!(ssrc >> 8, 0x10_0000, "{} at {at}", file.display());
        if let Some(before) = last.insert(ssrc, sequence) {
            let step = sequence.wrapping_sub(before);
            assert!(
                step > 0 && step < 0x8000,
                "{} at {at}: {before} is followed by {sequence}",
                file.display()
            );
        }
        *packets.entry(ssrc).or_default() += 1;
        at += 16 + len;
    }
    packets
}

fn shards(store: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        fs::read_dir(store.join("shards")).expect("a store").flatten().map(|e| e.path()).collect();
    found.retain(|p| p.extension().is_some_and(|e| e == "pcap"));
    found.sort();
    found
}

/// Twenty times: kill -9 at some moment of a recording under load, while shards rotate and (with `more`) while retention deletes.
fn killed_again_and_again(test: &str, more: &[&str], retained: bool) {
    let Some(lab) = Lab::up(test, &[("LAB_CAMERAS", "1")]) else { return };
    let store = Store::empty();
    let mut load = blast(&lab, "8000", "120");
    let mut seen = Seen::new();
    for round in 0..ROUNDS {
        let mut recording = recorder(&lab, &store.path, more);
        // Moments spread over 0.25 to 1.7 s by a fixed sequence, so that a failure can be had again.
        let until = Instant::now() + Duration::from_millis(250 + round * 7919 % 1450);
        while Instant::now() < until {
            look(&store.path, &mut seen);
            assert!(
                recording.try_wait().expect("our own child").is_none(),
                "record ended by itself in round {round}"
            );
        }
        // `ip netns exec` becomes the program it starts: this is the recorder itself.
        recording.kill().expect("our own child");
        recording.wait().expect("our own child");
    }
    let mut resumed = Vec::new();
    for last in [false, false, true] {
        let before = newest(&store.path);
        let started = Instant::now();
        let mut recording = recorder(&lab, &store.path, more);
        while newest(&store.path) <= before && started.elapsed() < PATIENCE {}
        resumed.push(started.elapsed());
        if !last {
            recording.kill().expect("our own child");
            recording.wait().expect("our own child");
            continue;
        }
        interrupt(&recording);
        let ended = finish(recording, PATIENCE);
        assert!(ended.status.success(), "record: {}", text(&ended.stderr));
    }
    let _ = load.kill();
    let _ = load.wait();
    // From the start of the process to new packets that a reader can see; a debug build, and load on the same two cores: once may be
    // slow for reasons that are not ours.
    resumed.sort();
    assert!(resumed[1] < Duration::from_secs(1), "resumed only after {resumed:?}");

    let opened = capture::Store::open(&store.path).expect("a store");
    let retained_ids: Vec<_> = opened.shards().iter().map(|s| s.id).collect();
    for (id, (bytes, hash)) in &seen {
        if retained && !retained_ids.contains(id) {
            continue;
        }
        let shard =
            opened.shard(*id).unwrap_or_else(|e| panic!("shard {id:?} was published and is gone: {e}"));
        assert!(
            shard.committed() >= *bytes,
            "shard {id:?}: {bytes} bytes were published, {} are left",
            shard.committed()
        );
        assert_eq!(hash_of(&shard, *bytes), Some(*hash), "shard {id:?}: its first {bytes} bytes changed");
    }
    let mut on_disk = HashMap::<_, BySsrc>::new();
    for (file, shard) in shards(&store.path).iter().zip(opened.shards()) {
        let of_source = on_disk.entry(shard.source).or_default();
        for (ssrc, packets) in assert_only_ours(file) {
            *of_source.entry(ssrc).or_default() += packets;
        }
    }
    let found = on_disk.values().flat_map(HashMap::values);
    let verified = json(&["verify", "--store", store.at(), "--json"]);
    let reports = verified["shards"].as_array().expect("an array");
    let rows = reports.iter().filter_map(|s| s["index"]["rows"].as_u64()).sum::<u64>();
    assert_eq!(rows, found.clone().sum::<u64>(), "packets in the index and in the shards");
    let before = json(&["streams", "--store", store.at(), "--json"]);
    if !retained {
        let streams = before.as_array().expect("an array");
        let in_streams = streams.iter().filter_map(|s| s["packets"].as_u64()).sum::<u64>();
        // Who was killed after a few packets of a flow has not seen enough of it to take it for RTP, unless they go on with what the run before had.
        let (enough, few): (Vec<u64>, Vec<u64>) =
            found.copied().partition(|packets| *packets >= u64::from(PROBATION));
        let (enough, few) = (enough.iter().sum::<u64>(), few.iter().sum::<u64>());
        let there = enough..=enough + few;
        assert!(there.contains(&in_streams), "{in_streams} packets in the streams, {there:?} in the shards");
    }
    run(&["reindex", "--store", store.at()]);
    if !retained {
        assert_eq!(json(&["streams", "--store", store.at(), "--json"]), before, "the index was not complete");
    }
}

#[test]
fn killed_while_shards_rotate() {
    killed_again_and_again("killed_while_shards_rotate", &[], false);
}

#[test]
fn killed_while_retention_deletes() {
    killed_again_and_again("killed_while_retention_deletes", &["--keep-bytes", "40MiB"], true);
}

/// A small filesystem of its own; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, image: &Path, megabytes: u64) -> Option<SmallDisk> {
        fs::create_dir(&at).ok()?;
        let file = fs::File::create(image).ok()?;
        file.set_len(megabytes << 20).ok()?;
        let quiet = |program: &str, arguments: &[&str]| {
            let done =
                Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
            done.is_ok_and(|s| s.success())
        };
        let (image, target) = (image.to_str()?, at.to_str()?);
        let mounted = quiet("mkfs.ext4", &["-q", "-F", image])
            && quiet("mount", &["-o", "loop", image, target])
            || quiet("mount", &["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs", target]);
        mounted.then_some(SmallDisk(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn lab_with_small_disk(test: &str, megabytes: u64) -> Option<(Lab, SmallDisk)> {
    let lab = Lab::up(test, &[("LAB_CAMERAS", "1")])?;
    let disk = SmallDisk::mount(lab.dir().join("disk"), &lab.dir().join("image"), megabytes);
    if disk.is_none() {
        skip(test, "may not mount a small filesystem");
    }
    Some((lab, disk?))
}

#[test]
fn full_disk_stops_clearly_and_harms_nothing() {
    let test = "full_disk_stops_clearly_and_harms_nothing";
    let Some((lab, disk)) = lab_with_small_disk(test, 96) else { return };
    let store = disk.0.join("store");
    let mut load = blast(&lab, "20000", "12");
    let mut recording = recorder(&lab, &store, &["--min-free", "0"]);
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until && recording.try_wait().expect("our own child").is_none() {
        std::thread::sleep(Duration::from_millis(100));
    }
    interrupt(&recording);
    let ended = finish(recording, PATIENCE);
    let _ = load.kill();
    let _ = load.wait();
    let said = text(&ended.stderr);
    let code = ended.status.code().unwrap_or_else(|| panic!("ended by a signal: {}\n{said}", ended.status));
    assert!(code == 0 || code == 1, "{code}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    // 290 MB were sent onto 96.
    assert!(said.contains("no room in") && said.contains("make room there"), "not told: {said}");
    let whole: u64 = shards(&store).iter().flat_map(|s| assert_only_ours(s).into_values()).sum();
    assert!(whole > 20_000, "only {whole} packets were kept on a disk that holds 70,000");
    let verified =
        tapdeck().args(["verify", "--store"]).arg(&store).output().expect("the built program starts");
    assert!(verified.status.success(), "verify: {}{}", text(&verified.stdout), text(&verified.stderr));
}

/// Without any bound given the oldest goes, and the recording goes on with the newest: whatever the free space and the size of a shard.
#[test]
fn a_disk_that_gets_full_is_recorded_onto_further() {
    let test = "a_disk_that_gets_full_is_recorded_onto_further";
    let Some((lab, disk)) = lab_with_small_disk(test, 160) else { return };
    let store = disk.0.join("store");
    let other = disk.0.join("other");
    for round in 0..2 {
        let mut load = blast(&lab, "10000", "12");
        let recording = recorder_of(&lab, &store, &["--shard-size", "4MiB"]);
        std::thread::sleep(Duration::from_secs(10));
        interrupt(&recording);
        let ended = finish(recording, PATIENCE);
        let _ = load.kill();
        let _ = load.wait();
        let said = text(&ended.stderr);
        assert!(ended.status.success(), "{said}");
        assert!(
            said.contains("the oldest footage makes room for the newest"),
            "that it goes is told: {said}"
        );
        let whole: u64 = shards(&store).iter().flat_map(|s| assert_only_ours(s).into_values()).sum();
        // 120 MB were sent each time; a tenth may be lost where the disk is slow.
        let ours = said.rsplit_once("ours ").map(|(_, count)| count.lines().next().unwrap_or_default());
        let lost: u64 = ours.unwrap_or_default().replace(',', "").parse().expect("the summary counts");
        assert!(lost < 10_000 && whole > 20_000, "{lost} lost, {whole} kept: {said}");
        if round == 0 {
            // The next start finds less room than its first shard needs.
            let stat = rustix::fs::statvfs(&disk.0).expect("it is mounted");
            let free = stat.f_bavail * stat.f_frsize;
            fs::write(&other, vec![1; usize::try_from(free - (10 << 20)).expect("it is small")])
                .expect("there is room");
        }
    }
    run(&["verify", "--store", store.to_str().expect("made of text")]);
}

/// A store of two captures, and the shard of the first.
fn two_captures() -> (Store, PathBuf) {
    let store = Store::import(&[lab::fixture("gst-tcp-h264.pcap")]);
    store.add(&[lab::fixture("gst-udp-h265.pcap")]);
    run(&["verify", "--store", store.at()]);
    let shard = shards(&store.path).swap_remove(0);
    (store, shard)
}

/// What `verify` says of the first shard, which it must find damaged, and the second, which is sound.
fn damage(store: &Store) -> Value {
    let verified = tapdeck().args(["verify", "--store", store.at(), "--json"]).output().expect("it starts");
    assert_eq!(verified.status.code(), Some(1), "{}", text(&verified.stderr));
    let found: Value = serde_json::from_slice(&verified.stdout).expect("one JSON document");
    assert_eq!(
        (&found["shards"][0]["sound"], &found["shards"][1]["sound"]),
        (&false.into(), &true.into()),
        "{found:#}"
    );
    found["shards"][0].clone()
}

fn of_codec(store: &Store, codec: &str) -> Value {
    let streams = store.streams();
    let mut found = streams.iter().filter(|s| s["codec"] == codec);
    found.next().unwrap_or_else(|| panic!("no {codec} in {streams:#?}")).clone()
}

/// All but what was damaged plays: the other capture as a whole, of this one what stands outside the damage, in order.
fn rest_stays_playable(store: &Store, least: usize) {
    let other = store.export(&word(&of_codec(store, "h265")["id"]));
    lab::nal::assert_same_video(&other, &lab::fixture("gst-udp-h265.h265"), Codec::H265);
    let stream = of_codec(store, "h264");
    let ours = lab::nal::video(&store.export(&word(&stream["id"])), Codec::H264);
    let theirs = lab::nal::video(&lab::fixture("gst-tcp-h264.h264"), Codec::H264);
    let mut from = 0;
    let mut missing = 0;
    for unit in &theirs {
        match ours[from..].iter().position(|u| u == unit) {
            Some(at) => from += at + 1,
            None => missing += 1,
        }
    }
    assert!(missing > 0 && theirs.len() - missing >= least, "{missing} of {} are missing", theirs.len());
    let packets = store.dir.path().join("packets.pcap");
    let named = word(&stream["id"]);
    run(&[
        "export",
        &named,
        "--format",
        "pcap",
        "--force",
        "--store",
        store.at(),
        "-o",
        packets.to_str().expect("text"),
    ]);
    assert!(json(&["packets", "--store", store.at(), "--json"]).as_array().is_some_and(|p| p.len() > 100));
    need!("playing a damaged store", "ffmpeg");
    let server = store.serve();
    let url = server.url(&of_codec(store, "h265"));
    let seen = lab::players::frames(&["-rtsp_transport", "tcp", "-i", &url]);
    assert!(seen.len() > 20, "{} frames", seen.len());
}

fn with_damage(fill: fn(usize) -> u8) {
    let (store, shard) = two_captures();
    let mut bytes = fs::read(&shard).expect("a shard");
    let whole = bytes.len() as u64;
    (50_000..54_096).for_each(|at| bytes[at] = fill(at));
    fs::write(&shard, bytes).expect("our own store");
    let report = damage(&store);
    let found = report["unreadable"].as_array().expect("an array");
    let place = |key: &str| found[0][key].as_u64().unwrap_or_else(|| panic!("{report:#}"));
    // From the first record of which the beginning is damaged to the next place that is known to be one.
    let told = found.len() == 1
        && (50_000..=54_096).contains(&place("from"))
        && (54_096..=whole).contains(&place("to"));
    assert!(told, "{report:#}");
    rest_stays_playable(&store, 10);
}

/// A shard with a hole in its middle: `verify` says where, everything else stays playable.
#[test]
fn hole_in_a_shard_is_told_and_the_rest_stays() {
    with_damage(|_| 0);
}

#[test]
fn garbage_in_a_shard_is_told_and_the_rest_stays() {
    with_damage(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]);
}

/// A shard that somebody cut is no different; and the index can be made again, and the store goes on.
#[test]
fn a_shard_that_was_cut_is_told_and_the_store_goes_on() {
    let (store, shard) = two_captures();
    let file = fs::File::options().write(true).open(&shard).expect("our own store");
    file.set_len(60_000).expect("our own store");
    damage(&store);
    rest_stays_playable(&store, 10);
    run(&["reindex", "--store", store.at()]);
    rest_stays_playable(&store, 10);
    store.add(&[lab::fixture("pcmu.pcap")]);
    assert_eq!(of_codec(&store, "pcmu")["kind"], "audio");
    file.set_len(0).expect("our own store");
    run(&["reindex", "--store", store.at()]);
    fs::remove_file(&shard).expect("our own store");
    run(&["packets", "--store", store.at()]);
    run(&["reindex", "--store", store.at()]);
    let other = store.export(&word(&of_codec(&store, "h265")["id"]));
    lab::nal::assert_same_video(&other, &lab::fixture("gst-udp-h265.h265"), Codec::H265);
}

/// An older copy of the journal put back, in a store whose index is on another disk: what the journal does not know is told and kept, the index
/// is made anew where it is, and the footage can be brought in again.
#[test]
fn a_shard_later_than_the_journal_is_kept_and_told() {
    let (first, later) = ("gst-tcp-h264", "gst-udp-h265");
    let store = Store::import(&[lab::fixture(&format!("{first}.pcap"))]);
    let index = store.path.join("index");
    let elsewhere = store.dir.path().join("index on another disk");
    fs::rename(&index, &elsewhere).expect("our own store");
    std::os::unix::fs::symlink(&elsewhere, &index).expect("our own directory");
    // As where a file system is mounted.
    fs::create_dir(elsewhere.join("lost+found")).expect("our own directory");
    let (journal, older) = (store.path.join("journal"), store.dir.path().join("older"));
    let copied = Command::new("cp").arg("-r").arg(&journal).arg(&older).status();
    assert!(copied.is_ok_and(|s| s.success()));
    store.add(&[lab::fixture(&format!("{later}.pcap"))]);
    fs::remove_dir_all(&journal).expect("our own store");
    fs::rename(&older, &journal).expect("our own directory");

    let unknown = || {
        let verified = tapdeck().args(["verify", "--store", store.at()]).output().expect("it starts");
        let said = text(&verified.stdout);
        let told = said.lines().find_map(|line| line.strip_prefix("not in the journal, which is older: "));
        assert_eq!((verified.status.code(), told.is_some()), (Some(1), true), "{said}");
        assert!(said.lines().any(|line| line.starts_with("  to bring it in: tapdeck import ")), "{said}");
        PathBuf::from(told.expect("asserted"))
    };
    assert_eq!(unknown(), shards(&store.path)[1]);
    store.add(&[lab::fixture("pcmu.pcap")]);
    assert!(index.is_symlink() && elsewhere.join("CURRENT").exists(), "the index is made anew where it was");
    let stray = unknown();
    assert!(stray.exists(), "{}", stray.display());
    assert!(store.streams().iter().all(|s| s["codec"] != "h265"), "{:#?}", store.streams());
    store.add(std::slice::from_ref(&stray));
    fs::remove_file(stray).expect("our own store");
    for (name, name_of, codec) in [(first, "h264", Codec::H264), (later, "h265", Codec::H265)] {
        let ours = store.export(&word(&of_codec(&store, name_of)["id"]));
        lab::nal::assert_same_video(&ours, &lab::fixture(&format!("{name}.{name_of}")), codec);
    }
    run(&["verify", "--store", store.at()]);
}

/// A copy of a store whose recorder was killed has the same id. It is not the one whose newest packets lie in memory.
#[test]
fn a_copy_of_a_killed_store_takes_nothing_from_the_original() {
    let test = "a_copy_of_a_killed_store_takes_nothing_from_the_original";
    let Some(lab) = Lab::up(test, &[("LAB_CAMERAS", "1")]) else { return };
    let store = Store::empty();
    let mut load = blast(&lab, "8000", "10");
    let mut recording = recorder(&lab, &store.path, &[]);
    let began = Instant::now();
    let held =
        || capture::Store::open(&store.path).map_or(0, |s| s.shards().iter().map(|s| s.packets).sum::<u64>());
    while held() < 4_000 && began.elapsed() < PATIENCE {}
    recording.kill().expect("our own child");
    recording.wait().expect("our own child");
    let _ = load.kill();
    let _ = load.wait();
    let published = held();
    assert!(published >= 4_000, "{published} packets after {PATIENCE:?}");
    let copy = store.dir.path().join("copy");
    let copied = Command::new("cp").arg("-r").arg(&store.path).arg(&copy).status();
    assert!(copied.is_ok_and(|s| s.success()));
    for at in [&copy, &store.path] {
        run(&["reindex", "--store", at.to_str().expect("text")]);
    }
    let left = json(&["status", "--store", store.at(), "--json"])["store"]["packets"].as_u64();
    assert!(left >= Some(published), "{published} were published, {left:?} are left");
    run(&["verify", "--store", store.at()]);
}

/// Two files onto a disk that has room for a part of the first: told, nothing harmed, and it goes on where there is room.
#[test]
fn an_import_onto_a_full_disk_stops_and_goes_on_later() {
    const ROOM: u64 = 48 << 20;
    let test = "an_import_onto_a_full_disk_stops_and_goes_on_later";
    let scratch = Store::empty();
    let Some(disk) = SmallDisk::mount(scratch.dir.path().join("disk"), &scratch.dir.path().join("image"), 96)
    else {
        return skip(test, "may not mount a small filesystem");
    };
    let made_as = scratch.dir.path().join("large.pcap");
    let made = Command::new(tool("lab-footage")).arg(&made_as).args(["30", "20", "udp"]).output();
    assert!(made.is_ok_and(|m| m.status.success()));
    // What is kept of a file is known also of one whose name is no text.
    let large = scratch.dir.path().join(OsStr::from_bytes(b"large \xff.pcap"));
    fs::rename(made_as, &large).expect("our own directory");
    // How much room there is depends on the kind of file system.
    let room = rustix::fs::statvfs(&disk.0).expect("it is mounted");
    let ballast = disk.0.join("ballast");
    let excess = (room.f_bavail * room.f_frsize).saturating_sub(ROOM);
    fs::write(&ballast, vec![1; excess as usize]).expect("there is room");
    let store = disk.0.join("store");
    let small = lab::fixture("pcmu.pcap");
    let import = || {
        let mut import = tapdeck();
        import
            .arg("import")
            .args([&large, &small])
            .args(["--shard-size", "8MiB", "--json", "--store"])
            .arg(&store);
        import.output().expect("it starts")
    };
    let failed = import();
    let said = text(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    let lines: Vec<_> = said.lines().filter(|l| l.starts_with("tapdeck:")).collect();
    assert!(lines.len() == 3 && !said.contains("ERROR"), "{said}");
    assert!(lines[0].contains("large \u{fffd}.pcap") && lines[0].contains("make room"), "{said}");
    assert!(lines[2].contains("pcmu.pcap") && lines[2].contains("not tried"), "{said}");
    let told: Value = serde_json::from_slice(&failed.stdout).expect("one JSON document");
    let kept = told["files"][0]["kept"].as_u64().unwrap_or_else(|| panic!("{told:#}"));
    assert!(kept > 5_000 && lines[1].contains("packets of it are in the store"), "{said}");
    let at = store.to_str().expect("text");
    run(&["verify", "--store", at]);
    assert_eq!(json(&["status", "--store", at, "--json"])["store"]["packets"], kept);
    fs::remove_file(&ballast).expect("our own");
    let done = import();
    assert!(done.status.success(), "{}", text(&done.stderr));
    run(&["verify", "--store", at]);
    let whole = Store::import(&[large.clone(), small.clone()]);
    let packets = |at: &str| json(&["status", "--store", at, "--json"])["store"]["packets"].clone();
    assert_eq!(packets(at), packets(whole.at()));
    assert_eq!(
        json(&["streams", "--store", at, "--json"]),
        json(&["streams", "--store", whole.at(), "--json"])
    );
}
