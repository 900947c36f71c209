//! What people are told of a run: at once on stderr, by `status` later, and by the exit code in the end.

use super::NodeRun;
use crate::history::PreparedOne;
use crate::ledger::Ledger;
use crate::output;
use crate::send::bell::lock;
use base::{Dataset, Error, Exit, RequestId, Result};

/// What a run came to, for the exit code.
#[derive(Debug, Default)]
pub(super) struct Report {
    failed: bool,
    not_now: bool,
    incomplete: bool,
}

impl NodeRun {
    /// The exit code will say that something failed; it was told before.
    pub fn mark_failed(&self) {
        lock(&self.report).failed = true;
    }

    /// The exit code will say that something is left for later.
    pub fn mark_not_now(&self) {
        lock(&self.report).not_now = true;
    }

    /// Something failed that will not come right by itself.
    pub fn tell_failed(&self, error: &Error) {
        self.mark_failed();
        output::complain(error);
    }

    /// Something cannot be done now and will be tried again.
    pub fn tell_not_now(&self, error: &Error) {
        self.mark_not_now();
        if output::watched() {
            output::complain(error);
        } else {
            tracing::info!("{}", error.one_line());
        }
    }

    /// Something keeps a request from being prepared (`None`: nothing does any more); it will be tried again. Told once.
    ///
    /// # Errors
    /// With the path.
    pub fn hold(&self, dataset: &Dataset, why: Option<&Error>) -> Result<()> {
        let news = lock(&self.history).hold(&self.config, &self.node.name, dataset, why.map(Error::one_line))?;
        match why {
            Some(error) if news => {
                self.mark_not_now();
                output::complain(error);
            }
            Some(error) => self.tell_not_now(error),
            None => {}
        }
        Ok(())
    }

    /// Notes how much a request is that was prepared.
    ///
    /// # Errors
    /// With the path.
    pub fn prepared(&self, dataset: &Dataset, prepared: PreparedOne) -> Result<()> {
        lock(&self.history).prepared(&self.config, &self.node.name, dataset, prepared)
    }

    /// Part of a dataset could not be read.
    pub fn tell_incomplete(&self, id: &RequestId, dataset: &Dataset, unreadable: u64, ledger: &Ledger) {
        lock(&self.report).incomplete = true;
        let entries = output::count(unreadable, "entry", "entries");
        output::note(format_args!("nightsafe: {dataset}: {entries} could not be read; the rest is in {id}"));
        for line in ledger.first(unreadable) {
            output::note(format_args!("  {line}"));
        }
    }

    /// The exit code of what was told so far.
    pub fn exit(&self) -> Exit {
        let report = lock(&self.report);
        match (report.failed, report.not_now, report.incomplete) {
            (true, _, _) => Exit::Failed,
            (_, true, _) => Exit::NotNow,
            (_, _, true) => Exit::Incomplete,
            _ => Exit::Done,
        }
    }
}
