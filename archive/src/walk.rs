//! Walking a tree by descriptors: every step is an `openat` or `statat` below the folder before, and no link is ever followed.
//!
//! Does not open files; tells of each thing, and where it is, in the catalog's order.

pub(crate) mod ahead;
mod place;

use crate::choose::Why;
use crate::entry::Mtime;
use crate::limits;
use base::{At, Error, Result};
use rustix::fs::{AtFlags, FileType, OFlags, RawDir};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use place::open_at;
pub(crate) use place::{Place, node_kind, why_not};

/// So many folders on the way down are held open; in deeper trees the upper ones are opened again on the way back.
const HELD: usize = 64;
/// For the names of a folder, as the kernel gives them.
const LISTING: usize = 64 << 10;

/// Why sockets are left out.
const SOCKET: &str = "it is a socket: whoever listens there makes it anew";

/// Where a tree, or a single file, is read from.
#[derive(Debug)]
pub enum Source<'a> {
    /// A path; its last part must not be a link.
    Path(&'a Path),
    /// A folder or a file that was opened for reading.
    Opened(OwnedFd),
}

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) kind: FileType,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime: Mtime,
    pub(crate) ctime: Mtime,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) links: u64,
    /// Which device it is, where it is one.
    pub(crate) is_device: u64,
}

impl Stat {
    pub(crate) fn of(file: impl AsFd) -> std::io::Result<Self> {
        Ok(rustix::fs::fstat(file)?.into())
    }

    /// Whether it is, as far as can be told, the same thing with the content of `before`.
    pub(crate) fn same_content(&self, before: &Self) -> bool {
        self.identity() == before.identity() && (self.size, self.mtime, self.ctime) == (before.size, before.mtime, before.ctime)
    }

    /// What no two things have at a time.
    pub(crate) fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

impl From<rustix::fs::Stat> for Stat {
    #[expect(
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        clippy::unnecessary_cast,
        reason = "the kernel's types differ between machines; its values fit"
    )]
    fn from(stat: rustix::fs::Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size as u64,
            mtime: Mtime { seconds: stat.st_mtime as i64, nanos: stat.st_mtime_nsec as u32 },
            ctime: Mtime { seconds: stat.st_ctime as i64, nanos: stat.st_ctime_nsec as u32 },
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            links: stat.st_nlink as u64,
            is_device: stat.st_rdev as u64,
        }
    }
}

/// Is told what the walk meets. An error that it returns ends the walk.
pub(crate) trait Visitor {
    /// Whether what is behind a name is to be looked at; the path of a folder ends in `/`.
    fn wants(&mut self, _path: &[u8], _is_dir: bool) -> Result<bool> {
        Ok(true)
    }
    /// Whether a folder, the root too, is to be entered; otherwise it is told of alone.
    fn enters(&mut self, _path: &[u8], _folder: BorrowedFd<'_>, _stat: &Stat) -> Result<bool> {
        Ok(true)
    }
    /// Something that is left out on purpose, with all that is in it.
    fn left_out(&mut self, _path: &[u8], _why: Why<'_>) -> Result<()> {
        Ok(())
    }
    /// A folder; `path` ends in `/`, or is empty for the root.
    fn folder(&mut self, path: &[u8], place: &Place, stat: &Stat) -> Result<()>;
    /// A regular file.
    fn file(&mut self, path: &[u8], place: &Place, stat: &Stat) -> Result<()>;
    /// A symbolic link, FIFO or device.
    fn node(&mut self, path: &[u8], place: &Place, stat: &Stat) -> Result<()>;
    /// Something that is left out, and nothing is lost by that.
    fn skipped(&mut self, path: &[u8], why: &str) -> Result<()>;
    /// Something that goes into the errors ledger.
    fn unreadable(&mut self, path: &[u8], why: String) -> Result<()>;
}

/// What a walk begins with: a folder, or a file.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    stat: Stat,
}

impl Root {
    /// Opens the source.
    ///
    /// # Errors
    /// With the path; also when it is neither a folder nor a file.
    pub(crate) fn open(source: Source<'_>) -> Result<Self> {
        let (fd, name) = match source {
            Source::Path(path) => {
                // Looked at before it is opened: opening a device or a FIFO can do something already.
                let stat = rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW).at("read", path)?;
                check_root(&stat.into(), path)?;
                (open_at(rustix::fs::CWD, path, OFlags::empty()).at("open", path)?, path)
            }
            Source::Opened(fd) => (fd, Path::new("the opened source")),
        };
        let stat = Stat::of(&fd).at("read", name)?;
        check_root(&stat, name)?;
        Ok(Self { fd, stat })
    }

    /// Whether it is a folder.
    pub(crate) fn is_folder(&self) -> bool {
        self.stat.kind == FileType::Directory
    }
}

fn check_root(stat: &Stat, path: &Path) -> Result<()> {
    match stat.kind {
        FileType::Directory | FileType::RegularFile => Ok(()),
        FileType::Symlink => {
            Err(Error::usage(format!("{} is a symbolic link", path.display())).hint("Name the folder or file that it points to."))
        }
        _ => Err(Error::usage(format!("{} is neither a folder nor a file", path.display()))),
    }
}

/// The names of a folder in the order of the catalog: that of a folder ends in `/`, so that names sort as paths do.
#[derive(Default)]
struct Names {
    /// All of them, one after the other: a folder may have millions.
    text: Vec<u8>,
    sorted: std::vec::IntoIter<Name>,
}

/// A name by its place in [`Names::text`].
#[derive(Clone, Copy)]
struct Name {
    start: usize,
    length: u32,
    kind: FileType,
}

impl Name {
    fn of<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.start..).and_then(|text| text.get(..self.length as usize)).unwrap_or_default()
    }
}

/// A folder on the way down.
struct Level {
    fd: Option<Arc<OwnedFd>>,
    identity: (u64, u64),
    names: Names,
    /// The length of its path.
    path: usize,
}

/// Walks what was opened. Only errors of the visitor end it; all else is told to the visitor.
pub(crate) fn walk(root: Root, visitor: &mut dyn Visitor) -> Result<()> {
    let (root, stat) = (Arc::new(root.fd), root.stat);
    if stat.kind != FileType::Directory {
        return visitor.file(b"", &Place::Opened(root), &stat);
    }
    let mut path = Vec::new();
    let mut levels = Vec::new();
    let mut buffer = Vec::with_capacity(LISTING);
    if !visitor.enters(&path, root.as_fd(), &stat)? {
        return visitor.folder(&path, &Place::Opened(root), &stat);
    }
    enter(root, &stat, &path, &mut levels, &mut buffer, visitor)?;
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path);
        let Some(name) = level.names.sorted.next() else {
            go_up(&mut levels);
            continue;
        };
        path.extend_from_slice(name.of(&level.names.text));
        let Some(fd) = &level.fd else {
            visitor.unreadable(&path, "its folder was moved while it was read".into())?;
            continue;
        };
        if path.len() > limits::PATH {
            visitor.unreadable(&path, "its path is longer than 64 KiB".into())?;
            continue;
        }
        if !visitor.wants(&path, name.kind == FileType::Directory)? {
            continue;
        }
        let device = level.identity.0;
        let Some((folder, stat)) = step(fd, name.kind, &path, visitor)? else { continue };
        // What the kernel makes up is not data, and much of it never ends.
        let made_up = stat.device != device && is_made_up(&folder);
        let folder = Arc::new(folder);
        if made_up || !visitor.enters(&path, folder.as_fd(), &stat)? {
            visitor.folder(&path, &Place::Opened(folder), &stat)?;
        } else {
            enter(folder, &stat, &path, &mut levels, &mut buffer, visitor)?;
        }
    }
    Ok(())
}

/// Tells the visitor of a folder, reads its names, and goes down into it.
fn enter(
    fd: Arc<OwnedFd>,
    stat: &Stat,
    path: &[u8],
    levels: &mut Vec<Level>,
    buffer: &mut Vec<u8>,
    visitor: &mut dyn Visitor,
) -> Result<()> {
    let place = Place::Opened(fd);
    visitor.folder(path, &place, stat)?;
    let Place::Opened(fd) = place else { return Ok(()) };
    let names = match list(&fd, buffer) {
        Ok(names) => names,
        Err(error) if path.is_empty() => return Err(error).at("list the folder", Path::new(".")),
        Err(error) => return visitor.unreadable(path, format!("could not list the folder: {error}")),
    };
    levels.push(Level { fd: Some(fd), identity: stat.identity(), names, path: path.len() });
    if let Some(far) = levels.len().checked_sub(HELD + 1) {
        levels[far].fd = None;
    }
    Ok(())
}

/// Leaves the last folder; its parent is opened again through it where it was not held, if it still is the same one.
fn go_up(levels: &mut Vec<Level>) {
    let Some(left) = levels.pop() else { return };
    if let Some(parent) = levels.last_mut()
        && parent.fd.is_none()
        && let Some(fd) = left.fd
        && let Ok(found) = open_at(&fd, c"..", OFlags::DIRECTORY)
        && Stat::of(&found).is_ok_and(|stat| stat.identity() == parent.identity)
    {
        parent.fd = Some(Arc::new(found));
    }
}

/// Tells the visitor what is behind a name, but for a folder, which is given back opened.
fn step(folder: &Arc<OwnedFd>, kind: FileType, path: &[u8], visitor: &mut dyn Visitor) -> Result<Option<(OwnedFd, Stat)>> {
    let name = place::last_part(path);
    let met = match kind {
        FileType::Directory => open_at(folder, name, OFlags::DIRECTORY).and_then(|fd| {
            let stat = rustix::fs::fstat(&fd)?;
            Ok((fd, Stat::from(stat)))
        }),
        FileType::Socket => {
            visitor.skipped(path, SOCKET)?;
            return Ok(None);
        }
        FileType::Unknown => {
            visitor.unreadable(path, "it is of a kind that this version does not know".into())?;
            return Ok(None);
        }
        // Not opened: that can do something already, and most of it has not changed since the last time.
        kind => match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map(Stat::from) {
            Ok(stat) if stat.kind != kind => Err(Errno::LOOP),
            Ok(stat) => {
                let place = Place::In(folder.clone());
                let told =
                    if kind == FileType::RegularFile { visitor.file(path, &place, &stat) } else { visitor.node(path, &place, &stat) };
                return told.map(|()| None);
            }
            Err(error) => Err(error),
        },
    };
    match met {
        Ok(folder) => Ok(Some(folder)),
        // A folder that may not be listed is still one: it keeps its place, mode and owner.
        Err(Errno::ACCESS) if kind == FileType::Directory => {
            if let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map(Stat::from)
                && stat.kind == FileType::Directory
            {
                visitor.folder(path, &Place::In(folder.clone()), &stat)?;
            }
            visitor.unreadable(path, format!("could not list the folder: {}", std::io::Error::from(Errno::ACCESS)))?;
            Ok(None)
        }
        Err(error) => {
            visitor.unreadable(path, why_not(error))?;
            Ok(None)
        }
    }
}

/// The names in a folder, in the order of the catalog; `buffer` is for what the kernel gives.
fn list(folder: &OwnedFd, buffer: &mut Vec<u8>) -> std::io::Result<Names> {
    let mut listing = RawDir::new(folder, buffer.spare_capacity_mut());
    let (mut text, mut names) = (Vec::new(), Vec::new());
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems do not tell; what is gone by now is found missing when it is looked at.
            FileType::Unknown => rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::RegularFile, |stat| FileType::from_raw_mode(stat.st_mode)),
            known => known,
        };
        let start = text.len();
        text.extend_from_slice(name.to_bytes());
        if kind == FileType::Directory {
            text.push(b'/');
        }
        // Kernels give no name that is longer than a few KiB.
        names.push(Name { start, length: u32::try_from(text.len() - start).unwrap_or(u32::MAX), kind });
    }
    names.sort_unstable_by(|a, b| a.of(&text).cmp(b.of(&text)));
    Ok(Names { text, sorted: names.into_iter() })
}

/// Types of file systems that the kernel makes up: proc, sysfs, devpts, cgroup, cgroup2, debugfs, tracefs, securityfs,
/// bpf, pstore, mqueue, configfs, fusectl, efivarfs.
const MADE_UP: [i64; 14] = [
    0x9fa0,
    0x6265_6572,
    0x1cd1,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x6165_676c,
    0x1980_0202,
    0x6265_6570,
    0x6573_5543,
    0xde5e_81e4,
];

/// Whether a folder is on a file system that the kernel makes up.
fn is_made_up(folder: &OwnedFd) -> bool {
    #[expect(clippy::unnecessary_cast, reason = "the kernel's type differs between machines")]
    rustix::fs::fstatfs(folder).is_ok_and(|system| MADE_UP.contains(&(system.f_type as i64)))
}
