//! Walking a tree by descriptors: every step is an `openat` below the folder before, and no link is ever followed.
//!
//! Does not read files; hands each one on, opened, in the catalog's order.

use crate::attributes::Thing;
use crate::choose::Why;
use crate::entry::{EntryKind, Mtime};
use crate::limits;
use base::{At, Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

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

    /// Whether the content is, as far as can be told, still the one of `before`.
    pub(crate) fn same_content(&self, before: &Self) -> bool {
        (self.size, self.mtime, self.ctime) == (before.size, before.mtime, before.ctime)
    }

    fn identity(&self) -> (u64, u64) {
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
    fn folder(&mut self, path: &[u8], thing: Thing<'_>, stat: &Stat) -> Result<()>;
    /// A regular file, opened.
    fn file(&mut self, path: &[u8], file: &File, stat: Stat) -> Result<()>;
    /// A symbolic link, FIFO or device.
    fn node(&mut self, path: &[u8], thing: Thing<'_>, stat: Stat, kind: EntryKind) -> Result<()>;
    /// Something that is left out, and nothing is lost by that.
    fn skipped(&mut self, path: &[u8], why: &str) -> Result<()>;
    /// Something that goes into the errors ledger.
    fn unreadable(&mut self, path: &[u8], why: String) -> Result<()>;
}

/// Opens the source.
///
/// # Errors
/// With the path; also when it is neither a folder nor a file.
pub(crate) fn open(source: Source<'_>) -> Result<(OwnedFd, Stat)> {
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
    Ok((fd, stat))
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

/// Opens for reading without following a last link and without blocking; reading does not change the access time
/// where this user may ask for that.
fn open_at<P: rustix::path::Arg + Copy>(folder: impl AsFd, path: P, more: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | more;
    match rustix::fs::openat(&folder, path, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(&folder, path, flags, Mode::empty()),
        other => other,
    }
}

/// A name in a folder; that of a folder ends in `/`, so that names sort as paths do.
struct Name {
    key: Vec<u8>,
    kind: FileType,
}

/// A folder on the way down.
struct Level {
    fd: Option<OwnedFd>,
    identity: (u64, u64),
    names: std::vec::IntoIter<Name>,
    /// The length of its path.
    path: usize,
}

/// Walks what [`open`] gave. Only errors of the visitor end it; all else is told to the visitor.
pub(crate) fn walk(root: OwnedFd, stat: Stat, visitor: &mut dyn Visitor) -> Result<()> {
    if stat.kind != FileType::Directory {
        return visitor.file(b"", &File::from(root), stat);
    }
    let mut path = Vec::new();
    let mut levels = Vec::new();
    if !visitor.enters(&path, root.as_fd(), &stat)? {
        return visitor.folder(&path, Thing::Opened(root.as_fd()), &stat);
    }
    enter(root, &stat, &path, &mut levels, visitor)?;
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path);
        let Some(name) = level.names.next() else {
            go_up(&mut levels);
            continue;
        };
        path.extend_from_slice(&name.key);
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
        let Some((folder, stat)) = step(fd.as_fd(), &name, &path, visitor)? else { continue };
        // What the kernel makes up is not data, and much of it never ends.
        let made_up = stat.device != device && is_made_up(&folder);
        if made_up || !visitor.enters(&path, folder.as_fd(), &stat)? {
            visitor.folder(&path, Thing::Opened(folder.as_fd()), &stat)?;
        } else {
            enter(folder, &stat, &path, &mut levels, visitor)?;
        }
    }
    Ok(())
}

/// Tells the visitor of a folder, reads its names, and goes down into it.
fn enter(fd: OwnedFd, stat: &Stat, path: &[u8], levels: &mut Vec<Level>, visitor: &mut dyn Visitor) -> Result<()> {
    visitor.folder(path, Thing::Opened(fd.as_fd()), stat)?;
    let names = match list(&fd) {
        Ok(names) => names,
        Err(error) if path.is_empty() => return Err(error).at("list the folder", Path::new(".")),
        Err(error) => return visitor.unreadable(path, format!("could not list the folder: {error}")),
    };
    levels.push(Level { fd: Some(fd), identity: stat.identity(), names: names.into_iter(), path: path.len() });
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
        parent.fd = Some(found);
    }
}

/// Tells the visitor what is behind a name, but for a folder, which is given back opened.
fn step(folder: BorrowedFd<'_>, name: &Name, path: &[u8], visitor: &mut dyn Visitor) -> Result<Option<(OwnedFd, Stat)>> {
    let plain = name.key.strip_suffix(b"/").unwrap_or(&name.key);
    let Ok(plain) = CString::new(plain) else { return Ok(None) };
    let met = match name.kind {
        FileType::Directory => open_at(folder, plain.as_c_str(), OFlags::DIRECTORY).and_then(|fd| {
            let stat = rustix::fs::fstat(&fd)?;
            Ok((fd, Stat::from(stat)))
        }),
        FileType::RegularFile => match open_at(folder, plain.as_c_str(), OFlags::empty())
            .and_then(|fd| rustix::fs::fstat(&fd).map(|stat| (fd, Stat::from(stat))))
        {
            Ok((fd, stat)) if stat.kind == FileType::RegularFile => {
                visitor.file(path, &File::from(fd), stat)?;
                return Ok(None);
            }
            Ok(_) => Err(Errno::LOOP),
            Err(error) => Err(error),
        },
        FileType::Socket => {
            visitor.skipped(path, SOCKET)?;
            return Ok(None);
        }
        kind @ (FileType::Symlink | FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice) => {
            // Never opened: that can do something already.
            match rustix::fs::statat(folder, plain.as_c_str(), AtFlags::SYMLINK_NOFOLLOW).map(Stat::from) {
                Ok(stat) if stat.kind != kind => Err(Errno::LOOP),
                Ok(stat) => match node(folder, &plain, &stat) {
                    Ok(kind) => {
                        visitor.node(path, Thing::Named(folder, &plain), stat, kind)?;
                        return Ok(None);
                    }
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            }
        }
        FileType::Unknown => {
            visitor.unreadable(path, "it is of a kind that this version does not know".into())?;
            return Ok(None);
        }
    };
    match met {
        Ok(folder) => Ok(Some(folder)),
        // A folder that may not be listed is still one: it keeps its place, mode and owner.
        Err(Errno::ACCESS) if name.kind == FileType::Directory => {
            if let Ok(stat) = rustix::fs::statat(folder, plain.as_c_str(), AtFlags::SYMLINK_NOFOLLOW).map(Stat::from)
                && stat.kind == FileType::Directory
            {
                visitor.folder(path, Thing::Named(folder, &plain), &stat)?;
            }
            visitor.unreadable(path, format!("could not list the folder: {}", std::io::Error::from(Errno::ACCESS)))?;
            Ok(None)
        }
        Err(error) => {
            let why = match error {
                Errno::NOENT => "it vanished while the folder was read".into(),
                Errno::LOOP | Errno::NOTDIR | Errno::NXIO => "it was replaced while the folder was read".into(),
                error => format!("could not open it: {}", std::io::Error::from(error)),
            };
            visitor.unreadable(path, why)?;
            Ok(None)
        }
    }
}

/// What a link, FIFO or device is.
fn node(folder: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> rustix::io::Result<EntryKind> {
    let device = |block| {
        let (major, minor) = (rustix::fs::major(stat.is_device), rustix::fs::minor(stat.is_device));
        EntryKind::Device { block, major, minor }
    };
    Ok(match stat.kind {
        FileType::Fifo => EntryKind::Fifo,
        FileType::CharacterDevice => device(false),
        FileType::BlockDevice => device(true),
        _ => EntryKind::Link { target: rustix::fs::readlinkat(folder, name, Vec::new())?.into_bytes() },
    })
}

/// The names in a folder, in the order of the catalog.
fn list(folder: &OwnedFd) -> std::io::Result<Vec<Name>> {
    let mut buffer = Vec::with_capacity(LISTING);
    let mut listing = RawDir::new(folder, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems do not tell; what is gone by now is found missing when it is opened.
            FileType::Unknown => rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::RegularFile, |stat| FileType::from_raw_mode(stat.st_mode)),
            known => known,
        };
        let mut key = name.to_bytes().to_vec();
        if kind == FileType::Directory {
            key.push(b'/');
        }
        names.push(Name { key, kind });
    }
    names.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Ok(names)
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
