//! `tapdeck doctor`: is this machine fit to record?

use crate::cli::JsonArg;
use crate::config::Config;
use crate::console::Console;
use crate::doctor::{self, Finding, Verdict};
use crate::failure::{Failure, Outcome};
use crate::listing;
use crate::printable::printable;
use clap::Args;
use serde_json::json;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Check that this machine is fit to record, and say what to do where it is not
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck doctor                             # the machine and its clock
  tapdeck doctor -i eth1 --store DIR         # the interface and the disk, too

With --store it writes 256 MiB there to see how fast the disk is, and removes them.

Exit status: 0 when recording will work, 1 when something is in the way.")]
pub struct Doctor {
    /// Check this interface; give it again for a second one
    #[arg(short, long, value_name = "IF")]
    pub interface: Vec<String>,
    /// Check the disk under this directory
    #[arg(long, value_name = "DIR", env = "TAPDECK_STORE", hide_env_values = true)]
    pub store: Option<PathBuf>,
    /// How it is printed.
    #[command(flatten)]
    pub json: JsonArg,
}

impl Doctor {
    /// Runs all checks and prints what they found.
    pub fn run(self, config: &Config, console: &Console) -> Outcome {
        let interfaces =
            if self.interface.is_empty() { config.record.interface.clone() } else { self.interface };
        let store = self.store.or_else(|| config.store.clone());
        let findings = doctor::examine(&interfaces, store.as_deref());
        let fit = findings.iter().all(|finding| finding.verdict < Verdict::Bad);
        match self.json.json {
            true => listing::print_json(&json!({ "fit": fit, "findings": findings }))?,
            false => listing::print_coloured(
                findings.iter().flat_map(|finding| lines(finding, std::io::stdout().is_terminal())),
            )?,
        }
        if interfaces.is_empty() && !self.json.json {
            console.say(format!(
                "no interface was checked; add -i IF (there are: {})",
                capture::interfaces().join(", ")
            ));
        }
        if store.is_none() && !self.json.json {
            console.say("no disk was checked; add --store DIR");
        }
        match fit {
            true => Ok(()),
            false => Err(Failure::silent()),
        }
    }
}

fn lines(finding: &Finding, colour: bool) -> Vec<String> {
    let (word, code) = match finding.verdict {
        Verdict::Good => ("good", 32),
        Verdict::Warning => ("warning", 33),
        Verdict::Bad => ("bad", 31),
    };
    let mark = match colour {
        true => format!("\x1b[{code}m{word:<8}\x1b[0m"),
        false => format!("{word:<8}"),
    };
    let what = match &finding.subject {
        Some(subject) => format!("{} {}", finding.check, printable(subject)),
        None => finding.check.to_owned(),
    };
    let mut lines = vec![format!("{mark}{what}: {}", printable(&finding.seen))];
    lines.extend(finding.remedy.iter().map(|remedy| format!("        → {}", printable(remedy))));
    lines
}
