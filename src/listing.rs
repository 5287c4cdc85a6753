//! Standard output: tables for people, one JSON document for programs.

use crate::failure::Failure;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, BufWriter, StdoutLock, Write};

/// A table; `right` are the columns of numbers.
pub fn table(headings: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headings);
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// How a table is made to fit a terminal. In a pipe it is as wide as it needs to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fit<'a> {
    /// Columns that are left out, one after the other, while it is too wide: nothing is broken in the middle of a word.
    pub drop: &'a [usize],
    /// The column of words, which may take several lines.
    pub wrap: Option<usize>,
}

/// A column of words is not made narrower than this.
const WORDS: usize = 24;

/// Prints a table without trailing blanks.
pub fn print_table(mut table: Table, fit: Fit<'_>) -> Result<(), Failure> {
    // A terminal that says that it has no columns says that it does not know.
    if let Some(room) = table.width().filter(|room| *room > 0) {
        fit_into(&mut table, fit, room.into());
    } else {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(out.flush()?)
}

fn fit_into(table: &mut Table, fit: Fit<'_>, room: usize) {
    let mut widths: Vec<usize> =
        table.column_max_content_widths().into_iter().map(|w| usize::from(w) + 2).collect();
    if let Some(width) = fit.wrap.and_then(|words| widths.get_mut(words)) {
        *width = (*width).min(WORDS);
    }
    // Behind the last column there is nothing.
    for column in fit.drop.iter().copied() {
        if widths.iter().sum::<usize>() <= room + 2 {
            break;
        }
        if let (Some(width), Some(dropped)) = (widths.get_mut(column), table.column_mut(column)) {
            *width = 0;
            dropped.set_constraint(ColumnConstraint::Hidden);
        }
    }
    if fit.wrap.is_none() {
        table.set_content_arrangement(ContentArrangement::Disabled);
        return;
    }
    table.set_content_arrangement(ContentArrangement::Dynamic);
    for (i, column) in table.column_iter_mut().enumerate() {
        if Some(i) != fit.wrap && !column.is_hidden() {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(fit: Fit<'_>, room: usize) -> Vec<String> {
        let mut all = table(&["NAME", "CODEC", "WORDS"], &[]);
        all.add_row(["front-gate-video", "h264", "four words stand here, or were there six"]);
        all.set_width(room as u16);
        fit_into(&mut all, fit, room);
        all.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    #[test]
    fn columns_go_before_words_are_broken() {
        let fit = Fit { drop: &[1], wrap: Some(2) };
        let (wide, narrow) = (lines(fit, 80), lines(fit, 44));
        assert!(wide[1].starts_with("front-gate-video  h264   four") && wide.len() == 2, "{wide:#?}");
        assert!(narrow[1].starts_with("front-gate-video  four") && narrow.len() == 3, "{narrow:#?}");
        assert!(narrow.iter().all(|line| line.len() <= 44), "{narrow:#?}");
        let whole = lines(Fit { drop: &[1, 2], wrap: None }, 10);
        assert_eq!(whole, ["NAME", "front-gate-video"]);
    }
}
