//! The access list: who may send, who may read, who may change the list. Parsed from `access.toml` and `keys/*.pub`.
//!
//! Knows nothing of commits and signatures on the list (the gate and the poller check those), and opens no network.

mod authorized;
mod edit;
pub mod gitosis;
pub mod history;
pub mod limits;
mod parse;
mod serialise;

pub use authorized::{KeyLine, authorized_line, line_of_key};
pub use edit::{ClientChange, NewClient};
pub use limits::Limits;
pub use parse::openssh;

use crate::verdict::Role;
use base::config::{Reach, SshAddress};
use base::{At, ByteSize, Dataset, DatasetPattern, Error, Keep, Name, Result, Span, untrusted};
use serde::Deserialize;
use ssh_key::PublicKey;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The name of the list's file.
pub const LIST: &str = "access.toml";
/// The folder of the keys, beside it.
pub const KEYS: &str = "keys";
/// The largest list that is read.
pub const LIST_LIMIT: usize = 4 << 20;
/// The largest key file that is read.
pub const KEY_LIMIT: usize = 16 << 10;

/// What a client may do, and how the node reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientGrant {
    /// The keys that log in and sign requests.
    pub keys: Vec<PublicKey>,
    /// Where `keys` come from, in the same order.
    pub key_files: Vec<String>,
    /// How the node gets to it.
    pub reach: Reach,
    /// The account that serves the export folder.
    pub address: Option<SshAddress>,
    /// The account that serves git repositories, where it is another one.
    pub git_address: Option<SshAddress>,
    /// The client's host key.
    pub host_key: Option<String>,
    /// The datasets that are accepted from it.
    pub allow: Vec<DatasetPattern>,
    /// How much it may store: its own quota, or else that of `[defaults]`.
    pub quota: Option<ByteSize>,
    /// Whether `quota` is that of `[defaults]` (or of nobody).
    pub default_quota: bool,
    /// What it may use, where the list says so for it: else what `[defaults]` says.
    pub limits: Limits,
    /// How long its parts wait for their whole, where the list says so for it.
    pub part_ttl: Option<Span>,
    /// What is kept of its datasets, where no [`KeepFor`] says otherwise: else what `[defaults]` says.
    pub keep: Option<Keep>,
    /// How often a snapshot is expected of each dataset, in the same way.
    pub expect: Option<Span>,
    /// What is kept of some of its datasets: the first that names one counts.
    pub keep_for: Vec<KeepFor>,
    /// Whether nothing is taken from it for now.
    pub paused: bool,
}

/// How long parts wait where the list says nothing.
const PART_TTL: Duration = Duration::from_secs(30 * 86_400);

impl ClientGrant {
    /// Whether this client may store `dataset`.
    pub fn allows(&self, dataset: &Dataset) -> bool {
        self.allow.iter().any(|pattern| pattern.matches(dataset))
    }
}

/// What is kept of some datasets of a client.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepFor {
    /// Which.
    pub datasets: DatasetPattern,
    /// The rules; else the client's.
    pub keep: Option<Keep>,
    /// How often a snapshot is expected; else as the client says.
    pub expect: Option<Span>,
}

/// What a restorer may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorerGrant {
    /// The keys that log in.
    pub keys: Vec<PublicKey>,
    /// Where `keys` come from, in the same order.
    pub key_files: Vec<String>,
    /// Clients and patterns of their datasets.
    pub read: Vec<(Name, DatasetPattern)>,
}

impl RestorerGrant {
    /// Whether this restorer may read `dataset` of `client`.
    pub fn reads(&self, client: &Name, dataset: &Dataset) -> bool {
        self.read.iter().any(|(name, pattern)| name == client && pattern.matches(dataset))
    }

    /// Whether anything of `client` may be read.
    pub fn reads_any(&self, client: &Name) -> bool {
        self.read.iter().any(|(name, _)| name == client)
    }

    /// Whether everything of `client` may be read.
    pub fn reads_all(&self, client: &Name) -> bool {
        self.read.iter().any(|(name, pattern)| name == client && pattern.as_str() == "*")
    }
}

/// The whole list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessList {
    /// Comment lines at the top of the file.
    pub header: Vec<String>,
    /// The quota of clients without one of their own.
    pub default_quota: Option<ByteSize>,
    /// What clients may use that have no limits of their own.
    pub default_limits: Limits,
    /// How long parts of clients without a setting of their own wait for their whole.
    pub default_part_ttl: Option<Span>,
    /// What is kept of clients that do not say; without it everything is.
    pub default_keep: Option<Keep>,
    /// How often a snapshot is expected of them.
    pub default_expect: Option<Span>,
    /// Who may change the list.
    pub admins: BTreeMap<Name, Vec<PublicKey>>,
    /// Where the administrators' keys come from, in the same order.
    pub admin_key_files: BTreeMap<Name, Vec<String>>,
    /// Who may send.
    pub clients: BTreeMap<Name, ClientGrant>,
    /// Who may read.
    pub restorers: BTreeMap<Name, RestorerGrant>,
}

impl AccessList {
    /// Reads the list from the bytes of its file and of the key files by their names (`web1.pub`).
    ///
    /// # Errors
    /// Of kind usage, with the line and the field.
    pub fn parse(list: &[u8], keys: &BTreeMap<String, Vec<u8>>) -> Result<Self> {
        parse::whole(list, &mut |file| Ok(keys.get(file).cloned()))
    }

    /// Reads a published list: `access.toml` and `keys/` below `folder`.
    ///
    /// # Errors
    /// With the path, or as [`AccessList::parse`].
    pub fn load(folder: &Path) -> Result<Self> {
        parse::whole(&read_list(folder)?, &mut |file| read_key(folder, file))
    }

    /// The role of a key, if it has one.
    pub fn who(&self, key: &PublicKey) -> Option<Role> {
        let has = |keys: &[PublicKey]| keys.iter().any(|known| known.key_data() == key.key_data());
        let admins = self.admins.iter().filter(|(_, keys)| has(keys)).map(|(name, _)| Role::Admin(name.clone()));
        let clients = self.clients.iter().filter(|(_, grant)| has(&grant.keys)).map(|(name, _)| Role::Client(name.clone()));
        let restorers = self.restorers.iter().filter(|(_, grant)| has(&grant.keys)).map(|(name, _)| Role::Restorer(name.clone()));
        admins.chain(clients).chain(restorers).next()
    }

    /// What this client may use.
    pub fn limits(&self, grant: &ClientGrant) -> Limits {
        grant.limits.or(self.default_limits)
    }

    /// How long an accepted part of this client waits for its whole before it is dropped.
    pub fn part_ttl(&self, grant: &ClientGrant) -> Duration {
        grant.part_ttl.or(self.default_part_ttl).map_or(PART_TTL, |span| span.0)
    }

    /// What is to be kept of a client's dataset, and how often a snapshot of it is expected (at any time, if nobody says).
    /// Without rules everything is kept, also of clients that are not in the list any more.
    pub fn keeping(&self, client: &Name, dataset: &Dataset) -> (Option<&Keep>, Duration) {
        let Some(grant) = self.clients.get(client) else { return (None, Duration::ZERO) };
        let own = grant.keep_for.iter().find(|own| own.datasets.matches(dataset));
        let keep = own.and_then(|own| own.keep.as_ref()).or(grant.keep.as_ref()).or(self.default_keep.as_ref());
        let expect = own.and_then(|own| own.expect).or(grant.expect).or(self.default_expect);
        (keep, expect.map_or(Duration::ZERO, |span| span.0))
    }

    /// The keys of a client, none if there is no such client.
    pub fn client_keys(&self, client: &Name) -> Vec<PublicKey> {
        self.clients.get(client).map(|grant| grant.keys.clone()).unwrap_or_default()
    }

    /// The administrator whose key it is.
    pub fn admin_of(&self, key: &PublicKey) -> Option<&Name> {
        self.admins.iter().find(|(_, keys)| keys.iter().any(|known| known.key_data() == key.key_data())).map(|(name, _)| name)
    }
}

/// What a published list says of one role, without the keys of all the others being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// There is no such entry.
    Absent,
    /// A client, with the limits that `[defaults]` gives it.
    Client(Box<ClientGrant>),
    /// An administrator.
    Admin,
    /// A restorer.
    Restorer(RestorerGrant),
}

/// Looks up one role in the published list below `folder`.
///
/// # Errors
/// With the path, or as [`AccessList::parse`].
pub fn entry(folder: &Path, role: &Role) -> Result<Entry> {
    parse::one(&read_list(folder)?, role, &mut |file| read_key(folder, file))
}

fn read_list(folder: &Path) -> Result<Vec<u8>> {
    let path = folder.join(LIST);
    Ok(untrusted::read(&path, LIST_LIMIT)
        .map_err(|e| e.hint("The poller publishes the list; run nightsafe-server poll once, and let the gate's account read it."))?
        .bytes)
}

fn read_key(folder: &Path, file: &str) -> Result<Option<Vec<u8>>> {
    let path = folder.join(KEYS).join(file);
    match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => {
            other.at("stat", &path)?;
            Ok(Some(untrusted::read(&path, KEY_LIMIT)?.bytes))
        }
    }
}

/// Whether `text` can be the name of a key file: one plain component that ends in `.pub`.
pub fn is_key_file_name(text: &str) -> bool {
    let stem = text.strip_suffix(".pub").unwrap_or_default();
    stem.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.len() <= 100
        && stem.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@'))
}

fn wrong(line: usize, what: impl std::fmt::Display) -> Error {
    Error::usage(format!("{LIST}, line {line}: {what}"))
}

#[cfg(test)]
mod tests;
