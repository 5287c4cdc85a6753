//! What an import came to: the same whether this process did it or the recorder that writes the store.

use crate::console::Console;
use crate::failure::Outcome;
use crate::listing;
use crate::size::{ByteSize, count, several};
use capture::{ImportError, ImportReport, SourceId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// Less than this a stream's packets are put in order anyway.
const DISORDER_TOLD_NS: i64 = 100_000_000;

/// What became of one file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct FileOutcome {
    /// Its path; one that is no text is shown as well as it can be.
    pub file: String,
    /// What is known of a file that came in.
    #[serde(flatten)]
    pub taken: Option<Taken>,
    /// Why it did not.
    pub error: Option<String>,
    /// Packets of it that are in the store, also if it failed.
    pub kept: u64,
}

/// A file that came in.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Taken {
    /// Its source in the store.
    pub source: SourceId,
    /// Its size.
    pub bytes: u64,
    /// Its packets that are in the store.
    pub packets: u64,
    /// Those that came now.
    pub added: u64,
    /// Packets that were indexed out of their order.
    pub out_of_order: u64,
    /// Packets without their end.
    pub cut: u64,
    /// Packets behind later ones.
    pub disordered: u64,
    /// By how many seconds at the most.
    pub disorder_s: f64,
    /// It was in the store before.
    pub already: bool,
    /// Where it stopped making sense.
    pub damage: Option<Damaged>,
}

/// Damage in a file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Damaged {
    /// In bytes.
    pub offset: u64,
    /// In words.
    pub what: String,
}

impl FileOutcome {
    /// `kept` says what is in the store of a file that failed.
    pub fn new(
        path: &Path,
        result: &Result<ImportReport, ImportError>,
        out_of_order: u64,
        kept: impl FnOnce() -> u64,
    ) -> Self {
        let file = path.display().to_string();
        match result {
            Ok(report) => {
                let damage = report.damage.as_ref();
                let taken = Taken {
                    source: report.source,
                    bytes: report.bytes,
                    packets: report.packets,
                    added: report.added,
                    out_of_order,
                    cut: report.quality.cut,
                    disordered: report.quality.disordered,
                    disorder_s: report.quality.disorder_ns as f64 / 1e9,
                    already: report.already,
                    damage: damage.map(|d| Damaged { offset: d.offset, what: d.kind.to_string() }),
                };
                Self { file, kept: taken.packets, taken: Some(taken), error: None }
            }
            Err(error) => Self { file, taken: None, error: Some(sentence(path, error)), kept: kept() },
        }
    }

    /// Whether the file is not in the store as a whole.
    pub fn failed(&self) -> bool {
        self.error.is_some()
    }

    /// For a person, of a file that came in.
    fn lines(&self) -> Vec<String> {
        let Some(taken) = &self.taken else { return Vec::new() };
        let path = &self.file;
        let mut lines = vec![match taken.already {
            true => format!("{path}: is in the store already, {}", several(taken.packets, "packet")),
            false if taken.added < taken.packets => {
                format!("{path}: {} more, {} in all", several(taken.added, "packet"), count(taken.packets))
            }
            false => format!("{path}: {}", several(taken.added, "packet")),
        }];
        if taken.cut > 0 {
            lines.push(format!(
                "  {} were captured without their end (snap length): what they carry can't be played",
                several(taken.cut, "packet")
            ));
        }
        if taken.disorder_s * 1e9 > DISORDER_TOLD_NS as f64 {
            lines.push(format!(
                "  {} stand behind later ones, by up to {:.1} s: streams may lack packets; `reordercap` puts a file in order",
                several(taken.disordered, "packet"),
                taken.disorder_s
            ));
        }
        if let Some(damage) = &taken.damage {
            lines.push(format!(
                "  damaged at byte {}: {}; everything before it is imported",
                damage.offset, damage.what
            ));
        }
        lines
    }
}

/// With the file's name, whoever's error it is.
fn sentence(path: &Path, error: &ImportError) -> String {
    match error {
        ImportError::Store(error) => format!("{}: {error}", path.display()),
        error => error.to_string(),
    }
}

/// All files of a command.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Imported {
    /// In the order in which they came in.
    pub files: Vec<FileOutcome>,
    /// Streams that the store has something of.
    pub streams: usize,
}

impl Imported {
    /// Whether nothing of any file is in the store.
    pub fn is_nothing(&self) -> bool {
        self.files.iter().all(|file| file.failed() && file.kept == 0)
    }

    /// Whether a file is not in the store as a whole.
    pub fn failed(&self) -> bool {
        self.files.iter().any(FileOutcome::failed)
    }

    /// Says what came in.
    pub fn print(&self, as_json: bool, took: Duration, console: &Console) -> Outcome {
        let taken = || self.files.iter().filter_map(|file| file.taken.as_ref());
        let packets: u64 = self.files.iter().map(|file| file.kept).sum();
        let bytes: u64 = taken().map(|taken| taken.bytes).sum();
        if as_json {
            return listing::print_json(&json!({
                "packets": packets,
                "bytes": bytes,
                "streams": self.streams,
                "seconds": took.as_secs_f64(),
                "files": self.files,
            }));
        }
        listing::print_lines(self.files.iter().flat_map(FileOutcome::lines))?;
        let seconds = took.as_secs_f64().max(1e-3);
        let rate = ByteSize((bytes as f64 / seconds) as u64);
        console.say(format!(
            "{}, {} in {seconds:.1} s ({rate}/s)",
            several(packets, "packet"),
            ByteSize(bytes)
        ));
        console.say(match self.streams {
            0 => "no streams were found; `tapdeck packets` lists what is there".to_owned(),
            n => format!("{} in the store; `tapdeck streams` lists them", several(n as u64, "stream")),
        });
        Ok(())
    }
}
