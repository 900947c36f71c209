//! Opening folders below the target, the last one kept: neighbours come one after the other. No link is followed.
//!
//! Makes nothing.

use base::{At, Error, Result, beneath};
use rustix::fs::{Mode, OFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A kernel takes paths up to 4096 bytes; longer ones are opened in steps.
const STEP: usize = 2048;

/// A folder, and the one below it that was opened last.
pub(super) struct Folders {
    root: OwnedFd,
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Folders {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root, last: None }
    }

    /// The same folder, for another thread.
    pub(super) fn again(&self) -> Result<Self> {
        self.root.try_clone().map(Self::new).at("open", "the target again")
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// A file without a name, where the file system has such: it is gone when it is closed.
    pub(super) fn nameless(&self) -> Option<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::openat(&self.root, ".", flags, Mode::RUSR | Mode::WUSR).ok().map(File::from)
    }

    /// Forgets what was opened last: it may be closed to us by now.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// A folder below; the empty path is the root.
    pub(super) fn folder(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        if self.last.as_ref().is_none_or(|(kept, _)| kept != path) {
            let folder = self.open(path)?;
            self.last = Some((path.to_vec(), folder));
        }
        match &self.last {
            Some((_, folder)) => Ok(folder.as_fd()),
            None => Ok(self.root.as_fd()),
        }
    }

    /// Opens a folder anew, however long its path is.
    pub(super) fn open(&self, path: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut rest = path;
        let mut folder: Option<OwnedFd> = None;
        while rest.len() > STEP {
            let at =
                rest[..STEP].iter().rposition(|b| *b == b'/').ok_or_else(|| Error::failed("a name is longer than file systems allow"))?;
            let step = Path::new(OsStr::from_bytes(&rest[..at]));
            let next = match &folder {
                Some(folder) => beneath::open(folder, step, flags)?,
                None => beneath::open(&self.root, step, flags)?,
            };
            folder = Some(next);
            rest = &rest[at + 1..];
        }
        let step = Path::new(OsStr::from_bytes(rest));
        match &folder {
            Some(folder) => beneath::open(folder, step, flags),
            None => beneath::open(&self.root, step, flags),
        }
    }
}

/// A name in a folder. Entries were checked when they were read; what reaches the kernel is checked once more.
pub(super) fn checked(part: &[u8]) -> Result<&OsStr> {
    if matches!(part, b"" | b"." | b"..") || part.contains(&b'/') || part.contains(&0) {
        return Err(Error::refused(format!("{:?} cannot be a name in a folder", String::from_utf8_lossy(part))));
    }
    Ok(OsStr::from_bytes(part))
}

/// The folder and the name of a path, which may end in `/`.
pub(super) fn split(path: &[u8]) -> Result<(&[u8], &OsStr)> {
    let inner = path.strip_suffix(b"/").unwrap_or(path);
    let (folder, name) = match inner.iter().rposition(|b| *b == b'/') {
        Some(at) => (&inner[..at], &inner[at + 1..]),
        None => (&b""[..], inner),
    };
    if !folder.is_empty() || path.starts_with(b"/") {
        folder.split(|b| *b == b'/').try_for_each(|part| checked(part).map(|_| ()))?;
    }
    Ok((folder, checked(name)?))
}
