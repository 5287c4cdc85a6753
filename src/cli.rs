//! The command line as a whole: what `--help`, the completions and the manual pages are made from.

use crate::commands;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Records, reconstructs and replays the video that passes a switch's mirror port.
///
/// tapdeck listens to a mirror port (or reads capture files), keeps every packet, finds the video streams in them, and
/// gives any moment back over RTSP, live or on demand. It never sends a packet to a camera or a VMS.
#[derive(Debug, Parser)]
#[command(name = "tapdeck", version, max_term_width = 100, propagate_version = true)]
#[command(after_long_help = "\
Examples:
  Look into a capture file:
      tapdeck import office.pcapng --store /tmp/office
      tapdeck streams --store /tmp/office
      tapdeck serve --store /tmp/office       # prints addresses for VLC

  Record a mirror port, keep at most 2 TiB:
      tapdeck doctor -i eth1
      tapdeck record -i eth1 --store /var/lib/tapdeck --keep-bytes 2TiB

  Take ten minutes out as an H.264 file:
      tapdeck export entrance-video --store /var/lib/tapdeck \\
          --from -20m --to -10m -o entrance.h264

Options can stand in a configuration file (see --config); what is given on the command line wins.
Exit status: 0 done, 1 failed (or `verify` and `doctor` found something), 2 the command line is wrong.")]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Args, Debug)]
pub struct Global {
    /// Read options from this file [default: /etc/tapdeck/tapdeck.toml when it exists]
    // An empty name is a value here: it means no file.
    #[arg(long, global = true, value_name = "FILE", env = "TAPDECK_CONFIG", hide_env_values = true)]
    #[arg(value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub config: Option<PathBuf>,
    /// Say more on standard error; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing on standard error but failures
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// Where the store is.
#[derive(Args, Clone, Debug, Default)]
pub struct StoreArg {
    /// The directory of the store
    #[arg(long, value_name = "DIR", env = "TAPDECK_STORE", hide_env_values = true)]
    pub store: Option<PathBuf>,
}

/// How a listing is printed.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct JsonArg {
    /// Print one JSON document on standard output
    #[arg(long)]
    pub json: bool,
}

/// A time range.
#[derive(Args, Clone, Debug, Default)]
pub struct RangeArgs {
    /// From this time on: RFC 3339, or relative to now (-10m, -1h30m)
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Up to this time: RFC 3339, or relative to now
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub to: Option<String>,
}

/// The commands, in the order in which someone meets them.
#[derive(Debug, Subcommand)]
pub enum Command {
    Record(commands::record::Record),
    Import(commands::import::Import),
    Serve(commands::serve::Serve),
    Streams(commands::streams::Streams),
    Timeline(commands::timeline::Timeline),
    Packets(commands::packets::Packets),
    Export(commands::export::Export),
    Verify(commands::verify::Verify),
    Reindex(commands::reindex::Reindex),
    Name(commands::name::Name),
    Status(commands::status::Status),
    Doctor(commands::doctor::Doctor),
    Completions(commands::completions::Completions),
    Man(commands::man::Man),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("tapdeck "), "`{}` has no example", command.get_name());
            assert!(command.get_about().is_some(), "`{}` says not what it does", command.get_name());
        }
    }

    #[test]
    fn examples_are_lines_of_80_columns() {
        let all = Cli::command();
        let own = all.get_after_long_help().map(ToString::to_string);
        let helps = all.get_subcommands().filter_map(|c| c.get_after_help().map(ToString::to_string));
        for help in helps.chain(own) {
            for line in help.lines().filter(|line| line.starts_with("  ")) {
                assert!(line.chars().count() <= 80, "it would be broken where nobody can copy it: {line}");
            }
        }
    }

    #[test]
    fn relative_times_are_values_and_not_flags() {
        let line = ["tapdeck", "export", "door", "--store", "s", "--from", "-20m", "--to", "-10m", "-o", "f"];
        assert!(Cli::try_parse_from(line).is_ok());
    }
}
