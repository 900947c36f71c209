//! Advisory locks on files: held by an open file, gone with the process.

use crate::error::{At, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::mem::ManuallyDrop;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// An exclusive `flock` on a file or a folder, released when it is dropped or its process ends.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Waits for the lock on `path`, which is created (mode 0600) when it is not there.
    ///
    /// # Errors
    /// With the path.
    pub fn wait(path: &Path) -> Result<Self> {
        let file = open(path)?;
        file.lock().at("lock", path)?;
        Ok(Self { file })
    }

    /// Takes the lock if nobody holds it.
    ///
    /// # Errors
    /// With the path; a lock that is held is `Ok(None)`.
    pub fn try_now(path: &Path) -> Result<Option<Self>> {
        Self::try_on(open(path)?, path)
    }

    /// Takes the lock of what is open already, if nobody holds it; `path` is for errors.
    ///
    /// # Errors
    /// With the path; a lock that is held is `Ok(None)`.
    pub fn try_on(file: File, path: &Path) -> Result<Option<Self>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).at("lock", path),
        }
    }

    /// Holds the lock until this process, and whatever it starts or becomes from now on, has ended.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn leave(self) -> Result<()> {
        rustix::io::fcntl_setfd(&self.file, rustix::io::FdFlags::empty()).at("hand on", "a lock")?;
        // Not even we let go of it by hand: what we started may still run.
        let _ = ManuallyDrop::new(self);
        Ok(())
    }

    /// What is locked.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing is not enough: a program that another thread is just starting holds the file open too, until it runs.
        let _ = self.file.unlock();
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).at("open the lock", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_lock_is_free_even_while_somebody_else_has_the_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = FileLock::wait(&path).unwrap();
        assert!(FileLock::try_now(&path).unwrap().is_none());
        // As a child has it between fork and exec.
        let copy = lock.file().try_clone().unwrap();
        drop(lock);
        assert!(FileLock::try_now(&path).unwrap().is_some());
        drop(copy);
    }

    #[test]
    fn a_lock_that_is_left_is_handed_on() {
        use std::os::fd::AsRawFd;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("lock");
        let lock = FileLock::wait(&path).unwrap();
        let there = format!("/proc/self/fd/{}", lock.file().as_raw_fd());
        let has_it = || {
            std::process::Command::new("readlink").arg(&there).output().unwrap().stdout.trim_ascii() == path.as_os_str().as_encoded_bytes()
        };
        assert!(!has_it());
        lock.leave().unwrap();
        assert!(has_it() && FileLock::try_now(&path).unwrap().is_none());
    }
}
