//! Waiting for what must come about; never for a span of time.

use std::time::{Duration, Instant};

/// Waits until `done` holds, for at most a minute; `what` is what the failure says.
#[track_caller]
pub fn until(what: &str, done: impl FnMut() -> bool) -> Duration {
    until_for(what, Duration::from_secs(60), done)
}

/// As [`until`], with another limit. Gives how long it took.
#[track_caller]
pub fn until_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "it did not come about within {} s: {what}", limit.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}
