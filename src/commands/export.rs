//! `tapdeck export`: a stream, or its packets, as a file.

use crate::cli::{RangeArgs, StoreArg};
use crate::config::Config;
use crate::console::Console;
use crate::failure::{Failure, Outcome};
use crate::finding::{check_range, one_stream};
use crate::output_file::OutputFile;
use crate::size::{ByteSize, count, several};
use crate::times;
use capture::{CaptureTime, Store};
use clap::{Args, ValueEnum};
use reconstruct::codec::Kind;
use reconstruct::export::es::EsReport;
use reconstruct::export::pcap::PcapReport;
use reconstruct::export::{ExportError, es, pcap};
use reconstruct::footage::{CursorStats, Footage, FootageError, MediaPacket, Start, StreamInfo};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Write a stream, or its packets, into a file
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck export entrance-video --store DIR -o entrance.h264
  tapdeck export entrance-video --store DIR --from -5m -o - | ffplay -
  tapdeck export entrance-video --store DIR --format pcap -o entrance.pcap

`es` is the elementary stream as the camera coded it, nothing re-encoded: Annex B for H.264 and H.265, ADTS for AAC, raw for \
G.711, G.722 and G.726, MPEG-4 and MPEG-TS as they are, one JPEG after the other. With --from, video begins at the clean point (key frame) at or before it, so that it can be decoded from the start. `pcap` \
has the very packets that carried it; over TCP these are all that the camera sent in that connection, other tracks of the session among them.")]
pub struct Export {
    /// A stream's id or name
    pub stream: String,
    /// Which part.
    #[command(flatten)]
    pub range: RangeArgs,
    /// What is written
    #[arg(long, value_enum, default_value_t = Format::Es)]
    pub format: Format,
    /// Write here; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace the file if it is there already
    #[arg(long)]
    pub force: bool,
    /// Where.
    #[command(flatten)]
    pub store: StoreArg,
}

/// What an export consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The elementary stream
    Es,
    /// The packets
    Pcap,
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Write(error) if error.kind() == io::ErrorKind::BrokenPipe => error.into(),
            error => Self::failed(error),
        }
    }
}

impl Export {
    /// Writes the file, or nothing.
    pub fn run(self, config: &Config, console: &Console) -> Outcome {
        let range = times::parse_range(self.range.from.as_deref(), self.range.to.as_deref(), times::now())?;
        let store = self.store.open(config)?;
        self.check_output(&store)?;
        let footage = Footage::open(&store)?;
        let stream = one_stream(&footage, &self.stream)?;
        check_range(&stream, range)?;
        let mut out = OutputFile::create(&self.output, self.force)?;
        let (any, told) = match self.format {
            Format::Es => elementary_stream(&footage, &stream, range, &mut out, console)?,
            Format::Pcap => packets(&footage, &stream, range, &mut out)?,
        };
        if !any {
            return Err(Failure::failed(format_args!("{}: there is nothing to write: {told}", stream.name))
                .next("`tapdeck timeline` shows when there is footage"));
        }
        out.finish()?;
        console.say(format!("{}: {told}", stream.name));
        Ok(())
    }
}

impl Export {
    /// The store's own files are not for others to write.
    fn check_output(&self, store: &Store) -> Outcome {
        let dir = self.output.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (Ok(dir), Ok(of_store)) = (dir.canonicalize(), store.dir().canonicalize()) else { return Ok(()) };
        let index = store.index_dir().canonicalize().is_ok_and(|index| dir.starts_with(index));
        if self.output != Path::new("-") && (dir.starts_with(of_store) || index) {
            return Err(Failure::failed(format_args!("{} is in the store itself", self.output.display()))
                .next("give a file outside of it"));
        }
        Ok(())
    }
}

/// Whether anything was written, and what.
fn elementary_stream(
    footage: &Footage,
    stream: &StreamInfo,
    (from, to): (CaptureTime, CaptureTime),
    out: &mut OutputFile,
    console: &Console,
) -> Result<(bool, String), Failure> {
    let start = match from > CaptureTime::MIN && stream.kind == Kind::Video {
        true => Start::CleanPointBefore,
        false => Start::Exact,
    };
    let segments = footage.segments(stream.id, from, to)?;
    let began: BTreeMap<_, _> = segments.into_iter().map(|s| (s.row.id, s.row.payload_type)).collect();
    let mut cursor = footage.cursor(stream.id, from, to, start)?;
    let bar = console.count_bar(seconds(stream, from, to), &stream.name);
    let (mut last_drawn, mut first) = (Instant::now(), None);
    let packets = std::iter::from_fn(|| {
        let next: Option<Result<MediaPacket, FootageError>> = cursor.next().transpose();
        if let Some(Ok(packet)) = &next {
            let first = *first.get_or_insert(packet.time);
            if last_drawn.elapsed() > Duration::from_millis(100) {
                last_drawn = Instant::now();
                bar.set_position(u64::try_from(packet.time.nanos_since(first)).unwrap_or(0) / 1_000_000_000);
            }
        }
        next
    });
    let report = es::write(stream, |segment| began.get(&segment).copied(), packets, out)?;
    bar.finish_and_clear();
    Ok((report.bytes > 0, tell_es(&report, cursor.stats())))
}

/// How many seconds of footage the range has at most: what the progress bar counts.
fn seconds(stream: &StreamInfo, from: CaptureTime, to: CaptureTime) -> u64 {
    let (first, last) = (stream.first.unwrap_or(from), stream.last.unwrap_or(to));
    u64::try_from(to.min(last).nanos_since(from.max(first))).unwrap_or(0) / 1_000_000_000
}

fn tell_es(report: &EsReport, missed: CursorStats) -> String {
    let mut told = format!(
        "{} of {}, {}",
        several(report.units, "unit"),
        several(report.packets, "packet"),
        ByteSize(report.bytes)
    );
    for (n, noun, more) in [
        (report.gaps, "gap", " in the packets"),
        (report.broken_units, "unit", " left out because a part of it is missing"),
        (report.damaged_packets + missed.damaged, "damaged packet", ""),
        (missed.cut, "packet", " that the capture has without their end"),
        (missed.late, "packet", " that came far too late"),
        (missed.between, "packet", " left out between two sessions, before a clean point of the second"),
        (missed.gone, "packet", " that retention deleted meanwhile"),
        (report.unsupported_packets, "packet", " in a packing that is not supported"),
        (report.other_packets, "packet", " of another payload type left out"),
    ] {
        if n > 0 {
            told.push_str(&format!("; {}{more}", several(n, noun)));
        }
    }
    told
}

fn packets(
    footage: &Footage,
    stream: &StreamInfo,
    (from, to): (CaptureTime, CaptureTime),
    out: &mut OutputFile,
) -> Result<(bool, String), Failure> {
    let report: PcapReport = pcap::write(footage, stream, from, to, out)?;
    let mut told = several(report.packets, "packet");
    if report.packets > 0 {
        told.push_str(&format!(", {}", ByteSize(report.bytes)));
    }
    if report.gone > 0 {
        told.push_str(&format!("; {} were deleted by retention meanwhile", count(report.gone)));
    }
    if report.damaged > 0 {
        told.push_str(&format!(
            "; {} can't be read and are left out, `tapdeck verify` shows what is damaged",
            count(report.damaged)
        ));
    }
    Ok((report.packets > 0, told))
}
