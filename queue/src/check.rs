//! The rules for what may stand in a queue, commit by commit: for the gate before it lets a push in, and again for the
//! node, which trusts nothing that the gate says.
//!
//! Decides what is well formed, proven and belongs together. Grants, quotas and what was answered before are others'.

use crate::prove::ProvenCommit;
use crate::receipt::Receipt;
use crate::repository::{CommitFiles, Repository, TreeEntry};
use crate::request::{self, FILE_LIMIT};
use crate::signature::PublicKey;
use crate::tree::PLAIN;
use base::{Blake3, Claim, Error, Name, Payload, RequestId, Result, Sha256};
use std::collections::{BTreeMap, HashSet};

/// The most files in one commit.
pub const FILES_LIMIT: usize = 1000;
/// The most commits in one push.
pub const COMMITS_LIMIT: usize = 1000;
/// The most that a request's number may be ahead of the one before it. Honest clients count one up; whoever has a client's key
/// must not be able to use all numbers up at once, so that none is left for the client.
pub const SEQ_STEP: u64 = 1_000_000;
/// The most files in one push.
pub const PUSH_FILES_LIMIT: usize = 10_000;

/// A request that its client's signature leads to, with what travelled beside it.
#[derive(Debug, Clone)]
pub struct CheckedRequest {
    /// What is asked, proven.
    pub claim: Claim,
    /// The bytes of `MF<id>`, a manifest or a list of refs, whose digest is the one in the request.
    pub attachment: Option<Vec<u8>>,
}

/// What is to be done about one request of a commit that proves.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It is in order.
    Accept(Box<CheckedRequest>),
    /// The client did sign it, and it must not be carried out: it gets a receipt that says why.
    Refuse(Box<Claim>, String),
    /// It cannot even be answered (no request can be read there): an alarm, and passed over.
    Alarm(String),
}

fn accepted(verdict: Verdict) -> Result<CheckedRequest> {
    match verdict {
        Verdict::Accept(request) => Ok(*request),
        Verdict::Refuse(claim, why) => Err(Error::refused(format!("request {}: {why}", claim.id))),
        Verdict::Alarm(why) => Err(Error::refused(why)),
    }
}

/// Judges each request of a commit by itself, in the order of their numbers, so that a bad one is answered and the
/// others go on.
///
/// # Errors
/// Of kind refused, when the commit as a whole proves nothing: an alarm, and the commit is passed over.
pub fn judge_commit(commit: &CommitFiles, repository: &Repository, client: &Name, node: &Name, keys: &[PublicKey]) -> Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    each_request(commit, repository, client, node, keys, &mut |verdict| {
        verdicts.push(verdict);
        Ok(())
    })
    .map_err(|error| error.context(format!("commit {}", commit.oid)))?;
    verdicts.sort_by_key(Verdict::seq);
    Ok(verdicts)
}

impl Verdict {
    /// The request's number; 0 where no request can be read.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Accept(request) => request.claim.seq,
            Self::Refuse(claim, _) => claim.seq,
            Self::Alarm(_) => 0,
        }
    }
}

/// What a push that was let through brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The requests by their numbers, in their order.
    pub requests: Vec<(u64, RequestId)>,
    /// The last one's `seq`.
    pub last_seq: u64,
}

/// Holds a whole push, the commits after `old` up to `new`, against all rules: what the gate asks before it lets it in.
/// `last_seq` is the highest number before.
///
/// # Errors
/// Of kind refused, with the first rule that is broken.
pub fn check_push(
    repository: &Repository,
    old: Option<&str>,
    new: &str,
    client: &Name,
    node: &Name,
    keys: &[PublicKey],
    last_seq: u64,
) -> Result<Checked> {
    let oids = repository.walk(old, new)?;
    if oids.len() > COMMITS_LIMIT {
        return Err(Error::refused(format!("the push brings {} commits, and at most {COMMITS_LIMIT} are allowed at a time", oids.len())));
    }
    let mut chain = Chain::after(last_seq);
    let (mut files, mut requests) = (0, Vec::new());
    for oid in &oids {
        let commit = repository.load(oid)?;
        files += commit.entries.len();
        if files > PUSH_FILES_LIMIT {
            return Err(Error::refused(format!("the push brings more than {PUSH_FILES_LIMIT} files")));
        }
        // Only numbers and ids are kept of each commit, so that no push makes this large.
        let mut numbers = Vec::new();
        let mut note = |verdict: Verdict| accepted(verdict).map(|request| numbers.push((request.claim.seq, request.claim.id)));
        each_request(&commit, repository, client, node, keys, &mut note).map_err(|error| error.context(format!("commit {oid}")))?;
        numbers.sort();
        for (seq, id) in &numbers {
            chain.add(*seq, id.clone())?;
        }
        requests.append(&mut numbers);
    }
    Ok(Checked { requests, last_seq: chain.last_seq })
}

/// Numbers go up and ids come once, over several commits.
#[derive(Debug, Default)]
pub struct Chain {
    last_seq: u64,
    ids: HashSet<RequestId>,
}

impl Chain {
    /// A chain whose last number is `last_seq`.
    pub fn after(last_seq: u64) -> Self {
        Self { last_seq, ids: HashSet::new() }
    }

    /// Adds the next request.
    ///
    /// # Errors
    /// Of kind refused, when its number does not follow or its id was there.
    pub fn take(&mut self, claim: &Claim) -> Result<()> {
        self.add(claim.seq, claim.id.clone())
    }

    fn add(&mut self, seq: u64, id: RequestId) -> Result<()> {
        if seq <= self.last_seq {
            return Err(Error::refused(format!("request {id} has the number {seq}, and the last one was {}", self.last_seq)));
        }
        if seq - self.last_seq > SEQ_STEP {
            return Err(Error::refused(format!(
                "request {id} has the number {seq}, which is more than {SEQ_STEP} ahead of the last one, {}",
                self.last_seq
            )));
        }
        if self.ids.contains(&id) {
            return Err(Error::refused(format!("the id {id} comes twice")));
        }
        self.ids.insert(id);
        self.last_seq = seq;
        Ok(())
    }

    /// The highest number so far.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }
}

/// The files of a tree by what they are.
struct Sorted<'a> {
    requests: Vec<(RequestId, &'a TreeEntry)>,
    attachments: BTreeMap<RequestId, &'a TreeEntry>,
}

/// Names by pattern, plain files alone, sizes as unpacked, every attachment with its request.
fn sort_files(entries: &[TreeEntry]) -> Result<Sorted<'_>> {
    if entries.is_empty() || entries.len() > FILES_LIMIT {
        return Err(Error::refused(format!("the commit has {} files, and 1 to {FILES_LIMIT} are allowed", entries.len())));
    }
    let mut sorted = Sorted { requests: Vec::new(), attachments: BTreeMap::new() };
    for entry in entries {
        let name = shown(&entry.name);
        if entry.mode != PLAIN {
            return Err(Error::refused(format!("{name} is no plain file (mode {:o})", entry.mode)));
        }
        if entry.size > FILE_LIMIT as u64 {
            return Err(Error::refused(format!("{name} has {} bytes, and at most {FILE_LIMIT} are allowed", entry.size)));
        }
        match (id_in(&entry.name, "RQ", ".toml"), id_in(&entry.name, "MF", "")) {
            (Some(id), _) => sorted.requests.push((id, entry)),
            (_, Some(id)) => {
                sorted.attachments.insert(id, entry);
            }
            _ => {
                return Err(Error::refused(format!("{name} is not a name that belongs here"))
                    .hint("A queue holds RQ<id>.toml and MF<id>, nothing else."));
            }
        }
    }
    let asked: HashSet<_> = sorted.requests.iter().map(|(id, _)| id).collect();
    if let Some(lonely) = sorted.attachments.keys().find(|id| !asked.contains(id)) {
        return Err(Error::refused(format!("MF{lonely} comes without its request")));
    }
    Ok(sorted)
}

fn shown(name: &[u8]) -> String {
    base::text::printable(&String::from_utf8_lossy(name)).chars().take(80).collect()
}

fn id_in(name: &[u8], before: &str, after: &str) -> Option<RequestId> {
    std::str::from_utf8(name).ok()?.strip_prefix(before)?.strip_suffix(after)?.parse().ok()
}

fn each_request(
    commit: &CommitFiles,
    repository: &Repository,
    client: &Name,
    node: &Name,
    keys: &[PublicKey],
    visit: &mut dyn FnMut(Verdict) -> Result<()>,
) -> Result<()> {
    let proven = prove_commit(commit, client, keys)?;
    let sorted = sort_files(&commit.entries)?;
    for (id, entry) in &sorted.requests {
        let bytes = repository.blob(&entry.oid, FILE_LIMIT)?;
        let request = match proven.request(&bytes) {
            Ok(request) if request.id == *id && request.client == *client => request,
            Ok(request) => {
                visit(Verdict::Alarm(format!("RQ{id}.toml holds a request of {} with the id {}", request.client, request.id)))?;
                continue;
            }
            Err(error) => {
                visit(Verdict::Alarm(format!("RQ{id}.toml: {}", error.one_line())))?;
                continue;
            }
        };
        let attachment = sorted.attachments.get(id).map(|entry| repository.blob(&entry.oid, FILE_LIMIT)).transpose()?;
        let asked = request.node.clone();
        let claim = proven.claim(request, bytes);
        visit(if asked != *node {
            Verdict::Refuse(Box::new(claim), format!("it asks {asked}, and this is {node}"))
        } else if !fits(claim.payload, attachment.as_deref()) {
            Verdict::Refuse(Box::new(claim), format!("{} does not have the digest that the request states", request::attachment_name(id)))
        } else {
            Verdict::Accept(Box::new(CheckedRequest { claim, attachment }))
        })?;
    }
    Ok(())
}

fn fits(payload: Payload, attachment: Option<&[u8]>) -> bool {
    match (payload, attachment) {
        (_, None) => true,
        (Payload::Manifest(digest), Some(bytes)) => Blake3::of(bytes) == digest,
        (Payload::Refs(digest), Some(bytes)) => Sha256::of(bytes) == digest,
        (Payload::Nothing, Some(_)) => false,
    }
}

/// Signature, tree and signer of a commit; the message must be fit to be shown, as `git log` shows it as it stands.
fn prove_commit<'a>(commit: &'a CommitFiles, signer: &Name, keys: &[PublicKey]) -> Result<ProvenCommit<'a>> {
    let proven = ProvenCommit::new(&commit.raw, &commit.tree)?;
    if proven.oid.to_string() != commit.oid {
        return Err(Error::refused("the commit does not have the id under which it is kept"));
    }
    proven.check_signer(signer, keys)?;
    if !proven.signed.can_be_shown() {
        return Err(Error::refused("the commit's message holds characters that cannot be shown"));
    }
    Ok(proven)
}

/// Whether a commit is what its id says, fit to be shown, and signed by one of `signer`'s `keys`; what it holds is not
/// looked at.
///
/// # Errors
/// Of kind refused when it is not.
pub fn check_signed(commit: &CommitFiles, signer: &Name, keys: &[PublicKey]) -> Result<()> {
    prove_commit(commit, signer, keys).map(drop)
}

/// The receipts of one commit of a receipts branch, signed by one of the node's `keys`. Notices (`NT<id>.toml`), which
/// a later release carries, are passed over.
///
/// # Errors
/// Of kind refused, when it was not signed so, or is no commit of receipts of `node` for `client`.
pub fn check_receipts(
    commit: &CommitFiles,
    repository: &Repository,
    client: &Name,
    node: &Name,
    keys: &[PublicKey],
) -> Result<Vec<Receipt>> {
    let read = || {
        prove_commit(commit, node, keys)?;
        let mut receipts = Vec::new();
        for entry in &commit.entries {
            if id_in(&entry.name, "NT", ".toml").is_some() && entry.mode == PLAIN {
                continue;
            }
            let id = id_in(&entry.name, "RC", ".toml").filter(|_| entry.mode == PLAIN);
            let id = id.ok_or_else(|| Error::refused(format!("{} is not a name that belongs here", shown(&entry.name))))?;
            let receipt = Receipt::parse(&repository.blob(&entry.oid, crate::receipt::FILE_LIMIT)?)?;
            if receipt.id != id || receipt.client != *client || receipt.node != *node {
                return Err(Error::refused(format!(
                    "RC{id}.toml is a receipt of {} for request {} of {}",
                    receipt.node, receipt.id, receipt.client
                )));
            }
            receipts.push(receipt);
        }
        Ok(receipts)
    };
    read().map_err(|error| error.context(format!("commit {}", commit.oid)))
}
