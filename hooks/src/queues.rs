//! The queues that clients push to: made at the first push or fetch that the list allows, one lock for each.
//!
//! Does not check what is pushed (the hook does) and does not hand over (see [`crate::handover`]).

use crate::serve::Node;
use crate::{git, handover, hooks, limits, log};
use base::{At, Error, FileLock, Name, Result, atomic};
use queue::Repository;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The branch of a queue.
pub const BRANCH: &str = "requests";

/// One repository of the gate that takes pushes.
#[derive(Debug)]
pub struct Slot {
    /// What the hand-over calls it: a client's name, or `admin`.
    pub name: String,
    /// The repository.
    pub path: PathBuf,
    /// Its branch.
    pub branch: &'static str,
    /// The poller's own copy of it.
    pub copy: PathBuf,
    /// Where the poller says how far its copy goes, if the gate may not read that.
    pub published: Option<PathBuf>,
    /// The gate's lock on it, held across git.
    pub lock: PathBuf,
}

/// The slot of one client.
pub fn slot(node: &base::config::NodeConfig, client: &Name) -> Slot {
    Slot {
        name: client.to_string(),
        path: node.gate_queue_path(client),
        branch: BRANCH,
        copy: node.log_path(client),
        published: Some(node.tip_path(client)),
        lock: node.gate.join("queues").join(format!("{client}.lock")),
    }
}

/// Takes a push into the client's queue and hands it over.
///
/// # Errors
/// When the queue cannot be used. That git refuses a push is its exit code.
pub fn receive(node: &Node) -> Result<ExitCode> {
    let slot = slot(&node.config, node.role.name());
    let _lock = take_lock(&slot)?;
    open(node, &slot)?;
    handover::catch_up(&node.config, &slot, true)?;
    receive_pack(node, &slot)
}

/// Serves the client's queue to it: what it pushed, after it lost its own copy.
///
/// # Errors
/// When the queue cannot be used. Does not return otherwise.
pub fn serve(node: &Node) -> Result<ExitCode> {
    let slot = slot(&node.config, node.role.name());
    {
        let _lock = take_lock(&slot)?;
        open(node, &slot)?;
        handover::catch_up(&node.config, &slot, true)?;
    }
    git::upload_pack(&slot.path)
}

/// Waits for the gate's lock on a slot.
///
/// # Errors
/// With the path.
pub fn take_lock(slot: &Slot) -> Result<FileLock> {
    if let Some(folder) = slot.lock.parent() {
        atomic::make_folder(folder, 0o750)?;
    }
    FileLock::wait(&slot.lock)
}

/// Opens the repository, which is made, with what the poller has of it, when it is not there. The caller holds the lock.
///
/// # Errors
/// With the path.
pub fn open(node: &Node, slot: &Slot) -> Result<Repository> {
    let hooks = hooks::install(&node.config.gate)?;
    // The gate's files were lost; the client goes on where the poller's copy is.
    let lost = !slot.path.join("HEAD").exists() && handover::copy_tip(slot)?.is_some();
    if lost && std::fs::read_dir(slot.copy.join("objects")).is_err() {
        let (copy, path) = (slot.copy.display(), slot.path.display());
        let owner = node.config.gate.metadata().at("look at", &node.config.gate)?;
        return Err(Error::not_now(format!("the queue of {} is lost at the gate, and the gate may not read the node's copy", slot.name))
            .hint(format!(
                "The node's administrator brings it back: cp -a {copy} {path}; chown -R {}:{} {path}",
                owner.uid(),
                owner.gid()
            )));
    }
    let repository = Repository::open_receiving(&slot.path, slot.branch, &hooks)?;
    if lost {
        handover::bring_back(slot, &repository)?;
    }
    Ok(repository)
}

/// Runs `git receive-pack`, waits for it, and hands over what it took in. The caller holds the lock.
///
/// # Errors
/// When git cannot be run, or the hand-over fails (it is repeated).
pub fn receive_pack(node: &Node, slot: &Slot) -> Result<ExitCode> {
    let hooks = hooks::install(&node.config.gate)?;
    let mut git = git::command();
    let mut path = std::ffi::OsString::from("core.hooksPath=");
    path.push(&hooks);
    git.arg("-c").arg(path).arg("receive-pack").arg(&slot.path);
    git.env(hooks::CONFIG, &node.file).env(hooks::ROLE, format!("{} {}", node.role.word(), node.role.name()));
    // The hook notes who asked, too.
    git.envs(std::env::var_os(log::FROM).map(|from| (log::FROM, from)));
    let (status, said) = limits::run(&mut git, limits::RECEIVE)?;
    for words in refusals(&said) {
        log::refused(&node.config.gate, &node.role, Some("a push"), &format!("git: {words}"));
    }
    // The hook did it already, unless it was killed.
    handover::catch_up(&node.config, slot, false)?;
    match status.code() {
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        None => Err(Error::failed(format!("git was ended ({status})"))),
    }
}

/// What git itself refused, of what it told the other end; what the hook refuses the hook notes.
fn refusals(said: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(said);
    // Lines that begin with their length, which may stand in the frames of a side band.
    let after = |mark: &str| text.split(mark).skip(1).filter_map(|rest| rest.lines().next()).map(str::to_owned).collect::<Vec<_>>();
    let unpacked = after("unpack ").into_iter().filter(|words| words != "ok").map(|words| format!("unpack {words}"));
    let refs =
        after("ng refs/").into_iter().filter(|words| !words.ends_with("pre-receive hook declined") && !words.ends_with("unpacker error"));
    unpacked.chain(refs).take(10).collect()
}

/// The clients that have a queue here.
///
/// # Errors
/// With the path.
pub fn clients(gate: &Path) -> Result<Vec<Name>> {
    let folder = gate.join("queues");
    let names = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("list", &folder)?,
    };
    let mut clients = Vec::new();
    for entry in names {
        let name = entry.at("list", &folder)?.file_name();
        clients.extend(name.to_str().and_then(|name| Name::new(name.strip_suffix(".git")?).ok()));
    }
    clients.sort();
    Ok(clients)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_refuses_is_found_in_its_answer() {
        let told = |text: &str| refusals(text.as_bytes());
        assert!(told("00b5aaaa refs/heads/requests report-status 0000000eunpack ok\n001eok refs/heads/requests\n0000").is_empty());
        assert!(told("0000000eunpack ok\n0035ng refs/heads/requests pre-receive hook declined\n0000").is_empty());
        assert_eq!(
            told("0031unpack eof before pack header\n002ang refs/heads/requests unpacker error\n0000"),
            ["unpack eof before pack header"]
        );
        assert_eq!(
            told("0058\u{1}000eunpack ok\n003eng refs/heads/requests missing necessary objects\n0000"),
            ["heads/requests missing necessary objects"]
        );
    }
}
