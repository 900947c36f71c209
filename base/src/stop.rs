//! Whether this process was asked to stop: long work looks here between two steps, leaves nothing half done, and ends.
//!
//! Knows no signals' handlers: the program that wants to hear of them sets this, and one that does not dies at once, which
//! is harmless everywhere but leaves a file in the middle.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicI32, Ordering};

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

/// What people call a signal.
pub fn name(signal: i32) -> String {
    match signal {
        1 => "SIGHUP".into(),
        2 => "SIGINT".into(),
        15 => "SIGTERM".into(),
        other => format!("signal {other}"),
    }
}
