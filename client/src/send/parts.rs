//! Parts of the backup that a lane is preparing: asks for them as packs get ready, waits for room, and hears the answers.
//!
//! `archive::part` decides when a part is due; the courier brings it to the node, and `receipts` settles what was answered.

use super::outbox::Draft;
use super::run::NodeRun;
use super::spool::Trouble;
use crate::outcome::Ending;
use archive::backup::BackupSpec;
use archive::index::PackInfo;
use archive::part::{self, MOST_PACKS, PartFacts, PartStep, Parts};
use base::{Dataset, Error, Kind, Payload, RequestId, Result, clock};
use queue::pool::Claimed;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a `send` waits for room, and for a part that a killed process has asked for.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often whoever waits looks around, whether something woke it or not.
const LOOK: Duration = Duration::from_secs(1);

/// The parts of one backup on its way.
pub struct Outgoing<'a> {
    run: &'a NodeRun,
    claimed: &'a Claimed,
    dataset: Dataset,
    /// Told after each request that is ready to be sent.
    committed: &'a (dyn Fn() + Sync),
    stream: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Complete packs that are in no part.
    ready: Vec<PackInfo>,
    /// A part is being asked for in this moment.
    asking: bool,
    /// Parts without an answer.
    in_flight: BTreeSet<RequestId>,
    /// The last part's number; 0 before the first of this run.
    number: u16,
    /// Bytes that the parts brought.
    sent: u64,
    /// Bytes that are set aside in the spool.
    reserved: u64,
    /// The backup is over by this.
    trouble: Option<Trouble>,
}

impl<'a> Outgoing<'a> {
    /// For the backup of `dataset` that `claimed` asks for.
    ///
    /// # Errors
    /// When queue or index cannot be read.
    pub fn new(run: &'a NodeRun, claimed: &'a Claimed, dataset: &Dataset, committed: &'a (dyn Fn() + Sync)) -> Result<Self> {
        let in_flight: BTreeSet<RequestId> = run.unanswered_parts(&claimed.file.id)?.into_iter().collect();
        in_flight.iter().for_each(|part| run.spool.expect(part));
        let state = Mutex::new(State { in_flight, ..State::default() });
        Ok(Self { run, claimed, dataset: dataset.clone(), committed, stream: AtomicBool::new(false), state })
    }

    /// Waits for the parts that a process which was killed has asked for, so that what the node has by now is not sent again.
    ///
    /// # Errors
    /// Of kind not-now when the node cannot be reached, or the answer did not come in time. The daemon gives a node some time
    /// first, since a login may fail once where another process has just ended its own.
    pub fn settle_earlier(&self) -> Result<()> {
        let waits = || {
            let mut state = self.hear();
            // A refusal ended the attempt that it was for; this one may fare better.
            state.trouble = None;
            !state.in_flight.is_empty()
        };
        if !waits() {
            return Ok(());
        }
        let (run, node) = (self.run, &self.run.node.name);
        tracing::info!("{node}: waiting for what was asked for before of {}", self.dataset);
        (self.committed)();
        let (begun, mut heard) = (Instant::now(), 0);
        while waits() {
            self.stopping()?;
            if !(run.is_due() || run.goes_on() && run.fails_since_a_moment()) {
                return Err(Error::not_now(format!(
                    "{node} cannot be reached, and has not said what it has of what it was asked for before"
                )));
            }
            if !run.goes_on() && begun.elapsed() > PATIENCE {
                return Err(Error::not_now(format!("{node} is still fetching what it was asked for before")));
            }
            run.spool.wait(&mut heard, LOOK);
        }
        Ok(())
    }

    /// Why the backup is over, where an answer to a part was the reason.
    pub fn trouble(&self) -> Option<Trouble> {
        self.hear().trouble.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        super::bell::lock(&self.state)
    }

    /// The state, with the answers that have come.
    fn hear(&self) -> std::sync::MutexGuard<'_, State> {
        let mut state = self.lock();
        let parts: Vec<RequestId> = state.in_flight.iter().cloned().collect();
        for part in parts {
            let Some(answer) = self.run.spool.take_answer(&part) else { continue };
            state.in_flight.remove(&part);
            state.trouble = answer.err().or(state.trouble.take());
        }
        state
    }

    /// What is to be done where `wanted` bytes are to be set aside, and the packs of the part that is to be asked for.
    fn next(&self, wanted: u64) -> Result<(PartStep, Vec<PackInfo>)> {
        let mut state = self.hear();
        if let Some(trouble) = &state.trouble {
            return Err(Error::failed(format!("a part was {}: {}", trouble.ending.words(), trouble.reason)));
        }
        let step = self.run.spool.reserve(wanted, |held| {
            let facts = PartFacts {
                limit: self.limit(),
                held,
                wanted,
                ready: state.ready.iter().map(|pack| pack.size).sum(),
                sent: state.sent,
                in_flight: state.asking || !state.in_flight.is_empty(),
            };
            let step = part::decide(&facts);
            (step, step == PartStep::Go)
        })?;
        match step {
            PartStep::Go => state.reserved += wanted,
            PartStep::Send => {
                let packs = state.ready.len().min(MOST_PACKS);
                state.asking = true;
                return Ok((step, state.ready.drain(..packs).collect()));
            }
            PartStep::Wait | PartStep::Never => {}
        }
        Ok((step, Vec::new()))
    }

    /// Asks for a part of these packs.
    fn ask(&self, spec: &BackupSpec<'_>, packs: &[PackInfo]) -> Result<()> {
        let last = self.lock().number;
        let made = self.run.next_part(spec.id, last).and_then(|number| part::prepare(spec, number, packs));
        let committed = made.and_then(|prepared| {
            let file = &self.claimed.file;
            let draft = Draft {
                id: prepared.id.clone(),
                dataset: self.dataset.clone(),
                submitted: clock::now(),
                by: self.claimed.by.clone(),
                reason: file.reason,
                tags: file.tags.clone(),
                payload: Payload::Manifest(prepared.digest),
                attachment: prepared.attachment,
                repairs: Vec::new(),
                group: None,
            };
            // Before anybody can answer.
            self.run.spool.expect(&prepared.id);
            self.run.outbox(|outbox| outbox.commit(&draft, &self.run.signer)).map(|_| prepared.id)
        });
        let mut state = self.lock();
        state.asking = false;
        let part = committed?;
        state.number = part.part().unwrap_or(state.number);
        let bytes = packs.iter().map(|pack| pack.size).sum::<u64>();
        tracing::info!("{}: committed {part} of {}, {}", self.run.node.name, self.dataset, base::ByteSize(bytes));
        state.in_flight.insert(part);
        state.sent = state.sent.saturating_add(bytes);
        drop(state);
        (self.committed)();
        Ok(())
    }

    fn stopping(&self) -> Result<()> {
        if self.run.has_left() { Err(Error::not_now("the sender is stopping")) } else { Ok(()) }
    }

    /// Whether it was waited long enough for room; `told` is whether a person knows of it.
    fn out_of_patience(&self, waited: Duration, told: &mut bool) -> Result<()> {
        self.stopping()?;
        let stream = self.stream.load(Ordering::Relaxed);
        let limit = match (stream, self.run.goes_on()) {
            (true, _) => Some(self.run.config.stream_wait.0),
            (false, false) => Some(PATIENCE),
            // The daemon has nothing better to do: whatever it began anew would wait in the same way.
            (false, true) => None,
        };
        let full = || {
            let (node, folder) = (&self.run.node.name, self.run.config.export_path(&self.run.node.name));
            Error::not_now(format!("{} is full, and {node} fetches nothing of it", folder.display()))
                .hint("What was stored is not sent again. See that the node can be reached and polls; spool.limit in client.toml says how much may wait.")
        };
        match limit {
            Some(limit) if waited > limit => Err(full()),
            None if waited > PATIENCE && !std::mem::replace(told, true) => self.run.hold(&self.dataset, Some(&full())),
            _ => Ok(()),
        }
    }
}

impl Parts for Outgoing<'_> {
    fn limit(&self) -> u64 {
        self.run.config.spool.limit.0
    }

    fn begin(&self, stream: bool) {
        self.stream.store(stream, Ordering::Relaxed);
    }

    fn reserve(&self, spec: &BackupSpec<'_>, bytes: u64) -> Result<()> {
        let (mut begun, mut heard, mut told) = (Instant::now(), 0, false);
        let mut wants = None;
        loop {
            match self.next(bytes)? {
                (PartStep::Go, _) => return Ok(()),
                (PartStep::Send, packs) => {
                    // The one before was answered, or there was none: patience begins anew.
                    begun = Instant::now();
                    self.ask(spec, &packs)?;
                }
                (PartStep::Wait, _) => {
                    if wants.is_none() {
                        wants = Some(self.run.spool.want_room());
                        // Whoever makes the rounds asks for answers from now on.
                        (self.committed)();
                    }
                    self.out_of_patience(begun.elapsed(), &mut told)?;
                    self.run.spool.wait(&mut heard, LOOK);
                }
                (PartStep::Never, _) => {
                    let (bytes, limit) = (base::ByteSize(bytes), base::ByteSize(self.limit()));
                    return Err(Error::failed(format!("a file of {bytes} does not fit into the spool of {limit}"))
                        .hint("Raise spool.limit in client.toml.")
                        .with_kind(Kind::Failed));
                }
            }
        }
    }

    fn closed(&self, spec: &BackupSpec<'_>, pack: &PackInfo, reserved: u64) -> Result<()> {
        let mut state = self.lock();
        state.ready.push(pack.clone());
        state.reserved = state.reserved.saturating_sub(reserved);
        drop(state);
        self.run.spool.release(reserved);
        match self.next(0)? {
            (PartStep::Send, packs) => self.ask(spec, &packs),
            _ => Ok(()),
        }
    }

    fn unanswered(&self) -> Result<Vec<RequestId>> {
        self.run.unanswered_parts(&self.claimed.file.id)
    }
}

impl Drop for Outgoing<'_> {
    fn drop(&mut self) {
        let state = self.lock();
        state.in_flight.iter().for_each(|part| self.run.spool.forget(part));
        self.run.spool.release(state.reserved);
    }
}

impl Trouble {
    /// A part was refused or failed for `reason`.
    pub fn new(ending: Ending, reason: Option<&str>, missing: Vec<base::Blake3>) -> Self {
        Self { ending, reason: reason.unwrap_or("no reason was given").to_owned(), missing }
    }
}
