//! What can be backed up: one folder a module, with its client half, its server half and its way back.
//!
//! Knows neither the commands nor the queue's files. `table` says which modules there are; nothing else in the workspace
//! looks at a module's name.

mod allowance;
mod archived;
mod choosing;
mod declared;
mod dummy;
mod files;
mod git;
mod look;
mod mariadb;
mod postgres;
mod settings;
mod settle;
mod sqlite;
mod table;
#[cfg(test)]
mod testing;

pub use allowance::Allowance;
pub use archive::restore::{FileOptions, Overwrite, RestoreReport};
pub use archived::sweep_staging;
pub use git::adopt::{Adopted, adopt, can_be_adopted, would_add};
pub use git::upkeep::{check_repository, keep_mirror, mark_damaged, mark_whole, mirrored, mirrors};
pub use git::{mirror_name, mirrors_size};
pub use look::{Fate, Look, LookContext, Seen};
pub use settle::{discard, discard_part, lose_packs, pending_parts, settle};
pub use table::{Module, check_settings, client_module, names, restoring_module, server_module};

use archive::part::Parts;
use archive::snapshot::SnapshotReader;
use archive::store::Store;
use base::config::ClientConfig;
use base::config::client::ClientNode;
use base::config::node::Losses;
use base::{Blake3, Claim, Dataset, Error, Monitor, Payload, RequestId, Result, Sha256};
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use transport::Peer;

/// Requests of one lane wait for each other; a long archive does not delay a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Packs are made and fetched.
    Archive,
    /// A mirror is brought up to date, or nothing is carried.
    Git,
}

/// What a client half needs to prepare one request.
#[derive(Clone, Copy)]
pub struct ClientContext<'a> {
    /// The client's configuration.
    pub config: &'a ClientConfig,
    /// The node that the request goes to.
    pub node: &'a ClientNode,
    /// The request's id.
    pub id: &'a RequestId,
    /// Whether the node has asked for it because packs were lost there.
    pub heal: bool,
    /// Words of the person who asked, kept with the snapshot.
    pub tags: &'a [String],
    /// Who is told how it goes on.
    pub monitor: &'a dyn Monitor,
    /// Where the dataset is read instead of at its own place: in a snapshot of its file system.
    pub frozen: Option<&'a Frozen>,
    /// Who keeps the spool within its limit and sends parts of a long archive before it is whole.
    pub parts: Option<&'a dyn Parts>,
}

/// A dataset's place in a snapshot of its file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// Where the snapshot can be read.
    pub root: PathBuf,
    /// Where the dataset is in it; empty when it is all of it.
    pub inner: PathBuf,
    /// What the root of the snapshot is called where it is alive.
    pub alive: PathBuf,
}

/// What the client signs and sends.
#[derive(Debug, Clone)]
pub struct PreparedRequest {
    /// What the signature covers beside the request.
    pub payload: Payload,
    /// What travels in the request's commit as `MF<id>`: a small manifest or list of refs.
    pub attachment: Option<Vec<u8>>,
    /// How much of the source could not be read.
    pub unreadable: u64,
    /// What that was, and why: a line each, where it is known.
    pub ledger: Vec<String>,
    /// How much was left out without anything being lost, as sockets are.
    pub skipped: u64,
    /// Packs that were lost at the node, and of which it brings again what there still was.
    pub repairs: Vec<Blake3>,
    /// How much it is, where that is known: of a mirror it is not.
    pub size: Option<PreparedSize>,
}

/// How much a snapshot holds, before anything is deduplicated or compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreparedSize {
    /// Files, folders and whatever else there is.
    pub entries: u64,
    /// Files alone.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// The client half of a module.
pub trait ClientModule: Send + Sync {
    /// The word before the colon of a dataset.
    fn name(&self) -> &str;

    /// Which requests it waits for.
    fn lane(&self) -> Lane;

    /// Which requests those of this dataset wait for, where that depends on how it is configured.
    fn lane_of(&self, _config: &ClientConfig, _dataset: &Dataset) -> Lane {
        self.lane()
    }

    /// Checks the table `[module.NAME]`. A module that does not say otherwise has no settings.
    ///
    /// # Errors
    /// Of kind usage, with the field.
    fn settings(&self, config: &ClientConfig) -> Result<()> {
        settings::none(config, self.name())
    }

    /// The settings of a `[[dataset]]` or `[[allow]]` that it carries out, beside those that every module has. Others are
    /// refused.
    fn dataset_settings(&self) -> &'static [&'static str] {
        &[]
    }

    /// Looks for the programs that it would start, a sentence each: what `config check` says of it.
    fn programs(&self, _config: &ClientConfig) -> Vec<Result<String>> {
        Vec::new()
    }

    /// Looks, as whoever submits, whether the dataset can be meant: cheap, and silent about what only others can see.
    ///
    /// # Errors
    /// Of kind usage when the dataset is wrong; failed when nothing is there.
    fn check(&self, config: &ClientConfig, dataset: &Dataset) -> Result<()>;

    /// Looks, as the sender, whether the source answers, where that is cheap to know and no path shows it.
    ///
    /// # Errors
    /// With what keeps it from answering.
    fn reach(&self, _config: &ClientConfig, _dataset: &Dataset) -> Result<()> {
        Ok(())
    }

    /// Tells what a backup would take, without making it and without writing anything. It runs as whoever asks, who may
    /// see less than the sender. A module that does not say otherwise knows nothing beforehand.
    ///
    /// # Errors
    /// When the backup could not be made at all.
    fn look(&self, context: &LookContext<'_>, dataset: &Dataset) -> Result<Look> {
        self.check(context.config, dataset)?;
        Ok(Look { lines: vec![look::UNKNOWN.into()], ..Look::default() })
    }

    /// Makes ready what the node will fetch. What a try before left behind for the same id is replaced.
    ///
    /// # Errors
    /// When the dataset cannot be prepared: then there is nothing to be sent.
    fn prepare(&self, context: &ClientContext<'_>, dataset: &Dataset) -> Result<PreparedRequest>;

    /// Brings back what `source` holds. The caller has proven the source.
    ///
    /// # Errors
    /// When it cannot be done at all; what is missing of a large whole is in the report.
    fn restore(&self, context: &RestoreContext<'_>, source: RestoreSource) -> Result<RestoreReport>;
}

/// Where a restore reads.
#[expect(clippy::large_enum_variant, reason = "one is made for a restore")]
pub enum RestoreSource {
    /// An archive.
    Archive(SnapshotReader),
    /// A git mirror.
    Mirror {
        /// Where the mirror is.
        from: MirrorFrom,
        /// The snapshot's name.
        snapshot: RequestId,
        /// The list of refs, as the client signed it.
        refs: Vec<u8>,
    },
    /// Nothing was carried.
    Nothing,
}

/// Where a mirror is.
#[derive(Clone)]
pub enum MirrorFrom {
    /// On this machine.
    Local(PathBuf),
    /// At a node.
    Remote {
        /// The node.
        peer: Arc<Peer>,
        /// The mirror's name there, as in `web1/mirrors/<32 hex>.git`.
        name: String,
    },
}

/// The most that may come of a mirror, whose size nobody has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorLimit {
    /// That many bytes: a person has said so.
    Said(u64),
    /// Nine tenths of what is free. More is an error of kind not-now.
    Free,
    /// The same of a clone in TMPDIR that is only checked. More is an error of kind usage: of this mirror alone, and no damage of it.
    Scratch,
}

/// What is asked of a restore.
#[derive(Clone, Copy)]
pub struct RestoreContext<'a> {
    /// The configuration, where there is one.
    pub config: Option<&'a ClientConfig>,
    /// What is brought back.
    pub dataset: &'a Dataset,
    /// Paths within the dataset; none means all of it.
    pub paths: &'a [String],
    /// Where it comes back to.
    pub to: Destination<'a>,
    /// What is asked of trees of files; a module that has none refuses it ([`FileOptions::refuse`]).
    pub files: FileOptions,
    /// Only these tables of a database; none means all of it. A module that has none refuses them
    /// ([`RestoreContext::refuse_database_options`]).
    pub tables: &'a [String],
    /// Whether what belongs to a whole database server comes back too: its roles.
    pub globals: bool,
    /// Whether a restore command that this machine declares for the module is left out: files come back then.
    pub no_command: bool,
    /// How much may come of a mirror.
    pub limit: MirrorLimit,
    /// Who is told how it goes on.
    pub monitor: &'a dyn Monitor,
}

impl RestoreContext<'_> {
    /// Refuses what can only be asked of databases.
    ///
    /// # Errors
    /// Of kind usage; `what` is said of it.
    pub fn refuse_database_options(&self, what: &str) -> Result<()> {
        if self.tables.is_empty() && !self.globals {
            return Ok(());
        }
        let option = if self.globals { "--globals" } else { "--table" };
        Err(Error::usage(format!("{option} cannot be asked of {what}")).hint("It is for databases that have it."))
    }
}

/// Where a restore brings things back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    /// A folder that becomes what the dataset's path was.
    Folder(&'a Path),
    /// A database, by its name.
    Database(&'a str),
    /// The database server: for what belongs to none of its databases.
    Server,
    /// The standard output, which gets the bytes alone.
    Stdout,
}

impl<'a> Destination<'a> {
    /// The folder, for what can come back to nothing else.
    ///
    /// # Errors
    /// Of kind usage; `what` is said of it.
    pub fn folder(self, what: &str) -> Result<&'a Path> {
        let Self::Folder(folder) = self else {
            return Err(Error::usage(format!("{what} comes back to a folder and to nothing else")).hint("Say which with --target DIR."));
        };
        Ok(folder)
    }
}

/// What a server half needs to fetch one request.
#[derive(Clone, Copy)]
pub struct ServerContext<'a> {
    /// The client's store.
    pub store: &'a Store,
    /// The client's account for archives; called at most when something must be fetched.
    pub peer: &'a dyn Fn() -> Result<Arc<Peer>>,
    /// The client's account for git repositories.
    pub git_peer: &'a dyn Fn() -> Result<Arc<Peer>>,
    /// The folder of the client's mirrors.
    pub mirrors: &'a Path,
    /// How many bytes the client may keep here, mirrors included.
    pub quota: Option<u64>,
    /// What it may use.
    pub allowance: Allowance<'a>,
    /// The longest time that fetching may take.
    pub time: Duration,
    /// The node's clock, which becomes the time of acceptance.
    pub received: Timestamp,
    /// From when on refs that went away are told at once.
    pub losses: Losses,
    /// Has a person told, once and durably, of what honest sources rarely do; it is stored as everything is.
    pub heed: &'a dyn Fn(&str) -> Result<()>,
    /// Who is told how it goes on.
    pub monitor: &'a dyn Monitor,
}

/// What came of a request. An error beside it means: not now, the same request is tried again later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// It is in the store, checked and durable.
    Stored {
        /// The node's clock at acceptance; of the first one when a request is repeated.
        received: Timestamp,
        /// How long it took; of the first one when a request is repeated.
        seconds: u64,
        /// Bytes that came over the network.
        bytes_fetched: u64,
        /// Bytes by which store and mirrors grew.
        bytes_stored: u64,
        /// How much of the source the client could not read.
        unreadable: u64,
        /// The snapshot's name.
        snapshot: Option<String>,
        /// For git, the digest of the list of refs.
        refs: Option<Sha256>,
        /// For git, the refs that changed, a line each.
        changed: Vec<String>,
    },
    /// A rule forbids it.
    Refused {
        /// Why; `missing` when packs are to be sent again.
        reason: String,
        /// Packs that are neither here nor at the client.
        missing: Vec<Blake3>,
    },
    /// It cannot be done; the dataset is to be submitted again.
    Failed {
        /// Why.
        reason: String,
    },
}

/// The server half of a module.
pub trait ServerModule: Send + Sync {
    /// Which requests it waits for.
    fn lane(&self) -> Lane;

    /// Fetches what the proven request leads to, checks it, and makes it durable. Doing it twice does nothing more.
    ///
    /// # Errors
    /// When it cannot be done now and is to be tried again: the peer is away, the disk is full.
    fn fetch(&self, context: &ServerContext<'_>, claim: &Claim, attachment: Option<&[u8]>) -> Result<Fetched>;
}
