//! Whether a target may be restored into, and how: as a new one, as one that a cut-off restore left, or into what is there.
//!
//! Does not restore anything.

use super::RestoreSpec;
use super::journal::{Before, Journal, Mode, PREFIX};
use super::judge::same_file;
use super::nodes::Node;
use super::options::Overwrite;
use super::owner::Owners;
use super::same::same_content;
use super::select::Selection;
use super::target::{Target, file_type, strip};
use crate::entry::{Entry, EntryKind};
use crate::snapshot::SnapshotReader;
use base::{At, Error, Result};
use rustix::fs::{FileType, Mode as Bits, Stat};
use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// A target that may be restored into. Nothing was written yet.
pub(super) struct Examined {
    pub(super) mode: Mode,
    pub(super) before: Option<Before>,
    /// Whether anything is there.
    pub(super) used: bool,
    exists: bool,
}

/// Looks at the target.
///
/// # Errors
/// Of kind refused when it cannot be restored into.
pub(super) fn examine(
    reader: &SnapshotReader,
    selection: &Selection,
    spec: &RestoreSpec<'_>,
    asked: &str,
    owners: &mut Owners,
) -> Result<Examined> {
    let (path, options) = (spec.target, spec.options);
    let fresh = |exists| Examined { mode: Mode::Fresh, before: None, used: false, exists };
    if !place(path)? {
        return Ok(fresh(false));
    }
    let name = Journal::name(&reader.public().id);
    let things = of_others(path, &name)?;
    if let Some(before) = Journal::read(path, &name)? {
        if before.asked != asked {
            return Err(Error::refused(format!("a restore of other paths into {} was cut off and is not finished", path.display()))
                .hint(format!("Finish it with the same paths as then, or remove {} to give it up.", path.join(&name).display())));
        }
        let mode = match (before.mode, options.overwrite) {
            (Mode::Into(_), Some(overwrite)) => Mode::Into(overwrite),
            (mode, _) => mode,
        };
        return Ok(Examined { mode, before: Some(before), used: true, exists: true });
    }
    if things == 0 {
        return Ok(fresh(true));
    }
    let overwrite = match options.overwrite {
        Some(overwrite) => overwrite,
        None => {
            compare(reader, selection, spec, owners)?;
            Overwrite::Changed
        }
    };
    Ok(Examined { mode: Mode::Into(overwrite), before: None, used: true, exists: true })
}

/// Whether there is a folder at a path; false where nothing is.
///
/// # Errors
/// Of kind refused when something else is there.
pub(super) fn place(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if path.symlink_metadata().is_ok() {
                return Err(Error::refused(format!("{} is a link to nothing", path.display())).hint("Name a folder."));
            }
            Ok(false)
        }
        Err(error) => Err(error).at("look at", path),
        Ok(meta) if !meta.is_dir() => {
            Err(Error::refused(format!("{} is not a folder", path.display())).hint("Name a folder that does not exist yet."))
        }
        Ok(_) => Ok(true),
    }
}

/// How many things are in a folder beside the mark `name`.
///
/// # Errors
/// Of kind refused when another snapshot is half restored there.
pub(super) fn of_others(path: &Path, name: &str) -> Result<u64> {
    let (mut things, mut clash) = (0, Ok(()));
    for entry in fs::read_dir(path).at("list", path)? {
        let found = entry.at("list", path)?.file_name();
        if found != name {
            things += 1;
            clash = clash.and(refuse_other(path, found.as_bytes()));
        }
    }
    clash.map(|()| things)
}

/// Refuses a target in which another snapshot is half restored.
fn refuse_other(path: &Path, name: &[u8]) -> Result<()> {
    let Some(snapshot) = name.strip_prefix(PREFIX.as_bytes()).and_then(|rest| std::str::from_utf8(rest).ok()) else { return Ok(()) };
    if snapshot.parse::<base::RequestId>().is_err() {
        return Ok(());
    }
    Err(Error::refused(format!("{} is where snapshot {snapshot} is being restored, or was when it was cut off", path.display()))
        .hint(format!("Name another folder, or finish that one with --at {snapshot}, or remove {PREFIX}{snapshot} in it to give it up.")))
}

/// Opens the target and leaves the mark in it. What was new or empty is closed to others until its own entry is restored.
pub(super) fn begin(reader: &SnapshotReader, path: &Path, asked: &str, examined: &Examined) -> Result<(Target, Journal, Stat)> {
    if !examined.exists {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at("create the folder", parent)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::not_now(format!("{} was made by somebody else meanwhile", path.display())));
            }
            other => other.at("create the folder", path)?,
        }
    }
    let target = Target::new(path)?;
    if examined.mode == Mode::Fresh {
        rustix::fs::fchmod(target.root(), Bits::RWXU)
            .at("set the mode of", path)
            .map_err(|error| error.hint("What is restored is closed to others at first; name a folder that does not exist yet."))?;
    }
    let name = Journal::name(&reader.public().id);
    let stat = rustix::fs::fstat(target.root()).at("look at", path)?;
    let journal = Journal::begin(target.root(), path, name.clone(), examined.mode, asked, examined.before.is_some())?;
    if examined.mode != Mode::Fresh {
        target.set_root_time(&stat);
    }
    // Another restore may have come in between: both have their marks by now, so at least one of them sees the other.
    match of_others(path, &name) {
        Ok(_) => Ok((target, journal, stat)),
        Err(error) => {
            if examined.before.is_none() {
                journal.remove(target.root())?;
            }
            Err(error)
        }
    }
}

/// Removes drafts that a cut-off restore left.
pub(super) fn sweep(target: &mut Target, reader: &SnapshotReader, before: &Before) {
    let prefix = format!("{}.", Journal::name(&reader.public().id));
    for folder in before.drafts.iter().collect::<HashSet<_>>() {
        // Best effort: a folder that is gone has none.
        target.sweep(folder, prefix.as_bytes());
    }
}

/// Lets a folder pass that is not empty if all that it holds is just what the snapshot has there, to the byte.
fn compare(reader: &SnapshotReader, selection: &Selection, spec: &RestoreSpec<'_>, owners: &mut Owners) -> Result<()> {
    let (path, levels) = (spec.target, spec.options.strip);
    let refuse = |why: String| {
        Error::refused(format!("{} is not empty: {why}", path.display()))
            .hint("Name a folder that does not exist yet, or say with --overwrite=never|changed|always what happens to what is there.")
    };
    let found = count(path)?;
    let mut target = Target::new(path)?;
    let mut same = 0u64;
    // Another part of the snapshot may be there; but where folders are taken off the front, only the same one tells.
    let entries: Box<dyn Iterator<Item = Result<Entry>> + '_> = if levels == 0 {
        Box::new(reader.entries())
    } else {
        Box::new(selection.entries(reader).map(|selected| selected.map(|selected| selected.entry)))
    };
    let mut seen = HashSet::new();
    for entry in entries {
        let entry = entry.map_err(|error| refuse("it cannot be compared with the snapshot".into()).because(error))?;
        let Some(path) = strip(&entry.path, levels).filter(|path| !path.is_empty()) else { continue };
        if levels > 0 && !seen.insert(base::Blake3::of(&path)) {
            continue;
        }
        let Some(stat) = target.look(&path)? else { continue };
        let meta = owners.meta(&entry);
        let equal = match &entry.kind {
            EntryKind::Dir => file_type(&stat) == FileType::Directory,
            // Without our mark a file's time proves nothing, so its bytes are looked at.
            EntryKind::File { size, .. } => same_file(&stat, *size, &meta) && same_content(reader, &entry, &target.open(&path)?)?,
            EntryKind::Link { target: says } => file_type(&stat) == FileType::Symlink && target.read_link(&path)? == *says,
            EntryKind::Fifo => Node::Fifo.is(&stat),
            EntryKind::Device { block, major, minor } => Node::Device { block: *block, major: *major, minor: *minor }.is(&stat),
        };
        if !equal {
            return Err(refuse(format!("{} is there and is not what the snapshot has", entry.shown_path())));
        }
        same += 1;
    }
    if same != found {
        return Err(refuse("it holds other things than the snapshot".into()));
    }
    Ok(())
}

/// How many things are below a folder; no link is followed.
fn count(path: &Path) -> Result<u64> {
    let mut found = 0;
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            let entry = entry.at("list", &folder)?;
            found += 1;
            if entry.file_type().at("look at", entry.path())?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(found)
}
