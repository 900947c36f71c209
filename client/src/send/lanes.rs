//! The lanes: each takes one request at a time, lets the module prepare it, and commits it to the queue.
//!
//! Two for each node, so that a long archive does not delay a mirror. Knows no module by name, and sends nothing.

use super::groups;
use super::outbox::Draft;
use super::parts::Outgoing;
use super::receipts::heal;
use super::run::NodeRun;
use crate::around::Subject;
use crate::history::PreparedOne;
use crate::ledger::{KEPT, Ledger};
use crate::outcome::{Ending, OutcomeFile};
use base::config::GROUP;
use base::{Dataset, Error, Group, Kind, Monitor, Reason, Result, clock};
use modules::{ClientContext, Frozen, Lane, Module, PreparedRequest, PreparedSize};
use queue::pool::{Claimed, PoolFile};
use show::progress::Progress;
use std::time::Instant;

/// Works off what waits for this lane. `begun` is called before each request that is prepared, `committed` after each that is
/// ready to be sent.
///
/// # Errors
/// When pool or queue cannot be used; a request that cannot be prepared is no error here.
pub fn work(run: &NodeRun, lane: Lane, begun: &dyn Fn(), committed: &(dyn Fn() + Sync)) -> Result<()> {
    while !run.bell.stopped() {
        let Some(claimed) = run.next(lane)? else { return Ok(()) };
        begun();
        let sent = match run.config.group_of(&claimed.file.dataset()?) {
            Some(group) => {
                let sent = groups::work(run, &claimed, group, committed)?;
                groups::settle(run)?;
                sent
            }
            None => one(run, &claimed, committed)?,
        };
        if sent {
            committed();
        }
    }
    Ok(())
}

/// Prepares and commits one request, and parts of it on the way. True when there is something to be sent.
fn one(run: &NodeRun, claimed: &Claimed, committed: &(dyn Fn() + Sync)) -> Result<bool> {
    let file = &claimed.file;
    if let Some(group) = &file.group {
        return groups::without(run, file, group).map(|()| false);
    }
    let making = match Making::new(run, claimed, committed)? {
        Ok(making) => making,
        Err(refusal) => return refusal.end(run, file).map(|()| false),
    };
    let dataset = making.dataset();
    let _about = tracing::info_span!("request", id = %file.id, node = %run.node.name).entered();
    tracing::info!("preparing {dataset}");
    let mut prepared = None;
    let made = making.settle_earlier().and_then(|()| {
        let subject = Subject::of(&run.config, dataset, &file.id);
        let mut report = run.around.work(&[subject], &|| run.has_left(), &mut |_, frozen| {
            prepared = Some(making.prepare(frozen)?);
            Ok(())
        })?;
        for error in report.untidy {
            run.tell_failed(&error.context(format!("{dataset} for {}", run.node.name)));
        }
        report.failed.pop().flatten().map_or(Ok(()), Err)
    });
    match (made, prepared) {
        (Ok(()), Some(prepared)) => {
            // From here on it waits for the node's receipt.
            let request = run.outbox(|outbox| outbox.commit(&making.draft(prepared, None), &run.signer))?;
            tracing::info!("committed {dataset} as number {}", request.seq);
            run.hold(dataset, None)?;
            Ok(true)
        }
        (Ok(()), None) => making.refusal(Error::failed("nothing was prepared"))?.end(run, file).map(|()| false),
        // It stays in process without a worker, and the next run prepares it anew.
        (Err(error), _) if error.kind() == Kind::NotNow => {
            if !run.has_left() {
                run.hold(dataset, Some(&error.context(format!("{dataset} cannot be prepared for {} now", run.node.name))))?;
            }
            Ok(false)
        }
        (Err(error), _) => making.refusal(error)?.end(run, file).map(|()| false),
    }
}

/// A request that ends here, without the node.
#[derive(Debug)]
pub struct Refusal {
    /// How.
    pub ending: Ending,
    /// Why.
    pub error: Error,
}

impl Refusal {
    /// Ends the request.
    ///
    /// # Errors
    /// With the path.
    pub fn end(&self, run: &NodeRun, file: &PoolFile) -> Result<()> {
        let dataset = file.dataset()?;
        let why = self.error.one_line();
        let outcome = OutcomeFile::new(&file.id, &dataset, &run.node.name, self.ending).because(&why);
        let told = Error::failed(why).with_kind(self.error.kind()).context(format!("{dataset} for {}", run.node.name));
        run.tell_failed(&match self.error.advice() {
            Some(hint) => told.hint(hint),
            None => told,
        });
        run.end_here(&outcome)
    }
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

/// One request that this process prepares.
pub struct Making<'a> {
    run: &'a NodeRun,
    claimed: &'a Claimed,
    dataset: Dataset,
    module: Module,
    parts: Outgoing<'a>,
}

impl<'a> Making<'a> {
    /// Looks whether it may and can be prepared. Anybody in the submit group can write into the inbox: what the command checked is
    /// checked again.
    ///
    /// # Errors
    /// When queue or index cannot be read.
    pub fn new(run: &'a NodeRun, claimed: &'a Claimed, committed: &'a (dyn Fn() + Sync)) -> Result<std::result::Result<Self, Refusal>> {
        let file = &claimed.file;
        let dataset = file.dataset()?;
        let refused = |why: String| Ok(Err(Refusal { ending: Ending::Refused, error: Error::refused(why) }));
        if dataset.module() == GROUP {
            return refused(format!("the configuration has no group {}", dataset.path()));
        }
        if !run.config.allows(&dataset) {
            return refused(format!("the configuration does not allow {dataset}"));
        }
        let Some(module) = modules::client_module(Some(&run.config), &file.module) else {
            return refused(format!("there is no module {:?}", file.module));
        };
        let parts = Outgoing::new(run, claimed, &dataset, committed)?;
        Ok(Ok(Self { run, claimed, dataset, module, parts }))
    }

    /// What is prepared.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Waits for the parts that a process which was killed has asked for.
    ///
    /// # Errors
    /// As [`Outgoing::settle_earlier`].
    pub fn settle_earlier(&self) -> Result<()> {
        self.parts.settle_earlier()
    }

    /// Lets the module prepare it, from its own place or out of a snapshot of its file system.
    ///
    /// # Errors
    /// Of kind not-now when it may be tried again as it is.
    pub fn prepare(&self, frozen: Option<&Frozen>) -> Result<PreparedRequest> {
        let Self { run, claimed, dataset, .. } = self;
        let file = &claimed.file;
        run.ping_start(dataset);
        let begun = Instant::now();
        let telling = Telling { run, progress: Progress::of(&dataset.to_string()) };
        let context = ClientContext {
            config: &run.config,
            node: &run.node,
            id: &file.id,
            tags: &file.tags,
            heal: file.reason == Reason::Heal || run.contact().heal.contains(dataset),
            monitor: &telling,
            frozen,
            parts: Some(&self.parts),
        };
        let prepared = self.module.prepare(&context, dataset)?;
        let kept = prepared.ledger.iter().take(KEPT).cloned().collect();
        let ledger = Ledger { lines: kept, skipped: prepared.skipped };
        ledger.write(&run.config, &file.id)?;
        if prepared.unreadable > 0 {
            run.tell_incomplete(&file.id, dataset, prepared.unreadable, &ledger);
        }
        // Before it is sent: its receipt may be here at once.
        if let Some(PreparedSize { entries, files, bytes }) = prepared.size {
            let one = PreparedOne { id: file.id.clone(), entries, files, bytes, seconds: begun.elapsed().as_secs() };
            run.prepared(dataset, one)?;
        }
        Ok(prepared)
    }

    /// What becomes of it when it could not be prepared; what the node lost of it is asked for again.
    ///
    /// # Errors
    /// When the pool cannot be written.
    pub fn refusal(&self, error: Error) -> Result<Refusal> {
        let Some(trouble) = self.parts.trouble() else { return Ok(Refusal { ending: Ending::Failed, error }) };
        let again = heal(self.run, &self.claimed.file, &trouble.missing)?;
        let words = again.map_or_else(String::new, |again| format!("; it is sent again as {again}"));
        let error = Error::failed(format!("a part was {}: {}{words}", trouble.ending.words(), trouble.reason));
        Ok(Refusal { ending: trouble.ending, error })
    }

    /// The request for what was prepared.
    pub fn draft(&self, prepared: PreparedRequest, group: Option<Group>) -> Draft {
        let file = &self.claimed.file;
        Draft {
            id: file.id.clone(),
            dataset: self.dataset.clone(),
            submitted: clock::now(),
            by: self.claimed.by.clone(),
            reason: file.reason,
            tags: file.tags.clone(),
            payload: prepared.payload,
            repairs: prepared.repairs,
            attachment: prepared.attachment,
            group,
        }
    }
}
