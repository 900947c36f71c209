//! What is to be done about one entry, by what is in its place: the rules of `--overwrite`.
//!
//! Writes nothing, except that it opens closed folders of an ordinary user's own so that it can look into them.

use super::jobs::{FileJob, NodeJob};
use super::journal::{Before, Mode};
use super::nodes::Node;
use super::options::Overwrite;
use super::owner::Meta;
use super::same::same_bytes;
use super::target::{Target, file_type};
use crate::attributes::{Attributes, Thing};
use crate::entry::{ACCESS, DEFAULT, FileDigest, XattrMap};
use crate::snapshot::SnapshotReader;
use base::{Error, Result};
use rustix::fs::{FileType, Stat};
use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Nothing is there.
    Make,
    /// Something of this kind is there and makes way.
    Replace(FileType),
    /// Its content is right; owner, attributes, mode or time are not.
    Dress,
    /// It is there just so.
    Same,
    /// It is there, is not so, and stays.
    Left,
    /// It cannot be restored.
    Refused(Error),
}

/// The judge of one restore.
pub(super) struct Judge<'a> {
    reader: &'a SnapshotReader,
    pub(super) mode: Mode,
    /// Whether anything can be in the target.
    used: bool,
    /// Whether size and time of a file tell that it is whole: what this restore wrote before a power cut may not be.
    times_tell: bool,
    /// Folders that this restore made before it was cut off.
    made: HashSet<Vec<u8>>,
    /// Folders that could not be: nothing in them can.
    blocked: HashSet<Vec<u8>>,
    /// Files with several names that were met, and which entry or group each one is of.
    claimed: HashMap<(u64, u64), Claim>,
    /// Whether folders may be opened: not where nothing is to change.
    opens: bool,
    /// Bytes on the disk that make way.
    pub(super) freed: u64,
    attributes: Attributes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Claim {
    Group(u64),
    Path(Vec<u8>),
}

impl<'a> Judge<'a> {
    pub(super) fn new(reader: &'a SnapshotReader, mode: Mode, used: bool, before: Option<&Before>, opens: bool) -> Self {
        Self {
            reader,
            mode,
            used,
            times_tell: before.is_none_or(|before| before.same_boot),
            made: before.map(|before| before.folders.clone()).unwrap_or_default(),
            blocked: HashSet::new(),
            claimed: HashMap::new(),
            opens,
            freed: 0,
            attributes: Attributes::default(),
        }
    }

    /// Whether a folder was made by this restore.
    pub(super) fn owns(&self, folder: &[u8]) -> bool {
        self.mode == Mode::Fresh || self.made.contains(folder)
    }

    /// Notes a folder as this restore's own.
    pub(super) fn own(&mut self, folder: &[u8]) {
        if self.mode != Mode::Fresh {
            self.made.insert(folder.to_vec());
        }
    }

    /// Whether a folder above an entry could not be.
    pub(super) fn is_blocked(&self, path: &[u8]) -> bool {
        !self.blocked.is_empty()
            && path.iter().enumerate().any(|(at, b)| *b == b'/' && at + 1 < path.len() && self.blocked.contains(&path[..=at]))
    }

    /// What is there. Where nothing can be, nobody looks.
    fn look<'t>(&self, target: Option<&'t mut Target>, path: &[u8]) -> Result<Option<(&'t mut Target, Stat)>> {
        match target {
            Some(target) if self.used => Ok(target.look(path)?.map(|stat| (target, stat))),
            _ => Ok(None),
        }
    }

    /// A folder; one that is there is kept, and is `Same`, `Left` or `Dress`.
    pub(super) fn folder(&mut self, target: Option<&mut Target>, path: &[u8], meta: &Meta) -> Verdict {
        let verdict = self.try_folder(target, path, meta).unwrap_or_else(Verdict::Refused);
        if matches!(verdict, Verdict::Refused(_)) {
            self.blocked.insert(path.to_vec());
        }
        verdict
    }

    fn try_folder(&mut self, target: Option<&mut Target>, path: &[u8], meta: &Meta) -> Result<Verdict> {
        let Some((target, stat)) = self.look(target, path)? else { return Ok(Verdict::Make) };
        let kind = file_type(&stat);
        if kind != FileType::Directory {
            return Ok(match self.mode {
                Mode::Fresh | Mode::Into(Overwrite::Always) => Verdict::Replace(kind),
                _ => Verdict::Refused(Error::refused(format!("{} is there, and is to be a folder", named(kind)))),
            });
        }
        if self.owns(path) {
            if self.opens {
                target.reopen_folder(path)?;
            }
            return Ok(Verdict::Dress);
        }
        let dressed = self.is_dressed(target, path, &stat, meta)?;
        if self.opens {
            target.open_up(path, &stat)?;
        }
        Ok(match self.mode {
            _ if dressed => Verdict::Same,
            Mode::Into(Overwrite::Never) => Verdict::Left,
            _ => Verdict::Dress,
        })
    }

    /// A regular file, by its own.
    pub(super) fn file(&mut self, target: Option<&mut Target>, file: &FileJob, digest: FileDigest) -> Verdict {
        self.try_file(target, file, digest).unwrap_or_else(Verdict::Refused)
    }

    fn try_file(&mut self, target: Option<&mut Target>, file: &FileJob, digest: FileDigest) -> Result<Verdict> {
        let Some((target, stat)) = self.look(target, &file.path)? else { return Ok(Verdict::Make) };
        let kind = file_type(&stat);
        if kind != FileType::RegularFile {
            return self.other(target, &file.path, kind);
        }
        let alike = same_file(&stat, file.size, &file.meta);
        let right = |this: &Self, target: &mut Target| {
            let expected = (file.size, file.sparse.as_ref(), digest);
            let shown = target.shown(&file.path).display().to_string();
            u64::try_from(stat.st_size).is_ok_and(|size| size == file.size)
                // What cannot be read is written anew.
                && target.open(&file.path).and_then(|there| same_bytes(this.reader, expected, &there, &shown)).unwrap_or(false)
        };
        let Mode::Into(overwrite) = self.mode else {
            return Ok(if alike && (self.times_tell || right(self, target)) { Verdict::Same } else { Verdict::Replace(kind) });
        };
        let own = self.claim(&stat, file);
        let dressed = self.is_dressed(target, &file.path, &stat, &file.meta)?;
        if overwrite == Overwrite::Never {
            return Ok(if alike && dressed && own { Verdict::Same } else { Verdict::Left });
        }
        let trusted = alike && overwrite == Overwrite::Changed && self.times_tell;
        let keeps = own && (trusted || right(self, target));
        if !keeps && stat.st_nlink == 1 {
            self.freed += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
        Ok(match keeps {
            false => Verdict::Replace(kind),
            true if dressed => Verdict::Same,
            // Its other names may be somebody else's.
            true if stat.st_nlink > 1 => Verdict::Replace(kind),
            true => Verdict::Dress,
        })
    }

    /// Whether a file with several names may stay that of this entry: two entries that are not one file must not be one.
    fn claim(&mut self, stat: &Stat, file: &FileJob) -> bool {
        if stat.st_nlink < 2 {
            return true;
        }
        let claim = file.group.map_or_else(|| Claim::Path(file.path.clone()), Claim::Group);
        #[expect(clippy::useless_conversion, reason = "their width is the platform's")]
        let key = (u64::from(stat.st_dev), u64::from(stat.st_ino));
        *self.claimed.entry(key).or_insert_with(|| claim.clone()) == claim
    }

    /// A further name of the thing `origin`, which is there as it should be.
    pub(super) fn name(&mut self, target: &mut Target, path: &[u8], origin: &[u8]) -> Result<Verdict> {
        let Some((target, stat)) = self.look(Some(target), path)? else { return Ok(Verdict::Make) };
        let kind = file_type(&stat);
        let same = target.look(origin)?.is_some_and(|origin| (origin.st_dev, origin.st_ino) == (stat.st_dev, stat.st_ino));
        Ok(match self.mode {
            _ if same => Verdict::Same,
            _ if kind == FileType::Directory => return self.other(target, path, kind),
            Mode::Into(Overwrite::Never) => Verdict::Left,
            _ => Verdict::Replace(kind),
        })
    }

    /// A link, FIFO or device.
    pub(super) fn node(&mut self, target: Option<&mut Target>, job: &NodeJob) -> Verdict {
        self.try_node(target, job).unwrap_or_else(Verdict::Refused)
    }

    fn try_node(&mut self, target: Option<&mut Target>, job: &NodeJob) -> Result<Verdict> {
        let NodeJob { path, node, meta, .. } = job;
        let Some((target, stat)) = self.look(target, path)? else { return Ok(Verdict::Make) };
        let kind = file_type(&stat);
        let alike = node.is(&stat)
            && match node {
                Node::Link(says) => target.read_link(path)? == *says,
                Node::Fifo | Node::Device { .. } => true,
            };
        if !alike {
            return self.other(target, path, kind);
        }
        let dressed = self.is_dressed(target, path, &stat, meta)?;
        Ok(match self.mode {
            _ if dressed => Verdict::Same,
            Mode::Into(Overwrite::Never) => Verdict::Left,
            _ => Verdict::Replace(kind),
        })
    }

    /// Something else stands in the place of what is no folder.
    fn other(&self, target: &mut Target, path: &[u8], kind: FileType) -> Result<Verdict> {
        let folder = kind == FileType::Directory;
        Ok(match self.mode {
            Mode::Into(Overwrite::Never) => Verdict::Left,
            Mode::Into(Overwrite::Changed) if folder => {
                Verdict::Refused(Error::refused("a folder is there; --overwrite=always replaces it if it is empty"))
            }
            _ if folder && !target.is_empty(path)? => {
                Verdict::Refused(Error::refused("a folder is there that is not empty, and restores empty no folder"))
            }
            _ => Verdict::Replace(kind),
        })
    }

    /// Whether a folder that was there is as it should be, also now that things came into it.
    pub(super) fn is_finished(&mut self, target: &mut Target, path: &[u8], meta: &Meta) -> Result<bool> {
        match target.look(path)? {
            Some(stat) if self.mode != Mode::Fresh => self.is_dressed(target, path, &stat, meta),
            _ => Ok(false),
        }
    }

    /// Whether owner, attributes, mode and time are as they should be.
    fn is_dressed(&mut self, target: &mut Target, path: &[u8], stat: &Stat, meta: &Meta) -> Result<bool> {
        if !same_stat(stat, meta) {
            return Ok(false);
        }
        let attributes = &mut self.attributes;
        let found = target.named(path, |folder, name| attributes.read(Thing::Named(folder, name.as_bytes()), stat.st_dev))?;
        let found = found.unwrap_or_default();
        let Some(worn) = &meta.worn else {
            return Ok(found.acl.is_none() && found.default_acl.is_none() && !found.xattrs.keys().any(|name| is_users(name)));
        };
        let wanted = self.reader.xattrs(&worn.xattrs)?;
        // What the system adds by itself, labels above all, is no difference.
        let known = |map: &XattrMap| map.keys().filter(|name| is_users(name) || wanted.contains_key(*name)).count();
        Ok(found.acl == worn.acl
            && found.default_acl == worn.default_acl
            && known(&found.xattrs) == wanted.len()
            && wanted.iter().all(|(name, value)| found.xattrs.get(name) == Some(value)))
    }
}

fn named(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Symlink => "a link",
        FileType::Directory => "a folder",
        _ => "a special file",
    }
}

fn same_time(stat: &Stat, meta: &Meta) -> bool {
    (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(-1)) == (meta.mtime.tv_sec, meta.mtime.tv_nsec)
}

fn same_owner(stat: &Stat, meta: &Meta) -> bool {
    meta.owner.is_none_or(|(user, group)| (stat.st_uid, stat.st_gid) == (user.as_raw(), group.as_raw()))
}

/// Whether owner, mode and time are as they should be.
pub(super) fn same_stat(stat: &Stat, meta: &Meta) -> bool {
    // A link's mode is no mode.
    let mode = file_type(stat) == FileType::Symlink || stat.st_mode & 0o7777 == meta.mode.as_raw_mode();
    mode && same_owner(stat, meta) && same_time(stat, meta)
}

/// Whether an attribute is one that users set.
fn is_users(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == ACCESS || name == DEFAULT || name == b"security.capability"
}

/// Whether a stat is that of a finished file: its time is what a restore sets last.
pub(super) fn same_file(stat: &Stat, size: u64, meta: &Meta) -> bool {
    file_type(stat) == FileType::RegularFile && u64::try_from(stat.st_size).is_ok_and(|found| found == size) && same_time(stat, meta)
}
