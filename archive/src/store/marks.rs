//! What the node notes beside a snapshot's files: that it is held, pinned, or condemned. Each is one small file, written
//! and removed under the store lock.
//!
//! Does not decide what follows from them. They are the node's own and count towards no quota.

use super::Store;
use super::layout::{CONDEMNED, FILE_MODE, HELD, PINNED};
use base::clock::toml_time;
use base::{Error, RequestId, Result, atomic, beneath, config, untrusted};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The largest mark that is read, in bytes.
const LIMIT: usize = 16 << 10;

/// A person holds the snapshot: nothing condemns it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    version: i64,
    /// Since when.
    #[serde(with = "toml_time")]
    pub since: Timestamp,
    /// Why, in that person's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The snapshot after it was much smaller: nothing condemns it until a person has looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    version: i64,
    /// Since when.
    #[serde(with = "toml_time")]
    pub since: Timestamp,
    /// The smaller one.
    pub by: RequestId,
    /// Whether a person has said that this is right. It is not pinned again then.
    #[serde(default)]
    pub cleared: bool,
}

/// The snapshot goes once it has been condemned for as long as the grace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condemned {
    version: i64,
    /// Since when.
    #[serde(with = "toml_time")]
    pub since: Timestamp,
    /// What has condemned it.
    pub by: By,
    /// The plan, as the caller names it: the commit in the node's audit repository.
    pub plan: String,
}

/// What condemns a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The policy in force. A policy that keeps it again takes this back.
    Policy,
    /// Rules that a person gave for once. `hold` takes this back, or rules that keep it.
    Command,
    /// A person has given up the dataset. Only that person's word takes this back.
    Forget,
}

impl Condemned {
    /// Whether it has been condemned for `grace` by now. A time in the future is from a clock that was wrong.
    pub fn is_due(&self, now: Timestamp, grace: std::time::Duration) -> bool {
        self.since <= now && u64::try_from(now.duration_since(self.since).as_secs()).unwrap_or(0) >= grace.as_secs()
    }
}

/// The marks of one snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// See [`Held`].
    pub held: Option<Held>,
    /// See [`Pinned`].
    pub pinned: Option<Pinned>,
    /// See [`Condemned`].
    pub condemned: Option<Condemned>,
}

impl Marks {
    /// Whether it is pinned, and nobody has cleared it.
    pub fn is_pinned(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| !pinned.cleared)
    }
}

/// What `unhold` took off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// It was held.
    pub held: bool,
    /// It was pinned.
    pub pinned: bool,
}

impl Store {
    /// The marks of a snapshot; none where there is no such snapshot.
    ///
    /// # Errors
    /// When one is there and cannot be read: it may be what keeps the snapshot.
    pub fn marks(&self, id: &RequestId) -> Result<Marks> {
        let folder = self.layout.snapshot(id);
        Ok(Marks { held: load(&folder, HELD)?, pinned: load(&folder, PINNED)?, condemned: load(&folder, CONDEMNED)? })
    }

    /// Holds a snapshot, and takes back that it was condemned.
    ///
    /// # Errors
    /// Of kind usage when there is no such snapshot; with the path.
    pub fn hold(&self, id: &RequestId, reason: Option<&str>, now: Timestamp) -> Result<()> {
        let _lock = self.lock()?;
        self.must_be_there(id)?;
        self.mark(id, HELD, &Held { version: config::VERSION, since: now, reason: reason.map(str::to_owned) })?;
        self.unmark(id, CONDEMNED)
    }

    /// Lets go of a snapshot that is held or pinned.
    ///
    /// # Errors
    /// Of kind usage when there is no such snapshot, or it is neither; with the path.
    pub fn unhold(&self, id: &RequestId) -> Result<Released> {
        let _lock = self.lock()?;
        self.must_be_there(id)?;
        let marks = self.marks(id)?;
        let released = Released { held: marks.held.is_some(), pinned: marks.is_pinned() };
        if let Some(pinned) = marks.pinned.filter(|pinned| !pinned.cleared) {
            self.mark(id, PINNED, &Pinned { cleared: true, ..pinned })?;
        }
        if released.held {
            self.unmark(id, HELD)?;
        }
        if released.held || released.pinned {
            return Ok(released);
        }
        Err(Error::usage(format!("{id} is neither held nor pinned")).hint("nightsafe-server snapshots shows what is."))
    }

    /// Notes that a snapshot is pinned. The lock is held.
    pub(super) fn pin(&self, id: &RequestId, by: &RequestId, now: Timestamp) -> Result<()> {
        self.mark(id, PINNED, &Pinned { version: config::VERSION, since: now, by: by.clone(), cleared: false })
    }

    /// Notes that a snapshot is condemned. The lock is held.
    pub(super) fn condemn(&self, id: &RequestId, by: By, plan: &str, now: Timestamp) -> Result<()> {
        self.mark(id, CONDEMNED, &Condemned { version: config::VERSION, since: now, by, plan: plan.to_owned() })
    }

    /// Takes that back. The lock is held.
    pub(super) fn spare(&self, id: &RequestId) -> Result<()> {
        self.unmark(id, CONDEMNED)
    }

    fn must_be_there(&self, id: &RequestId) -> Result<()> {
        if self.layout.snapshot(id).is_dir() {
            return Ok(());
        }
        Err(Error::usage(format!("there is no snapshot {id} in {}", self.path().display()))
            .hint("nightsafe-server snapshots lists what is kept."))
    }

    fn mark<T: Serialize>(&self, id: &RequestId, name: &str, mark: &T) -> Result<()> {
        let text = toml::to_string(mark).map_err(|error| Error::failed(format!("could not write {name}")).because(error))?;
        atomic::write(&self.layout.snapshot(id).join(name), text.as_bytes(), FILE_MODE)
    }

    fn unmark(&self, id: &RequestId, name: &str) -> Result<()> {
        let folder = self.layout.snapshot(id);
        atomic::remove(&folder.join(name))?;
        atomic::sync_folder(&folder)
    }
}

fn load<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>> {
    if folder.join(name).symlink_metadata().is_err() {
        return Ok(None);
    }
    let read = || {
        let file = beneath::regular_file(beneath::folder(folder)?, Path::new(name))?;
        let bytes = untrusted::read_bounded(file, LIMIT).map_err(|error| Error::failed("it is too long").because(error))?;
        config::parse(name, &bytes).map_err(|error| error.with_kind(base::Kind::Failed))
    };
    read().map(Some).map_err(|error| {
        error
            .context(format!("the mark {} cannot be read", folder.join(name).display()))
            .hint("Remove that file if it is damaged, and hold the snapshot again if it was held.")
    })
}
