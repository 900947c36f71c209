//! Changing the access list by a command: the same signed commit that a push would bring.
//!
//! Does not know the changes; it sees to it that each is signed by an administrator and leaves a list that can be read.

use super::{Access, BRANCH, current, handover, publish};
use crate::node::Node;
use crate::output;
use base::{Error, Result};
use queue::access::AccessList;
use queue::{Repository, Signer};
use std::collections::BTreeMap;

/// Makes `change`, signs it as the administrator whose key `signer` has, and publishes the list.
///
/// # Errors
/// Of kind refused, when the key is no administrator's; as `change`; with the path. Then nothing was changed.
pub fn change(node: &Node, signer: &Signer, message: &str, change: impl FnOnce(&mut AccessList) -> Result<()>) -> Result<()> {
    node.check_owner()?;
    node.prepare()?;
    node.prepare_gate()?;
    let _lock = super::lock(node)?;
    // What administrators pushed came first.
    for error in handover::take_in(node)? {
        output::warning(&error.render());
    }
    let access = current(node)?;
    let Some(admin) = access.list.admin_of(signer.public()).cloned() else {
        let names: Vec<String> = access.list.admins.keys().map(ToString::to_string).collect();
        return Err(Error::refused("that key is no administrator's").hint(format!("Sign with a key of one of: {}.", names.join(", "))));
    };
    let mut list = access.list;
    change(&mut list)?;
    let copy = Repository::open_or_create(&node.config.admin_path(), BRANCH)?;
    let tip = commit(&copy, &list, message, signer, admin.as_str())?;
    publish::publish(node, &Access { tip: Some(tip), list }, false)?;
    wake(node);
    Ok(())
}

/// Commits a list after making sure that it can be read as it will stand there.
///
/// # Errors
/// When it cannot, or with the path.
pub fn commit(copy: &Repository, list: &AccessList, message: &str, signer: &Signer, author: &str) -> Result<String> {
    let files = list.to_files()?;
    let keys: BTreeMap<String, Vec<u8>> =
        files.iter().filter_map(|(path, bytes)| Some((path.strip_prefix("keys/")?.to_owned(), bytes.clone()))).collect();
    let text = files.get(queue::access::LIST).map(Vec::as_slice).unwrap_or_default();
    AccessList::parse(text, &keys).map_err(|error| error.context("the changed list could not be read again; nothing was changed"))?;
    let files: Vec<(String, Vec<u8>)> = files.into_iter().collect();
    copy.commit_files(&files, message, signer, author)
}

/// Tells a running `watch` that there is something new. Without one nobody needs to know.
pub fn wake(node: &Node) {
    if let Err(error) = crate::poll::handover::leave_mark(&node.config.gate, "admin") {
        tracing::info!("a running watch hears of it only at its next sweep: {}", error.one_line());
    }
}
