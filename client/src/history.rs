//! What became of each dataset at one node: the last success, and failures since. `status` shows it.
//!
//! A convenience: the signed receipts are what counts, and a lost file is begun anew.

use crate::outcome::{Ending, OutcomeFile};
use crate::state;
use base::config::ClientConfig;
use base::{Dataset, Error, Name, RequestId, Result, atomic};
use jiff::Timestamp;
use queue::pool::PoolFile;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The longest such file that is read: some 100,000 datasets.
const LIMIT: usize = 64 << 20;

/// One dataset at one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// When the node last confirmed that it keeps a snapshot, by our clock.
    pub last_success: Option<Timestamp>,
    /// That snapshot.
    pub snapshot: Option<String>,
    /// Entries that it lacks because they could not be read.
    #[serde(default)]
    pub unreadable: u64,
    /// How much that snapshot is, and what it cost.
    #[serde(default)]
    pub size: Option<Size>,
    /// When a request last ended or was prepared, whatever came of it.
    #[serde(default)]
    pub last_attempt: Option<Timestamp>,
    /// When one last failed or was refused; stays after a success.
    #[serde(default)]
    pub last_failure: Option<Timestamp>,
    /// How many requests in a row have failed or were refused since.
    #[serde(default)]
    pub failures: u32,
    /// When the first of them ended.
    pub failing_since: Option<Timestamp>,
    /// Why the last of them failed.
    pub error: Option<String>,
    /// What keeps the present request from being prepared.
    #[serde(default)]
    pub held: Option<Held>,
    /// The request that was prepared last, until it is answered.
    #[serde(default)]
    pub prepared: Option<PreparedOne>,
}

/// How much a snapshot is. What is not known is `None`: of a mirror, and of snapshots from before this was noted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Files, folders and whatever else there is.
    pub entries: Option<u64>,
    /// Files alone.
    #[serde(default)]
    pub files: Option<u64>,
    /// Bytes of the files.
    pub bytes: Option<u64>,
    /// Bytes that the node fetched for it, as its receipt says.
    pub bytes_fetched: u64,
    /// Bytes by which the node's store grew.
    pub bytes_stored: u64,
    /// How long preparing it took here, in seconds.
    pub prepare_seconds: Option<u64>,
    /// How long fetching it took at the node, in seconds.
    pub fetch_seconds: u64,
}

/// What was noted when a request was prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedOne {
    /// The request.
    pub id: RequestId,
    /// Files, folders and whatever else there is.
    pub entries: u64,
    /// Files alone.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// How long it took, in seconds.
    pub seconds: u64,
}

/// Something that keeps a request waiting on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Since when.
    pub since: Timestamp,
    /// What it is.
    pub why: String,
}

impl Past {
    /// Takes in how a request ended.
    pub fn add(&mut self, outcome: &OutcomeFile) {
        self.held = None;
        self.last_attempt = Some(outcome.at);
        match outcome.outcome {
            Ending::Stored => {
                let prepared = self.prepared.take().filter(|prepared| prepared.id == outcome.id);
                let prepared = prepared.as_ref();
                *self = Self {
                    last_success: Some(outcome.at),
                    snapshot: outcome.snapshot.clone(),
                    unreadable: outcome.unreadable,
                    size: Some(Size {
                        entries: prepared.map(|prepared| prepared.entries),
                        files: prepared.map(|prepared| prepared.files),
                        bytes: prepared.map(|prepared| prepared.bytes),
                        prepare_seconds: prepared.map(|prepared| prepared.seconds),
                        bytes_fetched: outcome.bytes_fetched,
                        bytes_stored: outcome.bytes_stored,
                        fetch_seconds: outcome.seconds,
                    }),
                    last_attempt: Some(outcome.at),
                    last_failure: self.last_failure,
                    ..Self::default()
                };
            }
            Ending::Failed | Ending::Refused => {
                self.last_failure = Some(outcome.at);
                self.failures = self.failures.saturating_add(1);
                self.failing_since.get_or_insert(outcome.at);
                self.error.clone_from(&outcome.reason);
            }
            Ending::Cancelled => {}
        }
    }
}

/// `S/history/<node>.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// By dataset.
    pub datasets: BTreeMap<Dataset, Past>,
}

impl History {
    /// What is known of one node's datasets; nothing where the file is missing or damaged.
    pub fn load(config: &ClientConfig, node: &Name) -> Self {
        let path = state::history_path(config, node);
        let Ok(file) = base::untrusted::read(&path, LIMIT) else { return Self::default() };
        serde_json::from_slice(&file.bytes).unwrap_or_else(|error| {
            tracing::warn!("{} is damaged and begun anew: {error}", path.display());
            Self::default()
        })
    }

    /// As [`History::load`], without what nobody wants any more; `asked` is what is not finished.
    pub fn wanted(config: &ClientConfig, node: &Name, asked: &[PoolFile]) -> Self {
        Self::load(config, node).without_unwanted(config, node, asked)
    }

    /// Without what the configuration does not allow any more, unless it is asked for: how that last ended does not matter.
    pub fn without_unwanted(mut self, config: &ClientConfig, node: &Name, asked: &[PoolFile]) -> Self {
        let asked: BTreeSet<Dataset> = asked.iter().filter(|file| file.node == *node).filter_map(|file| file.dataset().ok()).collect();
        self.datasets.retain(|dataset, _| config.allows(dataset) || asked.contains(dataset));
        self
    }

    /// Takes in how a request ended, and writes that down.
    ///
    /// # Errors
    /// With the path.
    pub fn add(&mut self, config: &ClientConfig, outcome: &OutcomeFile) -> Result<()> {
        self.datasets.entry(outcome.dataset.clone()).or_default().add(outcome);
        self.save(config, &outcome.node)
    }

    /// Notes how much the request is that was prepared for `dataset`.
    ///
    /// # Errors
    /// With the path.
    pub fn prepared(&mut self, config: &ClientConfig, node: &Name, dataset: &Dataset, prepared: PreparedOne) -> Result<()> {
        let past = self.datasets.entry(dataset.clone()).or_default();
        past.last_attempt = Some(base::clock::now());
        past.prepared = Some(prepared);
        self.save(config, node)
    }

    /// Notes what keeps `dataset` from being prepared, or that nothing does any more. True when that is new.
    ///
    /// # Errors
    /// With the path.
    pub fn hold(&mut self, config: &ClientConfig, node: &Name, dataset: &Dataset, why: Option<String>) -> Result<bool> {
        let before = self.datasets.get(dataset).and_then(|past| past.held.clone());
        if before.as_ref().map(|held| &held.why) == why.as_ref() {
            return Ok(false);
        }
        let since = before.as_ref().map_or_else(base::clock::now, |held| held.since);
        self.datasets.entry(dataset.clone()).or_default().held = why.map(|why| Held { since, why });
        self.save(config, node)?;
        Ok(before.is_none())
    }

    fn save(&self, config: &ClientConfig, node: &Name) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(|e| Error::failed("could not write the history").because(e))?;
        atomic::write(&state::history_path(config, node), &bytes, 0o644)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::RequestId;

    #[test]
    fn failures_count_until_the_next_success() {
        let (id, dataset, node) = (RequestId::generate().unwrap(), "files:/a".parse().unwrap(), Name::new("n").unwrap());
        let ended = |ending| OutcomeFile::new(&id, &dataset, &node, ending).because("why");
        let mut past = Past::default();
        past.add(&ended(Ending::Stored));
        past.held = Some(Held { since: base::clock::now(), why: "no room".into() });
        past.add(&ended(Ending::Failed));
        assert_eq!(past.held, None);
        past.add(&ended(Ending::Cancelled));
        past.add(&ended(Ending::Refused));
        assert_eq!((past.failures, past.error.as_deref()), (2, Some("why")));
        assert!(past.last_success.is_some() && past.failing_since.is_some());
        past.prepared = Some(PreparedOne { id: id.clone(), entries: 3, files: 2, bytes: 70, seconds: 1 });
        let mut stored = ended(Ending::Stored);
        stored.bytes_stored = 50;
        past.add(&stored);
        assert_eq!((past.failures, past.error.as_deref(), &past.prepared), (0, None, &None));
        assert!(past.last_failure.is_some(), "that it failed once is still known");
        assert_eq!(past.size.clone().map(|size| (size.entries, size.bytes, size.bytes_stored)), Some((Some(3), Some(70), 50)));
        // What was prepared for another request says nothing of this one.
        past.prepared = Some(PreparedOne { id: RequestId::generate().unwrap(), entries: 9, files: 9, bytes: 9, seconds: 9 });
        past.add(&ended(Ending::Stored));
        assert_eq!(past.size.map(|size| size.bytes), Some(None));
    }

    #[test]
    fn what_older_releases_wrote_is_read() {
        let old = r#"{"datasets":{"files:/a":{"last_success":"2026-11-20T03:15:00Z","snapshot":null,"failing_since":null,"error":null}}}"#;
        let history: History = serde_json::from_str(old).unwrap();
        assert_eq!(history.datasets.values().next().map(|past| (past.size.clone(), past.last_attempt)), Some((None, None)));
    }
}
