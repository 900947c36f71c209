//! The daemon behind `nightsafe watch`: the same work as `send`, begun the moment there is some.
//!
//! notify and `receipts-wait` only wake it up; a slow sweep finds what they missed.

use super::bell::Bell;
use super::rounds::{Event, Rounds, SWEEP};
use super::run::NodeRun;
use super::{LANES, lanes, prepare_state};
use crate::{alerts, interrupt, output, schedule, state};
use base::config::ClientConfig;
use base::config::client::ClientNode;
use base::{Error, Exit, FileLock, Result, clock};
use modules::Lane;
use notify::{RecursiveMode, Watcher};
use queue::pool::ClientPool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a stop waits for what is being done. Whatever is cut off is found by the next start.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a node is asked for that another process sends to.
const LOCKED: Duration = Duration::from_secs(1);

/// How often the inbox is looked at where nothing tells of what comes: a machine has so many inotify instances and no more.
const LOOK_BLINDLY: Duration = Duration::from_secs(1);

/// The shortest pause between two looks at what is due.
const SHORTEST: Duration = Duration::from_secs(1);

/// One node's threads.
struct Worker {
    bell: Arc<Bell>,
    events: Sender<Event>,
    thread: JoinHandle<()>,
    /// What its lanes work with, as long as they do.
    serving: Serving,
}

/// Shared by a worker's thread and whoever stops it.
type Serving = Arc<Mutex<Weak<NodeRun>>>;

/// Runs until SIGTERM, SIGINT or SIGHUP.
///
/// # Errors
/// When the configuration or the pool cannot be used, or another daemon runs.
pub fn run(config: ClientConfig) -> Result<Exit> {
    let config = Arc::new(config);
    prepare_state(&config)?;
    let Some(_lock) = FileLock::try_now(&state::daemon_lock_path(&config))? else {
        return Err(Error::failed("another nightsafe watch is at work on this state folder"));
    };
    let pool = ClientPool::open(&config.pool_path())?;
    let mut signals = interrupt::signals()?;
    let workers: Vec<Worker> = config.nodes.iter().map(|node| spawn(&config, node)).collect();
    let bells: Vec<_> = workers.iter().map(|worker| Arc::clone(&worker.bell)).collect();
    // Kept alive: it stops when it is dropped.
    let _watcher = watch_inbox(&pool, bells.clone());
    let sweeper_config = Arc::clone(&config);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(SWEEP);
            if let Err(error) = prepare_state(&sweeper_config) {
                output::complain(&error);
            }
            bells.iter().for_each(|bell| bell.ring());
            crate::metrics::write(&sweeper_config);
            alerts::tell(&sweeper_config);
            crate::digest::send(&sweeper_config);
        }
    });
    let (scheduled_config, scheduled_pool) = (Arc::clone(&config), pool.clone());
    std::thread::spawn(move || ask_for_what_is_due(&scheduled_config, &scheduled_pool));
    tracing::info!("watching {}", pool.inbox().display());
    let signal = signals.forever().next();
    tracing::info!("stopping");
    // First the lanes, so that whatever is ended then is known to have ended because of this.
    for worker in &workers {
        worker.bell.stop();
        let _ = worker.events.send(Event::Stop);
    }
    signal.into_iter().for_each(base::stop::ask);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && workers.iter().any(|worker| !worker.thread.is_finished()) {
        std::thread::sleep(Duration::from_millis(10));
    }
    // What is still being read is cut off. What was stopped for it must not wait for the next start.
    for run in workers.iter().filter_map(|worker| super::bell::lock(&worker.serving).upgrade()) {
        run.around.take_over(&output::complain);
    }
    Ok(Exit::Done)
}

/// Wakes the lanes when something changes in the inbox; without notifications they look all the time.
fn watch_inbox(pool: &ClientPool, bells: Vec<Arc<Bell>>) -> Option<notify::RecommendedWatcher> {
    let blindly = bells.clone();
    let ring = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            bells.iter().for_each(|bell| bell.ring());
        }
    };
    let watcher = notify::recommended_watcher(ring).and_then(|mut watcher| {
        watcher.watch(pool.inbox(), RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher
        .map_err(|error| {
            output::complain(&Error::failed("the inbox cannot be watched; it is looked at every second").because(error));
            std::thread::spawn(move || {
                while blindly.iter().any(|bell| !bell.stopped()) {
                    blindly.iter().for_each(|bell| bell.ring());
                    std::thread::sleep(LOOK_BLINDLY);
                }
            });
        })
        .ok()
}

/// Asks for what is due, for ever; the inbox's watcher hears of it.
fn ask_for_what_is_due(config: &ClientConfig, pool: &ClientPool) {
    let mut awake = Some(clock::now());
    loop {
        let next = schedule::submit_due_telling(config, pool, awake);
        let looked = clock::now();
        // What is stored meanwhile, and what fails, makes something due that nobody here hears of.
        let pause = next.map_or(SWEEP, |next| next.duration_since(looked).unsigned_abs().clamp(SHORTEST, SWEEP));
        std::thread::sleep(pause);
        let now = clock::now();
        // This clock goes on while the machine sleeps, and the pause does not.
        if now.duration_since(looked).unsigned_abs() > pause + SWEEP {
            awake = Some(now);
        }
    }
}

fn spawn(config: &Arc<ClientConfig>, node: &ClientNode) -> Worker {
    let (events, received) = channel();
    let bell = Arc::new(Bell::default());
    let (config, node, sender, own_bell) = (Arc::clone(config), node.clone(), events.clone(), Arc::clone(&bell));
    let serving = Serving::default();
    let own_serving = Arc::clone(&serving);
    let thread = std::thread::spawn(move || {
        // Trouble of our own (a full disk, a damaged file) must not end the daemon for good.
        while !own_bell.stopped() {
            match serve(&config, &node, &own_bell, &sender, &received, &own_serving) {
                Ok(()) => return,
                Err(error) => output::complain(&error.context(format!("sending to {} stopped; it begins anew in a minute", node.name))),
            }
            let mut heard = u64::MAX;
            let until = Instant::now() + SWEEP;
            while Instant::now() < until && own_bell.wait(&mut heard, SWEEP) {}
        }
    });
    Worker { bell, events, thread, serving }
}

/// Serves one node until the daemon stops.
fn serve(
    config: &Arc<ClientConfig>,
    node: &ClientNode,
    bell: &Arc<Bell>,
    sender: &Sender<Event>,
    events: &Receiver<Event>,
    serving: &Serving,
) -> Result<()> {
    let run = loop {
        match NodeRun::open(config, node, Arc::clone(bell), true)? {
            Some(run) => break Arc::new(run),
            None if bell.stopped() => return Ok(()),
            None => std::thread::sleep(LOCKED),
        }
    };
    *super::bell::lock(serving) = Arc::downgrade(&run);
    run.recover()?;
    let failure: Arc<Mutex<Option<Error>>> = Arc::default();
    let lanes: Vec<_> = LANES.into_iter().map(|lane| spawn_lane(&run, lane, sender.clone(), Arc::clone(&failure))).collect();
    let served = Rounds::new(&run, sender).work(events, &failure);
    if served.is_err() {
        // The lanes hold the node's lock with us; without them the next start cannot begin.
        run.leave();
    }
    for lane in lanes {
        // A lane that is in the middle of a long archive is not waited for when the daemon stops.
        if !bell.stopped() {
            let _ = lane.join();
        }
    }
    served
}

/// A lane that works whenever the bell rings.
fn spawn_lane(run: &Arc<NodeRun>, lane: Lane, sender: Sender<Event>, failure: Arc<Mutex<Option<Error>>>) -> JoinHandle<()> {
    let run = Arc::clone(run);
    std::thread::spawn(move || {
        let mut heard = 0;
        loop {
            // Whoever makes the rounds may have stopped.
            let tell = |event| {
                let _ = sender.send(event);
            };
            if let Err(error) = lanes::work(&run, lane, &|| tell(Event::Begun), &|| tell(Event::Committed)) {
                super::bell::lock(&failure).get_or_insert(error);
                tell(Event::Committed);
                return;
            }
            if run.has_left() || !run.bell.wait(&mut heard, SWEEP) {
                return;
            }
        }
    })
}
