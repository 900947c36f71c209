//! What the libraries tell while they work, on stderr for whoever asked with `-v`.
//!
//! Does not decide what is a problem: problems are printed by the commands, always.

use std::io::IsTerminal;
use tracing_subscriber::filter::LevelFilter;

/// Starts it; without `-v` only what libraries warn of is shown.
pub fn start(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let terminal = std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false).with_ansi(terminal);
    // The journal has times of its own.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        subscriber.without_time().init();
    } else {
        subscriber.init();
    }
}
