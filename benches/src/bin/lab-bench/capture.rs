//! Recording from a veth: loss and CPU at offered rates. Sender on CPU 0, recorder on CPU 1, each recorder with a 64 MiB ring.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tapdeck_benches::proc::cpu_seconds;

use crate::Plan;
use crate::tools::{Result, Scratch, have, interrupt, rounds, sibling};

const TOOLS: [(&str, &str); 5] = [
    ("tapdeck", "ip"),
    ("tcpdump", "tcpdump"),
    ("dumpcap", "dumpcap"),
    ("netsniff-ng", "netsniff-ng"),
    ("stenotype", "stenotype"),
];

/// Two namespaces with a cable between them; removed when dropped.
struct Wire(String);

impl Wire {
    fn up() -> Result<Self> {
        let wire = Wire(format!("td-bench{}", std::process::id()));
        let (a, b) = (wire.space("a"), wire.space("b"));
        let quiet = "tx off rx off tso off gso off gro off sg off >/dev/null 2>&1 || true";
        let script = format!(
            "set -e; ip netns add {a}; ip netns add {b}
             for n in {a} {b}; do ip netns exec $n sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1; done
             ip -n {a} link add wire0 type veth peer name wire0 netns {b}
             for n in {a} {b}; do ip netns exec $n ethtool -K wire0 {quiet}; ip -n $n link set wire0 up promisc on; done"
        );
        let done = Command::new("bash").args(["-c", &script]).output()?;
        if !done.status.success() {
            return Err(format!("no namespaces: {}", String::from_utf8_lossy(&done.stderr)).into());
        }
        Ok(wire)
    }

    fn space(&self, end: &str) -> String {
        format!("{}-{end}", self.0)
    }

    fn at(&self, end: &str, cpu: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.space(end), "taskset", "-c", cpu])
            .arg(program)
            .env("TAPDECK_CONFIG", "");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for end in ["a", "b"] {
            let _ = Command::new("ip").args(["netns", "del", &self.space(end)]).status();
        }
    }
}

fn start(wire: &Wire, tool: &str, dir: &Path) -> Result<Child> {
    std::fs::create_dir_all(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777))?;
    let file = dir.join("out.pcap");
    let file = file.to_str().ok_or("a path that is text")?;
    let program = if tool == "tapdeck" { sibling("tapdeck")? } else { tool.into() };
    // tapdeck has threads beside the capture: it gets both CPUs, as in use, and pays for it in the CPU column.
    let mut command = wire.at("b", if tool == "tapdeck" { "0,1" } else { "1" }, &program);
    match tool {
        "tapdeck" => {
            let store = dir.join("store");
            command.args(["record", "-i", "wire0", "--rtsp", "off", "--store"]).arg(store)
        }
        "tcpdump" => command.args(["-n", "-i", "wire0", "-B", "65536", "-s", "65535", "-w", file]),
        "dumpcap" => command.args(["-q", "-P", "-i", "wire0", "-B", "64", "-s", "65535", "-w", file]),
        "netsniff-ng" => command.args(["-G", "-s", "--in", "wire0", "--out", file, "--ring-size", "64MiB"]),
        "stenotype" => {
            for sub in ["PKT0", "IDX0"] {
                let sub = dir.join(sub);
                std::fs::create_dir_all(&sub)?;
                std::fs::set_permissions(&sub, std::fs::Permissions::from_mode(0o777))?;
            }
            command
                .args(["--iface=wire0", "--threads=1", "--blocks=64", "--aiops=32", "--seccomp=none"])
                .arg(format!("--dir={}", dir.display()))
        }
        _ => return Err(format!("no tool {tool}").into()),
    };
    Ok(command.spawn()?)
}

/// Packets in what a tool wrote.
fn recorded(tool: &str, dir: &Path) -> Result<u64> {
    match tool {
        "tapdeck" => {
            let mut sum = 0;
            for shard in std::fs::read_dir(dir.join("store/shards"))?.flatten() {
                if shard.path().extension().is_some_and(|e| e == "pcap") {
                    sum += count_pcap(&shard.path())?;
                }
            }
            Ok(sum)
        }
        "stenotype" => {
            let mut sum = 0;
            for file in std::fs::read_dir(dir.join("PKT0"))?.flatten() {
                sum += count_blocks(&file.path())?;
            }
            Ok(sum)
        }
        _ => count_pcap(&dir.join("out.pcap")),
    }
}

fn count_pcap(file: &Path) -> Result<u64> {
    let bytes = std::io::BufReader::with_capacity(4 << 20, File::open(file)?);
    count_records(bytes)
}

/// Counts records that fit the file; what was cut short is not a packet.
fn count_records(mut from: impl std::io::BufRead) -> Result<u64> {
    let mut header = [0; 24];
    from.read_exact(&mut header)?;
    let (mut count, mut record) = (0, [0; 16]);
    let mut data = vec![0; 1 << 18];
    loop {
        if from.read_exact(&mut record).is_err() {
            return Ok(count);
        }
        let len = u32::from_le_bytes([record[8], record[9], record[10], record[11]]) as usize;
        let Some(data) = data.get_mut(..len) else { return Err("not a packet record".into()) };
        if from.read_exact(data).is_err() {
            return Ok(count);
        }
        count += 1;
    }
}

/// stenotype writes the kernel's ring blocks of 1 MiB as they are: the packet count stands at byte 12.
fn count_blocks(file: &Path) -> Result<u64> {
    let file = File::open(file)?;
    let blocks = file.metadata()?.len() >> 20;
    let (mut sum, mut word) = (0, [0; 4]);
    for block in 0..blocks {
        file.read_exact_at(&mut word, (block << 20) + 12)?;
        sum += u64::from(u32::from_le_bytes(word));
    }
    Ok(sum)
}

struct Turn {
    lost_percent: f64,
    cpu_us: f64,
    sent_k: f64,
}

fn turn(wire: &Wire, tool: &str, rate: u64, seconds: u64, dir: &Path) -> Result<Turn> {
    let mut recorder = start(wire, tool, dir)?;
    std::thread::sleep(Duration::from_secs(2));
    if let Some(status) = recorder.try_wait()? {
        return Err(format!("{tool} ended with {status}").into());
    }
    let before = cpu_seconds(recorder.id());
    let mut blast = wire.at("a", "0", &sibling("lab-blast")?);
    let said = blast
        .args(["wire0", &rate.to_string(), &seconds.to_string(), "1200"])
        .stdout(Stdio::piped())
        .spawn()?
        .wait_with_output()?;
    let said = String::from_utf8(said.stdout)?;
    let sent: f64 = said.split(['=', ' ']).nth(1).ok_or("lab-blast said nothing")?.parse()?;
    std::thread::sleep(Duration::from_secs(2));
    let cpu = cpu_seconds(recorder.id()) - before;
    interrupt(&recorder);
    let asked = Instant::now();
    // stenotype does not always end: what it has written by then counts, block by block, as it lies on disk.
    let patience = Duration::from_secs(if tool == "stenotype" { 10 } else { 60 });
    while recorder.try_wait()?.is_none() {
        if asked.elapsed() > patience {
            recorder.kill()?;
            recorder.wait()?;
            if tool != "stenotype" {
                return Err(format!("{tool} did not end within a minute of SIGINT").into());
            }
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let kept = recorded(tool, dir)? as f64;
    std::fs::remove_dir_all(dir)?;
    Ok(Turn {
        lost_percent: (100.0 * (sent - kept) / sent).max(0.0),
        cpu_us: cpu * 1e6 / kept.max(1.0),
        sent_k: sent / seconds as f64 / 1e3,
    })
}

pub fn run(plan: &Plan) -> Result<()> {
    let wire = match Wire::up() {
        Ok(wire) => wire,
        Err(why) => {
            eprintln!("bench: capture left out: {why}");
            return Ok(());
        }
    };
    let scratch = Scratch::new()?;
    println!(
        "\n### Capture: 1,200-byte frames on veth, {} s a turn, loss in % (CPU µs a packet), rounds in order\n",
        plan.seconds
    );
    println!("| offered | tool | loss % | CPU µs/packet | sent k/s |\n|---|---|---|---|---|");
    for &rate in &plan.rates {
        let mut turns: Vec<(&str, Vec<Turn>)> = Vec::new();
        for (tool, program) in TOOLS {
            if have(program) {
                turns.push((tool, Vec::new()));
            } else {
                eprintln!("bench: {tool} left out: not installed (scripts/install bench)");
            }
        }
        for _ in 0..plan.rounds {
            for (tool, results) in &mut turns {
                match turn(&wire, tool, rate, plan.seconds, &scratch.path(tool)) {
                    Ok(result) => results.push(result),
                    Err(why) => eprintln!("bench: {tool} at {rate}/s: {why}"),
                }
            }
        }
        let offered = if rate == 0 { "top".into() } else { format!("{} k/s", rate / 1000) };
        for (tool, results) in &turns {
            let column = |f: fn(&Turn) -> f64| results.iter().map(f).collect::<Vec<_>>();
            let (lost, cpu, sent) = (column(|t| t.lost_percent), column(|t| t.cpu_us), column(|t| t.sent_k));
            println!(
                "| {offered} | {tool} | {} | {} | {} |",
                rounds(&lost, 3),
                rounds(&cpu, 2),
                rounds(&sent, 0)
            );
        }
    }
    Ok(())
}
