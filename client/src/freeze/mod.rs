//! Snapshots of file systems, from which datasets are read: made before, removed after, found by their names.
//!
//! Does not know why one is made, nor what is read. One file for each kind; `mounts` knows what is mounted where.

mod btrfs;
mod lvm;
mod mounts;
mod zfs;

use base::config::SnapshotWith;
use base::{At, ByteSize, Error, Name, RequestId, Result, process};
use modules::Frozen;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What all our snapshots are called at the beginning.
const PREFIX: &str = "nightsafe-";

/// How long each program may take: LVM and ZFS wait for what is on its way to the disk.
const TIME: Duration = Duration::from_secs(300);

/// The most that a program may print.
const OUTPUT: usize = 1 << 20;

/// A snapshot that is to be made, is there, or may be there still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// What makes it.
    pub with: SnapshotWith,
    /// Of what: the subvolume's folder, the ZFS dataset, or `group/volume`.
    pub of: String,
    /// Its name.
    pub name: String,
    /// Where it can be read.
    pub root: PathBuf,
    /// Where what it is of can be read.
    pub alive: PathBuf,
    /// The kind of file system, where it must be mounted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file_system: String,
    /// How much may change while it is there, where that must be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl Place {
    /// Where `path` is in it.
    ///
    /// # Errors
    /// When it has moved meanwhile.
    pub fn frozen(&self, path: &Path) -> Result<Frozen> {
        let real = path.canonicalize().at("find", path)?;
        let inner = real
            .strip_prefix(&self.alive)
            .map_err(|_| Error::failed(format!("{} is not in {} any more", path.display(), self.alive.display())))?;
        Ok(Frozen { root: self.root.clone(), inner: inner.to_owned(), alive: self.alive.clone() })
    }
}

/// What the snapshot for a request is called.
pub fn name(node: &Name, request: &RequestId) -> String {
    format!("{PREFIX}{node}-{request}")
}

/// Finds out where a snapshot that has `path` in it is to be made. Makes nothing. One that must be mounted will be below `mounts`.
///
/// # Errors
/// When `path` does not lie in a file system of that kind.
pub fn find(with: SnapshotWith, path: &Path, name: &str, size: Option<ByteSize>, mounts: &Path) -> Result<Place> {
    let real = path.canonicalize().at("find", path)?;
    let found = match with {
        SnapshotWith::Btrfs => btrfs::find(&real, name),
        SnapshotWith::Zfs => zfs::find(&real, name),
        SnapshotWith::Lvm => lvm::find(&real, name, size, mounts),
    };
    found.map_err(|error| error.context(format!("no snapshot of {} can be made with {}", path.display(), with.word())))
}

/// Makes it.
///
/// # Errors
/// With what the program said; something of it may be there all the same.
pub fn make(place: &Place) -> Result<()> {
    let made = match place.with {
        SnapshotWith::Btrfs => btrfs::make(place),
        SnapshotWith::Zfs => zfs::make(place),
        SnapshotWith::Lvm => lvm::make(place),
    };
    made.map_err(|error| error.context(format!("could not make a snapshot of {}", place.of)))
}

/// Removes it; one that is not there is no error.
///
/// # Errors
/// With what the program said.
pub fn remove(place: &Place) -> Result<()> {
    let removed = match place.with {
        SnapshotWith::Btrfs => btrfs::remove(place),
        SnapshotWith::Zfs => zfs::remove(place),
        SnapshotWith::Lvm => lvm::remove(place),
    };
    removed.map_err(|error| {
        error
            .context(format!("could not remove the snapshot {} of {}", place.name, place.of))
            .hint("It takes room until it is removed; that is tried again with the next send.")
    })
}

/// Removes snapshots of the same for the same node that nobody remembers, because the state folder was lost with them there;
/// `known` are remembered.
///
/// # Errors
/// When they cannot be listed or removed.
pub fn remove_leftovers(beside: &Place, node: &Name, known: &[&Place]) -> Result<()> {
    let all = match beside.with {
        SnapshotWith::Btrfs => btrfs::names(beside)?,
        SnapshotWith::Zfs => zfs::names(beside)?,
        SnapshotWith::Lvm => lvm::names(beside)?,
    };
    for name in all.into_iter().filter(|name| is_of(name, node)) {
        if !known.iter().any(|one| one.name == name) {
            remove(&renamed(beside, &name))?;
        }
    }
    Ok(())
}

/// The snapshot of another name beside this one.
fn renamed(place: &Place, name: &str) -> Place {
    let root = place.root.to_str().map_or_else(|| place.root.clone(), |root| root.replace(&place.name, name).into());
    Place { name: name.to_owned(), root, ..place.clone() }
}

/// Whether a snapshot of this name was made for a backup to `node`: the rest is a request's id, and nothing else.
fn is_of(name: &str, node: &Name) -> bool {
    let rest = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(node.as_str())?.strip_prefix('-'));
    rest.is_some_and(|id| id.parse::<RequestId>().is_ok())
}

/// Runs a program of the file system's.
fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command: Command = process::command(program);
    command.args(arguments);
    let said = process::run_ok(command, OUTPUT, TIME).map_err(|error| {
        if error.one_line().contains("No such file or directory (os error 2)") {
            error.hint(format!("Is {program} installed, in one of {}?", process::PATH))
        } else {
            error
        }
    })?;
    String::from_utf8(said).map_err(|_| Error::failed(format!("{program} said what is not UTF-8")))
}

/// A path as an argument.
fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::failed(format!("{} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_are_removed() {
        let node = Name::new("n1").unwrap();
        let id = "20261120T031500Z-3f9a1c7e".parse().unwrap();
        assert!(is_of(&name(&node, &id), &node));
        for other in [
            "nightsafe-n1-",
            "nightsafe-n1-mine",
            "nightsafe-n11-20261120T031500Z-3f9a1c7e",
            "n1-20261120T031500Z-3f9a1c7e",
            "nightsafe-n1",
        ] {
            assert!(!is_of(other, &node), "{other}");
        }
    }
}
