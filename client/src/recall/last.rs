//! When each dataset was last restored and verified on this machine, for whoever watches that it can be.
//!
//! A small file each, so that two at once do not write the same one; losing one costs a metric. Where there is no state folder to
//! write in, as a keyholder's own user has none, nothing is kept.

use crate::output;
use base::config::ClientConfig;
use base::{Claim, Dataset, Error, Name, Result, Sha256, atomic, clock};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The longest such file that is read.
const LIMIT: usize = 64 << 10;
/// How many are read: as many datasets as somebody restores.
const MOST: usize = 10_000;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// A snapshot, or a part of it, was brought back without a problem.
    Restored,
    /// A snapshot was looked into, or a share of it, and nothing was wrong.
    Verified,
}

/// The last time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Last {
    version: i64,
    /// What was done.
    pub deed: Deed,
    /// The node that had signed for it.
    pub node: Name,
    /// Whose data it is.
    pub client: Name,
    /// Of which dataset.
    pub dataset: Dataset,
    /// When, by this machine's clock.
    pub at: Timestamp,
}

impl Last {
    fn path(&self, folder: &Path) -> PathBuf {
        let word = match self.deed {
            Deed::Restored => "restored",
            Deed::Verified => "verified",
        };
        let key = super::seen::Seen::key(&self.node, &self.client, &self.dataset);
        folder.join(format!("{word}.{}.toml", &Sha256::of(key.as_bytes()).hex()))
    }
}

/// Notes that this was done now with what `claim` is about. Trouble with it is told, and stops nothing.
pub fn note(config: Option<&ClientConfig>, deed: Deed, claim: &Claim) {
    let Some(folder) = config.map(folder).filter(|folder| super::seen::can_write(folder)) else { return };
    let (node, client, dataset) = (claim.node.clone(), claim.client.clone(), claim.dataset.clone());
    let last = Last { version: base::config::VERSION, deed, node, client, dataset, at: clock::now() };
    let written = || {
        let text = toml::to_string(&last).map_err(|error| Error::failed("could not write when it was done").because(error))?;
        // Whoever writes the metrics reads it, whoever it was that restored.
        atomic::write(&last.path(&folder), text.as_bytes(), 0o644)
    };
    if let Err(error) = written() {
        output::complain(&error.context("it is done, and was not noted for the metrics"));
    }
}

/// All that is known. What cannot be read is as if it were not there.
pub fn all(config: &ClientConfig) -> Vec<Last> {
    let is_one = |name: &str| (name.starts_with("restored.") || name.starts_with("verified.")) && name.ends_with(".toml");
    let read = |entry: std::fs::DirEntry| -> Result<Last> {
        let path = entry.path();
        base::config::parse(&path.display().to_string(), &base::untrusted::read(&path, LIMIT)?.bytes)
    };
    let entries = std::fs::read_dir(folder(config)).into_iter().flatten().flatten();
    let mut all: Vec<Last> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_one))
        .take(MOST)
        .filter_map(|entry| read(entry).inspect_err(|error| tracing::warn!("{}", error.one_line())).ok())
        .collect();
    all.sort_by(|a, b| (&a.node, &a.client, &a.dataset).cmp(&(&b.node, &b.client, &b.dataset)));
    all
}

fn folder(config: &ClientConfig) -> PathBuf {
    config.state.join("seen")
}
