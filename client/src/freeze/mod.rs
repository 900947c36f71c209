//! Snapshots of file systems, from which datasets are read: made before, removed after, found by their names.
//!
//! Does not know why one is made, nor what is read. One file for each kind; `mounts` knows what is mounted where.

mod btrfs;
mod lvm;
mod mounts;
mod zfs;

use base::config::SnapshotWith;
use base::{At, Blake3, ByteSize, Error, Name, RequestId, Result, process};
use modules::Frozen;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What all our snapshots are called at the beginning.
const PREFIX: &str = "nightsafe-";

/// The longest that a client and a node may be together: LVM takes names of 127 bytes.
const WHOSE: usize = 88;

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

/// What the snapshots are called that one client makes for one node, `nightsafe-CLIENT_NODE-ID`. Several clients may live on one
/// machine and share its file systems.
#[derive(Debug)]
pub struct Names {
    beginning: String,
}

impl Names {
    /// Those of this client and this node, whose names have no underscore.
    pub fn new(client: &Name, node: &Name) -> Self {
        let mut whose = format!("{client}_{node}");
        if whose.len() > WHOSE {
            whose = Blake3::of(whose.as_bytes()).hex()[..32].to_owned();
        }
        Self { beginning: format!("{PREFIX}{whose}-") }
    }

    /// That of the snapshot for a request.
    pub fn of(&self, request: &RequestId) -> String {
        format!("{}{request}", self.beginning)
    }

    /// Whether this is one of them: the rest is a request's id, and nothing else.
    fn has(&self, name: &str) -> bool {
        name.strip_prefix(&self.beginning).is_some_and(|id| id.parse::<RequestId>().is_ok())
    }
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

/// Removes snapshots of the same that are called by `names` and that nobody remembers, because the state folder was lost with them
/// there; `known` are remembered. Gives what went wrong: that keeps nobody from making a new one.
pub fn remove_leftovers(beside: &Place, names: &Names, known: &[Place]) -> Vec<Error> {
    let all = match beside.with {
        SnapshotWith::Btrfs => btrfs::names(beside),
        SnapshotWith::Zfs => zfs::names(beside),
        SnapshotWith::Lvm => lvm::names(beside),
    };
    let all = match all {
        Ok(all) => all,
        Err(error) => return vec![error.context(format!("could not look for old snapshots of {}", beside.of))],
    };
    let forgotten = all.into_iter().filter(|name| names.has(name) && !known.iter().any(|one| one.name == *name));
    forgotten.filter_map(|name| remove(&renamed(beside, &name)).err()).collect()
}

/// The snapshot of another name beside this one.
fn renamed(place: &Place, name: &str) -> Place {
    let root = place.root.to_str().map_or_else(|| place.root.clone(), |root| root.replace(&place.name, name).into());
    Place { name: name.to_owned(), root, ..place.clone() }
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
        let name = |text: &str| Name::new(text).unwrap();
        let ours = Names::new(&name("web1"), &name("n1"));
        let id: RequestId = "20261120T031500Z-3f9a1c7e".parse().unwrap();
        assert_eq!(ours.of(&id), "nightsafe-web1_n1-20261120T031500Z-3f9a1c7e");
        assert!(ours.has(&ours.of(&id)));
        for other in [
            "nightsafe-web1_n1-",
            "nightsafe-web1_n1-mine",
            "nightsafe-web1_n11-20261120T031500Z-3f9a1c7e",
            "nightsafe-web2_n1-20261120T031500Z-3f9a1c7e",
            "nightsafe-n1-20261120T031500Z-3f9a1c7e",
            "web1_n1-20261120T031500Z-3f9a1c7e",
            "nightsafe-web1_n1",
        ] {
            assert!(!ours.has(other), "{other}");
        }
        // Names in which the one ends and the other begins elsewhere, and such as a file system would not take.
        assert!(!Names::new(&name("a"), &name("b-c")).has(&Names::new(&name("a-b"), &name("c")).of(&id)));
        let long = |last: &str| Names::new(&name(&"c".repeat(63)), &name(&format!("{}{last}", "n".repeat(62)))).of(&id);
        assert!(long("1").len() <= 127 && long("1") != long("2"));
    }
}
