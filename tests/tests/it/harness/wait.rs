//! Waiting for what must come about; never for a span of time.

use std::time::{Duration, Instant};

/// Far more than anything takes that works.
const LIMIT: Duration = Duration::from_secs(240);

/// Waits until `done` holds; `what` is what the failure says.
#[track_caller]
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "it did not come about within {} s: {what}", LIMIT.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}
