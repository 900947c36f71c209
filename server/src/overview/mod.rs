//! The node's overview: how every client and each of its datasets stands. `status`, metrics, the web page and the digest show
//! this one value, and gather nothing themselves.
//!
//! Read from files that the poller keeps, but for who has dialled in, which the poller itself is asked; changes nothing and prints nothing. As large as there are clients and
//! datasets: what grows with snapshots is in [`snapshots()`] alone.

mod snapshots;
mod words;

pub use snapshots::{Snapshot, goes, snapshots};
pub use words::wrong;

use crate::done::Done;
use crate::node::Node;
use crate::poll::alarms::{self, Alarm};
use crate::poll::client::{self, Last, read_last, read_retry, read_spent};
use crate::poll::spent::Used;
use crate::scrub::{self, damage};
use crate::silence;
use archive::store::{Store, StoredSnapshot};
use base::config::Reach;
use base::{DayTime, Name, RequestId, Result, Silent, clock};
use jiff::Timestamp;
use queue::Outcome;
use queue::access::AccessList;
use queue::pool::NodePool;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How a node stands.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// The node's name.
    pub node: String,
    /// The release that looked.
    pub version: &'static str,
    /// When it was looked, by the node's clock.
    pub taken: Timestamp,
    /// The disk of the data; `None` where it cannot be asked.
    pub disk: Option<Disk>,
    /// When the node prunes.
    pub prune_at: DayTime,
    /// When it scrubs, where it does so by itself.
    pub scrub_at: Option<DayTime>,
    /// When a poller last looked at everything that clients handed over.
    pub last_sweep: Option<Timestamp>,
    /// The node's own alarms.
    pub alarms: Vec<Alarm>,
    /// Files of this node that others could change, or that belong to somebody else, a sentence each.
    pub open: Vec<String>,
    /// The clients that were asked for, by name: those of the access list, and those of whom something is still kept.
    pub clients: Vec<Client>,
}

/// A disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// What the poller may still write.
    pub free: u64,
    /// Its size.
    pub size: u64,
}

/// How one client stands.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Client {
    /// Its name.
    pub client: String,
    /// Whether it is in the access list.
    pub listed: bool,
    /// Whether it is paused there.
    pub paused: bool,
    /// Of a client that is to dial in (`reach = "dial"`): whether it is there at this moment; `None` also where this account may not
    /// ask.
    pub dialled_in: Option<bool>,
    /// When its last request was taken in.
    pub last_received: Option<Timestamp>,
    /// Which one that was.
    pub last_request: Option<String>,
    /// How many requests wait.
    pub waiting: usize,
    /// How many are being fetched.
    pub being_fetched: usize,
    /// Since when the oldest of these is here.
    pub oldest_request: Option<Timestamp>,
    /// Bytes of its store and mirrors.
    pub bytes_used: u64,
    /// How many it may use, where that is limited.
    pub quota: Option<u64>,
    /// The limits, quota among them, of which nine tenths are used, or more.
    pub near: Vec<Used>,
    /// By how many seconds its clock is ahead of the node's, at least: the newest snapshot was asked for so long after it came.
    pub clock_ahead_seconds: i64,
    /// When what is kept of it was last scrubbed, a share of it at least.
    pub last_scrub: Option<Timestamp>,
    /// When its store was last pruned.
    pub last_prune: Option<Timestamp>,
    /// Every dataset of which something is kept, or was asked for in vain.
    pub datasets: Vec<Dataset>,
    /// Datasets of which nothing comes though it was expected.
    pub silent: Vec<Silence>,
    /// Datasets whose last request was not stored.
    pub trouble: Vec<Trouble>,
    /// What is tried again: requests by their ids, and lanes.
    pub retries: Vec<Retry>,
    /// Its alarms.
    pub alarms: Vec<Alarm>,
    /// What is damaged of its data.
    pub damage: Vec<Damage>,
}

/// How one dataset stands.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Dataset {
    /// `module:path`.
    pub dataset: String,
    /// The newest snapshot, by order of acceptance.
    pub snapshot: Option<String>,
    /// When that came, which is the last success.
    pub received: Option<Timestamp>,
    /// How long ago that is.
    pub age_seconds: Option<i64>,
    /// When the last request was answered, whatever the answer was.
    pub last_attempt: Option<Timestamp>,
    /// How often one is expected, in seconds: as the list says or as was usual; `None` where nobody waits for it.
    pub expected_seconds: Option<i64>,
    /// How many snapshots are kept.
    pub snapshots: usize,
    /// How many of them are held.
    pub held: usize,
    /// How many of them are pinned.
    pub pinned: usize,
    /// How many of them are condemned.
    pub condemned: usize,
    /// When the first of the condemned goes.
    pub goes: Option<Timestamp>,
    /// By how much the store grew by all the snapshots that are kept, in bytes.
    pub bytes_stored: u64,
    /// Of the newest snapshot.
    pub newest: Option<Sizes>,
    /// Of the one before it.
    pub before: Option<Sizes>,
}

/// How much one snapshot is, as far as the node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// The data's own size in bytes, as the client counted it; 0 for mirrors.
    pub bytes: u64,
    /// Bytes that came over the network: what was new, compressed and encrypted.
    pub bytes_fetched: u64,
    /// Bytes by which the store grew.
    pub bytes_stored: u64,
    /// Files, as the client counted them; `None` for mirrors, and for what was accepted before this was written down.
    pub files: Option<u64>,
    /// What the client could not read.
    pub unreadable: u64,
    /// How long fetching took.
    pub seconds: u64,
}

impl From<&StoredSnapshot> for Sizes {
    fn from(snapshot: &StoredSnapshot) -> Self {
        Self {
            bytes: snapshot.bytes,
            bytes_fetched: snapshot.bytes_fetched,
            bytes_stored: snapshot.bytes_stored,
            files: snapshot.files,
            unreadable: snapshot.unreadable,
            seconds: snapshot.seconds,
        }
    }
}

/// Nothing comes of a dataset.
#[derive(Debug, Clone, Serialize)]
pub struct Silence {
    /// Of this one.
    pub dataset: String,
    /// When the last snapshot came.
    pub since: Timestamp,
    /// How often one was expected, in words.
    pub expected: String,
}

/// The last request of a dataset was not stored.
#[derive(Debug, Clone, Serialize)]
pub struct Trouble {
    /// Of this one.
    pub dataset: String,
    /// Refused or failed.
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
    /// Since when none was stored.
    pub since: Timestamp,
    /// The last answer's time.
    pub last: Timestamp,
    /// The last request.
    pub request: String,
}

/// Something that is tried again.
#[derive(Debug, Clone, Serialize)]
pub struct Retry {
    /// A request's id, or a lane.
    pub what: String,
    /// How often in a row it failed.
    pub failures: u32,
    /// Since when.
    pub since: Timestamp,
    /// When it is tried next.
    pub next: Timestamp,
    /// What was said the last time.
    pub words: String,
}

impl Retry {
    /// Whether it is a lane, which waits for the client; a request alone waits for something of its own.
    pub fn is_lane(&self) -> bool {
        self.what.parse::<RequestId>().is_err()
    }

    /// How often it failed, in words.
    pub fn failed(&self) -> String {
        match self.failures {
            1 => "failed once".into(),
            failures => format!("failed {failures} times in a row"),
        }
    }
}

impl Client {
    /// What is tried again, each trouble once: a client that cannot be reached is not told again for each of its requests.
    pub fn retries_to_tell(&self) -> impl Iterator<Item = &Retry> {
        let lane = |retry: &Retry| self.retries.iter().any(|lane| lane.is_lane() && lane.words == retry.words);
        self.retries.iter().filter(move |retry| retry.is_lane() || !lane(retry))
    }

    /// What is damaged, and nobody claims to have mended.
    pub fn unmended(&self) -> impl Iterator<Item = &Damage> {
        self.damage.iter().filter(|damage| damage.repair_claimed.is_none())
    }
}

/// Something that is damaged.
#[derive(Debug, Clone, Serialize)]
pub struct Damage {
    /// What.
    pub what: String,
    /// How.
    pub why: String,
    /// When it was found.
    pub since: Timestamp,
    /// The datasets that it touches.
    pub datasets: Vec<String>,
    /// How many snapshots need it.
    pub snapshots: usize,
    /// The snapshot that claims to repair it.
    pub repair_claimed: Option<String>,
    /// The same as a sentence.
    #[serde(skip)]
    pub line: String,
}

/// Looks at the whole node, or at one client of it.
///
/// # Errors
/// When the access list or a client's folder cannot be read. What is damaged of single snapshots is left out.
pub fn gather(node: &Node, only: Option<&Name>) -> Result<Overview> {
    let list = crate::access::current(node)?.list;
    let names = match only {
        Some(name) if list.clients.contains_key(name) => vec![name.clone()],
        only => node.clients(only)?,
    };
    let now = clock::now();
    let dials = |name: &Name| list.clients.get(name).is_some_and(|grant| grant.reach == Reach::Dial);
    let ask = || crate::dial::who(node).or_else(|| crate::dial::is_shut(node).then(BTreeSet::new));
    let here = if names.iter().any(dials) { ask() } else { None };
    let here = |name: &Name| here.as_ref().filter(|_| dials(name)).map(|here| here.contains(name));
    Ok(Overview {
        node: node.config.name.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        taken: now,
        disk: disk(&node.config.data),
        prune_at: node.config.prune.at,
        scrub_at: node.config.scrub.as_ref().map(|scrub| scrub.at),
        last_sweep: crate::poll::last_sweep(node),
        alarms: alarms::all(&node.state_path()),
        open: crate::owners::problems(node, &names),
        clients: names
            .iter()
            .map(|name| Ok(Client { dialled_in: here(name), ..of_client(node, &list, name, now)? }))
            .collect::<Result<_>>()?,
    })
}

fn disk(data: &Path) -> Option<Disk> {
    let disk = rustix::fs::statvfs(data).ok()?;
    Some(Disk { free: disk.f_bavail.saturating_mul(disk.f_frsize), size: disk.f_blocks.saturating_mul(disk.f_frsize) })
}

fn of_client(node: &Node, list: &AccessList, name: &Name, now: Timestamp) -> Result<Client> {
    let folder = node.config.client_path(name);
    let grant = list.clients.get(name);
    let last = read_last(&folder);
    let store = Store::open(&folder)?;
    let snapshots = store.readable_snapshots(&Silent)?;
    let pool = folder.join("pool");
    let (waiting, processing) = if pool.is_dir() {
        let pool = NodePool::open(&pool)?;
        (pool.waiting()?, pool.processing()?)
    } else {
        (Vec::new(), Vec::new())
    };
    // What the quota is held against; a mirror that cannot be looked at does not hide everything else.
    let mirrors = modules::mirrors_size(&folder.join("mirrors")).unwrap_or_else(|error| {
        tracing::warn!("{name}: its mirrors are not counted: {}", error.one_line());
        0
    });
    let bytes_used = store.bytes_used()?.saturating_add(mirrors);
    let quota = grant.and_then(|grant| grant.quota).map(|quota| quota.0);
    let mut near: Vec<Used> = quota.map(|most| Used { limit: "quota", used: bytes_used, most }).into_iter().collect();
    near.extend(grant.iter().flat_map(|grant| Used::of_day(&list.limits(grant), &read_spent(&folder), now)));
    near.retain(Used::is_near);
    let silent = crate::alerts::silent(name, &last, list, now).into_iter();
    let mut datasets = kept(node, &store, &snapshots, now);
    missed(name, list, &last, &mut datasets);
    let ahead = snapshots.last().map_or(0, |newest| newest.submitted.duration_since(newest.received).as_secs());
    Ok(Client {
        client: name.to_string(),
        listed: grant.is_some(),
        paused: grant.is_some_and(|grant| grant.paused),
        dialled_in: None,
        last_received: last.received.as_ref().map(|(time, _)| *time),
        last_request: last.received.as_ref().map(|(_, id)| id.to_string()),
        waiting: waiting.len(),
        being_fetched: processing.len(),
        oldest_request: waiting.iter().chain(&processing).map(|entry| entry.since).min(),
        bytes_used,
        quota,
        near,
        clock_ahead_seconds: ahead.max(0),
        last_scrub: Done::Scrub.at(&folder),
        last_prune: Done::Prune.at(&folder),
        datasets: datasets.into_values().collect(),
        silent: silent.map(|(dataset, s)| Silence { dataset: dataset.to_string(), since: s.since, expected: s.expected }).collect(),
        trouble: last.trouble.into_iter().map(Trouble::from).collect(),
        retries: read_retry(&folder)
            .wait
            .into_iter()
            .map(|(what, wait)| Retry { what, failures: wait.failures, since: wait.since, next: wait.next, words: wait.words })
            .collect(),
        alarms: alarms::all(&folder),
        damage: damage_of(node, name),
    })
}

/// The datasets of which snapshots are kept.
fn kept(node: &Node, store: &Store, snapshots: &[StoredSnapshot], now: Timestamp) -> BTreeMap<String, Dataset> {
    let mut datasets: BTreeMap<String, Dataset> = BTreeMap::new();
    // In the order in which they were accepted: the last one stays.
    for snapshot in snapshots {
        let marks = store.marks(&snapshot.id).unwrap_or_default();
        let goes = goes(&marks, node.config.prune.grace);
        let name = snapshot.dataset.to_string();
        let of = datasets.entry(name.clone()).or_insert_with(|| Dataset { dataset: name, ..Dataset::default() });
        of.snapshot = Some(snapshot.id.to_string());
        of.received = Some(snapshot.received);
        of.last_attempt = of.received;
        of.age_seconds = Some(now.duration_since(snapshot.received).as_secs());
        of.snapshots += 1;
        of.held += usize::from(marks.held.is_some());
        of.pinned += usize::from(marks.is_pinned());
        of.condemned += usize::from(goes.is_some());
        of.goes = of.goes.into_iter().chain(goes).min();
        of.bytes_stored = of.bytes_stored.saturating_add(snapshot.bytes_stored);
        of.before = of.newest.replace(Sizes::from(snapshot));
    }
    datasets
}

/// What was asked for in vain, and what is expected.
fn missed(name: &Name, list: &AccessList, last: &Last, datasets: &mut BTreeMap<String, Dataset>) {
    for (name, trouble) in &last.trouble {
        let of = datasets.entry(name.clone()).or_insert_with(|| Dataset { dataset: name.clone(), ..Dataset::default() });
        of.last_attempt = of.last_attempt.max(Some(trouble.last));
    }
    let Some(grant) = list.clients.get(name).filter(|grant| !grant.paused) else { return };
    for (dataset, came) in &last.came {
        if let (Some(of), Ok(parsed)) = (datasets.get_mut(dataset), dataset.parse())
            && grant.allows(&parsed)
        {
            of.expected_seconds = silence::rhythm(list.keeping(name, &parsed).1, came).map(|(every, _)| every.as_secs());
        }
    }
}

impl From<(String, client::Trouble)> for Trouble {
    fn from((dataset, trouble): (String, client::Trouble)) -> Self {
        let client::Trouble { outcome, reason, since, last, id } = trouble;
        Self { dataset, outcome, reason, since, last, request: id.to_string() }
    }
}

/// What the scrub found, until it is over.
fn damage_of(node: &Node, client: &Name) -> Vec<Damage> {
    let entries = damage::load(&node.config.client_path(client)).entries;
    if entries.is_empty() {
        return Vec::new();
    }
    let claims = scrub::claims(node, client);
    let shown = |entry: damage::Entry| Damage {
        line: entry.line(client),
        what: entry.what.to_string(),
        since: entry.first,
        datasets: entry.datasets.iter().map(ToString::to_string).collect(),
        snapshots: entry.touched,
        repair_claimed: claims.of(&entry).map(ToString::to_string),
        why: entry.why,
    };
    entries.into_iter().map(shown).collect()
}
