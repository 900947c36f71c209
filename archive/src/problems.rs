//! What went wrong without stopping the work: told to the monitor at once, and kept for the report.
//!
//! Does not print.

use base::{Error, Monitor};

/// How many are kept, and how many bytes of them; the others are counted.
const KEPT: usize = 10_000;
const KEPT_BYTES: usize = 16 << 20;

/// The list.
pub(crate) struct Problems<'a> {
    monitor: &'a dyn Monitor,
    list: Vec<String>,
    bytes: usize,
    more: u64,
    /// Why the last file failed: thousands may fail for one pack.
    why: String,
}

impl<'a> Problems<'a> {
    pub(crate) fn new(monitor: &'a dyn Monitor) -> Self {
        Self { monitor, list: Vec::new(), bytes: 0, more: 0, why: String::new() }
    }

    pub(crate) fn add(&mut self, error: &Error) {
        self.monitor.problem(error);
        if self.list.len() < KEPT && self.bytes < KEPT_BYTES {
            self.list.push(error.one_line());
            self.bytes += self.list.last().map_or(0, String::len);
        } else {
            self.more += 1;
        }
    }

    /// `what` came to nothing because of `error`, which is told in full once where it goes on and on.
    pub(crate) fn add_for(&mut self, what: &str, error: &Error) {
        let why = error.one_line();
        let line = if why == self.why { format!("{what}, for the same reason") } else { format!("{what}: {why}") };
        self.why = why;
        self.add(&Error::failed(line));
    }

    pub(crate) fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.list.push(format!("and {} more", self.more));
        }
        self.list
    }
}
