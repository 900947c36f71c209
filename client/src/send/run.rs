//! What the threads that serve one node share: its queue, its pool, how things stand with it, and what is to be told.
//!
//! The one process that holds a [`NodeRun`] holds the node's lock: nobody else sends to that node meanwhile. What people are told
//! of it is `told`'s.

mod told;

use super::bell::{Bell, lock};
use super::dialer::Dialer;
use super::groups;
use super::outbox::Outbox;
use super::spool::Spool;
use crate::around::Around;
use crate::contact::Contact;
use crate::history::History;
use crate::outcome::OutcomeFile;
use crate::pings::Pings;
use crate::{output, state};
use base::config::client::ClientNode;
use base::config::{ClientConfig, Reach};
use base::{At, Dataset, Error, FileLock, Kind, Name, RequestId, Result, atomic, backoff, clock};
use modules::Lane;
use queue::pool::{Claimed, ClientPool, PoolFile, State};
use queue::signature::{Signer, parse_public_key};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use told::Report;
use transport::{Endpoint, Peer};

/// One node, as one process works for it.
pub struct NodeRun {
    /// The configuration.
    pub config: Arc<ClientConfig>,
    /// This machine's name.
    pub client: Name,
    /// The node.
    pub node: ClientNode,
    /// The pool of all nodes.
    pub pool: ClientPool,
    /// Wakes the lanes.
    pub bell: Arc<Bell>,
    /// Signs requests.
    pub signer: Signer,
    /// The way to the node.
    pub peer: Arc<Peer>,
    /// Where the node cannot reach this machine: what opens lines to it.
    pub dialer: Option<Dialer>,
    /// What waits for the node.
    pub spool: Spool,
    /// What is done around backups.
    pub around: Around,
    /// Held while what is known of groups is changed: lanes and receipts both do so.
    pub points: Mutex<()>,
    /// Whether this process goes on when everything is done.
    goes_on: bool,
    outbox: Mutex<Outbox>,
    contact: Mutex<Contact>,
    history: Mutex<History>,
    recovered: Mutex<Vec<Claimed>>,
    report: Mutex<Report>,
    impatient: AtomicBool,
    left: AtomicBool,
    queue_known: AtomicBool,
    _lock: FileLock,
    // Dropped last: nobody waits for the lock while this one waits for the last call.
    pings: Pings,
}

impl NodeRun {
    /// Takes the node's lock and opens everything; `None` when another process sends to this node. `goes_on` says whether
    /// this process does so when everything is done.
    ///
    /// # Errors
    /// When something of the state cannot be opened.
    pub fn open(config: &Arc<ClientConfig>, node: &ClientNode, bell: Arc<Bell>, goes_on: bool) -> Result<Option<Self>> {
        let Some(held) = FileLock::try_now(&state::lock_path(config, &node.name))? else { return Ok(None) };
        sweep_unfinished(&config.export_path(&node.name))?;
        modules::sweep_staging(config)?;
        let around = Around::new(config, &node.name);
        around.finish_left_behind(&output::complain)?;
        let client = config.client_name()?.clone();
        let signer = Signer::from_file(&config.key_path()).map_err(|e| e.hint("nightsafe init makes the key."))?;
        // ssh would only say that it knows no key of that host.
        parse_public_key(&node.host_key).map_err(|e| e.context(format!("host_key of the node {} is wrong", node.name)))?;
        let endpoint = Endpoint {
            alias: node.name.to_string(),
            address: node.ssh.clone(),
            host_key: node.host_key.clone(),
            key: config.key_path(),
            runtime: config.runtime_path(),
        };
        let peer = Arc::new(Peer::new(endpoint).map_err(|e| e.context(format!("the node {} cannot be used", node.name)))?);
        let dialer = match node.reach {
            Reach::Dial => Some(Dialer::new(config, &node.name, &peer)?),
            Reach::Ssh => None,
        };
        Ok(Some(Self {
            pool: ClientPool::open(&config.pool_path())?,
            outbox: Mutex::new(Outbox::open(config, &client, &node.name)?),
            contact: Mutex::new(Contact::load(config, &node.name)?),
            history: Mutex::new(History::load(config, &node.name)),
            peer,
            dialer,
            spool: Spool::new(config.export_path(&node.name)),
            pings: Pings::of(config),
            around,
            points: Mutex::default(),
            goes_on,
            config: Arc::clone(config),
            node: node.clone(),
            bell,
            recovered: Mutex::default(),
            report: Mutex::default(),
            impatient: AtomicBool::new(false),
            left: AtomicBool::new(false),
            queue_known: AtomicBool::new(false),
            client,
            signer,
            _lock: held,
        }))
    }

    /// Lets the node be tried even before the next try is due.
    pub fn do_not_wait(&self) {
        self.impatient.store(true, Ordering::Relaxed);
    }

    /// Whether the node may be tried now.
    pub fn is_due(&self) -> bool {
        self.impatient.load(Ordering::Relaxed) || lock(&self.contact).is_due(clock::now())
    }

    /// Whether the node cannot be reached, but could a minute ago.
    pub fn fails_since_a_moment(&self) -> bool {
        let lately = |since: jiff::Timestamp| clock::now().duration_since(since).abs() < jiff::SignedDuration::from_mins(1);
        lock(&self.contact).failing_since.is_some_and(lately)
    }

    /// Dials, where that is how the node gets to us and something waits for it; hangs up where nothing does.
    ///
    /// # Errors
    /// When the pool cannot be read, or it cannot be written down how things stand.
    pub fn dial(&self) -> Result<()> {
        let Some(dialer) = &self.dialer else { return Ok(()) };
        dialer.want(self.awaits_node()?);
        let trouble = dialer.trouble();
        self.note(|contact| contact.dial_trouble = trouble)
    }

    /// Takes no more commands from the node.
    pub fn hang_up(&self) {
        if let Some(dialer) = &self.dialer {
            dialer.want(false);
        }
    }

    /// Whether this is the daemon, which has time.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Tells the lanes to end, though the process goes on.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
        self.bell.ring();
    }

    /// Whether the lanes are to end.
    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed) || self.bell.stopped()
    }

    /// How things stand with the node.
    pub fn contact(&self) -> Contact {
        lock(&self.contact).clone()
    }

    /// Changes how things stand, and writes that down.
    ///
    /// # Errors
    /// With the path.
    pub fn note(&self, change: impl FnOnce(&mut Contact)) -> Result<()> {
        let mut contact = lock(&self.contact);
        let before = contact.clone();
        change(&mut contact);
        if *contact == before { Ok(()) } else { contact.save(&self.config, &self.node.name) }
    }

    /// The node has answered.
    ///
    /// # Errors
    /// With the path.
    pub fn reached(&self) -> Result<()> {
        self.note(|contact| contact.reached(clock::now()))
    }

    /// The node could not be reached, or git failed: kept in the words of whoever said it, and tried again.
    ///
    /// # Errors
    /// With the path.
    pub fn unreached(&self, error: &Error) -> Result<()> {
        if base::stop::asked().is_some() {
            // Our own end is no word of the node's.
            return Ok(());
        }
        let mut long = false;
        self.note(|contact| {
            contact.failed(clock::now(), &error.one_line(), backoff::jitter());
            long = contact.is_long_gone(clock::now());
        })?;
        // One try a run: what follows would only say the same.
        self.impatient.store(false, Ordering::Relaxed);
        if error.kind() != Kind::NotNow {
            self.tell_failed(error);
        } else if long {
            // Once a day this is worth a word even where nobody looks.
            output::complain(error);
            self.mark_not_now();
        } else {
            self.tell_not_now(error);
        }
        Ok(())
    }

    /// A connection broke that is opened again at its time: kept, and told to nobody.
    ///
    /// # Errors
    /// With the path.
    pub fn broke(&self, error: &Error) -> Result<()> {
        self.note(|contact| contact.failed(clock::now(), &error.one_line(), backoff::jitter()))
    }

    /// Works on the queue. Lanes and courier take turns; nobody keeps it while something slow goes on.
    pub fn outbox<T>(&self, work: impl FnOnce(&mut Outbox) -> Result<T>) -> Result<T> {
        work(&mut lock(&self.outbox))
    }

    /// Whether our queue is what it should be. One without a commit may have been lost: until the node was asked for
    /// it, nothing is put into it, and what is in process is not taken for unsent.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub fn knows_queue(&self) -> Result<bool> {
        Ok(self.queue_known.load(Ordering::Acquire) || self.outbox(|outbox| outbox.tip())?.is_some())
    }

    /// The node was asked for our queue, and what it had of it is here.
    pub fn queue_is_known(&self) {
        self.queue_known.store(true, Ordering::Release);
    }

    /// Finds requests in process that a crash left behind; the lanes begin with them.
    ///
    /// # Errors
    /// When the pool cannot be used.
    pub fn recover(&self) -> Result<()> {
        if !self.knows_queue()? {
            return Ok(());
        }
        let sent = |file: &PoolFile| {
            if file.node != self.node.name {
                return Ok(true);
            }
            if file.module == base::config::GROUP {
                return groups::is_sent(self, &file.id);
            }
            Ok(self.outbox(|outbox| outbox.request_bytes(&file.id))?.is_some() || groups::waits_for_its_group(self, file)?)
        };
        let found = self.pool.crashed(&sent, &output::Complaints)?;
        lock(&self.recovered).extend(found);
        groups::settle(self)?;
        self.sweep_exports()
    }

    /// Removes what was prepared for requests that nobody knows any more: neither the pool nor the queue.
    fn sweep_exports(&self) -> Result<()> {
        let folder = self.config.export_path(&self.node.name);
        let mut ids = BTreeSet::new();
        for file in std::fs::read_dir(&folder).at("list", &folder)? {
            let name = file.at("list", &folder)?.file_name();
            ids.extend(name.to_str().and_then(|name| name.split('.').next()?.parse::<RequestId>().ok()));
        }
        for id in ids {
            if self.pool.find(&id)?.is_none() && self.outbox(|outbox| outbox.request_bytes(&id))?.is_none() {
                modules::discard(&self.config, &self.node, &id, &[])?;
            }
        }
        Ok(())
    }

    /// The parts of the request `id` that were asked for and have no answer.
    ///
    /// # Errors
    /// When queue or index cannot be read.
    pub fn unanswered_parts(&self, id: &RequestId) -> Result<Vec<RequestId>> {
        let mut parts = modules::pending_parts(&self.config, &self.node, id)?;
        let asked = |part: &RequestId| self.outbox(|outbox| outbox.request_bytes(part)).map(|bytes| bytes.is_some());
        let mut error = None;
        parts.retain(|part| {
            asked(part).unwrap_or_else(|e| {
                error.get_or_insert(e);
                true
            })
        });
        error.map_or(Ok(parts), Err)
    }

    /// The number of the next part of the request `id` after `last`: one that nothing in the queue has.
    ///
    /// # Errors
    /// When the queue cannot be read, or there have been too many.
    pub fn next_part(&self, id: &RequestId, last: u16) -> Result<u16> {
        self.outbox(|outbox| {
            let mut number = last.saturating_add(1);
            while outbox.request_bytes(&id.with_part(number)?)?.is_some() {
                number += 1;
            }
            Ok(number)
        })
    }

    /// The next request for `lane` that can be worked on, those that a crash left behind first.
    ///
    /// # Errors
    /// When the pool cannot be used.
    pub fn next(&self, lane: Lane) -> Result<Option<Claimed>> {
        if !self.knows_queue()? {
            return Ok(None);
        }
        let mine = |file: &PoolFile| file.node == self.node.name && self.lane_of(file) == lane;
        let mut recovered = lock(&self.recovered);
        if let Some(i) = recovered.iter().position(|claimed| mine(&claimed.file)) {
            return Ok(Some(recovered.remove(i)));
        }
        drop(recovered);
        // Read once, at the first group: while something is claimed nothing else can be. What cannot be read stands in nobody's way
        // here; whoever takes it looks again.
        let read = OnceCell::new();
        let in_process = || read.get_or_init(|| self.pool.in_process().unwrap_or_default()).as_slice();
        self.pool.claim_next(&|file| mine(file) && !groups::waits_for_members(self, file, in_process), &output::Complaints)
    }

    /// The lane of a module; one that is not known is told so by the lane of archives.
    fn lane_of(&self, file: &PoolFile) -> Lane {
        match (modules::client_module(Some(&self.config), &file.module), file.dataset()) {
            (Some(module), Ok(dataset)) => module.lane_of(&self.config, &dataset),
            _ => Lane::Archive,
        }
    }

    /// Whether there is anything for this node that is not finished.
    ///
    /// # Errors
    /// When the pool cannot be read.
    pub fn has_work(&self) -> Result<bool> {
        Ok(self.pool.unfinished()?.iter().any(|(_, file, _)| file.node == self.node.name))
    }

    /// Whether something waits for the node's answer.
    ///
    /// # Errors
    /// When the pool cannot be read.
    pub fn is_waiting(&self) -> Result<bool> {
        let waits = |(state, file, _): &(State, PoolFile, String)| *state == State::Process && file.node == self.node.name;
        Ok(self.pool.unfinished()?.iter().any(waits))
    }

    /// Whether the node has something to fetch or to answer: what is still being prepared, or cannot be prepared now, is no
    /// business of its yet.
    ///
    /// # Errors
    /// When pool, queue or index cannot be read.
    pub fn awaits_node(&self) -> Result<bool> {
        for (state, file, _) in self.pool.unfinished()? {
            // A group is its members.
            let mine = state == State::Process && file.node == self.node.name && file.module != base::config::GROUP;
            if mine && (self.outbox(|outbox| outbox.request_bytes(&file.id))?.is_some() || !self.unanswered_parts(&file.id)?.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A request has ended: for whoever waits, for `status`, and in the pool.
    ///
    /// # Errors
    /// With the path.
    pub fn end(&self, outcome: &OutcomeFile) -> Result<()> {
        outcome.write(&self.config)?;
        lock(&self.history).add(&self.config, outcome)?;
        if let Some((_, file)) = self.pool.find_claimed(&outcome.id) {
            groups::note(self, &file, outcome)?;
        }
        self.pool.finish(&outcome.id)?;
        self.pings.end(&self.config, &self.pool, outcome);
        Ok(())
    }

    /// A request is being prepared: whoever wants to hear of it does.
    pub fn ping_start(&self, dataset: &Dataset) {
        self.pings.start(&self.config, dataset);
    }

    /// A request has ended here, without the node: what was prepared of it goes.
    ///
    /// # Errors
    /// With the path.
    pub fn end_here(&self, outcome: &OutcomeFile) -> Result<()> {
        // What the node was asked to fetch stays until it has answered: the next try need not send that again.
        let parts = self.unanswered_parts(&outcome.id)?;
        modules::discard(&self.config, &self.node, &outcome.id, &parts)?;
        self.end(outcome)
    }
}

/// Removes packs that were still being written when their process was killed. Whoever has the node's lock alone writes
/// here, and has not begun.
fn sweep_unfinished(folder: &Path) -> Result<()> {
    for file in std::fs::read_dir(folder).at("list", folder)? {
        let file = file.at("list", folder)?;
        if file.file_name().as_encoded_bytes().starts_with(atomic::TEMP_PREFIX.as_bytes()) {
            atomic::remove(&file.path())?;
        }
    }
    Ok(())
}
