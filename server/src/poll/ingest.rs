//! Requests on their way in: from the gate's packs into the poller's own log, and from there into the pool.
//!
//! Does not fetch. What a client signed and may not have gets its refusal here; what proves nothing is an alarm and is
//! passed over, so that nothing blocks what comes after: the log ends with a commit that the client signed, always, so
//! whoever has the gate cannot lead it where the client's next commit would not follow. Pool and refusals are durable before the log's tip moves, and
//! the tip before the pack goes: whatever was cut off is done again, and finds itself done.

use super::client::Client;
use super::handover::{Brought, Piece, bring_in, discard, pieces, take_out};
use super::spent::Count;
use super::{Poller, receipts};
use base::config::NodeConfig;
use base::{Claim, Error, Kind, Name, Proof, RequestId, Result, Sha256, atomic, clock};
use queue::access::{ClientGrant, Limits};
use queue::check::{Chain, Verdict, judge_commit};
use queue::pool::{NodeEntry, NodePool};
use queue::request::request_name;
use queue::{AllowedSigners, Expect, PublicKey, Receipt, Repository, prove, signature};
use std::path::{Path, PathBuf};

/// The branch of requests.
pub const LOG_BRANCH: &str = "requests";

/// How much of one client is taken in before the next one has its turn: so many requests, and as if it were so many for
/// each pack, which git looks at first.
const ROUND: usize = 200;
const PACK_COSTS: usize = 10;

/// What became of taking in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// There was something new.
    pub new: bool,
    /// There is more, which has to wait until the others had their turn.
    pub more: bool,
}

/// A pack that is taken in over several rounds.
#[derive(Debug)]
pub struct Begun {
    about: String,
    /// Where the log was left.
    tip: Option<String>,
    /// The commits that are still to be taken, in order.
    rest: Vec<String>,
}

/// Takes in what `client` handed over, or as much as one round allows.
///
/// # Errors
/// When it cannot be done now; what was not taken in stays with the gate.
pub fn take_in(poller: &Poller, client: &Client, grant: &ClientGrant) -> Result<Taken> {
    let folder = poller.node.config.handover_path().join(client.name.as_str());
    let waits = match pieces(&folder, None) {
        Err(error) if error.kind() == Kind::Refused => {
            poller.alarm(client, "hand-over", &error.one_line())?;
            return Ok(Taken::default());
        }
        other => !other?.is_empty(),
    };
    if !waits {
        return Ok(Taken::default());
    }
    let log = Repository::open_or_create(&poller.node.config.log_path(&client.name), LOG_BRANCH)?;
    // What does not follow a damaged copy is no fault of the client's.
    log.check_branch()?;
    tell_tip(&poller.node.config, &client.name, log.tip()?.as_deref())?;
    let (mut taken, mut room) = (Taken::default(), ROUND);
    for piece in pieces(&folder, log.tip()?.as_deref())? {
        if room == 0 {
            taken.more = true;
            break;
        }
        taken.new |= one(poller, client, grant, &log, &piece, &mut room)?;
        if client.begun().is_some() {
            // The packs behind it go on from its end.
            taken.more = true;
            break;
        }
    }
    Ok(taken)
}

fn one(poller: &Poller, client: &Client, grant: &ClientGrant, log: &Repository, piece: &Piece, room: &mut usize) -> Result<bool> {
    let tip = log.tip()?;
    let about = format!("{}-{}", piece.old, piece.new);
    let begun = client.begun().take();
    if let Some(begun) = begun.filter(|begun| begun.about == about && begun.tip == tip) {
        return commits(poller, client, grant, log, piece, begun, room);
    }
    *room = room.saturating_sub(PACK_COSTS);
    if tip.as_deref() == Some(piece.new.as_str()) {
        atomic::remove(&piece.path)?;
        return Ok(false);
    }
    let added = match bring_in(log.path(), piece)? {
        Brought::In(added) => added,
        Brought::Bad(words) => {
            // Where the gate lost something in between, it hands over again what our copy lacks once nothing waits.
            discard(piece)?;
            poller.alarm(client, &about, &format!("what was handed over as {about} cannot be taken in: {words}"))?;
            return Ok(false);
        }
    };
    let rest = match log.walk(tip.as_deref(), &piece.new) {
        Ok(rest) => rest,
        Err(error) => {
            // Handed over a second time, it is in our history; otherwise somebody wants to have that history changed.
            let known = tip.as_deref().is_some_and(|tip| log.walk(Some(&piece.new), tip).is_ok());
            take_out(&added)?;
            if !known {
                poller.alarm(
                    client,
                    "history",
                    &format!(
                        "its queue does not go on from what this node has ({}): {}",
                        tip.as_deref().unwrap_or("nothing"),
                        error.one_line()
                    ),
                )?;
            }
            atomic::remove(&piece.path)?;
            return Ok(false);
        }
    };
    commits(poller, client, grant, log, piece, Begun { about, tip, rest }, room)
}

/// Takes in commits that are in the log's repository by now, as many as there is room for. The pack goes when nothing is
/// left of it.
fn commits(
    poller: &Poller,
    client: &Client,
    grant: &ClientGrant,
    log: &Repository,
    piece: &Piece,
    begun: Begun,
    room: &mut usize,
) -> Result<bool> {
    let Begun { about, tip, rest } = begun;
    let (signed, seen) = Intake::new(poller, client, grant, log)?.take(&rest, room)?;
    if let Some(signed) = &signed {
        log.set_tip(signed, tip.as_deref())?;
        tell_tip(&poller.node.config, &client.name, Some(signed))?;
    }
    if seen < rest.len() {
        let tip = signed.clone().or(tip);
        *client.begun() = Some(Begun { about, tip, rest: rest[seen..].to_vec() });
    } else {
        atomic::remove(&piece.path)?;
    }
    Ok(signed.is_some())
}

/// Tells the gate, which may not read the log, how far it goes: what goes further is handed over again where it was lost.
///
/// # Errors
/// With the path.
pub fn tell_tip(config: &NodeConfig, client: &Name, tip: Option<&str>) -> Result<()> {
    let path = config.tip_path(client);
    let Some(tip) = tip else { return atomic::remove(&path) };
    let text = format!("{tip}\n");
    if std::fs::read(&path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(());
    }
    crate::node::folder(path.parent().unwrap_or(&path), 0o2755)?;
    atomic::write(&path, text.as_bytes(), 0o644)
}

/// What is needed while a line of new commits is taken in.
struct Intake<'a> {
    poller: &'a Poller,
    client: &'a Client,
    grant: &'a ClientGrant,
    limits: Limits,
    log: &'a Repository,
    pool: NodePool,
    chain: Chain,
    refusals: Vec<Receipt>,
    taken: u64,
    last: Option<RequestId>,
}

/// What is known of a request's id.
enum Known {
    No,
    Same,
    Other,
}

impl<'a> Intake<'a> {
    fn new(poller: &'a Poller, client: &'a Client, grant: &'a ClientGrant, log: &'a Repository) -> Result<Self> {
        let pool = NodePool::open(&client.pool_path())?;
        let chain = Chain::after(log.last_seq()?);
        let limits = poller.access().list.limits(grant);
        Ok(Self { poller, client, grant, limits, log, pool, chain, refusals: Vec::new(), taken: 0, last: None })
    }

    /// Takes commits as long as there is `room`, one at least, and says how many that were. Gives the last commit that the
    /// client signed: the log goes up to there. What somebody put behind it is not the client's word, and the client's own
    /// next commit would not stand on it; what is before it, the client signed for.
    fn take(mut self, commits: &[String], room: &mut usize) -> Result<(Option<String>, usize)> {
        let (mut signed, mut seen) = (None, 0);
        for commit in commits {
            if *room == 0 && seen > 0 {
                break;
            }
            seen += 1;
            match self.commit(commit) {
                Ok(requests) => {
                    *room = room.saturating_sub(requests.max(1));
                    signed = Some(commit.clone());
                }
                Err(error) if error.kind() == Kind::Refused => {
                    *room = room.saturating_sub(1);
                    self.alarm(commit, &error.one_line())?;
                }
                Err(error) => return Err(error),
            }
        }
        if !self.refusals.is_empty() {
            receipts::answer(&self.poller.node, &self.poller.signer, self.client, self.refusals)?;
        }
        self.client.spend(Count::Requests, self.taken)?;
        if let Some(id) = self.last {
            self.client.last(|last| last.received = Some((clock::now(), id)))?;
        }
        Ok((signed, seen))
    }

    /// One commit, and how many requests were in it; an error of kind refused means that it proves nothing.
    fn commit(&mut self, oid: &str) -> Result<usize> {
        let commit = self.log.load(oid)?;
        let node = &self.poller.node.config.name;
        let verdicts = judge_commit(&commit, self.log, &self.client.name, node, &self.grant.keys)?;
        remember_signer(self.client, &signature::read_commit(&commit.raw)?.key, oid)?;
        let count = verdicts.len();
        for verdict in verdicts {
            match verdict {
                Verdict::Accept(request) => {
                    let refused = against(&request.claim, self.grant);
                    self.request(&request.claim, refused)?;
                }
                Verdict::Refuse(claim, why) => self.request(&claim, Some(why))?,
                Verdict::Alarm(words) => self.alarm(oid, &words)?,
            }
        }
        Ok(count)
    }

    fn request(&mut self, claim: &Claim, refused: Option<String>) -> Result<()> {
        match self.known(claim)? {
            Known::Same => return Ok(()),
            Known::Other => {
                return self.alarm(&claim.commit, &format!("the id {} came again with another request; the first one holds", claim.id));
            }
            Known::No => {}
        }
        let refused = self.chain.take(claim).err().map(|error| error.one_line()).or(refused).or_else(|| self.too_many_today());
        match refused {
            Some(reason) => self.refusals.push(receipts::refusal(&self.poller.node, claim, reason)),
            None => {
                self.pool.add(&claim.id, &claim.commit)?;
                self.taken += 1;
            }
        }
        self.last = Some(claim.id.clone());
        Ok(())
    }

    /// Why one request more is too much for today.
    fn too_many_today(&self) -> Option<String> {
        let most = self.limits.requests_a_day?;
        let limit = ("requests_a_day", most.get().into(), &*most.to_string());
        let mut spent = self.client.spent();
        spent.note(Count::Requests, self.taken, clock::now());
        spent.over(Count::Requests, limit, 1, clock::now(), &|count| count.to_string())
    }

    fn known(&self, claim: &Claim) -> Result<Known> {
        let given = self.refusals.iter().find(|receipt| receipt.id == claim.id).cloned();
        let digest = match given.map_or_else(|| receipts::find(&self.poller.node, self.client, &claim.id), |receipt| Ok(Some(receipt)))? {
            Some(receipt) => receipt.request,
            None if self.pool.state_of(&claim.id)?.is_none() => return Ok(Known::No),
            None => {
                let entries = self.pool.processing()?.into_iter().chain(self.pool.waiting()?);
                let Some(entry) = entries.into_iter().find(|entry| entry.id == claim.id) else { return Ok(Known::Same) };
                Sha256::of(&proof_of(self.log, &entry)?.0.request)
            }
        };
        Ok(if digest == claim.request_digest { Known::Same } else { Known::Other })
    }

    fn alarm(&self, commit: &str, words: &str) -> Result<()> {
        self.poller.alarm(self.client, &format!("commit {commit}"), &format!("passed over: {words}"))
    }
}

/// Why the access list does not let the node take what `claim` asks for.
pub fn against(claim: &Claim, grant: &ClientGrant) -> Option<String> {
    (!grant.allows(&claim.dataset)).then(|| format!("the node's access list does not take {} from {}", claim.dataset, claim.client))
}

/// Where the keys are that signed what was taken in, below the client's folder.
pub fn signers_path(folder: &Path) -> PathBuf {
    folder.join("signers")
}

/// Keeps the key that signed a commit when it was taken in: it holds for that commit, whatever the list says later. The
/// file is an allowed_signers file, so that an auditor can use it with plain git.
fn remember_signer(client: &Client, key: &PublicKey, commit: &str) -> Result<()> {
    let path = signers_path(&client.folder);
    let known = if path.exists() { AllowedSigners::load(&path)?.keys(&client.name) } else { Vec::new() };
    if known.iter().any(|known| known.key_data() == key.key_data()) {
        return Ok(());
    }
    let mut text =
        if path.exists() { String::from_utf8_lossy(&base::untrusted::read(&path, 1 << 20)?.bytes).into_owned() } else { String::new() };
    text.push_str(&format!("{} namespaces=\"git\" {} first commit {commit}\n", client.name, queue::access::openssh(key)?));
    atomic::write(&path, text.as_bytes(), 0o640)
}

/// The raw proof of a request in the pool, and what travelled with it.
fn proof_of(log: &Repository, entry: &NodeEntry) -> Result<(Proof, Option<Vec<u8>>)> {
    match &entry.commit {
        Some(commit) => log.proof(commit, &entry.id),
        None => {
            let found = log.find_file(&request_name(&entry.id))?;
            let found = found.ok_or_else(|| Error::failed(format!("the pool holds {}, and the log does not", entry.id)))?;
            log.proof(&found.commit, &entry.id)
        }
    }
}

/// The claim of a request that was taken in, proven again from the log, and what travelled with it.
///
/// # Errors
/// When the log does not hold it any more as it was.
pub fn accepted_claim(log: &Repository, client: &Client, node: &Name, entry: &NodeEntry) -> Result<(Claim, Option<Vec<u8>>)> {
    let (proof, attachment) = proof_of(log, entry)?;
    let signers = AllowedSigners::load(&signers_path(&client.folder))?;
    let expect = Expect { client: Some(client.name.clone()), node: Some(node.clone()), dataset: None, id: Some(entry.id.clone()) };
    let claim = prove(&proof, &|name| signers.keys(name), &expect)?;
    Ok((claim, attachment))
}
