//! Standard error: progress bars, the recorder's live block and log lines, which never overwrite one another.
//!
//! Standard output belongs to the commands' results alone. Bars and blocks are drawn only when standard error is a
//! terminal; log lines pass around whatever is drawn. What is said of others' names is `printable`.

use crate::printable::printable;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::{FormatFields, MakeWriter};

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
            .fmt_fields(fields())
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
            let _ = writeln!(io::stderr(), "{}", printable(line));
        });
    }

    /// A bar over a known amount of bytes; hidden when standard error is no terminal.
    pub fn byte_bar(&self, total: u64, what: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(
            "{prefix:24!} {wide_bar:.cyan/dim} {bytes:>10} of {total_bytes:10} {binary_bytes_per_sec:>12} {eta:>4} left",
        )
        .expect("the template is a constant that was tried");
        let bar = self.multi.add(ProgressBar::new(total)).with_style(style).with_prefix(prefix(what));
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    }

    /// A bar over a known number of steps.
    pub fn count_bar(&self, total: u64, what: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(
            "{prefix:24!} {wide_bar:.cyan/dim} {pos:>8} of {len:8} {eta:>4} left",
        )
        .expect("the template is a constant that was tried");
        self.multi.add(ProgressBar::new(total)).with_style(style).with_prefix(prefix(what))
    }

    /// Something that takes a while, nobody knows how long.
    pub fn spinner(&self, what: &str) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix} {spinner} {elapsed}")
            .expect("the template is a constant that was tried");
        let spinner = self.multi.add(ProgressBar::new_spinner()).with_style(style).with_prefix(prefix(what));
        spinner.enable_steady_tick(Duration::from_millis(250));
        spinner
    }

    /// Lines that are redrawn in place.
    pub fn block(&self) -> Block {
        let style = ProgressStyle::with_template("{msg}").expect("the template is a constant that was tried");
        Block(self.multi.add(ProgressBar::new_spinner()).with_style(style))
    }
}

fn prefix(what: &str) -> String {
    printable(what).into_owned()
}

/// How the fields of a log line are written: all of them `printable`.
fn fields() -> impl for<'line> FormatFields<'line> {
    debug_fn(write_field).delimited(" ")
}

/// The message is a field as well.
fn write_field(line: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    match field.name() {
        "message" => write!(line, "{}", printable(&value)),
        name => write!(line, "{name}={}", printable(&value)),
    }
}

/// See [`Console::block`].
pub struct Block(ProgressBar);

impl Block {
    /// Draws these lines in place of those before.
    pub fn show(&self, lines: &[String]) {
        let lines: Vec<_> = lines.iter().map(|line| printable(line)).collect();
        self.0.set_message(lines.join("\n"));
    }

    /// Leaves nothing of it.
    pub fn clear(&self) {
        self.0.finish_and_clear();
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
    use std::sync::Arc;

    #[test]
    fn logging_on_a_terminal_has_the_colours_that_it_asks_for() {
        let target = ProgressDrawTarget::hidden();
        let multi = MultiProgress::with_draw_target(target);
        Console { multi, terminal: true, verbosity: Verbosity::Debug }.install_logging();
        tracing::debug!("one line");
    }

    #[test]
    fn a_log_line_is_one_line_whatever_it_tells_of() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let writer = Arc::new(log.reopen().unwrap());
        let subscriber = tracing_subscriber::fmt().with_ansi(false).fmt_fields(fields()).with_writer(writer);
        tracing::subscriber::with_default(subscriber.finish(), || {
            tracing::warn!(shard = 7, agent = %"a\nb", "{} is damaged", "\x1b[2J\r.pcap");
        });
        let line = std::fs::read_to_string(log.path()).unwrap();
        assert!(line.ends_with(": \\u{1b}[2J\\r.pcap is damaged shard=7 agent=a\\nb\n"), "{line:?}");
        assert_eq!(line.lines().count(), 1);
    }
}
