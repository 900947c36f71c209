//! Changes to the list that commands make: each keeps the list one that the parser accepts.
//!
//! Does not sign or send: the command commits what [`AccessList::to_files`] gives.

use super::{AccessList, ClientGrant, Limits, RestorerGrant, limits, parse};
use crate::verdict::Role;
use base::config::{Reach, SshAddress};
use base::{ByteSize, Dataset, DatasetPattern, Error, Keep, Name, Result, Span};
use ssh_key::PublicKey;
use std::collections::BTreeSet;

/// A client to be added.
#[derive(Debug, Clone)]
pub struct NewClient {
    /// Its login and signing key.
    pub key: PublicKey,
    /// The account that serves the export folder.
    pub address: Option<SshAddress>,
    /// The account that serves git repositories, where it is another one.
    pub git_address: Option<SshAddress>,
    /// Its host key, `ssh-ed25519 AAAA…`; needed with an address.
    pub host_key: Option<String>,
    /// What is accepted from it; nothing unless said.
    pub allow: Vec<DatasetPattern>,
    /// Its own quota.
    pub quota: Option<ByteSize>,
}

/// What is changed of a client. What is `None` stays as it is, `Some(None)` is left to `[defaults]`.
#[derive(Debug, Clone, Default)]
pub struct ClientChange {
    /// What is kept of it.
    pub keep: Option<Option<Keep>>,
    /// How often a snapshot is expected.
    pub expect: Option<Option<Span>>,
    /// How much may be kept.
    pub quota: Option<Option<ByteSize>>,
    /// What it may use; the last one counts where two are of one name.
    pub limits: Vec<limits::Change>,
}

impl AccessList {
    /// The first list of a node: one administrator and nothing else.
    ///
    /// # Errors
    /// Of kind usage when the key is of no usable kind.
    pub fn first(admin: &Name, key: &PublicKey) -> Result<Self> {
        let mut list = Self::default();
        list.add_admin(admin, key)?;
        Ok(list)
    }

    /// Adds an administrator, or another key to one.
    ///
    /// # Errors
    /// Of kind usage when somebody has that key.
    pub fn add_admin(&mut self, name: &Name, key: &PublicKey) -> Result<()> {
        let (key, file) = (self.new_key(key)?, self.new_key_file(name));
        self.admin_key_files.entry(name.clone()).or_default().push(file);
        self.admins.entry(name.clone()).or_default().push(key);
        Ok(())
    }

    /// Adds a client.
    ///
    /// # Errors
    /// Of kind usage when the name or the key is taken, or the host key is missing or unusable.
    pub fn add_client(&mut self, name: &Name, new: NewClient) -> Result<()> {
        if self.clients.contains_key(name) {
            return Err(Error::usage(format!("there is a client {name} already")).hint("Remove it first, or choose another name."));
        }
        let key = self.new_key(&new.key)?;
        let host_key = match &new.host_key {
            Some(text) => Some(parse::openssh(&parse::public_key(text).map_err(|e| e.context("the host key is not usable"))?)?),
            None if new.address.is_some() || new.git_address.is_some() => {
                return Err(Error::usage(format!("the host key of {name} is missing"))
                    .hint("The node talks to nobody whose host key it does not know."));
            }
            None => None,
        };
        let grant = ClientGrant {
            keys: vec![key],
            key_files: vec![self.new_key_file(name)],
            reach: Reach::Ssh,
            address: new.address,
            git_address: new.git_address,
            host_key,
            allow: new.allow,
            quota: new.quota.or(self.default_quota),
            default_quota: new.quota.is_none(),
            limits: Limits::default(),
            part_ttl: None,
            keep: None,
            expect: None,
            keep_for: Vec::new(),
            paused: false,
        };
        self.clients.insert(name.clone(), grant);
        Ok(())
    }

    /// Takes a client out of the list. What it stored stays.
    ///
    /// # Errors
    /// Of kind usage when there is none.
    pub fn remove_client(&mut self, name: &Name) -> Result<()> {
        self.clients.remove(name).map(|_| ()).ok_or_else(|| unknown(name))
    }

    /// Pauses a client, or lets it go on.
    ///
    /// # Errors
    /// Of kind usage when there is none.
    pub fn pause_client(&mut self, name: &Name, paused: bool) -> Result<()> {
        self.clients.get_mut(name).ok_or_else(|| unknown(name))?.paused = paused;
        Ok(())
    }

    /// Has a client dial in from now on: the node logs in to it no more.
    ///
    /// # Errors
    /// Of kind usage when there is none.
    pub fn let_dial(&mut self, name: &Name) -> Result<()> {
        let grant = self.clients.get_mut(name).ok_or_else(|| unknown(name))?;
        (grant.reach, grant.address, grant.git_address, grant.host_key) = (Reach::Dial, None, None, None);
        Ok(())
    }

    /// Has the node log in to a client from now on, which dialled before or was to be found elsewhere.
    ///
    /// # Errors
    /// Of kind usage when there is none, or the host key is unusable.
    pub fn let_log_in(&mut self, name: &Name, address: SshAddress, git_address: Option<SshAddress>, host_key: &str) -> Result<()> {
        let grant = self.clients.get_mut(name).ok_or_else(|| unknown(name))?;
        let host_key = parse::openssh(&parse::public_key(host_key).map_err(|e| e.context("the host key is not usable"))?)?;
        (grant.reach, grant.address, grant.git_address, grant.host_key) = (Reach::Ssh, Some(address), git_address, Some(host_key));
        Ok(())
    }

    /// Says what is kept of a client, how often a snapshot is expected, and what it may use.
    ///
    /// # Errors
    /// Of kind usage when there is none.
    pub fn set_client(&mut self, name: &Name, change: ClientChange) -> Result<()> {
        let grant = self.clients.get_mut(name).ok_or_else(|| unknown(name))?;
        grant.limits = change.limits.iter().try_fold(grant.limits, |limits, change| limits.with(change))?;
        if let Some(keep) = change.keep {
            grant.keep = keep;
        }
        if let Some(expect) = change.expect {
            grant.expect = expect;
        }
        if let Some(quota) = change.quota {
            grant.quota = quota.or(self.default_quota);
            grant.default_quota = quota.is_none();
        }
        Ok(())
    }

    /// Adds a restorer.
    ///
    /// # Errors
    /// Of kind usage when the name or the key is taken.
    pub fn add_restorer(&mut self, name: &Name, key: &PublicKey, read: Vec<(Name, DatasetPattern)>) -> Result<()> {
        if self.restorers.contains_key(name) {
            return Err(Error::usage(format!("there is a restorer {name} already")));
        }
        let keys = vec![self.new_key(key)?];
        let key_files = vec![self.new_key_file(name)];
        self.restorers.insert(name.clone(), RestorerGrant { keys, key_files, read });
        Ok(())
    }

    /// Gives somebody who is in the list one key more.
    ///
    /// # Errors
    /// Of kind usage when somebody has that key, or nobody is called so.
    pub fn add_key(&mut self, role: &Role, key: &PublicKey) -> Result<()> {
        let (key, file) = (self.new_key(key)?, self.new_key_file(role.name()));
        let found = match role {
            Role::Client(name) => self.clients.get_mut(name).map(|grant| (&mut grant.keys, &mut grant.key_files)),
            Role::Restorer(name) => self.restorers.get_mut(name).map(|grant| (&mut grant.keys, &mut grant.key_files)),
            Role::Admin(name) => self.admins.get_mut(name).zip(self.admin_key_files.get_mut(name)),
            Role::Export(_) => None,
        };
        let (keys, files) = found.ok_or_else(|| Error::usage(format!("there is no {} {}", role.word(), role.name())))?;
        keys.push(key);
        files.push(file);
        Ok(())
    }

    /// Takes more of a client, and gives what is new of it: what another pattern names already is not.
    ///
    /// # Errors
    /// Of kind usage when there is no such client.
    pub fn allow_also(&mut self, name: &Name, patterns: &[DatasetPattern]) -> Result<Vec<DatasetPattern>> {
        let grant = self.clients.get_mut(name).ok_or_else(|| unknown(name))?;
        let mut added = Vec::new();
        for pattern in patterns {
            let covered = pattern.as_str().parse::<Dataset>().is_ok_and(|dataset| grant.allows(&dataset));
            if !covered && !grant.allow.contains(pattern) {
                grant.allow.push(pattern.clone());
                added.push(pattern.clone());
            }
        }
        Ok(added)
    }

    /// Takes a restorer out of the list.
    ///
    /// # Errors
    /// Of kind usage when there is none.
    pub fn remove_restorer(&mut self, name: &Name) -> Result<()> {
        self.restorers.remove(name).map(|_| ()).ok_or_else(|| Error::usage(format!("there is no restorer {name}")))
    }

    /// The key without its comment, if nobody has it yet.
    fn new_key(&self, key: &PublicKey) -> Result<PublicKey> {
        let key = parse::public_key(&parse::openssh(key)?)?;
        match self.who(&key) {
            None => Ok(key),
            Some(role) => Err(Error::usage(format!("that key belongs to {} {} already", role.word(), role.name()))
                .hint("Each key has one owner; make another key pair.")),
        }
    }

    /// A file name for a key of `name` that nobody's key has: people and machines may be called the same.
    fn new_key_file(&self, name: &Name) -> String {
        let taken: BTreeSet<&String> = self.owners().flat_map(|(_, _, files)| files).collect();
        let numbered = |n: usize| if n == 1 { format!("{name}.pub") } else { format!("{name}@{n}.pub") };
        (1..=taken.len() + 1).map(numbered).find(|file| !taken.contains(file)).unwrap_or_default()
    }
}

fn unknown(name: &Name) -> Error {
    Error::usage(format!("there is no client {name}"))
}
