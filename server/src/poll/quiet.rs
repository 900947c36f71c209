//! What a poll from cron need not look at: where the last one left nothing to do and nothing came since, not even the access
//! list of a node with many clients is read.
//!
//! Decides by a file that says under what nothing was left, `state/quiet`. Whoever becomes the poller removes it first, so
//! one that is there is from a poll that came to its end. What it overlooks, the sweep finds.

use super::{Poller, handover};
use crate::access;
use crate::node::Node;
use base::{Blake3, Result, atomic, untrusted};
use std::path::PathBuf;

fn path(node: &Node) -> PathBuf {
    node.state_path().join("quiet")
}

/// What must be the same for nothing to be left to do: the access list, and what is made of it for sshd.
fn under(node: &Node) -> Result<String> {
    let tip = access::tip(node)?.unwrap_or_default();
    Ok(Blake3::of(format!("{tip} {:?} {:?} {:?}", node.config, node.file, node.gate).as_bytes()).hex())
}

/// Whether there is nothing to do, by what the last poll left and by the marks of what came since.
///
/// # Errors
/// When the access list's repository cannot be read, or this user may not poll.
pub fn still(node: &Node) -> Result<bool> {
    node.check_owner()?;
    let Ok(found) = untrusted::read(&path(node), 100) else { return Ok(false) };
    // Who has the gate may make its folder unreadable; a poller finds out and says so.
    let marks = handover::marks_wait(&node.config.gate).unwrap_or(true);
    Ok(!marks && !super::sweep_due(node) && found.bytes == under(node)?.as_bytes())
}

/// Forgets it, before anything is looked at.
///
/// # Errors
/// With the path.
pub fn end(node: &Node) -> Result<()> {
    atomic::remove(&path(node))
}

/// Notes that nothing is left to do, where that is so: no request waits, nothing is to be tried again, and nothing went wrong.
///
/// # Errors
/// With the path.
pub fn begin(poller: &Poller) -> Result<()> {
    if poller.worst()?.is_some() || poller.unfinished() || !poller.with_requests().is_empty() {
        return Ok(());
    }
    atomic::write(&path(&poller.node), under(&poller.node)?.as_bytes(), 0o640)
}
