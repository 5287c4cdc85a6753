//! `tapdeck man`: the manual pages, from the same definitions as `--help`.

use crate::cli::Cli;
use crate::failure::{Failure, Outcome, nearest};
use clap::{Args, CommandFactory};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Print a manual page, or write all of them into a directory
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck man | man -l -                       read the page of tapdeck itself
  tapdeck man record | man -l -                read the page of one command
  tapdeck man --all /usr/local/share/man/man1  install all pages")]
pub struct Man {
    /// The command [default: tapdeck itself]
    pub command: Option<String>,
    /// Write the pages of all commands into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub all: Option<PathBuf>,
}

impl Man {
    /// Prints one page or writes all.
    pub fn run(self) -> Outcome {
        let mut root = Cli::command();
        root.build();
        if let Some(dir) = self.all {
            let written = std::fs::create_dir_all(&dir).and_then(|()| write_all(root, &dir));
            return written.map_err(|error| {
                Failure::failed(format_args!("cannot write manual pages into {}: {error}", dir.display()))
            });
        }
        let page = match self.command {
            None => root,
            Some(name) => page_of(&root, &name)?,
        };
        Ok(io::stdout().write_all(render(page)?.as_bytes())?)
    }
}

fn write_all(root: clap::Command, dir: &Path) -> io::Result<()> {
    // `help` says what the pages say.
    let commands: Vec<_> = root.get_subcommands().filter(|c| c.get_name() != "help").cloned().collect();
    std::fs::write(dir.join("tapdeck.1"), render(root)?)?;
    for command in commands {
        let name = format!("tapdeck-{}", command.get_name());
        std::fs::write(dir.join(format!("{name}.1")), render(command.display_name(name))?)?;
    }
    Ok(())
}

/// The page in roff. What stands behind the options are examples with us, and are called so.
fn render(page: clap::Command) -> io::Result<String> {
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    Ok(text.replace(".SH EXTRA\n", ".SH EXAMPLES\n").replace("\nExamples:\n", "\n"))
}

fn page_of(root: &clap::Command, name: &str) -> Result<clap::Command, Failure> {
    if let Some(found) = root.find_subcommand(name) {
        return Ok(found.clone().display_name(format!("tapdeck-{name}")));
    }
    let names: Vec<&str> = root.get_subcommands().map(clap::Command::get_name).collect();
    let likely = nearest(name, names.iter().copied());
    let likely = if likely.is_empty() { names } else { likely };
    Err(Failure::usage(format_args!("there is no command `{name}`"))
        .next(format_args!("try {}", likely.join(", "))))
}
