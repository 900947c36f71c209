//! Rounds: sends what is ready, holds a wait for the node's answers open, and settles them. The daemon makes them for ever, a
//! `send` as long as its lanes prepare.
//!
//! Prepares nothing, and knows nothing of what requests ask for.

use super::dialer::Dialer;
use super::run::NodeRun;
use super::{attempt, courier, push, receipts};
use base::{Error, Result, clock};
use std::io::Read;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use transport::Stream;

/// How often everything is looked at, whether something woke us or not.
pub const SWEEP: Duration = Duration::from_secs(60);

/// How often whoever stays looks whether the node still fetches.
const LOOK: Duration = Duration::from_secs(5);

/// How long a connection may take to open that nobody waits for yet.
const AHEAD: Duration = Duration::from_secs(20);

/// How long it stays while the gate takes no line.
const WITHOUT: Duration = Duration::from_secs(30);

/// A commit id for "none", as the gate expects it.
const NOTHING: &str = "0000000000000000000000000000000000000000";

/// What wakes whoever makes the rounds.
pub enum Event {
    /// A lane has something to prepare.
    Begun,
    /// A lane has committed a request.
    Committed,
    /// The node says that there are receipts, or the wait for them broke off; which wait it was.
    Receipts(u64, Result<()>),
    /// It is time to stop.
    Stop,
}

/// Brings requests to the node and waits for its answers.
pub struct Rounds<'a> {
    run: &'a NodeRun,
    sender: &'a Sender<Event>,
    listener: Option<Stream>,
    /// How many waits were begun; what an older one says does not count.
    waits: u64,
    want_receipts: bool,
    /// Whether a connection could not be opened ahead of its need a moment ago.
    in_vain: bool,
    /// Whether this is for the answers alone: nothing is prepared any more.
    stays: bool,
}

impl<'a> Rounds<'a> {
    /// For the node of `run`; waits for answers tell `sender` of them.
    pub fn new(run: &'a NodeRun, sender: &'a Sender<Event>) -> Self {
        Self { run, sender, listener: None, waits: 0, want_receipts: true, in_vain: false, stays: false }
    }

    /// Makes rounds until [`Event::Stop`] comes, or a lane leaves its `failure`.
    ///
    /// # Errors
    /// With that failure, or when something of our own cannot be used.
    pub fn work(mut self, events: &Receiver<Event>, failure: &Mutex<Option<Error>>) -> Result<()> {
        let run = self.run;
        let mut swept = Instant::now();
        loop {
            if let Some(error) = super::bell::lock(failure).take() {
                return Err(error);
            }
            if run.is_due() {
                self.round()?;
            } else {
                self.listener = None;
            }
            run.dial()?;
            let mut event = events.recv_timeout(self.pause(swept));
            let (mut begun, mut committed) = (false, false);
            loop {
                match event {
                    Ok(Event::Stop) => return Ok(()),
                    Ok(Event::Begun) => begun = true,
                    Ok(Event::Committed) => committed = true,
                    Ok(Event::Receipts(wait, told)) => {
                        if wait == self.waits && self.listener.take().is_some() {
                            self.want_receipts = true;
                            attempt(run, told)?;
                        }
                    }
                    Err(_) => break,
                }
                event = events.try_recv().map_err(|_| RecvTimeoutError::Timeout);
            }
            // What is committed is pushed next, which opens the connection as well.
            if begun && !committed {
                self.open_ahead();
            }
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                (self.want_receipts, self.in_vain) = (true, false);
                // A `send` tries each request once.
                if run.goes_on() {
                    run.recover()?;
                    run.bell.ring();
                }
            }
        }
    }

    /// Makes rounds until nothing waits for the node any more, or it has fetched nothing for as long as we dial (`dial_for`). A
    /// connection that breaks meanwhile is opened again at its time.
    ///
    /// # Errors
    /// As [`Rounds::work`].
    pub fn stay(mut self, events: &Receiver<Event>) -> Result<()> {
        self.stays = true;
        let run = self.run;
        let begun = Instant::now();
        while run.awaits_node()? {
            if run.is_due() {
                self.round()?;
            } else {
                self.listener = None;
            }
            run.dial()?;
            let dialer = run.dialer.as_ref();
            let left = left(
                run.node.dials_for(),
                begun.elapsed(),
                dialer.map_or(Duration::MAX, Dialer::idle),
                dialer.and_then(Dialer::trouble).is_some(),
            );
            if left.is_zero() {
                break;
            }
            match events.recv_timeout(left.min(LOOK).min(self.pause(Instant::now()))) {
                Ok(Event::Receipts(wait, told)) if wait == self.waits && self.listener.take().is_some() => {
                    self.want_receipts = true;
                    // No news for anybody as long as we are here to open another.
                    told.or_else(|error| run.broke(&error))?;
                }
                _ => {}
            }
        }
        run.hang_up();
        Ok(())
    }

    /// Opens the connection while something is prepared, so that what comes of it does not wait for the login; the node hears of
    /// it and opens its own to us. That it cannot be opened is told by whoever needs it.
    fn open_ahead(&mut self) {
        let run = self.run;
        if !self.in_vain
            && self.listener.is_none()
            && run.is_due()
            && let Err(error) = run.peer.open_ahead(AHEAD)
        {
            tracing::debug!("{}: {}", run.node.name, error.one_line());
            self.in_vain = true;
        }
    }

    /// Sends what is ready, settles what was answered, and holds a wait open for what is not.
    fn round(&mut self) -> Result<()> {
        let run = self.run;
        if !run.knows_queue()? {
            if !run.goes_on() {
                return Ok(());
            }
            if attempt(run, courier::restore_queue(run))?.is_none() {
                return Ok(());
            }
            run.recover()?;
            run.bell.ring();
        }
        push(run)?;
        if !run.is_due() || !self.expects()? {
            self.listener = None;
            return Ok(());
        }
        // What waits may still be being prepared.
        self.open_ahead();
        if std::mem::take(&mut self.want_receipts) {
            if let Some(ended) = attempt(run, receipts::collect(run))?
                && ended > 0
            {
                // What was in process no longer keeps back what waits for the same dataset.
                run.bell.ring();
            }
            if !self.expects()? {
                self.listener = None;
                return Ok(());
            }
        }
        if self.listener.is_none() && run.is_due() {
            self.listen()?;
        }
        Ok(())
    }

    /// Whether an answer is worth waiting for: a `send` leaves what has nobody waiting for it to the next one.
    fn expects(&self) -> Result<bool> {
        if self.stays || self.run.goes_on() { self.run.is_waiting() } else { Ok(self.run.spool.awaits_answers()) }
    }

    /// Lets the node tell us when there is a new receipt.
    fn listen(&mut self) -> Result<()> {
        let tip = receipts::tip(self.run)?;
        let verb = format!("receipts-wait {}", tip.as_deref().unwrap_or(NOTHING));
        let Some(mut stream) = attempt(self.run, self.run.peer.stream(&verb))? else { return Ok(()) };
        let Some(mut stdout) = stream.stdout.take() else { return Ok(()) };
        self.waits += 1;
        let (sender, wait) = (self.sender.clone(), self.waits);
        let node = self.run.node.name.clone();
        std::thread::spawn(move || {
            let mut line = Vec::new();
            let told = match stdout.by_ref().take(1024).read_to_end(&mut line) {
                Ok(0) => Err(Error::not_now(format!("the connection to {node}, kept to hear of receipts, broke"))),
                Ok(_) => Ok(()),
                Err(error) => Err(Error::not_now(format!("the connection to {node}, kept to hear of receipts, broke")).because(error)),
            };
            tracing::debug!("{node}: told of receipts");
            // Nobody listens any more when the daemon stops.
            let _ = sender.send(Event::Receipts(wait, told));
        });
        self.listener = Some(stream);
        Ok(())
    }

    /// How long there is nothing to do, unless something wakes us.
    fn pause(&self, swept: Instant) -> Duration {
        let sweep = SWEEP.saturating_sub(swept.elapsed());
        let next = self.run.contact().next_try.map(|next| next.duration_since(clock::now()).unsigned_abs() + Duration::from_millis(500));
        next.map_or(sweep, |next| next.min(sweep))
    }
}

/// How long whoever has `stayed` so long stays on while the node fetches nothing: lines were held while requests were prepared, and
/// that time was not for the node. Where the gate takes no line there is little to wait for.
fn left(dial_for: Duration, stayed: Duration, idle: Duration, no_line: bool) -> Duration {
    let patience = if no_line { dial_for.min(WITHOUT) } else { dial_for };
    patience.saturating_sub(idle.min(stayed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_has_its_time_however_long_the_preparation_was() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        for (stayed, idle, no_line, wait) in [
            // Lines were open for a quarter of an hour before the last request was ready.
            (minutes(0), minutes(15), false, minutes(10)),
            (minutes(4), minutes(19), false, minutes(6)),
            (minutes(10), minutes(25), false, minutes(0)),
            (minutes(60), minutes(1), false, minutes(9)),
            (minutes(60), minutes(0), false, minutes(10)),
            (minutes(0), minutes(15), true, WITHOUT),
            (minutes(1), minutes(15), true, minutes(0)),
        ] {
            assert_eq!(left(minutes(10), stayed, idle, no_line), wait, "{stayed:?} {idle:?} {no_line}");
        }
        assert_eq!(left(Duration::from_secs(1), minutes(0), minutes(0), true), Duration::from_secs(1));
    }
}
