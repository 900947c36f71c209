//! `[[dataset]]` and `[[allow]]` of `client.toml`: what is backed up, and what of it is taken.

use super::{Commands, PingUrl, SnapshotWith};
use crate::error::{Error, Result};
use crate::{ByteSize, Dataset, Name, Span};
use serde::Deserialize;
use std::path::PathBuf;

// What a dataset, what is allowed and a group have in common stands in each of them: serde's `flatten` does not work beside
// `deny_unknown_fields`, and a wrong name is to be refused.

/// One dataset that is backed up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetEntry {
    /// `module:path`.
    pub address: Dataset,
    /// Nodes that get it. Default: the default node.
    #[serde(default)]
    pub nodes: Vec<Name>,
    /// Patterns in gitignore form of what is left out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Patterns of the exceptions to `exclude`.
    #[serde(default)]
    pub include: Vec<String>,
    /// Whether the content of folders with a `CACHEDIR.TAG` is left out.
    #[serde(default)]
    pub exclude_caches: bool,
    /// Whether other file systems below the path are left out.
    #[serde(default)]
    pub one_file_system: bool,
    /// Files larger than this are left out.
    pub max_file_size: Option<ByteSize>,
    /// A file with the names of what is taken; nothing else is then.
    pub files_from: Option<PathBuf>,
    /// Whether it goes through the encrypted archive instead of into a mirror that the node can read.
    #[serde(default)]
    pub sealed: bool,
    /// An address that hears of its backups. Default: none but the client's own.
    pub ping: Option<PingUrl>,
    /// It is due when its last success is older than this. Default: never by itself.
    pub every: Option<Span>,
    /// A program and its arguments, run before it is read.
    #[serde(default)]
    pub before: Vec<String>,
    /// A program and its arguments, run after it was read, whatever happened.
    #[serde(default)]
    pub after: Vec<String>,
    /// How long each of these may run. Default: 10 minutes.
    pub command_time_limit: Option<Span>,
    /// The file system's snapshot from which it is read.
    pub snapshot: Option<SnapshotWith>,
    /// How much may change while a snapshot of LVM is there. Default: what a thin volume needs, which is nothing.
    pub snapshot_size: Option<ByteSize>,
    /// zstd's level, from 1 to 19. Default: 3.
    pub level: Option<u8>,
    /// How many bytes a second the nodes may fetch of it, all together. Default: as many as they can.
    pub bandwidth: Option<ByteSize>,
}

/// A folder (or for databases `*`) whose datasets `submit` may name without their being listed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowEntry {
    /// The module's name.
    pub module: String,
    /// An absolute folder, or `*`.
    pub under: String,
    /// As in `[[dataset]]`; patterns are against the path that is submitted.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// As in `[[dataset]]`.
    #[serde(default)]
    pub include: Vec<String>,
    /// As in `[[dataset]]`.
    #[serde(default)]
    pub exclude_caches: bool,
    /// As in `[[dataset]]`.
    #[serde(default)]
    pub one_file_system: bool,
    /// As in `[[dataset]]`.
    pub max_file_size: Option<ByteSize>,
    /// As in `[[dataset]]`.
    #[serde(default)]
    pub sealed: bool,
}

/// What of a dataset is taken, as the configuration says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choosing {
    /// Patterns in gitignore form of what is left out.
    pub exclude: Vec<String>,
    /// Patterns of the exceptions.
    pub include: Vec<String>,
    /// Whether the content of folders with a `CACHEDIR.TAG` is left out.
    pub exclude_caches: bool,
    /// Whether other file systems are left out.
    pub one_file_system: bool,
    /// Files larger than this are left out.
    pub max_file_size: Option<ByteSize>,
    /// A file with the names of what is taken.
    pub files_from: Option<PathBuf>,
}

impl Choosing {
    /// The names of the settings that are there.
    pub fn names(&self) -> Vec<&'static str> {
        let set = [
            ("exclude", !self.exclude.is_empty()),
            ("include", !self.include.is_empty()),
            ("exclude_caches", self.exclude_caches),
            ("one_file_system", self.one_file_system),
            ("max_file_size", self.max_file_size.is_some()),
            ("files_from", self.files_from.is_some()),
        ];
        set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
    }
}

impl DatasetEntry {
    /// What of it is taken.
    pub fn choosing(&self) -> Choosing {
        Choosing {
            exclude: self.exclude.clone(),
            include: self.include.clone(),
            exclude_caches: self.exclude_caches,
            one_file_system: self.one_file_system,
            max_file_size: self.max_file_size,
            files_from: self.files_from.clone(),
        }
    }

    /// The names of the settings that are there and that not every module carries out.
    pub fn particular(&self) -> Vec<&'static str> {
        let snapshot = self.snapshot.map(|_| "snapshot");
        self.choosing().names().into_iter().chain(self.sealed.then_some("sealed")).chain(snapshot).collect()
    }

    /// The names of the settings that are there and that only what goes through the archive can carry out.
    pub fn of_archives(&self) -> Vec<&'static str> {
        let set = [("level", self.level.is_some()), ("bandwidth", self.bandwidth.is_some())];
        set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
    }

    /// What is run around it.
    pub fn commands(&self) -> Commands {
        Commands::new(&self.before, &self.after, self.command_time_limit)
    }

    /// Checks what the types do not say.
    pub(super) fn check(&self) -> Result<()> {
        self.commands().check(self.command_time_limit.is_some())?;
        super::around::check_every(self.every)?;
        if self.level.is_some_and(|level| !(1..=Self::HIGHEST_LEVEL).contains(&level)) {
            return Err(Error::usage(format!("level must be from 1 to {}", Self::HIGHEST_LEVEL))
                .hint("Higher ones would need windows that no reader of archives accepts."));
        }
        if self.bandwidth.is_some_and(|bytes| bytes < Self::LEAST_BANDWIDTH) {
            return Err(Error::usage(format!("bandwidth must be at least {} (a second)", Self::LEAST_BANDWIDTH)));
        }
        if self.snapshot.is_some() && !self.one_file_system {
            return Err(Error::usage("snapshot needs one_file_system = true")
                .hint("A snapshot is of one file system; what is mounted below it is not in it, and would be missing without a word."));
        }
        if self.snapshot_size.is_some() && self.snapshot != Some(SnapshotWith::Lvm) {
            return Err(Error::usage("snapshot_size is for snapshot = \"lvm\""));
        }
        Ok(())
    }

    /// zstd's highest level that readers of archives accept whatever is compressed.
    pub const HIGHEST_LEVEL: u8 = 19;

    /// The least bandwidth: with less, nodes would take a connection for a dead one.
    const LEAST_BANDWIDTH: ByteSize = ByteSize(256 << 10);
}

impl AllowEntry {
    /// What of a dataset below it is taken.
    pub fn choosing(&self) -> Choosing {
        Choosing {
            exclude: self.exclude.clone(),
            include: self.include.clone(),
            exclude_caches: self.exclude_caches,
            one_file_system: self.one_file_system,
            max_file_size: self.max_file_size,
            files_from: None,
        }
    }

    /// The names of the settings that are there and that not every module carries out.
    pub fn particular(&self) -> Vec<&'static str> {
        self.choosing().names().into_iter().chain(self.sealed.then_some("sealed")).collect()
    }

    /// Whether `dataset` lies under it.
    pub(super) fn holds(&self, dataset: &Dataset) -> bool {
        let path = dataset.path();
        self.module == dataset.module()
            && (self.under == "*"
                || path == self.under
                || self.under == "/" && path.starts_with('/')
                || path.strip_prefix(self.under.as_str()).is_some_and(|rest| rest.starts_with('/')))
    }
}
