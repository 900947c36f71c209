//! Signals that ask a command to stop: one that writes where people look ends what it has begun first.
//!
//! Commands that do not ask for this die at once. Everything that they leave is put in order by the next run.

use base::{Error, Result, stop};
use signal_hook::iterator::Signals;
use std::time::Duration;

/// How long a command may take to leave things in order. After that, or with a second signal, it ends where it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// From now on a signal lets this command leave things in order before it ends.
///
/// # Errors
/// When the system has no more room for handlers.
pub fn leave_in_order() -> Result<()> {
    let mut signals = signals()?;
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

/// The signals that end this process, to be waited for.
///
/// # Errors
/// When the system has no more room for handlers.
pub fn signals() -> Result<Signals> {
    Signals::new(stop::heard()).map_err(|e| Error::failed("could not wait for signals").because(e))
}

/// Ends this process as the signal would have.
pub fn die(signal: i32) {
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}
