//! Serving one lane of one client: what is in process first, then what waits; fetch, accept, answer.
//!
//! Does not know how a module fetches. A request that cannot be served now keeps its place and its wait; it gets no
//! receipt, and the ones after it go on.

use super::client::Client;
use super::{Poller, ingest, receipts};
use crate::node::Node;
use crate::silence;
use archive::store::Store;
use base::config::NodeConfig;
use base::config::SshAddress;
use base::{At, ByteSize, Claim, Error, Kind, Name, Payload, Reason, RequestId, Result, Silent, clock};
use modules::{Fetched, Lane, ServerContext, server_module};
use queue::access::ClientGrant;
use queue::pool::{NodeEntry, NodePool};
use queue::{Outcome, Receipt, Repository};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use transport::{Endpoint, Peer};

/// The lanes, with the names that their waits have.
pub const LANES: [(Lane, &str); 2] = [(Lane::Archive, "archives"), (Lane::Git, "mirrors")];

/// What became of one request for now.
enum Step {
    /// It has its receipt.
    Answered,
    /// It is tried again, and the ones after it may go on.
    Later,
    /// The client or the node is in no state to serve any; the whole lane waits.
    NotNow,
}

/// Serves what `name` has in `lane` until nothing is left for now, or `stopping` says so. True when the client came back
/// after it could not be reached: then its other lane is worth a look as well.
///
/// # Errors
/// When the client's pool cannot be read; what goes wrong with one request is written down for that request.
pub fn serve(poller: &Poller, name: &Name, lane: Lane, key: &str, stopping: &dyn Fn() -> bool) -> Result<bool> {
    let client = poller.client(name)?;
    if !client.pool_path().is_dir() {
        return Ok(false);
    }
    let pool = NodePool::open(&client.pool_path())?;
    let mut tried: BTreeSet<RequestId> = BTreeSet::new();
    let mut came_back = false;
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
            if stopping() {
                return Ok(false);
            }
            // Each request is judged by the list that is in force when its turn comes.
            if !Arc::ptr_eq(&access, &poller.access()) {
                break;
            }
            tried.insert(entry.id.clone());
            let Some(_mine) = pool.start(&entry.id)? else { continue };
            match one(poller, &client, grant, &pool, &entry, key)? {
                Step::Answered => {
                    came_back |= client.retry(|retry| {
                        let worked = retry.worked(key);
                        if worked {
                            retry.hurry(clock::now());
                        }
                        worked
                    })?;
                }
                Step::Later => {}
                Step::NotNow => return Ok(came_back),
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

fn one(poller: &Poller, client: &Client, grant: &ClientGrant, pool: &NodePool, entry: &NodeEntry, key: &str) -> Result<Step> {
    let error = match receipt_for(poller, client, grant, entry) {
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
fn receipt_for(poller: &Poller, client: &Client, grant: &ClientGrant, entry: &NodeEntry) -> Result<Option<(Receipt, Reason)>> {
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
    tracing::info!("{}: fetching {} ({})", client.name, claim.dataset, claim.id);
    enough_room(&poller.node.config)?;
    let started = Instant::now();
    let store = Store::open(&client.folder)?;
    let context = ServerContext {
        store: &store,
        peer: &|| peer(poller, client, grant, grant.address.as_ref(), "address"),
        git_peer: &|| peer(poller, client, grant, grant.git_address.as_ref().or(grant.address.as_ref()), "git_address"),
        mirrors: &client.folder.join("mirrors"),
        quota: grant.quota.map(|quota| quota.0),
        time: poller.node.config.fetch_time.0,
        received: clock::now(),
        monitor: &Silent,
    };
    let fetched = server_module(claim.dataset.module()).fetch(&context, &claim, attachment.as_deref())?;
    let receipt = receipt(&poller.node, &claim, fetched, started);
    tracing::info!(
        "{}: {} {}: {} {}",
        client.name,
        claim.dataset,
        claim.id,
        receipt.outcome,
        receipt.reason.as_deref().unwrap_or_default()
    );
    Ok(Some((receipt, claim.reason)))
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
fn peer(poller: &Poller, client: &Client, grant: &ClientGrant, address: Option<&SshAddress>, field: &str) -> Result<Arc<Peer>> {
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
            ..receipts::plain(node, claim, Outcome::Stored, None, received)
        },
        Fetched::Refused { reason, missing } => {
            Receipt { missing, seconds: started.elapsed().as_secs(), ..receipts::refusal(node, claim, reason) }
        }
        Fetched::Failed { reason } => {
            Receipt { seconds: started.elapsed().as_secs(), ..receipts::plain(node, claim, Outcome::Failed, Some(reason), clock::now()) }
        }
    }
}

/// The receipt first, durable; then the request is finished; then what was fetched for it is garbage.
fn conclude(poller: &Poller, client: &Client, pool: &NodePool, receipt: Receipt, reason: Reason) -> Result<()> {
    let (id, dataset) = (receipt.id.clone(), receipt.dataset.to_string());
    // A hook comes when people do something, and nobody is missed when they do not.
    let has_rhythm = receipt.outcome == Outcome::Stored && id.part().is_none() && reason != Reason::Hook;
    receipts::answer(&poller.node, &poller.signer, client, vec![receipt])?;
    if has_rhythm {
        client.last(|last| silence::note(&mut last.came, &dataset, clock::now()))?;
    }
    finish(client, pool, &id)
}

fn finish(client: &Client, pool: &NodePool, id: &RequestId) -> Result<()> {
    pool.finish(id)?;
    client.done(id)?;
    Store::open(&client.folder)?.discard_incoming(id)
}
