//! Signals that ask a command to stop: one that writes where people look ends what it has begun first.
//!
//! Commands that do not ask for this die at once. Everything that they leave is put in order by the next run.

use base::{Error, Result, stop};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::time::Duration;

/// How long a command may take to leave things in order. After that, or with a second signal, it ends where it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// The signals that end a command.
pub const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// From now on a signal lets this command leave things in order before it ends.
///
/// # Errors
/// When the system has no more room for handlers.
pub fn leave_in_order() -> Result<()> {
    let ignored = ignored();
    // nohup and shells' background jobs have a say in it.
    let wanted = ENDING.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = Signals::new(wanted).map_err(|e| Error::failed("could not wait for signals").because(e))?;
    std::thread::spawn(move || {
        let mut come = signals.forever();
        if let Some(first) = come.next() {
            stop::ask(first);
            std::thread::spawn(move || {
                std::thread::sleep(PATIENCE);
                die(first);
            });
        }
        if let Some(second) = come.next() {
            die(second);
        }
    });
    Ok(())
}

/// The signals that this process was started not to hear of, a bit each; none where the system does not say.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Ends this process as the signal would have.
pub fn die(signal: i32) {
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}
