//! How many fetches of one client go on at once, where its limits say so.
//!
//! Does not wait: a lane that has no turn leaves, and comes back when the other one has had its.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The turns of one client.
#[derive(Debug, Default)]
pub struct Turns(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: u8,
    sent_away: bool,
}

/// A turn; it is over when this is dropped.
#[derive(Debug)]
pub struct Turn<'a>(&'a Turns);

impl Turns {
    /// A turn, unless `most` fetches go on already.
    pub fn take(&self, most: Option<u8>) -> Option<Turn<'_>> {
        let mut state = self.lock();
        if most.is_some_and(|most| state.running >= most) {
            state.sent_away = true;
            return None;
        }
        state.running += 1;
        Some(Turn(self))
    }

    /// Whether somebody was sent away since this was asked last.
    pub fn sent_away(&self) -> bool {
        std::mem::take(&mut self.lock().sent_away)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_sent_away_is_called_again() {
        let turns = Turns::default();
        let first = turns.take(Some(1)).unwrap();
        assert!(!turns.sent_away());
        assert!(turns.take(Some(1)).is_none());
        let second = turns.take(Some(2)).unwrap();
        drop((first, second));
        assert!(turns.sent_away() && !turns.sent_away());
        assert!(turns.take(Some(1)).is_some() && turns.take(None).is_some());
    }
}
