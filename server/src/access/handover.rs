//! The way in for the access list: what administrators pushed through the gate, checked commit by commit.
//!
//! The gate checked it before; that was for the administrator's sake, this is what counts.

use super::{Access, BRANCH, current, list_at};
use crate::node::Node;
use crate::poll::handover::{Brought, Piece, bring_in, pieces, take_out};
use base::{Error, Kind, Result, atomic};
use queue::Repository;
use queue::signature::read_commit;

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
        atomic::remove(&piece.path)?;
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
    let checked = match check(copy, &access, &piece.new) {
        Ok(0) => Ok(()),
        Ok(_) => return copy.set_tip(&piece.new, access.tip.as_deref()),
        // Handed over a second time: it is in our history.
        Err(_) if access.tip.as_deref().is_some_and(|tip| copy.walk(Some(&piece.new), tip).is_ok()) => Ok(()),
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
    check(&copy, &super::before_the_first(node)?, &tip)
}

/// Whether `new` follows from the list in force: a straight line of commits, each signed by an administrator of the
/// version before it, each with a list that can be used. Gives how many.
fn check(copy: &Repository, access: &Access, new: &str) -> Result<usize> {
    let commits = copy.walk(access.tip.as_deref(), new)?;
    let mut before = access.list.clone();
    for commit in &commits {
        let signed = read_commit(&copy.load(commit)?.raw).map_err(|error| error.context(format!("commit {commit} proves nothing")))?;
        if before.admin_of(&signed.key).is_none() {
            let who = signed.key.fingerprint(ssh_key::HashAlg::Sha256);
            return Err(Error::refused(format!("commit {commit} is signed by {who}, which is no administrator of the version before")));
        }
        // A list that cannot be read is the fault of who signed it; nothing of the push is taken.
        before = list_at(copy, commit).map_err(|error| error.with_kind(Kind::Refused))?;
    }
    Ok(commits.len())
}
