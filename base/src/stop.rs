//! Whether this process was asked to stop: long work looks here between two steps, leaves nothing half done, and ends.
//!
//! Has no signals' handlers: the program that wants to hear of those of [`heard`] sets this, and one that does not dies at once,
//! which is harmless everywhere but leaves a file in the middle.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicI32, Ordering};

/// The signals that end a program: SIGHUP, SIGINT and SIGTERM.
const ENDING: [i32; 3] = [1, 2, 15];

static ASKED: AtomicI32 = AtomicI32::new(0);

/// Asks this process to stop, because of this signal. The first one counts.
pub fn ask(signal: i32) {
    let _ = ASKED.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
}

/// The signal that asked, if one did.
pub fn asked() -> Option<i32> {
    match ASKED.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}

/// Ends work that may be done later.
///
/// # Errors
/// Of kind not-now, when somebody asked this process to stop.
pub fn check() -> Result<()> {
    match asked() {
        None => Ok(()),
        Some(signal) => Err(Error::not_now(format!("stopped by {}", name(signal)))),
    }
}

/// The signals that are to end this process in order. What it was started to ignore is not among them: nohup and shells' background
/// jobs have a say in it, and a handler would take that from them. Asked before there is a handler.
pub fn heard() -> Vec<i32> {
    of_status(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// What is heard, from what the system says of a process; all of them where it does not say.
fn of_status(status: &str) -> Vec<i32> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    ENDING.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0).collect()
}

/// What people call a signal.
pub fn name(signal: i32) -> String {
    match signal {
        1 => "SIGHUP".into(),
        2 => "SIGINT".into(),
        15 => "SIGTERM".into(),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_not_heard() {
        assert_eq!(of_status("SigCgt:\tffff\nSigIgn:\t0000000000000000\n"), ENDING);
        assert_eq!(of_status("Name:\tx\nSigIgn:\t0000000000001001\n"), [2, 15], "nohup, and a broken pipe");
        assert_eq!(of_status("SigIgn:\t0000000000000006\n"), [1, 15], "a shell's background job");
        assert_eq!(of_status("SigIgn:\tffffffffffffffff\n"), [0; 0]);
        assert_eq!(of_status(""), ENDING);
    }
}
