//! The log: what `tracing` is told, on stderr for whoever asked for it, and for the journal where that is what stderr is.
//!
//! Does not decide what is a problem: problems are printed by the commands, always.

use rustix::fs::fstat;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::registry::LookupSpan;

/// Starts it. `-v` shows what is being done, `-vv` everything; `RUST_LOG` has the last word where it is set and `-v` is not. Without
/// either `quiet` is what is shown, and for the journal, where somebody may look for it later, what is being done.
pub fn start(verbose: u8, quiet: Option<Level>) {
    let journal = is_journal();
    let wanted = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let filter = match (verbose, wanted, quiet) {
        (0, Some(text), _) => text,
        (0, None, None) if !journal => return,
        (0, None, Some(level)) if !journal => level.to_string(),
        (0 | 1, _, _) => "info".into(),
        (_, _, _) => "debug".into(),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(|| Aside)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal());
    // A second start in one process is a test's, and changes nothing.
    if journal {
        let _ = log.event_format(Prefixed(tracing_subscriber::fmt::format().with_target(false).without_time())).try_init();
    } else {
        let _ = log.try_init();
    }
}

/// Whether stderr is the journal: systemd says which file that is, and children may have been given another one.
fn is_journal() -> bool {
    let said = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    fstat(io::stderr()).is_ok_and(|stat| said == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Lines with the level in front, as journald reads it: sd-daemon(3).
struct Prefixed(Format<Full, ()>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, DefaultFields> for Prefixed {
    fn format_event(&self, context: &FmtContext<'_, S, DefaultFields>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// syslog's number for a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// stderr, beside the lines of progress that may stand there.
struct Aside;

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        crate::progress::aside(|| io::stderr().lock().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
