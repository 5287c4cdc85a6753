//! The rules of the house that a program can check: the direction of imports, code that understands does no I/O, `unsafe` stands
//! where it may, and links in the documents lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// In the order in which a packet meets them; each imports only those before it.
const CRATES: [&str; 4] = ["capture", "reconstruct", "replay", "failover"];

/// Bytes and `now` in, events out. A name is a file or a folder under the crate's `src/`.
const PURE: [(&str, &[&str]); 3] = [
    (
        "reconstruct",
        &[
            "wire",
            "defrag",
            "tcp",
            "interleaved",
            "rtsp",
            "sdp",
            "rtp",
            "rtcp",
            "codec",
            "sequence",
            "recognise",
            "model",
            "fold",
            "span",
        ],
    ),
    (
        "replay",
        &[
            "session",
            "machine",
            "events",
            "burst",
            "request",
            "response",
            "pacer",
            "presentation",
            "range",
            "rewrite",
            "rtcp",
            "sdp",
            "target",
            "transport",
        ],
    ),
    ("failover", &["detector", "event", "watch"]),
];

/// What acting code uses. Addresses (`std::net::IpAddr`), durations and an `Instant` that is handed in are data.
const ACTS: [&str; 17] = [
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "tokio",
    "Instant::now",
    "SystemTime::now",
    ".elapsed()",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "File::",
    "rocksdb",
    "memmap2",
    "rustix",
    "pcap::",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

/// A file's code: without comments, and without the unit tests at its end.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = read(path);
    let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = product
        .lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.split("//").next().unwrap_or_default().to_owned()));
    lines.collect()
}

#[test]
fn crates_import_only_those_to_their_left() {
    for (at, name) in CRATES.iter().enumerate() {
        let manifest = read(&root().join(name).join("Cargo.toml"));
        let dependencies = manifest
            .split_once("[dependencies]")
            .map_or("", |(_, rest)| rest.split("\n[").next().unwrap_or_default());
        for right in &CRATES[at..] {
            let imports = dependencies
                .lines()
                .any(|l| l.starts_with(&format!("{right}.")) || l.starts_with(&format!("{right} ")));
            assert!(!imports, "{name} imports {right}");
        }
    }
}

#[test]
fn what_understands_does_not_act() {
    let mut wrong = Vec::new();
    for (name, modules) in PURE {
        let src = root().join(name).join("src");
        let mut pure = Vec::new();
        for module in modules {
            let file = src.join(module).with_extension("rs");
            let before = pure.len();
            if file.exists() {
                pure.push(file);
            }
            files(&src.join(module), "rs", &mut pure);
            assert!(pure.len() > before, "{name}::{module} has moved away: bring the list up to date");
        }
        for path in pure
            .iter()
            .filter(|p| !p.ends_with("tests.rs") && !p.components().any(|c| c.as_os_str() == "tests"))
        {
            for (line, text) in code(path) {
                let words = ACTS.iter().filter(|w| text.contains(**w));
                wrong.extend(
                    words.map(|w| {
                        format!("{}:{line}: {w}", path.strip_prefix(root()).unwrap_or(path).display())
                    }),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "pure modules that act:\n{}", wrong.join("\n"));
}

/// Mapped memory, and what only a system call can say. Who adds to these lists has thought about it.
const UNSAFE: [&str; 7] = [
    "benches/src/sender.rs",
    "capture/examples/append_cost.rs",
    "capture/src/shard/mapping.rs",
    "capture/src/shard/reader.rs",
    "capture/src/shard/staging.rs",
    "capture/src/shard/writer.rs",
    "src/doctor/ffi.rs",
];

#[test]
fn unsafe_stands_only_where_it_is_allowed() {
    let mut sources = Vec::new();
    files(root(), "rs", &mut sources);
    let is_unsafe =
        |l: &str| ["unsafe {", "unsafe impl", "unsafe fn", "unsafe extern"].iter().any(|w| l.contains(w));
    let mut found: Vec<String> = sources
        .iter()
        .filter(|p| !p.ends_with("tests/architecture.rs") && code(p).iter().any(|(_, l)| is_unsafe(l)))
        .map(|p| p.strip_prefix(root()).unwrap_or(p).display().to_string())
        .collect();
    found.sort();
    assert_eq!(found, UNSAFE);
}

/// Relative links of Markdown files; addresses elsewhere are not looked up.
#[test]
fn links_in_documents_lead_somewhere() {
    let mut documents = Vec::new();
    files(root(), "md", &mut documents);
    let mut dead = BTreeSet::new();
    for path in &documents {
        let text = read(path);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            if !path.parent().unwrap_or(root()).join(file).exists() {
                dead.insert(format!("{}: {target}", path.strip_prefix(root()).unwrap_or(path).display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links: {dead:#?}");
}
