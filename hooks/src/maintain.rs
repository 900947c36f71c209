//! `maintain`: what the gate does on its own timetable.
//!
//! Repeats hand-overs that a crash lost, packs the queues, has every object of them read and hashed once a week, one queue
//! at a time, and removes what killed processes left. Drops nothing that was pushed.

use crate::queues::{self, Slot};
use crate::{admin, complain, handover};
use base::config::NodeConfig;
use base::{At, Exit, FileLock, Result, atomic};
use queue::Repository;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// After this long a temporary file was left by a crash.
const LEFT: Duration = Duration::from_secs(24 * 3600);

/// How often every object of a queue is read. What is pushed is checked when it comes, and the poller has a copy.
const CHECKED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Looks after all queues and the access list.
///
/// # Errors
/// When the configuration cannot be read. What is wrong with one queue is reported, and the others are looked after.
pub fn maintain(config: &Path) -> Result<ExitCode> {
    let config = NodeConfig::load(config)?;
    let clients = queues::clients(&config.gate)?;
    let mut slots: Vec<(Slot, bool)> = clients.iter().map(|client| (queues::slot(&config, client), true)).collect();
    slots.push((admin::slot(&config), false));
    let mut exit = Exit::Done;
    let mut checked = false;
    for (slot, again) in slots.iter().filter(|(slot, _)| slot.path.join("HEAD").exists()) {
        if let Err(error) = look_after(&config, slot, *again) {
            complain(&error.context(format!("the queue of {} could not be looked after", slot.name)));
            exit = Exit::Failed;
        }
        // One at a time, so that no run takes long; those who push do not wait for it.
        if !checked && due(&slot.lock.with_extension("checked")) {
            checked = true;
            if let Err(error) = check(slot) {
                complain(&error.context(format!("the queue of {} is damaged", slot.name)));
                exit = Exit::Failed;
            }
        }
    }
    for folder in [config.gate.clone(), config.gate.join("queues"), config.gate.join("hooks"), config.handover_path().join("wake")] {
        sweep(&folder)?;
    }
    Ok(exit.into())
}

fn look_after(config: &NodeConfig, slot: &Slot, again: bool) -> Result<()> {
    // Who is pushing now hands over as well.
    let Some(_lock) = FileLock::try_now(&slot.lock)? else { return Ok(()) };
    handover::catch_up(config, slot, again)?;
    Repository::open(&slot.path, slot.branch)?.tidy()?;
    for folder in [slot.path.clone(), slot.path.join("objects"), slot.path.join("objects/pack"), config.handover_path().join(&slot.name)] {
        sweep(&folder)?;
    }
    Ok(())
}

/// Whether it is time again for what left this mark.
fn due(mark: &Path) -> bool {
    let age = std::fs::metadata(mark).and_then(|meta| meta.modified()).ok().and_then(|then| SystemTime::now().duration_since(then).ok());
    age.is_none_or(|age| age >= CHECKED)
}

/// Has git read and hash everything. No lock is held: what is pushed meanwhile is only added.
fn check(slot: &Slot) -> Result<()> {
    let problems = Repository::open(&slot.path, slot.branch)?.damage()?;
    match problems.first() {
        None => atomic::write(&slot.lock.with_extension("checked"), b"", 0o640),
        Some(first) => Err(base::Error::failed(format!("{first} ({} lines in all)", problems.len()))
            .hint(format!("Move {} away: the queue comes back from the poller's copy with the next push.", slot.path.display()))),
    }
}

/// Removes temporary files of ours and of git's that are a day old.
fn sweep(folder: &Path) -> Result<()> {
    let names = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.at("list", folder)?,
    };
    for entry in names {
        let entry = entry.at("list", folder)?;
        let name = entry.file_name();
        let temporary = [atomic::TEMP_PREFIX, "tmp_objdir-", "incoming-", "tmp_pack_", "tmp_idx_", "tmp_obj_"];
        if !temporary.iter().any(|start| name.as_encoded_bytes().starts_with(start.as_bytes())) {
            continue;
        }
        let Ok(meta) = entry.metadata() else { continue };
        let age = meta.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok()).unwrap_or_default();
        if age >= LEFT {
            if meta.is_dir() { atomic::remove_tree(&entry.path())? } else { atomic::remove(&entry.path())? }
        }
    }
    Ok(())
}
