//! What went wrong without stopping the work: told to the monitor at once, and kept for the report.
//!
//! Does not print.

use base::{Error, Monitor};

/// How many are kept; the others are counted.
const KEPT: usize = 10_000;

/// The list.
pub(crate) struct Problems<'a> {
    monitor: &'a dyn Monitor,
    list: Vec<String>,
    more: u64,
}

impl<'a> Problems<'a> {
    pub(crate) fn new(monitor: &'a dyn Monitor) -> Self {
        Self { monitor, list: Vec::new(), more: 0 }
    }

    pub(crate) fn add(&mut self, error: &Error) {
        self.monitor.problem(error);
        if self.list.len() < KEPT {
            self.list.push(error.one_line());
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.list.push(format!("and {} more", self.more));
        }
        self.list
    }
}
