//! Private folders that commands write into and read from: held by a lock, removed afterwards, also after a crash.
//!
//! Does not know what is in them.

use base::config::ClientConfig;
use base::{At, Error, FileLock, Monitor, Result, atomic};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One folder of mode 0700, locked as long as it is used.
#[derive(Debug)]
pub(crate) struct Staging {
    folder: PathBuf,
    _held: FileLock,
}

/// What is given to commands, within the folder: so that a command may also make or remove it itself.
const DATA: &str = "data";

/// Beside it: the process group that works in the folder, and when its leader began.
const GROUP: &str = "group";

impl Staging {
    /// Makes a folder for the use `name`, with the empty folder that commands are given. Sweeps those of others who are
    /// gone.
    ///
    /// # Errors
    /// With the path.
    pub fn make(config: &ClientConfig, name: &str) -> Result<Self> {
        let root = root(config);
        // The owner of a database gets through to the copy that is his; names of folders tell nothing.
        atomic::make_folder(&root, 0o711)?;
        let _all = lock(&root)?;
        sweep_locked(&root);
        // What is there still is in use, and the folder cannot be made.
        let folder = root.join(name);
        if folder.exists() {
            return Err(Error::failed(format!("{} is used by another process", folder.display())));
        }
        atomic::make_folder(&folder, 0o700)?;
        let held = FileLock::try_on(File::open(&folder).at("open", &folder)?, &folder)?
            .ok_or_else(|| Error::failed(format!("{} is used by another process", folder.display())))?;
        atomic::make_folder(&folder.join(DATA), 0o700)?;
        Ok(Self { folder, _held: held })
    }

    /// The folder around what commands are given.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The name of what commands are given, in [`Staging::folder`].
    pub fn inner() -> &'static Path {
        Path::new(DATA)
    }

    /// What commands are given.
    pub fn data(&self) -> PathBuf {
        self.folder.join(DATA)
    }

    /// Notes which process group works in it, so that whoever sweeps the folder ends that group first.
    ///
    /// # Errors
    /// With the path.
    pub fn note(&self, leader: Pid) -> Result<()> {
        let Some(begun) = begun(leader) else { return Ok(()) };
        let path = self.folder.join(GROUP);
        std::fs::write(&path, format!("{} {begun}", leader.as_raw_nonzero())).at("write", &path)
    }

    /// Removes it; what cannot be removed is told, and swept later.
    pub fn remove(self, monitor: &dyn Monitor) {
        if let Err(error) = remove(&self.folder) {
            monitor.problem(&error);
        }
    }
}

/// When a process began, as the kernel counts; another one that gets its id later began later.
fn begun(process: Pid) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    // What comes after the name, which is in brackets and may hold anything, is the third field on.
    stat.rsplit(") ").next()?.split(' ').nth(19)?.parse().ok()
}

/// Ends the process group that still works in a folder whose owner is gone.
fn end_group(folder: &Path) {
    let Ok(noted) = std::fs::read_to_string(folder.join(GROUP)) else { return };
    let Some((leader, when)) = noted.split_once(' ') else { return };
    if let Some(leader) = leader.parse().ok().and_then(Pid::from_raw)
        && begun(leader).is_some_and(|begun| begun.to_string() == when)
    {
        let _ = kill_process_group(leader, Signal::KILL);
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Best effort; what stays is swept.
        let _ = remove(&self.folder);
    }
}

/// Removes what processes that are gone have left behind.
///
/// # Errors
/// When the folder cannot be locked.
pub fn sweep_staging(config: &ClientConfig) -> Result<()> {
    let root = root(config);
    if !root.is_dir() {
        return Ok(());
    }
    let _all = lock(&root)?;
    sweep_locked(&root);
    Ok(())
}

/// Where this user's folders are: beside the sender's for whoever restores under another account, so that neither makes
/// one that the other cannot use.
fn root(config: &ClientConfig) -> PathBuf {
    let path = config.staging_path();
    let own = rustix::process::geteuid().as_raw();
    let owner = [Some(path.as_path()), path.parent()].into_iter().flatten().find_map(|path| path.metadata().ok()).map(|meta| meta.uid());
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if owner.is_some_and(|owner| owner != own) { path.with_file_name(format!("{name}-{own}")) } else { path }
}

/// Held while folders are made and swept, so that none is swept between its making and its lock.
fn lock(root: &Path) -> Result<FileLock> {
    FileLock::wait(&root.join(".lock"))
}

fn sweep_locked(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let path = entry.path();
        // A name that begins with a dot is ours; a folder that is locked is in use.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if let Ok(file) = File::open(&path)
            && let Ok(Some(_held)) = FileLock::try_on(file, &path)
        {
            end_group(&path);
            let _ = remove(&path);
        }
    }
}

/// Removes a folder with all that is in it, also where a command took itself the right to write there.
fn remove(folder: &Path) -> Result<()> {
    if atomic::remove_tree(folder).is_ok() {
        return Ok(());
    }
    open_up(folder);
    atomic::remove_tree(folder)
}

/// Gives the owner back all rights in a tree, without following links.
fn open_up(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let _ = std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700));
        let inner = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(inner.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
    }
}
