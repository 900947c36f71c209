//! Where a thing is that a walk has met, and how it is opened when it is wanted.
//!
//! Does not decide what is wanted.

use super::Stat;
use crate::attributes::Thing;
use crate::entry::EntryKind;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Where a thing is; the path that is told along with it ends in its name.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// It is open: a folder, or the single file that a dataset is.
    Opened(Arc<OwnedFd>),
    /// In this folder.
    In(Arc<OwnedFd>),
}

impl Place {
    /// What to ask for attributes.
    pub(crate) fn thing<'a>(&'a self, path: &'a [u8]) -> Thing<'a> {
        match self {
            Self::Opened(fd) => Thing::Opened(fd.as_fd()),
            Self::In(folder) => Thing::Named(folder.as_fd(), last_part(path)),
        }
    }

    /// Opens the file, and tells what it is now.
    pub(crate) fn open(&self, path: &[u8]) -> rustix::io::Result<(File, Stat)> {
        let file = match self {
            Self::Opened(fd) => rustix::io::fcntl_dupfd_cloexec(fd, 0)?,
            Self::In(folder) => open_at(folder, last_part(path), OFlags::empty())?,
        };
        let stat = Stat::from(rustix::fs::fstat(&file)?);
        if stat.kind == FileType::RegularFile { Ok((File::from(file), stat)) } else { Err(Errno::LOOP) }
    }

    /// The descriptor that is held open for it.
    pub(super) fn held(&self) -> &Arc<OwnedFd> {
        let (Self::Opened(fd) | Self::In(fd)) = self;
        fd
    }
}

/// The name that a path ends in, without the slash of a folder.
pub(super) fn last_part(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    path.iter().rposition(|b| *b == b'/').map_or(path, |slash| &path[slash + 1..])
}

/// Opens for reading without following a last link and without blocking; reading does not change the access time
/// where this user may ask for that.
pub(super) fn open_at<P: rustix::path::Arg + Copy>(folder: impl AsFd, path: P, more: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | more;
    match rustix::fs::openat(&folder, path, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(&folder, path, flags, Mode::empty()),
        other => other,
    }
}

/// What a link, FIFO or device is.
pub(crate) fn node_kind(place: &Place, path: &[u8], stat: &Stat) -> rustix::io::Result<EntryKind> {
    let device = |block| {
        let (major, minor) = (rustix::fs::major(stat.is_device), rustix::fs::minor(stat.is_device));
        EntryKind::Device { block, major, minor }
    };
    Ok(match stat.kind {
        FileType::Fifo => EntryKind::Fifo,
        FileType::CharacterDevice => device(false),
        FileType::BlockDevice => device(true),
        // What is no link any more is said to be invalid.
        _ => match rustix::fs::readlinkat(place.held(), last_part(path), Vec::new()) {
            Ok(target) => EntryKind::Link { target: target.into_bytes() },
            Err(Errno::INVAL) => return Err(Errno::LOOP),
            Err(error) => return Err(error),
        },
    })
}

/// Why a thing that was met could not be opened, as the errors ledger says it.
pub(crate) fn why_not(error: Errno) -> String {
    match error {
        Errno::NOENT => "it vanished while the folder was read".into(),
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO => "it was replaced while the folder was read".into(),
        error => format!("could not open it: {}", std::io::Error::from(error)),
    }
}
