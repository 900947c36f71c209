//! What people and scripts see: lines, tables, JSON, and the one place where errors become text and exit codes.
//!
//! Knows no command and decides nothing but how a result is shown.

use base::text::printable;
use base::{Error, Exit, Monitor, Result};
use serde::Serialize;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Prints one line on stdout. A reader that went away (`| head`) is no error of ours.
pub fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints on stdout without ending the line.
pub fn part(text: impl Display) {
    let _ = write!(std::io::stdout().lock(), "{text}");
}

/// Prints one line on stderr.
pub fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Whether a person is looking at stderr: then what is going on is worth a word.
pub fn watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Whether a person can be asked.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Turns a command's result into its exit code; an error is printed on stderr.
pub fn finish(result: Result<Exit>) -> ExitCode {
    let exit = result.unwrap_or_else(|error| {
        complain(&error);
        error.kind().into()
    });
    exit.into()
}

/// Prints an error and its hint on stderr.
pub fn complain(error: &Error) {
    note(format_args!("nightsafe: {}", error.render()));
}

/// Problems that no result tells of are told to the person at once.
#[derive(Debug)]
pub struct Complaints;

impl Monitor for Complaints {
    fn problem(&self, error: &Error) {
        complain(error);
    }
}

/// `1 entry`, `2 entries`: a number with its word.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Prints a listing: `rows` as a JSON array of objects, or `table` for people.
///
/// # Errors
/// When the rows cannot be written as JSON.
pub fn listing<T: Serialize>(json: bool, rows: &[T], table: impl FnOnce(&[T]) -> Table) -> Result<()> {
    if json {
        let text = serde_json::to_string_pretty(rows).map_err(|e| Error::failed("could not write JSON").because(e))?;
        line(text);
    } else {
        let _ = write!(std::io::stdout().lock(), "{}", table(rows));
    }
    Ok(())
}

/// The exit code of two results together: what needs a person most comes first.
pub fn worse(a: Exit, b: Exit) -> Exit {
    let weight = |exit: Exit| match exit {
        Exit::Done => 0,
        Exit::Incomplete => 1,
        Exit::NotNow => 2,
        Exit::Refused => 3,
        Exit::Failed => 4,
        Exit::Usage => 5,
    };
    if weight(b) > weight(a) { b } else { a }
}

/// Columns under headings, as wide as their widest cell.
#[derive(Debug)]
pub struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    empty: &'static str,
}

impl Table {
    /// A table with these headings; `empty` is what is said when there are no rows.
    pub fn new(heads: &[&'static str], empty: &'static str) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new(), empty }
    }

    /// Adds a row. Control characters are made visible: cells may hold what others wrote.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.rows.is_empty() {
            return writeln!(f, "{}", self.empty);
        }
        let heads: Vec<String> = self.heads.iter().map(|head| (*head).to_owned()).collect();
        let all = || std::iter::once(&heads).chain(&self.rows);
        let widths: Vec<usize> =
            (0..heads.len()).map(|i| all().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max().unwrap_or(0)).collect();
        for row in all() {
            let mut text = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_hide_control_characters() {
        let mut table = Table::new(&["A", "LONG"], "nothing");
        assert_eq!(table.to_string(), "nothing\n");
        table.row(["xyz".into(), "ü".into()]);
        table.row(["x".into(), "\x1b[2J".into()]);
        assert_eq!(table.to_string(), "A    LONG\nxyz  ü\nx    \\u{1b}[2J\n");
    }

    #[test]
    fn the_worst_ending_gives_the_exit_code() {
        assert_eq!(worse(Exit::Incomplete, Exit::Done), Exit::Incomplete);
        assert_eq!(worse(Exit::NotNow, Exit::Failed), Exit::Failed);
        assert_eq!(worse(Exit::Refused, Exit::NotNow), Exit::Refused);
    }
}
