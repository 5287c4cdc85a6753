//! `make bench`: tapdeck beside the reference tools, in alternating rounds of one run, as rows of Markdown on standard output.
//!
//! `lab-bench [all|capture|files|seek|fanout] [KEY=VALUE…]`: `rounds=3 seconds=30 mb=1500 big=20 clients=200`. What a row needs and
//! this machine lacks is said on standard error, and the row left out.

mod capture;
mod fanout;
mod files;
mod seek;
mod tools;

use std::error::Error;

/// Sizes and lengths; smaller ones are for trying the bench itself.
pub struct Plan {
    /// Each tool's turn comes this often.
    pub rounds: u32,
    /// Length of one capture.
    pub seconds: u64,
    /// Size of the capture file that is imported, in MB.
    pub mb: u64,
    /// Size of the large store for seeks, in GB.
    pub big: u64,
    /// RTSP viewers at once.
    pub clients: usize,
    /// Packets a second that are offered; 0 is top speed.
    pub rates: Vec<u64>,
}

fn plan(words: &[String]) -> Result<Plan, Box<dyn Error>> {
    let rates = vec![50_000, 100_000, 200_000, 300_000, 0];
    let mut plan = Plan { rounds: 3, seconds: 30, mb: 1500, big: 20, clients: 200, rates };
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("'{word}' is not KEY=VALUE"))?;
        match key {
            "rounds" => plan.rounds = value.parse()?,
            "seconds" => plan.seconds = value.parse()?,
            "mb" => plan.mb = value.parse()?,
            "big" => plan.big = value.parse()?,
            "clients" => plan.clients = value.parse()?,
            "rates" => plan.rates = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            _ => return Err(format!("unknown setting '{key}'").into()),
        }
    }
    Ok(plan)
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let settings = words.iter().position(|w| w.contains('=')).unwrap_or(words.len());
    let plan = plan(&words[settings..])?;
    let wanted = |name: &str| settings == 0 || words[..settings].iter().any(|w| w == name || w == "all");
    if wanted("capture") {
        capture::run(&plan)?;
    }
    if wanted("files") {
        files::run(&plan)?;
    }
    if wanted("seek") {
        seek::run(&plan)?;
    }
    if wanted("fanout") {
        fanout::run(&plan)?;
    }
    Ok(())
}
