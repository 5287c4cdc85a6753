//! Bad input: each mistake gives one sentence that says what to do next, the documented exit status, and harms nothing.

mod lab;

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::fixture;
use lab::program::{Server, Store, TAPDECK, free_address, path_text, tapdeck, text};
use lab::rtsp::Wire;

/// One of these is in every refusal: a command, an order, or what there is to choose from.
const REMEDIES: [&str; 12] = [
    "`",
    "--",
    ": give ",
    ": check ",
    ": save ",
    ": run as root",
    ": unpack ",
    " there are: ",
    "tapdeck imports ",
    "; stop ",
    "; name ",
    "; use ",
];

/// Runs `command`; asserts its status and that it says one sentence on standard error that has `words`.
fn refuses(command: &mut Command, status: i32, words: &[&str]) {
    let shown = format!("{command:?}");
    let output = command.output().expect("the built program starts");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{shown} said: {said}");
    assert!(!said.contains("panicked"), "{shown}: {said}");
    assert!(output.stdout.is_empty(), "{shown} wrote results: {}", text(&output.stdout));
    let lines: Vec<_> = said.lines().filter(|l| !l.trim().is_empty()).collect();
    assert!(!lines.is_empty() && lines.len() <= 2, "{shown} should say one sentence, and said: {said}");
    assert!(REMEDIES.iter().any(|r| said.contains(r)), "{shown} does not say what to do: {said}");
    for word in words {
        assert!(said.to_lowercase().contains(&word.to_lowercase()), "{shown}: '{word}' is not in: {said}");
    }
}

fn imported() -> Store {
    Store::import(&[fixture("gst-udp-h264.pcap")])
}

#[test]
fn wrong_interface() {
    let store = Store::empty();
    refuses(
        tapdeck().args(["record", "-i", "nosuch0", "--rtsp", "off", "--store", store.at()]),
        1,
        &["nosuch0"],
    );
    refuses(
        tapdeck().args(["record", "-i", "lo", "-i", "lo", "--rtsp", "off", "--store", store.at()]),
        2,
        &["lo is named twice", "once"],
    );
}

#[test]
fn wrong_filter() {
    let store = Store::empty();
    refuses(
        tapdeck().args(["record", "-i", "lo", "-f", "udp porrt 5", "--rtsp", "off", "--store", store.at()]),
        2,
        &["filter"],
    );
}

#[test]
fn no_permission() {
    if std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) != 0) {
        let store = Store::empty();
        return refuses(
            tapdeck().args(["record", "-i", "lo", "--rtsp", "off", "--store", store.at()]),
            1,
            &["setcap"],
        );
    }
    // Inside a user namespace nobody else is mapped, so dropping privileges can't be tried there.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if !lab::have("setpriv") || map.split_whitespace().nth(2).is_none_or(|n| n == "1") {
        return lab::skip("no_permission", "needs setpriv and a second user");
    }
    let dir = tempfile::TempDir::with_prefix("tapdeck-test-").expect("a temporary directory");
    let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
    std::fs::set_permissions(dir.path(), open).expect("our own directory");
    let program = dir.path().join("tapdeck");
    std::fs::copy(TAPDECK, &program).expect("a copy that anyone may run");
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .env("TAPDECK_CONFIG", "");
    command.args(["record", "-i", "lo", "--rtsp", "off", "--store"]).arg(dir.path().join("store"));
    refuses(&mut command, 1, &["setcap"]);
}

#[test]
fn port_in_use() {
    let store = imported();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let port = address.port().to_string();
    refuses(
        tapdeck().args(["serve", "--store", store.at(), "--rtsp", &address.to_string()]),
        1,
        &[&port, "in use", "--rtsp"],
    );
    let nothing = Store::empty();
    refuses(
        tapdeck().args(["record", "-i", "lo", "--store", nothing.at(), "--rtsp", &address.to_string()]),
        1,
        &[&port, "in use", "--rtsp"],
    );
    assert!(!nothing.path.exists(), "an empty store is left behind");
}

/// Whoever reaches the port can open connections: they never take the files that the footage is read with (or recorded to).
#[test]
fn clients_leave_files_to_the_footage() {
    let store = imported();
    let address = free_address();
    let script = format!("ulimit -n 300; exec {TAPDECK} serve --store {} --rtsp {address}", store.at());
    let mut serve = Command::new("sh");
    serve.args(["-c", &script]).env("TAPDECK_CONFIG", "").stderr(Stdio::null()).stdout(Stdio::null());
    let serve = serve.spawn().expect("a shell");
    let server = Server { child: serve, address };
    let connect = || TcpStream::connect(address).ok();
    let waited = Instant::now();
    while connect().is_none() && waited.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let idle: Vec<_> = (0..500).map_while(|_| connect()).collect();
    assert_eq!(idle.len(), 500, "the kernel takes them");
    std::thread::sleep(Duration::from_millis(500));
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).expect("it runs").count();
    assert!(open < 200, "{open} files are open");
    drop(idle);
    let video = store.video();
    assert_eq!(Wire::connect(address).ask("DESCRIBE", &server.url(&video), "").status, 200);
}

#[test]
fn shards_that_are_too_small() {
    let store = Store::empty();
    let file = fixture("gst-udp-h264.pcap");
    let small = ["--shard-size", "1", "--store", store.at()];
    refuses(tapdeck().args(["import", path_text(&file)]).args(small), 2, &["--shard-size", "2.00 MiB"]);
    refuses(
        tapdeck().args(["record", "-i", "lo", "--rtsp", "off"]).args(small),
        2,
        &["--shard-size", "2.00 MiB"],
    );
    assert!(!store.path.exists());
}

#[test]
fn not_a_store() {
    let store = Store::empty();
    std::fs::create_dir(&store.path).expect("our own directory");
    std::fs::write(store.path.join("holiday.jpg"), b"not a store").expect("our own directory");
    refuses(tapdeck().args(["streams", "--store", store.at()]), 1, &["store"]);
    let file = fixture("gst-udp-h264.pcap");
    refuses(tapdeck().args(["import", path_text(&file), "--store", store.at()]), 1, &["store"]);
    let left: Vec<_> = std::fs::read_dir(&store.path).expect("still there").collect();
    assert_eq!(left.len(), 1, "something was written into it");
}

#[test]
fn store_of_a_newer_format() {
    let store = imported();
    let manifest = store.path.join("store.json");
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&manifest).expect("store.json")).expect("JSON");
    let format = json
        .as_object_mut()
        .expect("an object")
        .iter_mut()
        .find(|(k, v)| (k.contains("format") || k.contains("version")) && v.is_u64());
    *format.expect("a format version").1 = 9999.into();
    let newer = serde_json::to_vec(&json).expect("JSON");
    std::fs::write(&manifest, &newer).expect("our own store");
    refuses(tapdeck().args(["streams", "--store", store.at()]), 1, &["newer"]);
    assert_eq!(std::fs::read(&manifest).expect("store.json"), newer, "it was touched");
}

#[test]
fn store_already_being_written() {
    let store = imported();
    let opened = capture::Store::open(&store.path).expect("a store");
    let lock = opened.lock().expect("nobody writes it");
    let file = fixture("gst-tcp-h264.pcap");
    refuses(tapdeck().args(["import", path_text(&file), "--store", store.at()]), 1, &["process"]);
    drop(lock);
    store.add(&[file]);
}

#[test]
fn missing_file() {
    let store = Store::empty();
    refuses(
        tapdeck().args(["import", "/nonexistent/office.pcap", "--store", store.at()]),
        1,
        &["office.pcap"],
    );
}

#[test]
fn not_a_capture() {
    let store = Store::empty();
    let file = store.dir.path().join("notes.txt");
    std::fs::write(&file, "these are my notes, not packets\n".repeat(9)).expect("our own directory");
    refuses(tapdeck().args(["import", path_text(&file), "--store", store.at()]), 1, &["notes.txt"]);
}

#[test]
fn compressed_file_and_pipe() {
    let store = Store::empty();
    let file = store.dir.path().join("office.pcap.gz");
    std::fs::write(&file, [0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 0, 3]).expect("our own directory");
    refuses(tapdeck().args(["import", path_text(&file), "--store", store.at()]), 1, &["gzip", "gunzip"]);
    // Nobody writes to it, and nobody waits for that.
    let pipe = store.dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("coreutils").success());
    refuses(tapdeck().args(["import", path_text(&pipe), "--store", store.at()]), 1, &["pipe", "file"]);
    assert!(!store.path.exists());
}

/// A file that ends in the middle of a packet: all before it is kept, and the place is told.
#[test]
fn cut_file() {
    let store = Store::empty();
    let whole = std::fs::read(fixture("gst-udp-h264.pcap")).expect("a fixture");
    let file = store.dir.path().join("cut.pcap");
    std::fs::write(&file, &whole[..whole.len() * 3 / 4]).expect("our own directory");
    let output = tapdeck()
        .args(["import", path_text(&file), "--store", store.at()])
        .output()
        .expect("the built program starts");
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
    assert!(said.contains("offset") || said.contains("byte"), "the place is not told: {said}");
    assert!(store.video()["access_units"].as_u64() > Some(10));
}

#[test]
fn unknown_link_type() {
    let store = Store::empty();
    let mut bytes = std::fs::read(fixture("gst-udp-h264.pcap")).expect("a fixture");
    bytes[20] = 147; // DLT_USER0
    let file = store.dir.path().join("user0.pcap");
    std::fs::write(&file, bytes).expect("our own directory");
    refuses(tapdeck().args(["import", path_text(&file), "--store", store.at()]), 1, &["link type", "147"]);
}

#[test]
fn unknown_stream() {
    let store = imported();
    for command in
        [&["timeline", "nobody"][..], &["export", "nobody", "-o", "/dev/null"], &["name", "nobody", "lobby"]]
    {
        refuses(tapdeck().args(command).args(["--store", store.at()]), 1, &["nobody", "streams"]);
    }
}

/// Also those that were found without a dialogue, which are called as the camera is.
#[test]
fn a_camera_is_all_its_tracks() {
    let store = Store::import(&["late-udp.pcap", "pcmu.pcap"].map(lab::fixture));
    let names: Vec<_> = store.streams().iter().map(|s| lab::program::word(&s["name"])).collect();
    let camera = lab::program::word(&store.video()["camera"]);
    assert!(names.len() == 2 && store.streams().iter().all(|s| s["camera"] == *camera));
    let said: Vec<_> = ["several streams"].into_iter().chain(names.iter().map(String::as_str)).collect();
    refuses(tapdeck().args(["export", &camera, "--store", store.at(), "-o", "/dev/null"]), 1, &said);
}

#[test]
fn impossible_time() {
    let store = imported();
    let id = lab::program::word(&store.video()["id"]);
    refuses(tapdeck().args(["timeline", &id, "--store", store.at(), "--from", "25:99"]), 2, &["25:99"]);
    let backward = ["--from", "2026-01-02T00:00:00Z", "--to", "2026-01-01T00:00:00Z"];
    refuses(tapdeck().args(["timeline", &id, "--store", store.at()]).args(backward), 2, &["--from"]);
}

#[test]
fn unknown_command_and_flag() {
    assert_eq!(tapdeck().arg("recrod").output().expect("starts").status.code(), Some(2));
    assert_eq!(tapdeck().args(["streams", "--jsno"]).output().expect("starts").status.code(), Some(2));
}

/// What comes from the same definitions as the help: shells and `man` take it.
#[test]
fn completions_and_manual_are_well_formed() {
    for shell in ["bash", "zsh", "fish"] {
        let script = lab::program::run(&["completions", shell]).stdout;
        assert!(text(&script).contains("reindex"), "{shell}");
        if shell == "bash" {
            let checked =
                Command::new("bash").args(["-n", "-c"]).arg(text(&script)).status().expect("bash is there");
            assert!(checked.success());
        }
    }
    let page = text(&lab::program::run(&["man"]).stdout);
    assert!(page.starts_with(".ie") || page.contains(".TH tapdeck"), "{}", &page[..page.len().min(200)]);
    let of_export = text(&lab::program::run(&["man", "export"]).stdout);
    assert!(of_export.contains("entrance") && of_export.contains(".SH EXAMPLES"), "{of_export}");
    let dir = tempfile::TempDir::with_prefix("tapdeck-test-").expect("a temporary directory");
    lab::program::run(&["man", "--all", path_text(dir.path())]);
    let mut pages: Vec<_> =
        std::fs::read_dir(dir.path()).expect("pages").flatten().map(|e| e.file_name()).collect();
    pages.sort();
    assert!(
        pages.iter().any(|p| p == "tapdeck-reindex.1") && pages.iter().any(|p| p == "tapdeck.1"),
        "{pages:?}"
    );
    assert!(!pages.iter().any(|p| p.to_string_lossy().contains("help")), "{pages:?}");
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    need!("the systemd unit", "systemd-analyze");
    let dir = tempfile::TempDir::with_prefix("tapdeck-test-").expect("a temporary directory");
    let unit = std::fs::read_to_string(lab::root().join("packaging/tapdeck.service")).expect("the unit");
    // As it stands after installing: the program is where the unit looks for it.
    let named = unit.lines().find_map(|l| l.strip_prefix("ExecStart=")).expect("it starts something");
    let program = named.split_whitespace().next().expect("a path");
    let installed = dir.path().join("tapdeck.service");
    std::fs::write(&installed, unit.replace(program, TAPDECK)).expect("our own directory");
    let checked = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&installed)
        .output()
        .expect("it starts");
    let said = text(&checked.stderr);
    let ours: Vec<_> = said.lines().filter(|l| l.contains("tapdeck")).collect();
    assert!(ours.is_empty(), "{said}");
}

#[test]
fn an_export_never_goes_into_the_store() {
    let store = imported();
    let name = store.streams()[0]["name"].as_str().expect("named").to_owned();
    let before = std::fs::read(store.path.join("store.json")).expect("it is there");
    for inside in ["store.json", "shards/0000000000000001.pcap", "index/CURRENT", "new.h264"] {
        let output = store.path.join(inside);
        let mut command = tapdeck();
        command.args(["export", &name, "--store", store.at(), "--force", "-o"]).arg(&output);
        refuses(&mut command, 1, &["in the store itself", "outside"]);
    }
    assert_eq!(std::fs::read(store.path.join("store.json")).expect("it is there"), before);
    let verified = tapdeck().args(["verify", "--store", store.at()]).output().expect("it starts");
    assert!(verified.status.success());
}

/// Within the footage, and yet between two packets.
#[test]
fn an_export_of_nothing_leaves_no_file() {
    let store = imported();
    let video = &store.streams()[0];
    let (name, first) = (video["name"].as_str().expect("named"), video["first"].as_str().expect("a time"));
    let second = first.get(..19).expect("RFC 3339");
    // A nanosecond of each tenth of the second that the stream begins in; the packets are ten to a hundred in each.
    let outputs: Vec<_> = (1..10).map(|tenth| store.path.with_extension(format!("{tenth}.pcap"))).collect();
    let mut nothing = 0;
    for (tenth, output) in (1..10).zip(&outputs) {
        let (from, to) = (format!("{second}.{tenth}00000001Z"), format!("{second}.{tenth}00000002Z"));
        let mut command = tapdeck();
        command.args(["export", name, "--store", store.at(), "--format", "pcap"]);
        command.args(["--from", &from, "--to", &to]);
        let done = command.arg("-o").arg(output).output().expect("the built program starts");
        let said = String::from_utf8_lossy(&done.stderr);
        if said.contains("nothing to write") {
            assert!(done.status.code() == Some(1) && said.contains("`tapdeck timeline`"), "{said}");
            nothing += 1;
        }
        assert_eq!(output.exists(), done.status.success(), "{said}");
    }
    assert!(nothing > 0, "there was no place without a packet");
}
