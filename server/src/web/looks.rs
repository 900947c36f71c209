//! The overview, gathered once for all who ask at the same time, and kept for some seconds.
//!
//! Who asks while it is being gathered anew sees the one before, as long as that is not too old to be shown.

use crate::node::Node;
use crate::overview::{self, Overview};
use base::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a look counts as new.
const FRESH: Duration = Duration::from_secs(5);
/// How many times as long as gathering took it counts as new, so that a large node does little else than show itself.
const REST: u32 = 4;
/// How old a look may be that is shown while the next is taken.
const STALE: Duration = Duration::from_secs(120);

/// What was seen last.
struct Look {
    overview: Arc<Overview>,
    at: Instant,
    took: Duration,
}

/// The latest looks at one node.
pub struct Looks {
    node: Node,
    last: Arc<Mutex<Option<Look>>>,
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
    pub async fn at(&self) -> Result<Arc<Overview>, Error> {
        match self.known(STALE) {
            Some((overview, true)) => return Ok(overview),
            Some((overview, false)) => {
                if let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() {
                    self.gather(turn);
                }
                return Ok(overview);
            }
            None => {}
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        // Somebody else may have looked meanwhile.
        if let Some((overview, true)) = self.known(STALE) {
            return Ok(overview);
        }
        let gathered = self.gather(turn).await;
        gathered.unwrap_or_else(|_| Err(Error::failed("the program has a fault; its words are in the journal")))
    }

    /// The last look, when it is not older than `most`, and whether it is new.
    fn known(&self, most: Duration) -> Option<(Arc<Overview>, bool)> {
        let last = lock(&self.last);
        let look = last.as_ref().filter(|look| look.at.elapsed() <= most)?;
        Some((Arc::clone(&look.overview), look.at.elapsed() <= FRESH.max(look.took * REST)))
    }

    /// Looks beside the connections. Goes on when nobody waits for it any more.
    fn gather(&self, turn: tokio::sync::OwnedMutexGuard<()>) -> tokio::task::JoinHandle<Result<Arc<Overview>, Error>> {
        let (node, last) = (self.node.clone(), Arc::clone(&self.last));
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let begun = Instant::now();
            let overview = Arc::new(overview::gather(&node, None)?);
            *lock(&last) = Some(Look { overview: Arc::clone(&overview), at: Instant::now(), took: begun.elapsed() });
            Ok(overview)
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
