//! `watch`: polls the moment something is handed over, until it is told to end.
//!
//! Notifications only wake it; a sweep every 10 minutes is the truth.

use crate::node::Node;
use crate::output;
use crate::poll::ahead::Ahead;
use crate::poll::crew::Crew;
use crate::poll::{Poller, SWEEP, timetable};
use base::{Error, Exit, Name, Result, clock};
use jiff::Timestamp;
use notify::{RecursiveMode, Watcher};
use signal_hook::iterator::Signals;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Do what poll does, whenever there is something to do. Ends at SIGTERM or SIGINT.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// What the waiting thread hears.
enum Event {
    /// Something was handed over.
    Mark,
    /// A client was served.
    Served,
    /// End.
    Stop,
}

/// A crowd of events becomes one look.
const GATHER: Duration = Duration::from_millis(2);

/// How often it is looked whether there is something to be mailed, and metrics are written.
const LOOK: Duration = Duration::from_secs(60);

/// How often the clock is looked at for what is done once a day.
const CLOCK: Duration = Duration::from_secs(60);

/// How often marks are looked for where nothing tells of them: a machine has so many inotify instances and no more.
const LOOK_BLINDLY: Duration = Duration::from_secs(1);

/// How long a node is left alone that cannot even be looked at.
const BREATH: Duration = Duration::from_secs(1);

/// Runs the command.
pub fn run(_args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    let Some(poller) = Poller::open(node, true)? else {
        return Err(Error::not_now("another poll or watch works on this node"));
    };
    let (send, events) = channel();
    stop_at_signals(send.clone())?;
    // Before the first look, so that nothing falls between.
    let _watcher = watch_marks(&poller.node, send.clone());
    if poller.node.config.mail.is_some() {
        // It may wait for a mail server; nothing waits for it.
        again_and_again(&poller.node, |node| {
            crate::alerts::tell(node);
            crate::digest::send(node);
        });
    }
    if poller.node.config.metrics.is_some() {
        again_and_again(&poller.node, crate::metrics::write);
    }
    let daily = poller.node.clone();
    // What it is at when the end comes is done whole at its next time; nothing waits for it.
    std::thread::spawn(move || by_the_clock(&daily));
    let (crew, ahead) = (Crew::new(), Ahead::new());
    std::thread::scope(|scope| {
        let (after, served) = channel();
        crew.start(scope, &poller, usize::from(poller.node.config.workers), &after);
        scope.spawn(move || served.iter().try_for_each(|_| send.send(Event::Served)));
        drop(after);
        let (line, lines) = channel();
        poller.tell_of_lines(Some(line));
        let (poller, crew) = (&poller, &crew);
        scope.spawn(move || {
            lines.iter().for_each(|name| {
                tell(poller.dialled_in(&name));
                crew.ask(&name);
            });
        });
        let ahead = &ahead;
        scope.spawn(move || ahead.work(poller));
        tracing::info!("watching for {}", poller.node.config.name);
        let result = attend(poller, crew, ahead, &events);
        poller.tell_of_lines(None);
        crew.stop();
        let opens_none = ahead.stop();
        let fetches_none = crew.wait_for_end();
        if !fetches_none {
            // What is cut off here is taken up again by the next start; the system's patience with daemons is short.
            output::warning("ended while requests were being fetched; they go on with the next start");
        }
        if !fetches_none || !opens_none {
            std::process::exit(output::finish(result.map(|()| Exit::Done)) as i32);
        }
        result
    })?;
    Ok(Exit::Done)
}

/// Looks whenever there is a reason to, until it is told to stop.
fn attend(poller: &Poller, crew: &Crew, ahead: &Ahead, events: &Receiver<Event>) -> Result<()> {
    let mut sweep_at = Instant::now();
    let mut asked = BTreeMap::new();
    poller.with_requests().iter().for_each(|name| crew.ask(name));
    loop {
        let sweep = Instant::now() >= sweep_at;
        let looked = poller.look(sweep).map(|awake| awake.iter().for_each(|name| crew.ask(name)));
        poller.take_expected().into_iter().for_each(|name| ahead.ask(name));
        if sweep {
            poller.with_requests().iter().for_each(|name| crew.ask(name));
            tell(poller.swept());
            sweep_at = Instant::now() + SWEEP;
        }
        if looked.is_err() {
            tell(looked);
            std::thread::sleep(BREATH);
        }
        if poller.unfinished() {
            // The others had their turn.
            if events.try_iter().any(|event| matches!(event, Event::Stop)) {
                return Ok(());
            }
            continue;
        }
        if !wait(poller, crew, events, sweep_at, &mut asked)? {
            return Ok(());
        }
    }
}

/// Looks every minute how the node stands, in a thread for which nothing waits.
fn again_and_again(node: &Node, look: fn(&Node)) {
    let node = node.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(LOOK);
            look(&node);
        }
    });
}

/// Does what is done once a day, for as long as the program runs. The clock may be set meanwhile, so it is looked at again.
fn by_the_clock(node: &Node) {
    loop {
        let next = timetable::next(node, timetable::JOBS);
        // What is past is due.
        let wait = next.map_or(CLOCK, |time| Duration::try_from(time.duration_since(clock::now())).unwrap_or_default());
        if wait.is_zero() {
            tell(timetable::run_due(node, timetable::JOBS).map(drop));
        }
        std::thread::sleep(wait.clamp(BREATH, CLOCK));
    }
}

fn tell(result: Result<()>) {
    if let Err(error) = result {
        output::warning(&error.render());
    }
}

/// Waits until there is a reason to look; false when it is the end.
fn wait(poller: &Poller, crew: &Crew, events: &Receiver<Event>, sweep_at: Instant, asked: &mut BTreeMap<Name, Timestamp>) -> Result<bool> {
    loop {
        let now = clock::now();
        let mut due = false;
        let mut until = sweep_at;
        for (time, name) in poller.retries(asked)? {
            if time > now {
                until = until.min(Instant::now() + Duration::try_from(time.duration_since(now)).unwrap_or_default());
                break;
            }
            // Once for each time that comes: what still waits after it was looked at has a later time, or waits for one.
            crew.ask(&name);
            asked.insert(name, now);
            due = true;
        }
        if due {
            // A hand-over may be among what is tried again.
            return Ok(true);
        }
        match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(false),
            // There may be another time to wait for now.
            Ok(Event::Served) => {}
            Err(RecvTimeoutError::Timeout) if Instant::now() < sweep_at => {}
            Err(RecvTimeoutError::Timeout) => return Ok(true),
            Ok(Event::Mark) => {
                std::thread::sleep(GATHER);
                let stop = events.try_iter().any(|event| matches!(event, Event::Stop));
                return Ok(!stop);
            }
        }
    }
}

/// Hears of marks; without notifications they are looked for all the time.
fn watch_marks(node: &Node, send: Sender<Event>) -> Option<notify::RecommendedWatcher> {
    let folder = node.config.handover_path().join("wake");
    let blindly = send.clone();
    let heard = move |event: notify::Result<notify::Event>| {
        // Removing a mark is our own doing.
        if event.is_ok_and(|event| event.kind.is_create() || event.kind.is_modify()) {
            let _ = send.send(Event::Mark);
        }
    };
    let watcher =
        notify::recommended_watcher(heard).and_then(|mut watcher| watcher.watch(&folder, RecursiveMode::NonRecursive).map(|()| watcher));
    watcher
        .map_err(|error| {
            output::warning(&format!("no notifications from {} ({error}); it is looked at every second", folder.display()));
            std::thread::spawn(move || {
                while blindly.send(Event::Mark).is_ok() {
                    std::thread::sleep(LOOK_BLINDLY);
                }
            });
        })
        .ok()
}

fn stop_at_signals(send: Sender<Event>) -> Result<()> {
    let mut signals = Signals::new(base::stop::heard()).map_err(|error| Error::failed("could not listen for signals").because(error))?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if send.send(Event::Stop).is_err() {
                return;
            }
        }
    });
    Ok(())
}
