//! What is done around the reading of a dataset or a group: commands before and after, and snapshots of file systems.
//!
//! `steps` decides, `journal` remembers what must still be done should this process die, `command` runs programs; snapshots are
//! `crate::freeze`'s. Does not know how a dataset is read, nor what becomes of it.

mod check;
mod command;
mod journal;
mod steps;

use crate::freeze::{self, Place};
use crate::state;
use base::config::client::ClientNode;
use base::config::{ClientConfig, Commands, SnapshotWith};
use base::{Blake3, ByteSize, Dataset, Error, FileLock, Name, RequestId, Result, crash};
use command::{After, Course};
use journal::{Journal, Open};
use modules::Frozen;
use std::path::Path;
use std::time::Duration;
use steps::{Hands, Traits};

pub use check::check;
pub use steps::Report;

/// How often it is looked whether another node's backup of the same is over.
const LOOK: Duration = Duration::from_millis(200);

/// Whether this process is to stop.
pub type Stopping<'a> = &'a dyn Fn() -> bool;

/// A dataset that is read, or the group that all the others belong to.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What it is called.
    pub dataset: Dataset,
    /// The request, or the group's.
    pub request: RequestId,
    /// What is run around it.
    pub commands: Commands,
    /// How its file system's snapshot is made, if it is read from one.
    pub snapshot: Option<(SnapshotWith, Option<ByteSize>)>,
    /// Whether it is read; a group is not.
    pub reads: bool,
}

impl Subject {
    /// The dataset of one request, as the configuration has it.
    pub fn of(config: &ClientConfig, dataset: &Dataset, request: &RequestId) -> Self {
        let entry = config.listed(dataset);
        Self {
            dataset: dataset.clone(),
            request: request.clone(),
            commands: entry.map(base::config::DatasetEntry::commands).unwrap_or_default(),
            snapshot: entry.and_then(|entry| Some((entry.snapshot?, entry.snapshot_size))),
            reads: true,
        }
    }

    fn traits(&self) -> Traits {
        Traits { commands: !self.commands.is_empty(), freezes: self.snapshot.is_some(), reads: self.reads }
    }
}

/// Reads a dataset, of which the number is given, at its own place or in the snapshot.
pub type Read<'a> = &'a mut dyn FnMut(usize, Option<&Frozen>) -> Result<()>;

/// Has all of `subjects` read by `read`, with what is to be done around them; a group stands first. The first request's id is
/// that under which it is remembered.
///
/// # Errors
/// Of kind not-now when this process is to stop first. How the reading went is in the report.
pub fn work(config: &ClientConfig, node: &ClientNode, subjects: &[Subject], stopping: Stopping<'_>, read: Read<'_>) -> Result<Report> {
    let all: Vec<Traits> = subjects.iter().map(Subject::traits).collect();
    let _locks = alone(config, subjects, stopping)?;
    let mut hands = Work {
        config,
        node,
        subjects,
        stopping,
        journal: Journal::new(config, &node.name, &subjects[0].request),
        frozen: subjects.iter().map(|_| None).collect(),
        read,
    };
    Ok(steps::carry_out(&all, &steps::plan(&all), &mut hands))
}

/// Waits until no other node's backup has its commands around the same: it would run `after` while we still read.
fn alone(config: &ClientConfig, subjects: &[Subject], stopping: Stopping<'_>) -> Result<Vec<FileLock>> {
    let mut names: Vec<String> = subjects.iter().filter(|one| !one.commands.is_empty()).map(|one| one.dataset.to_string()).collect();
    // In one order for all, so that nobody waits for another who waits for him.
    names.sort();
    let mut locks = Vec::new();
    for name in names {
        let path = state::around_lock_path(config, &Blake3::of(name.as_bytes()).hex()[..32]);
        loop {
            if let Some(lock) = FileLock::try_now(&path)? {
                locks.push(lock);
                break;
            }
            if stopping() {
                return Err(Error::not_now("the sender is stopping"));
            }
            std::thread::sleep(LOOK);
        }
    }
    Ok(locks)
}

/// The hands of one request.
struct Work<'a> {
    config: &'a ClientConfig,
    node: &'a ClientNode,
    subjects: &'a [Subject],
    stopping: Stopping<'a>,
    journal: Journal,
    frozen: Vec<Option<Place>>,
    read: Read<'a>,
}

impl Work<'_> {
    fn after_of(&self, which: usize) -> Option<After> {
        let one = &self.subjects[which];
        After::of(&one.dataset, &one.request, &one.commands)
    }

    fn go_on(&self) -> Result<()> {
        if (self.stopping)() { Err(Error::not_now("the sender is stopping")) } else { Ok(()) }
    }
}

impl Hands for Work<'_> {
    fn before(&mut self, which: usize) -> Result<()> {
        if let Some(after) = self.after_of(which) {
            self.journal.add(Open::After(after))?;
        }
        // Whoever stops runs what is noted; nothing more is to be begun then.
        self.go_on()?;
        let one = &self.subjects[which];
        let done = command::before(&one.dataset, &one.request, &self.node.name, &one.commands);
        crash::point("before was run");
        done
    }

    fn freeze(&mut self, which: usize) -> Result<()> {
        self.go_on()?;
        let one = &self.subjects[which];
        let Some((with, size)) = one.snapshot else { return Ok(()) };
        let mount = state::snapshots_folder(self.config);
        let place = freeze::find(with, Path::new(one.dataset.path()), &freeze::name(&self.node.name, &one.request), size, &mount)?;
        freeze::remove_leftovers(&place, &self.node.name, &self.journal.open().iter().filter_map(thaws).collect::<Vec<_>>())?;
        self.journal.add(Open::Thaw(place.clone()))?;
        self.frozen[which] = Some(place.clone());
        freeze::make(&place)?;
        crash::point("frozen");
        Ok(())
    }

    fn read(&mut self, which: usize) -> Result<()> {
        let frozen = self.frozen[which].as_ref().map(|place| place.frozen(Path::new(self.subjects[which].dataset.path()))).transpose()?;
        (self.read)(which, frozen.as_ref())
    }

    fn after(&mut self, which: usize, well: bool) -> Result<()> {
        let Some(after) = self.after_of(which) else { return Ok(()) };
        let done = after.run(&self.node.name, if well { Course::Done } else { Course::Failed });
        crash::point("after was run");
        self.journal.done(&Open::After(after)).and(done)
    }

    fn thaw(&mut self, which: usize) -> Result<()> {
        let Some(place) = &self.frozen[which] else { return Ok(()) };
        freeze::remove(place)?;
        crash::point("thawed");
        self.journal.done(&Open::Thaw(place.clone()))
    }
}

fn thaws(open: &Open) -> Option<&Place> {
    match open {
        Open::Thaw(place) => Some(place),
        Open::After(_) => None,
    }
}

/// Does what processes that were killed have left to be done for this node's requests; `complain` is told what of it failed. The
/// caller has the node's lock, or is the process that stops.
///
/// # Errors
/// When the notes cannot be read or written.
pub fn finish_left_behind(config: &ClientConfig, node: &Name, complain: &dyn Fn(&Error)) -> Result<()> {
    let found = Journal::left_behind(config, &|one| one == node, complain)?;
    found.into_iter().try_for_each(|journal| finish(journal, complain))
}

/// As [`finish_left_behind`], of nodes that the configuration does not have any more.
///
/// # Errors
/// When the notes cannot be read or written.
pub fn finish_strays(config: &ClientConfig, complain: &dyn Fn(&Error)) -> Result<()> {
    for journal in Journal::left_behind(config, &|node| config.node(node).is_none(), complain)? {
        // A process that began before the configuration was changed may be at work for it still.
        if let Some(_lock) = FileLock::try_now(&state::lock_path(config, journal.node()))? {
            finish(journal, complain)?;
        }
    }
    Ok(())
}

fn finish(mut journal: Journal, complain: &dyn Fn(&Error)) -> Result<()> {
    for open in journal.open() {
        let done = match &open {
            Open::After(after) => after.run(journal.node(), Course::Interrupted),
            Open::Thaw(place) => freeze::remove(place),
        };
        match (&done, &open) {
            // It is tried again with every start: it takes room.
            (Err(_), Open::Thaw(_)) => {}
            _ => journal.done(&open)?,
        }
        if let Err(error) = done {
            complain(&error);
        }
    }
    Ok(())
}
