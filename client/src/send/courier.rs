//! The courier: brings our queue to the node, and mends it where the node's copy is another.
//!
//! Knows nothing of what requests ask for. What the node answers is read by `receipts`.

use super::outbox::BRANCH;
use super::plan::{self, AfterRefusal, NodeTip};
use super::run::NodeRun;
use super::spool::Trouble;
use crate::outcome::{Ending, OutcomeFile};
use base::{Error, Result, clock};
use std::time::Duration;
use transport::{GitFetch, PushOutcome};

/// What the queue is called at the node.
const REMOTE: &str = "queue";

/// Where the node's history is put while it is looked at.
const FETCHED: &str = "refs/nightsafe/node";

/// The longest listing of the refs of a queue that is read.
const LISTING_LIMIT: usize = 64 * 1024;

/// How long a listing may take.
const LISTING_TIME: Duration = Duration::from_secs(120);

/// How often one run mends the queue; each time at least one request is accepted or ended, unless the node plays with us.
const ROUNDS: usize = 10_000;

/// Whether the node lacks something of the queue.
///
/// # Errors
/// When the queue is damaged.
pub fn has_unsent(run: &NodeRun) -> Result<bool> {
    let tip = run.outbox(|outbox| outbox.tip())?;
    Ok(tip.is_some() && tip != run.contact().accepted)
}

/// A machine that lost its queue gets it back from the node before it makes the first request anew.
///
/// # Errors
/// When the node cannot be reached.
pub fn restore_queue(run: &NodeRun) -> Result<()> {
    if run.outbox(|outbox| outbox.tip())?.is_some() {
        return Ok(());
    }
    if let Some(tip) = node_tip(run)? {
        tracing::info!("{}: this machine has no queue; the node's is fetched", run.node.name);
        fetch(run, &tip)?;
        run.outbox(|outbox| outbox.rebuild(Some(&tip), &[], &run.signer))?;
        run.note(|contact| contact.accepted = Some(tip))?;
    }
    run.queue_is_known();
    run.reached()
}

/// Pushes what the node lacks, the oldest first, until it has all of it. A request that the node refuses by itself
/// has failed; the others go on.
///
/// # Errors
/// When the node cannot be reached, or its history cannot be continued.
pub fn push_all(run: &NodeRun) -> Result<()> {
    // Set once everything was built anew after a refusal: then the requests go one at a time.
    let mut singly = false;
    for _ in 0..ROUNDS {
        let accepted = run.contact().accepted;
        let unsent = match run.outbox(|outbox| outbox.unsent(accepted.as_deref())) {
            Ok(unsent) => unsent,
            // What we believed the node to have is not of this queue: only the node can tell.
            Err(error) if accepted.is_some() => {
                tracing::info!("{}: {}", run.node.name, error.one_line());
                mend(run, false, "our queue does not continue what the node had")?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let limit = if singly { 0 } else { plan::PUSH_LIMIT };
        let mut refused = None;
        for tip in plan::batches(&unsent, limit) {
            let path = run.outbox(|outbox| Ok(outbox.path().to_owned()))?;
            match run.peer.git_push(&path, REMOTE, &format!("{tip}:refs/heads/{BRANCH}"))? {
                PushOutcome::Accepted => {
                    tracing::debug!("{}: pushed up to {tip}", run.node.name);
                    run.note(|contact| {
                        contact.accepted = Some(tip.to_owned());
                        contact.reached(clock::now());
                    })?;
                }
                PushOutcome::Refused(words) => {
                    refused = Some(words);
                    break;
                }
            }
        }
        let Some(words) = refused else { return Ok(()) };
        tracing::info!("{}: the push was refused: {words}", run.node.name);
        singly = mend(run, singly, &words)? || singly;
    }
    Err(Error::failed(format!("the node {} gives no way to bring it the queue", run.node.name)))
}

/// Finds out where the node is after a refusal and puts our queue right. True when the queue was built anew.
fn mend(run: &NodeRun, singly: bool, words: &str) -> Result<bool> {
    let accepted = run.contact().accepted;
    let tip = node_tip(run)?;
    run.reached()?;
    let node = tip.as_deref().map_or(NodeTip::Nothing, NodeTip::At);
    let decision = run.outbox(|outbox| Ok(plan::after_refusal(accepted.as_deref(), node, &|oid| outbox.contains(oid), singly)))?;
    tracing::info!("{}: {decision:?}", run.node.name);
    match decision {
        AfterRefusal::GoOnFrom(tip) => {
            run.note(|contact| contact.accepted = tip)?;
            Ok(false)
        }
        AfterRefusal::Adopt(tip) => {
            adopt(run, accepted.as_deref(), &tip)?;
            Ok(true)
        }
        AfterRefusal::Rebuild => {
            run.outbox(|outbox| {
                let drafts = outbox.drafts(accepted.as_deref())?;
                outbox.rebuild(accepted.as_deref(), &drafts, &run.signer)
            })?;
            Ok(true)
        }
        AfterRefusal::FailFirst => {
            fail_first(run, accepted.as_deref(), words)?;
            Ok(true)
        }
    }
}

/// Goes on from the node's history: what it does not have is built anew on top of it.
fn adopt(run: &NodeRun, accepted: Option<&str>, tip: &str) -> Result<()> {
    fetch(run, tip)?;
    let had_queue = accepted.is_some();
    run.outbox(|outbox| {
        // Where the histories part is not known here, so every request of ours is looked for in the node's.
        let drafts = outbox.drafts(accepted).or_else(|_| outbox.drafts(None))?;
        outbox.rebuild(Some(tip), &drafts, &run.signer)
    })?;
    run.note(|contact| {
        contact.accepted = Some(tip.to_owned());
        if had_queue {
            contact.warn(
                clock::now(),
                format!(
                    "The node {} holds requests of {} that this machine did not make. Either the state of this machine was set back, or another machine uses its key; then make a new key with nightsafe init and have it registered.",
                    run.node.name, run.client
                ),
            );
        }
    })
}

/// The oldest request that the node lacks was refused by itself.
fn fail_first(run: &NodeRun, accepted: Option<&str>, words: &str) -> Result<()> {
    let first = run.outbox(|outbox| {
        let drafts = outbox.drafts(accepted)?;
        let Some((first, rest)) = drafts.split_first() else {
            return Err(Error::failed(format!("the node {} refuses our queue: {words}", run.node.name)));
        };
        outbox.rebuild(accepted, rest, &run.signer)?;
        Ok(first.clone())
    })?;
    if first.id.part().is_some() {
        // The backup ends by it, where it is being made.
        run.spool.answered(&first.id, Err(Trouble::new(Ending::Refused, Some(words), Vec::new())));
        return modules::discard_part(&run.config, &run.node, &first.id);
    }
    run.tell_failed(&Error::refused(format!("{} refuses {} ({}): {words}", run.node.name, first.dataset, first.id)));
    run.end_here(&OutcomeFile::new(&first.id, &first.dataset, &run.node.name, Ending::Refused).because(words))
}

/// The newest commit of our queue at the node.
fn node_tip(run: &NodeRun) -> Result<Option<String>> {
    tip_at(run, REMOTE, BRANCH)
}

/// The newest commit of a branch at the node, if it has one.
///
/// # Errors
/// When the node cannot be reached.
pub fn tip_at(run: &NodeRun, remote: &str, branch: &str) -> Result<Option<String>> {
    let listing = run.peer.git_ls_remote(remote, LISTING_LIMIT, LISTING_TIME)?;
    Ok(tip_in(&String::from_utf8_lossy(&listing), branch))
}

/// The id of a branch in what `git ls-remote` printed.
fn tip_in(listing: &str, branch: &str) -> Option<String> {
    let name = format!("refs/heads/{branch}");
    let oid = listing.lines().filter_map(|line| line.split_once('\t')).find(|(_, found)| *found == name)?.0;
    (oid.len() == 40 && oid.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))).then(|| oid.to_owned())
}

/// Fetches the node's history and makes sure that it leads to `tip`.
fn fetch(run: &NodeRun, tip: &str) -> Result<()> {
    let path = run.outbox(|outbox| Ok(outbox.path().to_owned()))?;
    run.peer.git_fetch(&path, REMOTE, &[format!("+refs/heads/{BRANCH}:{FETCHED}")], GitFetch::default())?;
    // Reading it once from end to end shows that it is a line of commits as ours are.
    run.outbox(|outbox| outbox.repository().walk(None, tip).map(|_| ()))
        .map_err(|e| e.context(format!("the queue at {} is not usable", run.node.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tip_is_found_in_a_listing() {
        let oid = "0123456789abcdef0123456789abcdef01234567";
        let listing = format!("ref: refs/heads/requests\tHEAD\n{oid}\tHEAD\n{oid}\trefs/heads/requests\n");
        assert_eq!(tip_in(&listing, BRANCH).as_deref(), Some(oid));
        assert_eq!(tip_in(&format!("{oid}\trefs/heads/other\n"), BRANCH), None);
        assert_eq!(tip_in("-x\trefs/heads/requests\n", BRANCH), None);
        assert_eq!(tip_in("", BRANCH), None);
    }
}
