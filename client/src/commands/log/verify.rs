//! `nightsafe log --verify`: proves the whole signed history on this machine, requests and receipts against each other.
//!
//! Asks no node: what it offered last is here. Contents of archives are `nightsafe verify`'s.

use crate::contact::Contact;
use crate::output;
use crate::send::{OFFERED_BRANCH, QUEUE_BRANCH, RECEIPTS_BRANCH};
use crate::trust;
use base::config::ClientConfig;
use base::config::client::ClientNode;
use base::{At, Error, Exit, Name, RequestId, Result};
use queue::pool::ClientPool;
use queue::prove_log::{Kind, Misfit, Proven, Sides, prove_log};
use queue::signature::{PublicKey, parse_public_key};
use queue::{AllowedSigners, Repository};
use serde::Serialize;
use std::collections::HashSet;
use std::path::Path;

/// What was found of one node.
#[derive(Serialize)]
struct Found<'a> {
    client: &'a Name,
    node: &'a Name,
    #[serde(flatten)]
    proven: Proven,
}

/// Proves the history with each of `nodes`.
///
/// # Errors
/// When keys or repositories cannot be read at all.
pub fn run(config: &ClientConfig, nodes: &[&ClientNode], signers: Option<&Path>, json: bool) -> Result<Exit> {
    let client = config.client_name()?;
    let signers = signers.map(AllowedSigners::load).transpose()?.unwrap_or_default();
    let mut all = Vec::new();
    for node in nodes {
        all.push(Found { client, node: &node.name, proven: of_node(config, client, node, &signers)? });
    }
    let wrong: usize = all.iter().map(|found| found.proven.wrong()).sum();
    if json {
        let text = serde_json::to_string_pretty(&all).map_err(|e| Error::failed("could not write JSON").because(e))?;
        output::line(text);
    } else {
        all.iter().for_each(show);
    }
    Ok(if wrong == 0 { Exit::Done } else { Exit::Failed })
}

fn of_node(config: &ClientConfig, client: &Name, node: &ClientNode, signers: &AllowedSigners) -> Result<Proven> {
    let requests = open(&config.queue_path(&node.name), QUEUE_BRANCH)?;
    let receipts = open(&config.receipts_path(&node.name), RECEIPTS_BRANCH)?;
    let mut client_keys = signers.keys(client);
    client_keys.extend(own_key(config)?);
    let mut node_keys = signers.keys(&node.name);
    node_keys.extend(trust::receipts_keys(config, node)?);
    let sides = Sides {
        client,
        node: &node.name,
        client_keys: &client_keys,
        node_keys: &node_keys,
        requests: requests.as_ref(),
        receipts: receipts.as_ref(),
        answering: false,
    };
    let mut proven = prove_log(&sides, &|| waiting(config, &node.name))?;
    let offered = open(&config.receipts_path(&node.name), OFFERED_BRANCH)?;
    let contact = Contact::load(config, &node.name)?;
    went_back(&node.name, receipts.as_ref(), offered.as_ref(), &contact, &mut proven)?;
    Ok(proven)
}

fn open(path: &Path, branch: &str) -> Result<Option<Repository>> {
    if path.try_exists().at("look at", path)? { Repository::open(path, branch).map(Some) } else { Ok(None) }
}

/// This client's own key, where it is here: `--signers` names those of before.
fn own_key(config: &ClientConfig) -> Result<Option<PublicKey>> {
    let path = config.key_path().with_extension("pub");
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).at("read", &path)?;
    parse_public_key(&text).map(Some)
}

fn waiting(config: &ClientConfig, node: &Name) -> Result<HashSet<RequestId>> {
    let path = config.pool_path();
    if !path.exists() {
        return Ok(HashSet::new());
    }
    let unfinished = ClientPool::open(&path)?.unfinished()?;
    Ok(unfinished.into_iter().filter(|(_, file, _)| file.node == *node).map(|(_, file, _)| file.id).collect())
}

/// The newest receipt that was seen must be in what the node gave last, and what was settled in what is here.
fn went_back(
    node: &Name,
    receipts: Option<&Repository>,
    offered: Option<&Repository>,
    contact: &Contact,
    proven: &mut Proven,
) -> Result<()> {
    let tip = receipts.map(Repository::tip).transpose()?.flatten();
    let (Some(receipts), Some(tip)) = (receipts, tip) else {
        if let Some(settled) = &contact.settled {
            let text = format!("the receipts of {node} are gone: {settled} was seen before, and there is none here");
            proven.note(Misfit::of_all(Kind::WentBack, text));
        }
        return Ok(());
    };
    if let Some(settled) = contact.settled.as_ref().filter(|settled| receipts.walk(Some(settled), &tip).is_err()) {
        let text = format!("the receipts of {node} do not hold {settled}, which was seen before");
        proven.note(Misfit::of_all(Kind::WentBack, text));
    }
    let Some(last) = offered.map(Repository::tip).transpose()?.flatten() else { return Ok(()) };
    if receipts.walk(Some(&tip), &last).is_ok() {
        return Ok(());
    }
    let text = match receipts.walk(Some(&last), &tip) {
        Ok(lacks) => {
            format!("the receipts that {node} offered last, up to {last}, lack the newest {} that it gave before, up to {tip}", lacks.len())
        }
        Err(_) => format!("the receipts that {node} offered last, up to {last}, are another history than what it gave before, up to {tip}"),
    };
    proven.note(Misfit { kind: Kind::WentBack, id: None, commit: Some(last), text });
    Ok(())
}

fn show(found: &Found<'_>) {
    let (node, proven) = (found.node, &found.proven);
    for misfit in &proven.misfits {
        output::note(format_args!("{node}: {}", base::text::printable(&misfit.text)));
    }
    if proven.more > 0 {
        output::note(format_args!("{node}: and {} more", proven.more));
    }
    for waiting in &proven.waiting {
        output::line(format_args!(
            "{node}: request {}, number {}, of {} has no receipt yet; it was signed {} ago",
            waiting.id,
            waiting.seq,
            waiting.dataset,
            base::clock::ago(waiting.submitted)
        ));
    }
    output::line(format_args!(
        "{node}: {} hold; {}, {}, {} waiting; {} not fit",
        output::count(proven.commits as u64, "signed commit", "signed commits"),
        output::count(proven.requests as u64, "request", "requests"),
        output::count(proven.receipts as u64, "receipt", "receipts"),
        proven.waiting.len(),
        output::count(proven.wrong() as u64, "thing does", "things do"),
    ));
}
