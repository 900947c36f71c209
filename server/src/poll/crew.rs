//! The workers that serve clients: two for each client at most, one for archives and one for mirrors.
//!
//! Does not know what serving is, nor who asked for it.

use super::lanes::Lanes;
use super::{Poller, serve};
use base::{Error, Name, Result};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

/// How long requests in progress may go on after the end was asked for. Whatever is cut off is taken up again.
const GRACE: Duration = Duration::from_secs(8);

/// The lanes of all clients.
#[derive(Debug)]
pub struct Crew {
    lanes: Vec<Lanes<Name>>,
    /// How often somebody was asked for.
    asked: AtomicU64,
}

impl Crew {
    /// Nobody has anything to do yet.
    pub fn new() -> Self {
        Self { lanes: serve::LANES.iter().map(|_| Lanes::new()).collect(), asked: AtomicU64::new(0) }
    }

    /// Asks for a client to be served.
    pub fn ask(&self, client: &Name) {
        for lanes in &self.lanes {
            lanes.ask(client.clone());
        }
        // Behind the asking, see `wait_idle`.
        self.asked.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until nobody works and nobody is asked for in any lane, all at once: one that has work to do may ask for the
    /// others, also for one that was waited for already.
    fn wait_idle(&self) {
        loop {
            let asked = self.asked.load(Ordering::SeqCst);
            for lanes in &self.lanes {
                lanes.wait_idle(None);
            }
            // Who asks works until after it has counted, so whatever was asked for by the end of the waiting is counted.
            if self.asked.load(Ordering::SeqCst) == asked {
                return;
            }
        }
    }

    /// Lets every worker end after the request that it has.
    pub fn stop(&self) {
        self.lanes.iter().for_each(Lanes::stop);
    }

    /// Waits for what runs, for a while; false when something still does.
    pub fn wait_for_end(&self) -> bool {
        self.lanes.iter().all(|lanes| lanes.wait_idle(Some(GRACE)))
    }

    /// Works until [`Crew::stop`]: `workers` threads a lane. `after` hears whenever a client was served.
    pub fn start<'scope, 'env>(
        &'env self,
        scope: &'scope std::thread::Scope<'scope, 'env>,
        poller: &'env Poller,
        workers: usize,
        after: &Sender<Name>,
    ) where
        'env: 'scope,
    {
        for (lanes, (lane, key)) in self.lanes.iter().zip(serve::LANES) {
            for _ in 0..workers {
                let after = after.clone();
                scope.spawn(move || {
                    lanes.work(|name| {
                        let serve = || {
                            serve::serve(
                                poller,
                                name,
                                lane,
                                key,
                                &serve::Signs { stopping: &|| lanes.stopping(), crowded: &|| lanes.crowded() },
                            )
                        };
                        // One client's trouble must not take the others' workers away.
                        let done = catch_unwind(AssertUnwindSafe(serve))
                            .unwrap_or_else(|_| Err(Error::failed("the program has a fault; its words are above")));
                        match done {
                            Ok(true) => self.ask(name),
                            Ok(false) => {}
                            Err(error) => poller.trouble(name, &error),
                        }
                        let _ = after.send(name.clone());
                    });
                });
            }
        }
    }
}

/// Serves `names` once and comes back when nothing is left to do for now.
///
/// # Errors
/// None of its own; what goes wrong with one client is that client's.
pub fn serve_once(poller: &Poller, names: BTreeSet<Name>) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let crew = Crew::new();
    let workers = names.len().min(usize::from(poller.node.config.workers));
    names.iter().for_each(|name| crew.ask(name));
    let (after, _done) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        crew.start(scope, poller, workers, &after);
        crew.wait_idle();
        crew.stop();
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_lane_asks_of_the_other_is_done_before_the_end() {
        let name = Name::new("web1").unwrap();
        let (crew, archives, mirrors) = (Crew::new(), AtomicU64::new(0), AtomicU64::new(0));
        let rest = || std::thread::sleep(Duration::from_millis(20));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                crew.lanes[0].work(|_| {
                    if archives.fetch_add(1, Ordering::SeqCst) > 0 {
                        rest();
                        assert!(!crew.lanes[0].stopping(), "the end was asked for although there was work");
                    }
                });
            });
            // Works when the other one is through, and then has something for it.
            scope.spawn(|| {
                crew.lanes[1].work(|name| {
                    if mirrors.fetch_add(1, Ordering::SeqCst) == 0 {
                        rest();
                        crew.ask(name);
                    }
                });
            });
            crew.ask(&name);
            crew.wait_idle();
            crew.stop();
        });
        assert_eq!((archives.into_inner(), mirrors.into_inner()), (2, 2));
    }
}
