//! The hands of one backup: runs its commands, makes and removes its snapshots, and notes each of these before it is begun.

use super::command::{self, After, Course};
use super::journal::Open;
use super::{Notes, Read, Stopping, Subject, locked, stopped};
use crate::freeze::{self, Place};
use crate::state;
use base::config::ClientConfig;
use base::{Error, FileLock, Kind, Name, Result, crash};
use std::path::Path;

/// One backup.
pub(super) struct Work<'a> {
    config: &'a ClientConfig,
    node: &'a Name,
    subjects: &'a [Subject],
    stopping: Stopping<'a>,
    notes: &'a Notes,
    locks: Vec<Option<FileLock>>,
    frozen: Vec<Option<Place>>,
    untidy: Vec<Error>,
    read: Read<'a>,
}

impl<'a> Work<'a> {
    /// With the locks of those of `subjects` that have commands.
    pub fn new(
        config: &'a ClientConfig,
        node: &'a Name,
        subjects: &'a [Subject],
        stopping: Stopping<'a>,
        read: Read<'a>,
        notes: &'a Notes,
        locks: Vec<Option<FileLock>>,
    ) -> Self {
        Self { config, node, subjects, stopping, notes, locks, frozen: subjects.iter().map(|_| None).collect(), untidy: Vec::new(), read }
    }

    /// What went wrong and keeps nothing from being read.
    pub fn untidy(self) -> Vec<Error> {
        self.untidy
    }

    fn after_of(&self, which: usize) -> Option<After> {
        let one = &self.subjects[which];
        After::of(&one.dataset, &one.request, &one.commands)
    }

    fn go_on(&self) -> Result<()> {
        if (self.stopping)() { Err(stopped()) } else { Ok(()) }
    }
}

/// What goes wrong while this process is to stop may do so because of that: programs are ended, by us and by the system. So it is
/// tried again.
fn excused<T>(done: Result<T>) -> Result<T> {
    done.map_err(|error| if base::stop::asked().is_some() { error.with_kind(Kind::NotNow) } else { error })
}

impl super::steps::Hands for Work<'_> {
    fn before(&mut self, which: usize) -> Result<()> {
        let mut notes = locked(self.notes);
        let journal = notes.as_mut().ok_or_else(stopped)?;
        if let Some(after) = self.after_of(which) {
            journal.add(Open::After(after))?;
        }
        // Whoever stops runs what is noted; nothing more is to be begun then.
        self.go_on()?;
        let one = &self.subjects[which];
        let done = command::before(&one.dataset, &one.request, self.node, &one.commands);
        crash::point("before was run");
        excused(done)
    }

    fn freeze(&mut self, which: usize) -> Result<()> {
        let mut notes = locked(self.notes);
        let journal = notes.as_mut().ok_or_else(stopped)?;
        self.go_on()?;
        let one = &self.subjects[which];
        let Some((with, size)) = one.snapshot else { return Ok(()) };
        let mount = state::snapshots_folder(self.config);
        let names = freeze::Names::new(self.config.client_name()?, self.node);
        let place = excused(freeze::find(with, Path::new(one.dataset.path()), &names.of(&one.request), size, &mount))?;
        let known: Vec<Place> = journal.open().into_iter().filter_map(thaws).collect();
        // An old one that is still in use takes room, and keeps nobody from making a new one.
        self.untidy.extend(freeze::remove_leftovers(&place, &names, &known));
        journal.add(Open::Thaw(place.clone()))?;
        self.frozen[which] = Some(place.clone());
        let made = freeze::make(&place);
        crash::point("frozen");
        excused(made)
    }

    fn read(&mut self, which: usize) -> Result<()> {
        let frozen = self.frozen[which].as_ref().map(|place| place.frozen(Path::new(self.subjects[which].dataset.path()))).transpose()?;
        excused((self.read)(which, frozen.as_ref()))?;
        // Else what comes after has been run while it was read, or the snapshot has gone.
        if locked(self.notes).is_some() { Ok(()) } else { Err(stopped()) }
    }

    fn after(&mut self, which: usize, well: bool) -> Result<()> {
        let mut notes = locked(self.notes);
        let (Some(after), Some(journal)) = (self.after_of(which), notes.as_mut()) else {
            self.locks[which] = None;
            return Ok(());
        };
        let done = after.run(self.node, if well { Course::Done } else { Course::Failed });
        crash::point("after was run");
        let noted = journal.done(&Open::After(after));
        // What is read from now on is read from a snapshot: other nodes may go on.
        self.locks[which] = None;
        noted.and(done)
    }

    fn thaw(&mut self, which: usize) -> Result<()> {
        let mut notes = locked(self.notes);
        let (Some(place), Some(journal)) = (&self.frozen[which], notes.as_mut()) else { return Ok(()) };
        freeze::remove(place)?;
        crash::point("thawed");
        journal.done(&Open::Thaw(place.clone()))
    }
}

fn thaws(open: Open) -> Option<Place> {
    match open {
        Open::Thaw(place) => Some(place),
        Open::After(_) => None,
    }
}
