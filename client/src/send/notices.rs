//! Notices: a node that found damage asks for what was in it, and gets what is still here.
//!
//! A node may be anybody's by now: it is asked nothing that the configuration does not allow, nothing that it never had, and
//! nothing over and over.

use super::run::NodeRun;
use crate::output::count;
use base::{Dataset, Error, Reason, RequestId, Result, clock};
use jiff::SignedDuration;
use queue::Notice;
use queue::pool::PoolFile;

/// A notice that names no pack that we know counts once in this time: reading everything costs the source.
const PAUSE: SignedDuration = SignedDuration::from_hours(24);

/// Takes in a notice that the pinned key has signed. Taken in twice, it does nothing more: a pack is lost once.
///
/// # Errors
/// Of kind refused when it is no notice for us; otherwise when the index or the pool cannot be written.
pub fn take(run: &NodeRun, id: &RequestId, bytes: &[u8]) -> Result<()> {
    let notice = Notice::parse(bytes)?;
    if notice.id != *id || notice.node != run.node.name || notice.client != run.client {
        return Err(Error::refused(format!("the notice {id} is of {} for {}", notice.node, notice.client)));
    }
    let known = modules::lose_packs(&run.config, &run.node, &notice.packs)?;
    let (now, last) = (clock::now(), run.contact().heal_asked);
    if known == 0 && last.is_some_and(|last| now.duration_since(last).abs() < PAUSE) {
        tracing::info!("{}: the notice {id} names nothing that was not told before", run.node.name);
        return Ok(());
    }
    let mut again = Vec::new();
    for dataset in notice.datasets {
        if !run.config.allows(&dataset) || !run.outbox(|outbox| outbox.was_asked(&dataset))? {
            run.note(|contact| {
                let what = format!("{} asks for {dataset}, which the configuration does not allow or which it never had", run.node.name);
                contact.warn(now, format!("{what}; it was not sent."));
            })?;
            continue;
        }
        again.push(dataset);
    }
    if again.is_empty() {
        return Ok(());
    }
    run.note(|contact| {
        contact.heal_asked = Some(now);
        let new = again.iter().filter(|dataset| !contact.heal.contains(dataset)).cloned().collect::<Vec<Dataset>>();
        contact.heal.extend(new);
    })?;
    for dataset in &again {
        // One that waits already will do: what is to be mended is mended whatever it was asked for.
        run.pool.submit(&PoolFile::new(dataset, &run.node.name, &[], Reason::Heal)?)?;
    }
    let (packs, datasets) = (count(notice.packs.len() as u64, "pack", "packs"), count(again.len() as u64, "dataset", "datasets"));
    run.tell_not_now(&Error::not_now(format!(
        "{} has lost {packs} ({}); {datasets} will be sent again with the next send",
        run.node.name, notice.reason
    )));
    Ok(())
}
