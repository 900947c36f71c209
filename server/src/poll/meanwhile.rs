//! Looking on while a poll from cron serves: a first backup may take a day, in which no other poll gets to look.
//!
//! What it takes in is served by the next poll, which finds it in the pool.

use super::Poller;
use crate::{metrics, output};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Does `work`, which must not look itself, and looks at everything whenever it has lasted `every` longer.
pub fn looking<T>(poller: &Poller, every: Duration, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        // It goes when the work has ended, however that is.
        let (_working, ended) = channel::<()>();
        scope.spawn(move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = poller.look(true).and_then(|_| poller.note_sweep()) {
                    output::warning(&error.render());
                }
                metrics::write(&poller.node);
            }
        });
        work()
    })
}
