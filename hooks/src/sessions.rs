//! How many sessions a client may have open at once: each holds one of its slots, from the first word to the end of the last
//! process that it started.
//!
//! Knows nothing of what a session does, and one client's slots are nothing to another.

use crate::serve::Node;
use base::{Error, FileLock, Result, atomic};

/// Takes a slot for this session of the client whose key it is.
///
/// # Errors
/// Of kind "not now" when all are taken; with the path when they cannot be looked at.
pub fn enter(node: &Node, most: u16) -> Result<()> {
    let client = node.role.name();
    let folder = node.config.gate_sessions_path(client);
    atomic::make_folder(&folder, 0o750)?;
    for n in 1..=most {
        if let Some(slot) = FileLock::try_now(&folder.join(n.to_string()))? {
            return slot.leave();
        }
    }
    Err(Error::not_now(format!("{client} has {most} sessions open here, and may have no more at once"))
        .hint("It is possible again when one of them ends. Where that is too few, the node's administrator raises the limit \"sessions\"."))
}
