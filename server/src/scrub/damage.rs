//! What is known to be damaged of a client's data, kept as `damage.toml` in its folder until it is over.
//!
//! Written by the scrub alone, which runs once at a time. Does not look at the data.

use base::{Blake3, Dataset, Error, Name, RequestId, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// How many snapshots and datasets are written down for one thing.
const NAMED: usize = 50;
/// How many things are written down; all are found again by the next scrub.
const MOST: usize = 20_000;

/// The state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: i64,
    /// The first found stands first.
    #[serde(default, rename = "damage")]
    pub entries: Vec<Entry>,
}

impl Default for State {
    fn default() -> Self {
        Self { version: base::config::VERSION, entries: Vec::new() }
    }
}

/// What can be damaged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "what", content = "name")]
pub enum What {
    /// A pack.
    Pack(Blake3),
    /// A snapshot's proof or manifest.
    Snapshot(RequestId),
    /// A mirror, by its folder's name.
    Mirror(String),
    /// A history of the node's own, by its folder's name: the audit log or the receipts.
    History(String),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pack(digest) => write!(f, "pack {}", digest.hex()),
            Self::Snapshot(id) => write!(f, "snapshot {id}"),
            Self::Mirror(name) => write!(f, "mirror {name}"),
            Self::History(name) => write!(f, "history {name}"),
        }
    }
}

/// What a scrub has just found.
#[derive(Debug, Clone)]
pub struct Found {
    /// What is damaged.
    pub what: What,
    /// How.
    pub why: String,
    /// The snapshots that need it.
    pub touches: Vec<(Dataset, RequestId)>,
}

/// One thing that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What.
    #[serde(flatten)]
    pub what: What,
    /// How.
    pub why: String,
    /// When it was first found.
    pub first: Timestamp,
    /// The datasets that it touches, at most 50.
    pub datasets: Vec<Dataset>,
    /// The snapshots that it touches, the newest of them, at most 50.
    pub snapshots: Vec<RequestId>,
    /// How many there are.
    pub touched: usize,
    /// The notice that asked the client to mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<RequestId>,
}

impl Entry {
    /// Whether it is about the same thing.
    pub fn same(&self, other: &Self) -> bool {
        self.what == other.what
    }

    /// What is wrong, for people.
    pub fn line(&self, client: &Name) -> String {
        let datasets: Vec<String> = self.datasets.iter().map(ToString::to_string).collect();
        let whom = match datasets.len() {
            0 => "no snapshot needs it".into(),
            _ => format!("{} snapshots of {} need it", self.touched, datasets.join(", ")),
        };
        format!("{client}: {} is damaged: {}; {whom}", self.what, self.why)
    }
}

impl State {
    /// Takes in what a scrub has found. It has looked at all packs and snapshots that were known to be damaged, and of
    /// the repositories at those in `found` and in `whole`.
    pub fn take_in(&mut self, found: &[Found], whole: &[What], now: Timestamp) {
        self.entries.retain(|entry| match entry.what {
            What::Pack(_) | What::Snapshot(_) => found.iter().any(|found| found.what == entry.what),
            What::Mirror(_) | What::History(_) => !whole.contains(&entry.what),
        });
        for found in found {
            let datasets: BTreeSet<&Dataset> = found.touches.iter().map(|(dataset, _)| dataset).collect();
            let datasets = datasets.into_iter().take(NAMED).cloned().collect();
            let mut ids: Vec<RequestId> = found.touches.iter().map(|(_, id)| id.clone()).collect();
            ids.sort();
            let (touched, snapshots) = (ids.len(), ids.into_iter().rev().take(NAMED).collect());
            let room = self.entries.len() < MOST;
            match self.entries.iter_mut().find(|entry| entry.what == found.what) {
                Some(entry) => {
                    (entry.datasets, entry.snapshots, entry.touched) = (datasets, snapshots, touched);
                    if !matches!(entry.what, What::Pack(_)) {
                        entry.why.clone_from(&found.why);
                    }
                }
                None if !room => {}
                None => self.entries.push(Entry {
                    what: found.what.clone(),
                    why: found.why.chars().take(1000).collect(),
                    first: now,
                    datasets,
                    snapshots,
                    touched,
                    notice: None,
                }),
            }
        }
    }
}

/// The file's name, in a client's folder.
const FILE: &str = "damage.toml";

/// What is known of a client's damage.
pub fn load(folder: &Path) -> State {
    crate::state::load(&folder.join(FILE))
}

/// Writes it down.
///
/// # Errors
/// With the path.
pub fn store(folder: &Path, state: &State) -> Result<()> {
    crate::state::store(&folder.join(FILE), state).map_err(|error: Error| error.context("what is damaged could not be written down"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(what: What, ids: &[&str]) -> Found {
        let dataset: Dataset = "files:/a".parse().unwrap();
        Found { what, why: "x".into(), touches: ids.iter().map(|id| (dataset.clone(), id.parse().unwrap())).collect() }
    }

    #[test]
    fn what_is_over_goes_and_what_stays_keeps_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let (pack, mirror) = (What::Pack(Blake3([1; 32])), What::Mirror("m.git".into()));
        let snapshot = What::Snapshot("20261120T031500Z-3f9a1c7e".parse().unwrap());
        let ids = ["20261120T031500Z-3f9a1c7e", "20261121T031500Z-3f9a1c7e"];
        let mut state = State::default();
        state.take_in(&[found(pack.clone(), &ids), found(mirror.clone(), &ids[..1]), found(snapshot, &ids[..1])], &[], at(1));
        state.entries[0].notice = Some(ids[0].parse().unwrap());
        store(dir.path(), &state).unwrap();
        assert_eq!(load(dir.path()), state);
        assert_eq!((state.entries[0].touched, state.entries[0].snapshots[0].as_str()), (2, ids[1]));
        // The mirror was not looked at; the snapshot came right.
        state.take_in(&[found(pack.clone(), &ids[1..])], &[], at(2));
        assert_eq!(state.entries.iter().map(|entry| entry.what.clone()).collect::<Vec<_>>(), [pack, mirror.clone()]);
        assert_eq!((state.entries[0].first, state.entries[0].touched, state.entries[0].notice.is_some()), (at(1), 1, true));
        state.take_in(&[], &[mirror], at(3));
        assert!(state.entries.is_empty());
    }
}
