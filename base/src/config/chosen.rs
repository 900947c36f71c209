//! `[[dataset]]` and `[[allow]]` of `client.toml`: what is backed up, and what of it is taken.

use super::PingUrl;
use crate::{ByteSize, Dataset, Name};
use serde::Deserialize;
use std::path::PathBuf;

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
        self.choosing().names().into_iter().chain(self.sealed.then_some("sealed")).collect()
    }
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
