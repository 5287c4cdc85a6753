//! `tapdeck timeline`: when a stream has footage, and its gaps.

use crate::cli::{JsonArg, RangeArgs, StoreArg};
use crate::config::Config;
use crate::failure::Outcome;
use crate::finding::one_stream;
use crate::listing::{self, Fit, Rows};
use crate::size::{ByteSize, count};
use crate::times;
use clap::Args;
use reconstruct::footage::{Footage, Gap, RtcpMapping, SegmentInfo};
use reconstruct::model::GapEvidence;
use serde_json::{Value, json};

/// Show when a stream has footage, and its gaps with their causes
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck timeline entrance-video --store DIR
  tapdeck timeline entrance-video --store DIR --from -1d --json | jq '.gaps[]'

A segment is an unbroken interval of one session; with --json it says what the camera's clock said (`camera_clock`, from its last \
sender report). A gap's cause (camera, network, mirror, recorder) is named only when \
there is evidence for it, which is shown.")]
pub struct Timeline {
    /// A stream's id or name
    pub stream: String,
    /// Which part.
    #[command(flatten)]
    pub range: RangeArgs,
    /// Where.
    #[command(flatten)]
    pub store: StoreArg,
    /// How it is printed.
    #[command(flatten)]
    pub json: JsonArg,
}

const HEADINGS: [&str; 6] = ["", "FROM", "TO", "LASTED", "PACKETS", ""];
const FIT: Fit<'_> = Fit { drop: &[2, 4, 5, 3], wrap: Some(5) };

/// What a timeline is made of, in the order of time.
enum Entry<'a> {
    Segment(&'a SegmentInfo),
    Gap(&'a Gap),
}

impl Timeline {
    /// Prints segments and gaps in the order of time.
    pub fn run(self, config: &Config) -> Outcome {
        let (from, to) =
            times::parse_range(self.range.from.as_deref(), self.range.to.as_deref(), times::now())?;
        let footage = Footage::open(&self.store.open(config)?)?;
        let stream = one_stream(&footage, &self.stream)?;
        let segments = footage.segments(stream.id, from, to)?;
        let gaps = footage.gaps(stream.id, from, to)?;
        if self.json.json {
            let reports = footage.last_reports(stream.id)?;
            let documents: Vec<_> =
                segments.iter().map(|s| segment_document(s, reports.get(&s.row.id).copied())).collect();
            return listing::print_json(&json!({
                "stream": stream.id,
                "name": stream.name,
                "segments": documents,
                "gaps": gaps.iter().map(gap_document).collect::<Vec<_>>(),
            }));
        }
        let mut entries: Vec<Entry<'_>> =
            segments.iter().map(Entry::Segment).chain(gaps.iter().map(Entry::Gap)).collect();
        entries.sort_by_key(|entry| match entry {
            Entry::Segment(segment) => (segment.first, 0),
            Entry::Gap(gap) => (gap.from, 1),
        });
        listing::print_table(
            Rows { headings: &HEADINGS, right: &[4], rows: entries.iter().map(row).collect() },
            FIT,
        )
    }
}

fn row(entry: &Entry<'_>) -> Vec<String> {
    let (what, from, to, packets, remark) = match entry {
        Entry::Segment(segment) => {
            let row = &segment.row;
            let remark =
                format!("{} > {} by {}, {}", row.src, row.dst, row.transport.name(), ByteSize(segment.bytes));
            ("footage", segment.first, segment.last, segment.packets, remark)
        }
        Entry::Gap(gap) => {
            ("  gap", gap.from, gap.to, gap.packets, format!("{}{}", gap.cause.name(), evidence(gap)))
        }
    };
    let lasted = times::lasting(to.nanos_since(from));
    vec![what.to_owned(), times::short(from), times::short(to), lasted, count(packets), remark]
}

fn evidence(gap: &Gap) -> String {
    match &gap.evidence {
        Some(GapEvidence::TcpAcknowledged { bytes }) => {
            format!(": the receiver acknowledged {} bytes that the tap never saw", count(*bytes))
        }
        Some(GapEvidence::Drops { packets, .. }) => {
            format!(": the tap dropped {} packets then", count(*packets))
        }
        Some(GapEvidence::InterfaceAway { .. }) => ": the interface was away then".to_owned(),
        Some(GapEvidence::BetweenRecordings) => ": between two recordings".to_owned(),
        None => String::new(),
    }
}

/// `report`: the last sender report of the segment, if the camera sent one.
fn segment_document(segment: &SegmentInfo, report: Option<RtcpMapping>) -> Value {
    let row = &segment.row;
    json!({
        "id": row.id,
        "session": row.session,
        "ssrc": row.ssrc,
        "payload_type": row.payload_type,
        "transport": row.transport.name(),
        "source": { "address": row.src.ip(), "port": row.src.port() },
        "destination": { "address": row.dst.ip(), "port": row.dst.port() },
        "vlans": row.vlans,
        "from": times::rfc3339(segment.first),
        "to": times::rfc3339(segment.last),
        "packets": segment.packets,
        "bytes": segment.bytes,
        "lost": segment.lost,
        "duplicates": segment.duplicates,
        "reordered": segment.reordered,
        "access_units": segment.access_units,
        "clean_points": segment.clean_points,
        "camera_clock": report.and_then(|report| report.camera_time().zip(Some(report))).map(|(said, report)| json!({
            "at": times::rfc3339(report.time),
            "said": times::rfc3339(said),
            "rtp_timestamp": report.timestamp,
            "ahead_seconds": said.nanos_since(report.time) as f64 / 1e9,
        })),
    })
}

fn gap_document(gap: &Gap) -> Value {
    json!({
        "segment": gap.segment,
        "from": times::rfc3339(gap.from),
        "to": times::rfc3339(gap.to),
        "packets": gap.packets,
        "first_sequence": gap.first_seq,
        "cause": gap.cause.name(),
        "evidence": match &gap.evidence {
            Some(GapEvidence::TcpAcknowledged { bytes }) => json!({ "kind": "tcp-acknowledged", "bytes": bytes }),
            Some(GapEvidence::Drops { tap, packets }) => json!({ "kind": "drops", "tap": tap, "packets": packets }),
            Some(GapEvidence::InterfaceAway { tap }) => json!({ "kind": "interface-away", "tap": tap }),
            Some(GapEvidence::BetweenRecordings) => json!({ "kind": "between-recordings" }),
            None => Value::Null,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(room: u16) -> Vec<String> {
        let row = |cells: [&str; 6]| cells.map(str::to_owned).to_vec();
        let (from, to) = ("2026-11-21T14:30:00.123Z", "2026-11-21T16:35:00.456Z");
        let remark = "[2001:db8:1::1:10]:40000 > [2001:db8:2::2:20]:50000 by udp, 1.21 GiB";
        let evidence = "mirror: the receiver acknowledged 1,234,567 bytes that the tap never saw";
        let rows = vec![
            row(["footage", from, to, "2 h 5 min", "1,234,567", remark]),
            row(["  gap", from, to, "1 min 30 s", "12,345", evidence]),
        ];
        listing::layout(Rows { headings: &HEADINGS, right: &[4], rows }, FIT, Some(room))
    }

    #[test]
    fn it_fits_narrow_terminals() {
        for room in 36..=200 {
            let lines = lines(room);
            assert!(lines.iter().all(|line| line.chars().count() <= room.into()), "{room}: {lines:#?}");
            assert!(lines[1].starts_with("footage  2026-11-21T14:30:00.123Z"), "{room}: {lines:#?}");
        }
        // When it began and how long it lasted; wider, what it was as well.
        assert!(lines(50)[1].ends_with("2 h 5 min"), "{:#?}", lines(50));
        assert!(lines(80).iter().any(|line| line.contains("acknowledged")), "{:#?}", lines(80));
    }
}
