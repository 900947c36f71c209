//! The way in for the access list: what administrators pushed through the gate, checked commit by commit.
//!
//! The gate checked it before; that was for the administrator's sake, this is what counts.

use super::{BRANCH, current};
use crate::node::Node;
use crate::poll::handover::{Brought, Piece, bring_in, discard, pieces, take_out};
use base::{Error, Kind, Result};
use queue::Repository;
use queue::access::history::check_push;

/// How much of the history is looked at in one go.
const CHUNK: usize = 500;

/// Takes in what was handed over; gives what a person must hear of. The caller holds the lock on the list.
///
/// # Errors
/// When it cannot be tried now; what was handed over stays.
pub(super) fn take_in(node: &Node) -> Result<Vec<Error>> {
    let folder = node.config.handover_path().join("admin");
    let mut refused = Vec::new();
    if pieces(&folder, None)?.is_empty() {
        return Ok(refused);
    }
    let copy = Repository::open_or_create(&node.config.admin_path(), BRANCH)?;
    for piece in pieces(&folder, copy.tip()?.as_deref())? {
        if let Err(error) = one(node, &copy, &piece) {
            if error.kind() != Kind::Refused {
                return Err(error);
            }
            refused.push(error.context("a change of the access list was handed over and is not carried out"));
        }
        discard(&piece)?;
    }
    Ok(refused)
}

/// As [`take_in`], for who does not hold the lock yet.
///
/// # Errors
/// As there.
pub fn take_in_now(node: &Node) -> Result<Vec<Error>> {
    let _lock = super::lock(node)?;
    take_in(node)
}

fn one(node: &Node, copy: &Repository, piece: &Piece) -> Result<()> {
    let access = current(node)?;
    if access.tip.as_deref() == Some(piece.new.as_str()) {
        return Ok(());
    }
    let added = match bring_in(copy.path(), piece)? {
        Brought::In(added) => added,
        Brought::Bad(words) => return Err(Error::refused(words)),
    };
    let tip = access.tip.as_deref();
    let checked = match check_push(copy, tip, &piece.new, access.list) {
        Ok(_) => return copy.set_tip(&piece.new, tip),
        // Handed over a second time: it is in our history.
        Err(_) if tip.is_some_and(|tip| copy.walk(Some(&piece.new), tip).is_ok()) => Ok(()),
        Err(error) => Err(error),
    };
    take_out(&added)?;
    checked
}

/// Whether the whole history of the list holds, from the administrators that `node.toml` names on. Gives how many commits.
///
/// # Errors
/// Of kind refused, with the first commit that does not hold.
pub fn verify(node: &Node) -> Result<usize> {
    let path = node.config.admin_path();
    if !path.join("HEAD").exists() {
        return Ok(0);
    }
    let copy = Repository::open(&path, BRANCH)?;
    let Some(tip) = copy.tip()? else { return Ok(0) };
    let commits = copy.walk(None, &tip)?;
    let (mut list, mut old) = (super::before_the_first(node)?.list, None);
    for chunk in commits.chunks(CHUNK) {
        if let Some(new) = chunk.last() {
            list = check_push(&copy, old, new, list)?;
            old = Some(new);
        }
    }
    Ok(commits.len())
}
