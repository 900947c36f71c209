//! Finding and proving what is to be read back: from a node over ssh, or from a store on a local path.
//!
//! `source` reads, `choose` picks, `proof` believes nothing that a client has not signed, `seen` remembers how far it went.

pub mod choose;
pub mod epochs;
pub mod history;
pub mod keys;
pub mod last;
pub mod proof;
pub mod seen;
pub mod source;

use crate::{Globals, output};
use archive::epoch::IdentityFile;
use archive::snapshot::SnapshotReader;
use base::config::ClientConfig;
use base::{Address, Claim, Dataset, Error, Name, RequestId, Result};
use choose::{At, Offered};
use jiff::tz::TimeZone;
use proof::Proven;
use source::Source;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where is read from, and whom to believe. Every command that reads snapshots has these options.
#[derive(Debug, Clone, clap::Args)]
pub struct From {
    /// Read a client's store on this machine, as in /srv/nightsafe/web1, instead of asking a node.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The node to read from. Default: the first of the configuration.
    #[arg(long, conflicts_with = "store")]
    node: Option<Name>,
    /// Whose signatures count: a list of allowed signers as ssh-keygen reads it. Default on a client: its own key.
    #[arg(long, env = "NIGHTSAFE_SIGNERS", value_name = "FILE")]
    signers: Option<PathBuf>,
}

/// A place that snapshots are read from.
pub struct Recall {
    /// The configuration, where there is one.
    pub config: Option<ClientConfig>,
    /// Where is read.
    pub source: Source,
    signers: Option<PathBuf>,
}

impl Recall {
    /// Opens what the options name. With `--store` no configuration is needed.
    ///
    /// # Errors
    /// Of kind usage when the options do not fit; otherwise as opening fails.
    pub fn open(globals: &Globals, from: From) -> Result<Self> {
        let config = if from.store.is_some() && !globals.config.exists() { None } else { Some(crate::commands::load(globals)?) };
        let source = match (&from.store, &config) {
            (Some(folder), _) => Source::local(folder)?,
            (None, Some(config)) => Source::remote(config, from.node.as_ref())?,
            (None, None) => return Err(Error::usage("say which node or which --store to read from")),
        };
        Ok(Self { config, source, signers: from.signers })
    }

    /// A node of the configuration, with the signers that the environment names.
    ///
    /// # Errors
    /// Of kind usage.
    pub fn of_node(config: &ClientConfig, node: &Name) -> Result<Self> {
        let signers = std::env::var_os("NIGHTSAFE_SIGNERS").filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(Self { source: Source::remote(config, Some(node))?, config: Some(config.clone()), signers })
    }

    /// This machine's own name, where it is a client.
    pub fn own_name(&self) -> Option<&Name> {
        self.config.as_ref().and_then(|config| config.name.as_ref())
    }

    /// What a command asks for by `text` and `at`; a name that is none gets the nearest of what is offered.
    ///
    /// # Errors
    /// Of kind usage.
    pub fn wanted(&self, text: &str, at: Option<&str>, offered: &[Offered]) -> Result<Wanted> {
        Wanted::parse(text, at).map_err(|error| {
            let is_name = text.parse::<RequestId>().is_ok() || Address::parse(text, &modules::names(None)).is_ok();
            if is_name { error } else { choose::near(error, text, offered, self.own_name()) }
        })
    }

    /// Opens a proven archive.
    ///
    /// # Errors
    /// Of kind usage when it is none; otherwise as opening fails.
    pub fn open_archive(&self, proven: Proven, identities: Option<&IdentityFile>) -> Result<SnapshotReader> {
        let proof::Content::Archive(manifest) = proven.content else {
            return Err(Error::usage(format!("{} is no archive", proven.claim.dataset)));
        };
        let identities = identities.ok_or_else(|| {
            Error::usage("archives are encrypted, and no identity was given").hint(format!(
                "Give a keyholder's key with --identity or NIGHTSAFE_IDENTITY. The snapshot was made for: {}.",
                manifest.public.epoch.recipients.join(", ")
            ))
        })?;
        SnapshotReader::open(*manifest, identities, self.source.packs(&proven.claim.client)?)
    }

    /// Whose signatures count.
    ///
    /// # Errors
    /// Of kind usage when nobody's does.
    pub fn signers(&self) -> Result<proof::Signers> {
        proof::Signers::load(self.config.as_ref(), self.signers.as_deref())
    }

    /// Chooses a snapshot of what is offered, which proves nothing.
    ///
    /// # Errors
    /// When there is none; with the nearest names.
    pub fn choose<'a>(&self, offered: &'a [Offered], wanted: &Wanted) -> Result<&'a Offered> {
        match wanted {
            Wanted::Dataset(address, at) => {
                let client = choose::client_of(address, self.own_name(), offered)?;
                choose::choose(offered, &client, &address.dataset, at)
            }
            Wanted::Snapshot(id) => offered.iter().find(|one| one.snapshot == *id).ok_or_else(|| {
                let names: Vec<_> = offered.iter().map(|one| one.snapshot.as_str()).collect();
                Error::failed(format!("there is no snapshot {id}")).hint(base::names::hint(id.as_str(), names))
            }),
        }
    }

    /// Chooses a snapshot and proves it.
    ///
    /// # Errors
    /// When there is none, or it does not verify.
    pub fn prove(&self, offered: &[Offered], wanted: &Wanted) -> Result<Proven> {
        let chosen = self.choose(offered, wanted)?;
        let newest = matches!(wanted, Wanted::Dataset(_, At::Newest));
        let signers = self.signers()?;
        let proven = proof::prove(&self.source, chosen, &signers)?;
        if newest {
            for warning in self.stale(offered, &proven.claim) {
                output::note(format_args!("nightsafe: WARNING: {warning}"));
            }
        }
        Ok(proven)
    }

    /// What is wrong when `proven`, which is offered as the newest, is older than what was seen before, or than what is
    /// offered too. Remembers its number.
    pub fn stale(&self, offered: &[Offered], claim: &Claim) -> Vec<String> {
        let what = format!("{}:{}", claim.client, claim.dataset);
        let mut found = Vec::new();
        // A rescue system may have no place to remember it in; that must not stand in the way of a restore.
        let before = seen::Seen::of(self.config.as_ref()).newest(claim).unwrap_or_else(|error| {
            let error = error.context("how far the node's history goes cannot be compared with what was seen before");
            output::note(format_args!("nightsafe: WARNING: {}", error.render()));
            None
        });
        if let Some(before) = before {
            found.push(format!(
                "{} offers an OLDER HISTORY of {what} than it did before: number {} as the newest, and number {before} was seen.\n  \
                 Newer snapshots are missing there or held back. Ask its administrator, or restore from another node.",
                self.source.name(),
                claim.seq
            ));
        }
        let higher = offered
            .iter()
            .filter(|one| one.client == claim.client && one.dataset == claim.dataset && one.seq > claim.seq)
            .max_by_key(|one| one.seq);
        if let Some(one) = higher {
            found.push(format!(
                "{} accepted {what} out of order: {} has the number {}, which is higher than {} of the one that it calls the newest.\n  \
                 Restore that one with --at {} if it is what you want.",
                self.source.name(),
                one.snapshot,
                one.seq,
                claim.seq,
                one.snapshot
            ));
        }
        found
    }

    /// What this machine remembers of datasets at a node, and in which file.
    ///
    /// # Errors
    /// With the path.
    pub fn remembered(&self) -> Result<(BTreeMap<String, u64>, PathBuf)> {
        let seen = seen::Seen::of(self.config.as_ref());
        let (all, path) = seen.all()?;
        Ok((all, path.to_owned()))
    }
}

/// What a command asks for.
#[derive(Debug)]
pub enum Wanted {
    /// A dataset at a time.
    Dataset(Address, At),
    /// A snapshot by its name alone.
    Snapshot(RequestId),
}

impl Wanted {
    /// Reads `DATASET` or `SNAPSHOT` with what `--at` says.
    ///
    /// # Errors
    /// Of kind usage.
    pub fn parse(text: &str, at: Option<&str>) -> Result<Self> {
        let at = at.map(|at| At::parse(at, &TimeZone::system())).transpose()?;
        match (text.parse::<RequestId>(), at) {
            (Ok(id), None) => id.only_whole().map(Self::Snapshot),
            (Ok(_), Some(_)) => Err(Error::usage("a snapshot has one time; leave out --at")),
            (Err(_), at) => Ok(Self::Dataset(Address::parse(text, &modules::names(None))?, at.unwrap_or(At::Newest))),
        }
    }
}

/// A path as a person writes it (absolute, or below the dataset's path) as one inside the dataset.
pub fn inner_path(dataset: &Dataset, path: &str) -> String {
    let inside = std::path::Path::new(path).strip_prefix(dataset.path()).ok().and_then(std::path::Path::to_str);
    let parts = inside.unwrap_or(path).split('/').filter(|part| !matches!(*part, "" | "."));
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_inside_a_dataset() {
        let dataset = "files:/var/www".parse().unwrap();
        for (path, expected) in
            [("/var/www/a/b", "a/b"), ("a//b/", "a/b"), ("./a", "a"), ("/var/www", ""), (".", ""), ("/var/wwwx", "var/wwwx"), ("/", "")]
        {
            assert_eq!(inner_path(&dataset, path), expected, "{path}");
        }
    }
}
