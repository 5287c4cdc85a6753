//! Standard error: progress bars, the recorder's live block and log lines, which never overwrite one another.
//!
//! Standard output belongs to the commands' results alone. Bars and blocks are drawn only when standard error is a
//! terminal; log lines pass around whatever is drawn.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// How much is told on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// Warnings, and what a command reports as it goes.
    Normal,
    /// And what the libraries say.
    Verbose,
    /// Everything.
    Debug,
}

/// The one owner of standard error. Clones share it.
#[derive(Clone, Debug)]
pub struct Console {
    multi: MultiProgress,
    terminal: bool,
    verbosity: Verbosity,
}

impl Console {
    /// Draws on standard error if that is a terminal and `verbosity` allows it.
    pub fn new(verbosity: Verbosity) -> Self {
        let terminal = io::stderr().is_terminal() && verbosity != Verbosity::Quiet;
        let target = match terminal {
            true => ProgressDrawTarget::stderr_with_hz(10),
            false => ProgressDrawTarget::hidden(),
        };
        Self { multi: MultiProgress::with_draw_target(target), terminal, verbosity }
    }

    /// Sends log lines of all crates here, at the level of the verbosity.
    pub fn install_logging(&self) {
        let level = match self.verbosity {
            Verbosity::Quiet => tracing::Level::ERROR,
            Verbosity::Normal => tracing::Level::WARN,
            Verbosity::Verbose => tracing::Level::INFO,
            Verbosity::Debug => tracing::Level::DEBUG,
        };
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_target(self.verbosity == Verbosity::Debug)
            .with_ansi(self.terminal)
            .with_writer(self.clone())
            .finish();
        // A second console in one process (tests) keeps the first one's logging.
        let _ = tracing::subscriber::set_global_default(subscriber);
    }

    /// True when progress is drawn.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// One line for the person watching, around whatever is drawn. Nothing when quiet.
    pub fn say(&self, line: impl AsRef<str>) {
        if self.verbosity != Verbosity::Quiet {
            self.line(line.as_ref());
        }
    }

    /// One line that is printed even when quiet: failures.
    pub fn line(&self, line: &str) {
        // Nobody is left to be told when standard error is closed.
        self.multi.suspend(|| {
            let _ = writeln!(io::stderr(), "{line}");
        });
    }

    /// A bar over a known amount of bytes; hidden when standard error is no terminal.
    pub fn byte_bar(&self, total: u64, what: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(
            "{prefix:24!} {wide_bar:.cyan/dim} {bytes:>10} of {total_bytes:10} {binary_bytes_per_sec:>12} {eta:>4} left",
        )
        .expect("the template is a constant that was tried");
        let bar = self.multi.add(ProgressBar::new(total)).with_style(style).with_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    }

    /// A bar over a known number of steps.
    pub fn count_bar(&self, total: u64, what: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(
            "{prefix:24!} {wide_bar:.cyan/dim} {pos:>8} of {len:8} {eta:>4} left",
        )
        .expect("the template is a constant that was tried");
        self.multi.add(ProgressBar::new(total)).with_style(style).with_prefix(what.to_owned())
    }

    /// Something that takes a while, nobody knows how long.
    pub fn spinner(&self, what: &str) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix} {spinner} {elapsed}")
            .expect("the template is a constant that was tried");
        let spinner =
            self.multi.add(ProgressBar::new_spinner()).with_style(style).with_prefix(what.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(250));
        spinner
    }

    /// A block of lines that is redrawn in place.
    pub fn block(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{msg}").expect("the template is a constant that was tried");
        self.multi.add(ProgressBar::new_spinner()).with_style(style)
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        LogWriter { multi: self.multi.clone() }
    }
}

/// Writes one log line around what is drawn.
#[derive(Debug)]
pub struct LogWriter {
    multi: MultiProgress,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.multi.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logging_on_a_terminal_has_the_colours_that_it_asks_for() {
        let target = ProgressDrawTarget::hidden();
        let multi = MultiProgress::with_draw_target(target);
        Console { multi, terminal: true, verbosity: Verbosity::Debug }.install_logging();
        tracing::debug!("one line");
    }
}
