//! The signed history of the list: each commit holds `access.toml` and `keys/*.pub`, and is signed by an
//! administrator of the version before it.
//!
//! Checks and moves nothing; gate and poller ask the same questions here.

use super::{AccessList, KEY_LIMIT, KEYS, LIST, LIST_LIMIT, is_key_file_name};
use crate::repository::{Repository, TreeEntry};
use crate::signature::read_commit;
use crate::tree::PLAIN;
use base::{Error, Kind, Result};
use std::collections::BTreeMap;

/// The branch of the list.
pub const BRANCH: &str = "access";
/// The most commits in one push.
const COMMITS_LIMIT: usize = 1000;
const FOLDER: u32 = 0o40_000;

/// The list that one commit holds; a commit that holds anything else is refused.
///
/// # Errors
/// Of kind refused, with the file and the line.
pub fn list_at(repository: &Repository, commit: &str) -> Result<AccessList> {
    let mut list = None;
    let mut keys = BTreeMap::new();
    for entry in repository.load(commit)?.entries {
        match (&entry.name[..], entry.mode) {
            (name, PLAIN) if name == LIST.as_bytes() => list = Some(repository.blob(&entry.oid, LIST_LIMIT)?),
            (name, FOLDER) if name == KEYS.as_bytes() => {
                for key in repository.entries(&entry.oid)? {
                    keys.insert(key_name(&key)?, repository.blob(&key.oid, KEY_LIMIT)?);
                }
            }
            _ => return Err(not_here(&entry, "")),
        }
    }
    let list = list.ok_or_else(|| Error::refused(format!("there is no {LIST}")))?;
    AccessList::parse(&list, &keys).map_err(|error| error.with_kind(Kind::Refused))
}

fn key_name(entry: &TreeEntry) -> Result<String> {
    let name = std::str::from_utf8(&entry.name).ok().filter(|name| is_key_file_name(name) && entry.mode == PLAIN);
    name.map(Into::into).ok_or_else(|| not_here(entry, "keys/"))
}

fn not_here(entry: &TreeEntry, folder: &str) -> Error {
    let name = base::text::excerpt(&entry.name, 80);
    Error::refused(format!("{folder}{name} (mode {:o}) does not belong here", entry.mode))
        .hint(format!("The access list is {LIST} and plain files {KEYS}/NAME.pub, nothing else."))
}

/// Holds the commits after `old` up to `new` against the rules, and gives the list that is in force then. `before` is
/// the list in force at `old`.
///
/// # Errors
/// Of kind refused, with the commit and the rule.
pub fn check_push(repository: &Repository, old: Option<&str>, new: &str, before: AccessList) -> Result<AccessList> {
    let commits = repository.walk(old, new)?;
    if commits.len() > COMMITS_LIMIT {
        return Err(Error::refused(format!(
            "the push brings {} commits, and at most {COMMITS_LIMIT} are allowed at a time",
            commits.len()
        )));
    }
    let mut list = before;
    for commit in &commits {
        let next = || {
            let signed = read_commit(&repository.load(commit)?.raw)?;
            if list.admin_of(&signed.key).is_none() {
                let who = signed.key.fingerprint(ssh_key::HashAlg::Sha256);
                return Err(Error::refused(format!("it is signed by {who}, which is no administrator of the version before it")));
            }
            if !signed.can_be_shown() {
                return Err(Error::refused("its message holds characters that cannot be shown"));
            }
            list_at(repository, commit)
        };
        let next = next().map_err(|error| error.with_kind(Kind::Refused).context(format!("commit {commit} cannot be taken")))?;
        list = next;
    }
    Ok(list)
}
