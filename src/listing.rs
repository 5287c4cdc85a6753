//! Standard output: tables for people, one JSON document for programs.

use crate::failure::Failure;
use crate::printable::printable;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, BufWriter, StdoutLock, Write};

/// What a table shows.
pub struct Rows<'a> {
    /// Of its columns.
    pub headings: &'a [&'a str],
    /// The columns of numbers.
    pub right: &'a [usize],
    /// As many cells in each as there are headings.
    pub rows: Vec<Vec<String>>,
}

fn table(Rows { headings, right, rows }: Rows<'_>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headings);
    for row in &rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
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

/// Prints a table.
pub fn print_table(rows: Rows<'_>, fit: Fit<'_>) -> Result<(), Failure> {
    // A terminal that says that it has no columns says that it does not know.
    let room = Table::new().width().filter(|room| *room > 0);
    print_coloured(layout(rows, fit, room))
}

/// A table's lines without trailing blanks: for a terminal that has room for so many columns, or for a pipe.
pub fn layout(rows: Rows<'_>, fit: Fit<'_>, room: Option<u16>) -> Vec<String> {
    let mut table = table(rows);
    match room {
        Some(room) => fit_into(&mut table, fit, room),
        None => _ = table.set_content_arrangement(ContentArrangement::Disabled),
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

fn fit_into(table: &mut Table, fit: Fit<'_>, room: u16) {
    table.set_width(room);
    let mut widths: Vec<usize> =
        table.column_max_content_widths().into_iter().map(|w| usize::from(w) + 2).collect();
    if let Some(width) = fit.wrap.and_then(|words| widths.get_mut(words)) {
        *width = (*width).min(WORDS);
    }
    // Behind the last column there is nothing.
    let fits = |widths: &[usize]| widths.iter().sum::<usize>() <= usize::from(room) + 2;
    let mut dropped = Vec::new();
    for column in fit.drop.iter().copied() {
        if fits(&widths) {
            break;
        }
        dropped.push((column, std::mem::take(&mut widths[column])));
    }
    // Instead of a wide one that went last there is perhaps room for narrow ones that went before.
    for (column, width) in dropped.into_iter().rev() {
        widths[column] = width;
        if let Some(dropped) = table.column_mut(column).filter(|_| !fits(&widths)) {
            widths[column] = 0;
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
    print_coloured(lines.into_iter().map(|line| printable(line.as_ref()).into_owned()))
}

/// Prints lines that have been made printable, and colours in them.
pub fn print_coloured(lines: impl IntoIterator<Item = String>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    for line in lines {
        writeln!(out, "{line}")?;
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

    fn lines(fit: Fit<'_>, room: u16) -> Vec<String> {
        let row = ["front-gate-video", "h264", "four words stand here, or were there six"];
        let rows = vec![row.map(str::to_owned).to_vec()];
        layout(Rows { headings: &["NAME", "CODEC", "WORDS"], right: &[], rows }, fit, Some(room))
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

    #[test]
    fn a_column_that_fits_instead_of_a_wider_one_is_shown() {
        let narrow = lines(Fit { drop: &[1, 2], wrap: Some(2) }, 24);
        assert_eq!(narrow, ["NAME              CODEC", "front-gate-video  h264"]);
    }

    #[test]
    fn what_is_in_a_cell_stays_in_it() {
        let rows = vec![vec!["a\nb".to_owned(), "\x1b[2J".to_owned()]];
        let lines = layout(Rows { headings: &["ONE", "TWO"], right: &[], rows }, Fit::default(), None);
        assert_eq!(lines, ["ONE   TWO", r"a\nb  \u{1b}[2J"]);
    }
}
