//! The access list in the poller's own hands: `admin.git`, where only what administrators signed is the tip.
//!
//! Does not decide what a list may say (that is `queue::access`), nor what follows from it.

pub mod edit;
pub mod handover;
mod publish;
pub mod scan;

pub use queue::access::history::BRANCH;

use crate::node::Node;
use base::config::NodeConfig;
use base::{Error, FileLock, Name, Result};
use queue::access::AccessList;
use queue::access::history::list_at;
use queue::{PublicKey, Repository};
use std::sync::Arc;

/// The access list in force.
#[derive(Debug)]
pub struct Access {
    /// The commit that says so; `None` before the first, when the administrators of `node.toml` are all there is.
    pub tip: Option<String>,
    /// The list.
    pub list: AccessList,
}

/// The administrators that `node.toml` names: they sign the first list.
///
/// # Errors
/// Of kind usage, with the line that is no key with a name.
pub fn first_admins(config: &NodeConfig) -> Result<Vec<(Name, PublicKey)>> {
    let read = |text: &String| {
        let wrong = || {
            Error::usage(format!("admins in the configuration holds {text:?}"))
                .hint("Write a public key and a name, as in \"ssh-ed25519 AAAA… alice\".")
        };
        let name = text.split_ascii_whitespace().nth(2).ok_or_else(wrong)?;
        let name = Name::new(name).map_err(|error| wrong().because(error))?;
        let key = queue::signature::parse_public_key(text).map_err(|error| wrong().because(error))?;
        Ok((name, key))
    };
    config.admins.iter().map(read).collect()
}

/// The list in force, from the poller's own copy.
///
/// # Errors
/// When the copy cannot be read.
pub fn current(node: &Node) -> Result<Access> {
    if node.config.admin_path().join("HEAD").exists() {
        let copy = Repository::open(&node.config.admin_path(), BRANCH)?;
        if let Some(tip) = copy.tip()? {
            let list = list_at(&copy, &tip)?;
            return Ok(Access { tip: Some(tip), list });
        }
    }
    match publish::published(node)? {
        None => before_the_first(node),
        Some(commit) => recovered(node, commit),
    }
}

/// A copy that has lost its branch gets it back from what was published last. To begin with the first administrators again
/// would lock everybody out.
fn recovered(node: &Node, commit: String) -> Result<Access> {
    let path = node.config.admin_path();
    let lost = |error: Error| {
        error.context(format!("{} has lost the access list {commit}, which is published", path.display())).hint(format!(
            "Put a copy of that folder back. To begin anew with the administrators that the configuration names, remove {} and have them push the list again.",
            node.config.access_path().join(publish::COMMIT).display()
        ))
    };
    let copy = Repository::open(&path, BRANCH).map_err(lost)?;
    let list = list_at(&copy, &commit).map_err(lost)?;
    copy.set_tip(&commit, None).map_err(lost)?;
    tracing::warn!("{} had lost its branch; it is at {commit} again, which was published", path.display());
    Ok(Access { tip: Some(commit), list })
}

/// The commit of the list in the poller's own copy; `None` before the first.
///
/// # Errors
/// When the copy cannot be read.
pub fn tip(node: &Node) -> Result<Option<String>> {
    let path = node.config.admin_path();
    if path.join("HEAD").exists() { Repository::open(&path, BRANCH)?.tip() } else { Ok(None) }
}

/// What holds before the first list: the administrators of `node.toml`, and nothing else.
fn before_the_first(node: &Node) -> Result<Access> {
    let mut list = AccessList::default();
    for (name, key) in first_admins(&node.config)? {
        list.add_admin(&name, &key)?;
    }
    Ok(Access { tip: None, list })
}

/// As [`current`], without reading again what is `known`; and sees to it that this is what is published. With `whole`,
/// what was published before is looked at again.
///
/// # Errors
/// When the copy cannot be read or the list not be published.
pub fn refresh(node: &Node, known: Option<&Arc<Access>>, whole: bool) -> Result<Arc<Access>> {
    let same = known.map(|known| Ok::<_, Error>(known.tip == tip(node)?)).transpose()?.unwrap_or(false);
    if let Some(known) = known.filter(|_| same && !whole) {
        return Ok(Arc::clone(known));
    }
    let _lock = lock(node)?;
    let access = Arc::new(current(node)?);
    publish::publish(node, &access, whole)?;
    Ok(access)
}

/// Publishes a list that is the tip's since just now. The caller holds [`lock`].
///
/// # Errors
/// With the path.
pub fn publish(node: &Node, tip: String, list: AccessList) -> Result<()> {
    publish::publish(node, &Access { tip: Some(tip), list }, true)
}

/// Serialises those who change the list or publish it.
///
/// # Errors
/// With the path.
pub fn lock(node: &Node) -> Result<FileLock> {
    FileLock::wait(&node.state_path().join("access.lock"))
}
