//! The overview, gathered once for all who ask at the same time, and kept for some seconds.
//!
//! Who asks while it is being gathered anew sees the one before, as long as that is not too old to be shown. The metrics of a look
//! are made once as well.

use crate::node::Node;
use crate::overview::{self, Overview};
use axum::body::Bytes;
use base::Error;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a look counts as new.
const FRESH: Duration = Duration::from_secs(5);
/// How many times as long as gathering took it counts as new, so that a large node does little else than show itself.
const REST: u32 = 4;
/// How old a look may be that is shown while the next is taken, at least.
const STALE: Duration = Duration::from_secs(120);

/// What was seen.
pub struct Look {
    /// How the node stood.
    pub overview: Overview,
    metrics: OnceLock<Bytes>,
    at: Instant,
    took: Duration,
}

impl Look {
    /// The page of metrics, made when it is asked for first.
    pub fn metrics(&self) -> Bytes {
        self.metrics.get_or_init(|| crate::metrics::render(&self.overview).into()).clone()
    }
}

/// What is done with a look of some age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It is shown.
    Fresh,
    /// It is shown, and the next is taken.
    Stale,
    /// Nobody gets to see it.
    Gone,
}

/// What is done with a look of this age that took so long. The next begins when it is no longer fresh and takes about as long: until
/// then it is shown, however large the node.
fn use_of(age: Duration, took: Duration) -> Use {
    match age {
        age if age <= FRESH.max(took.saturating_mul(REST)) => Use::Fresh,
        age if age <= STALE.max(took.saturating_mul(REST + 2)) => Use::Stale,
        _ => Use::Gone,
    }
}

/// The latest looks at one node.
pub struct Looks {
    node: Node,
    last: Arc<Mutex<Option<Arc<Look>>>>,
    /// Held by whoever gathers.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Looks {
    /// Of this node; nothing is gathered yet.
    pub fn new(node: Node) -> Self {
        Self { node, last: Arc::default(), turn: Arc::default() }
    }

    /// How the node stands now, or a few seconds ago.
    ///
    /// # Errors
    /// As gathering has them.
    pub async fn at(&self) -> Result<Arc<Look>, Error> {
        match self.known() {
            Some((look, Use::Fresh)) => return Ok(look),
            Some((look, Use::Stale)) => {
                if let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() {
                    self.gather(turn);
                }
                return Ok(look);
            }
            _ => {}
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        // Somebody else may have looked meanwhile.
        if let Some((look, Use::Fresh)) = self.known() {
            return Ok(look);
        }
        let gathered = self.gather(turn).await;
        gathered.unwrap_or_else(|_| Err(Error::failed("the program has a fault; its words are in the journal")))
    }

    /// The last look, and what is done with it.
    fn known(&self) -> Option<(Arc<Look>, Use)> {
        let look = lock(&self.last).clone()?;
        let is = use_of(look.at.elapsed(), look.took);
        Some((look, is))
    }

    /// Looks beside the connections. Goes on when nobody waits for it any more.
    fn gather(&self, turn: tokio::sync::OwnedMutexGuard<()>) -> tokio::task::JoinHandle<Result<Arc<Look>, Error>> {
        let (node, last) = (self.node.clone(), Arc::clone(&self.last));
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let begun = Instant::now();
            let overview = overview::gather(&node, None)?;
            let look = Arc::new(Look { overview, metrics: OnceLock::new(), at: Instant::now(), took: begun.elapsed() });
            *lock(&last) = Some(Arc::clone(&look));
            Ok(look)
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_shown_until_the_next_is_there_however_long_that_takes() {
        let of = |age, took| use_of(Duration::from_secs(age), Duration::from_secs(took));
        for (took, fresh, stale) in [(0, 5, 120), (1, 5, 120), (10, 40, 120), (60, 240, 360), (600, 2400, 3600)] {
            assert_eq!([of(0, took), of(fresh, took), of(fresh + 1, took)], [Use::Fresh, Use::Fresh, Use::Stale], "{took}");
            assert_eq!([of(stale, took), of(stale + 1, took)], [Use::Stale, Use::Gone], "{took}");
            // When the next is asked for at the last moment it is taken while this one is shown.
            assert!(fresh + took < stale, "{took}");
        }
        assert_eq!(use_of(Duration::MAX, Duration::MAX), Use::Fresh);
    }
}
