//! Things without content beside folders: links, FIFOs and devices, made by name in an opened folder.
//!
//! Does not give them owner, mode or time.

use super::target::file_type;
use rustix::fs::{FileType, Mode, Stat};
use rustix::io::Result;
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// A symbolic link, and what it says.
    Link(Vec<u8>),
    /// A FIFO.
    Fifo,
    /// A device.
    Device { block: bool, major: u32, minor: u32 },
}

impl Node {
    /// What it is called.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Link(_) => "link",
            Self::Fifo => "FIFO",
            Self::Device { .. } => "device",
        }
    }

    /// Makes it; nobody but the owner may use it at first.
    pub(super) fn make(&self, folder: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        let mode = Mode::RUSR | Mode::WUSR;
        match self {
            Self::Link(target) => rustix::fs::symlinkat(OsStr::from_bytes(target), folder, name),
            Self::Fifo => rustix::fs::mknodat(folder, name, FileType::Fifo, mode, 0),
            Self::Device { block, major, minor } => {
                let kind = if *block { FileType::BlockDevice } else { FileType::CharacterDevice };
                rustix::fs::mknodat(folder, name, kind, mode, rustix::fs::makedev(*major, *minor))
            }
        }
    }

    /// Whether a stat is that of such a thing; of a link it does not tell what it says.
    pub(super) fn is(&self, stat: &Stat) -> bool {
        match self {
            Self::Link(_) => file_type(stat) == FileType::Symlink,
            Self::Fifo => file_type(stat) == FileType::Fifo,
            Self::Device { block, major, minor } => {
                let kind = if *block { FileType::BlockDevice } else { FileType::CharacterDevice };
                file_type(stat) == kind && stat.st_rdev == rustix::fs::makedev(*major, *minor)
            }
        }
    }
}
