//! Proving a whole log: every request of one client to one node, and every receipt that the node gave, held against each
//! other from the first commit to the last. The same on both sides, and by whoever else has both repositories.
//!
//! Says what does not fit; changes nothing, and knows nothing of archives.

use crate::check::{Verdict, check_receipts, judge_commit};
use crate::receipt::Receipt;
use crate::repository::{CommitFiles, Repository};
use crate::signature::PublicKey;
use base::{Claim, Dataset, Name, RequestId, Result, Sha256};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};

/// How many misfits are told one by one; the others are counted.
pub const MOST: usize = 1000;

/// Whose log it is, and who may have signed it.
#[derive(Debug)]
pub struct Sides<'a> {
    /// Who asks.
    pub client: &'a Name,
    /// Who answers.
    pub node: &'a Name,
    /// The keys that may sign requests.
    pub client_keys: &'a [PublicKey],
    /// The keys that may sign receipts.
    pub node_keys: &'a [PublicKey],
    /// The queue, or the node's copy of it; `None` where there is none yet.
    pub requests: Option<&'a Repository>,
    /// The receipts; `None` where there are none yet.
    pub receipts: Option<&'a Repository>,
    /// Whether the pool is the node's: then a request that has no receipt and is not in it will never have one. On the
    /// client that is known only once a later request of the dataset has its receipt.
    pub answering: bool,
}

/// What kind of misfit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A commit is not what somebody who may do so has signed, or cannot be read.
    NotProven,
    /// Numbers of requests are missing.
    Gap,
    /// A number does not come after the one before it.
    Order,
    /// `prev` is not the request of this dataset before it.
    Predecessor,
    /// An id came again with another request.
    SameId,
    /// A receipt answers a request that is not there.
    Unasked,
    /// A receipt answers other bytes than the request's, or another dataset.
    OtherRequest,
    /// A request has two receipts.
    Twice,
    /// A request has no receipt, and nothing waits for one.
    Unanswered,
    /// The history has lost what it had before.
    WentBack,
}

/// One thing that no honest history shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Misfit {
    /// Of which kind.
    pub kind: Kind,
    /// The request that it is about, where it is about one.
    pub id: Option<RequestId>,
    /// The commit in which it is seen, where it is in one.
    pub commit: Option<String>,
    /// What, as a sentence.
    pub text: String,
}

impl Misfit {
    /// A misfit that is about neither a single request nor a commit.
    pub fn of_all(kind: Kind, text: String) -> Self {
        Self { kind, id: None, commit: None, text }
    }
}

/// A request that has no receipt yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Its id.
    pub id: RequestId,
    /// Its number.
    pub seq: u64,
    /// What it asks for.
    pub dataset: Dataset,
    /// When it was signed, by the client's clock.
    pub submitted: Timestamp,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Proven {
    /// Commits whose signature and content hold, of both histories.
    pub commits: usize,
    /// Requests in them.
    pub requests: usize,
    /// Receipts in them.
    pub receipts: usize,
    /// Requests that have no receipt yet, in the order of their numbers.
    pub waiting: Vec<Waiting>,
    /// What does not fit, the requests' first; at most [`MOST`].
    pub misfits: Vec<Misfit>,
    /// How many more do not fit.
    pub more: usize,
}

impl Proven {
    /// Notes something that does not fit.
    pub fn note(&mut self, misfit: Misfit) {
        if self.misfits.len() < MOST {
            self.misfits.push(misfit);
        } else {
            self.more += 1;
        }
    }

    /// How many things do not fit.
    pub fn wrong(&self) -> usize {
        self.misfits.len() + self.more
    }
}

/// Walks both histories. `in_pool` gives the requests that wait in a pool; it is asked after the requests are read and
/// before the receipts are, so that one that is answered meanwhile is found in one of the two.
///
/// # Errors
/// When a branch or the pool cannot be looked at; what is wrong inside is a misfit.
pub fn prove_log(sides: &Sides<'_>, in_pool: &dyn Fn() -> Result<HashSet<RequestId>>) -> Result<Proven> {
    let mut log = Log::default();
    let judge =
        |repository: &Repository, commit: &CommitFiles| judge_commit(commit, repository, sides.client, sides.node, sides.client_keys);
    if let Err(error) = each(sides.requests, &judge, &mut |oid, judged| log.requests(oid, judged))? {
        log.unreadable("requests", &error);
    }
    let waiting = in_pool()?;
    let read =
        |repository: &Repository, commit: &CommitFiles| check_receipts(commit, repository, sides.client, sides.node, sides.node_keys);
    if let Err(error) = each(sides.receipts, &read, &mut |oid, read| log.receipts(oid, read))? {
        log.unreadable("receipts", &error);
    }
    Ok(log.end(&waiting, sides.answering))
}

/// What `read` makes of each commit of a history, oldest first. The inner error says why it cannot be gone through.
fn each<T>(
    repository: Option<&Repository>,
    read: &dyn Fn(&Repository, &CommitFiles) -> Result<T>,
    take: &mut dyn FnMut(&str, Result<T>),
) -> Result<Result<()>> {
    let Some(repository) = repository else { return Ok(Ok(())) };
    let Some(tip) = repository.tip()? else { return Ok(Ok(())) };
    Ok(repository.walk(None, &tip).map(|oids| {
        for oid in oids {
            take(&oid, repository.load(&oid).and_then(|commit| read(repository, &commit)));
        }
    }))
}

/// A request, as far as a receipt must fit it.
#[derive(Debug)]
struct Asked {
    digest: Sha256,
    seq: u64,
    dataset: Dataset,
    submitted: Timestamp,
}

/// What was read so far. Decides over values; reads nothing.
#[derive(Debug, Default)]
struct Log {
    found: Proven,
    asked: HashMap<RequestId, Asked>,
    newest: HashMap<Dataset, RequestId>,
    last_seq: u64,
    answered: HashSet<RequestId>,
}

impl Log {
    fn misfit(&mut self, kind: Kind, id: Option<&RequestId>, commit: &str, text: String) {
        self.found.note(Misfit { kind, id: id.cloned(), commit: Some(commit.to_owned()), text });
    }

    fn unreadable(&mut self, what: &str, error: &base::Error) {
        self.found.note(Misfit::of_all(Kind::NotProven, format!("the history of {what} cannot be gone through: {}", error.one_line())));
    }

    fn requests(&mut self, oid: &str, judged: Result<Vec<Verdict>>) {
        let verdicts = match judged {
            Ok(verdicts) => verdicts,
            Err(error) => return self.misfit(Kind::NotProven, None, oid, format!("requests: {}", error.one_line())),
        };
        let before = self.found.wrong();
        for verdict in verdicts {
            match verdict {
                Verdict::Accept(request) => self.ask(oid, &request.claim),
                // The client signed for it, and it was answered: it is history like the rest.
                Verdict::Refuse(claim, _) => self.ask(oid, &claim),
                Verdict::Alarm(words) => self.misfit(Kind::NotProven, None, oid, format!("requests: commit {oid}: {words}")),
            }
        }
        self.found.commits += usize::from(self.found.wrong() == before);
    }

    fn ask(&mut self, oid: &str, claim: &Claim) {
        let id = &claim.id;
        if let Some(known) = self.asked.get(id) {
            if known.digest != claim.request_digest {
                self.misfit(Kind::SameId, Some(id), oid, format!("the id {id} came again with another request; the first one holds"));
            }
            return;
        }
        self.found.requests += 1;
        if claim.seq <= self.last_seq {
            let text = format!("request {id} has the number {}, and the one before it had {}", claim.seq, self.last_seq);
            self.misfit(Kind::Order, Some(id), oid, text);
        } else if claim.seq - self.last_seq > 1 {
            let (from, to) = (self.last_seq + 1, claim.seq - 1);
            let missing = if from == to { format!("number {from} is missing") } else { format!("numbers {from} to {to} are missing") };
            self.misfit(Kind::Gap, Some(id), oid, format!("{missing} before request {id}, which is number {}", claim.seq));
        }
        let before = self.newest.insert(claim.dataset.clone(), id.clone());
        if before != claim.prev {
            let name = |id: &Option<RequestId>| id.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
            let text = format!(
                "request {id} says that the one of {} before it was {}, and it was {}",
                claim.dataset,
                name(&claim.prev),
                name(&before)
            );
            self.misfit(Kind::Predecessor, Some(id), oid, text);
        }
        self.last_seq = self.last_seq.max(claim.seq);
        let asked = Asked { digest: claim.request_digest, seq: claim.seq, dataset: claim.dataset.clone(), submitted: claim.submitted };
        self.asked.insert(id.clone(), asked);
    }

    fn receipts(&mut self, oid: &str, read: Result<Vec<Receipt>>) {
        let receipts = match read {
            Ok(receipts) => receipts,
            Err(error) => return self.misfit(Kind::NotProven, None, oid, format!("receipts: {}", error.one_line())),
        };
        let before = self.found.wrong();
        for receipt in receipts {
            self.found.receipts += 1;
            self.answer(oid, &receipt);
        }
        self.found.commits += usize::from(self.found.wrong() == before);
    }

    fn answer(&mut self, oid: &str, receipt: &Receipt) {
        let id = &receipt.id;
        if !self.answered.insert(id.clone()) {
            return self.misfit(Kind::Twice, Some(id), oid, format!("request {id} has two receipts"));
        }
        let Some(asked) = self.asked.get(id) else {
            let text = format!("the receipt for {id} ({}, {}) answers a request that is not there", receipt.dataset, receipt.outcome);
            return self.misfit(Kind::Unasked, Some(id), oid, text);
        };
        if asked.digest != receipt.request {
            let text = format!("the receipt for {id} answers other bytes than those that were signed as number {}", asked.seq);
            self.misfit(Kind::OtherRequest, Some(id), oid, text);
        } else if asked.dataset != receipt.dataset {
            let text = format!("the receipt for {id} is about {}, and the request asked for {}", receipt.dataset, asked.dataset);
            self.misfit(Kind::OtherRequest, Some(id), oid, text);
        }
    }

    fn end(mut self, in_pool: &HashSet<RequestId>, answering: bool) -> Proven {
        let mut latest: HashMap<&Dataset, u64> = HashMap::new();
        for asked in self.asked.iter().filter(|(id, _)| self.answered.contains(*id)).map(|(_, asked)| asked) {
            let seq = latest.entry(&asked.dataset).or_default();
            *seq = asked.seq.max(*seq);
        }
        let unanswered = self.asked.iter().filter(|(id, _)| !self.answered.contains(*id));
        let by_seq: BTreeMap<(u64, &RequestId), &Asked> = unanswered.map(|(id, asked)| ((asked.seq, id), asked)).collect();
        for ((seq, id), asked) in by_seq {
            let (id, dataset) = (id.clone(), asked.dataset.clone());
            let passed = answering || latest.get(&dataset).is_some_and(|latest| *latest > seq);
            if !passed || in_pool.contains(&id) || in_pool.contains(&id.whole()) {
                self.found.waiting.push(Waiting { id, seq, dataset, submitted: asked.submitted });
            } else {
                let text = format!("request {id}, number {seq}, of {dataset} has no receipt, and nothing waits for one");
                self.found.note(Misfit { kind: Kind::Unanswered, id: Some(id), commit: None, text });
            }
        }
        self.found
    }
}
