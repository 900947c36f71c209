//! From text to the list: every entry and key checked, and every error with its line.
//!
//! Does not open files: keys come from a function of the caller's.

use super::{AccessList, ClientGrant, Entry, KeepFor, LIST, Limits, RestorerGrant, is_key_file_name, wrong};
use crate::verdict::Role;
use base::config::{Reach, SshAddress};
use base::{ByteSize, DatasetPattern, Error, Keep, Name, Result, Span};
use serde::Deserialize;
use ssh_key::{Algorithm, PublicKey};
use std::collections::BTreeMap;
use toml::Spanned;

/// Gives the bytes of a key file, or `None` when there is no such file.
pub(super) type KeyReader<'a> = dyn FnMut(&str) -> Result<Option<Vec<u8>>> + 'a;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(rename = "version")]
    _version: i64,
    /// What holds for clients that say nothing else.
    #[serde(default)]
    defaults: Defaults,
    /// Who may change this list; at least one.
    #[serde(default)]
    admin: BTreeMap<Name, RawAdmin>,
    /// Who may send.
    #[serde(default)]
    client: BTreeMap<Name, RawClient>,
    /// Who may read.
    #[serde(default)]
    restorer: BTreeMap<Name, RawRestorer>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defaults {
    /// How much each client may store. Default: as much as there is room.
    quota: Option<ByteSize>,
    /// What each client may use of the node.
    #[serde(default)]
    limits: Limits,
    /// What is kept of each dataset. Default: everything.
    keep: Option<Keep>,
    /// How often a snapshot of each dataset is expected. Default: as it was so far.
    expect: Option<Span>,
    /// How long parts of a long backup wait for the rest. Default: 30 days.
    part_ttl: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAdmin {
    /// Files in `keys/` with the public keys that sign changes of this list.
    keys: Spanned<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClient {
    /// Files in `keys/` with the public keys that log in and sign requests.
    keys: Spanned<Vec<Spanned<String>>>,
    /// How the node gets at the client: `"ssh"`, where it logs in, or `"dial"`, where the client opens the session. Default: `"ssh"`.
    #[serde(default)]
    reach: Reach,
    /// The account that offers archives, where the node logs in. Default: none, and nothing is fetched.
    address: Option<Spanned<SshAddress>>,
    /// The account that offers git repositories, where it is another one. Default: `address`.
    git_address: Option<Spanned<SshAddress>>,
    /// The client's host key, as `ssh-ed25519 AAAA…`; needed with an address.
    host_key: Option<Spanned<String>>,
    /// What is taken. Default: nothing.
    #[serde(default)]
    allow: Vec<DatasetPattern>,
    /// How much it may store. Default: as `[defaults]` says.
    quota: Option<ByteSize>,
    /// What it may use of the node, where that is something else than `[defaults]` says.
    #[serde(default)]
    limits: Limits,
    /// Whether nothing is taken for now; requests wait.
    #[serde(default)]
    paused: bool,
    /// What is kept of its datasets. Default: as `[defaults]` says.
    keep: Option<Keep>,
    /// How often a snapshot of each dataset is expected. Default: as `[defaults]` says.
    expect: Option<Span>,
    /// What is kept of some of its datasets; the first that names one counts.
    #[serde(default)]
    keep_for: Vec<KeepFor>,
    /// How long parts of a long backup wait for the rest. Default: as `[defaults]` says.
    part_ttl: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRestorer {
    /// Files in `keys/` with the public keys that log in.
    keys: Spanned<Vec<Spanned<String>>>,
    /// What may be read: `CLIENT:MODULE:PATH`, or `CLIENT:*`.
    read: Vec<Spanned<String>>,
}

/// Where the lines of a text end, for finding the line of a byte.
struct Lines(Vec<usize>);

impl Lines {
    /// Looks for them once: a list may name thousands of clients.
    fn new(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    fn of<T>(&self, value: &Spanned<T>) -> usize {
        self.0.partition_point(|end| *end < value.span().start) + 1
    }
}

pub(super) fn whole(list: &[u8], keys: &mut KeyReader<'_>) -> Result<AccessList> {
    let (text, raw) = read(list)?;
    let lines = Lines::new(text);
    let (default_quota, default_part_ttl) = (raw.defaults.quota, raw.defaults.part_ttl);
    let (default_keep, default_expect) = (raw.defaults.keep.clone(), raw.defaults.expect);
    let (header, default_limits) = (header(text), raw.defaults.limits);
    let mut access =
        AccessList { header, default_limits, default_quota, default_part_ttl, default_keep, default_expect, ..AccessList::default() };
    let mut owners = BTreeMap::new();
    for (name, admin) in raw.admin {
        let (found, files) = read_keys(&lines, &Role::Admin(name.clone()), &admin.keys, keys, &mut owners)?;
        access.admins.insert(name.clone(), found);
        access.admin_key_files.insert(name, files);
    }
    if access.admins.is_empty() {
        return Err(Error::usage(format!("{LIST} has no administrator, so nobody could change it any more"))
            .hint("Keep one [admin.NAME] with keys = [\"NAME.pub\"]."));
    }
    for (name, client) in raw.client {
        let role = Role::Client(name.clone());
        access.clients.insert(name, client_grant(&lines, &role, client, access.default_quota, keys, &mut owners)?);
    }
    for (name, restorer) in raw.restorer {
        let role = Role::Restorer(name.clone());
        access.restorers.insert(name, restorer_grant(&lines, &role, restorer, keys, &mut owners)?);
    }
    Ok(access)
}

/// The entry of one role; the keys of others are not read.
pub(super) fn one(list: &[u8], role: &Role, keys: &mut KeyReader<'_>) -> Result<Entry> {
    let (text, mut raw) = read(list)?;
    let (lines, mut owners) = (Lines::new(text), BTreeMap::new());
    Ok(match role {
        Role::Client(name) => match raw.client.remove(name) {
            Some(client) => {
                let mut grant = client_grant(&lines, role, client, raw.defaults.quota, keys, &mut owners)?;
                grant.limits = grant.limits.or(raw.defaults.limits);
                Entry::Client(Box::new(grant))
            }
            None => Entry::Absent,
        },
        Role::Admin(name) if raw.admin.contains_key(name) => Entry::Admin,
        Role::Restorer(name) => match raw.restorer.remove(name) {
            Some(restorer) => Entry::Restorer(restorer_grant(&lines, role, restorer, keys, &mut owners)?),
            None => Entry::Absent,
        },
        Role::Admin(_) | Role::Export(_) => Entry::Absent,
    })
}

fn read(list: &[u8]) -> Result<(&str, Raw)> {
    let raw: Raw = base::config::parse(LIST, list)?;
    let text = std::str::from_utf8(list).map_err(|e| Error::usage(format!("{LIST} is not UTF-8 text")).because(e))?;
    Ok((text, raw))
}

/// The comment lines at the top, which people write to each other.
fn header(text: &str) -> Vec<String> {
    text.lines().take_while(|line| line.starts_with('#')).map(str::to_owned).collect()
}

fn client_grant(
    lines: &Lines,
    role: &Role,
    raw: RawClient,
    default: Option<ByteSize>,
    keys: &mut KeyReader<'_>,
    owners: &mut BTreeMap<Vec<u8>, Role>,
) -> Result<ClientGrant> {
    if let (Reach::Dial, Some(address)) = (raw.reach, raw.address.as_ref().or(raw.git_address.as_ref())) {
        return Err(wrong(lines.of(address), format!("{} {} has reach = \"dial\" and an address", role.word(), role.name()))
            .hint("The node logs in to no client that dials in: leave out address and git_address, or reach = \"dial\"."));
    }
    if let (Reach::Dial, Some(key)) = (raw.reach, &raw.host_key) {
        return Err(wrong(lines.of(key), format!("{} {} has reach = \"dial\" and a host_key", role.word(), role.name()))
            .hint("The node logs in to no client that dials in, and asks for no host key: leave it out, or reach = \"dial\"."));
    }
    let host_key = match &raw.host_key {
        None => None,
        Some(text) => {
            let key = public_key(text.get_ref()).map_err(|e| wrong(lines.of(text), "host_key is no public key").because(e))?;
            Some(openssh(&key)?)
        }
    };
    if let Some(address) = raw.address.as_ref().or(raw.git_address.as_ref())
        && host_key.is_none()
    {
        return Err(wrong(lines.of(address), format!("{} {} has an address but no host_key", role.word(), role.name()))
            .hint("The node talks to nobody whose host key it does not know: write host_key = \"ssh-ed25519 AAAA…\"."));
    }
    let (found, key_files) = read_keys(lines, role, &raw.keys, keys, owners)?;
    Ok(ClientGrant {
        keys: found,
        key_files,
        reach: raw.reach,
        address: raw.address.map(Spanned::into_inner),
        git_address: raw.git_address.map(Spanned::into_inner),
        host_key,
        allow: raw.allow,
        quota: raw.quota.or(default),
        default_quota: raw.quota.is_none(),
        limits: raw.limits,
        part_ttl: raw.part_ttl,
        keep: raw.keep,
        expect: raw.expect,
        keep_for: raw.keep_for,
        paused: raw.paused,
    })
}

fn restorer_grant(
    lines: &Lines,
    role: &Role,
    raw: RawRestorer,
    keys: &mut KeyReader<'_>,
    owners: &mut BTreeMap<Vec<u8>, Role>,
) -> Result<RestorerGrant> {
    let mut read = Vec::new();
    for text in &raw.read {
        read.push(
            read_pattern(text.get_ref())
                .map_err(|e| wrong(lines.of(text), e.one_line()).hint("Write CLIENT:MODULE:PATH, or CLIENT:* for all of a client."))?,
        );
    }
    let (found, key_files) = read_keys(lines, role, &raw.keys, keys, owners)?;
    Ok(RestorerGrant { keys: found, key_files, read })
}

/// `web1:*` or `web1:files:/var/**`.
pub(super) fn read_pattern(text: &str) -> Result<(Name, DatasetPattern)> {
    let (client, pattern) = text.split_once(':').ok_or_else(|| Error::usage(format!("{text:?} does not name a client")))?;
    Ok((Name::new(client)?, DatasetPattern::new(pattern)?))
}

fn read_keys(
    lines: &Lines,
    role: &Role,
    files: &Spanned<Vec<Spanned<String>>>,
    keys: &mut KeyReader<'_>,
    owners: &mut BTreeMap<Vec<u8>, Role>,
) -> Result<(Vec<PublicKey>, Vec<String>)> {
    let who = format!("{} {}", role.word(), role.name());
    if files.get_ref().is_empty() {
        return Err(
            wrong(lines.of(files), format!("{who} has no key")).hint("Name at least one file of keys/, as in keys = [\"NAME.pub\"].")
        );
    }
    let (mut found, mut names) = (Vec::new(), Vec::new());
    for file in files.get_ref() {
        let (line, file) = (lines.of(file), file.get_ref());
        if !is_key_file_name(file) {
            return Err(wrong(line, format!("{file:?} of {who} cannot be the name of a key file"))
                .hint("Write a plain name that ends in .pub; the file lies in keys/."));
        }
        let bytes = keys(file)?.ok_or_else(|| wrong(line, format!("{who} names keys/{file}, which is not there")))?;
        let key = key_file(&bytes).map_err(|e| wrong(line, format!("keys/{file} of {who} is no usable public key")).because(e))?;
        let id = key.to_bytes().map_err(|e| wrong(line, format!("keys/{file} cannot be written anew: {e}")))?;
        if let Some(other) = owners.insert(id, role.clone()) {
            return Err(wrong(line, format!("keys/{file} of {who} holds the same key as one of {} {}", other.word(), other.name()))
                .hint("Each key has one owner and stands there once; make another key pair."));
        }
        found.push(key);
        names.push(file.clone());
    }
    Ok((found, names))
}

/// The one key in a `.pub` file, without its comment.
pub(super) fn key_file(bytes: &[u8]) -> Result<PublicKey> {
    let text = std::str::from_utf8(bytes).map_err(|e| Error::usage("it is not text").because(e))?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match (lines.next(), lines.next()) {
        (Some(line), None) => public_key(line),
        (None, _) => Err(Error::usage("it is empty")),
        (Some(_), Some(_)) => Err(Error::usage("it holds more than one line").hint("One file holds one key.")),
    }
}

/// A public key, without its comment, of a kind that both ends can check.
pub(super) fn public_key(text: &str) -> Result<PublicKey> {
    let key = crate::signature::parse_public_key(text)?;
    if matches!(key.algorithm(), Algorithm::Dsa | Algorithm::Other(_)) {
        return Err(Error::usage(format!("keys of the kind {} are not used any more", key.algorithm())));
    }
    Ok(PublicKey::from(key.key_data().clone()))
}

/// The key as `type base64`, without a comment.
///
/// # Errors
/// When it cannot be written so.
pub fn openssh(key: &PublicKey) -> Result<String> {
    PublicKey::from(key.key_data().clone()).to_openssh().map_err(|e| Error::failed("could not write a public key").because(e))
}
