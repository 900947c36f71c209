//! One file: as the target itself where the dataset is one, or as bytes on a stream.
//!
//! Does not plan: what is there is compared at once.

use super::dress::{Dresser, undress};
use super::judge::{same_file, same_stat};
use super::options::Overwrite;
use super::owner::Meta;
use super::same::same_content;
use super::select::Selection;
use super::target::file_type;
use super::{RestoreReport, RestoreSpec, room};
use crate::entry::{Entry, EntryKind};
use crate::problems::Problems;
use crate::snapshot::SnapshotReader;
use base::{At, Error, Monitor, PlannedStep, Result, atomic};
use rustix::fs::{FileType, Mode, OFlags};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

/// Writes the content of one file, and nothing else, to `out`.
///
/// # Errors
/// Of kind usage when the paths do not name one file. When the content is not what was backed up, that is found after the
/// bytes were written: what was written must not be used.
pub fn restore_content(reader: &SnapshotReader, paths: &[String], out: &mut dyn Write, monitor: &dyn Monitor) -> Result<RestoreReport> {
    let mut chosen: Option<Entry> = None;
    for entry in Selection::new(reader, paths)?.entries(reader) {
        let entry = entry?.entry;
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

/// Restores a dataset that is a single file: the target is that file.
pub(super) fn restore_single(reader: &SnapshotReader, entry: &Entry, meta: &Meta, spec: &RestoreSpec<'_>) -> Result<RestoreReport> {
    let path = spec.target;
    let EntryKind::File { size, .. } = entry.kind else {
        return Err(Error::failed(format!("{} is not a file", path.display())));
    };
    if let Some(first) = spec.paths.iter().find(|path| !path.trim_matches('/').is_empty()) {
        return Err(Error::failed(format!("{first:?} is not in snapshot {}: the dataset is a single file", reader.public().id)));
    }
    if spec.options.strip > 0 {
        return Err(Error::usage("--strip takes folders off the front of paths, and the dataset is a single file"));
    }
    let what = decide(reader, entry, meta, spec)?;
    if spec.options.dry_run {
        spec.monitor.planned(&PlannedStep { path: ".", what, bytes: size });
    }
    let mut report = RestoreReport::default();
    match what {
        "same" => report.same = 1,
        "left" => report.left = 1,
        _ => (report.entries, report.bytes) = (1, size),
    }
    if spec.options.dry_run || report.entries == 0 {
        return Ok(report);
    }
    let data = if let EntryKind::File { sparse: Some(sparse), .. } = &entry.kind { sparse.data } else { size };
    room::check(path, (data, 1), room::free(path)?)?;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).at("create the folder", parent)?;
    }
    spec.monitor.task("restoring", Some(data));
    let mut draft = atomic::Draft::beside(path, 0o600)?;
    reader.read_data(entry, &mut |offset, bytes| {
        spec.monitor.bytes(bytes.len() as u64);
        draft.file().write_all_at(bytes, offset).at("write", path)
    })?;
    draft.file().set_len(size).at("write", path)?;
    // Its folder may give what is made in it an access control list.
    undress(draft.file());
    let mut dresser = Dresser::new(reader);
    dresser.opened(draft.file(), meta, path)?;
    spec.monitor.entries(1);
    draft.publish()?;
    let mut problems = Problems::new(spec.monitor);
    report.notes = dresser.lacks.finish(&mut problems);
    report.problems = problems.finish();
    Ok(report)
}

/// What is to be done, by what is there.
fn decide(reader: &SnapshotReader, entry: &Entry, meta: &Meta, spec: &RestoreSpec<'_>) -> Result<&'static str> {
    let path = spec.target;
    let stat = match rustix::fs::lstat(path) {
        Err(rustix::io::Errno::NOENT) => return Ok("create"),
        other => other.at("look at", path)?,
    };
    let EntryKind::File { size, .. } = entry.kind else { return Ok("create") };
    let alike = same_file(&stat, size, meta);
    let dressed = alike && same_stat(&stat, meta);
    Ok(match spec.options.overwrite {
        Some(Overwrite::Never) => {
            if dressed {
                "same"
            } else {
                "left"
            }
        }
        None if alike => "same",
        None => {
            return Err(Error::refused(format!("{} is there already", path.display()))
                .hint("The dataset is a single file; name one that does not exist yet, or say --overwrite=changed."));
        }
        Some(_) if file_type(&stat) == FileType::Directory => {
            return Err(
                Error::refused(format!("{} is a folder, and the dataset is a single file", path.display())).hint("Name a file in it.")
            );
        }
        Some(Overwrite::Changed) if dressed => "same",
        Some(Overwrite::Always) if dressed => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let there = File::from(rustix::fs::open(path, flags, Mode::empty()).at("open", path)?);
            if same_content(reader, entry, &there)? { "same" } else { "replace" }
        }
        Some(_) => "replace",
    })
}
