//! Whether a target may be restored into, and the mark that tells a cut-off restore from somebody's files.
//!
//! Does not restore anything.

use super::nodes::Node;
use super::owner::Owners;
use super::same::same_content;
use super::target::{Target, file_type};
use super::write::same_file;
use crate::entry::EntryKind;
use crate::snapshot::SnapshotReader;
use base::{At, Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// An empty file in the target while it is restored into, locked by whoever does it.
pub(super) struct Marker {
    name: String,
    _lock: File,
}

impl Marker {
    /// Whether an entry would stand in the marker's place.
    pub(super) fn is(&self, path: &[u8]) -> bool {
        path.strip_suffix(b"/").unwrap_or(path) == self.name.as_bytes()
    }

    /// Removes it: all that could be restored has been.
    pub(super) fn remove(self, folder: impl AsFd) -> Result<()> {
        rustix::fs::unlinkat(folder, self.name.as_str(), AtFlags::empty()).at("remove", &self.name)
    }
}

/// Opens the target, mode 0700 from here on until its own entry is restored.
pub(super) fn prepare(reader: &SnapshotReader, path: &Path, owners: &mut Owners) -> Result<(Target, Marker)> {
    let name = format!(".nightsafe-restore-{}", reader.public().id);
    let mut used = false;
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(path).at("create the folder", path)?
        }
        Err(error) => return Err(error).at("look at", path),
        Ok(meta) if !meta.is_dir() => {
            return Err(Error::refused(format!("{} is not a folder", path.display())).hint("Name a folder that does not exist yet."));
        }
        Ok(_) => {
            used = fs::read_dir(path).at("list", path)?.next().is_some();
            let ours = path.join(&name).symlink_metadata().is_ok_and(|meta| meta.is_file());
            if used && !ours {
                compare(reader, path, owners)?;
            }
        }
    }
    let target = Target::new(path, used)?;
    rustix::fs::fchmod(target.root(), Mode::RWXU)
        .at("set the mode of", path)
        .map_err(|error| error.hint("What is restored is closed to others at first; name a folder that does not exist yet."))?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let lock =
        rustix::fs::openat(target.root(), name.as_str(), flags, Mode::RUSR | Mode::WUSR).map(File::from).at("create", path.join(&name))?;
    match lock.try_lock() {
        Ok(()) => Ok((target, Marker { name, _lock: lock })),
        Err(TryLockError::WouldBlock) => Err(Error::not_now(format!("another restore is writing into {}", path.display()))),
        Err(TryLockError::Error(error)) => Err(error).at("lock", path.join(name)),
    }
}

/// Lets a folder pass that is not empty if all that it holds is just what the snapshot has there, to the byte.
fn compare(reader: &SnapshotReader, path: &Path, owners: &mut Owners) -> Result<()> {
    let refuse = |why: String| {
        Error::refused(format!("{} is not empty: {why}", path.display())).hint("Name a folder that does not exist yet, or is empty.")
    };
    let found = count(path)?;
    let mut target = Target::new(path, true)?;
    let mut same = 0u64;
    for entry in reader.entries() {
        let entry = entry.map_err(|error| refuse("it cannot be compared with the snapshot".into()).because(error))?;
        if entry.path.is_empty() {
            continue;
        }
        let Some(stat) = target.look(&entry.path)? else { continue };
        let meta = owners.meta(&entry);
        let equal = match &entry.kind {
            EntryKind::Dir => file_type(&stat) == FileType::Directory,
            // Without our mark a file's time proves nothing, so its bytes are looked at.
            EntryKind::File { size, .. } => same_file(&stat, *size, &meta) && same_content(reader, &entry, &target.open(&entry.path)?)?,
            EntryKind::Link { target: says } => file_type(&stat) == FileType::Symlink && target.read_link(&entry.path)? == *says,
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
