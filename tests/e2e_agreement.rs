//! What tapdeck finds in captures agrees with tshark's `-z rtp,streams`: the streams, their packets and what is lost. Where the two
//! count differently it is known why: see `Found`.

mod lab;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use lab::fixture;
use lab::program::{Store, json, path_text, text, word};

/// Of one SSRC. tshark counts a packet that a mirror doubled twice and takes it off what is lost; tapdeck tells it apart as duplicate.
#[derive(PartialEq, Eq, Debug)]
struct Found {
    packets_and_duplicates: u64,
    lost_without_duplicates: i64,
}

fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"))
}

fn ours(capture: &Path) -> BTreeMap<u32, Found> {
    let store = Store::import(&[capture.to_owned()]);
    let found = store.streams().into_iter().map(|s| {
        let ssrcs = s["ssrcs"].as_array().unwrap_or_else(|| panic!("no SSRC in {s:#}"));
        assert_eq!(ssrcs.len(), 1, "{s:#}");
        let duplicates = number(&s["duplicates"]);
        let found = Found {
            packets_and_duplicates: number(&s["packets"]) + duplicates,
            lost_without_duplicates: number(&s["lost"]).cast_signed() - duplicates.cast_signed(),
        };
        (u32::try_from(number(&ssrcs[0])).expect("32 bits"), found)
    });
    found.collect()
}

fn tshark(capture: &Path) -> BTreeMap<u32, Found> {
    let mut tshark = Command::new("tshark");
    tshark.args(["-r", path_text(capture), "-q", "-z", "rtp,streams"]);
    // Without a dialogue RTP is only recognised when asked for, and then also where there is none: the late captures have nothing else.
    if path_text(capture).contains("late-") {
        tshark.args(["--enable-heuristic", "rtp_udp"]);
    }
    let output = tshark.output().expect("tshark is there");
    assert!(output.status.success(), "tshark: {}", text(&output.stderr));
    let mut found = BTreeMap::new();
    for line in text(&output.stdout).lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let Some(at) = fields.iter().position(|f| f.starts_with("0x")) else { continue };
        let ssrc = u32::from_str_radix(&fields[at][2..], 16).expect("an SSRC");
        // ffmpeg as VMS opens its firewall with one empty RTP packet to the camera, of SSRC 0: no stream.
        if ssrc == 0 {
            continue;
        }
        // The name of a payload type may have blanks in it.
        let lost = fields.iter().position(|f| f.starts_with('(') && f.ends_with("%)")).expect("a share") - 1;
        let number = |i: usize| fields[i].parse::<i64>().unwrap_or_else(|e| panic!("{line}: {e}"));
        found.insert(
            ssrc,
            Found {
                packets_and_duplicates: number(lost - 1).unsigned_abs(),
                lost_without_duplicates: number(lost),
            },
        );
    }
    found
}

#[test]
fn fixtures_over_udp() {
    need!("agreement", "tshark");
    let plain = ["gst-udp-h264", "gst-udp-h265", "live555-udp-h264", "live555-udp-h265"];
    for name in plain.into_iter().chain(["span-both", "vlan", "impaired-udp", "late-udp", "aac", "bframes"]) {
        let capture = fixture(&format!("{name}.pcap"));
        let theirs = tshark(&capture);
        assert!(!theirs.is_empty(), "tshark finds nothing in {name}");
        assert_eq!(ours(&capture), theirs, "{name}");
    }
}

/// tshark's packets agree for RTP in TCP as well where every segment came once and in order; its losses there are known to be wrong.
#[test]
fn fixtures_over_tcp() {
    need!("agreement", "tshark");
    for name in ["gst-tcp-h264", "gst-tcp-h265", "live555-tcp-h264", "live555-tcp-h265", "offloads", "pcmu"] {
        let capture = fixture(&format!("{name}.pcap"));
        let packets = |found: BTreeMap<u32, Found>| -> Vec<_> {
            found.into_iter().map(|(ssrc, f)| (ssrc, f.packets_and_duplicates)).collect()
        };
        let ours = ours(&capture);
        assert!(ours.values().all(|f| f.lost_without_duplicates == 0), "{name}: {ours:?}");
        assert_eq!(packets(ours), packets(tshark(&capture)), "{name}");
    }
}

/// A capture from which every so many-th frame was taken out: both find as many lost.
#[test]
fn frames_that_a_tap_missed() {
    need!("agreement", "tshark");
    for (name, nth) in [("gst-udp-h264", 9), ("gst-udp-h265", 13), ("live555-udp-h264", 20), ("aac", 11)] {
        let store = Store::empty();
        let cut = store.dir.path().join(format!("{name}.pcap"));
        // The dialogue is at the beginning: it stays, so that both know what the packets are.
        without(&fixture(&format!("{name}.pcap")), 40, nth, &cut);
        let theirs = tshark(&cut);
        assert!(
            theirs.values().any(|f| f.lost_without_duplicates > 3),
            "{name}: nothing is missing: {theirs:?}"
        );
        assert_eq!(ours(&cut), theirs, "{name}, without each {nth}th frame");
    }
}

/// What the camera's clock said in its last sender report: NTP and RTP time as tshark reads them.
#[test]
fn the_cameras_clock() {
    need!("agreement", "tshark");
    for name in ["gst-udp-h264", "gst-tcp-h265"] {
        let capture = fixture(&format!("{name}.pcap"));
        let store = Store::import(std::slice::from_ref(&capture));
        let video = store.video();
        let line = json(&["timeline", &word(&video["name"]), "--store", store.at(), "--json"]);
        let clock = &line["segments"][0]["camera_clock"];
        let ssrc = number(&line["segments"][0]["ssrc"]);
        let mut tshark = Command::new("tshark");
        tshark.args(["-r", path_text(&capture), "-Y", "rtcp.pt == 200", "-T", "fields"]);
        tshark.args([
            "-e",
            "rtcp.senderssrc",
            "-e",
            "rtcp.timestamp.ntp.msw",
            "-e",
            "rtcp.timestamp.ntp.lsw",
        ]);
        tshark.args(["-e", "rtcp.timestamp.rtp"]);
        let said = text(&tshark.output().expect("tshark is there").stdout);
        let mut reports = said.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let of_video =
            |fields: &Vec<&str>| u64::from_str_radix(fields[0].trim_start_matches("0x"), 16) == Ok(ssrc);
        let last =
            reports.rfind(of_video).unwrap_or_else(|| panic!("{name}: no report of {ssrc:x} in {said}"));
        let number = |at: usize| last[at].parse::<f64>().unwrap_or_else(|e| panic!("{last:?}: {e}"));
        assert_eq!(clock["rtp_timestamp"].as_f64(), Some(number(3)), "{name}: {clock:#}");
        let told: jiff::Timestamp = word(&clock["said"]).parse().expect("a time");
        let theirs = number(1) - 2_208_988_800.0 + number(2) / 2f64.powi(32);
        let off = told.as_nanosecond() as f64 / 1e9 - theirs;
        assert!(off.abs() < 1e-5, "{name}: {off} s off: {clock:#}");
    }
}

/// Copies a little-endian pcap file without every `nth` record behind the first `whole`.
fn without(capture: &Path, whole: usize, nth: usize, to: &Path) {
    let bytes = std::fs::read(capture).expect("a fixture");
    let (mut out, mut at, mut record) = (bytes[..24].to_vec(), 24, 0);
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().expect("four bytes")) as usize;
        if record < whole || record % nth != 0 {
            out.extend(&bytes[at..at + 16 + len]);
        }
        at += 16 + len;
        record += 1;
    }
    std::fs::write(to, out).expect("a test's own directory");
}
