//! `status`: how each client stands: what came, what is stored, what waits, what does not work and since when.
//!
//! Reads files that the poller keeps; asks nobody and changes nothing, unless alarms are to be forgotten.

use super::snapshots::{clients, goes};
use crate::node::Node;
use crate::output;
use crate::poll::alarms::{self, Alarm};
use crate::poll::client::{read_last, read_retry, read_spent};
use crate::poll::spent::Used;
use crate::scrub::{self, damage};
use archive::store::Store;
use base::{ByteSize, Exit, Monitor, Name, RequestId, Result, Silent, clock};
use jiff::Timestamp;
use queue::Outcome;
use queue::access::AccessList;
use queue::pool::NodePool;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Show what came from each client, what is stored, what waits and what does not work.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this client.
    client: Option<Name>,
    /// Print an array of objects, one a client; the node's own alarms are in one without a client.
    #[arg(long)]
    json: bool,
    /// Forget the alarms that are shown: you have seen them.
    #[arg(long)]
    forget_alarms: bool,
}

/// How one client stands. Also the node's own place, without a client's name.
#[derive(Debug, Default, Serialize)]
struct Standing {
    client: Option<String>,
    listed: bool,
    paused: bool,
    last_received: Option<Timestamp>,
    last_request: Option<String>,
    waiting: usize,
    being_fetched: usize,
    bytes_used: u64,
    quota: Option<u64>,
    /// The limits, quota among them, of which nine tenths are used, or more.
    near: Vec<Used>,
    datasets: Vec<Stored>,
    silent: Vec<Silence>,
    trouble: Vec<Trouble>,
    retries: Vec<Retry>,
    alarms: Vec<Alarm>,
    damage: Vec<Damage>,
    /// Files of this node that others could change, or that belong to somebody else.
    open: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Damage {
    what: String,
    why: String,
    since: Timestamp,
    datasets: Vec<String>,
    snapshots: usize,
    repair_claimed: Option<String>,
    #[serde(skip)]
    line: String,
}

#[derive(Debug, Serialize)]
struct Stored {
    dataset: String,
    snapshot: String,
    received: Timestamp,
    age_seconds: i64,
    snapshots: usize,
    held: usize,
    pinned: usize,
    condemned: usize,
    /// When the first of the condemned goes.
    goes: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct Silence {
    dataset: String,
    since: Timestamp,
    expected: String,
}

#[derive(Debug, Serialize)]
struct Trouble {
    dataset: String,
    outcome: Outcome,
    reason: String,
    since: Timestamp,
    last: Timestamp,
    request: String,
}

#[derive(Debug, Serialize)]
struct Retry {
    what: String,
    failures: u32,
    since: Timestamp,
    next: Timestamp,
    words: String,
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    let list = crate::access::current(&node)?.list;
    let mut standings = vec![Standing { alarms: alarms::all(&node.state_path()), ..Standing::default() }];
    let names = match &args.client {
        Some(name) if list.clients.contains_key(name) => vec![name.clone()],
        only => clients(&node, only.as_ref())?,
    };
    standings[0].open = crate::owners::problems(&node, &names);
    for name in &names {
        standings.push(standing(&node, &list, name)?);
    }
    standings.retain(|standing| standing.client.is_some() || !standing.alarms.is_empty() || !standing.open.is_empty());
    if args.json {
        output::json(&standings)?;
    } else {
        show(&standings)?;
    }
    if args.forget_alarms {
        alarms::forget(&node.state_path())?;
        names.iter().try_for_each(|name| alarms::forget(&node.config.client_path(name)))?;
    }
    Ok(Exit::Done)
}

fn standing(node: &Node, list: &AccessList, name: &Name) -> Result<Standing> {
    let folder = node.config.client_path(name);
    let grant = list.clients.get(name);
    let last = read_last(&folder);
    let silent = crate::alerts::silent(name, &last, list, clock::now())
        .into_iter()
        .map(|(dataset, s)| Silence { dataset: dataset.to_string(), since: s.since, expected: s.expected })
        .collect();
    let store = Store::open(&folder)?;
    let pool = folder.join("pool");
    let (waiting, being_fetched) = if pool.is_dir() {
        let pool = NodePool::open(&pool)?;
        (pool.waiting()?.len(), pool.processing()?.len())
    } else {
        (0, 0)
    };
    let bytes_used = store.bytes_used()?.saturating_add(size_of(&folder.join("mirrors")));
    let quota = grant.and_then(|grant| grant.quota).map(|quota| quota.0);
    let mut near: Vec<Used> = quota.map(|most| Used { limit: "quota", used: bytes_used, most }).into_iter().collect();
    near.extend(grant.iter().flat_map(|grant| Used::of_day(&list.limits(grant), &read_spent(&folder), clock::now())));
    near.retain(Used::is_near);
    Ok(Standing {
        client: Some(name.to_string()),
        listed: grant.is_some(),
        paused: grant.is_some_and(|grant| grant.paused),
        last_received: last.received.as_ref().map(|(time, _)| *time),
        last_request: last.received.map(|(_, id)| id.to_string()),
        waiting,
        being_fetched,
        bytes_used,
        quota,
        near,
        datasets: datasets(node, &store, &Silent)?,
        silent,
        trouble: last
            .trouble
            .into_iter()
            .map(|(dataset, t)| Trouble {
                dataset,
                outcome: t.outcome,
                reason: t.reason,
                since: t.since,
                last: t.last,
                request: t.id.to_string(),
            })
            .collect(),
        retries: read_retry(&folder)
            .wait
            .into_iter()
            .map(|(what, wait)| Retry { what, failures: wait.failures, since: wait.since, next: wait.next, words: wait.words })
            .collect(),
        alarms: alarms::all(&folder),
        damage: damage_of(node, name),
        open: Vec::new(),
    })
}

/// What the scrub found, until it is over.
fn damage_of(node: &Node, client: &Name) -> Vec<Damage> {
    let claims = scrub::claims(node, client);
    let entries = damage::load(&node.config.client_path(client)).entries;
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

/// The newest snapshot of each dataset, by order of acceptance, and how many are kept, held and condemned.
fn datasets(node: &Node, store: &Store, monitor: &dyn Monitor) -> Result<Vec<Stored>> {
    let now = clock::now();
    let mut newest: BTreeMap<String, Stored> = BTreeMap::new();
    for snapshot in store.readable_snapshots(monitor)? {
        let marks = store.marks(&snapshot.id).unwrap_or_default();
        let goes = goes(&marks, node.config.prune.grace);
        let dataset = snapshot.dataset.to_string();
        let stored = newest.entry(dataset.clone()).or_insert_with(|| Stored {
            dataset,
            snapshot: String::new(),
            received: snapshot.received,
            age_seconds: 0,
            snapshots: 0,
            held: 0,
            pinned: 0,
            condemned: 0,
            goes: None,
        });
        stored.snapshot = snapshot.id.to_string();
        stored.received = snapshot.received;
        stored.age_seconds = now.duration_since(snapshot.received).as_secs();
        stored.snapshots += 1;
        stored.held += usize::from(marks.held.is_some());
        stored.pinned += usize::from(marks.is_pinned());
        stored.condemned += usize::from(goes.is_some());
        stored.goes = stored.goes.into_iter().chain(goes).min();
    }
    Ok(newest.into_values().collect())
}

impl Stored {
    /// What a person should know beside the numbers.
    fn notes(&self) -> String {
        let count = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let goes = self.goes.map(|time| format!("the first goes in {}", clock::until(time)));
        let notes = [count(self.held, "held"), count(self.pinned, "pinned"), count(self.condemned, "condemned"), goes];
        notes.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// The bytes of all files below `folder`; what cannot be looked at counts nothing.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?, entry.path())))
        .map(|(meta, path)| if meta.is_dir() { size_of(&path) } else { meta.len() })
        .fold(0, u64::saturating_add)
}

fn show(standings: &[Standing]) -> Result<()> {
    let rows: Vec<Vec<String>> = standings
        .iter()
        .filter_map(|standing| Some((standing.client.clone()?, standing)))
        .map(|(name, standing)| cells(name, standing))
        .collect();
    output::table(&["CLIENT", "LAST REQUEST", "WAITING", "BEING FETCHED", "USED", "QUOTA", ""], &rows)?;
    let mut stored = Vec::new();
    for standing in standings {
        for dataset in &standing.datasets {
            let name = standing.client.clone().unwrap_or_default();
            stored.push(vec![
                name,
                dataset.dataset.clone(),
                format!("{} ago", clock::ago(dataset.received)),
                dataset.snapshots.to_string(),
                dataset.snapshot.clone(),
                dataset.notes(),
            ]);
        }
    }
    if !stored.is_empty() {
        output::line("")?;
    }
    output::table(&["CLIENT", "DATASET", "LAST STORED", "SNAPSHOTS", "NEWEST", ""], &stored)?;
    let wrong: Vec<String> = standings.iter().flat_map(wrong).collect();
    if !wrong.is_empty() {
        output::line("")?;
    }
    wrong.iter().try_for_each(|line| output::line(line))
}

fn cells(name: String, standing: &Standing) -> Vec<String> {
    let note = match (standing.listed, standing.paused) {
        (false, _) => "not in the list any more",
        (true, true) => "paused",
        (true, false) => "",
    };
    vec![
        name,
        standing.last_received.map_or_else(|| "never".into(), |time| format!("{} ago", clock::ago(time))),
        standing.waiting.to_string(),
        standing.being_fetched.to_string(),
        ByteSize(standing.bytes_used).to_string(),
        standing.quota.map_or_else(|| "none".into(), |quota| ByteSize(quota).to_string()),
        note.into(),
    ]
}

/// A line for everything that a person should know of.
fn wrong(standing: &Standing) -> Vec<String> {
    let name = standing.client.as_deref().unwrap_or("node");
    let trouble = standing.trouble.iter().map(|t| {
        format!(
            "{name}: {} was {} {} ago, and not stored for {}: {}",
            t.dataset,
            t.outcome,
            clock::ago(t.last),
            clock::ago(t.since),
            t.reason
        )
    });
    let silent = standing
        .silent
        .iter()
        .map(|s| format!("{name}: {} is silent: nothing has come for {}; it is expected {}", s.dataset, clock::ago(s.since), s.expected));
    let near = standing.near.iter().map(|near| {
        let when = if near.limit == "quota" { "" } else { " within 24 hours" };
        format!("{name}: near its limit: {near}{when}")
    });
    let lanes: Vec<&Retry> = standing.retries.iter().filter(|retry| retry.what.parse::<RequestId>().is_err()).collect();
    // A client that cannot be reached is told once, not again for each of its requests.
    let own = |retry: &&Retry| retry.what.parse::<RequestId>().is_err() || !lanes.iter().any(|lane| lane.words == retry.words);
    let retries = standing.retries.iter().filter(own).map(|r| {
        let next = match r.next.duration_since(clock::now()).as_secs() {
            seconds if seconds > 0 => format!("next try in {seconds} s"),
            _ => "next try now".into(),
        };
        let failed = match r.failures {
            1 => "failed once".into(),
            failures => format!("failed {failures} times in a row, for {}", clock::ago(r.since)),
        };
        format!("{name}: {}: {failed}; {next}: {}", r.what, r.words)
    });
    let alarms = standing
        .alarms
        .iter()
        .map(|a| format!("{name}: ALARM {} ago ({} times since {}): {}", clock::ago(a.last), a.times, a.first, a.words));
    let damage = standing.damage.iter().map(|d| match &d.repair_claimed {
        Some(by) => format!("{}; repair claimed by {by}: nightsafe verify with a key says what is whole", d.line),
        None => format!("{}, for {}", d.line, clock::ago(d.since)),
    });
    let open = standing.open.iter().map(|open| format!("{name}: {open}"));
    trouble.chain(silent).chain(near).chain(retries).chain(alarms).chain(damage).chain(open).collect()
}
