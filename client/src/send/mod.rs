//! The sender: takes requests from the pool, prepares them, brings them to the nodes, and settles their receipts.
//!
//! A thread for each node, so that one node's trouble does not hold up another; two lanes in each. `lanes` (with `parts` of
//! what is long), `courier` and `receipts` do the work, `rounds` has it done in turns, `plan` decides, `run` and in it `spool`
//! and `bell` are what they share, `daemon` keeps them going.

mod bell;
mod courier;
pub mod daemon;
mod dialer;
mod groups;
mod lanes;
mod notices;
mod outbox;
mod parts;
mod plan;
mod point;
mod receipts;
mod rounds;
mod run;
mod spool;

pub use dialer::is_dialled;
pub use outbox::BRANCH as QUEUE_BRANCH;
pub use receipts::{BRANCH as RECEIPTS_BRANCH, FETCHED as OFFERED_BRANCH};

use crate::outcome::{Ending, OutcomeFile};
use crate::output::worse;
use crate::{alerts, around, ledger, outcome, output, schedule, state};
use base::config::ClientConfig;
use base::config::client::ClientNode;
use base::{Error, Exit, FileLock, Result, atomic};
use modules::Lane;
use queue::pool::{ClientPool, PoolFile};
use queue::repository::Repository;
use rounds::{Event, Rounds};
use run::NodeRun;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// The lanes of each node.
const LANES: [Lane; 2] = [Lane::Archive, Lane::Git];

/// After this long an unfinished file was left by a killed process.
const UNFINISHED: Duration = Duration::from_secs(86_400);

/// How long finished requests stay in the pool.
const FINISHED_KEPT: Duration = Duration::from_secs(7 * 86_400);

/// Whether the request of `file` was signed and put into its queue; then it can only be answered, not taken back.
///
/// # Errors
/// When the queue is damaged.
pub fn sent_in_queue(config: &ClientConfig, file: &PoolFile) -> Result<bool> {
    let path = config.queue_path(&file.node);
    if !path.exists() {
        return Ok(false);
    }
    let queue = Repository::open(&path, outbox::BRANCH)?;
    // A group's own request is never in the queue; its members' are.
    let members = point::Point::load(config, &file.id)?.map(|point| point.members.into_iter().map(|member| member.request));
    for id in members.into_iter().flatten().chain([file.id.clone()]) {
        if queue.find_file(&queue::request::request_name(&id))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One round for every node: settles receipts, prepares what waits, sends it, settles what came meanwhile.
///
/// # Errors
/// When the configuration or the pool cannot be used at all.
pub fn once(config: ClientConfig, now: bool) -> Result<Exit> {
    let config = Arc::new(config);
    prepare_state(&config)?;
    schedule::submit_due_telling(&config, &ClientPool::open(&config.pool_path())?, None);
    let mut exit = Exit::Done;
    std::thread::scope(|scope| {
        let threads: Vec<_> = config.nodes.iter().map(|node| (node, scope.spawn(|| node_once(&config, node, now)))).collect();
        for (node, thread) in threads {
            let ended = thread.join().unwrap_or_else(|_| Err(Error::failed("a thread has panicked; that is a mistake in this program")));
            exit = worse(
                exit,
                ended.unwrap_or_else(|error| {
                    let kind = error.kind();
                    output::complain(&error.context(format!("sending to {} stopped", node.name)));
                    kind.into()
                }),
            );
        }
    });
    crate::metrics::write(&config);
    alerts::tell(&config);
    crate::digest::send(&config);
    Ok(exit)
}

/// What has to be there, and what has to go, before anything is sent.
fn prepare_state(config: &ClientConfig) -> Result<()> {
    config.client_name()?;
    if config.nodes.is_empty() {
        return Err(Error::usage("the configuration has no [[node]] to send backups to"));
    }
    let pool = ClientPool::open(&config.pool_path())?;
    if rustix::fs::access(config.pool_path().join("work"), rustix::fs::Access::WRITE_OK).is_err() {
        return Err(
            Error::usage("only the account that keeps nightsafe's state may send").hint("Any member of the submit group may submit.")
        );
    }
    state::make_folders(config)?;
    outcome::sweep(config)?;
    ledger::sweep(config)?;
    for folder in state::rewritten_folders(config) {
        atomic::sweep_drafts(&folder, UNFINISHED);
    }
    pool.sweep_finished(FINISHED_KEPT)?;
    around::finish_strays(config, &output::complain)?;
    refuse_strays(config, &pool)
}

/// Requests for nodes that the configuration does not have (any more) get an answer too.
fn refuse_strays(config: &ClientConfig, pool: &ClientPool) -> Result<()> {
    let stray = |file: &PoolFile| config.node(&file.node).is_none();
    while let Some(claimed) = pool.claim_next(&stray, &output::Complaints)? {
        let file = &claimed.file;
        let why = format!("the configuration has no node {}", file.node);
        output::complain(&Error::refused(format!("{} for {}: {why}", file.dataset()?, file.node)));
        OutcomeFile::new(&file.id, &file.dataset()?, &file.node, Ending::Refused).because(why).write(config)?;
        pool.finish(&file.id)?;
    }
    Ok(())
}

fn node_once(config: &Arc<ClientConfig>, node: &ClientNode, now: bool) -> Result<Exit> {
    let Some(run) = NodeRun::open(config, node, Arc::default(), false)? else { return busy(config, node) };
    if now {
        run.do_not_wait();
    }
    if !run.has_work()? {
        return Ok(run.exit());
    }
    // Receipts first, so that what is freed can be asked for again in this very run.
    if run.is_due() && attempt(&run, courier::restore_queue(&run))?.is_some() && run.is_waiting()? {
        attempt(&run, receipts::collect(&run))?;
    }
    run.recover()?;
    std::thread::scope(|scope| {
        let (sender, events) = mpsc::channel();
        let (run, rounds) = (&run, sender.clone());
        // Lanes are waited for beside the rounds, which send what is ready and hear of parts meanwhile.
        let lanes = scope.spawn(move || {
            let stop = StopsRounds(sender.clone());
            let lanes: Vec<_> = LANES
                .into_iter()
                .map(|lane| {
                    let sender = sender.clone();
                    scope.spawn(move || {
                        // Whoever made the rounds and stopped has nothing more to be told.
                        let tell = |event| {
                            let _ = sender.send(event);
                        };
                        lanes::work(run, lane, &|| tell(Event::Begun), &|| tell(Event::Committed))
                    })
                })
                .collect();
            let done: Vec<Result<()>> = lanes.into_iter().map(joined).collect();
            drop(stop);
            done.into_iter().collect::<Result<()>>()
        });
        let served = Rounds::new(run, &rounds).work(&events, &Mutex::default());
        if served.is_err() {
            // Lanes that wait for room wait for nothing now.
            run.leave();
        }
        joined(lanes).and(served)?;
        push(run)
    })?;
    stay(&run)?;
    if run.is_due() && run.is_waiting()? {
        attempt(&run, receipts::collect(&run))?;
    }
    if courier::has_unsent(&run)? || !run.knows_queue()? {
        later(&run);
    }
    run.outbox(|outbox| outbox.repository().tidy())?;
    Ok(run.exit())
}

/// Where the node cannot reach us it fetches as long as we are here, which is as long as it does so.
fn stay(run: &NodeRun) -> Result<()> {
    if run.dialer.is_none() || !run.is_due() || !run.awaits_node()? {
        return Ok(());
    }
    if output::watched() {
        output::note(format_args!("nightsafe: waiting for {} to fetch; if this is ended, the next send goes on with it", run.node.name));
    }
    let (sender, events) = mpsc::channel();
    Rounds::new(run, &sender).stay(&events)?;
    if run.awaits_node()? {
        let words = match run.dialer.as_ref().and_then(dialer::Dialer::trouble) {
            Some(trouble) => format!("{} does not take our line: {trouble}", run.node.name),
            None => format!("{} has not fetched everything, and we have waited; the next send dials again", run.node.name),
        };
        run.tell_not_now(&Error::not_now(words));
    }
    Ok(())
}

/// The lanes are done, or panicked: then nothing more can come.
struct StopsRounds(mpsc::Sender<Event>);

impl Drop for StopsRounds {
    fn drop(&mut self) {
        let _ = self.0.send(Event::Stop);
    }
}

fn joined(thread: std::thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| Err(Error::failed("a thread has panicked; that is a mistake in this program")))
}

/// Sends what is ready, if the node may be tried.
fn push(run: &NodeRun) -> Result<()> {
    if run.is_due() && courier::has_unsent(run)? {
        attempt(run, courier::push_all(run))?;
    }
    Ok(())
}

/// Something is left for the next run; a person is told when that will be.
fn later(run: &NodeRun) {
    run.mark_not_now();
    if let Some(next) = run.contact().next_try
        && output::watched()
    {
        output::note(format_args!("nightsafe: {} is tried again at {next}; nightsafe send --now does not wait", run.node.name));
    }
}

/// What a node did not do is kept and tried again; only trouble of our own stops the run.
fn attempt<T>(run: &NodeRun, result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => run.unreached(&error).map(|()| None),
    }
}

/// Another process sends to this node: a daemon will take what waits, a `send` may have looked already.
fn busy(config: &ClientConfig, node: &ClientNode) -> Result<Exit> {
    if FileLock::try_now(&state::daemon_lock_path(config))?.is_none() {
        tracing::info!("{}: nightsafe watch is sending", node.name);
        return Ok(Exit::Done);
    }
    if output::watched() {
        output::note(format_args!("nightsafe: another nightsafe send is at work for {}", node.name));
    }
    Ok(Exit::NotNow)
}
