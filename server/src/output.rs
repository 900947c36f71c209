//! The one place where results and errors become text, and errors become exit codes.
//!
//! Does not know what the commands do; under cron nothing comes here when all is well.

use base::text::printable;
use base::{Error, Exit, Monitor, Result};
use serde::Serialize;
use show::progress::{Progress, aside};
use show::table::{Cell, Paper, Table, Tone};
use std::io::{self, IsTerminal, Write};

/// Prints one line on stdout.
///
/// # Errors
/// When stdout cannot be written.
pub fn line(text: &str) -> Result<()> {
    written(aside(|| writeln!(io::stdout().lock(), "{}", printable(text))))
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
    let _ = aside(|| writeln!(io::stderr().lock(), "nightsafe-server: {}", printable(text)));
}

/// Prints one line on stderr, for a person, where stdout is a program's.
pub fn beside(text: &str) {
    let _ = aside(|| writeln!(io::stderr().lock(), "{}", printable(text)));
}

/// Prints an error and its hint on stderr.
pub fn complain(error: &Error) {
    let _ = aside(|| writeln!(io::stderr().lock(), "nightsafe-server: {}", error.render()));
}

/// Tells problems as warnings, and nothing of what goes well.
#[derive(Debug)]
pub struct Complaints;

impl Monitor for Complaints {
    fn problem(&self, error: &Error) {
        warning(&error.render());
    }
}

/// As [`Complaints`], and a line on a terminal says how far it is.
#[derive(Debug, Default)]
pub struct Watched(Progress);

impl Monitor for Watched {
    fn task(&self, name: &str, total: Option<u64>) {
        self.0.task(name, total);
    }

    fn bytes(&self, bytes: u64) {
        self.0.bytes(bytes);
    }

    fn entries(&self, entries: u64) {
        self.0.entries(entries);
    }

    fn problem(&self, error: &Error) {
        Complaints.problem(error);
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

/// Prints rows in columns, as wide as the terminal at most. Without rows nothing is printed, the headings neither.
///
/// # Errors
/// When stdout cannot be written.
pub fn table<C: Clone + Into<Cell>>(headings: &[&str], rows: &[Vec<C>]) -> Result<()> {
    let mut table = Table::new(headings);
    for row in rows {
        table.row(row.iter().cloned());
    }
    if table.is_empty() {
        return Ok(());
    }
    let text = table.render(paper());
    written(aside(|| io::stdout().lock().write_all(text.as_bytes())))
}

/// What stdout is written on.
pub fn paper() -> Paper {
    Paper::of(io::stdout())
}

/// Prints one line on stdout in the colour of `tone`, where there are colours.
///
/// # Errors
/// When stdout cannot be written.
pub fn toned(text: &str, tone: Tone) -> Result<()> {
    let text = paper().paint(&printable(text), tone);
    written(aside(|| writeln!(io::stdout().lock(), "{text}")))
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

/// Ends the program where the command line is wrong, or only help was asked for.
pub fn usage(error: &clap::Error) -> Exit {
    let printed = error.print().and_then(|()| io::stdout().lock().flush());
    match written(printed) {
        Err(unwritten) if !error.use_stderr() => finish(Err(unwritten)),
        _ if error.use_stderr() => Exit::Usage,
        _ => Exit::Done,
    }
}

/// A reader that went away (`| head`) ends the command without a word, as other programs do.
fn written(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Error::failed("could not write the output").because(error)),
        Ok(()) => Ok(()),
    }
}
