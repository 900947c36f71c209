//! `watch`: polls the moment something is handed over, until it is told to end.
//!
//! Notifications only wake it; a sweep every 10 minutes is the truth.

use crate::node::Node;
use crate::output;
use crate::poll::crew::Crew;
use crate::poll::{Poller, SWEEP};
use base::{Error, Exit, Result, clock};
use notify::{RecursiveMode, Watcher};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
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

/// How often a node with trouble is looked at at most.
const BREATH: Duration = Duration::from_secs(1);

/// Runs the command.
pub fn run(_args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    let Some(poller) = Poller::open(node)? else {
        return Err(Error::not_now("another poll or watch works on this node"));
    };
    let (send, events) = channel();
    stop_at_signals(send.clone())?;
    // Before the first look, so that nothing falls between.
    let _watcher = watch_marks(&poller.node, send.clone());
    let crew = Crew::new();
    std::thread::scope(|scope| {
        let (after, served) = channel();
        crew.start(scope, &poller, usize::from(poller.node.config.workers), &after);
        scope.spawn(move || served.iter().try_for_each(|_| send.send(Event::Served)));
        drop(after);
        tracing::info!("watching for {}", poller.node.config.name);
        let result = attend(&poller, &crew, &events);
        crew.stop();
        if !crew.wait_for_end() {
            // What is cut off here is taken up again by the next start; the system's patience with daemons is short.
            output::warning("ended while requests were being fetched; they go on with the next start");
            std::process::exit(output::finish(result.map(|()| Exit::Done), true) as i32);
        }
        result
    })?;
    Ok(Exit::Done)
}

/// Looks whenever there is a reason to, until it is told to stop.
fn attend(poller: &Poller, crew: &Crew, events: &Receiver<Event>) -> Result<()> {
    let mut sweep_at = Instant::now();
    for name in poller.with_requests() {
        crew.ask(&name);
    }
    loop {
        let sweep = Instant::now() >= sweep_at;
        match poller.look(sweep) {
            Ok(awake) => awake.iter().for_each(|name| crew.ask(name)),
            Err(error) => {
                output::warning(&error.render());
                std::thread::sleep(BREATH);
            }
        }
        if sweep {
            if let Err(error) = poller.swept() {
                output::warning(&error.render());
            }
            sweep_at = Instant::now() + SWEEP;
        }
        if !wait(poller, crew, events, sweep_at)? {
            return Ok(());
        }
    }
}

/// Waits until there is a reason to look; false when it is the end.
fn wait(poller: &Poller, crew: &Crew, events: &Receiver<Event>, sweep_at: Instant) -> Result<bool> {
    loop {
        let now = clock::now();
        let retries = poller.retries()?;
        let mut until = sweep_at;
        for (time, name) in retries {
            if time <= now {
                // Its hand-over is looked at as well as its requests.
                crew.ask(&name);
                until = until.min(Instant::now() + BREATH);
            } else {
                let left = Duration::try_from(time.duration_since(now)).unwrap_or_default();
                until = until.min(Instant::now() + left.max(BREATH));
            }
        }
        match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(false),
            Err(RecvTimeoutError::Timeout) => return Ok(true),
            // Its retries may be other ones now.
            Ok(Event::Served) => {}
            Ok(Event::Mark) => {
                std::thread::sleep(GATHER);
                while let Ok(event) = events.try_recv() {
                    if matches!(event, Event::Stop) {
                        return Ok(false);
                    }
                }
                return Ok(true);
            }
        }
    }
}

/// Hears of marks; without notifications the sweep still finds them.
fn watch_marks(node: &Node, send: Sender<Event>) -> Option<notify::RecommendedWatcher> {
    let folder = node.config.handover_path().join("wake");
    let heard = move |event: notify::Result<notify::Event>| {
        // Removing a mark is our own doing.
        if event.is_ok_and(|event| event.kind.is_create() || event.kind.is_modify()) {
            let _ = send.send(Event::Mark);
        }
    };
    let watcher = notify::recommended_watcher(heard).and_then(|mut watcher| watcher.watch(&folder, RecursiveMode::NonRecursive).map(|()| watcher));
    watcher.map_err(|error| output::warning(&format!("no notifications from {} ({error}); it is looked at every 10 minutes", folder.display()))).ok()
}

fn stop_at_signals(send: Sender<Event>) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|error| Error::failed("could not listen for signals").because(error))?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if send.send(Event::Stop).is_err() {
                return;
            }
        }
    });
    Ok(())
}
