//! Making repositories, and the settings that they have.
//!
//! Runs no git and opens nothing: a repository is a few folders and files.

use base::{Error, FileLock, Result, atomic};
use std::fmt::Write as _;
use std::path::Path;

/// A configuration file for libgit2 alone. It asks for fsync by a name that makes git itself warn, so it cannot stand
/// in the repository's own.
pub const DURABLE: &str = "nightsafe-libgit2";
/// What that file says.
pub const DURABLE_TEXT: &str = "# For libgit2 alone: flush objects and refs to the disk; a signed line of commits needs no reflog beside.\n[core]\n\tfsyncObjectFiles = true\n\tlogAllRefUpdates = false\n";

/// What every repository of ours says to git.
pub const CORE: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n\tlogAllRefUpdates = always\n\tuseReplaceRefs = false\n\tfsync = all\n\tbigFileThreshold = 1m\n[gc]\n\tauto = 0\n\tpruneExpire = never\n[maintenance]\n\tauto = false\n";

/// The settings of a repository that receives pushes.
pub fn receiving_config(hooks: &Path) -> Result<String> {
    let hooks = hooks
        .to_str()
        .filter(|path| path.starts_with('/') && !path.contains(['"', '\\', '\n']))
        .ok_or_else(|| Error::usage("the folder of hooks must be an absolute, plain path"))?;
    let mut config = CORE.to_owned();
    let _ = write!(
        config,
        "[core]\n\thooksPath = \"{hooks}\"\n[receive]\n\tfsckObjects = true\n\tdenyDeletes = true\n\tdenyNonFastForwards = true\n\tdenyCurrentBranch = ignore\n\
         \tmaxInputSize = 8m\n\tautogc = false\n\tunpackLimit = 1\n\tshallowUpdate = false\n\tadvertisePushOptions = false\n[uploadpack]\n\tallowAnySHA1InWant = false\n"
    );
    Ok(config)
}

/// Whether there is a repository, perhaps a damaged one: they appear whole.
pub fn is_there(path: &Path) -> bool {
    path.join("HEAD").exists() || path.join("objects").is_dir()
}

/// What `HEAD` says in a repository whose one branch is `branch`.
pub fn head_of(branch: &str) -> Vec<u8> {
    format!("ref: refs/heads/{branch}\n").into_bytes()
}

/// Makes a bare repository in one rename, so that no half of one is ever found.
pub fn create(path: &Path, branch: &str, config: &str) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| Error::failed(format!("{} cannot be a repository", path.display())))?;
    atomic::make_folder(parent, 0o750)?;
    let lock = parent.join(format!("{}create.lock", atomic::TEMP_PREFIX));
    let _lock = FileLock::wait(&lock)?;
    if is_there(path) {
        return Ok(());
    }
    let draft = parent.join(format!("{}{}", atomic::TEMP_PREFIX, name.to_string_lossy()));
    atomic::remove_tree(&draft)?;
    for folder in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
        atomic::make_folder(&draft.join(folder), 0o750)?;
    }
    atomic::write(&draft.join("config"), if config.is_empty() { CORE } else { config }.as_bytes(), 0o640)?;
    atomic::write(&draft.join(DURABLE), DURABLE_TEXT.as_bytes(), 0o640)?;
    atomic::write(&draft.join("HEAD"), &head_of(branch), 0o640)?;
    for folder in ["objects", "refs"] {
        atomic::sync_folder(&draft.join(folder))?;
    }
    atomic::rename(&draft, path)
}
