//! Wakes the lanes: something may have become claimable, or it is time to stop.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Rings are counted, so that one that comes while nobody waits is not lost.
#[derive(Debug, Default)]
pub struct Bell {
    state: Mutex<(u64, bool)>,
    changed: Condvar,
}

impl Bell {
    /// Wakes whoever waits.
    pub fn ring(&self) {
        lock(&self.state).0 += 1;
        self.changed.notify_all();
    }

    /// Wakes whoever waits, for the last time.
    pub fn stop(&self) {
        lock(&self.state).1 = true;
        self.changed.notify_all();
    }

    /// Whether it is time to stop.
    pub fn stopped(&self) -> bool {
        lock(&self.state).1
    }

    /// Waits for a ring that came after the one numbered `heard`, at most `time`. False when it is time to stop.
    pub fn wait(&self, heard: &mut u64, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut state = lock(&self.state);
        while state.0 == *heard && !state.1 {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else { break };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *heard = state.0;
        !state.1
    }
}

/// A lock whose holder panicked is used on: what it guards here is valid after every step.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_ring_is_lost_and_stop_ends_it() {
        let bell = Bell::default();
        let mut heard = 0;
        bell.ring();
        let begun = Instant::now();
        assert!(bell.wait(&mut heard, Duration::from_secs(60)));
        assert!(begun.elapsed() < Duration::from_secs(30) && heard == 1);
        assert!(bell.wait(&mut heard, Duration::from_millis(1)));
        bell.stop();
        assert!(!bell.wait(&mut heard, Duration::from_secs(60)));
    }
}
