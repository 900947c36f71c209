//! Opens connections to clients that are about to ask for something, so that fetching does not wait for the login.
//!
//! Nothing depends on it. One client after another has its turn, and who takes long, or is not reached, is left alone for long: it
//! may say as often as it likes that it comes.

use super::Poller;
use super::lanes::Lanes;
use base::Name;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A client is left alone for so many times as long as it took.
const REST: u32 = 4;

/// How long one is left alone that was not reached.
const IN_VAIN: Duration = Duration::from_secs(600);

/// The clients that are about to ask for something.
#[derive(Debug)]
pub struct Ahead {
    lane: Lanes<Name>,
    rests: Mutex<BTreeMap<Name, Instant>>,
}

impl Ahead {
    /// Nobody is.
    pub fn new() -> Self {
        Self { lane: Lanes::new(), rests: Mutex::default() }
    }

    /// Asks for a connection to be opened, soon.
    pub fn ask(&self, client: Name) {
        self.lane.ask(client);
    }

    /// Opens connections until [`Ahead::stop`]. One thread does this.
    pub fn work(&self, poller: &Poller) {
        self.lane.work(|client| self.turn(client, || poller.open_ahead(client)));
    }

    /// Ends the work after the connection that is being opened. Whether none is.
    pub fn stop(&self) -> bool {
        self.lane.stop();
        self.lane.wait_idle(Some(Duration::ZERO))
    }

    /// Lets `open` open a connection, unless the client is to be left alone.
    fn turn(&self, client: &Name, open: impl FnOnce() -> bool) {
        let begun = Instant::now();
        let rests = || self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        rests().retain(|_, until| *until > begun);
        if rests().contains_key(client) {
            return;
        }
        let opened = catch_unwind(AssertUnwindSafe(open)).unwrap_or(false);
        let rest = if opened { begun.elapsed() * REST } else { IN_VAIN };
        rests().insert(client.clone(), Instant::now() + rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn who_takes_long_or_is_not_reached_is_left_alone() {
        let (ahead, tries) = (Ahead::new(), Cell::new(0));
        let [far, slow, near] = ["far", "slow", "near"].map(|name| Name::new(name).unwrap());
        let open = |client: &Name, pause: u64, opened: bool| {
            ahead.turn(client, || {
                tries.set(tries.get() + 1);
                std::thread::sleep(Duration::from_millis(pause));
                opened
            });
            tries.replace(0)
        };
        assert_eq!((open(&far, 0, false), open(&far, 0, false)), (1, 0));
        let before = Instant::now();
        assert_eq!(open(&slow, 50, true), 1);
        assert!(ahead.rests.lock().unwrap()[&slow] >= before + 5 * Duration::from_millis(50), "its turn, and four times that");
        assert_eq!(open(&near, 0, true), 1);
        while open(&near, 0, true) == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        // A fault in it ends nothing.
        let fault = Name::new("fault").unwrap();
        ahead.turn(&fault, || panic!("as if there were one"));
        assert_eq!(open(&fault, 0, true), 0);
        assert!(ahead.stop());
    }
}
