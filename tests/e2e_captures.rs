//! Any folder of captures, named by TAPDECK_CAPTURES: each is imported, its index made again is the same, and the streams found are those
//! that tshark finds, or it is known why not. Without a folder it is skipped: the captures that this was made with are not all free to be
//! passed on.

mod lab;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::nal::{Codec, assert_same_video};
use lab::program::{Store, json, path_text, run, tapdeck, text, word};
use lab::skip;
use reconstruct::index::Index;
use serde_json::Value;

/// A stream's packets, those that came twice among them, by SSRC.
type Packets = BTreeMap<u32, u64>;

/// Where tapdeck and tshark differ for a reason: a part of the file's name, and the reason.
const KNOWN: &[(&str, &str)] = &[
    ("gtp-iphone", "the streams are inside GTP-U, into which tapdeck does not look"),
    ("erspan2", "the stream is inside ERSPAN, into which tapdeck does not look"),
    ("snapchat_call_v1", "SRTP beside QUIC in one flow: tshark takes all of it for QUIC"),
    (
        "FAX-Call-t38",
        "tshark takes 2,010 of the packets for T.38, which the call had negotiated, and finds them malformed: they are RTP, in sequence",
    ),
];

#[test]
fn captures_of_a_folder() {
    let test = "captures_of_a_folder";
    need!(test, "tshark");
    let Some(folder) = std::env::var_os("TAPDECK_CAPTURES") else {
        return skip(test, "TAPDECK_CAPTURES names no folder of captures");
    };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "pcap" || e == "pcapng" || e == "cap"));
    files.sort();
    assert!(!files.is_empty(), "no captures in it");
    let (mut wrong, mut agree, mut known) = (Vec::new(), 0, 0);
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match compare(file) {
            Ok(()) => agree += 1,
            Err(difference) => match KNOWN.iter().find(|(part, _)| name.contains(part)) {
                Some((_, why)) => {
                    known += 1;
                    println!("{name}: {difference}: {why}");
                }
                None => wrong.push(format!("{name}: {difference}")),
            },
        }
    }
    println!("{agree} of {} agree, {known} differ and it is known why", files.len());
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn dump(store: &Store) -> Vec<u8> {
    let mut out = Vec::new();
    Index::open_secondary(&store.path.join("index"))
        .and_then(|index| index.dump(&mut out))
        .expect("an index");
    out
}

fn compare(file: &Path) -> Result<(), String> {
    let store = Store::empty();
    let imported =
        tapdeck().args(["import", path_text(file), "--store", store.at()]).output().expect("it starts");
    let said = text(&imported.stderr);
    match imported.status.code() {
        Some(0) => {}
        // Nothing in it can be understood; that is one sentence.
        Some(1) if said.lines().count() == 1 => {
            return if theirs(file, &[])?.is_empty() { Ok(()) } else { Err(said) };
        }
        _ => return Err(said),
    }
    let before = dump(&store);
    run(&["reindex", "--store", store.at()]);
    if dump(&store) != before {
        return Err("the index made again is another one".into());
    }
    run(&["verify", "--store", store.at()]);
    let mut ours = Packets::new();
    let streams = store.streams();
    for stream in &streams {
        let line = json(&["timeline", &word(&stream["name"]), "--store", store.at(), "--json"]);
        for segment in line["segments"].as_array().expect("an array") {
            let number = |key: &str| segment[key].as_u64().expect("a number");
            *ours.entry(number("ssrc") as u32).or_default() += number("packets") + number("duplicates");
        }
    }
    compare_with_the_vms(file, &store, &streams);
    let mut announced = theirs(file, &[])?;
    if ours == announced {
        return Ok(());
    }
    // What no dialogue announces tshark shows only when it is asked to guess, and then also what is none.
    let guessed = theirs(file, &["--enable-heuristic", "rtp_udp", "-d", "tcp.port==7070,rtsp"])?;
    for (ssrc, packets) in guessed.into_iter().filter(|(ssrc, _)| ours.contains_key(ssrc)) {
        announced.entry(ssrc).or_insert(packets);
    }
    if ours == announced {
        return Ok(());
    }
    let theirs = announced;
    let show = |packets: &Packets| {
        packets.iter().map(|(ssrc, n)| format!("{ssrc:08x} {n}")).collect::<Vec<_>>().join(", ")
    };
    Err(format!("ours [{}], tshark's [{}]", show(&ours), show(&theirs)))
}

/// Beside some captures lies what a VMS recorded of the camera meanwhile, as `NAME.vms.h264`.
fn compare_with_the_vms(file: &Path, store: &Store, streams: &[Value]) {
    for (extension, codec) in [("vms.h264", Codec::H264), ("vms.h265", Codec::H265)] {
        let truth = file.with_extension(extension);
        let named = extension.trim_start_matches("vms.");
        // A tap that came later, or lost something, has less than the VMS.
        let whole = |s: &&Value| s["codec"] == named && s["lost"] == 0 && s["sdp"] == true;
        if let Some(video) = streams.iter().find(whole).filter(|_| truth.exists()) {
            assert_same_video(&store.export(&word(&video["id"])), &truth, codec);
            println!("{}: as the VMS recorded it", truth.display());
        }
    }
}

fn theirs(file: &Path, more: &[&str]) -> Result<Packets, String> {
    let tshark = Command::new("tshark")
        .args(["-r", path_text(file), "-q", "-z", "rtp,streams"])
        .args(more)
        .output()
        .expect("it starts");
    let mut found = Packets::new();
    for line in text(&tshark.stdout).lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let Some(at) = fields.iter().position(|f| f.starts_with("0x")) else { continue };
        let ssrc = u32::from_str_radix(&fields[at][2..], 16).map_err(|e| e.to_string())?;
        // A VMS opens its firewall with an empty RTP packet to the camera: no stream.
        if ssrc == 0 {
            continue;
        }
        let lost = fields.iter().position(|f| f.starts_with('(') && f.ends_with("%)")).ok_or("no share")? - 1;
        *found.entry(ssrc).or_default() += fields[lost - 1].parse::<u64>().map_err(|e| e.to_string())?;
    }
    Ok(found)
}
