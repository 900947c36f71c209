//! Receipts: fetches them, believes only what the pinned key signed about requests that we made, and settles those.
//!
//! Decides nothing about what is sent.

use super::run::NodeRun;
use super::spool::Trouble;
use crate::outcome::{Ending, OutcomeFile};
use crate::trust;
use base::{Blake3, Error, RequestId, Result, Sha256, clock};
use queue::Request;
use queue::pool::{PoolFile, State};
use queue::receipt::{FILE_LIMIT, Outcome, Receipt};
use queue::repository::{CommitFiles, Repository};
use queue::signature::{PublicKey, read_commit};
use transport::GitFetch;

/// What the receipts are called at the node.
const REMOTE: &str = "receipts";

/// The branch of receipts.
pub const BRANCH: &str = "receipts";

/// Where the node's branch is put before it is believed to follow ours.
pub const FETCHED: &str = "fetched";

/// The newest receipt commit that is here, from which the node is asked for more.
///
/// # Errors
/// When the copy is damaged.
pub fn tip(run: &NodeRun) -> Result<Option<String>> {
    copy(run, BRANCH)?.tip()
}

/// Fetches new receipts and settles what they answer. Says how many requests have ended.
///
/// # Errors
/// When the node cannot be reached, or offers receipts that do not follow those that we have seen.
pub fn collect(run: &NodeRun) -> Result<usize> {
    let ours = copy(run, BRANCH)?;
    // What does not follow a damaged copy is no fault of the node's.
    ours.check_branch()?;
    // Before the first receipt there is no branch, and git calls that an error.
    if ours.tip()?.is_none() && super::courier::tip_at(run, REMOTE, BRANCH)?.is_none() {
        run.reached()?;
        return Ok(0);
    }
    copy(run, FETCHED)?.let_go_if_damaged()?;
    run.peer.git_fetch(ours.path(), REMOTE, &[format!("+refs/heads/{BRANCH}:refs/heads/{FETCHED}")], GitFetch::default())?;
    run.reached()?;
    let Some(new) = copy(run, FETCHED)?.tip()? else { return Ok(0) };
    let old = ours.tip()?;
    if old.as_deref() != Some(new.as_str()) {
        if let Err(error) = ours.walk(old.as_deref(), &new) {
            return Err(alarm(run, &error));
        }
        ours.set_tip(&new, old.as_deref())?;
    }
    settle_to(run, &ours, &new)
}

fn copy(run: &NodeRun, branch: &str) -> Result<Repository> {
    Repository::open_or_create(&run.config.receipts_path(&run.node.name), branch)
}

/// The node offers a history without receipts that it gave us before.
fn alarm(run: &NodeRun, cause: &Error) -> Error {
    let node = &run.node.name;
    let text = format!("the receipts of {node} do not follow those that it gave before ({}); nothing was freed", cause.one_line());
    let _ = run.note(|contact| contact.alarm = Some(text.clone()));
    Error::refused(text).hint(format!(
        "If the node was set back by its administrator, run nightsafe node trust {node} --new-history; otherwise somebody may have tampered with it."
    ))
}

/// Settles every commit that is not settled yet. One that must wait (its key is not trusted) holds back the mark, so
/// that it is looked at again, but not the others.
fn settle_to(run: &NodeRun, receipts: &Repository, new: &str) -> Result<usize> {
    let mark = run.contact().settled;
    let oids = match receipts.walk(mark.as_deref(), new) {
        Ok(oids) => oids,
        // The mark is of another history, which a person has let go.
        Err(_) if mark.is_some() => receipts.walk(None, new)?,
        Err(error) => return Err(error),
    };
    let key = trust::receipts_key(&run.config, &run.node)?;
    let mut ended = 0;
    let mut mark = mark;
    let mut held = None;
    for oid in oids {
        let commit = receipts.load(&oid)?;
        let signed_by = read_commit(&commit.raw).map(|signed| signed.key);
        let trusted = signed_by.as_ref().is_ok_and(|by| by.key_data() == key.key_data());
        for (id, entry) in entries(&commit, "RC") {
            if !trusted {
                if is_in_process(run, &id) {
                    held.get_or_insert_with(|| stranger(run, signed_by.as_ref().ok()));
                }
                continue;
            }
            match receipts.blob(&entry, FILE_LIMIT).and_then(|bytes| settle(run, &id, &bytes)) {
                Ok(true) => ended += 1,
                Ok(false) => {}
                // One receipt that says nonsense does not hold up the others.
                Err(error) if error.kind() == base::Kind::Refused => {
                    run.note(|contact| {
                        contact.warn(clock::now(), format!("A receipt of {} is not believed: {}", run.node.name, error.one_line()))
                    })?;
                }
                Err(error) => return Err(error),
            }
        }
        // What is not trusted asks for nothing.
        for (id, entry) in entries(&commit, "NT").into_iter().filter(|_| trusted) {
            match receipts.blob(&entry, queue::notice::FILE_LIMIT).and_then(|bytes| super::notices::take(run, &id, &bytes)) {
                Err(error) if error.kind() == base::Kind::Refused => run.note(|contact| {
                    contact.warn(clock::now(), format!("A notice of {} is not believed: {}", run.node.name, error.one_line()));
                })?,
                other => other?,
            }
        }
        if held.is_none() {
            mark = Some(oid);
        }
    }
    let before = run.contact().alarm;
    run.note(|contact| {
        contact.settled = mark;
        contact.alarm.clone_from(&held);
    })?;
    match held {
        Some(text) if before.as_ref() != Some(&text) => run.tell_failed(&Error::refused(text)),
        Some(_) => run.mark_failed(),
        None => {}
    }
    super::groups::settle(run)?;
    Ok(ended)
}

/// What is said about receipts that another key than the pinned one has signed.
fn stranger(run: &NodeRun, by: Option<&PublicKey>) -> String {
    let node = &run.node.name;
    let who = match by {
        Some(key) => format!("the key {} ({})", trust::fingerprint(key), trust::key_text(key).unwrap_or_default()),
        None => "no valid key".into(),
    };
    format!(
        "receipts of {node} are signed by {who}, not by the pinned one; nothing was freed. If its administrator confirms the new key: nightsafe node trust {node} KEY"
    )
}

/// The receipts (`RC`) or notices (`NT`) in a commit: ids and blobs. Other files are for later releases.
fn entries(commit: &CommitFiles, kind: &str) -> Vec<(RequestId, String)> {
    let id = |name: &[u8]| std::str::from_utf8(name).ok()?.strip_prefix(kind)?.strip_suffix(".toml")?.parse().ok();
    commit.entries.iter().filter_map(|entry| Some((id(&entry.name)?, entry.oid.clone()))).collect()
}

fn is_in_process(run: &NodeRun, id: &RequestId) -> bool {
    matches!(run.pool.find_claimed(&id.whole()), Some((State::Process, file)) if file.node == run.node.name)
}

/// Settles one receipt that the pinned key has signed. True when a request has ended by it.
fn settle(run: &NodeRun, id: &RequestId, bytes: &[u8]) -> Result<bool> {
    let _about = tracing::info_span!("request", %id, node = %run.node.name).entered();
    let receipt = Receipt::parse(bytes)?;
    let Some(request) = run.outbox(|outbox| outbox.request_bytes(id))? else {
        run.note(|contact| {
            contact.warn(
                clock::now(),
                format!(
                    "The node {} answers the request {id}, which this machine never made: another machine uses the key of {}.",
                    run.node.name, run.client
                ),
            );
        })?;
        return Ok(false);
    };
    check(run, id, &receipt, &request)?;
    run.note(|contact| contact.clock_behind = receipt.received.duration_since(clock::now()).as_secs().max(0))?;
    if id.part().is_some() {
        return settle_part(run, id, &receipt).map(|()| false);
    }
    let waiting = match run.pool.find_claimed(id) {
        Some((State::Finished, _)) => return Ok(false),
        Some((_, file)) => Some(file),
        // The pool was lost; what the receipt frees is freed all the same.
        None => None,
    };
    modules::settle(&run.config, &run.node, id, &receipt.dataset, &receipt)?;
    run.spool.ring();
    let mut outcome = OutcomeFile::new(id, &receipt.dataset, &run.node.name, Ending::from(receipt.outcome));
    outcome.reason.clone_from(&receipt.reason);
    outcome.snapshot.clone_from(&receipt.snapshot);
    outcome.unreadable = receipt.unreadable;
    (outcome.bytes_fetched, outcome.bytes_stored, outcome.seconds) = (receipt.bytes_fetched, receipt.bytes_stored, receipt.seconds);
    let Some(file) = waiting else {
        // Nobody waits for it, and its time is long past.
        return Ok(false);
    };
    let again = if receipt.outcome == Outcome::Refused { heal(run, &file, &receipt.missing)? } else { None };
    run.end(&outcome)?;
    if let Some(again) = again {
        let packs = receipt.missing.len();
        run.tell_not_now(&Error::not_now(format!(
            "{} lacks {packs} packs of {}; it is sent again as {again}",
            run.node.name, receipt.dataset
        )));
        return Ok(true);
    }
    if receipt.outcome == Outcome::Stored {
        run.note(|contact| contact.heal.retain(|dataset| *dataset != receipt.dataset))?;
        tracing::info!("{} is stored", receipt.dataset);
    } else {
        let reason = receipt.reason.as_deref().unwrap_or("no reason was given");
        run.tell_failed(&Error::failed(format!("{} {} {} ({id}): {reason}", run.node.name, past(receipt.outcome), receipt.dataset)));
    }
    Ok(true)
}

/// Whether the receipt answers this very request.
fn check(run: &NodeRun, id: &RequestId, receipt: &Receipt, request: &[u8]) -> Result<()> {
    let wrong = |what: &str| Err(Error::refused(format!("the receipt for {id} {what}")));
    if receipt.id != *id {
        return wrong("is called by another id");
    }
    if receipt.node != run.node.name || receipt.client != run.client {
        return wrong(&format!("is of {} for {}", receipt.node, receipt.client));
    }
    if receipt.request != Sha256::of(request) {
        return wrong("answers other bytes than the ones that this machine signed");
    }
    // The digest does not bind it: what is freed and what is shown as stored must be what was asked for.
    let asked = Request::parse(request)?.dataset;
    if receipt.dataset != asked {
        return wrong(&format!("is about {}, and the request asked for {asked}", receipt.dataset));
    }
    Ok(())
}

/// A part was answered: what is stored makes room, and the lane that prepares the whole hears of it.
fn settle_part(run: &NodeRun, part: &RequestId, receipt: &Receipt) -> Result<()> {
    modules::settle(&run.config, &run.node, part, &receipt.dataset, receipt)?;
    let answer = match receipt.outcome {
        Outcome::Stored => Ok(()),
        outcome => Err(Trouble::new(outcome.into(), receipt.reason.as_deref(), receipt.missing.clone())),
    };
    tracing::info!("{}: part {part} of {}: {}", run.node.name, receipt.dataset, receipt.outcome);
    run.spool.answered(part, answer);
    Ok(())
}

/// When the node lacks packs that we believed it to have, the dataset is sent again, once.
///
/// # Errors
/// When the pool cannot be written.
pub fn heal(run: &NodeRun, file: &PoolFile, missing: &[Blake3]) -> Result<Option<RequestId>> {
    if missing.is_empty() || file.reason == base::Reason::Heal {
        return Ok(None);
    }
    let again = PoolFile::new(&file.dataset()?, &run.node.name, &file.tags, base::Reason::Heal)?;
    Ok(Some(run.pool.submit(&again)?.id().clone()))
}

fn past(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Stored => "has stored",
        Outcome::Refused => "has refused",
        Outcome::Failed => "could not back up",
    }
}
