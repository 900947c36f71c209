//! Advisory locks on files: held by an open file, gone with the process.

use crate::error::{At, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// An exclusive `flock` on a file, released when it is dropped or its process ends.
#[derive(Debug)]
pub struct FileLock {
    // Kept open for the lock that belongs to it.
    _file: File,
}

impl FileLock {
    /// Waits for the lock on `path`, which is created (mode 0600) when it is not there.
    ///
    /// # Errors
    /// With the path.
    pub fn wait(path: &Path) -> Result<Self> {
        let file = open(path)?;
        file.lock().at("lock", path)?;
        Ok(Self { _file: file })
    }

    /// Takes the lock if nobody holds it.
    ///
    /// # Errors
    /// With the path; a lock that is held is `Ok(None)`.
    pub fn try_now(path: &Path) -> Result<Option<Self>> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).at("lock", path),
        }
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).at("open the lock", path)
}
