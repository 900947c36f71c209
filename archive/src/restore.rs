//! Restoring: a snapshot, or some paths of it, becomes files below a target folder.
//!
//! Does not know where packs come from, and runs no program. Nothing is written outside of the target.

mod dress;
mod nodes;
mod options;
mod owner;
mod ready;
mod same;
mod select;
mod target;
#[cfg(test)]
mod tests;
mod write;

use crate::entry::{Content, Entry, EntryKind, Holes, Sparse};
use crate::problems::Problems;
use crate::read::content::Expected;
use crate::read::order::Wanted;
use crate::snapshot::SnapshotReader;
use base::{At, Error, Monitor, Result, atomic};
use dress::Dresser;
use nodes::Node;
pub use options::{FileOptions, Overwrite};
use owner::{Meta, Owners};
use std::os::unix::fs::FileExt;
use std::path::Path;
use write::{FileJob, Job, NodeJob, Window, Writer};

/// How many entries are planned at once.
const WINDOW: usize = 200_000;
/// How many items of lists of chunks are held at once.
const WINDOW_ITEMS: usize = 1_000_000;

/// What is to be restored, and where to.
pub struct RestoreSpec<'a> {
    /// Files and folders, relative to the dataset's own path; none means everything.
    pub paths: Vec<String>,
    /// What becomes what the dataset's path was. New, or empty, or from an earlier restore of the same snapshot.
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
/// Before anything is written: of kind refused when the target holds other things, of kind failed when a path is not in
/// the snapshot. Later: when going on makes no sense (the disk is full, the connection is lost); the same call goes on
/// from there.
pub fn restore_tree(reader: &SnapshotReader, spec: RestoreSpec<'_>) -> Result<RestoreReport> {
    if spec.options != (FileOptions { numeric_owner: spec.options.numeric_owner, ..FileOptions::default() }) {
        return Err(Error::usage("this release restores into new or empty folders only"));
    }
    let mut owners = Owners::new(spec.options.numeric_owner);
    if let Ok(Some(entry)) = reader.find(b"")
        && let EntryKind::File { size, .. } = entry.kind
    {
        let (problems, notes) = restore_file(reader, &entry, size, &owners.meta(&entry), &spec)?;
        return Ok(RestoreReport { entries: 1, bytes: size, problems, notes, ..RestoreReport::default() });
    }
    let selected = select::select(reader, &spec.paths)?;
    let (target, marker) = ready::prepare(reader, spec.target, &mut owners)?;
    spec.monitor.task("restoring", spec.paths.is_empty().then_some(reader.public().counts.bytes));
    let mut writer = Writer::new(reader, target, Problems::new(spec.monitor), spec.monitor);
    // Folders that may still get something into them, outermost first.
    let mut unfinished: Vec<(Vec<u8>, Meta)> = Vec::new();
    let mut window = Window::default();
    let mut planned = (0, 0);
    for entry in selected {
        match entry {
            Ok(entry) if marker.is(&entry.path) => {
                writer.problem(&Error::failed(format!("{} was not restored: restores use this name themselves", entry.shown_path())))?
            }
            Ok(entry) => {
                let path = entry.path.clone();
                planned = (planned.0 + 1, planned.1 + plan(entry, &mut owners, &mut window, &mut writer));
                if planned.0 >= WINDOW || planned.1 >= WINDOW_ITEMS {
                    let full = std::mem::take(&mut window);
                    unfinished.extend(full.folders.iter().cloned());
                    writer.write(full)?;
                    finish_folders(&mut writer, &mut unfinished, Some(&path))?;
                    planned = (0, 0);
                }
            }
            Err(error) => writer.problem(&error)?,
        }
    }
    unfinished.extend(window.folders.iter().cloned());
    writer.write(window)?;
    marker.remove(writer.target.root())?;
    finish_folders(&mut writer, &mut unfinished, None)?;
    let Writer { entries, bytes, mut problems, dresser, .. } = writer;
    let notes = dresser.lacks.finish(&mut problems);
    Ok(RestoreReport { entries, bytes, problems: problems.finish(), notes, ..RestoreReport::default() })
}

/// Writes the content of one file, and nothing else, to `out`.
///
/// # Errors
/// Of kind usage when the paths do not name one file. When the content is not what was backed up, that is found after the
/// bytes were written: what was written must not be used.
pub fn restore_content(
    reader: &SnapshotReader,
    paths: &[String],
    out: &mut dyn std::io::Write,
    monitor: &dyn Monitor,
) -> Result<RestoreReport> {
    let mut chosen: Option<Entry> = None;
    for entry in select::select(reader, paths)? {
        let entry = entry?;
        if entry.kind == EntryKind::Dir {
            continue;
        }
        if let Some(first) = chosen.replace(entry) {
            return Err(Error::usage(format!("one file goes to standard output, and {} is not all that was named", first.shown_path()))
                .hint("Name one file; `nightsafe ls` shows what there is."));
        }
    }
    let entry = chosen
        .ok_or_else(|| Error::usage("no file was named for standard output").hint("Name one file; `nightsafe ls` shows what there is."))?;
    let EntryKind::File { size, .. } = entry.kind else {
        return Err(Error::usage(format!("{} is not a regular file and has no content", entry.shown_path())));
    };
    monitor.task("restoring", Some(size));
    reader.read_file(&entry, out).map_err(|error| error.hint("What was written so far must not be used."))?;
    monitor.entries(1);
    Ok(RestoreReport { entries: 1, bytes: size, ..RestoreReport::default() })
}

/// Puts an entry into the window; says how many items its lists have.
fn plan(entry: Entry, owners: &mut Owners, window: &mut Window, writer: &mut Writer<'_>) -> usize {
    let meta = owners.meta(&entry);
    let group = entry.hard_link;
    let further = group.is_some_and(|group| writer.is_further_name(group, &entry.path));
    let (job, items) = match entry.kind {
        EntryKind::Dir => {
            window.folders.push((entry.path, meta));
            return 0;
        }
        EntryKind::File { size, content, digest, sparse } => {
            let mut items = match &content {
                Content::Chunks(list) | Content::More(list) => list.0.len(),
            };
            if let Some(Sparse { holes: Holes::List(list), .. }) = &sparse {
                items += list.len();
            }
            let wanted = Wanted { content, expected: Expected::of(size, sparse.as_ref(), digest) };
            (Job::File(FileJob { path: entry.path, meta, group, size, sparse }, wanted), items)
        }
        EntryKind::Link { target } => (Job::Node(NodeJob { path: entry.path, node: Node::Link(target), meta, group }), 0),
        EntryKind::Fifo => (Job::Node(NodeJob { path: entry.path, node: Node::Fifo, meta, group }), 0),
        EntryKind::Device { block, major, minor } => {
            (Job::Node(NodeJob { path: entry.path, node: Node::Device { block, major, minor }, meta, group }), 0)
        }
    };
    match job {
        job if further => window.names.push(job),
        Job::Node(node) => window.nodes.push(node),
        Job::File(file, wanted) => {
            window.files.push(file);
            window.wanted.push(wanted);
        }
    }
    items
}

/// Gives the folders that are full their mode and time, the deepest first; `last` is the last path that was planned.
fn finish_folders(writer: &mut Writer<'_>, unfinished: &mut Vec<(Vec<u8>, Meta)>, last: Option<&[u8]>) -> Result<()> {
    let mut still = Vec::new();
    for (path, meta) in std::mem::take(unfinished).into_iter().rev() {
        if last.is_some_and(|last| last.starts_with(&path)) {
            still.push((path, meta));
        } else if let Err(error) = writer.target.finish_folder(&path, &meta, &mut writer.dresser) {
            writer.problem(&error)?;
        }
    }
    still.reverse();
    *unfinished = still;
    Ok(())
}

/// Restores a dataset that is a single file: the target is that file. Gives problems and notes.
fn restore_file(
    reader: &SnapshotReader,
    entry: &Entry,
    size: u64,
    meta: &Meta,
    spec: &RestoreSpec<'_>,
) -> Result<(Vec<String>, Vec<String>)> {
    let path = spec.target;
    if let Some(first) = spec.paths.iter().find(|path| !path.trim_matches('/').is_empty()) {
        return Err(Error::failed(format!("{first:?} is not in snapshot {}: the dataset is a single file", reader.public().id)));
    }
    if path.symlink_metadata().is_ok() {
        let there = rustix::fs::lstat(path).at("look at", path)?;
        if write::same_file(&there, size, meta) {
            return Ok((Vec::new(), Vec::new()));
        }
        return Err(Error::refused(format!("{} is there already", path.display()))
            .hint("The dataset is a single file; name one that does not exist yet."));
    }
    spec.monitor.task("restoring", Some(size));
    let mut draft = atomic::Draft::beside(path, 0o600)?;
    reader.read_data(entry, &mut |offset, bytes| {
        spec.monitor.bytes(bytes.len() as u64);
        draft.file().write_all_at(bytes, offset).at("write", path)
    })?;
    draft.file().set_len(size).at("write", path)?;
    let mut dresser = Dresser::new(reader);
    dresser.opened(draft.file(), meta, path)?;
    spec.monitor.entries(1);
    draft.publish()?;
    let mut problems = Problems::new(spec.monitor);
    let notes = dresser.lacks.finish(&mut problems);
    Ok((problems.finish(), notes))
}
