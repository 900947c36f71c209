//! The poller: takes what the gate handed over into its own copies, and serves the requests.
//!
//! Nothing here trusts the gate: every commit is checked again, and no process of this uid runs git in a repository
//! that the gate can write. Every step may be repeated: what was done is found done.
//!
//! | step | module | durable before the next |
//! |---|---|---|
//! | the gate's upkeep, where uids are shared | [`gate`] | – |
//! | the access list's hand-over | [`admin`] | `admin.git`, then `access/` |
//! | requests' hand-over: packs → log → pool (or a refusal) | [`handover`], [`ingest`] | pool and refusals, then the log's tip, then the gate is told of it, then the pack goes |
//! | serving: fetch, check, accept | [`serve`] | the store |
//! | answering | [`receipts`] | the receipt, then `P` → `F`, then `incoming/` goes |
//!
//! One process at a time polls a node (`state/poll.lock`); inside it, taking in is done by one thread, and serving by
//! workers, each client's archives and mirrors by one worker each.

mod admin;
pub mod ahead;
pub mod alarms;
pub mod client;
pub mod crew;
mod gate;
pub mod handover;
mod ingest;
mod lanes;
pub mod meanwhile;
pub mod quiet;
mod receipts;
pub mod retry;
mod serve;
pub mod spent;
mod tidy;
pub mod timetable;
mod turns;

use crate::access::{self, Access};
use crate::dial::Lines;
use crate::node::Node;
use base::config::{Reach, SOON};
use base::{Blake3, Dataset, Error, FileLock, Kind, Name, Result, atomic, clock};
use client::Client;
use ingest::Taken;
use jiff::Timestamp;
use queue::Signer;
use queue::access::ClientGrant;
use queue::pool::NodePool;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use transport::Peer;

#[cfg(test)]
mod tests;

pub use ingest::{LOG_BRANCH, signers_path};
pub use receipts::BRANCH as RECEIPTS_BRANCH;

/// How often everything is looked at, marks or not.
pub const SWEEP: Duration = Duration::from_secs(600);

/// How long a connection may take to open that nobody waits for yet.
const AHEAD: Duration = Duration::from_secs(20);

/// What a client's retry of taking in its hand-over is called.
const HANDOVER: &str = "hand-over";

/// One node's poller. There is at most one for a node at any time.
#[derive(Debug)]
pub struct Poller {
    /// The node.
    pub node: Node,
    signer: Signer,
    access: Mutex<Arc<Access>>,
    clients: Mutex<BTreeMap<Name, Arc<Client>>>,
    worst: Mutex<Option<Kind>>,
    looked: AtomicBool,
    /// Clients of which more waits than one round takes in.
    unfinished: Mutex<BTreeSet<Name>>,
    /// Clients that are about to ask for something.
    expected: Mutex<BTreeSet<Name>>,
    /// Where clients dial in, as soon as there are any that are to.
    lines: Mutex<Option<Arc<Lines>>>,
    /// Who wants to hear of it when one does.
    news: Mutex<Option<Sender<Name>>>,
    _lock: FileLock,
}

impl Poller {
    /// Makes what is missing of the node's folders, publishes the access list, and becomes the node's poller; `None`
    /// when another process is. Whoever is to sweep first says so: then what was published before is looked at.
    ///
    /// # Errors
    /// When folders, keys or the access list are not usable.
    pub fn open(node: Node, sweep: bool) -> Result<Option<Self>> {
        node.check_owner()?;
        node.prepare()?;
        let Some(lock) = FileLock::try_now(&node.state_path().join("poll.lock"))? else { return Ok(None) };
        quiet::end(&node)?;
        let signer = Signer::from_file(&node.config.receipts_key)
            .map_err(|error| error.hint("nightsafe-server init makes the keys that node.toml names."))?;
        let access = access::refresh(&node, None, sweep)?;
        let this = Self {
            node,
            signer,
            access: Mutex::new(access),
            clients: Mutex::default(),
            worst: Mutex::default(),
            looked: AtomicBool::default(),
            unfinished: Mutex::default(),
            expected: Mutex::default(),
            lines: Mutex::default(),
            news: Mutex::default(),
            _lock: lock,
        };
        this.own("gate's folders", this.node.prepare_gate())?;
        this.take_in_lines()?;
        Ok(Some(this))
    }

    /// What follows a look at everything: the upkeep, and the note of it.
    ///
    /// # Errors
    /// With the path.
    pub fn swept(&self) -> Result<()> {
        self.tidy()?;
        self.note_sweep()
    }

    /// Notes that everything was looked at.
    ///
    /// # Errors
    /// With the path.
    pub fn note_sweep(&self) -> Result<()> {
        atomic::write(&self.node.state_path().join("sweep"), b"", 0o640)
    }

    /// The upkeep of each sweep.
    ///
    /// # Errors
    /// When trouble cannot be written down.
    pub fn tidy(&self) -> Result<()> {
        tidy::tidy(self)?;
        self.own("cgit", crate::cgit::publish(&self.node))
    }

    /// Takes in what was handed over, from clients that left a mark, or with `sweep` from all. Gives the clients that
    /// are to be served because of it; what waits already is told by [`Poller::with_requests`]. Of each client a bounded part is taken in, so that a flood of one delays no other; while
    /// [`Poller::unfinished`] says so, the next look goes on. One thread at a time may do this.
    ///
    /// # Errors
    /// When the hand-over or the access list cannot be read at all; what goes wrong with one client is that client's.
    pub fn look(&self, sweep: bool) -> Result<BTreeSet<Name>> {
        if sweep {
            self.own("gate", gate::maintain(&self.node))?;
        }
        // Who has the gate may hide the marks; then everything is looked at, and a person hears of it.
        let (marks, blind) = match handover::take_marks(&self.node.config.gate) {
            Ok(marks) => (marks, None),
            Err(error) => (BTreeSet::new(), Some(error)),
        };
        // A process that was killed may have removed a mark and not have come to look.
        let first = !self.looked.swap(true, Ordering::Relaxed);
        let all = first || sweep || blind.is_some();
        self.own("marks", blind.map_or(Ok(()), Err))?;
        if all || marks.contains("admin") {
            admin::take_in(self)?;
        }
        let fresh = access::refresh(&self.node, Some(&self.access()), sweep && !first)?;
        *lock(&self.access) = Arc::clone(&fresh);
        self.take_in_lines()?;
        let mut awake = BTreeSet::new();
        let unfinished = std::mem::take(&mut *lock(&self.unfinished));
        for (name, grant) in &fresh.list.clients {
            if !marks.is_empty() && marks.contains(&format!("{name}{SOON}")) {
                lock(&self.expected).insert(name.clone());
            }
            let marked = marks.contains(name.as_str());
            match self.look_at(name, grant, all || marked || unfinished.contains(name)) {
                Ok(new) if new || marked => {
                    awake.insert(name.clone());
                }
                Ok(_) => {}
                Err(error) => self.trouble(name, &error),
            }
        }
        Ok(awake)
    }

    /// Takes in what one client handed over, when it is `asked` for or was tried before in vain. True when there is
    /// something new.
    fn look_at(&self, name: &Name, grant: &ClientGrant, asked: bool) -> Result<bool> {
        let client = self.client(name)?;
        let now = clock::now();
        let mut waits = client.waits();
        // Thousands wait for nothing.
        let changed = !waits.wait.is_empty() && client.retry(|retry| retry.under(&digest(grant), now))?;
        if changed {
            waits = client.waits();
        }
        if !(asked || waits.failures(HANDOVER) > 0 && waits.due(HANDOVER, now)) {
            return Ok(changed);
        }
        match ingest::take_in(self, &client, grant) {
            Ok(Taken { new, more }) => {
                if more {
                    lock(&self.unfinished).insert(name.clone());
                }
                client.retry(|retry| {
                    retry.worked(HANDOVER);
                    if new {
                        // Its push has just shown that the client is there.
                        retry.hurry(now);
                    }
                })?;
                Ok(new || changed)
            }
            Err(error) => self.try_again(&client, &[HANDOVER], &error).map(|()| changed),
        }
    }

    /// Takes in lines of those clients that are to dial in, if there are any.
    fn take_in_lines(&self) -> Result<()> {
        let access = self.access();
        let dials = |(name, grant): (&Name, &ClientGrant)| (grant.reach == Reach::Dial && !grant.paused).then(|| name.clone());
        let clients: BTreeSet<Name> = access.list.clients.iter().filter_map(dials).collect();
        let mut lines = lock(&self.lines);
        if lines.as_ref().is_some_and(|lines| lines.ended()) {
            *lines = None;
        }
        if lines.is_none() && !clients.is_empty() {
            match Lines::open(&self.node, clients.clone()) {
                Ok(opened) => {
                    opened.tell(lock(&self.news).clone());
                    *lines = Some(Arc::new(opened));
                    self.own("dialling in", Ok(()))?;
                }
                // It is tried again at the next look.
                Err(error) => self.own("dialling in", Err(error.context("no client can dial in")))?,
            }
        }
        if let Some(lines) = &*lines {
            lines.expect(clients);
        }
        Ok(())
    }

    /// Tells `news` of each client that dials in, from now on.
    pub fn tell_of_lines(&self, news: Option<Sender<Name>>) {
        if let Some(lines) = &*lock(&self.lines) {
            lines.tell(news.clone());
        }
        *lock(&self.news) = news;
    }

    /// A client has dialled in: what could not be fetched from it is tried at once.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn dialled_in(&self, name: &Name) -> Result<()> {
        let client = self.client(name)?;
        client.retry(|retry| retry.hurry(clock::now()))
    }

    /// Waits a moment for the lines of clients that have requests and hold one at the gate, also of those that are not due: who is
    /// there is tried at once.
    ///
    /// # Errors
    /// As [`Poller::dialled_in`].
    pub fn gather_lines(&self) -> Result<()> {
        let Some(lines) = lock(&self.lines).clone() else { return Ok(()) };
        let access = self.access();
        let mut dial = self.with_requests();
        dial.retain(|name| access.list.clients.get(name).is_some_and(|grant| grant.reach == Reach::Dial));
        lines.gather(&dial).iter().try_for_each(|name| self.dialled_in(name))
    }

    /// The way to a client that dials in.
    fn dialled_peer(&self, name: &Name) -> Result<Arc<Peer>> {
        let waits = || Error::not_now(format!("{name} has not dialled in; its requests wait until it does"));
        let lines = lock(&self.lines).clone().ok_or_else(waits)?;
        if !lines.reaches(name) {
            return Err(waits());
        }
        Ok(Arc::new(Peer::dialled(name.as_str(), &self.node.config.lines_path())?))
    }

    /// The clients of which the gate said since the last time that they are about to ask for something.
    pub fn take_expected(&self) -> BTreeSet<Name> {
        std::mem::take(&mut *lock(&self.expected))
    }

    /// Opens the connection to a client; false when it could not be opened, and whoever fetches finds out why. Does nothing where
    /// something waits for its next try, or where it is not clear which connection will be needed.
    pub fn open_ahead(&self, name: &Name) -> bool {
        let access = self.access();
        let one_login = |grant: &&ClientGrant| {
            !grant.paused && grant.reach == Reach::Ssh && grant.git_address.as_ref().is_none_or(|git| Some(git) == grant.address.as_ref())
        };
        let Some(grant) = access.list.clients.get(name).filter(one_login) else { return true };
        let Ok(client) = self.client(name) else { return true };
        if !client.waits().wait.is_empty() {
            return true;
        }
        let peer = serve::peer(self, &client, grant, grant.address.as_ref(), "address");
        let asked = peer.and_then(|peer| client.opening(|| peer.open_ahead(AHEAD)));
        asked.inspect_err(|error| tracing::debug!("{name}: {}", error.one_line())).is_ok()
    }

    /// Whether something of a client waits that the last look did not get to.
    pub fn unfinished(&self) -> bool {
        !lock(&self.unfinished).is_empty()
    }

    /// The clients that have requests in the pool, and are not paused.
    pub fn with_requests(&self) -> BTreeSet<Name> {
        let access = self.access();
        let busy = |name: &Name| {
            let path = self.node.config.client_path(name).join("pool");
            let pool = path.is_dir().then(|| NodePool::open(&path));
            pool.is_some_and(|pool| pool.and_then(|pool| Ok(!pool.processing()?.is_empty() || !pool.waiting()?.is_empty())).unwrap_or(true))
        };
        access.list.clients.iter().filter(|(name, grant)| !grant.paused && busy(name)).map(|(name, _)| name.clone()).collect()
    }

    /// When something of a client is to be tried again, the earliest first; of what was due by the time in `asked`, the
    /// client was asked about already.
    ///
    /// # Errors
    /// When a client's folder cannot be made.
    pub fn retries(&self, asked: &BTreeMap<Name, Timestamp>) -> Result<Vec<(Timestamp, Name)>> {
        let mut next = Vec::new();
        for (name, grant) in &self.access().list.clients {
            if !grant.paused {
                let after = asked.get(name).copied().unwrap_or(Timestamp::MIN);
                next.extend(self.client(name)?.waits().next_after(after).map(|time| (time, name.clone())));
            }
        }
        next.sort();
        Ok(next)
    }

    /// The worst that happened so far, as an exit code will say it; what only waits for its next try is not done either.
    ///
    /// # Errors
    /// When a client's folder cannot be made.
    pub fn worst(&self) -> Result<Option<Kind>> {
        let waits = !self.retries(&BTreeMap::new())?.is_empty();
        Ok((*lock(&self.worst)).or(waits.then_some(Kind::NotNow)))
    }

    /// The access list in force.
    fn access(&self) -> Arc<Access> {
        Arc::clone(&lock(&self.access))
    }

    /// What is remembered of a client.
    fn client(&self, name: &Name) -> Result<Arc<Client>> {
        let mut clients = lock(&self.clients);
        if let Some(client) = clients.get(name) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(Client::open(&self.node, name)?);
        clients.insert(name.clone(), Arc::clone(&client));
        Ok(client)
    }

    /// Something of a client did not work and is tried again: `keys` are what waits. Told when it is new.
    fn try_again(&self, client: &Client, keys: &[&str], error: &Error) -> Result<()> {
        let (now, random, words) = (clock::now(), base::backoff::jitter(), error.one_line());
        let mut news = false;
        let grant = self.access().list.clients.get(&client.name).map(digest).unwrap_or_default();
        client.retry(|retry| {
            retry.failed_under(grant);
            for key in keys {
                news |= retry.failed(key, words.clone(), now, random);
            }
        })?;
        self.worse(Kind::NotNow);
        let what = keys.first().copied().unwrap_or_default();
        let advice = advice(error);
        tell(news, &format!("{}: {what}: {words}; it is tried again{advice}", client.name));
        Ok(())
    }

    /// Something happened that must not happen among honest parties. Nothing is acted on; a person must look.
    fn alarm(&self, client: &Client, about: &str, words: &str) -> Result<()> {
        let news = alarms::raise(&client.folder, about, words, clock::now())?;
        self.worse(Kind::Failed);
        tell(news, &format!("alarm: {}: {words}", client.name));
        Ok(())
    }

    /// The source of a mirror did what honest ones rarely do. Its state is stored as every other one; a person should look.
    fn heed(&self, client: &Client, dataset: &Dataset, words: &str) -> Result<()> {
        let news = alarms::raise(&client.folder, &format!("{}{dataset}", alarms::MIRROR), &format!("{dataset}: {words}"), clock::now())?;
        tell(news, &format!("{}: {dataset}: {words}", client.name));
        Ok(())
    }

    /// As [`Poller::alarm`], where it is about no client.
    fn node_alarm(&self, about: &str, words: &str) -> Result<()> {
        let news = alarms::raise(&self.node.state_path(), about, words, clock::now())?;
        self.worse(Kind::Failed);
        tell(news, &format!("alarm: {words}"));
        Ok(())
    }

    /// How something of the node's own went: trouble is told when it is new, and forgotten when it is over.
    fn own(&self, about: &str, result: Result<()>) -> Result<()> {
        let folder = self.node.state_path();
        let Err(error) = result else { return alarms::settle(&folder, about) };
        let news = alarms::raise(&folder, about, &error.one_line(), clock::now())?;
        self.worse(error.kind());
        tell(news, &format!("{}{}", error.one_line(), advice(&error)));
        Ok(())
    }

    /// Something of a client did not work, and could not even be written down.
    fn trouble(&self, client: &Name, error: &Error) {
        self.worse(error.kind());
        tell(true, &format!("{client}: {}{}", error.one_line(), advice(error)));
    }

    fn worse(&self, kind: Kind) {
        let mut worst = lock(&self.worst);
        if worst.is_none() || *worst == Some(Kind::NotNow) {
            *worst = Some(kind);
        }
    }
}

/// Whether it is time to look at everything.
pub fn sweep_due(node: &Node) -> bool {
    // Our clock tells whole seconds, files know more. A time in the future is no reason to wait.
    let now = SystemTime::from(clock::now()) + Duration::from_secs(1);
    last_swept(node).is_none_or(|last| now.duration_since(last).map_or(true, |age| age >= SWEEP))
}

/// When everything was looked at last.
pub fn last_sweep(node: &Node) -> Option<Timestamp> {
    Timestamp::try_from(last_swept(node)?).ok()
}

fn last_swept(node: &Node) -> Option<SystemTime> {
    fs::metadata(node.state_path().join("sweep")).and_then(|meta| meta.modified()).ok()
}

/// What the waits of whole lanes are called.
pub fn serve_lanes() -> impl Iterator<Item = &'static str> {
    serve::LANES.iter().map(|(_, key)| *key)
}

/// The one place where the poller speaks: what is new goes to whoever reads cron's mail or the journal.
fn tell(news: bool, words: &str) {
    if news {
        crate::output::warning(words);
    } else {
        tracing::info!("{}", base::text::printable(words));
    }
}

/// What is to be done about it, in the same line: cron and the journal keep lines.
fn advice(error: &Error) -> String {
    error.advice().map_or_else(String::new, |advice| format!(". {advice}"))
}

/// Tells one grant from another.
fn digest(grant: &ClientGrant) -> String {
    Blake3::of(format!("{grant:?}").as_bytes()).hex()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
