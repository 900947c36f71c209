//! `nightsafe log`: every request with its receipt, the newest first, from the signed history on this machine.
//! `--verify` proves that history.

mod verify;

use crate::output::{self, Table};
use crate::send::{QUEUE_BRANCH, RECEIPTS_BRANCH};
use base::config::ClientConfig;
use base::config::client::ClientNode;
use base::{At, Dataset, Exit, Name, RequestId, Result};
use jiff::Timestamp;
use queue::receipt::{Receipt, receipt_name};
use queue::repository::Repository;
use queue::request::{FILE_LIMIT, Request, reason_word};
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;

/// Show who asked for what, and what became of it, the newest first.
///
/// The same stands in git: git -C STATE/queues/NODE.git log, and git -C STATE/receipts/NODE.git log.
#[derive(Debug, clap::Args)]
pub struct Log {
    /// Only requests for this dataset.
    dataset: Option<Dataset>,
    /// Only this node.
    #[arg(long)]
    node: Option<Name>,
    /// At most this many requests of each node; 0 for all.
    #[arg(short = 'n', long, default_value_t = 100)]
    limit: usize,
    /// An array of objects instead of a table.
    #[arg(long)]
    json: bool,
    /// Prove the whole signed history instead: every signature, every number, and that each receipt answers a request.
    #[arg(long, conflicts_with_all = ["dataset", "limit"])]
    verify: bool,
    /// With --verify: whose signatures count beside this machine's key and the keys of the nodes, for keys that were in
    /// use before; a list of allowed signers as ssh-keygen reads it.
    #[arg(long, env = "NIGHTSAFE_SIGNERS", value_name = "FILE")]
    signers: Option<PathBuf>,
}

/// A request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    id: RequestId,
    node: Name,
    dataset: Dataset,
    seq: u64,
    submitted: Timestamp,
    by: String,
    reason: &'static str,
    tags: Vec<String>,
    outcome: Option<String>,
    why: Option<String>,
    received: Option<Timestamp>,
    snapshot: Option<String>,
    bytes_fetched: Option<u64>,
    bytes_stored: Option<u64>,
    seconds: Option<u64>,
    commit: String,
}

impl Log {
    pub fn run(self, config: &ClientConfig) -> Result<Exit> {
        let nodes: Vec<_> = config.nodes.iter().filter(|node| self.node.as_ref().is_none_or(|name| *name == node.name)).collect();
        if self.verify {
            return verify::run(config, &nodes, self.signers.as_deref(), self.json);
        }
        let mut lines = Vec::new();
        for node in nodes {
            lines.extend(self.of_node(config, node)?);
        }
        lines.sort_by(|a, b| b.submitted.cmp(&a.submitted).then(b.seq.cmp(&a.seq)).then(a.node.cmp(&b.node)));
        output::listing(self.json, &lines, table)?;
        Ok(Exit::Done)
    }

    fn of_node(&self, config: &ClientConfig, node: &ClientNode) -> Result<Vec<Line>> {
        let path = config.queue_path(&node.name);
        if !path.try_exists().at("look at", &path)? {
            return Ok(Vec::new());
        }
        let requests = Repository::open(&path, QUEUE_BRANCH)?;
        let Some(tip) = requests.tip()? else { return Ok(Vec::new()) };
        let receipts = receipts(config, node)?;
        let limit = if self.limit == 0 { usize::MAX } else { self.limit };
        let mut lines = Vec::new();
        for oid in requests.walk(None, &tip)?.iter().rev() {
            let commit = requests.load(oid)?;
            for entry in commit.entries.iter().filter(|entry| entry.name.starts_with(b"RQ")) {
                let request = Request::parse(&requests.blob(&entry.oid, FILE_LIMIT)?)?;
                if self.dataset.as_ref().is_none_or(|dataset| *dataset == request.dataset) {
                    let receipt = receipts.get(&request.id).map(|bytes| Receipt::parse(bytes)).transpose()?;
                    lines.push(join(request, receipt, oid));
                }
            }
            if lines.len() >= limit {
                break;
            }
        }
        lines.truncate(limit);
        Ok(lines)
    }
}

/// The receipts of one node, by request.
fn receipts(config: &ClientConfig, node: &ClientNode) -> Result<HashMap<RequestId, Vec<u8>>> {
    let path = config.receipts_path(&node.name);
    if !path.exists() {
        return Ok(HashMap::new());
    }
    let repository = Repository::open(&path, RECEIPTS_BRANCH)?;
    let Some(tip) = repository.tip()? else { return Ok(HashMap::new()) };
    let mut found = HashMap::new();
    for oid in repository.walk(None, &tip)? {
        for entry in repository.load(&oid)?.entries {
            let id = std::str::from_utf8(&entry.name)
                .ok()
                .and_then(|name| name.strip_prefix("RC")?.strip_suffix(".toml")?.parse::<RequestId>().ok());
            if let Some(id) = id.filter(|id| receipt_name(id).as_bytes() == entry.name) {
                found.insert(id, repository.blob(&entry.oid, queue::receipt::FILE_LIMIT)?);
            }
        }
    }
    Ok(found)
}

/// One line of the log; a receipt for other bytes than these is not this request's.
fn join(request: Request, receipt: Option<Receipt>, commit: &str) -> Line {
    let digest = base::Sha256::of(&request.to_toml());
    let receipt = receipt.filter(|receipt| receipt.request == digest);
    let of = |value: fn(&Receipt) -> u64| receipt.as_ref().map(value);
    Line {
        outcome: receipt.as_ref().map(|receipt| receipt.outcome.to_string()),
        why: receipt.as_ref().and_then(|receipt| receipt.reason.clone()),
        received: receipt.as_ref().map(|receipt| receipt.received),
        snapshot: receipt.as_ref().and_then(|receipt| receipt.snapshot.clone()),
        bytes_fetched: of(|receipt| receipt.bytes_fetched),
        bytes_stored: of(|receipt| receipt.bytes_stored),
        seconds: of(|receipt| receipt.seconds),
        id: request.id,
        node: request.node,
        dataset: request.dataset,
        seq: request.seq,
        submitted: request.submitted,
        by: request.by,
        reason: reason_word(request.reason),
        tags: request.tags,
        commit: commit.to_owned(),
    }
}

fn table(lines: &[Line]) -> Table {
    let mut table = Table::new(&["SUBMITTED", "DATASET", "NODE", "BY", "REASON", "REQUEST", "OUTCOME"], "Nothing was sent yet.");
    for line in lines {
        let outcome = match (&line.outcome, &line.why) {
            (None, _) => "waiting".into(),
            (Some(outcome), None) => outcome.clone(),
            (Some(outcome), Some(why)) => format!("{outcome}: {why}"),
        };
        table.row([
            line.submitted.to_string(),
            line.dataset.to_string(),
            line.node.to_string(),
            line.by.clone(),
            line.reason.into(),
            line.id.to_string(),
            // Last, because a reason may be long and nothing is padded behind it.
            outcome,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Payload, Reason, Sha256};
    use queue::receipt::Outcome;

    #[test]
    fn a_receipt_belongs_to_the_bytes_that_it_names() {
        let request = Request {
            id: "20261120T031500Z-3f9a1c7e".parse().unwrap(),
            client: Name::new("web1").unwrap(),
            node: Name::new("node1").unwrap(),
            dataset: "files:/a".parse().unwrap(),
            seq: 3,
            prev: None,
            submitted: "2026-11-20T03:15:00Z".parse().unwrap(),
            by: "git".into(),
            reason: Reason::Hook,
            tags: vec![],
            payload: Payload::Nothing,
            repairs: Vec::new(),
            group: None,
        };
        let receipt = Receipt {
            id: request.id.clone(),
            node: request.node.clone(),
            client: request.client.clone(),
            dataset: request.dataset.clone(),
            request: Sha256::of(&request.to_toml()),
            outcome: Outcome::Stored,
            reason: None,
            received: "2026-11-20T03:15:02Z".parse().unwrap(),
            bytes_fetched: 5,
            bytes_stored: 4,
            seconds: 1,
            snapshot: None,
            unreadable: 0,
            refs: None,
            changed: vec![],
            missing: vec![],
        };
        let line = join(request.clone(), Some(receipt.clone()), "c");
        assert_eq!((line.outcome.as_deref(), line.bytes_fetched), (Some("stored"), Some(5)));
        let other = Receipt { request: Sha256::of(b""), ..receipt };
        assert_eq!(join(request.clone(), Some(other), "c").outcome, None);
        assert!(table(&[join(request, None, "c")]).to_string().contains("waiting"));
    }
}
