//! Scrubbing all that the node keeps: packs and snapshots, mirrors, and the histories; a share at a time, by hand or by the
//! timetable.
//!
//! Has no key. What is found is written down for each client (`damage`), told to its owner (`notices`) and to the
//! administrators; nothing is removed.

pub mod damage;
mod mirrors;
mod notices;

use crate::done::Done;
use crate::node::Node;
use crate::poll::LOG_BRANCH;
use archive::store::{Copied, Damaged, ScrubReport, ScrubSpec, Store};
use base::{Blake3, Error, FileLock, Kind, Monitor, Name, Payload, Proof, RequestId, Result, clock};
use damage::{Entry, Found, What};
use queue::{Expect, Repository, Signer, request};
use std::collections::BTreeMap;
use std::path::Path;

/// How far other work goes before this.
const NICE: i32 = 10;

/// How much is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// In percent, above 0 and up to 100.
    pub percent: f64,
    /// Act on damage even where it is more than is believed.
    pub believe: bool,
}

/// What came of one client.
#[derive(Debug)]
pub struct Scrubbed {
    /// Whose data it is.
    pub client: Name,
    /// Packs that were read.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Snapshots whose files were read.
    pub snapshots: u64,
    /// Mirrors and histories that were read.
    pub repositories: u64,
    /// What was damaged and came right here.
    pub mended: Vec<String>,
    /// What is damaged now.
    pub damage: Vec<Entry>,
    /// What of it was not known before.
    pub new: usize,
    /// Why nothing was acted on.
    pub doubt: Option<String>,
}

/// Scrubs a share of what is kept of these clients, one after the other.
///
/// # Errors
/// When another scrub runs. What goes wrong with one client is reported, and the others follow.
pub fn run(node: &Node, clients: &[Name], share: Share, monitor: &dyn Monitor) -> Result<(Vec<Scrubbed>, Vec<Error>)> {
    node.check_owner()?;
    let Some(_lock) = FileLock::try_now(&node.state_path().join("scrub.lock"))? else {
        return Err(Error::not_now("another scrub is at work on this node"));
    };
    // This thread alone. What waits for its turn costs nobody anything.
    let _ = rustix::process::setpriority_process(None, NICE);
    let signer = Signer::from_file(&node.config.receipts_key)?;
    let (mut all, mut errors) = (Vec::new(), mirrors::of_the_node(node));
    for client in clients {
        match one(node, client, share, &signer, monitor) {
            Ok(scrubbed) => all.push(scrubbed),
            Err(error) => errors.push(error.context(format!("{client} could not be scrubbed"))),
        }
    }
    Ok((all, errors))
}

fn one(node: &Node, client: &Name, share: Share, signer: &Signer, monitor: &dyn Monitor) -> Result<Scrubbed> {
    let folder = node.config.client_path(client);
    let store = Store::open(&folder)?;
    monitor.task(&format!("scrubbing {client}"), None);
    let log = node.config.log_path(client);
    let intact = |id: &RequestId, proof: &Proof| intact(node, client, id, proof);
    let copy = |id: &RequestId| copy(&log, id);
    let spec = ScrubSpec { percent: share.percent, believe: share.believe, intact: &intact, copy: &copy, monitor };
    let report = store.scrub(&spec)?;
    let repositories = mirrors::check(node, client, &store, share.percent, monitor)?;
    let ScrubReport { packs, bytes, snapshots, damage: found, mended, doubt } = report;
    let mut all: Vec<Found> = found.into_iter().map(Found::from).collect();
    all.extend(repositories.found);
    let mut state = damage::load(&folder);
    let known = state.clone();
    if doubt.is_none() {
        state.take_in(&all, &repositories.whole, clock::now());
        notices::prepare(&mut state)?;
    }
    if state != known {
        damage::store(&folder, &state)?;
    }
    // Written down before it is sent: a crash between the two is made up for by the next run.
    notices::send(node, client, signer, &state)?;
    Done::Scrub.note(&folder, clock::now())?;
    let new = state.entries.iter().filter(|entry| !known.entries.iter().any(|old| old.same(entry))).count();
    Ok(Scrubbed {
        client: client.clone(),
        packs,
        bytes,
        snapshots,
        repositories: repositories.looked,
        mended,
        damage: state.entries,
        new,
        doubt,
    })
}

/// What the bytes of a proof were signed for.
fn intact(node: &Node, client: &Name, id: &RequestId, proof: &Proof) -> Result<Payload> {
    let expect = Expect { client: Some(client.clone()), node: Some(node.config.name.clone()), id: Some(id.clone()), dataset: None };
    queue::intact(proof, &expect).map(|claim| claim.payload)
}

/// What the poller's copy of the queue has of a request.
fn copy(log: &Path, id: &RequestId) -> Option<Copied> {
    let log = Repository::open(log, LOG_BRANCH).ok()?;
    let found = log.find_file(&request::request_name(id)).ok()??;
    let commit = log.load(&found.commit).ok()?;
    let name = request::attachment_name(id);
    let attached = commit.entries.iter().find(|entry| entry.name == name.as_bytes());
    let attached = attached.and_then(|entry| log.blob(&entry.oid, request::FILE_LIMIT).ok());
    Some((Proof { commit: commit.raw, tree: commit.tree, request: found.bytes }, attached))
}

impl From<archive::store::Damage> for Found {
    fn from(damage: archive::store::Damage) -> Self {
        let what = match damage.what {
            Damaged::Pack(digest) => What::Pack(digest),
            Damaged::Snapshot(id) => What::Snapshot(id),
        };
        Self { what, why: damage.why, touches: damage.touches }
    }
}

/// The job of the timetable.
///
/// # Errors
/// When something could not be scrubbed, or damage was found that was not known.
pub fn by_the_clock(node: &Node) -> Result<()> {
    let Some(scrub) = &node.config.scrub else { return Ok(()) };
    let clients = node.clients(None)?;
    let share = Share { percent: scrub.percent, believe: false };
    // Damage is told with its client, in status and by mail, until it is over; here it is told when it is new.
    let (all, errors) = run(node, &clients, share, &base::Silent)?;
    let mut failed = errors.into_iter().map(|error| error.one_line()).collect::<Vec<_>>();
    for scrubbed in &all {
        failed.extend(scrubbed.doubt.clone());
        for line in scrubbed.damage.iter().rev().take(scrubbed.new).map(|entry| entry.line(&scrubbed.client)) {
            crate::output::warning(&line);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Error::failed(failed.join("; ")).with_kind(Kind::Failed)) }
}

/// Which damage somebody claims to have mended.
#[derive(Debug, Default)]
pub struct Claims(BTreeMap<Blake3, RequestId>);

impl Claims {
    /// The newest snapshot that claims to bring again what was in a pack.
    pub fn of(&self, entry: &Entry) -> Option<&RequestId> {
        if let What::Pack(digest) = &entry.what { self.0.get(digest) } else { None }
    }
}

/// The repairs that a client's snapshots claim. Whether they are any good only a keyholder can see.
pub fn claims(node: &Node, client: &Name) -> Claims {
    let snapshots = Store::open(&node.config.client_path(client)).and_then(|store| store.readable_snapshots(&base::Silent));
    let mut claims = Claims::default();
    for snapshot in snapshots.unwrap_or_default() {
        claims.0.extend(snapshot.accepted.repairs.iter().map(|pack| (*pack, snapshot.accepted.id.clone())));
    }
    claims
}
