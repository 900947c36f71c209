//! Upkeep at each sweep: finished pool files go after a week, leftovers of fetches at once, abandoned parts after
//! `part_ttl`, loose objects are packed.
//!
//! Removes nothing that is part of the history or of a store.

use super::{LOG_BRANCH, Poller, RECEIPTS_BRANCH, alarms, ingest};
use archive::store::Store;
use base::{Name, RequestId, Result, atomic, clock};
use queue::Repository;
use queue::pool::NodePool;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// How long finished pool files stay.
const FINISHED: Duration = Duration::from_secs(7 * 86_400);

/// After this long an unfinished file was left by a killed process.
const ABANDONED: Duration = Duration::from_secs(86_400);

/// Does it for every client. Only the thread that takes requests in may call this.
///
/// # Errors
/// When trouble cannot be written down.
pub fn tidy(poller: &Poller) -> Result<()> {
    let access = poller.access();
    let published = poller.node.config.access_path();
    for folder in [poller.node.state_path(), published.join("keys"), published.join("tips"), published] {
        atomic::sweep_drafts(&folder, ABANDONED);
    }
    let told: BTreeSet<String> = alarms::all(&poller.node.state_path()).into_iter().map(|alarm| alarm.about).collect();
    for (name, grant) in &access.list.clients {
        let (about, result) = (format!("upkeep of {name}"), one(poller, name, access.list.part_ttl(grant)));
        if result.is_err() || told.contains(&about) {
            poller.own(&about, result)?;
        }
    }
    Ok(())
}

fn one(poller: &Poller, name: &Name, part_ttl: Duration) -> Result<()> {
    let config = &poller.node.config;
    atomic::sweep_drafts(&config.client_path(name), ABANDONED);
    let pool = config.client_path(name).join("pool");
    if pool.is_dir() {
        let pool = NodePool::open(&pool)?;
        pool.sweep_finished(FINISHED)?;
        // New ones come from this thread alone, so nothing begins between this list and the cleaning.
        let unanswered: Vec<RequestId> = pool.processing()?.into_iter().chain(pool.waiting()?).map(|entry| entry.id).collect();
        // A process that was killed may have left that one failed which was answered then.
        poller.client(name)?.retry(|retry| retry.forget_answered(&unanswered))?;
        let store = Store::open(&config.client_path(name))?;
        store.clean_incoming(&unanswered)?;
        for part in store.tidy_parts(part_ttl, clock::now())? {
            tracing::info!("{name}: the part {part} is dropped: nothing came after it, or the whole is stored");
        }
    }
    // It may have been put back from an old copy, or be lost.
    let log = pack(&config.log_path(name), LOG_BRANCH)?.map(|log| log.tip()).transpose()?.flatten();
    ingest::tell_tip(config, name, log.as_deref())?;
    pack(&config.receipts_path(name), RECEIPTS_BRANCH).map(drop)
}

fn pack(path: &Path, branch: &str) -> Result<Option<Repository>> {
    if !path.join("HEAD").exists() {
        return Ok(None);
    }
    let repository = Repository::open(path, branch)?;
    repository.tidy()?;
    Ok(Some(repository))
}
