//! Small files that say how a request ended, readable by everybody: `submit --wait` looks for them.
//!
//! Nothing rests on them: the receipts in git are what counts, and these go after seven days.

use crate::state;
use base::config::ClientConfig;
use base::{At, Dataset, Name, RequestId, Result, atomic};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long they stay.
const KEPT: Duration = Duration::from_secs(7 * 86_400);

/// The longest such file that is read.
const LIMIT: usize = 64 * 1024;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// The node keeps it.
    Stored,
    /// The node will not have it.
    Refused,
    /// It was tried and could not be done.
    Failed,
    /// Somebody took it back before it was sent.
    Cancelled,
}

impl Ending {
    /// The word for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<queue::receipt::Outcome> for Ending {
    fn from(outcome: queue::receipt::Outcome) -> Self {
        use queue::receipt::Outcome;
        match outcome {
            Outcome::Stored => Self::Stored,
            Outcome::Refused => Self::Refused,
            Outcome::Failed => Self::Failed,
        }
    }
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeFile {
    version: i64,
    /// The request.
    pub id: RequestId,
    /// What was asked for.
    pub dataset: Dataset,
    /// The node that was asked.
    pub node: Name,
    /// How it ended.
    pub outcome: Ending,
    /// Why, where it was not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The snapshot's name, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// How many entries could not be read.
    #[serde(default)]
    pub unreadable: u64,
    /// Bytes that the node fetched.
    #[serde(default)]
    pub bytes_fetched: u64,
    /// Bytes by which its store grew.
    #[serde(default)]
    pub bytes_stored: u64,
    /// How long it took the node, in seconds.
    #[serde(default)]
    pub seconds: u64,
    /// When it ended here.
    pub at: Timestamp,
}

impl OutcomeFile {
    /// An outcome of this moment.
    pub fn new(id: &RequestId, dataset: &Dataset, node: &Name, outcome: Ending) -> Self {
        Self {
            version: base::config::VERSION,
            id: id.clone(),
            dataset: dataset.clone(),
            node: node.clone(),
            outcome,
            reason: None,
            snapshot: None,
            unreadable: 0,
            bytes_fetched: 0,
            bytes_stored: 0,
            seconds: 0,
            at: base::clock::now(),
        }
    }

    /// With the reason why.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Writes the file.
    ///
    /// # Errors
    /// With the path.
    pub fn write(&self, config: &ClientConfig) -> Result<()> {
        let path = state::outcome_path(config, &self.id);
        let text = toml::to_string(self).map_err(|e| base::Error::failed("could not write the outcome").because(e))?;
        atomic::write(&path, text.as_bytes(), 0o644)
    }

    /// Reads the outcome of `id`, if it has one already.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(config: &ClientConfig, id: &RequestId) -> Result<Option<Self>> {
        let path = state::outcome_path(config, id);
        if !path.exists() {
            return Ok(None);
        }
        let file = base::untrusted::read(&path, LIMIT)?;
        base::config::parse(&path.display().to_string(), &file.bytes).map(Some)
    }
}

/// Removes outcomes older than seven days, and what a crash left half written.
///
/// # Errors
/// With the path.
pub fn sweep(config: &ClientConfig) -> Result<()> {
    let folder = state::outcomes_folder(config);
    for entry in std::fs::read_dir(&folder).at("read the folder", &folder)? {
        let entry = entry.at("read the folder", &folder)?;
        let age = entry.metadata().ok().and_then(|meta| meta.modified().ok()).and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > KEPT) {
            atomic::remove(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("version = 1\nstate = \"{}\"", dir.path().display());
        let config: ClientConfig = base::config::parse("c", text.as_bytes()).unwrap();
        std::fs::create_dir(dir.path().join("outcomes")).unwrap();
        let id = RequestId::generate().unwrap();
        assert_eq!(OutcomeFile::read(&config, &id).unwrap(), None);
        let outcome = OutcomeFile::new(&id, &"files:/a".parse().unwrap(), &Name::new("n1").unwrap(), Ending::Refused).because("quota");
        outcome.write(&config).unwrap();
        sweep(&config).unwrap();
        assert_eq!(OutcomeFile::read(&config, &id).unwrap(), Some(outcome));
    }
}
