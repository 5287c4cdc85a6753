//! Capture files that are odd and come in all the same: what is odd about them is told, and only where it matters.

mod lab;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use capture::{CaptureTime, FileParser, Step};
use lab::fixture;
use lab::nal::Codec;
use lab::program::{Store, json, path_text, run, tapdeck, text, word};
use serde_json::Value;

const H264: &str = "gst-udp-h264.pcap";

/// A record of a capture file as it stands there, and its time.
type Raw = (CaptureTime, Vec<u8>);

/// A fixture's header and its records.
fn split(file: &str) -> (Vec<u8>, Vec<Raw>) {
    let whole = std::fs::read(fixture(file)).expect("a fixture");
    let (mut parser, mut at) = (FileParser::default(), 0);
    let (mut header, mut records) = (Vec::new(), Vec::new());
    loop {
        let step = parser.next(&whole[at..], true).expect("a sound file");
        let raw = whole[at..at + parser.consumed()].to_vec();
        at += raw.len();
        match step {
            Step::Record { time, .. } => records.push((time, raw)),
            Step::End => return (header, records),
            _ => header.extend(raw),
        }
    }
}

/// Has the record at `at` come behind all that were captured up to `nanos` later; returns how much later the last of them was.
fn delay(records: &mut [Raw], at: usize, nanos: i64) -> i64 {
    let time = records[at].0;
    let later = records[at..].iter().take_while(|(other, _)| other.nanos_since(time) <= nanos).count();
    records[at..at + later].rotate_left(1);
    let latest = records[at..at + later].iter().map(|(time, _)| *time).max().expect("at least itself");
    latest.nanos_since(time)
}

fn write(store: &Store, name: &str, header: Vec<u8>, records: Vec<Raw>) -> PathBuf {
    let path = store.dir.path().join(name);
    let bytes = [vec![header], records.into_iter().map(|(_, raw)| raw).collect()].concat().concat();
    std::fs::write(&path, bytes).expect("our own directory");
    path
}

/// Both outputs of an import for people.
fn told(store: &Store, arguments: &[&OsStr]) -> String {
    let output =
        run(&[&[OsStr::new("import"), OsStr::new("--store"), store.path.as_os_str()], arguments].concat());
    text(&output.stdout) + &text(&output.stderr)
}

/// What `--json` says of the one file that it imports, into another store.
fn document(file: &Path) -> Value {
    let store = Store::empty();
    let arguments = ["import", "--json", "--store", store.at()].map(OsStr::new);
    json(&[&arguments[..], &[file.as_os_str()]].concat())["files"][0].clone()
}

fn packets(store: &Store) -> usize {
    json(&["packets", "--store", store.at(), "--json"]).as_array().expect("an array").len()
}

#[test]
fn packets_far_behind_later_ones_are_told() {
    let (store, (header, mut records)) = (Store::empty(), split(H264));
    let middle = records.len() / 2;
    delay(&mut records, middle, 150_000_000);
    let by = delay(&mut records, middle / 2, 300_000_000);
    assert!(by > 200_000_000, "the fixture has footage there");
    let file = write(&store, "late.pcap", header, records);
    let said = told(&store, &[file.as_os_str()]);
    let expected = format!("2 packets stand behind later ones, by up to {:.1} s", by as f64 / 1e9);
    assert!(said.contains(&expected) && said.contains("`reordercap`"), "not `{expected}`: {said}");
    let document = document(&file);
    assert_eq!(document["disordered"], 2, "{document:#}");
    assert_eq!(document["disorder_s"], by as f64 / 1e9, "{document:#}");
}

#[test]
fn packets_a_little_behind_later_ones_are_put_in_order_and_not_told() {
    let (store, (header, mut records)) = (Store::empty(), split(H264));
    let count = records.len();
    let mut by = 0;
    // Behind the dialogue, and each one behind other ones.
    for at in (count / 4..count * 3 / 4).step_by(7) {
        by = by.max(delay(&mut records, at, 80_000_000));
    }
    assert!(by > 30_000_000, "the fixture has footage there");
    let file = write(&store, "late.pcap", header, records);
    let said = told(&store, &[file.as_os_str()]);
    assert!(!said.contains("behind") && !said.contains("reordercap"), "{said}");
    let document = document(&file);
    assert!(document["disordered"].as_u64() > Some(5), "{document:#}");
    assert_eq!(document["disorder_s"], by as f64 / 1e9, "{document:#}");
    let in_order = Store::import(&[fixture(H264)]);
    let export = |store: &Store| {
        let id = lab::program::word(&store.video()["id"]);
        std::fs::read(store.export(&id)).expect("an export")
    };
    assert!(export(&store) == export(&in_order), "the elementary stream is another");
}

/// As a recorder with a ring of files leaves it: they end wherever they are full, mostly in the middle of a picture.
#[test]
fn a_capture_in_many_files_is_one_stream() {
    // What is interleaved in TCP has its borders within frames. In no case does one lie within the dialogue.
    for (fixture_name, of_files) in [
        (H264, &[4][..]),
        ("gst-udp-h265.pcap", &[4]),
        ("live555-udp-h264.pcap", &[4]),
        ("gst-tcp-h264.pcap", &[4, 9]),
        ("live555-tcp-h265.pcap", &[4]),
        ("late-tcp.pcap", &[4, 7]),
        ("span-both-tcp.pcap", &[4, 9]),
    ] {
        let whole = Store::import(&[fixture(fixture_name)]);
        let (header, records) = split(fixture_name);
        for &several in of_files {
            let store = Store::empty();
            let parts = records.chunks(records.len().div_ceil(several)).enumerate();
            let files: Vec<PathBuf> = parts
                .map(|(n, part)| write(&store, &format!("part{n:03}.pcap"), header.clone(), part.to_vec()))
                .collect();
            store.add(&files);
            let (one, many) = (whole.video(), store.video());
            for count in ["packets", "bytes", "lost", "access_units", "clean_points"] {
                assert_eq!(one[count], many[count], "{count} of {fixture_name} in {several}");
            }
            let export = |store: &Store, video: &Value| {
                std::fs::read(store.export(&word(&video["id"]))).expect("an export")
            };
            let same = export(&whole, &one) == export(&store, &many);
            assert!(same, "{fixture_name} in {several}: another elementary stream");
            run(&["verify", "--store", store.at()]);
            let pcap = store.dir.path().join("joined.pcap");
            let id = word(&many["id"]);
            run(&["export", &id, "--store", store.at(), "--format", "pcap", "-o", path_text(&pcap)]);
            let joined = Store::import(&[pcap]);
            assert_eq!(
                (&joined.video()["packets"], &joined.video()["lost"]),
                (&one["packets"], &one["lost"])
            );
        }
    }
}

/// A file that is imported once more, or after the one behind it, is none that goes on with what was imported before.
#[test]
fn an_interleaved_file_again_or_behind_its_next_is_whole() {
    for fixture_name in ["gst-tcp-h264.pcap", "live555-tcp-h265.pcap"] {
        let (store, (header, records)) = (Store::empty(), split(fixture_name));
        let (first, second) = records.split_at(records.len() / 2);
        let first = write(&store, "first.pcap", header.clone(), first.to_vec());
        let second = write(&store, "second.pcap", header, second.to_vec());
        let packets = |store: &Store| {
            let of = |stream: Value| stream["packets"].as_u64().expect("a number");
            store.streams().into_iter().map(of).sum::<u64>()
        };
        let alone = [&first, &second].map(|file| packets(&Store::import(std::slice::from_ref(file))));
        let both = alone[0] + alone[1];
        store.add(std::slice::from_ref(&second));
        store.add(std::slice::from_ref(&first));
        assert_eq!(packets(&store), both, "{fixture_name}");
        // Where the second comes behind the first, they have the packet that lies in both as well.
        let shared = |packets: u64| packets == both || packets == both + 1;
        for file in [&second, &first] {
            run(&["import", path_text(file), "--again", "--store", store.at()]);
            assert!(shared(packets(&store)), "{fixture_name}, {} again: {}", file.display(), packets(&store));
        }
        run(&["reindex", "--store", store.at()]);
        assert!(shared(packets(&store)), "{fixture_name} anew: {}", packets(&store));
    }
}

/// Between two copies of a packet, where the last few packets alone are in the second file.
#[test]
fn a_border_between_files_may_lie_anywhere() {
    for (name, borders) in
        [("span-both", &[63, 64, 65, 178, 300][..]), ("vlan", &[148]), ("aac", &[184, 188])]
    {
        let whole = Store::import(&[fixture(&format!("{name}.pcap"))]);
        let told = |store: &Store| {
            let streams = store.streams();
            streams
                .iter()
                .map(|s| (s["name"].clone(), s["packets"].clone(), s["lost"].clone()))
                .collect::<Vec<_>>()
        };
        let (header, records) = split(&format!("{name}.pcap"));
        for &border in borders {
            let store = Store::empty();
            let parts = [("a.pcap", &records[..border]), ("b.pcap", &records[border..])]
                .map(|(name, part)| write(&store, name, header.clone(), part.to_vec()));
            store.add(&parts);
            assert_eq!(told(&store), told(&whole), "{name} at {border}");
            let (ours, all) = (store.video()["id"].to_string(), whole.video()["id"].to_string());
            let [ours, all] =
                [store.export(&ours), whole.export(&all)].map(|file| std::fs::read(file).expect("written"));
            assert!(ours == all, "{name} at {border}");
        }
    }
}

/// Key presses among the sound, as door stations send them: they are no sound.
#[test]
fn other_payload_types_are_left_out_of_an_elementary_stream() {
    let sound = |store: &Store| {
        let streams = store.streams();
        let audio = streams.iter().find(|s| s["codec"] == "pcmu").expect("the fixture has sound");
        let id = word(&audio["id"]);
        (audio["packets"].as_u64().expect("a count"), std::fs::read(store.export(&id)).expect("an export"))
    };
    let (packets, whole) = sound(&Store::import(&[fixture("pcmu.pcap")]));
    let (store, (header, mut records)) = (Store::empty(), split("pcmu.pcap"));
    let mut changed = 0;
    let mut seen = 0;
    for (_, raw) in &mut records {
        // Interleaved frames (RFC 2326 section 10.12) with RTP of type 0.
        let frames = raw.windows(6).enumerate().filter(|(_, w)| {
            w[0] == b'$' && w[1] < 4 && (1..8).contains(&w[2]) && w[4] == 0x80 && w[5] & 0x7f == 0
        });
        for at in frames.map(|(at, _)| at).collect::<Vec<_>>() {
            seen += 1;
            if seen % 4 == 0 {
                raw[at + 5] |= 101;
                changed += 1;
            }
        }
    }
    assert!(changed > 2 && seen > packets * 3 / 4, "{changed} of {seen} of {packets}");
    store.add(&[write(&store, "keys.pcap", header, records)]);
    let (same, left) = sound(&store);
    assert_eq!(same, packets);
    assert_eq!(left.len() as u64 * packets, whole.len() as u64 * (packets - changed));
}

/// A block of a pcapng file (draft-ietf-opsawg-pcapng section 3.1), little endian.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = (12 + body.len() as u32).to_le_bytes();
    [&kind.to_le_bytes()[..], &len, body, &len].concat()
}

/// A pcapng file whose interface counts microseconds from `offset_secs` on, with one packet at each of these seconds; and where those
/// begin.
fn pcapng(offset_secs: i64, seconds: &[u64]) -> (Vec<u8>, Vec<usize>) {
    let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
    // Ethernet, no snap length, `if_tsoffset`, the options' end.
    let interface =
        [&[1, 0, 0, 0, 0, 0, 0, 0, 14, 0, 8, 0][..], &offset_secs.to_le_bytes(), &[0; 4]].concat();
    let mut file = [block(0x0a0d_0d0a, &section), block(1, &interface)].concat();
    let mut at = Vec::new();
    for second in seconds {
        let units = second * 1_000_000;
        let (high, low, len) = ((units >> 32) as u32, units as u32, 60);
        at.push(file.len());
        file.extend(block(
            6,
            &[[0, high, low, len, len].map(u32::to_le_bytes).concat(), vec![0; 60]].concat(),
        ));
    }
    (file, at)
}

#[test]
fn times_that_cannot_be_kept_end_a_file_there() {
    const LAST: u64 = u32::MAX as u64; // in the year 2106
    for (what, (file, at)) in [
        ("after 2106", pcapng(0, &[1_700_000_000, LAST, LAST + 1, 1_700_000_001])),
        ("before 1970", pcapng(-10, &[1_700_000_000, 10, 9, 1_700_000_001])),
    ] {
        let store = Store::empty();
        let path = store.dir.path().join("times.pcapng");
        std::fs::write(&path, file).expect("our own directory");
        let said = told(&store, &[path.as_os_str()]);
        let expected = format!("damaged at byte {}: a capture time before 1970 or after 2106", at[2]);
        assert!(said.contains(&expected), "{what}: not `{expected}`: {said}");
        assert_eq!(packets(&store), 2, "{what}: what is before it is kept, and nothing else");
        let document = document(&path);
        assert_eq!((&document["packets"], &document["damage"]["offset"]), (&2.into(), &at[2].into()));
        assert!(document["damage"]["what"].as_str().is_some_and(|it| it.contains("2106")), "{document:#}");
    }
}

/// File names are bytes, and not every tool that writes captures has heard of UTF-8.
#[test]
fn paths_that_are_no_text_do_as_others_do() {
    let mut store = Store::empty();
    store.path = store.dir.path().join(OsStr::from_bytes(b"st\xf6re"));
    let file = store.dir.path().join(OsStr::from_bytes(b"caf\xe9 \xff.pcap"));
    std::fs::copy(fixture(H264), &file).expect("our own directory");
    let said = told(&store, &[file.as_os_str()]);
    assert!(said.contains("caf\u{fffd} \u{fffd}.pcap"), "{said}");
    let again = told(&store, &[file.as_os_str()]);
    assert!(again.contains("is in the store already"), "{again}");
    let at = [OsStr::new("--store"), store.path.as_os_str()];
    let document = json(&[&["import", "--json"].map(OsStr::new), &at[..], &[file.as_os_str()]].concat());
    assert_eq!(document["files"][0]["already"], true, "{document:#}");
    assert!(document["files"][0]["file"].as_str().is_some_and(|name| name.contains("caf")), "{document:#}");

    let export = store.dir.path().join(OsStr::from_bytes(b"\xff.h264"));
    let video = json(&[&["streams", "--json"].map(OsStr::new), &at[..]].concat())[0]["id"].to_string();
    let to_file = [OsStr::new("export"), OsStr::new(&video), OsStr::new("-o"), export.as_os_str()];
    for command in [
        &["streams"].map(OsStr::new)[..],
        &["status"].map(OsStr::new),
        &["status", "--json"].map(OsStr::new),
        &["packets", "-n", "3"].map(OsStr::new),
        &["verify"].map(OsStr::new),
        &["verify", "--json"].map(OsStr::new),
        &["reindex"].map(OsStr::new),
        &to_file,
    ] {
        run(&[command, &at[..]].concat());
    }
    assert!(export.metadata().is_ok_and(|found| found.len() > 0));
}

/// A name that would colour the terminal and begin a line of its own.
#[test]
fn control_characters_in_names_do_not_reach_the_terminal() {
    let name = "a\x1b[31m\nb";
    let shown = r"a\u{1b}[31m\nb";
    let mut store = Store::empty();
    store.path = store.dir.path().join(name);
    let file = store.dir.path().join(format!("{name}.pcap"));
    let whole = std::fs::read(fixture(H264)).expect("a fixture");
    std::fs::write(&file, &whole[..whole.len() - 1]).expect("our own directory");
    let missing = store.dir.path().join(format!("{name}.missing"));
    for (arguments, status) in [
        (&["import", path_text(&file)][..], 0),
        (&["import", path_text(&file)], 0),
        (&["import", path_text(&missing)], 1),
        (&["export", name, "-o", "/dev/null"], 1),
        (&["status"], 0),
    ] {
        let output = tapdeck().args(arguments).args(["--store", store.at()]).output().expect("it starts");
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said:?}");
        assert!(said.contains(shown), "{arguments:?}: {said:?}");
        assert!(!said.replace('\n', "").contains(char::is_control), "{arguments:?}: {said:?}");
        assert!(said.lines().all(|line| !line.starts_with('b')), "{arguments:?}: {said:?}");
    }
    assert_eq!(document(&file)["file"], path_text(&file), "JSON has its own way");
}

/// Half-way through the capture the clock is set back by ten seconds: nothing is missing, and what is asked for by time is found.
#[test]
fn a_clock_that_is_set_back_hides_nothing() {
    let (header, mut records) = split(H264);
    let half = records.len() / 2;
    for (_, record) in &mut records[half..] {
        let secs = record.first_chunk_mut::<4>().expect("a record's header");
        *secs = (u32::from_le_bytes(*secs) - 10).to_le_bytes();
    }
    let store = Store::empty();
    let file = write(&store, "back.pcap", header, records);
    told(&store, &[file.as_os_str()]);
    let video = store.video();
    lab::nal::assert_same_video(
        &store.export(&word(&video["id"])),
        &fixture("gst-udp-h264.h264"),
        Codec::H264,
    );

    let all = json(&["packets", "--store", store.at(), "--json"]);
    let time = |n: usize| all[n]["time"].as_str().expect("a text");
    let (from, to) = (time(half), time(all.as_array().expect("an array").len() - 1));
    assert!(from < time(0) && to < time(0), "{from} to {to}");
    let since = json(&["packets", "--store", store.at(), "--json", "--from", from, "--to", to]);
    assert_eq!(since.as_array().map(Vec::len), all.as_array().map(|all| all.len() - half));
}

/// As of a capture program that begins a new file now and then, with names that do not sort by time.
#[test]
fn files_of_one_session_come_in_by_time_and_a_missing_one_is_counted() {
    let whole = Store::import(&[fixture(H264)]).video();
    let (header, records) = split(H264);
    let parts = Store::empty();
    let third = records.len() / 3;
    let [a, b, c] =
        [("2.pcap", 0..third), ("10.pcap", third..2 * third), ("9.pcap", 2 * third..records.len())]
            .map(|(name, range)| write(&parts, name, header.clone(), records[range].to_vec()));
    let all = Store::import(&[b.clone(), a.clone(), c.clone()]);
    let video = all.video();
    assert_eq!((&video["packets"], &video["lost"]), (&whole["packets"], &0.into()), "{video:#}");
    let some = Store::import(&[a, c]);
    let video = some.video();
    let (packets, lost) = (video["packets"].as_u64(), video["lost"].as_u64());
    assert_eq!(
        packets.zip(lost).map(|(packets, lost)| packets + lost),
        whole["packets"].as_u64(),
        "{video:#}"
    );
    let line = json(&["timeline", &word(&video["id"]), "--store", some.at(), "--json"]);
    let gaps = line["gaps"].as_array().expect("an array");
    assert_eq!((gaps.len(), &gaps[0]["evidence"]["kind"]), (1, &"between-recordings".into()), "{line:#}");
}
