//! Pools: folders in which each file is one request, and a file's first letter is its state.
//!
//! Knows nothing of git or of what a request leads to; the queue carries requests, the pool only remembers them.
//!
//! | operation | what it does to the files | beside which it may run |
//! |---|---|---|
//! | submit | writes `inbox/i…`, renames to `inbox/C…` | everything |
//! | claim | renames `inbox/C…` → `work/P…`, writes it anew, locks it | everything: it holds the pool's lock |
//! | prepare (the worker) | nothing; holds the lock on `work/P…` | everything but a claim of the same dataset and node |
//! | crashed, retry, cancel | take a lock on `P…` that is free | everything: they hold the pool's lock while they look |
//! | finish | renames `P…` → `F…` | everything: it holds the pool's lock |
//! | sweep | removes old `F…` and old `i…` | everything |
//!
//! A state changes by `rename(2)` alone, so a process that is killed leaves a file in the state before or after.

mod client;
mod file;
mod node;

pub use client::{Cancelled, Claimed, ClientPool, Submitted};
pub use file::PoolFile;
pub use node::{NodeEntry, NodePool};

use base::{At, RequestId, Result};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The largest pool file that is read.
pub const FILE_LIMIT: usize = 16 << 10;

/// After this long a file that is still being written was left by a crash.
const UNFINISHED: Duration = Duration::from_secs(24 * 3600);

/// How many files of one state are looked at; a folder with more is worked off in several rounds.
const NAMES_LIMIT: usize = 20_000;

/// What a pool file's first letter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// `i`: being written.
    Writing,
    /// `C`: complete, nobody has begun with it.
    Complete,
    /// `P`: in process.
    Process,
    /// `F`: finished.
    Finished,
}

impl State {
    /// The letter that files in this state begin with.
    pub fn letter(self) -> char {
        match self {
            Self::Writing => 'i',
            Self::Complete => 'C',
            Self::Process => 'P',
            Self::Finished => 'F',
        }
    }

    /// What people are told.
    pub fn words(self) -> &'static str {
        match self {
            Self::Writing => "being written",
            Self::Complete => "waiting",
            Self::Process => "being fetched",
            Self::Finished => "stored",
        }
    }

    /// The state and the id that a file name says; `None` for every other name.
    pub fn of_name(name: &str) -> Option<(Self, RequestId)> {
        let states = [Self::Writing, Self::Complete, Self::Process, Self::Finished];
        let state = states.into_iter().find(|state| name.starts_with(state.letter()))?;
        Some((state, name.get(1..)?.parse().ok()?))
    }

    fn path(self, folder: &Path, id: &RequestId) -> PathBuf {
        folder.join(format!("{}{id}", self.letter()))
    }
}

/// The ids of the files in `folder` that are in `state`, in the order of their names.
fn ids(folder: &Path, state: State) -> Result<Vec<RequestId>> {
    some_ids(folder, state, NAMES_LIMIT)
}

/// As [`ids`], at most `limit`; files with other names do not count.
fn some_ids(folder: &Path, state: State, limit: usize) -> Result<Vec<RequestId>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(folder).at("list", folder)? {
        if ids.len() >= limit {
            break;
        }
        let entry = entry.at("list", folder)?;
        if let Some((found, id)) = entry.file_name().to_str().and_then(State::of_name)
            && found == state
        {
            ids.push(id);
        }
    }
    ids.sort();
    Ok(ids)
}

/// Renames a file of any state to its finished name, at the present time; one that is not there is no error.
fn finish(from: &Path, to: &Path) -> Result<()> {
    let file = match File::options().write(true).open(from) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.at("open", from)?,
    };
    // Its age counts from here.
    file.set_modified(now()).at("set the time of", from)?;
    base::atomic::rename(from, to)
}

/// Removes the files of one state that are older than `age`.
fn sweep(folder: &Path, state: State, age: Duration) -> Result<usize> {
    let mut swept = 0;
    for id in ids(folder, state)? {
        let path = state.path(folder, &id);
        let Ok(changed) = std::fs::symlink_metadata(&path).and_then(|meta| meta.modified()) else { continue };
        if now().duration_since(changed).unwrap_or_default() >= age {
            base::atomic::remove(&path)?;
            swept += 1;
        }
    }
    Ok(swept)
}

fn now() -> SystemTime {
    base::clock::now().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_state_and_id() {
        let id = "20261120T031500Z-3f9a1c7e";
        assert_eq!(State::of_name(&format!("P{id}")).unwrap(), (State::Process, id.parse().unwrap()));
        for bad in ["", "P", id, "Xabc", "CC20261120T031500Z-3f9a1c7", ".tmp-1-2", &format!("P{id} "), &format!("p{id}"), "éé"] {
            assert!(State::of_name(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn other_names_hide_no_request() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "F20261120T031500Z-00000001", "C20261120T031500Z-00000002", "c", "d"] {
            File::create(dir.path().join(name)).unwrap();
        }
        assert_eq!(some_ids(dir.path(), State::Complete, 1).unwrap().len(), 1);
    }
}
