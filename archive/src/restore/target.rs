//! The folder that is restored into. Everything is made through descriptors opened beneath it, and no link is followed.
//!
//! Does not read archives, and does not decide what is made.

use super::dress::{Dresser, undress};
use super::folders::{Folders, checked, split};
use super::nodes::Node;
use super::owner::Meta;
use base::{At, Error, Result, beneath};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, Timestamps, UTIME_OMIT};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The opened target.
pub(super) struct Target {
    path: PathBuf,
    folders: Folders,
    /// Folders whose entry was missing, made so that what is in them can be restored.
    made_up: Vec<String>,
    /// Closed folders that were opened for the time being, and the modes that they had.
    opened: HashMap<Vec<u8>, Mode>,
}

impl Target {
    pub(super) fn new(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), folders: Folders::new(beneath::folder(path)?), made_up: Vec::new(), opened: HashMap::new() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.folders.root()
    }

    /// The folders below it, for another thread.
    pub(super) fn folders(&self) -> Result<Folders> {
        self.folders.again()
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
            undress(self.root());
            return Ok(());
        }
        let shown = self.shown(path);
        self.at(path, |folder, name| rustix::fs::mkdirat(folder, name, Mode::RWXU).at("create the folder", &shown))
    }

    /// Makes a folder of an earlier try as it is while it is being filled.
    pub(super) fn reopen_folder(&mut self, path: &[u8]) -> Result<()> {
        let shown = self.shown(path);
        let folder = self.folders.open(path.strip_suffix(b"/").unwrap_or(path))?;
        undress(&folder);
        rustix::fs::fchmod(&folder, Mode::RWXU).at("set the mode of", shown)
    }

    /// Takes away what a folder gave to the things in it by its default access control list.
    pub(super) fn undress_folder(&mut self, path: &[u8]) -> Result<()> {
        let opened = self.folders.open(path.strip_suffix(b"/").unwrap_or(path))?;
        undress(&opened);
        Ok(())
    }

    /// Lets an ordinary user into a closed folder of his own, until it is finished or closed again.
    pub(super) fn open_up(&mut self, path: &[u8], stat: &Stat) -> Result<()> {
        let own = rustix::process::geteuid();
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        if own.is_root() || stat.st_uid != own.as_raw() || mode.contains(Mode::RWXU) {
            return Ok(());
        }
        let shown = self.shown(path);
        if path.is_empty() {
            rustix::fs::fchmod(self.root(), mode | Mode::RWXU).at("set the mode of", &shown)?;
        } else {
            // It cannot be opened to be changed by its descriptor; a link in its place is left alone by its flag.
            self.at(path, |folder, name| {
                match rustix::fs::chmodat(folder, name, mode | Mode::RWXU, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(rustix::io::Errno::OPNOTSUPP) => rustix::fs::chmodat(folder, name, mode | Mode::RWXU, AtFlags::empty()),
                    other => other,
                }
                .at("set the mode of", &shown)
            })?;
        }
        self.opened.insert(path.to_vec(), mode);
        Ok(())
    }

    /// Closes the folders again that were opened and not finished since, the deepest first.
    pub(super) fn close_up(&mut self) -> Result<()> {
        self.folders.forget();
        let mut opened: Vec<(Vec<u8>, Mode)> = std::mem::take(&mut self.opened).into_iter().collect();
        opened.sort_by(|a, b| b.0.cmp(&a.0));
        let mut closed = Ok(());
        for (path, mode) in opened {
            let shown = self.shown(&path);
            let inner = path.strip_suffix(b"/").unwrap_or(&path);
            let one = self.folders.open(inner).and_then(|folder| rustix::fs::fchmod(folder, mode).at("set the mode of", shown));
            closed = closed.and(one);
        }
        closed
    }

    /// Creates a file.
    pub(super) fn create(&mut self, path: &[u8]) -> Result<File> {
        let shown = self.shown(path);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.at(path, |folder, name| rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR).map(File::from).at("create", &shown))
    }

    /// Gives a draft its name in the same folder; `there` is what makes way.
    pub(super) fn publish(&mut self, draft: &[u8], path: &[u8], there: Option<FileType>) -> Result<()> {
        let shown = self.shown(path);
        let (_, draft) = split(draft)?;
        self.at(path, |folder, name| {
            if there.is_none() {
                // What was made meanwhile is somebody's.
                match rustix::fs::renameat_with(folder, draft, folder, name, RenameFlags::NOREPLACE) {
                    Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
                    other => return other.at("rename to", &shown),
                }
            }
            if there == Some(FileType::Directory) {
                rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR).at("replace the folder", &shown)?;
            }
            rustix::fs::renameat(folder, draft, folder, name).at("rename to", &shown)
        })
    }

    /// Gives the target itself the time back that it had before the mark came into it, or went.
    pub(super) fn set_root_time(&self, before: &Stat) {
        let nanos = rustix::fs::Timespec { tv_sec: before.st_mtime, tv_nsec: i64::try_from(before.st_mtime_nsec).unwrap_or(0) };
        let times = Timestamps { last_access: OMIT, last_modification: nanos };
        // Best effort: the folder may be another's.
        let _ = rustix::fs::futimens(self.root(), &times);
    }

    /// Whether a folder is empty.
    pub(super) fn is_empty(&mut self, path: &[u8]) -> Result<bool> {
        let shown = self.shown(path);
        let inner = path.strip_suffix(b"/").unwrap_or(path);
        let folder = self.folders.open(inner)?;
        for entry in rustix::fs::Dir::new(folder).at("list", &shown)? {
            let entry = entry.at("list", &shown)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes files from a folder whose names begin with `prefix`.
    pub(super) fn sweep(&mut self, path: &[u8], prefix: &[u8]) {
        let inner = path.strip_suffix(b"/").unwrap_or(path);
        let Ok(folder) = self.folders.open(inner) else { return };
        let Ok(list) = rustix::fs::Dir::read_from(&folder) else { return };
        for entry in list.flatten() {
            if entry.file_name().to_bytes().starts_with(prefix) {
                let _ = rustix::fs::unlinkat(&folder, entry.file_name(), AtFlags::empty());
            }
        }
    }

    /// Gives a file that is there its owner, attributes, mode and time.
    pub(super) fn dress_file(&mut self, path: &[u8], meta: &Meta, dresser: &mut Dresser<'_>) -> Result<()> {
        let file = self.open(path)?;
        let shown = self.shown(path);
        if !file.metadata().at("look at", &shown)?.is_file() {
            return Err(Error::failed(format!("{} is another thing by now", shown.display())));
        }
        undress(&file);
        dresser.opened(&file, meta, &shown)
    }

    /// Opens a file for reading.
    pub(super) fn open(&mut self, path: &[u8]) -> Result<File> {
        let shown = self.shown(path);
        let (folder, name) = split(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(self.folders.folder(folder)?, name, flags, Mode::empty()).map(File::from).at("open", shown)
    }

    /// Opens a file again that was created here.
    pub(super) fn reopen(&mut self, path: &[u8]) -> Result<File> {
        let shown = self.shown(path);
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        self.at(path, |folder, name| rustix::fs::openat(folder, name, flags, Mode::empty()).map(File::from).at("open", &shown))
    }

    /// Removes what is not a folder, or an empty folder.
    pub(super) fn remove(&mut self, path: &[u8], kind: FileType) -> Result<()> {
        let shown = self.shown(path);
        let flags = if kind == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        self.at(path, |folder, name| rustix::fs::unlinkat(folder, name, flags).at("remove", &shown))
    }

    /// Makes a link, FIFO or device; `dress` is what it is given then.
    pub(super) fn make_node(
        &mut self,
        path: &[u8],
        node: &Node,
        dress: impl FnOnce(BorrowedFd<'_>, &OsStr, &Path) -> Result<()>,
    ) -> Result<()> {
        let shown = self.shown(path);
        self.at(path, |folder, name| {
            node.make(folder, name).at(&format!("create the {}", node.word()), &shown)?;
            dress(folder, name, &shown)
        })
    }

    /// Makes `path` another name of the file `origin`.
    pub(super) fn hard_link(&mut self, origin: &[u8], path: &[u8]) -> Result<()> {
        let shown = self.shown(path);
        let (folder, name) = split(origin)?;
        let from = self.folders.open(folder)?;
        self.at(path, |folder, new| rustix::fs::linkat(&from, name, folder, new, AtFlags::empty()).at("link", &shown))
    }

    /// What is at `path`, without following a link; nothing is made on the way.
    pub(super) fn look(&mut self, path: &[u8]) -> Result<Option<Stat>> {
        if path.is_empty() {
            return rustix::fs::fstat(self.root()).map(Some).at("look at", &self.path);
        }
        let shown = self.shown(path);
        let (folder, name) = split(path)?;
        let Ok(folder) = self.folders.folder(folder) else { return Ok(None) };
        match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => Ok(None),
            other => other.map(Some).at("look at", &shown),
        }
    }

    /// What the link at `path` says.
    pub(super) fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        let shown = self.shown(path);
        let (folder, name) = split(path)?;
        rustix::fs::readlinkat(self.folders.folder(folder)?, name, Vec::new())
            .map(std::ffi::CString::into_bytes)
            .at("read the link", &shown)
    }

    /// Gives a folder its owner, mode and time. The last thing that is done in it.
    pub(super) fn finish_folder(&mut self, path: &[u8], meta: &Meta, dresser: &mut Dresser<'_>) -> Result<()> {
        let shown = self.shown(path);
        // The mode may close it even for us.
        self.folders.forget();
        self.opened.remove(path);
        let inner = path.strip_suffix(b"/").unwrap_or(path);
        let folder = self.folders.open(inner)?;
        undress(&folder);
        dresser.opened(&folder, meta, &shown)
    }

    /// Runs `look` on a name in its folder; nothing is made on the way.
    pub(super) fn named<T>(&mut self, path: &[u8], look: impl FnOnce(BorrowedFd<'_>, &OsStr) -> T) -> Result<T> {
        if path.is_empty() {
            return Ok(look(self.root(), OsStr::new(".")));
        }
        let (folder, name) = split(path)?;
        Ok(look(self.folders.folder(folder)?, name))
    }

    /// Does something to a name in the folder that `path` is in; the folder is made if its entry was missing.
    fn at<T>(&mut self, path: &[u8], deed: impl FnOnce(BorrowedFd<'_>, &OsStr) -> Result<T>) -> Result<T> {
        let (folder, name) = split(path)?;
        let failed = self.folders.folder(folder).err();
        if let Some(error) = failed {
            let made = self.make_missing(folder)?;
            if made.is_empty() {
                return Err(error);
            }
            self.made_up.extend(made);
        }
        deed(self.folders.folder(folder)?, name)
    }

    /// Makes the folders of `path` that are not there; says which.
    fn make_missing(&mut self, path: &[u8]) -> Result<Vec<String>> {
        let mut made = Vec::new();
        let mut folder = self.root().try_clone_to_owned().at("open the folder", &self.path)?;
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
    Timestamps { last_access: OMIT, last_modification: meta.mtime }
}

/// A time that stays.
const OMIT: rustix::fs::Timespec = rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };

/// A path without its first `levels` folders; none for those folders themselves.
pub(super) fn strip(path: &[u8], levels: usize) -> Option<Vec<u8>> {
    let mut rest = path;
    for _ in 0..levels {
        rest = &rest[rest.iter().position(|b| *b == b'/')? + 1..];
    }
    (levels == 0 || !rest.is_empty()).then(|| rest.to_vec())
}
