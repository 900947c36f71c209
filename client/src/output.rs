//! What people and scripts see: lines, tables, JSON, and the one place where errors become text and exit codes.
//!
//! Knows no command and decides nothing but how a result is shown.

use base::text::printable;
use base::{Error, Exit, Monitor, Result};
use serde::Serialize;
use show::progress::aside;
use show::table::{Cell, Paper};
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

/// Why stdout took no more, the first time that it did not.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

/// Prints one line on stdout. What cannot be printed is told of at the end, by [`finish`]: it stops nothing else.
pub fn line(text: impl Display) {
    part(format_args!("{text}\n"));
}

/// Prints on stdout without ending the line.
pub fn part(text: impl Display) {
    wrote(aside(|| write!(io::stdout().lock(), "{text}")));
}

fn wrote(result: io::Result<()>) {
    if let Err(error) = result {
        let _ = UNWRITTEN.set(error);
    }
}

/// Whether stdout takes no more: then a long listing may end.
pub fn is_gone() -> bool {
    UNWRITTEN.get().is_some()
}

/// Prints one line on stderr.
pub fn note(text: impl Display) {
    let _ = aside(|| writeln!(io::stderr().lock(), "{text}"));
}

/// Whether a person is looking at stderr: then what is going on is worth a word.
pub fn watched() -> bool {
    io::stderr().is_terminal()
}

/// Whether a person can be asked.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Turns a command's result into its exit code; an error is printed on stderr. A reader that went away (`| head`) is no error
/// of ours, and any other reason why stdout could not be written is one. Whoever was asked to stop dies of that signal, so that
/// a shell knows it.
pub fn finish(result: Result<Exit>) -> ExitCode {
    if let Some(signal) = base::stop::asked().filter(|_| matches!(result, Err(_) | Ok(Exit::NotNow))) {
        note(format_args!("nightsafe: stopped by {}", base::stop::name(signal)));
        if let Some(advice) = result.as_ref().err().and_then(Error::advice) {
            note(format_args!("  {}", printable(advice)));
        }
        crate::interrupt::die(signal);
    }
    let exit = result.unwrap_or_else(|error| {
        complain(&error);
        error.kind().into()
    });
    wrote(io::stdout().lock().flush());
    match UNWRITTEN.get() {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            note(format_args!("nightsafe: could not write the output: {error}"));
            worse(exit, Exit::Failed).into()
        }
        _ => exit.into(),
    }
}

/// Ends the program where the command line is wrong, or only help was asked for.
pub fn usage(error: &clap::Error) -> ExitCode {
    // Help goes to stdout, everything else to stderr.
    let printed = error.print().and_then(|()| io::stdout().lock().flush());
    match printed {
        Err(unwritten) if unwritten.kind() != io::ErrorKind::BrokenPipe && !error.use_stderr() => {
            note(format_args!("nightsafe: could not write the output: {unwritten}"));
            Exit::Failed.into()
        }
        _ if error.use_stderr() => Exit::Usage.into(),
        _ => Exit::Done.into(),
    }
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
        show(&table(rows));
    }
    Ok(())
}

/// A JSON array of objects that is printed while it grows, so that it may be of any length.
#[derive(Debug, Default)]
pub struct JsonArray {
    any: bool,
}

impl JsonArray {
    /// Prints one more object.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn push<T: Serialize>(&mut self, row: &T) -> Result<()> {
        let text = serde_json::to_string(row).map_err(|e| Error::failed("could not write JSON").because(e))?;
        part(format_args!("{}\n  {text}", if self.any { "," } else { "[" }));
        self.any = true;
        Ok(())
    }

    /// Prints its end.
    pub fn finish(self) {
        line(if self.any { "\n]" } else { "[]" });
    }
}

/// Prints a table for people.
pub fn show(table: &Table) {
    if table.table.is_empty() {
        line(table.empty);
    } else {
        part(table.table.render(paper()));
    }
}

/// What stdout is written on.
pub fn paper() -> Paper {
    Paper::of(io::stdout())
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

impl Display for Table {
    /// As on paper of any width.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.table.is_empty() { writeln!(f, "{}", self.empty) } else { f.write_str(&self.table.render(Paper::default())) }
    }
}

/// A table, and what is said where it has no rows.
#[derive(Debug)]
pub struct Table {
    table: show::table::Table,
    empty: &'static str,
}

impl Table {
    /// A table with these headings; `empty` is what is said when there are no rows.
    pub fn new(heads: &[&str], empty: &'static str) -> Self {
        Self { table: show::table::Table::new(heads), empty }
    }

    /// Adds a row.
    pub fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.table.row(cells);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_ending_gives_the_exit_code() {
        assert_eq!(worse(Exit::Incomplete, Exit::Done), Exit::Incomplete);
        assert_eq!(worse(Exit::NotNow, Exit::Failed), Exit::Failed);
        assert_eq!(worse(Exit::Refused, Exit::NotNow), Exit::Refused);
    }
}
