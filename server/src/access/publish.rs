//! Publishing the list for the gate and sshd: `access/` in the node's data, readable by all, written by the poller alone.
//!
//! Does not judge the list. Keys are parsed and written anew, so that sshd reads nothing that an administrator typed.

use super::Access;
use crate::node::Node;
use base::{At, Result, atomic};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What sshd reads.
pub const AUTHORIZED_KEYS: &str = "authorized_keys";
/// Says which commit is published.
pub const COMMIT: &str = "commit";

/// Publishes `access` where it differs from what is published. With `whole`, every file is looked at; without, nothing
/// more is done when the commit and sshd's file are the same.
///
/// # Errors
/// With the path.
pub fn publish(node: &Node, access: &Access, whole: bool) -> Result<()> {
    let folder = node.config.access_path();
    crate::groups::give(&node.config.admin_path(), node.config.groups.gate.as_deref())?;
    let lines = access.list.authorized_keys(node.gate_program()?, &node.file)?;
    let commit = format!("{}\n", access.tip.as_deref().unwrap_or("none"));
    let same = |name: &str, bytes: &[u8]| fs::read(folder.join(name)).is_ok_and(|found| found == bytes);
    if !whole && same(COMMIT, commit.as_bytes()) && same(AUTHORIZED_KEYS, lines.as_bytes()) {
        return Ok(());
    }
    // Keys before the list that names them, and away with old ones after it: a reader in between finds what it needs.
    let files = access.list.to_files()?;
    let (lists, keys): (Vec<_>, Vec<_>) = files.iter().partition(|(path, _)| path.as_str() == queue::access::LIST);
    for (path, bytes) in keys.into_iter().chain(lists) {
        if !same(path, bytes) {
            atomic::write(&folder.join(path), bytes, 0o644)?;
        }
    }
    if !same(AUTHORIZED_KEYS, lines.as_bytes()) {
        atomic::write(&folder.join(AUTHORIZED_KEYS), lines.as_bytes(), 0o644)?;
    }
    let keep: BTreeSet<&str> = files.keys().filter_map(|path| path.strip_prefix("keys/")).collect();
    remove_others(&folder.join(queue::access::KEYS), &keep)?;
    atomic::write(&folder.join(COMMIT), commit.as_bytes(), 0o644)?;
    tracing::info!("published the access list {}", commit.trim());
    Ok(())
}

/// The commit that is published; none before the first list.
///
/// # Errors
/// With the path.
pub(super) fn published(node: &Node) -> Result<Option<String>> {
    let path = node.config.access_path().join(COMMIT);
    if !path.exists() {
        return Ok(None);
    }
    let text = base::untrusted::read(&path, 128)?.bytes;
    let commit = std::str::from_utf8(&text).unwrap_or_default().trim();
    let oid = commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
    Ok(oid.then(|| commit.to_owned()))
}

fn remove_others(folder: &Path, keep: &BTreeSet<&str>) -> Result<()> {
    for entry in fs::read_dir(folder).at("read the folder", folder)? {
        let name = entry.at("read the folder", folder)?.file_name();
        if !name.to_str().is_some_and(|name| keep.contains(name)) {
            atomic::remove(&folder.join(&name))?;
        }
    }
    Ok(())
}
