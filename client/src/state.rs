//! Where the sender keeps what is neither pool, queue nor archive: outcomes, pinned keys, retry times, history, locks.
//!
//! Knows names of folders and their modes alone.

use base::config::ClientConfig;
use base::{Error, Name, RequestId, Result, atomic};
use std::path::{Path, PathBuf};

/// Folders of the state folder with their modes. `outcomes`, `retry` and `history` can be read by everybody, because
/// `submit --wait` and `status` are for any user of the machine; nothing in them is secret.
pub const FOLDERS: [(&str, u32); 16] = [
    ("pool", 0o755),
    ("queues", 0o700),
    ("receipts", 0o700),
    ("secret", 0o700),
    ("epochs", 0o700),
    ("index", 0o700),
    ("locks", 0o700),
    ("trusted", 0o755),
    ("outcomes", 0o755),
    ("ledgers", 0o700),
    ("retry", 0o755),
    ("history", 0o755),
    ("seen", 0o700),
    ("around", 0o700),
    ("snapshots", 0o700),
    ("groups", 0o700),
];

/// How a request ended, for whoever waits for it.
pub fn outcome_path(config: &ClientConfig, id: &RequestId) -> PathBuf {
    config.state.join("outcomes").join(id.as_str())
}

/// The folder of all outcomes.
pub fn outcomes_folder(config: &ClientConfig) -> PathBuf {
    config.state.join("outcomes")
}

/// What a backup could not read.
pub fn ledger_path(config: &ClientConfig, id: &str) -> PathBuf {
    ledgers_folder(config).join(id)
}

/// The folder of these.
pub fn ledgers_folder(config: &ClientConfig) -> PathBuf {
    config.state.join("ledgers")
}

/// The receipts key that `node trust` pinned in place of the configuration's.
pub fn trusted_path(config: &ClientConfig, node: &Name) -> PathBuf {
    config.state.join("trusted").join(format!("{node}.pub"))
}

/// The keys that were trusted before, a line each.
pub fn formerly_trusted_path(config: &ClientConfig, node: &Name) -> PathBuf {
    config.state.join("trusted").join(format!("{node}.formerly"))
}

/// How things stand with one node.
pub fn retry_path(config: &ClientConfig, node: &Name) -> PathBuf {
    config.state.join("retry").join(format!("{node}.toml"))
}

/// Locked by whoever has a line to a node that this machine dials (`reach = "dial"`); anybody may look.
pub fn dialled_path(config: &ClientConfig, node: &Name) -> PathBuf {
    config.state.join("retry").join(format!("{node}.dialled"))
}

/// The folders of small files that are replaced; a killed process may leave an unfinished one there.
pub fn rewritten_folders(config: &ClientConfig) -> Vec<PathBuf> {
    let shared =
        ["retry", "history", "epochs", "trusted", "secret", "outcomes", "ledgers", "around", "groups"].map(|name| config.state.join(name));
    let of_nodes = config.nodes.iter().map(|node| config.state.join("sealed").join(node.name.as_str()));
    shared.into_iter().chain(of_nodes).collect()
}

/// What became of each dataset at one node.
pub fn history_path(config: &ClientConfig, node: &Name) -> PathBuf {
    config.state.join("history").join(format!("{node}.json"))
}

/// Held by the one process that sends to a node.
pub fn lock_path(config: &ClientConfig, node: &Name) -> PathBuf {
    config.state.join("locks").join(format!("{node}.lock"))
}

/// Held by `nightsafe watch`.
pub fn daemon_lock_path(config: &ClientConfig) -> PathBuf {
    config.state.join("locks").join(".watch")
}

/// Held while it is decided what is due, and asked for.
pub fn schedule_lock_path(config: &ClientConfig) -> PathBuf {
    config.state.join("locks").join(".schedule")
}

/// What must still be done after backups, a file for each.
pub fn around_folder(config: &ClientConfig) -> PathBuf {
    config.state.join("around")
}

/// Held while the commands of a dataset or a group are around its backup; `name` is of letters and digits.
pub fn around_lock_path(config: &ClientConfig, name: &str) -> PathBuf {
    config.state.join("locks").join(format!(".around-{name}"))
}

/// The restore points of groups on their way, a file for each.
pub fn groups_folder(config: &ClientConfig) -> PathBuf {
    config.state.join("groups")
}

/// One of them.
pub fn group_path(config: &ClientConfig, id: &RequestId) -> PathBuf {
    groups_folder(config).join(id.as_str())
}

/// Where snapshots of file systems are mounted.
pub fn snapshots_folder(config: &ClientConfig) -> PathBuf {
    config.state.join("snapshots")
}

/// Makes what is missing of the folders below `state`, with their modes whatever the umask is.
///
/// # Errors
/// With the path.
pub fn make_folders(config: &ClientConfig) -> Result<()> {
    check_owner(config)?;
    folder(&config.state, 0o755)?;
    for (name, mode) in FOLDERS {
        folder(&config.state.join(name), mode)?;
    }
    let export = config.spool.dir.clone().unwrap_or_else(|| config.state.join("export"));
    folder(&export, 0o700)?;
    for node in &config.nodes {
        folder(&config.export_path(&node.name), 0o700)?;
    }
    folder(&config.runtime_path(), 0o700)
}

/// Refuses to write as another account than the one whose state it is: what root left there, the sender could not change any more.
fn check_owner(config: &ClientConfig) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::geteuid().as_raw();
    let Some(owner) = std::fs::metadata(&config.state).ok().map(|meta| meta.uid()).filter(|owner| *owner != own) else { return Ok(()) };
    let name = |uid: u32| uzers::get_user_by_uid(uid).map_or_else(|| format!("#{uid}"), |user| user.name().to_string_lossy().into_owned());
    Err(Error::usage(format!("{} belongs to {}, and this is {}", config.state.display(), name(owner), name(own)))
        .hint(format!("Run it as that account: runuser -u {} -- nightsafe …", name(owner))))
}

fn folder(path: &Path, mode: u32) -> Result<()> {
    use base::At;
    use std::os::unix::fs::PermissionsExt;
    if path.is_dir() {
        return Ok(());
    }
    atomic::make_folder(path, mode)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).at("set the mode of", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_accounts_state_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("version = 1\nstate = {:?}\n", dir.path().join("state"));
        let config: ClientConfig = base::config::parse("client.toml", text.as_bytes()).unwrap();
        make_folders(&config).unwrap();
        // Only root can make it another's.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&config.state, Some(4321), None).unwrap();
            let said = make_folders(&config).unwrap_err().render();
            assert!(said.contains("belongs to #4321, and this is root") && said.contains("runuser -u #4321 -- nightsafe"), "{said}");
        }
    }
}
