//! What is done around the reading of a dataset or a group: commands before and after, and snapshots of file systems.
//!
//! `steps` decides, `hands` carries that out, `journal` remembers what must still be done should this process die, `command` runs
//! programs; snapshots are `crate::freeze`'s. Does not know how a dataset is read, nor what becomes of it.

mod check;
mod command;
mod hands;
mod journal;
mod steps;

use crate::freeze;
use crate::{output, state};
use base::config::{ClientConfig, Commands, SnapshotWith};
use base::{Blake3, ByteSize, Dataset, Error, FileLock, Name, RequestId, Result};
use command::Course;
use hands::Work;
use journal::{Journal, Open};
use modules::Frozen;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use steps::Traits;

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

/// The notes of one backup. Locked while a command runs, or a snapshot is made or removed; none once whoever stops this process has
/// taken them over.
type Notes = Mutex<Option<Journal>>;

/// What is done around the backups to one node.
#[derive(Debug)]
pub struct Around {
    config: Arc<ClientConfig>,
    node: Name,
    /// The backups that are being made. Locked while it is looked which notes have nobody any more, and these are worked off.
    live: Mutex<Vec<(RequestId, Weak<Notes>)>>,
}

impl Around {
    /// For the node `node`. Whoever makes one has that node's lock.
    pub fn new(config: &Arc<ClientConfig>, node: &Name) -> Self {
        Self { config: Arc::clone(config), node: node.clone(), live: Mutex::default() }
    }

    /// Has all of `subjects` read by `read`, with what is to be done around them; a group stands first. The first request's id is
    /// that under which it is remembered.
    ///
    /// # Errors
    /// Of kind not-now when this process is to stop first. How the reading went is in the report.
    pub fn work(&self, subjects: &[Subject], stopping: Stopping<'_>, read: Read<'_>) -> Result<Report> {
        let all: Vec<Traits> = subjects.iter().map(Subject::traits).collect();
        let locks = self.alone(subjects, stopping)?;
        // What was left behind may be of these.
        self.finish(subjects, &output::complain)?;
        let notes = Arc::new(Mutex::new(Some(Journal::new(&self.config, &self.node, &subjects[0].request))));
        self.begin(&subjects[0].request, &notes);
        let mut hands = Work::new(&self.config, &self.node, subjects, stopping, read, &notes, locks);
        let mut report = steps::carry_out(&all, &steps::plan(&all), &mut hands);
        report.untidy.extend(hands.untidy());
        Ok(report)
    }

    fn begin(&self, id: &RequestId, notes: &Arc<Notes>) {
        let mut live = locked(&self.live);
        live.retain(|(_, notes)| notes.strong_count() > 0);
        live.push((id.clone(), Arc::downgrade(notes)));
    }

    /// Waits until no other node's backup has its commands around the same: it would run `after` while we still read. One lock for
    /// each of `subjects` that has commands.
    fn alone(&self, subjects: &[Subject], stopping: Stopping<'_>) -> Result<Vec<Option<FileLock>>> {
        let mut order: Vec<usize> = (0..subjects.len()).filter(|i| !subjects[*i].commands.is_empty()).collect();
        // In one order for all, so that nobody waits for another who waits for him.
        order.sort_by_cached_key(|i| subjects[*i].dataset.to_string());
        let mut locks: Vec<Option<FileLock>> = subjects.iter().map(|_| None).collect();
        for i in order {
            let subject = &subjects[i].dataset;
            let path = lock_path(&self.config, subject);
            let mut told = false;
            while locks[i].is_none() {
                locks[i] = FileLock::try_now(&path)?;
                if locks[i].is_some() {
                    break;
                }
                if stopping() {
                    return Err(stopped());
                }
                if !told {
                    tracing::info!("{}: waiting for another node's backup of {subject}, which has its commands around it", self.node);
                    told = true;
                }
                std::thread::sleep(LOOK);
            }
        }
        Ok(locks)
    }

    /// Does what processes that were killed have left to be done for this node's requests; `complain` is told what of it failed. What
    /// comes after something that another node's backup has stopped meanwhile is left for the next time.
    ///
    /// # Errors
    /// When the notes cannot be read or written.
    pub fn finish_left_behind(&self, complain: &dyn Fn(&Error)) -> Result<()> {
        self.finish(&[], complain)
    }

    /// As [`Around::finish_left_behind`], by whoever has the locks of the subjects `held`.
    fn finish(&self, held: &[Subject], complain: &dyn Fn(&Error)) -> Result<()> {
        let live = locked(&self.live);
        let is_live = |id: &RequestId| live.iter().any(|(other, notes)| other == id && notes.strong_count() > 0);
        let found = Journal::left_behind(&self.config, &|node| *node == self.node, &is_live, complain)?;
        found.into_iter().try_for_each(|journal| finish(&self.config, journal, held, complain))
    }

    /// Does at once what is to be done around the backups that are being made, because this process stops: what was stopped for them
    /// must not wait for the next start. A command that runs is waited for. Those backups come to nothing; `complain` is told what of
    /// this failed.
    pub fn take_over(&self, complain: &dyn Fn(&Error)) {
        for notes in locked(&self.live).iter().filter_map(|(_, notes)| notes.upgrade()) {
            let mut notes = locked(&notes);
            // What has nothing around it may be read to its end.
            let Some(journal) = notes.take_if(|journal| !journal.open().is_empty()) else { continue };
            // The lane that has read until now has the locks of all that it was to read.
            if let Err(error) = carry_out(journal, complain, &mut |_| Ok(true)) {
                complain(&error);
            }
        }
    }
}

/// Does what processes that were killed have left to be done for nodes that the configuration does not have any more.
///
/// # Errors
/// When the notes cannot be read or written.
pub fn finish_strays(config: &ClientConfig, complain: &dyn Fn(&Error)) -> Result<()> {
    for journal in Journal::left_behind(config, &|node| config.node(node).is_none(), &|_| false, complain)? {
        // A process that began before the configuration was changed may be at work for it still.
        if let Some(_lock) = FileLock::try_now(&state::lock_path(config, journal.node()))? {
            finish(config, journal, &[], complain)?;
        }
    }
    Ok(())
}

/// Does what the notes say, but for what comes after something that another node's backup has stopped meanwhile. The caller has the
/// locks of `held`.
fn finish(config: &ClientConfig, journal: Journal, held: &[Subject], complain: &dyn Fn(&Error)) -> Result<()> {
    let mut locks = Vec::new();
    carry_out(journal, complain, &mut |after| {
        let ours = held.iter().any(|one| one.dataset == after.subject && !one.commands.is_empty());
        let lock = FileLock::try_now(&lock_path(config, &after.subject))?;
        let free = ours || lock.is_some();
        // Until all of it is done.
        locks.extend(lock);
        Ok(free)
    })
}

/// Does what the notes say; `may_run` says whether a command may be run now.
fn carry_out(mut journal: Journal, complain: &dyn Fn(&Error), may_run: &mut dyn FnMut(&command::After) -> Result<bool>) -> Result<()> {
    for open in journal.open() {
        let done = match &open {
            Open::After(after) if !may_run(after)? => {
                tracing::info!("{}: what comes after {} waits for another node's backup of it", journal.node(), after.subject);
                continue;
            }
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

/// Held while the commands of a dataset or a group are around its backup.
fn lock_path(config: &ClientConfig, subject: &Dataset) -> PathBuf {
    state::around_lock_path(config, &Blake3::of(subject.to_string().as_bytes()).hex()[..32])
}

fn stopped() -> Error {
    Error::not_now("the sender is stopping")
}

/// What is locked here is whole after every step, so also after one that panicked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
