//! Restoring: a snapshot, or some paths of it, becomes files below a target folder.
//!
//! Does not know where packs come from, and runs no program. Nothing is written outside of the target.

mod dress;
mod folders;
mod hands;
mod jobs;
mod journal;
mod judge;
mod nodes;
mod options;
mod owner;
mod pace;
mod plan;
mod ready;
mod room;
mod same;
mod select;
mod single;
mod tally;
mod target;
#[cfg(test)]
mod tests;
mod whole;
mod write;

pub use single::restore_content;
pub use whole::{Whole, free_bytes};

use crate::entry::EntryKind;
use crate::load::{Lasting, Load};
use crate::problems::Problems;
use crate::snapshot::SnapshotReader;
use base::{Blake3, Monitor, Result};
use dress::{Dresser, Lacks};
use jobs::{Job, Thing};
use journal::Journal;
use judge::{Judge, Verdict};
pub use options::{FileOptions, Overwrite};
use owner::{Meta, Owners};
use plan::Planner;
use ready::Examined;
use select::{Selected, Selection};
use std::path::Path;
use tally::Tally;
use target::Target;
use write::{Window, Writer};

/// How many entries are handed on together by the thread that reads the catalog, or how many bytes of them, and how often it may
/// do so ahead.
const TOGETHER: usize = 1000;
const TOGETHER_BYTES: usize = 4 << 20;
const AHEAD: usize = 2;

/// What is to be restored, and where to.
pub struct RestoreSpec<'a> {
    /// Files, folders and patterns, relative to the dataset's own path; none means everything.
    pub paths: Vec<String>,
    /// What becomes what the dataset's path was.
    pub target: &'a Path,
    /// How.
    pub options: FileOptions,
    /// Is told about progress and problems.
    pub monitor: &'a dyn Monitor,
}

/// What a restore came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Files, folders, links, refs or databases that were brought back; of a dry run, that would be.
    pub entries: u64,
    /// Bytes of content of these.
    pub bytes: u64,
    /// Entries that were there as they should be, and were not touched.
    pub same: u64,
    /// Entries that are there, are not as the snapshot has them, and were left so because that was asked.
    pub left: u64,
    /// What could not be brought back, or not as it was; a line each.
    pub problems: Vec<String>,
    /// What is not as it was because nobody expects it of an ordinary user: things of others became his own.
    pub notes: Vec<String>,
}

/// Restores. What is damaged or missing is listed, and the rest is restored; a file is there whole and with its time, or
/// not at all.
///
/// # Errors
/// Before anything is written: of kind refused when the target cannot be restored into, of kind failed when a path is not
/// in the snapshot, of kind not-now when there is no room. Later: when going on makes no sense (the disk is full, the
/// connection is lost); the same call goes on from there.
pub fn restore_tree(reader: &SnapshotReader, spec: RestoreSpec<'_>) -> Result<RestoreReport> {
    let mut owners = Owners::new(spec.options.numeric_owner);
    if let Ok(Some(entry)) = reader.find(b"")
        && matches!(entry.kind, EntryKind::File { .. })
    {
        return single::restore_single(reader, &entry, &owners.meta(&entry), &spec);
    }
    let selection = Selection::new(reader, &spec.paths)?;
    let asked = asked(&spec);
    let examined = ready::examine(reader, &selection, &spec, &asked, &mut owners)?;
    if spec.options.dry_run {
        spec.monitor.task("planning", None);
        return Ok(survey(reader, &spec, &selection, &examined, true)?.report(Lacks::default()));
    }
    let (total, spare) = check_room(reader, &spec, &selection, &examined)?;
    let (mut target, journal, stat) = ready::begin(reader, spec.target, &asked, &examined)?;
    if let Some(before) = &examined.before {
        ready::sweep(&mut target, reader, before);
    }
    spec.monitor.task("restoring", Some(total));
    let judge = Judge::new(reader, examined.mode, examined.used, examined.before.as_ref(), true);
    let mut planner = Planner::new(judge, owners, spec.options.strip, Journal::name(&reader.public().id));
    let tally = Tally::new(Problems::new(spec.monitor), spec.monitor, false);
    let (mode, dresser, monitor) = (examined.mode, Dresser::new(reader), spec.monitor);
    let mut writer = Writer { reader, target, journal, mode, tally, dresser, monitor, spare };
    let done = carry_out(&selection, spec.options, &mut planner, &mut writer);
    let closed = writer.target.close_up();
    let mut root = done?;
    closed?;
    writer.journal.remove(writer.target.root())?;
    // The mark was in it until now.
    if writer.mode != journal::Mode::Fresh && writer.tally.entries == 0 {
        writer.target.set_root_time(&stat);
    }
    finish_folders(&mut writer, &mut planner.judge, &mut root, None)?;
    Ok(writer.tally.report(writer.dresser.lacks))
}

/// What a restore was asked for, as a digest: one that was cut off goes on only as the same.
fn asked(spec: &RestoreSpec<'_>) -> String {
    let mut paths: Vec<&str> = spec.paths.iter().map(|path| path.trim_matches('/')).collect();
    paths.sort_unstable();
    Blake3::of(format!("{} {} {paths:?}", spec.options.strip, spec.options.numeric_owner).as_bytes()).hex()
}

/// Folders that are to have their owners, modes and times when nothing more comes into them, and their weights.
type Unfinished = Vec<(Vec<u8>, Meta, usize)>;

/// Plans and writes; gives the target's own entry, which is to be finished when everything else is. Another thread reads
/// the catalog meanwhile.
fn carry_out(selection: &Selection, options: FileOptions, planner: &mut Planner<'_>, writer: &mut Writer<'_>) -> Result<Unfinished> {
    let reader = writer.reader;
    std::thread::scope(|scope| {
        let (send, ahead) = crossbeam_channel::bounded::<Vec<_>>(AHEAD);
        scope.spawn(move || {
            let mut entries = selection.entries(reader);
            loop {
                let (mut some, mut bytes) = (Vec::new(), 0);
                while some.len() < TOGETHER && bytes < TOGETHER_BYTES {
                    let Some(next) = entries.next() else { break };
                    bytes += next.as_ref().map_or(0, |selected| selected.entry.weight());
                    some.push(next);
                }
                if some.is_empty() || send.send(some).is_err() {
                    return;
                }
            }
        });
        plan_and_write(&mut ahead.into_iter().flatten(), options, planner, writer)
    })
}

fn plan_and_write(
    entries: &mut dyn Iterator<Item = Result<Selected>>,
    options: FileOptions,
    planner: &mut Planner<'_>,
    writer: &mut Writer<'_>,
) -> Result<Unfinished> {
    // Folders that may still get something into them, outermost first.
    let mut unfinished = Unfinished::new();
    let (mut window, mut load, mut lasting) = (Window::default(), Load::default(), Lasting::new());
    let (said, mut made) = (writer.reader.public().counts.bytes, 0u64);
    for selected in entries {
        let selected = match selected {
            Ok(selected) => selected,
            Err(error) => {
                writer.problem(&error)?;
                continue;
            }
        };
        let (path, weight, groups) = (selected.entry.path.clone(), selected.entry.weight(), writer.tally.origins.len());
        match planner.plan(selected, Some(&mut writer.target), &mut writer.tally)? {
            None => {}
            Some(Job::Folder(job)) => {
                writer.write_folder(&job)?;
                if job.finish {
                    lasting.add(weight)?;
                    unfinished.push((job.path, job.meta, weight));
                }
            }
            Some(Job::Make(thing)) => {
                made = made.saturating_add(thing.bytes());
                if made > said {
                    room::check_more(writer.target.path(), said, made.saturating_sub(writer.tally.bytes))?;
                }
                window.make(thing);
            }
            Some(Job::Name(thing)) => window.name(thing),
        }
        if writer.tally.origins.len() > groups {
            lasting.add(weight.saturating_add(path.len()))?;
        }
        if load.is_full_with(weight) {
            writer.write(std::mem::take(&mut window), &mut planner.judge)?;
            // Without their first folders the paths come in no order.
            if options.strip == 0 {
                let weigh = |unfinished: &Unfinished| unfinished.iter().map(|(.., weight)| weight).sum::<usize>();
                let before = weigh(&unfinished);
                finish_folders(writer, &mut planner.judge, &mut unfinished, Some(&path))?;
                lasting.remove(before - weigh(&unfinished));
            }
            load = Load::default();
        }
    }
    writer.write(window, &mut planner.judge)?;
    if options.strip > 0 {
        unfinished.sort_by(|a, b| a.0.cmp(&b.0));
    }
    let root = unfinished.extract_if(.., |(path, ..)| path.is_empty()).collect();
    finish_folders(writer, &mut planner.judge, &mut unfinished, None)?;
    Ok(root)
}

/// Plans everything, and does nothing of it.
fn survey<'a>(
    reader: &'a SnapshotReader,
    spec: &RestoreSpec<'a>,
    selection: &Selection,
    examined: &Examined,
    tells: bool,
) -> Result<Tally<'a>> {
    let mut target = if examined.used { Some(Target::new(spec.target)?) } else { None };
    let judge = Judge::new(reader, examined.mode, examined.used, examined.before.as_ref(), false);
    let owners = Owners::new(spec.options.numeric_owner);
    let mut planner = Planner::new(judge, owners, spec.options.strip, Journal::name(&reader.public().id));
    let problems = if tells { Problems::new(spec.monitor) } else { Problems::new(&base::Silent) };
    let mut tally = Tally::new(problems, spec.monitor, tells);
    for selected in selection.entries(reader) {
        match selected {
            Ok(selected) => match (planner.plan(selected, target.as_mut(), &mut tally)?, target.as_mut()) {
                (Some(Job::Name(thing)), Some(target)) => would_name(thing, &mut planner.judge, target, &mut tally)?,
                (Some(job), _) => tally.would(&job),
                (None, _) => {}
            },
            Err(error) => tally.problems.add(&error),
        }
    }
    tally.room.0 = tally.room.0.saturating_sub(planner.judge.freed);
    Ok(tally)
}

/// What would become of a further name, as far as it can be told before the first one is there.
fn would_name(thing: Thing, judge: &mut Judge<'_>, target: &mut Target, tally: &mut Tally<'_>) -> Result<()> {
    let origin = thing.group().and_then(|group| tally.origins.get(&group)).map(|origin| origin.path.clone()).unwrap_or_default();
    match judge.name(target, thing.path(), &origin)? {
        Verdict::Make | Verdict::Replace(_) => tally.would(&Job::Name(thing)),
        verdict => tally.settle(thing.path(), thing.bytes(), verdict)?,
    }
    Ok(())
}

/// Holds what is needed against what is free, and gives the bytes that will come, and how many more may be there for a while.
/// Looks closely only where it is not plain.
fn check_room(reader: &SnapshotReader, spec: &RestoreSpec<'_>, selection: &Selection, examined: &Examined) -> Result<(u64, u64)> {
    let free = room::free(spec.target)?;
    let counts = reader.public().counts;
    let mut most = (counts.bytes, counts.entries);
    if !selection.is_all() {
        most = (0, 0);
        // What cannot be read is told of when it is restored.
        for selected in selection.entries(reader).flatten() {
            let size = if let EntryKind::File { size, .. } = selected.entry.kind { size } else { 0 };
            most = (most.0.saturating_add(size), most.1 + 1);
        }
    }
    if most.0 > free.0 || most.1 > free.1 {
        room::check(spec.target, survey(reader, spec, selection, examined, false)?.room, free)?;
    }
    // Others write there as well.
    Ok((most.0, free.0.saturating_sub(most.0) / 2))
}

/// Gives the folders that are full their mode and time, the deepest first; `last` is the last path that was planned.
fn finish_folders(writer: &mut Writer<'_>, judge: &mut Judge<'_>, unfinished: &mut Unfinished, last: Option<&[u8]>) -> Result<()> {
    let mut still = Vec::new();
    for (path, meta, weight) in std::mem::take(unfinished).into_iter().rev() {
        if last.is_some_and(|last| last.starts_with(&path)) {
            still.push((path, meta, weight));
            continue;
        }
        // One that is as it should be is not touched: its ctime stays.
        let finished = judge
            .is_finished(&mut writer.target, &path, &meta)
            .and_then(|finished| if finished { Ok(()) } else { writer.target.finish_folder(&path, &meta, &mut writer.dresser) });
        if let Err(error) = finished {
            writer.problem(&error)?;
        }
    }
    still.reverse();
    *unfinished = still;
    Ok(())
}
