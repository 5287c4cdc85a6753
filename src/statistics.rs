//! What each interface received and lost, second by second, as the journal has it.

use crate::failure::Failure;
use crate::listing::{self, Fit, Rows};
use crate::size::{ByteSize, count};
use crate::times;
use capture::{CaptureTime, StatisticsRow, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A second of one interface.
pub struct Second {
    /// When it began, by the recorder's clock.
    pub from: CaptureTime,
    /// The interface.
    pub interface: String,
    /// What happened.
    pub row: StatisticsRow,
}

/// All that lie in a range, in the order of time.
pub fn seconds(store: &Store, (from, to): (CaptureTime, CaptureTime)) -> Result<Vec<Second>, Failure> {
    let names: BTreeMap<_, _> = store.taps().into_iter().map(|tap| (tap.id, tap.name)).collect();
    let mut found = Vec::new();
    for statistics in store.statistics(from, to)? {
        let interface = names.get(&statistics.tap).cloned().unwrap_or_else(|| statistics.tap.to_string());
        let in_range = statistics.seconds().filter(|(at, _)| (from..=to).contains(at));
        found.extend(in_range.map(|(from, row)| Second { from, interface: interface.clone(), row: *row }));
    }
    found.sort_by(|a, b| (a.from, &a.interface).cmp(&(b.from, &b.interface)));
    Ok(found)
}

/// As a table.
pub fn print(seconds: &[Second]) -> Result<(), Failure> {
    let headings = ["FROM", "INTERFACE", "LASTED", "PACKETS", "STORED", "KERNEL", "NIC", "US", "QUEUED"];
    let row = |Second { from, interface, row }: &Second| {
        vec![
            times::short(*from),
            interface.clone(),
            times::lasting(i64::from(row.millis) * 1_000_000),
            count(row.received),
            ByteSize(row.bytes).to_string(),
            count(row.dropped_kernel),
            count(row.dropped_nic),
            count(row.dropped_ours),
            ByteSize(row.queued_bytes).to_string(),
        ]
    };
    let rows =
        Rows { headings: &headings, right: &[3, 4, 5, 6, 7, 8], rows: seconds.iter().map(row).collect() };
    listing::print_table(rows, Fit { drop: &[2, 8, 4], wrap: None })
}

/// One of them for programs.
pub fn document(second: &Second) -> Value {
    let row = &second.row;
    json!({
        "from": times::rfc3339(second.from),
        "interface": second.interface,
        "milliseconds": row.millis,
        "received": row.received,
        "bytes": row.bytes,
        "dropped_by_kernel": row.dropped_kernel,
        "dropped_by_nic": row.dropped_nic,
        "dropped_by_us": row.dropped_ours,
        "queued_bytes": row.queued_bytes,
    })
}
