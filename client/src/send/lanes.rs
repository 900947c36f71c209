//! The lanes: each takes one request at a time, lets the module prepare it, and commits it to the queue.
//!
//! Two for each node, so that a long archive does not delay a mirror. Knows no module by name, and sends nothing.

use super::outbox::Draft;
use super::parts::Outgoing;
use super::receipts::heal;
use super::run::NodeRun;
use crate::history::PreparedOne;
use crate::ledger::{KEPT, Ledger};
use crate::outcome::{Ending, OutcomeFile};
use base::{Dataset, Error, Kind, Monitor, Reason, Result, clock};
use modules::{ClientContext, Lane, PreparedSize};
use queue::pool::Claimed;
use show::progress::Progress;
use std::time::Instant;

/// Works off what waits for this lane. `committed` is called after each request that is ready to be sent.
///
/// # Errors
/// When pool or queue cannot be used; a request that cannot be prepared is no error here.
pub fn work(run: &NodeRun, lane: Lane, committed: &(dyn Fn() + Sync)) -> Result<()> {
    while !run.bell.stopped() {
        let Some(claimed) = run.next(lane)? else { return Ok(()) };
        if one(run, &claimed, committed)? {
            committed();
        }
    }
    Ok(())
}

/// Prepares and commits one request, and parts of it on the way. True when there is something to be sent.
fn one(run: &NodeRun, claimed: &Claimed, committed: &(dyn Fn() + Sync)) -> Result<bool> {
    let file = &claimed.file;
    let dataset = file.dataset()?;
    let _about = tracing::info_span!("request", id = %file.id, node = %run.node.name).entered();
    let telling = Telling { run, progress: Progress::of(&dataset.to_string()) };
    let ended = |ending, error: Error| {
        let outcome = OutcomeFile::new(&file.id, &dataset, &run.node.name, ending).because(error.one_line());
        run.tell_failed(&error.context(format!("{dataset} for {}", run.node.name)));
        run.end_here(&outcome).map(|()| false)
    };
    // Anybody in the submit group can write into the inbox: what the command checked is checked again.
    if !run.config.allows(&dataset) {
        return ended(Ending::Refused, Error::refused(format!("the configuration does not allow {dataset}")));
    }
    let Some(module) = modules::client_module(Some(&run.config), &file.module) else {
        return ended(Ending::Refused, Error::refused(format!("there is no module {:?}", file.module)));
    };
    tracing::info!("preparing {dataset}");
    run.ping_start(&dataset);
    let begun = Instant::now();
    let parts = Outgoing::new(run, claimed, &dataset, committed)?;
    let context = ClientContext {
        config: &run.config,
        node: &run.node,
        id: &file.id,
        tags: &file.tags,
        heal: file.reason == Reason::Heal || run.contact().heal.contains(&dataset),
        monitor: &telling,
        parts: Some(&parts),
    };
    let prepared = match parts.settle_earlier().and_then(|()| module.prepare(&context, &dataset)) {
        Ok(prepared) => prepared,
        // It stays in process without a worker, and the next run prepares it anew.
        Err(error) if error.kind() == Kind::NotNow => {
            if run.has_left() {
                return Ok(false);
            }
            run.hold(&dataset, Some(&error.context(format!("{dataset} cannot be prepared for {} now", run.node.name))))?;
            return Ok(false);
        }
        Err(error) => {
            let Some(trouble) = parts.trouble() else { return ended(Ending::Failed, error) };
            let again = heal(run, file, &trouble.missing)?;
            let words = again.map_or_else(String::new, |again| format!("; it is sent again as {again}"));
            return ended(trouble.ending, Error::failed(format!("a part was {}: {}{words}", trouble.ending.words(), trouble.reason)));
        }
    };
    let kept = prepared.ledger.iter().take(KEPT).cloned().collect();
    let ledger = Ledger { lines: kept, skipped: prepared.skipped };
    ledger.write(&run.config, &file.id)?;
    if prepared.unreadable > 0 {
        run.tell_incomplete(&file.id, &dataset, prepared.unreadable, &ledger);
    }
    // Before it is sent: its receipt may be here at once.
    if let Some(PreparedSize { entries, files, bytes }) = prepared.size {
        let one = PreparedOne { id: file.id.clone(), entries, files, bytes, seconds: begun.elapsed().as_secs() };
        run.prepared(&dataset, one)?;
    }
    commit(run, claimed, &dataset, prepared)?;
    run.hold(&dataset, None)?;
    Ok(true)
}

/// Shows how a request is prepared. What the modules report is in results too, so a word in the log is enough.
struct Telling<'a> {
    run: &'a NodeRun,
    progress: Progress,
}

impl Monitor for Telling<'_> {
    fn task(&self, name: &str, total: Option<u64>) {
        self.progress.task(name, total);
    }

    fn bytes(&self, bytes: u64) {
        self.progress.bytes(bytes);
    }

    fn entries(&self, entries: u64) {
        self.progress.entries(entries);
    }

    fn note(&self, text: &str) {
        tracing::info!("{}", base::text::printable(text));
    }

    fn problem(&self, error: &Error) {
        tracing::warn!("{}: {}", self.run.node.name, error.one_line());
    }
}

/// Signs the request; from here on it waits for the node's receipt.
fn commit(run: &NodeRun, claimed: &Claimed, dataset: &Dataset, prepared: modules::PreparedRequest) -> Result<()> {
    let draft = Draft {
        id: claimed.file.id.clone(),
        dataset: dataset.clone(),
        submitted: clock::now(),
        by: claimed.by.clone(),
        reason: claimed.file.reason,
        tags: claimed.file.tags.clone(),
        payload: prepared.payload,
        repairs: prepared.repairs,
        attachment: prepared.attachment,
    };
    let request = run.outbox(|outbox| outbox.commit(&draft, &run.signer))?;
    tracing::info!("committed {dataset} as number {}", request.seq);
    Ok(())
}
