//! Upkeep at each sweep: finished pool files go after a week, leftovers of fetches at once, loose objects are packed.
//!
//! Removes nothing that is part of the history or of a store.

use super::{LOG_BRANCH, Poller, RECEIPTS_BRANCH};
use archive::store::Store;
use base::{Name, RequestId, Result, atomic};
use queue::Repository;
use queue::pool::NodePool;
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
    atomic::sweep_drafts(&poller.node.state_path(), ABANDONED);
    for name in access.list.clients.keys() {
        poller.own(&format!("upkeep of {name}"), one(poller, name))?;
    }
    Ok(())
}

fn one(poller: &Poller, name: &Name) -> Result<()> {
    let config = &poller.node.config;
    atomic::sweep_drafts(&config.client_path(name), ABANDONED);
    let pool = config.client_path(name).join("pool");
    if pool.is_dir() {
        let pool = NodePool::open(&pool)?;
        pool.sweep_finished(FINISHED)?;
        // New ones come from this thread alone, so nothing begins between this list and the cleaning.
        let unanswered: Vec<RequestId> = pool.processing()?.into_iter().chain(pool.waiting()?).map(|entry| entry.id).collect();
        Store::open(&config.client_path(name))?.clean_incoming(&unanswered)?;
    }
    pack(&config.log_path(name), LOG_BRANCH)?;
    pack(&config.receipts_path(name), RECEIPTS_BRANCH)
}

fn pack(path: &Path, branch: &str) -> Result<()> {
    if path.join("HEAD").exists() { Repository::open(path, branch)?.tidy() } else { Ok(()) }
}
