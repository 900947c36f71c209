//! The one place where results and errors become text, and errors become exit codes.
//!
//! Does not know what the commands do; under cron nothing comes here when all is well.

use base::text::printable;
use base::{Error, Exit, Monitor, Result};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Prints one line on stdout.
///
/// # Errors
/// When stdout cannot be written.
pub fn line(text: &str) -> Result<()> {
    written(writeln!(io::stdout().lock(), "{}", printable(text)))
}

/// Prints a whole text on stdout, as it is.
///
/// # Errors
/// When stdout cannot be written.
pub fn text(text: &str) -> Result<()> {
    written(io::stdout().lock().write_all(text.as_bytes()))
}

/// Prints one line on stderr: something a person should look at, which did not stop the command.
pub fn warning(text: &str) {
    // Nowhere is left to say that stderr is gone.
    let _ = writeln!(io::stderr().lock(), "nightsafe-server: {}", printable(text));
}

/// Prints an error and its hint on stderr.
pub fn complain(error: &Error) {
    let _ = writeln!(io::stderr().lock(), "nightsafe-server: {}", error.render());
}

/// Tells problems as warnings, and nothing of what goes well.
#[derive(Debug)]
pub struct Complaints;

impl Monitor for Complaints {
    fn problem(&self, error: &Error) {
        warning(&error.render());
    }
}

/// Prints an array of objects, for programs.
///
/// # Errors
/// When stdout cannot be written.
pub fn json<T: Serialize>(rows: &[T]) -> Result<()> {
    let text = serde_json::to_string_pretty(rows).map_err(|error| Error::failed("could not write JSON").because(error))?;
    written(writeln!(io::stdout().lock(), "{text}"))
}

/// Prints rows in columns as wide as their widest cell. Without rows nothing is printed, the headings neither.
///
/// # Errors
/// When stdout cannot be written.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(headings.get(column).map(|heading| heading.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut add = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    };
    add(headings.to_vec());
    for row in &rows {
        add(row.iter().map(String::as_str).collect());
    }
    written(io::stdout().lock().write_all(text.as_bytes()))
}

/// Prints `text` as a question on the terminal and reads a line; `None` where nobody sits at one.
pub fn ask(text: &str) -> Option<String> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return None;
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{}", printable(text)).and_then(|()| stderr.flush()).ok()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).ok()?;
    Some(answer.trim().to_owned())
}

/// Turns how a command ended into text on stderr and an exit code.
pub fn finish(result: Result<Exit>) -> Exit {
    result.unwrap_or_else(|error| {
        complain(&error);
        error.kind().into()
    })
}

/// A reader that went away (`| head`) ends the command without a word, as other programs do.
fn written(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Error::failed("could not write the output").because(error)),
        Ok(()) => Ok(()),
    }
}
