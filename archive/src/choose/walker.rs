//! Stands between the walk and whoever is told of it, and lets through what is chosen.
//!
//! Looks at no more of the disk than whether a folder is a cache.

use super::{CACHE_SIGNATURE, CACHE_TAG, Choice, Verdict, Why};
use crate::walk::{Place, Stat, Visitor};
use base::Result;
use rustix::fs::OFlags;
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// A folder that was entered.
struct Entered<'a> {
    /// The length of its path.
    path: usize,
    verdict: Verdict<'a>,
    /// Whether it is a cache.
    cache: bool,
}

/// So many folders wait, each with a descriptor; in deeper trees they are told of though nothing below may be taken.
const WAITING: usize = 64;

/// A folder that is told of when something below it is taken.
struct Pending<'a> {
    path: Vec<u8>,
    place: Place,
    stat: Stat,
    why: Why<'a>,
}

/// Tells `inner` of what `choice` takes.
pub(crate) struct Chooser<'a> {
    choice: &'a Choice,
    inner: &'a mut dyn Visitor,
    entered: Vec<Entered<'a>>,
    pending: Vec<Pending<'a>>,
    /// The verdict on the path that was asked for last.
    verdict: Verdict<'a>,
    /// The root's file system.
    device: Option<u64>,
    /// Which of the names were met.
    met: Vec<bool>,
}

impl<'a> Chooser<'a> {
    pub(crate) fn new(choice: &'a Choice, inner: &'a mut dyn Visitor) -> Self {
        let met = vec![false; choice.names.as_ref().map_or(0, |names| names.all().len())];
        Self { choice, inner, entered: Vec::new(), pending: Vec::new(), verdict: Verdict::Take, device: None, met }
    }

    /// To be called after the walk: tells of folders that came to nothing, and of names that were not met.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.drop_pending(&[])?;
        let Some(names) = &self.choice.names else { return Ok(()) };
        for sentence in names.wrong() {
            self.inner.unreadable(b"", sentence.clone())?;
        }
        // What is left out on purpose is not missed.
        let missed = names.all().iter().zip(&self.met).filter(|(name, met)| !**met && !name.is_empty());
        for (name, _) in missed.filter(|(name, _)| self.choice.judge(name, false) == Verdict::Take) {
            self.inner.unreadable(name, "it is named in files_from, and is not there".into())?;
        }
        Ok(())
    }

    /// Folders on the way to `path` are told of now; others that wait came to nothing.
    fn take(&mut self, path: &[u8]) -> Result<()> {
        self.drop_pending(path)?;
        for folder in self.pending.drain(..) {
            self.inner.folder(&folder.path, &folder.place, &folder.stat)?;
        }
        self.meet(path);
        Ok(())
    }

    /// What is named and met is not missed, whatever becomes of it.
    fn meet(&mut self, path: &[u8]) {
        if let Some(at) = self.choice.names.as_ref().and_then(|names| names.find(plain(path))) {
            self.met[at] = true;
        }
    }

    fn drop_pending(&mut self, path: &[u8]) -> Result<()> {
        while let Some(folder) = self.pending.pop_if(|folder| path.is_empty() || !path.starts_with(&folder.path)) {
            self.inner.left_out(&folder.path, folder.why)?;
        }
        Ok(())
    }

    fn leave(&mut self, path: &[u8], why: Why<'_>) -> Result<bool> {
        self.inner.left_out(path, why)?;
        Ok(false)
    }
}

impl Visitor for Chooser<'_> {
    fn wants(&mut self, path: &[u8], is_dir: bool) -> Result<bool> {
        let name = plain(path);
        let parent = name.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
        while self.entered.pop_if(|folder| folder.path > parent).is_some() {}
        let (above, cache) = self.entered.last().map_or((Verdict::Take, false), |folder| (folder.verdict, folder.cache));
        if cache && &name[parent..] != CACHE_TAG {
            return self.leave(path, Why::Cache);
        }
        self.verdict = self.choice.judge_in(above, name, is_dir);
        match self.verdict {
            Verdict::Leave(why) => self.leave(path, why),
            Verdict::Take | Verdict::Pass(_) => Ok(true),
        }
    }

    fn enters(&mut self, path: &[u8], folder: BorrowedFd<'_>, stat: &Stat) -> Result<bool> {
        let root = *self.device.get_or_insert(stat.device);
        if path.is_empty() {
            self.entered.push(Entered { path: 0, verdict: Verdict::Take, cache: false });
        }
        let why = if self.choice.own.contains(&(stat.device, stat.inode)) {
            Why::Own
        } else if self.choice.one_file_system && stat.device != root {
            Why::OtherFileSystem
        } else {
            let cache = self.choice.exclude_caches && !path.is_empty() && is_cache(folder);
            if !path.is_empty() {
                self.entered.push(Entered { path: path.len(), verdict: self.verdict, cache });
            }
            return Ok(true);
        };
        self.leave(path, why)
    }

    fn folder(&mut self, path: &[u8], place: &Place, stat: &Stat) -> Result<()> {
        if let Verdict::Pass(why) = self.verdict {
            self.drop_pending(path)?;
            // One that could not be opened cannot be entered either.
            if let Place::In(_) = place {
                return self.inner.left_out(path, why);
            }
            if self.pending.len() < WAITING {
                self.pending.push(Pending { path: path.to_vec(), place: place.clone(), stat: *stat, why });
                return Ok(());
            }
        }
        self.take(path)?;
        self.inner.folder(path, place, stat)
    }

    fn file(&mut self, path: &[u8], place: &Place, stat: &Stat) -> Result<()> {
        let alone = path.is_empty();
        if !alone && self.choice.max_file_size.is_some_and(|most| stat.size > most) {
            self.meet(path);
            return self.inner.left_out(path, Why::Size);
        }
        if !alone && self.choice.one_file_system && self.device.is_some_and(|root| stat.device != root) {
            self.meet(path);
            return self.inner.left_out(path, Why::OtherFileSystem);
        }
        self.take(path)?;
        self.inner.file(path, place, stat)
    }

    fn node(&mut self, path: &[u8], place: &Place, stat: &Stat) -> Result<()> {
        self.take(path)?;
        self.inner.node(path, place, stat)
    }

    fn skipped(&mut self, path: &[u8], why: &str) -> Result<()> {
        self.meet(path);
        self.inner.skipped(path, why)
    }

    fn unreadable(&mut self, path: &[u8], why: String) -> Result<()> {
        // A folder on the way that cannot be entered may hold what was to be taken.
        self.meet(path);
        self.inner.unreadable(path, why)
    }

    fn left_out(&mut self, path: &[u8], why: Why<'_>) -> Result<()> {
        self.inner.left_out(path, why)
    }
}

/// A path without the slash of a folder.
fn plain(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// Whether a folder holds a `CACHEDIR.TAG` that begins as it must.
fn is_cache(folder: BorrowedFd<'_>) -> bool {
    let tag = Path::new(std::str::from_utf8(CACHE_TAG).unwrap_or_default());
    let Ok(fd) = base::beneath::open(folder, tag, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) else { return false };
    let mut begin = [0; CACHE_SIGNATURE.len()];
    let file = File::from(fd);
    file.metadata().is_ok_and(|meta| meta.is_file()) && (&file).read_exact(&mut begin).is_ok() && begin == CACHE_SIGNATURE
}
