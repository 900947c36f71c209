//! What a dry run shows: a line for each entry that would change, or an array with every one.

use crate::output;
use base::text::printable;
use base::{ByteSize, Error, Monitor, PlannedStep};
use serde::Serialize;
use show::progress::Progress;
use std::sync::Mutex;

/// Prints steps as they come: nothing is kept, however many there are.
pub struct Plan {
    json: bool,
    begun: Mutex<bool>,
    progress: Progress,
}

#[derive(Serialize)]
struct Row<'a> {
    path: &'a str,
    action: &'a str,
    bytes: u64,
}

impl Plan {
    pub fn new(json: bool) -> Self {
        Self { json, begun: Mutex::new(false), progress: Progress::new() }
    }

    /// Ends the array.
    pub fn finish(self) {
        if self.json {
            output::line(if self.begun.into_inner().is_ok_and(|begun| begun) { "]" } else { "[]" });
        }
    }
}

impl Monitor for Plan {
    fn task(&self, name: &str, total: Option<u64>) {
        self.progress.task(name, total);
    }

    fn planned(&self, step: &PlannedStep<'_>) {
        let &PlannedStep { path, what, bytes } = step;
        if !self.json {
            // What stays as it is fills screens and says nothing.
            if what != "same" {
                let size = if bytes == 0 { String::new() } else { ByteSize(bytes).to_string() };
                output::line(format_args!("{what:<10} {size:>10}  {}", printable(path)));
            }
            return;
        }
        let Ok(mut begun) = self.begun.lock() else { return };
        let text = serde_json::to_string(&Row { path, action: what, bytes }).unwrap_or_default();
        output::line(format_args!("{}{text}", if *begun { "," } else { "[" }));
        *begun = true;
    }

    fn problem(&self, error: &Error) {
        self.progress.problem(error);
    }
}
