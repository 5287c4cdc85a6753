//! `make bench`: tapdeck beside the reference tools, in alternating rounds of one run, as rows of Markdown on standard output.
//!
//! `lab-bench [all|capture|latency|memory|files|seek|fanout] [KEY=VALUE…]`; docs/bench.md has the keys. What a row needs and this
//! machine lacks is said on standard error, and the row left out.

mod capture;
mod count;
mod fanout;
mod files;
mod index_size;
mod latency;
mod memory;
mod recorder;
mod seek;
mod served;
mod slow_disk;
mod tools;
mod verdict;
mod view;
mod wire;

use std::error::Error;

use verdict::Verdicts;

/// Sizes and lengths; smaller ones are for trying the bench itself.
pub struct Plan {
    /// Each tool's turn comes this often.
    pub rounds: u32,
    /// The same for tcpdump, dumpcap and netsniff-ng, which are there to compare with, not to be judged by.
    pub others: u32,
    /// Recorders that take part in `capture`; empty is all.
    pub tools: Vec<String>,
    /// Length of one capture.
    pub seconds: u64,
    /// Packets that are recorded while memory is watched.
    pub packets: u64,
    /// Packets a second of the blast beside the cameras meanwhile.
    pub feed: u64,
    /// Size of the capture file that is imported, in MB.
    pub mb: u64,
    /// Speed of the slow disk onto which it is imported as well, in MB/s; 0 leaves that out.
    pub disk: u64,
    /// Size of the large store for seeks, in GB.
    pub big: u64,
    /// Seeks with a warm cache; half as many with a cold one.
    pub seeks: usize,
    /// RTSP viewers at once.
    pub clients: usize,
    /// Packets a second that are offered; 0 is top speed.
    pub rates: Vec<u64>,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            rounds: 3,
            others: u32::MAX,
            tools: Vec::new(),
            seconds: 30,
            packets: 37_500_000, // an hour of 100 Mbit/s in 1,200-byte packets
            feed: 150_000,
            mb: 1500,
            disk: 450,
            big: 20,
            seeks: 200,
            clients: 200,
            rates: vec![50_000, 100_000, 200_000, 300_000, 0],
        }
    }
}

fn plan(words: &[String]) -> Result<Plan, Box<dyn Error>> {
    let mut plan = Plan::default();
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("'{word}' is not KEY=VALUE"))?;
        match key {
            "rounds" => plan.rounds = value.parse()?,
            "others" => plan.others = value.parse()?,
            "tools" => plan.tools = value.split(',').map(str::to_owned).collect(),
            "seconds" => plan.seconds = value.parse()?,
            "packets" => plan.packets = value.parse()?,
            "feed" => plan.feed = value.parse()?,
            "mb" => plan.mb = value.parse()?,
            "disk" => plan.disk = value.parse()?,
            "big" => plan.big = value.parse()?,
            "seeks" => plan.seeks = value.parse()?,
            "clients" => plan.clients = value.parse()?,
            "rates" => plan.rates = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            _ => return Err(format!("unknown setting '{key}'").into()),
        }
    }
    Ok(plan)
}

type Part = fn(&Plan, &mut Verdicts) -> tools::Result<()>;

const PARTS: [(&str, Part); 6] = [
    ("capture", capture::run),
    ("latency", latency::run),
    ("memory", memory::run),
    ("files", files::run),
    ("seek", seek::run),
    ("fanout", fanout::run),
];

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let settings = words.iter().position(|w| w.contains('=')).unwrap_or(words.len());
    let (wanted, settings) = words.split_at(settings);
    let plan = plan(settings)?;
    if let Some(word) = wanted.iter().find(|w| *w != "all" && !PARTS.iter().any(|(name, _)| name == w)) {
        return Err(format!("no part is called '{word}'").into());
    }
    let mut verdicts = Verdicts::default();
    let mut failed = Vec::new();
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|w| w == name || w == "all") {
            // A part that fails is said, and the verdicts of the others are still wanted.
            if let Err(why) = part(&plan, &mut verdicts) {
                println!("\n{name} failed: {why}");
                failed.push(name);
            }
        }
    }
    verdicts.print();
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}
