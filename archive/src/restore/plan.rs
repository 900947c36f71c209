//! From chosen entries to jobs: what must be made, and what can stay.
//!
//! Writes nothing; a dry run is planned and then told instead of done.

use super::jobs::{FileJob, FolderJob, Job, NodeJob, Origin, Thing};
use super::journal::Mode;
use super::judge::{Judge, Verdict};
use super::nodes::Node;
use super::options::Overwrite;
use super::owner::{Meta, Owners};
use super::select::Selected;
use super::tally::Tally;
use super::target::{Target, strip};
use crate::entry::EntryKind;
use crate::read::content::Expected;
use crate::read::order::Wanted;
use base::{Blake3, Error, Result};
use std::collections::HashMap;

/// Makes jobs of entries.
pub(super) struct Planner<'a> {
    pub(super) judge: Judge<'a>,
    owners: Owners,
    levels: usize,
    /// The name of this restore's mark.
    mark: String,
    /// What came to which path where folders are taken off their fronts, and whether it is a folder.
    taken: HashMap<Blake3, bool>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(judge: Judge<'a>, owners: Owners, levels: usize, mark: String) -> Self {
        Self { judge, owners, levels, mark, taken: HashMap::new() }
    }

    /// The job that an entry needs, if it needs one; what it does not need is counted.
    ///
    /// # Errors
    /// When going on makes no sense.
    pub(super) fn plan(&mut self, selected: Selected, target: Option<&mut Target>, tally: &mut Tally<'_>) -> Result<Option<Job>> {
        let Selected { entry, named } = selected;
        let Some(path) = strip(&entry.path, self.levels) else { return Ok(None) };
        if let Some(why) = self.objection(&path, entry.kind == EntryKind::Dir) {
            // A folder that is there from another path is as good.
            let why = if why.is_empty() { return Ok(None) } else { Error::refused(why) };
            return tally.settle(&entry.path, 0, Verdict::Refused(why)).map(|()| None);
        }
        let meta = self.owners.meta(&entry);
        let group = entry.hard_link;
        let node = match entry.kind {
            EntryKind::Dir => return self.folder(path, meta, named, target, tally),
            EntryKind::File { size, content, digest, sparse } => {
                let wanted = Wanted { content, expected: Expected::of(size, sparse.as_ref(), digest) };
                let file = FileJob { path, meta, group, size, sparse, there: None, dress: false };
                return self.thing(Thing::File(file, wanted), target, tally);
            }
            EntryKind::Link { target } => Node::Link(target),
            EntryKind::Fifo => Node::Fifo,
            EntryKind::Device { block, major, minor } => Node::Device { block, major, minor },
        };
        self.thing(Thing::Node(NodeJob { path, node, meta, group, there: None }), target, tally)
    }

    /// Why something cannot come to `path`; empty where it need not.
    fn objection(&mut self, path: &[u8], folder: bool) -> Option<&'static str> {
        let inner = path.strip_suffix(b"/").unwrap_or(path);
        let name = inner.rsplit(|b| *b == b'/').next().unwrap_or_default();
        if name.starts_with(self.mark.as_bytes()) {
            return Some("restores use this name themselves");
        }
        if self.levels > 0 {
            let key = Blake3::of(inner);
            match self.taken.get(&key) {
                Some(true) if folder => return Some(""),
                Some(_) => return Some("something else of the snapshot comes to the same place"),
                None => drop(self.taken.insert(key, folder)),
            }
        }
        self.judge.is_blocked(path).then_some("the folder that it is in could not be made")
    }

    fn thing(&mut self, thing: Thing, target: Option<&mut Target>, tally: &mut Tally<'_>) -> Result<Option<Job>> {
        if let Some(group) = thing.group() {
            if tally.origins.contains_key(&group) {
                return Ok(Some(Job::Name(thing)));
            }
            tally.origins.insert(group, Origin { path: thing.path().to_vec(), made: None });
        }
        match thing.judged(&mut self.judge, target) {
            (thing, None) => Ok(Some(Job::Make(thing))),
            (thing, Some(verdict)) => tally.settle_thing(&thing, verdict).map(|()| None),
        }
    }

    fn folder(
        &mut self,
        path: Vec<u8>,
        meta: Meta,
        named: bool,
        target: Option<&mut Target>,
        tally: &mut Tally<'_>,
    ) -> Result<Option<Job>> {
        let verdict = self.judge.folder(target, &path, &meta);
        let finish = named || self.judge.owns(&path);
        let (make, finish, counts) = match verdict {
            Verdict::Make => (Some(None), true, true),
            Verdict::Replace(kind) => (Some(Some(kind)), true, true),
            Verdict::Dress => (None, finish, finish),
            Verdict::Same => {
                tally.settle(&path, 0, Verdict::Same)?;
                // What comes into it changes its time.
                (None, named && self.judge.mode != Mode::Into(Overwrite::Never), false)
            }
            Verdict::Left if !named => return Ok(None),
            verdict => return tally.settle(&path, 0, verdict).map(|()| None),
        };
        if make.is_some() {
            self.judge.own(&path);
        }
        Ok(Some(Job::Folder(FolderJob { path, meta, make, finish, counts })))
    }
}
