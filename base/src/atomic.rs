//! The one place that writes files that matter: temp + fsync + rename + fsync of the folder.
//!
//! After `Ok` the change survives a crash; before it, readers see the old state or the new one, never a mixture.
//! Each change is a place at which a test lets the process die, under the caller's line ([`crash`]).
//! Temporary files are called `.tmp-…` and may be removed by whoever owns the folder.

use crate::crash;
use crate::error::{At, Result};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What names of unfinished files begin with.
pub const TEMP_PREFIX: &str = ".tmp-";

/// Replaces `path` by a file with `bytes` and permission bits `mode`.
///
/// # Errors
/// With the path; then `path` is as it was.
#[cfg_attr(feature = "crash-points", track_caller)]
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut file = Draft::beside(path, mode)?;
    file.write_all(bytes).at("write", path)?;
    file.publish()
}

/// Creates `path` with `bytes`; an existing file is left as it is and is an error (`AlreadyExists` in the chain).
///
/// # Errors
/// With the path.
#[cfg_attr(feature = "crash-points", track_caller)]
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut file = Draft::beside(path, mode)?;
    file.write_all(bytes).at("write", path)?;
    file.file.sync_all().at("write", path)?;
    crash::point("drafted");
    rename_new(&file.temp, path)?;
    file.published = true;
    sync_folder_of(path)
}

/// Renames a file and replaces nothing: what stands at `to` stays and is an error (`AlreadyExists` in the chain). The file
/// never has two names, which readers refuse; not durable until its folder is flushed. One step, but on file systems that
/// cannot do that (some network file systems), where a look and a rename follow each other.
///
/// # Errors
/// With the path.
#[cfg_attr(feature = "crash-points", track_caller)]
pub fn rename_new(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can do it in one step.
        Err(Errno::INVAL | Errno::NOSYS) if to.symlink_metadata().is_ok() => Err(Errno::EXIST).at("create", to)?,
        Err(Errno::INVAL | Errno::NOSYS) => fs::rename(from, to).at("create", to)?,
        other => other.at("create", to)?,
    }
    crash::point("renamed");
    Ok(())
}

/// A file being written under a temporary name in the folder where it will stand.
///
/// Dropped without [`Draft::publish`], it is removed.
#[derive(Debug)]
pub struct Draft {
    file: File,
    temp: PathBuf,
    path: PathBuf,
    published: bool,
}

static COUNTER: AtomicU64 = AtomicU64::new(0);

impl Draft {
    /// Begins a file that will be `path`.
    ///
    /// # Errors
    /// With the path.
    pub fn beside(path: &Path, mode: u32) -> Result<Self> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temp = folder_of(path).join(format!("{TEMP_PREFIX}{}-{number}", std::process::id()));
        // A crash may have left a file of the same process id.
        if let Err(error) = fs::remove_file(&temp)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).at("remove", &temp);
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temp).at("create", &temp)?;
        // The umask takes bits away that the caller has asked for.
        file.set_permissions(fs::Permissions::from_mode(mode)).at("set the mode of", &temp)?;
        Ok(Self { file, temp, path: path.to_owned(), published: false })
    }

    /// The file, for callers that write through a descriptor.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Makes the file durable and gives it its name, which replaces what stood there.
    ///
    /// # Errors
    /// With the path.
    #[cfg_attr(feature = "crash-points", track_caller)]
    pub fn publish(self) -> Result<()> {
        let path = self.path.clone();
        self.publish_as(&path)
    }

    /// As [`Draft::publish`], under another name in the same folder or in another one of the same file system, for names that
    /// are digests of the content.
    ///
    /// # Errors
    /// With the path.
    #[cfg_attr(feature = "crash-points", track_caller)]
    pub fn publish_as(mut self, path: &Path) -> Result<()> {
        self.file.sync_all().at("write", &self.temp)?;
        crash::point("drafted");
        fs::rename(&self.temp, path).at("rename to", path)?;
        self.published = true;
        crash::point("renamed");
        sync_folder_of(path)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // Best effort: what stays is a `.tmp-` file, which is garbage by its name.
            let _ = fs::remove_file(&self.temp);
        }
    }
}

/// Renames a file or a folder that is durable already, and makes the rename durable in both folders.
///
/// # Errors
/// With the path.
#[cfg_attr(feature = "crash-points", track_caller)]
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).at("rename to", to)?;
    crash::point("renamed");
    sync_folder_of(to)?;
    if folder_of(from) != folder_of(to) {
        sync_folder_of(from)?;
    }
    Ok(())
}

/// Removes a file; one that is not there is no error. Not made durable: what comes back after a crash is removed again.
///
/// # Errors
/// With the path.
#[cfg_attr(feature = "crash-points", track_caller)]
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.at("remove", path)?,
    }
    crash::point("removed");
    Ok(())
}

/// Removes unfinished files in `folder` that are older than `age`: killed processes left them. Best effort, as they are
/// garbage by their names; a folder that is not there has none.
pub fn sweep_drafts(folder: &Path, age: std::time::Duration) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let old = || entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|time| time.elapsed().is_ok_and(|passed| passed >= age));
        if entry.file_name().as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes()) && old() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes a folder and all that is in it, without following links; one that is not there is no error.
///
/// # Errors
/// With the path.
#[cfg_attr(feature = "crash-points", track_caller)]
pub fn remove_tree(path: &Path) -> Result<()> {
    #[cfg(feature = "crash-points")]
    if let Some(first) = fs::read_dir(path).ok().and_then(|mut entries| entries.next()?.ok())
        && fs::remove_file(first.path()).or_else(|_| fs::remove_dir_all(first.path())).is_ok()
    {
        crash::point("half removed");
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.at("remove", path)?,
    }
    crash::point("removed");
    Ok(())
}

/// Makes a folder and those above it, with permission bits `mode` for the new ones; an existing one stays as it is.
///
/// # Errors
/// With the path.
#[cfg_attr(feature = "crash-points", track_caller)]
pub fn make_folder(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).at("create the folder", path)?;
    crash::point("made");
    sync_folder_of(path)
}

/// Makes what happened to the names in `folder` durable.
///
/// # Errors
/// With the path.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).at("fsync", folder)
}

fn sync_folder_of(path: &Path) -> Result<()> {
    sync_folder(folder_of(path))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_draft_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, b"one", 0o600).unwrap();
        let mut draft = Draft::beside(&path, 0o600).unwrap();
        draft.write_all(b"two").unwrap();
        drop(draft);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_old_drafts_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".tmp-1-2", "tmp-1", "plain"] {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        let names = || fs::read_dir(dir.path()).unwrap().count();
        sweep_drafts(dir.path(), std::time::Duration::from_secs(60));
        assert_eq!(names(), 3);
        sweep_drafts(dir.path(), std::time::Duration::ZERO);
        assert!(names() == 2 && !dir.path().join(".tmp-1-2").exists());
        sweep_drafts(&dir.path().join("absent"), std::time::Duration::ZERO);
    }

    #[test]
    fn write_new_never_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_new(&path, b"one", 0o640).unwrap();
        assert!(write_new(&path, b"two", 0o640).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
