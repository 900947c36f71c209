//! The way in for the access list: the gate's repository that administrators push to and fetch from.
//!
//! The poller's copy is the authority; this one follows it.

use crate::queues::{self, Slot};
use crate::serve::Node;
use crate::{git, handover, refs};
use base::config::NodeConfig;
use base::{FileLock, Result};
use queue::Repository;
use queue::access::history::BRANCH;
use std::process::ExitCode;

/// The slot of the access list.
pub fn slot(config: &NodeConfig) -> Slot {
    Slot {
        name: "admin".into(),
        path: config.gate_admin_path(),
        branch: BRANCH,
        copy: config.admin_path(),
        published: None,
        lock: config.gate.join("admin.lock"),
    }
}

/// Takes a push of the access list and hands it over.
///
/// # Errors
/// When the repository cannot be used. That git refuses a push is its exit code.
pub fn receive(node: &Node) -> Result<ExitCode> {
    let slot = slot(&node.config);
    let _lock = prepare(node, &slot)?;
    queues::receive_pack(node, &slot)
}

/// Serves the access list to an administrator.
///
/// # Errors
/// When the repository cannot be used. Does not return otherwise.
pub fn serve(node: &Node) -> Result<ExitCode> {
    let slot = slot(&node.config);
    drop(prepare(node, &slot)?);
    git::upload_pack(&slot.path)
}

fn prepare(node: &Node, slot: &Slot) -> Result<FileLock> {
    let lock = queues::take_lock(slot)?;
    let repository = queues::open(node, slot)?;
    follow(slot, &repository)?;
    handover::catch_up(&node.config, slot, false)?;
    Ok(lock)
}

/// Brings our copy to the poller's, unless ours is that one and what was pushed since.
fn follow(slot: &Slot, repository: &Repository) -> Result<()> {
    let Some(theirs) = refs::tip(&slot.copy, slot.branch)? else { return Ok(()) };
    let ours = repository.tip()?;
    let ahead = ours.is_some_and(|ours| ours == theirs || repository.walk(Some(&theirs), &ours).is_ok());
    if ahead { Ok(()) } else { handover::bring_back(slot, repository) }
}
