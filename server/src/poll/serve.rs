//! Serving one lane of one client: what is in process first, then what waits; fetch, accept, answer.
//!
//! Does not know how a module fetches. A request that cannot be served now keeps its place and its wait; it gets no
//! receipt, and the ones after it go on.

use super::client::Client;
use super::spent::Count;
use super::{Poller, ingest, receipts};
use crate::node::Node;
use crate::silence;
use archive::store::Store;
use base::config::NodeConfig;
use base::config::{Reach, SshAddress};
use base::{At, ByteSize, Claim, Error, Kind, Monitor, Name, Payload, Reason, RequestId, Result, clock};
use modules::{Allowance, Fetched, Lane, ServerContext, server_module};
use queue::access::{ClientGrant, Limits, limits::over};
use queue::pool::{NodeEntry, NodePool};
use queue::{Outcome, Receipt, Repository};
use show::progress::Progress;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use transport::{Endpoint, Peer};

/// The lanes, with the names that their waits have.
pub const LANES: [(Lane, &str); 2] = [(Lane::Archive, "archives"), (Lane::Git, "mirrors")];

/// So many requests of a client are answered before others who wait have their turn.
const TURN: u32 = 32;

/// What a long job looks at between two requests.
pub struct Signs<'a> {
    /// Whether work is to end soon.
    pub stopping: &'a dyn Fn() -> bool,
    /// Whether other clients wait for a worker.
    pub crowded: &'a dyn Fn() -> bool,
}

/// What became of one request for now.
enum Step {
    /// It has its receipt.
    Answered,
    /// It is tried again, and the ones after it may go on.
    Later,
    /// The client or the node is in no state to serve any; the whole lane waits.
    NotNow,
}

/// Serves what `name` has in `lane` until nothing is left for now, or the signs say so. True when both its lanes are to be
/// looked at again: it came back after it could not be reached, others wait, or the other lane had to wait for this one.
///
/// # Errors
/// When the client's pool cannot be read; what goes wrong with one request is written down for that request.
pub fn serve(poller: &Poller, name: &Name, lane: Lane, key: &str, signs: &Signs<'_>) -> Result<bool> {
    let client = poller.client(name)?;
    if !client.pool_path().is_dir() {
        return Ok(false);
    }
    let pool = NodePool::open(&client.pool_path())?;
    let mut tried: BTreeSet<RequestId> = BTreeSet::new();
    let (mut came_back, mut answered) = (false, 0);
    loop {
        let access = poller.access();
        let Some(grant) = access.list.clients.get(name).filter(|grant| !grant.paused) else { return Ok(came_back) };
        if !client.waits().due(key, clock::now()) {
            return Ok(came_back);
        }
        let entries = todo(poller, &client, &pool, lane, &tried)?;
        if entries.is_empty() {
            return Ok(came_back);
        }
        for entry in entries {
            if (signs.stopping)() {
                return Ok(false);
            }
            // Each request is judged by the list that is in force when its turn comes.
            if !Arc::ptr_eq(&access, &poller.access()) {
                break;
            }
            if answered >= TURN && (signs.crowded)() {
                return Ok(true);
            }
            let limits = access.list.limits(grant);
            // The lane that has the turn sees that this one was sent away.
            let Some(turn) = client.turns.take(limits.fetches) else { return Ok(came_back) };
            tried.insert(entry.id.clone());
            let mine = pool.start(&entry.id)?;
            let step = mine.map(|_mine| one(poller, &client, (grant, &limits), &pool, &entry, key)).transpose()?;
            drop(turn);
            let other_waits = client.turns.sent_away();
            answered += 1;
            match step {
                Some(Step::Answered) => {
                    came_back |= client.retry(|retry| {
                        let worked = retry.worked(key);
                        if worked {
                            retry.hurry(clock::now());
                        }
                        worked
                    })?;
                }
                Some(Step::Later) | None => {}
                Some(Step::NotNow) => return Ok(came_back || other_waits),
            }
            if other_waits {
                return Ok(true);
            }
        }
    }
}

/// The requests of this lane that may be tried now: those in process first, those that failed least before others.
fn todo(poller: &Poller, client: &Client, pool: &NodePool, lane: Lane, tried: &BTreeSet<RequestId>) -> Result<Vec<NodeEntry>> {
    let (now, waits) = (clock::now(), client.waits());
    let mut found = Vec::new();
    for entry in pool.processing()?.into_iter().chain(pool.waiting()?) {
        if tried.contains(&entry.id) || !waits.due(entry.id.as_str(), now) {
            continue;
        }
        // What cannot be read is looked at by the lane of archives alone, which writes down why.
        let its_lane = client.lane_of(&entry.id, || lane_of(poller, client, &entry)).unwrap_or(Lane::Archive);
        if its_lane == lane {
            found.push((waits.failures(entry.id.as_str()), entry));
        }
    }
    // Stable: within the same number of failures the pool's own order stays.
    found.sort_by_key(|(failures, _)| *failures);
    Ok(found.into_iter().map(|(_, entry)| entry).collect())
}

fn lane_of(poller: &Poller, client: &Client, entry: &NodeEntry) -> Result<Lane> {
    let (claim, _) = claim_of(poller, client, entry)?;
    // What makes an archive is one, whatever its module does otherwise.
    Ok(if matches!(claim.payload, Payload::Manifest(_)) { Lane::Archive } else { server_module(claim.dataset.module()).lane() })
}

fn claim_of(poller: &Poller, client: &Client, entry: &NodeEntry) -> Result<(Claim, Option<Vec<u8>>)> {
    let log = Repository::open(&poller.node.config.log_path(&client.name), ingest::LOG_BRANCH)?;
    ingest::accepted_claim(&log, client, &poller.node.config.name, entry)
}

/// What the list says of a client.
type Granted<'a> = (&'a ClientGrant, &'a Limits);

fn one(poller: &Poller, client: &Client, granted: Granted<'_>, pool: &NodePool, entry: &NodeEntry, key: &str) -> Result<Step> {
    let error = match receipt_for(poller, client, granted, entry) {
        Ok(Some((receipt, reason))) => match conclude(poller, client, pool, receipt, reason) {
            Ok(()) => return Ok(Step::Answered),
            Err(error) => error.context("could not answer"),
        },
        // A crash came between the receipt and the rename.
        Ok(None) => match finish(client, pool, &entry.id) {
            Ok(()) => return Ok(Step::Answered),
            Err(error) => error,
        },
        Err(error) => error,
    };
    let whole_lane = matches!(error.kind(), Kind::NotNow | Kind::Refused);
    if error.kind() == Kind::Refused {
        // A host key that is not the pinned one: somebody else answers in the client's place, or it was set up anew.
        poller.alarm(client, "refused", &error.one_line())?;
    }
    let keys: &[&str] = if whole_lane { &[entry.id.as_str(), key] } else { &[entry.id.as_str()] };
    poller.try_again(client, keys, &error)?;
    Ok(if whole_lane { Step::NotNow } else { Step::Later })
}

/// Fetches what the request asks for and says what the receipt is to be, and why it was asked for; `None` when it has one.
fn receipt_for(poller: &Poller, client: &Client, (grant, limits): Granted<'_>, entry: &NodeEntry) -> Result<Option<(Receipt, Reason)>> {
    if receipts::find(&poller.node, client, &entry.id)?.is_some() {
        return Ok(None);
    }
    let (claim, attachment) = claim_of(poller, client, entry)?;
    if claim.id.part().is_some() && receipts::find(&poller.node, client, &claim.id.whole())?.is_some() {
        let reason = format!("the request {} has its receipt, and takes no more parts", claim.id.whole());
        return Ok(Some((receipts::refusal(&poller.node, &claim, reason), claim.reason)));
    }
    // The list may have changed since the request was taken in.
    if let Some(reason) = ingest::against(&claim, grant) {
        return Ok(Some((receipts::refusal(&poller.node, &claim, reason), claim.reason)));
    }
    let _about = tracing::info_span!("request", id = %claim.id, client = %client.name).entered();
    tracing::info!("fetching {}", claim.dataset);
    enough_room(&poller.node.config)?;
    let came = Came { bytes: AtomicU64::new(0), progress: Progress::of(&client.name.to_string()) };
    let started = Instant::now();
    let store = Store::open(&client.folder)?;
    let node_time = poller.node.config.fetch_time.0;
    let context = ServerContext {
        store: &store,
        peer: &|| peer(poller, client, grant, grant.address.as_ref(), "address"),
        git_peer: &|| peer(poller, client, grant, grant.git_address.as_ref().or(grant.address.as_ref()), "git_address"),
        mirrors: &client.folder.join("mirrors"),
        quota: grant.quota.map(|quota| quota.0),
        allowance: Allowance {
            packs: limits.packs.map(Into::into),
            bandwidth: limits.bandwidth.map(|rate| rate.0),
            left: limits.bytes_a_day.map(|most| most.0.saturating_sub(client.spent().used(Count::Bytes, clock::now()))),
            today: &|needed| too_much_today(client, limits, needed),
        },
        time: limits.time.map_or(node_time, |time| time.0.min(node_time)),
        received: clock::now(),
        losses: poller.node.config.mirror_losses,
        heed: &|words| poller.heed(client, &claim.dataset, words),
        monitor: &came,
    };
    let fetched = server_module(claim.dataset.module()).fetch(&context, &claim, attachment.as_deref());
    client.spend(Count::Bytes, came.bytes.load(Ordering::Relaxed))?;
    let fetched = in_time(fetched, limits, started)?;
    let receipt = receipt(&poller.node, &claim, fetched, started);
    tracing::info!("{} {} {}", claim.dataset, receipt.outcome, receipt.reason.as_deref().unwrap_or_default());
    Ok(Some((receipt, claim.reason)))
}

/// Counts what comes over the network, and shows it.
#[derive(Debug)]
struct Came {
    bytes: AtomicU64,
    progress: Progress,
}

impl Monitor for Came {
    fn task(&self, name: &str, total: Option<u64>) {
        self.progress.task(name, total);
    }

    fn bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.progress.bytes(bytes);
    }

    fn entries(&self, entries: u64) {
        self.progress.entries(entries);
    }
}

/// Why so many bytes more are too much for today.
fn too_much_today(client: &Client, limits: &Limits, needed: u64) -> Option<String> {
    let most = limits.bytes_a_day?;
    let limit = ("bytes_a_day", most.0, &*format!("{:?}", String::from(most)));
    client.spent().over(Count::Bytes, limit, needed, clock::now(), &|bytes| ByteSize(bytes).to_string())
}

/// A fetch that was ended because it took as long as the client's limit allows is refused; for other reasons it is tried
/// again.
fn in_time(fetched: Result<Fetched>, limits: &Limits, started: Instant) -> Result<Fetched> {
    match (fetched, limits.time) {
        (Err(error), Some(time)) if error.kind() == Kind::NotNow && started.elapsed() >= time.0 => {
            let found = "fetching it took longer; submit it again, or ask the node's administrator for more time";
            Ok(Fetched::Refused { reason: over("time", format!("{:?}", String::from(time)), found), missing: Vec::new() })
        }
        (fetched, _) => fetched,
    }
}

/// Whether a fetch may begin: `keep_free` is left for what the node has to write itself.
fn enough_room(config: &NodeConfig) -> Result<()> {
    let Some(wanted) = config.keep_free else { return Ok(()) };
    let disk = rustix::fs::statvfs(&config.data).at("see how much room there is in", &config.data)?;
    let free = ByteSize(disk.f_bavail.saturating_mul(disk.f_frsize));
    if free >= wanted {
        return Ok(());
    }
    Err(Error::not_now(format!("{free} are free in {}, and keep_free is {wanted}", config.data.display()))
        .hint("Make room there, or lower keep_free in node.toml; the requests wait."))
}

/// The way to an account of the client; where it leads comes from the access list alone.
pub(super) fn peer(poller: &Poller, client: &Client, grant: &ClientGrant, address: Option<&SshAddress>, field: &str) -> Result<Arc<Peer>> {
    if grant.reach == Reach::Dial {
        return poller.dialled_peer(&client.name);
    }
    let missing = |what: &str| {
        Error::failed(format!("the access list has no {what} for {}", client.name)).hint("An administrator must add it; the request waits.")
    };
    client.peer(Endpoint {
        alias: client.name.to_string(),
        address: address.ok_or_else(|| missing(field))?.clone(),
        host_key: grant.host_key.clone().ok_or_else(|| missing("host_key"))?,
        key: poller.node.config.pull_key.clone(),
        runtime: poller.node.config.runtime_path(),
    })
}

fn receipt(node: &Node, claim: &Claim, fetched: Fetched, started: Instant) -> Receipt {
    match fetched {
        Fetched::Stored { received, seconds, bytes_fetched, bytes_stored, unreadable, snapshot, refs, changed } => Receipt {
            seconds,
            bytes_fetched,
            bytes_stored,
            unreadable,
            snapshot,
            refs,
            changed,
            ..receipts::plain(node, claim, Outcome::Stored, lacking(claim), received)
        },
        Fetched::Refused { reason, missing } => {
            Receipt { missing, seconds: started.elapsed().as_secs(), ..receipts::refusal(node, claim, reason) }
        }
        Fetched::Failed { reason } => {
            Receipt { seconds: started.elapsed().as_secs(), ..receipts::plain(node, claim, Outcome::Failed, Some(reason), clock::now()) }
        }
    }
}

/// What is to be said of a group that is not whole: the member that is stored is, and the restore point lacks others.
fn lacking(claim: &Claim) -> Option<String> {
    let group = claim.group.as_ref().filter(|group| !group.lacks.is_empty())?;
    let lacks: Vec<String> = group.lacks.iter().map(ToString::to_string).collect();
    Some(format!("the group {} lacks {}", group.shown(), lacks.join(", ")))
}

/// The receipt first, durable; then the request is finished; then what was fetched for it is garbage.
fn conclude(poller: &Poller, client: &Client, pool: &NodePool, receipt: Receipt, reason: Reason) -> Result<()> {
    let (id, dataset) = (receipt.id.clone(), receipt.dataset.to_string());
    // A hook comes when people do something, and nobody is missed when they do not.
    let has_rhythm = receipt.outcome == Outcome::Stored && id.part().is_none() && reason != Reason::Hook;
    let is_mirror = receipt.refs.is_some();
    receipts::answer(&poller.node, &poller.signer, client, vec![receipt])?;
    if has_rhythm {
        client.last(|last| silence::note(&mut last.came, &dataset, clock::now()))?;
    }
    if is_mirror {
        poller.own("cgit", crate::cgit::add(&poller.node, &client.name))?;
    }
    finish(client, pool, &id)
}

fn finish(client: &Client, pool: &NodePool, id: &RequestId) -> Result<()> {
    // Nobody comes by here again once the pool has it as finished: what waited for it would wait for ever.
    client.done(id)?;
    pool.finish(id)?;
    Store::open(&client.folder)?.discard_incoming(id)
}
