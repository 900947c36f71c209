//! What the poller remembers of one client while it runs: kept connections, retries, what came last.
//!
//! Does not fetch and does not decide. Files here are no truth but the poller's memory, see [`crate::state`].

use super::ingest::Begun;
use super::retry::Retry;
use super::spent::{Count, Spent};
use super::turns::Turns;
use crate::node::Node;
use base::{Error, Name, RequestId, Result, clock};
use jiff::Timestamp;
use queue::{Outcome, Receipt, Repository};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use transport::{Endpoint, Peer};

/// What came last of a client, kept as `last.toml` in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    version: i64,
    /// The last request that was taken in: when, and its id.
    pub received: Option<(Timestamp, RequestId)>,
    /// Datasets whose last request was not stored.
    #[serde(default)]
    pub trouble: BTreeMap<String, Trouble>,
    /// When the newest snapshots of each dataset came, the oldest first.
    #[serde(default)]
    pub came: BTreeMap<String, Vec<Timestamp>>,
}

/// The last request of a dataset that was not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Refused or failed.
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
    /// Since when none was stored.
    pub since: Timestamp,
    /// The last one's time.
    pub last: Timestamp,
    /// The last one's id.
    pub id: RequestId,
}

impl Default for Last {
    fn default() -> Self {
        Self { version: base::config::VERSION, received: None, trouble: BTreeMap::new(), came: BTreeMap::new() }
    }
}

/// Where it stands what a client has used, in its folder.
const SPENT: &str = "spent.toml";

/// How many datasets in trouble are remembered for one client.
const MOST_TROUBLE: usize = 1000;

impl Last {
    /// Takes note of a receipt; true when something changed.
    pub fn note(&mut self, receipt: &Receipt) -> bool {
        let dataset = receipt.dataset.to_string();
        if receipt.outcome == Outcome::Stored {
            return self.trouble.remove(&dataset).is_some();
        }
        let known = self.trouble.get(&dataset);
        if known.is_none() && self.trouble.len() >= MOST_TROUBLE {
            return false;
        }
        let since = known.map_or(receipt.received, |trouble| trouble.since);
        let reason = receipt.reason.clone().unwrap_or_default();
        self.trouble.insert(dataset, Trouble { outcome: receipt.outcome, reason, since, last: receipt.received, id: receipt.id.clone() });
        true
    }
}

/// One client, as long as the poller runs.
#[derive(Debug)]
pub struct Client {
    /// Its name.
    pub name: Name,
    /// Its folder on the node.
    pub folder: PathBuf,
    answers: Mutex<Option<Repository>>,
    retry: Mutex<Retry>,
    last: Mutex<Last>,
    spent: Mutex<Spent>,
    /// Whose turn it is to fetch.
    pub turns: Turns,
    peers: Mutex<BTreeMap<String, Arc<Peer>>>,
    opening: Mutex<()>,
    lanes: Mutex<BTreeMap<RequestId, modules::Lane>>,
    begun: Mutex<Option<Begun>>,
}

impl Client {
    /// Reads what was remembered; makes the client's folder where there is none.
    ///
    /// # Errors
    /// With the path.
    pub fn open(node: &Node, name: &Name) -> Result<Self> {
        node.prepare_client(name)?;
        let folder = node.config.client_path(name);
        Ok(Self {
            name: name.clone(),
            answers: Mutex::default(),
            retry: Mutex::new(read_retry(&folder)),
            last: Mutex::new(read_last(&folder)),
            spent: Mutex::new(read_spent(&folder)),
            turns: Turns::default(),
            peers: Mutex::default(),
            opening: Mutex::default(),
            lanes: Mutex::default(),
            begun: Mutex::default(),
            folder,
        })
    }

    /// The node's pool for this client.
    pub fn pool_path(&self) -> PathBuf {
        self.folder.join("pool")
    }

    /// What is waited for.
    pub fn waits(&self) -> Retry {
        lock(&self.retry).clone()
    }

    /// Changes what is waited for; a change is kept on the disk.
    ///
    /// # Errors
    /// With the path.
    pub fn retry<T>(&self, change: impl FnOnce(&mut Retry) -> T) -> Result<T> {
        keep(&self.retry, &self.folder.join("retry.toml"), change)
    }

    /// As [`Client::retry`], for what came last.
    ///
    /// # Errors
    /// With the path.
    pub fn last<T>(&self, change: impl FnOnce(&mut Last) -> T) -> Result<T> {
        keep(&self.last, &self.folder.join("last.toml"), change)
    }

    /// What it has used within a day.
    pub fn spent(&self) -> Spent {
        lock(&self.spent).clone()
    }

    /// As [`Client::retry`], for what it has used.
    ///
    /// # Errors
    /// With the path.
    pub fn spend(&self, count: Count, more: u64) -> Result<()> {
        if more == 0 {
            return Ok(());
        }
        keep(&self.spent, &self.folder.join(SPENT), |spent| spent.note(count, more, clock::now()))
    }

    /// Uses the repository of receipts, which is kept open. One at a time, so that each request gets one receipt.
    ///
    /// # Errors
    /// As `use_it`; or when the repository cannot be opened.
    pub fn answers<T>(&self, node: &Node, use_it: impl FnOnce(&Repository) -> Result<T>) -> Result<T> {
        let mut kept = lock(&self.answers);
        if kept.is_none() {
            let path = node.config.receipts_path(&self.name);
            let repository = Repository::open_or_create(&path, super::RECEIPTS_BRANCH)?;
            crate::groups::give(&path, node.config.groups.gate.as_deref())?;
            // A history begun a second time is one that no client takes.
            repository.check_branch()?;
            *kept = Some(repository);
        }
        let result = kept.as_ref().map_or_else(|| Err(Error::failed("the receipts are not open")), use_it);
        if result.is_err() {
            // Whatever was wrong, the next one looks at the disk again.
            *kept = None;
        }
        result
    }

    /// The pack of its that is taken in over several rounds.
    pub fn begun(&self) -> MutexGuard<'_, Option<Begun>> {
        lock(&self.begun)
    }

    /// Lets `open` open a connection that nobody needs yet. Who asks for [`Client::peer`] meanwhile waits for it, and so shares it
    /// instead of logging in as well.
    pub fn opening<T>(&self, open: impl FnOnce() -> T) -> T {
        let _opening = lock(&self.opening);
        open()
    }

    /// The connection to `endpoint`, kept as long as the endpoint stays the same.
    ///
    /// # Errors
    /// When the endpoint cannot be used.
    pub fn peer(&self, endpoint: Endpoint) -> Result<Arc<Peer>> {
        drop(lock(&self.opening));
        let key = format!("{endpoint:?}");
        let mut peers = lock(&self.peers);
        if let Some(peer) = peers.get(&key) {
            return Ok(Arc::clone(peer));
        }
        let peer = Arc::new(Peer::new(endpoint)?);
        // An account for archives and one for git; more are left from before the list was changed.
        if peers.len() >= 2 {
            peers.clear();
        }
        peers.insert(key, Arc::clone(&peer));
        Ok(peer)
    }

    /// The lane of a request, found once by `find`.
    ///
    /// # Errors
    /// As `find`.
    pub fn lane_of(&self, id: &RequestId, find: impl FnOnce() -> Result<modules::Lane>) -> Result<modules::Lane> {
        if let Some(lane) = lock(&self.lanes).get(id) {
            return Ok(*lane);
        }
        let lane = find()?;
        lock(&self.lanes).insert(id.clone(), lane);
        Ok(lane)
    }

    /// Forgets what was remembered of a request that has its receipt.
    ///
    /// # Errors
    /// With the path.
    pub fn done(&self, id: &RequestId) -> Result<()> {
        lock(&self.lanes).remove(id);
        self.retry(|retry| retry.worked(id.as_str())).map(drop)
    }
}

/// What a client's folder says of retries, for commands that only look.
pub fn read_retry(folder: &Path) -> Retry {
    crate::state::load(&folder.join("retry.toml"))
}

/// What a client's folder says of what came last, for commands that only look.
pub fn read_last(folder: &Path) -> Last {
    crate::state::load(&folder.join("last.toml"))
}

/// What a client's folder says of what it has used, for commands that only look.
pub fn read_spent(folder: &Path) -> Spent {
    crate::state::load(&folder.join(SPENT))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep<S: Clone + PartialEq + Serialize, T>(state: &Mutex<S>, path: &Path, change: impl FnOnce(&mut S) -> T) -> Result<T> {
    let mut state = lock(state);
    let before = state.clone();
    let answer = change(&mut state);
    if *state != before {
        crate::state::store(path, &*state)?;
    }
    Ok(answer)
}
