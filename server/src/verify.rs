//! Proving the signed history that this node keeps: access list, its own log, requests, receipts, from the first commit to the last.
//!
//! Says what does not hold; changes nothing. Contents of archives are no part of it.

use crate::access;
use crate::node::Node;
use crate::poll::{LOG_BRANCH, RECEIPTS_BRANCH, signers_path};
use base::{Name, RequestId, Result};
use queue::check::check_signed;
use queue::pool::NodePool;
use queue::prove_log::{Proven, Sides, prove_log};
use queue::{AllowedSigners, Repository, Signer};
use serde::Serialize;
use std::collections::HashSet;
use std::path::Path;

/// What was looked at, and what does not hold.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// Commits of the access list and of the node's own log that hold.
    pub commits: usize,
    /// What of these does not, a line each.
    pub problems: Vec<String>,
    /// What was found of each client.
    pub clients: Vec<OfClient>,
}

/// What was found of one client.
#[derive(Debug, Serialize)]
pub struct OfClient {
    /// Whose.
    pub client: Name,
    /// What.
    #[serde(flatten)]
    pub proven: Proven,
}

impl Findings {
    /// How many commits hold.
    pub fn good(&self) -> usize {
        self.clients.iter().map(|of| of.proven.commits).sum::<usize>() + self.commits
    }

    /// How many things do not.
    pub fn wrong(&self) -> usize {
        self.clients.iter().map(|of| of.proven.wrong()).sum::<usize>() + self.problems.len()
    }

    fn note(&mut self, bad: Option<String>) {
        match bad {
            Some(words) => self.problems.push(words),
            None => self.commits += 1,
        }
    }
}

/// Looks at the access list, at the node's own log and at all of `clients`. `signers` names keys that were in use before.
///
/// # Errors
/// When something cannot be read at all.
pub fn verify(node: &Node, clients: &[Name], signers: &AllowedSigners) -> Result<Findings> {
    let mut findings = Findings::default();
    match access::handover::verify(node) {
        Ok(commits) => findings.commits += commits,
        Err(error) => findings.problems.push(format!("access list: {}", error.one_line())),
    }
    audit(node, signers, &mut findings)?;
    for client in clients {
        findings.clients.push(OfClient { client: client.clone(), proven: of_client(node, client, signers)? });
    }
    Ok(findings)
}

/// The commits of one branch, oldest first; none where there is no repository yet.
fn each(path: &std::path::Path, branch: &str, look: &mut dyn FnMut(&Repository, &str) -> Result<()>) -> Result<()> {
    if !path.join("HEAD").exists() {
        return Ok(());
    }
    let repository = Repository::open(path, branch)?;
    let Some(tip) = repository.tip()? else { return Ok(()) };
    repository.walk(None, &tip)?.iter().try_for_each(|commit| look(&repository, commit))
}

fn of_client(node: &Node, client: &Name, signers: &AllowedSigners) -> Result<Proven> {
    let path = signers_path(&node.config.client_path(client));
    // Whoever signed what was taken in was judged then, and is remembered.
    let mut client_keys = if path.exists() { AllowedSigners::load(&path)?.keys(client) } else { Vec::new() };
    client_keys.extend(signers.keys(client));
    let mut node_keys = vec![Signer::from_file(&node.config.receipts_key)?.public().clone()];
    node_keys.extend(signers.keys(&node.config.name));
    let requests = open(&node.config.log_path(client), LOG_BRANCH)?;
    let receipts = open(&node.config.receipts_path(client), RECEIPTS_BRANCH)?;
    let sides = Sides {
        client,
        node: &node.config.name,
        client_keys: &client_keys,
        node_keys: &node_keys,
        requests: requests.as_ref(),
        receipts: receipts.as_ref(),
        answering: true,
    };
    prove_log(&sides, &|| in_pool(node, client))
}

fn open(path: &Path, branch: &str) -> Result<Option<Repository>> {
    path.join("HEAD").exists().then(|| Repository::open(path, branch)).transpose()
}

fn in_pool(node: &Node, client: &Name) -> Result<HashSet<RequestId>> {
    let path = node.config.client_path(client).join("pool");
    if !path.is_dir() {
        return Ok(HashSet::new());
    }
    let pool = NodePool::open(&path)?;
    // In this order: a request goes from waiting to processing.
    let waiting = pool.waiting()?;
    Ok(waiting.into_iter().chain(pool.processing()?).map(|entry| entry.id).collect())
}

fn audit(node: &Node, signers: &AllowedSigners, findings: &mut Findings) -> Result<()> {
    let mut keys = vec![Signer::from_file(&node.config.receipts_key)?.public().clone()];
    keys.extend(signers.keys(&node.config.name));
    each(&node.config.audit_path(), crate::audit::BRANCH, &mut |repository, commit| {
        let proven = repository.load(commit).and_then(|files| check_signed(&files, &node.config.name, &keys));
        findings.note(proven.err().map(|error| format!("the node's own log, commit {commit}: {}", error.one_line())));
        Ok(())
    })
}
