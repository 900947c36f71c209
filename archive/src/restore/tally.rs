//! What became of the entries of a restore so far, or would become of them.
//!
//! Decides nothing.

use super::RestoreReport;
use super::dress::Lacks;
use super::jobs::{Job, Looks, Origin, Thing};
use super::judge::Verdict;
use crate::problems::Problems;
use base::{Kind, Monitor, PlannedStep, Result};
use std::collections::HashMap;

/// Counts, problems, and where groups of hard links began.
pub(super) struct Tally<'a> {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    same: u64,
    left: u64,
    /// Bytes and files that will be needed on the disk, as far as it can be known.
    pub(super) room: (u64, u64),
    pub(super) problems: Problems<'a>,
    pub(super) origins: HashMap<u64, Origin>,
    monitor: &'a dyn Monitor,
    /// Each entry is told to the monitor.
    tells: bool,
}

impl<'a> Tally<'a> {
    pub(super) fn new(problems: Problems<'a>, monitor: &'a dyn Monitor, tells: bool) -> Self {
        Self { entries: 0, bytes: 0, same: 0, left: 0, room: (0, 0), problems, origins: HashMap::new(), monitor, tells }
    }

    pub(super) fn report(self, lacks: Lacks) -> RestoreReport {
        let Self { entries, bytes, same, left, mut problems, .. } = self;
        let notes = lacks.finish(&mut problems);
        RestoreReport { entries, bytes, same, left, problems: problems.finish(), notes }
    }

    /// A thing of a group is there as it should be; where its first name is not, this one stands for the group.
    pub(super) fn note_made(&mut self, group: Option<u64>, path: &[u8], looks: impl FnOnce() -> Looks) {
        if let Some(origin) = group.and_then(|group| self.origins.get_mut(&group))
            && origin.made.is_none()
        {
            *origin = Origin { path: path.to_vec(), made: Some(looks()) };
        }
    }

    fn tell(&self, path: &[u8], what: &'static str, bytes: u64) {
        if self.tells {
            self.monitor.planned(&PlannedStep { path: &shown(path), what, bytes });
        }
    }

    /// Counts what a dry run would do.
    pub(super) fn would(&mut self, job: &Job) {
        let made = |there: bool| if there { "replace" } else { "create" };
        let (path, size, what) = match job {
            Job::Folder(job) => match job.make {
                Some(there) => (job.path.as_slice(), 0, made(there.is_some())),
                None if job.counts => (job.path.as_slice(), 0, "attributes"),
                None => return,
            },
            Job::Make(thing @ Thing::File(file, _)) if file.dress => (thing.path(), 0, "attributes"),
            Job::Make(thing @ Thing::File(file, _)) => (thing.path(), thing.bytes(), made(file.there.is_some())),
            Job::Make(thing @ Thing::Node(node)) => (thing.path(), 0, made(node.there.is_some())),
            Job::Name(thing) => (thing.path(), 0, "link"),
        };
        self.room = (self.room.0.saturating_add(size), self.room.1 + u64::from(what == "create"));
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(size);
        self.tell(path, what, size);
    }

    /// Counts a thing about which nothing is to be done.
    ///
    /// # Errors
    /// When going on makes no sense.
    pub(super) fn settle_thing(&mut self, thing: &Thing, verdict: Verdict) -> Result<()> {
        if matches!(verdict, Verdict::Same) {
            self.note_made(thing.group(), thing.path(), || thing.looks());
        }
        self.settle(thing.path(), thing.bytes(), verdict)
    }

    /// Counts an entry about which nothing is to be done.
    ///
    /// # Errors
    /// When going on makes no sense.
    pub(super) fn settle(&mut self, path: &[u8], bytes: u64, verdict: Verdict) -> Result<()> {
        match verdict {
            Verdict::Same => {
                self.same += 1;
                self.monitor.entries(1);
                self.monitor.bytes(bytes);
                self.tell(path, "same", bytes);
            }
            Verdict::Left => {
                self.left += 1;
                self.tell(path, "left", bytes);
            }
            Verdict::Refused(error) if error.kind() == Kind::NotNow => return Err(error),
            Verdict::Refused(error) => {
                self.tell(path, "refused", bytes);
                self.problems.add_for(&format!("{} was not restored", shown(path)), &error);
            }
            Verdict::Make | Verdict::Replace(_) | Verdict::Dress => {}
        }
        Ok(())
    }
}

fn shown(path: &[u8]) -> String {
    base::text::printable(&String::from_utf8_lossy(if path.is_empty() { b"." } else { path }))
}
