//! The folder that is restored into. Everything is made through descriptors opened beneath it, and no link is followed.
//!
//! Does not read archives, and does not decide what is made.

use super::dress::{Dresser, undress};
use super::nodes::Node;
use super::owner::Meta;
use base::{At, Error, Result, beneath};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timestamps, UTIME_OMIT};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A kernel takes paths up to 4096 bytes; longer ones are opened in steps.
const STEP: usize = 2048;

/// The opened target.
pub(super) struct Target {
    path: PathBuf,
    root: OwnedFd,
    /// Whether things from an earlier restore may be in it.
    used: bool,
    /// The folder that was opened last: neighbours come one after the other.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Folders whose entry was missing, made so that what is in them can be restored.
    made_up: Vec<String>,
}

impl Target {
    pub(super) fn new(path: &Path, used: bool) -> Result<Self> {
        Ok(Self { path: path.to_owned(), root: beneath::folder(path)?, used, last: None, made_up: Vec::new() })
    }

    pub(super) fn used(&self) -> bool {
        self.used
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Folders that were made without an entry, since the last call.
    pub(super) fn take_made_up(&mut self) -> Vec<String> {
        std::mem::take(&mut self.made_up)
    }

    /// The path as people read it.
    pub(super) fn shown(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }

    /// Makes a folder, mode 0700 while it is being filled.
    pub(super) fn make_folder(&mut self, path: &[u8]) -> Result<()> {
        if path.is_empty() {
            undress(&self.root);
            return Ok(());
        }
        let used = self.used;
        let shown = self.shown(path);
        self.at(path, |folder, name| match rustix::fs::mkdirat(folder, name, Mode::RWXU) {
            Err(rustix::io::Errno::EXIST) if used => {
                if file_type(&rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).at("look at", &shown)?) != FileType::Directory {
                    rustix::fs::unlinkat(folder, name, AtFlags::empty()).at("replace", &shown)?;
                    return rustix::fs::mkdirat(folder, name, Mode::RWXU).at("create the folder", &shown);
                }
                let existing = beneath::open(folder, Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY)?;
                undress(&existing);
                rustix::fs::fchmod(existing, Mode::RWXU).at("set the mode of", &shown)
            }
            other => other.at("create the folder", &shown),
        })
    }

    /// Creates a file; what an earlier restore left there is replaced.
    pub(super) fn create(&mut self, path: &[u8]) -> Result<File> {
        let shown = self.shown(path);
        let used = self.used;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.at(path, |folder, name| {
            let open = || rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR);
            let file = match open() {
                Err(rustix::io::Errno::EXIST) if used => {
                    rustix::fs::unlinkat(folder, name, AtFlags::empty()).at("replace", &shown)?;
                    open()
                }
                other => other,
            };
            file.map(File::from).at("create", &shown)
        })
    }

    /// Opens a file for reading.
    pub(super) fn open(&mut self, path: &[u8]) -> Result<File> {
        let shown = self.shown(path);
        let (folder, name) = split(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(self.folder(folder)?, name, flags, Mode::empty()).map(File::from).at("open", shown)
    }

    /// Opens a file again that was created here.
    pub(super) fn reopen(&mut self, path: &[u8]) -> Result<File> {
        let shown = self.shown(path);
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        self.at(path, |folder, name| rustix::fs::openat(folder, name, flags, Mode::empty()).map(File::from).at("open", &shown))
    }

    /// Removes a file that did not become whole.
    pub(super) fn remove(&mut self, path: &[u8]) -> Result<()> {
        let shown = self.shown(path);
        self.at(path, |folder, name| rustix::fs::unlinkat(folder, name, AtFlags::empty()).at("remove", &shown))
    }

    /// Makes a link, FIFO or device; `dress` is what it is given then. What an earlier restore left there is replaced.
    pub(super) fn make_node(
        &mut self,
        path: &[u8],
        node: &Node,
        dress: impl FnOnce(BorrowedFd<'_>, &OsStr, &Path) -> Result<()>,
    ) -> Result<()> {
        let shown = self.shown(path);
        let used = self.used;
        self.at(path, |folder, name| {
            let made = match node.make(folder, name) {
                Err(rustix::io::Errno::EXIST) if used => {
                    rustix::fs::unlinkat(folder, name, AtFlags::empty()).at("replace", &shown)?;
                    node.make(folder, name)
                }
                other => other,
            };
            made.at(&format!("create the {}", node.word()), &shown)?;
            dress(folder, name, &shown)
        })
    }

    /// Makes `path` another name of the file `origin`.
    pub(super) fn hard_link(&mut self, origin: &[u8], path: &[u8]) -> Result<()> {
        let shown = self.shown(path);
        let used = self.used;
        let (folder, name) = split(origin)?;
        let from = open_in_steps(self.root.as_fd(), folder)?;
        self.at(path, |folder, new| {
            let link = || rustix::fs::linkat(&from, name, folder, new, AtFlags::empty());
            match link() {
                Err(rustix::io::Errno::EXIST) if used => {
                    let stat = |folder: BorrowedFd<'_>, name: &OsStr| {
                        rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| (stat.st_dev, stat.st_ino))
                    };
                    if stat(folder, new).at("look at", &shown)? == stat(from.as_fd(), name).at("look at", &shown)? {
                        return Ok(());
                    }
                    rustix::fs::unlinkat(folder, new, AtFlags::empty()).at("replace", &shown)?;
                    link().at("link", &shown)
                }
                other => other.at("link", &shown),
            }
        })
    }

    /// What is at `path`, without following a link; nothing is made on the way.
    pub(super) fn look(&mut self, path: &[u8]) -> Result<Option<Stat>> {
        if path.is_empty() {
            return rustix::fs::fstat(&self.root).map(Some).at("look at", &self.path);
        }
        let shown = self.shown(path);
        let (folder, name) = split(path)?;
        let Ok(folder) = self.folder(folder) else { return Ok(None) };
        match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => Ok(None),
            other => other.map(Some).at("look at", &shown),
        }
    }

    /// What the link at `path` says.
    pub(super) fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        let shown = self.shown(path);
        let (folder, name) = split(path)?;
        rustix::fs::readlinkat(self.folder(folder)?, name, Vec::new()).map(std::ffi::CString::into_bytes).at("read the link", &shown)
    }

    /// Gives a folder its owner, mode and time. The last thing that is done in it.
    pub(super) fn finish_folder(&mut self, path: &[u8], meta: &Meta, dresser: &mut Dresser<'_>) -> Result<()> {
        let shown = self.shown(path);
        // The mode may close it even for us.
        self.last = None;
        let inner = path.strip_suffix(b"/").unwrap_or(path);
        let folder = open_in_steps(self.root.as_fd(), inner)?;
        dresser.opened(&folder, meta, &shown)
    }

    /// Does something to a name in the folder that `path` is in; the folder is made if its entry was missing.
    fn at<T>(&mut self, path: &[u8], deed: impl FnOnce(BorrowedFd<'_>, &OsStr) -> Result<T>) -> Result<T> {
        let (folder, name) = split(path)?;
        let failed = self.folder(folder).err();
        if let Some(error) = failed {
            let made = self.make_missing(folder)?;
            if made.is_empty() {
                return Err(error);
            }
            self.made_up.extend(made);
        }
        deed(self.folder(folder)?, name)
    }

    /// A folder below the target.
    fn folder(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        if self.last.as_ref().is_none_or(|(kept, _)| kept != path) {
            let folder = open_in_steps(self.root.as_fd(), path)?;
            self.last = Some((path.to_vec(), folder));
        }
        match &self.last {
            Some((_, folder)) => Ok(folder.as_fd()),
            None => Ok(self.root.as_fd()),
        }
    }

    /// Makes the folders of `path` that are not there; says which.
    fn make_missing(&mut self, path: &[u8]) -> Result<Vec<String>> {
        let mut made = Vec::new();
        let mut folder = self.root.try_clone().at("open the folder", &self.path)?;
        for part in path.split(|b| *b == b'/') {
            let name = checked(part)?;
            match rustix::fs::mkdirat(&folder, name, Mode::RWXU) {
                Ok(()) => made.push(String::from_utf8_lossy(part).into_owned()),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error).at("create the folder", self.shown(path)),
            }
            folder = beneath::open(&folder, Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY)?;
        }
        Ok(made)
    }
}

/// What kind of thing a stat tells of.
pub(super) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(super) fn times(meta: &Meta) -> Timestamps {
    let untouched = rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Timestamps { last_access: untouched, last_modification: meta.mtime }
}

/// A name in a folder. Entries were checked when they were read; what reaches the kernel is checked once more.
fn checked(part: &[u8]) -> Result<&OsStr> {
    if matches!(part, b"" | b"." | b"..") || part.contains(&b'/') || part.contains(&0) {
        return Err(Error::refused(format!("{:?} cannot be a name in a folder", String::from_utf8_lossy(part))));
    }
    Ok(OsStr::from_bytes(part))
}

/// The folder and the name of a path, which may end in `/`.
fn split(path: &[u8]) -> Result<(&[u8], &OsStr)> {
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

/// Opens a folder below `root`, however long its path is.
fn open_in_steps(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut rest = path;
    let mut folder: Option<OwnedFd> = None;
    while rest.len() > STEP {
        let at = rest[..STEP].iter().rposition(|b| *b == b'/').ok_or_else(|| Error::failed("a name is longer than file systems allow"))?;
        let step = Path::new(OsStr::from_bytes(&rest[..at]));
        let next = match &folder {
            Some(folder) => beneath::open(folder, step, flags)?,
            None => beneath::open(root, step, flags)?,
        };
        folder = Some(next);
        rest = &rest[at + 1..];
    }
    let step = Path::new(OsStr::from_bytes(rest));
    match &folder {
        Some(folder) => beneath::open(folder, step, flags),
        None => beneath::open(root, step, flags),
    }
}
