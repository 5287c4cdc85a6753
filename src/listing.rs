//! Standard output: tables for people, one JSON document for programs.

use crate::failure::Failure;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, BufWriter, StdoutLock, Write};

/// A table that fits the terminal (and is as wide as it needs to be in a pipe). `right` are the columns of numbers.
pub fn table(headings: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(headings);
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    // A terminal that says that it has no columns says that it does not know.
    if table.width() == Some(0) {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table
}

/// Prints a table without trailing blanks.
pub fn print_table(table: &Table) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(out.flush()?)
}

/// Prints one value as a JSON document.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Prints lines of text.
pub fn print_lines<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    for line in lines {
        writeln!(out, "{}", line.as_ref())?;
    }
    Ok(out.flush()?)
}

/// A JSON array that is written element by element, for listings too long to be held in memory.
pub struct JsonArray {
    out: BufWriter<StdoutLock<'static>>,
    empty: bool,
}

impl JsonArray {
    /// Opens the array.
    pub fn begin() -> Result<Self, Failure> {
        let mut out = BufWriter::new(io::stdout().lock());
        out.write_all(b"[")?;
        Ok(Self { out, empty: true })
    }

    /// Adds one element.
    pub fn push(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.out.write_all(if self.empty { b"\n" } else { b",\n" })?;
        self.empty = false;
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        Ok(())
    }

    /// Closes the array.
    pub fn end(mut self) -> Result<(), Failure> {
        self.out.write_all(if self.empty { b"]\n" } else { b"\n]\n" })?;
        Ok(self.out.flush()?)
    }
}
