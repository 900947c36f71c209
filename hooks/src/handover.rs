//! The hand-over: what was pushed, as packs for the poller, which never runs git in a repository of the gate's.
//!
//! Does not know what the commits say. A pack's name tells from where to where it leads; a marker beside the queue
//! tells how far was handed over, so that what a crash lost is repeated.

use crate::queues::Slot;
use crate::{git, limits, refs};
use base::config::{NodeConfig, SOON};
use base::{At, Error, Name, Result, atomic, crash, process};
use queue::Repository;
use std::fs::Permissions;
use std::io::{Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Tells, in the gate's repository, how far it was handed over.
const MARKER: &str = "nightsafe-handed-over";
/// What stands for no commit.
pub const NOTHING: &str = "0000000000000000000000000000000000000000";
/// The longest time for one pack.
const TIME: Duration = Duration::from_secs(600);

/// Hands over what the slot's repository has and was not handed over; nothing when that is nothing. The caller holds
/// the slot's lock. With `again`, also what was handed over but neither waits nor is in the poller's copy.
///
/// # Errors
/// With the path; then it is repeated at the next connection, or by `maintain`.
pub fn catch_up(config: &NodeConfig, slot: &Slot, again: bool) -> Result<()> {
    let Some(new) = refs::tip(&slot.path, slot.branch)? else { return Ok(()) };
    let folder = config.handover_path().join(&slot.name);
    let marked = marker(&slot.path)?;
    let mut old = marked.clone();
    if again && marked.is_some() && !waits(&folder)? {
        // Nothing waits, so the poller has it all; if it does not, its copy was lost or a pack was. Where that cannot be
        // known, the marker is all there is.
        old = copy_tip(slot).unwrap_or(old);
    }
    if old.as_deref() == Some(new.as_str()) {
        return Ok(());
    }
    let repository = Repository::open(&slot.path, slot.branch)?;
    if old.as_deref().is_some_and(|old| repository.walk(Some(old), &new).is_err()) {
        if marked.as_deref() == Some(new.as_str()) {
            // The poller's copy went another way; it raises the alarm about that.
            return Ok(());
        }
        // Our own branch was set to another history; the poller is shown all of it.
        old = None;
    }
    shared_folder(&folder)?;
    let path = folder.join(format!("{}-{new}.pack", old.as_deref().unwrap_or(NOTHING)));
    let mut draft = atomic::Draft::beside(&path, 0o640)?;
    let into = draft.file().try_clone().at("write", &path)?;
    pack(process::git().arg("-C").arg(&slot.path), &new, old.as_deref(), into)?;
    draft.publish()?;
    atomic::write(&slot.path.join(MARKER), format!("{new}\n").as_bytes(), 0o640)?;
    let wake = config.handover_path().join("wake");
    shared_folder(&wake)?;
    // Only a wake-up: the poller's sweep finds what a lost one would have told.
    atomic::write(&wake.join(&slot.name), b"", 0o660)
}

/// Tells the poller that `client` is about to push something, so that it opens its own connection meanwhile. Nothing depends on
/// it, so it is not made durable, and where it cannot be told nothing is said of it.
pub fn announce(config: &NodeConfig, client: &Name) {
    let mark = config.handover_path().join("wake").join(format!("{client}{SOON}"));
    let _ = std::fs::File::options().write(true).create_new(true).open(mark);
}

/// A folder in which the poller, of our group, may remove what it has taken.
fn shared_folder(path: &Path) -> Result<()> {
    if !path.is_dir() {
        atomic::make_folder(path, 0o2770)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o2770)).at("set the mode of", path)?;
    }
    Ok(())
}

fn marker(path: &Path) -> Result<Option<String>> {
    match base::untrusted::read(&path.join(MARKER), 100) {
        Ok(found) => Ok(refs::oid(String::from_utf8_lossy(&found.bytes).trim_end())),
        Err(_) if !path.join(MARKER).exists() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a pack waits for the poller.
fn waits(folder: &Path) -> Result<bool> {
    match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        other => Ok(other.at("list", folder)?.flatten().any(|entry| entry.file_name().as_encoded_bytes().ends_with(b".pack"))),
    }
}

/// Where the poller's copy stands: as the poller says, which says it before it takes packs away; until it has, as the gate can
/// see it.
///
/// # Errors
/// With the path, where neither can be read.
pub fn copy_tip(slot: &Slot) -> Result<Option<String>> {
    let Some(path) = &slot.published else { return refs::tip(&slot.copy, slot.branch) };
    if !path.exists() {
        // Handed over a second time is as good.
        return Ok(refs::tip(&slot.copy, slot.branch).unwrap_or(None));
    }
    let said = base::untrusted::read(path, 100)?.bytes;
    Ok(refs::oid(String::from_utf8_lossy(&said).trim_end()))
}

/// Sets our repository to what the poller's copy has. The caller holds the slot's lock.
///
/// # Errors
/// With the path, or git's own words.
pub fn bring_back(slot: &Slot, repository: &Repository) -> Result<()> {
    let Some(theirs) = refs::tip(&slot.copy, slot.branch)? else { return Ok(()) };
    let path = slot.path.join(format!("{}from-poller", atomic::TEMP_PREFIX));
    atomic::remove(&path)?;
    let mut file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).at("create", &path)?;
    let mut from = process::git();
    from.arg("-c").arg(git::safe_directory(&slot.copy)).arg("--git-dir").arg(&slot.copy);
    pack(&mut from, &theirs, None, file.try_clone().at("write", &path)?)?;
    file.rewind().at("read", &path)?;
    let mut index = process::git();
    index
        .arg("-c")
        .arg("core.bigFileThreshold=1m")
        .arg("--git-dir")
        .arg(&slot.path)
        .args(["index-pack", "--stdin", "--strict"])
        .stdin(Stdio::from(file));
    process::run_ok(index, 4096, TIME)?;
    crash::point("brought back");
    repository.reset_to(&theirs)?;
    // Nothing of it needs to be handed over: it comes from there.
    atomic::write(&slot.path.join(MARKER), format!("{theirs}\n").as_bytes(), 0o640)?;
    atomic::remove(&path)
}

/// Writes the objects of `new` that `old` does not lead to, a pack that stands on its own given `old`.
fn pack(git: &mut Command, new: &str, old: Option<&str>, into: std::fs::File) -> Result<()> {
    git.args(["pack-objects", "--revs", "--stdout", "--delta-base-offset", "--threads=1", "-q"]);
    git.stdin(Stdio::piped()).stdout(Stdio::from(into)).stderr(Stdio::piped());
    let mut running = process::Running(limits::spawn(git, limits::PACK)?);
    if let Some(mut stdin) = running.0.stdin.take() {
        let revs = old.map_or_else(|| format!("{new}\n"), |old| format!("{new}\n^{old}\n"));
        stdin.write_all(revs.as_bytes()).at("write to", "git")?;
    }
    let mut words = Vec::new();
    if let Some(stderr) = running.0.stderr.take() {
        words = base::untrusted::read_bounded(stderr, 1 << 16).at("read from", "git")?;
    }
    let status = running.0.wait().at("wait for", "git")?;
    if status.success() { Ok(()) } else { Err(Error::failed(format!("git pack-objects failed: {}", base::text::excerpt(&words, 500)))) }
}
