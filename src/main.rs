//! The program `tapdeck`: command line, configuration, wiring. What it wires lives in the crates
//! `capture ← reconstruct ← replay ← failover`.
//!
//! Standard output carries results, standard error everything else. The exit status is 0 when done, 1 when it failed,
//! 2 when the command line was wrong.

mod capture_head;
mod cli;
mod commands;
mod config;
mod console;
mod control;
mod doctor;
mod failure;
mod finding;
mod importing;
mod interrupt;
mod listing;
mod naming;
mod open_files;
mod options;
mod output_file;
mod packet_filter;
mod plain_lines;
mod printable;
mod record_walk;
mod recorder;
mod rtsp;
mod size;
mod statistics;
mod status;
mod stores;
mod times;
mod writing;

use clap::Parser;
use cli::{Cli, Command};
use config::Config;
use console::{Console, Verbosity};
use failure::Outcome;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let verbosity = match (cli.global.quiet, cli.global.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, 0) => Verbosity::Normal,
        (false, 1) => Verbosity::Verbose,
        (false, _) => Verbosity::Debug,
    };
    let console = Console::new(verbosity);
    console.install_logging();
    match run(cli, &console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_silent() {
                console.line(&format!("tapdeck: {failure}"));
            }
            ExitCode::from(failure.status())
        }
    }
}

fn run(cli: Cli, console: &Console) -> Outcome {
    open_files::raise();
    let config = || Config::load(cli.global.config.as_deref());
    match cli.command {
        Command::Record(command) => command.run(&config()?, console),
        Command::Serve(command) => command.run(&config()?, console),
        Command::Import(command) => command.run(&config()?, console),
        Command::Export(command) => command.run(&config()?, console),
        Command::Verify(command) => command.run(&config()?, console),
        Command::Streams(command) => command.run(&config()?, console),
        Command::Timeline(command) => command.run(&config()?),
        Command::Reindex(command) => command.run(&config()?, console),
        Command::Name(command) => command.run(&config()?, console),
        Command::Packets(command) => command.run(&config()?),
        Command::Status(command) => command.run(&config()?),
        Command::Doctor(command) => command.run(&config()?, console),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    }
}
