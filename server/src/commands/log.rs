//! `log`: who asked for what, and what became of it: requests of the log joined with receipts.
//!
//! The same is in git: `git log` in `log/CLIENT.git` and in `CLIENT/receipts.git`.

use crate::node::Node;
use crate::poll::{LOG_BRANCH, RECEIPTS_BRANCH};
use crate::verify::Findings;
use crate::{given, output};
use base::{At, ByteSize, Exit, Name, Reason, Result, clock, untrusted};
use queue::receipt::receipt_name;
use queue::request::FILE_LIMIT;
use queue::{AllowedSigners, Outcome, Receipt, Repository, Request};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Show who asked for what, and what became of it; the newest last.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only of this client.
    client: Option<Name>,
    /// How many requests of each client; 0 for all.
    #[arg(short = 'n', long, default_value_t = 50)]
    limit: usize,
    /// Print an array of objects.
    #[arg(long)]
    json: bool,
    /// Prove the whole signed history instead: access list, requests and receipts, and that each receipt answers a request.
    #[arg(long, conflicts_with = "limit")]
    verify: bool,
    /// With --verify: whose signatures count beside the keys that this node knows, for keys that were in use before; a
    /// list of allowed signers as ssh-keygen reads it.
    #[arg(long, value_name = "FILE", requires = "verify")]
    signers: Option<PathBuf>,
}

#[derive(Serialize)]
struct Row {
    id: String,
    client: String,
    dataset: String,
    seq: u64,
    submitted: String,
    by: String,
    reason: Reason,
    tags: Vec<String>,
    commit: String,
    /// `None` while it waits.
    outcome: Option<Outcome>,
    why: Option<String>,
    received: Option<String>,
    bytes_fetched: Option<u64>,
    bytes_stored: Option<u64>,
    seconds: Option<u64>,
    unreadable: Option<u64>,
    changed: Vec<String>,
}

/// The keys that count beside those that this node knows.
fn signers(file: &Path) -> Result<AllowedSigners> {
    let bytes =
        given::open(file).and_then(|open| untrusted::read_bounded(open, AllowedSigners::LIMIT)).at("read the list of signers", file)?;
    AllowedSigners::parse(&file.display().to_string(), &bytes)
}

/// Runs the command.
pub fn run(args: &Args, config: &Path) -> Result<Exit> {
    let node = Node::load(config)?;
    let clients = node.clients(args.client.as_ref())?;
    if args.verify {
        let signers = args.signers.as_deref().map(signers).transpose()?.unwrap_or_default();
        let findings = crate::verify::verify(&node, &clients, &signers)?;
        if args.json {
            output::json(std::slice::from_ref(&findings))?;
        } else {
            show(&findings)?;
        }
        return Ok(if findings.wrong() == 0 { Exit::Done } else { Exit::Failed });
    }
    let mut rows = Vec::new();
    for client in clients {
        rows.extend(of_client(&node, &client, args.limit)?);
    }
    rows.sort_by(|a, b| (&a.submitted, &a.id).cmp(&(&b.submitted, &b.id)));
    if args.json {
        output::json(&rows)?;
    } else {
        output::table(&["SUBMITTED", "CLIENT", "DATASET", "BY", "BECAME", ""], &rows.iter().map(cells).collect::<Vec<_>>())?;
    }
    Ok(Exit::Done)
}

/// What does not hold on stderr, how much does on stdout.
fn show(findings: &Findings) -> Result<()> {
    findings.problems.iter().for_each(|problem| output::warning(problem));
    for of in &findings.clients {
        let (client, proven) = (&of.client, &of.proven);
        for misfit in &proven.misfits {
            output::warning(&format!("{client}: {}", misfit.text));
        }
        if proven.more > 0 {
            output::warning(&format!("{client}: and {} more", proven.more));
        }
        for waiting in &proven.waiting {
            let (id, dataset, ago) = (&waiting.id, &waiting.dataset, clock::ago(waiting.submitted));
            output::line(&format!("{client}: request {id}, number {}, of {dataset} waits; it was signed {ago} ago", waiting.seq))?;
        }
        let (requests, receipts) = (proven.requests, proven.receipts);
        output::line(&format!("{client}: {requests} requests, {receipts} receipts, {} waiting", proven.waiting.len()))?;
    }
    output::line(&format!("{} commits hold, {} do not", findings.good(), findings.wrong()))
}

fn of_client(node: &Node, client: &Name, limit: usize) -> Result<Vec<Row>> {
    let path = node.config.log_path(client);
    if !path.join("HEAD").exists() {
        return Ok(Vec::new());
    }
    let log = Repository::open(&path, LOG_BRANCH)?;
    let Some(tip) = log.tip()? else { return Ok(Vec::new()) };
    let path = node.config.receipts_path(client);
    let answers = if path.join("HEAD").exists() { Some(Repository::open(&path, RECEIPTS_BRANCH)?) } else { None };
    let mut rows = Vec::new();
    for commit in log.walk(None, &tip)?.iter().rev() {
        for entry in log.load(commit)?.entries {
            let Ok(name) = std::str::from_utf8(&entry.name) else { continue };
            if !name.starts_with("RQ") {
                continue;
            }
            // What cannot be read stands in the log all the same, and in the alarms.
            let Ok(request) = log.blob(&entry.oid, FILE_LIMIT).and_then(|bytes| Request::parse(&bytes)) else { continue };
            let found = answers.as_ref().map(|answers| answers.find_file(&receipt_name(&request.id))).transpose()?.flatten();
            let receipt = found.map(|found| Receipt::parse(&found.bytes)).transpose()?;
            rows.push(row(request, commit, receipt));
        }
        if limit > 0 && rows.len() >= limit {
            break;
        }
    }
    if limit > 0 {
        rows.truncate(limit);
    }
    Ok(rows)
}

fn row(request: Request, commit: &str, receipt: Option<Receipt>) -> Row {
    Row {
        id: request.id.to_string(),
        client: request.client.to_string(),
        dataset: request.dataset.to_string(),
        seq: request.seq,
        submitted: request.submitted.to_string(),
        by: request.by,
        reason: request.reason,
        tags: request.tags,
        commit: commit.to_owned(),
        outcome: receipt.as_ref().map(|receipt| receipt.outcome),
        why: receipt.as_ref().and_then(|receipt| receipt.reason.clone()),
        received: receipt.as_ref().map(|receipt| receipt.received.to_string()),
        bytes_fetched: receipt.as_ref().map(|receipt| receipt.bytes_fetched),
        bytes_stored: receipt.as_ref().map(|receipt| receipt.bytes_stored),
        seconds: receipt.as_ref().map(|receipt| receipt.seconds),
        unreadable: receipt.as_ref().map(|receipt| receipt.unreadable),
        changed: receipt.map(|receipt| receipt.changed).unwrap_or_default(),
    }
}

fn cells(row: &Row) -> Vec<String> {
    let became = row.outcome.map_or_else(|| "waiting".into(), |outcome| outcome.to_string());
    let more = match (&row.why, row.bytes_stored) {
        (Some(why), _) => why.clone(),
        (None, Some(bytes)) => format!("{} in {} s", ByteSize(bytes), row.seconds.unwrap_or_default()),
        (None, None) => String::new(),
    };
    vec![row.submitted.clone(), row.client.clone(), row.dataset.clone(), row.by.clone(), became, more]
}
