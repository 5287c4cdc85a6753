//! `tapdeck completions`: the shell's completions.

use crate::cli::Cli;
use crate::failure::Outcome;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::io::{self, Write};

/// Print the completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck completions bash > /etc/bash_completion.d/tapdeck
  tapdeck completions zsh  > /usr/local/share/zsh/site-functions/_tapdeck
  tapdeck completions fish > ~/.config/fish/completions/tapdeck.fish")]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

impl Completions {
    /// Prints them on standard output.
    pub fn run(self) -> Outcome {
        // Into memory first: the generator panics when standard output is closed.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tapdeck", &mut script);
        Ok(io::stdout().write_all(&script)?)
    }
}
