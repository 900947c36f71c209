//! Giving what is restored its owner, attributes, mode and time, in the one order in which none takes another away.
//!
//! Does not make anything. What cannot be given is told once for each kind, not for each file.

use super::owner::{Meta, Worn};
use super::target::times;
use crate::entry::{ACCESS, Acl, DEFAULT, Who};
use crate::problems::Problems;
use crate::snapshot::SnapshotReader;
use base::{At, Error, Kind, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What could not be given to some, by kind.
#[derive(Debug, Default)]
pub(super) struct Lacks {
    kinds: BTreeMap<String, Lack>,
}

#[derive(Debug)]
struct Lack {
    count: u64,
    first: String,
    why: String,
}

/// What is not given to things of others, because only root gives things away; nobody expects it of an ordinary user.
pub(super) const OWNER: &str = "their owner";
/// Why they are not.
pub(super) const FOREIGN: &str = "only root gives things to others";

impl Lacks {
    /// `what` could not be given to the thing at `shown`.
    pub(super) fn add(&mut self, what: &str, shown: &Path, why: &str) {
        let lack = self.kinds.entry(what.to_owned()).or_insert_with(|| Lack {
            count: 0,
            first: base::text::printable(&shown.to_string_lossy()),
            why: why.to_owned(),
        });
        lack.count += 1;
    }

    /// Takes in what another thread noted.
    pub(super) fn merge(&mut self, others: Self) {
        for (what, lack) in others.kinds {
            match self.kinds.entry(what) {
                Entry::Vacant(place) => drop(place.insert(lack)),
                Entry::Occupied(mut there) => there.get_mut().count += lack.count,
            }
        }
    }

    /// Tells each kind once. What is no problem is given back as notes.
    pub(super) fn finish(self, problems: &mut Problems<'_>) -> Vec<String> {
        let mut notes = Vec::new();
        for (what, Lack { count, first, why }) in self.kinds {
            let things = if count == 1 { "1 thing".to_owned() } else { format!("{count} things") };
            let line = format!("{things} did not get {what} back, first {first}: {why}");
            if what == OWNER { notes.push(line) } else { problems.add(&Error::failed(line)) }
        }
        notes
    }
}

/// Dresses things.
pub(super) struct Dresser<'a> {
    reader: &'a SnapshotReader,
    pub(super) lacks: Lacks,
}

/// What system calls name: an opened file, or a name in an opened folder that is pinned besides.
#[derive(Clone, Copy)]
enum Thing<'a> {
    Opened(BorrowedFd<'a>),
    Named { folder: BorrowedFd<'a>, name: &'a OsStr, pinned: BorrowedFd<'a>, link: bool },
}

impl Thing<'_> {
    fn chown(self, meta: &Meta) -> rustix::io::Result<()> {
        let Some((user, group)) = meta.owner else { return Ok(()) };
        match self {
            Self::Opened(fd) => rustix::fs::fchown(fd, Some(user), Some(group)),
            Self::Named { folder, name, .. } => rustix::fs::chownat(folder, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn chmod(self, mode: Mode) -> rustix::io::Result<()> {
        match self {
            Self::Opened(fd) => rustix::fs::fchmod(fd, mode),
            // A link has no mode.
            Self::Named { link: true, .. } => Ok(()),
            Self::Named { pinned, .. } => rustix::fs::chmodat(CWD, proc_path(pinned), mode, AtFlags::empty()),
        }
    }

    fn set_times(self, meta: &Meta) -> rustix::io::Result<()> {
        match self {
            Self::Opened(fd) => rustix::fs::futimens(fd, &times(meta)),
            Self::Named { folder, name, .. } => rustix::fs::utimensat(folder, name, &times(meta), AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn set(self, name: &[u8], value: &[u8]) -> rustix::io::Result<()> {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        match self {
            Self::Opened(fd) => rustix::fs::fsetxattr(fd, name.as_c_str(), value, XattrFlags::empty()),
            Self::Named { pinned, .. } => rustix::fs::setxattr(proc_path(pinned), name.as_c_str(), value, XattrFlags::empty()),
        }
    }
}

/// A path to what is opened, whatever it is called now: for calls that take no descriptor of this kind.
fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

impl<'a> Dresser<'a> {
    pub(super) fn new(reader: &'a SnapshotReader) -> Self {
        Self { reader, lacks: Lacks::default() }
    }

    /// An opened file or folder.
    pub(super) fn opened(&mut self, file: impl AsFd, meta: &Meta, shown: &Path) -> Result<()> {
        self.dress(Thing::Opened(file.as_fd()), meta, shown)
    }

    /// A link, FIFO or device that was just made.
    pub(super) fn named(&mut self, folder: BorrowedFd<'_>, name: &OsStr, link: bool, meta: &Meta, shown: &Path) -> Result<()> {
        let pinned =
            rustix::fs::openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).at("open", shown)?;
        self.dress(Thing::Named { folder, name, pinned: pinned.as_fd(), link }, meta, shown)
    }

    /// chown takes the set-id bits and file capabilities away, so the owner comes first; an access control list changes
    /// the mode, so the mode comes after it; and the time marks what is complete, so it comes last.
    fn dress(&mut self, thing: Thing<'_>, meta: &Meta, shown: &Path) -> Result<()> {
        let mut mode = meta.mode;
        if meta.foreign {
            self.lacks.add(OWNER, shown, FOREIGN);
        }
        if let Err(error) = thing.chown(meta) {
            self.lacks.add("the owner that it had", shown, &text(error));
            // It must not run as somebody else than it did.
            mode &= Mode::from_raw_mode(0o1777);
        }
        if let Some(worn) = &meta.worn {
            mode = self.wear(thing, worn, mode, shown)?;
        }
        thing.chmod(mode).at("set the mode of", shown)?;
        thing.set_times(meta).at("set the time of", shown)
    }

    /// Attributes and access control lists. Says which mode is left to be set.
    fn wear(&mut self, thing: Thing<'_>, worn: &Worn, mode: Mode, shown: &Path) -> Result<Mode> {
        match self.reader.xattrs(&worn.xattrs) {
            Ok(map) => {
                // The largest first: a file system that has little room for them fits small ones into what is left.
                let mut all: Vec<_> = map.iter().collect();
                all.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
                for (name, value) in all {
                    if let Err(error) = thing.set(name, value) {
                        let what = format!("the attribute {}", base::text::printable(&String::from_utf8_lossy(name)));
                        self.lacks.add(&what, shown, &text(error));
                    }
                }
            }
            Err(error) if error.kind() == Kind::NotNow => return Err(error),
            Err(error) => self.lacks.add("attributes", shown, &error.one_line()),
        }
        if let Some(Err(error)) = worn.default_acl.as_ref().map(|list| thing.set(DEFAULT, &list.to_xattr())) {
            self.lacks.add("the default access control list", shown, &text(error));
        }
        match worn.acl.as_ref().map(|list| (list, thing.set(ACCESS, &list.to_xattr()))) {
            Some((list, Err(error))) => {
                self.lacks.add("the access control list", shown, &text(error));
                Ok(without_list(mode, list))
            }
            _ => Ok(mode),
        }
    }
}

/// With a list, the mode's middle digit is the mask. Without it, that would be the group's, who may have had less.
fn without_list(mode: Mode, list: &Acl) -> Mode {
    let group = list.0.get(&Who::OwningGroup).copied().unwrap_or(0);
    let mask = list.0.get(&Who::Mask).copied().unwrap_or(7);
    Mode::from_raw_mode(mode.as_raw_mode() & !0o070 | u32::from(group & mask) << 3)
}

/// Takes away what a thing that was there, or what is made in a folder with a default list, has and should not: access
/// control lists and attributes.
pub(super) fn undress(thing: impl AsFd) {
    // No kernel gives a longer list.
    let mut names = vec![0; 64 << 10];
    let Ok(length) = rustix::fs::flistxattr(&thing, names.as_mut_slice()) else { return };
    let ours = |name: &&[u8]| name.starts_with(b"user.") || *name == ACCESS || *name == DEFAULT;
    for name in names[..length].split(|b| *b == 0).filter(ours) {
        // What cannot be taken away stays: whoever restores may do no more.
        let _ = rustix::fs::fremovexattr(&thing, OsStr::from_bytes(name));
    }
}

fn text(error: Errno) -> String {
    let text = std::io::Error::from(error).to_string();
    match error {
        Errno::PERM | Errno::ACCESS => format!("{text}; root may do more"),
        Errno::OPNOTSUPP => "the file system does not keep such".into(),
        _ => text,
    }
}
