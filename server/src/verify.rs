//! Proving the signed history that this node keeps: access list, its own log, requests, receipts, from the first commit to the last.
//!
//! Says what does not hold; changes nothing. Contents of archives are no part of it.

use crate::node::Node;
use crate::poll::{LOG_BRANCH, RECEIPTS_BRANCH, signers_path};
use crate::{access, output};
use base::{Kind, Name, Result};
use queue::check::{Verdict, check_receipts, check_signed, judge_commit};
use queue::{AllowedSigners, Repository, Signer};

/// What was looked at, and what does not hold.
#[derive(Debug, Default)]
pub struct Findings {
    /// Commits that hold.
    pub good: usize,
    /// What does not, a line each.
    pub problems: Vec<String>,
}

/// Looks at the access list, at the node's own log and at all of `clients`.
///
/// # Errors
/// When something cannot be read at all.
pub fn verify(node: &Node, clients: &[Name]) -> Result<Findings> {
    let mut findings = Findings::default();
    match access::handover::verify(node) {
        Ok(commits) => findings.good += commits,
        Err(error) => findings.problems.push(format!("access list: {}", error.one_line())),
    }
    audit(node, &mut findings)?;
    for client in clients {
        requests(node, client, &mut findings)?;
        receipts(node, client, &mut findings)?;
    }
    findings.problems.iter().for_each(|problem| output::warning(problem));
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

fn requests(node: &Node, client: &Name, findings: &mut Findings) -> Result<()> {
    let path = signers_path(&node.config.client_path(client));
    let keys = if path.exists() { AllowedSigners::load(&path)?.keys(client) } else { Vec::new() };
    each(&node.config.log_path(client), LOG_BRANCH, &mut |log, commit| {
        let judged = log.load(commit).and_then(|files| judge_commit(&files, log, client, &node.config.name, &keys));
        let bad = match judged {
            Ok(verdicts) => verdicts.into_iter().find_map(|verdict| match verdict {
                // Refusals were signed by the client and answered: they are history like the rest.
                Verdict::Accept(_) | Verdict::Refuse(..) => None,
                Verdict::Alarm(words) => Some(words),
            }),
            Err(error) if error.kind() == Kind::Refused => Some(error.one_line()),
            Err(error) => return Err(error),
        };
        findings.note(bad.map(|words| format!("requests of {client}: {words}")));
        Ok(())
    })
}

fn audit(node: &Node, findings: &mut Findings) -> Result<()> {
    let keys = [Signer::from_file(&node.config.receipts_key)?.public().clone()];
    each(&node.config.audit_path(), crate::audit::BRANCH, &mut |repository, commit| {
        let proven = repository.load(commit).and_then(|files| check_signed(&files, &node.config.name, &keys));
        findings.note(proven.err().map(|error| format!("the node's own log, commit {commit}: {}", error.one_line())));
        Ok(())
    })
}

fn receipts(node: &Node, client: &Name, findings: &mut Findings) -> Result<()> {
    let keys = [Signer::from_file(&node.config.receipts_key)?.public().clone()];
    each(&node.config.receipts_path(client), RECEIPTS_BRANCH, &mut |repository, commit| {
        let bad = repository.load(commit).and_then(|files| check_receipts(&files, repository, client, &node.config.name, &keys)).err();
        findings.note(bad.map(|error| format!("receipts for {client}: {}", error.one_line())));
        Ok(())
    })
}

impl Findings {
    fn note(&mut self, bad: Option<String>) {
        match bad {
            Some(words) => self.problems.push(words),
            None => self.good += 1,
        }
    }
}
