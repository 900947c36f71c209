//! The entries of a snapshot in order: all, a part of them, or those of one folder.
//!
//! Reads segments as it comes to them, and keeps one of each level. Does not look into files.

use crate::catalog::Child;
use crate::entry::{Entry, EntryKind};
use crate::epoch::ChunkId;
use crate::manifest::Root;
use crate::read::frames::Frame;
use crate::reference::Member;
use crate::snapshot::SnapshotReader;
use base::{Error, Result};
use std::sync::Arc;

/// A segment of the catalog and how far it was read. Keeps its frame, and copies nothing.
struct Segment {
    frame: Arc<Frame>,
    /// Where it is, for errors.
    at: Member,
    next: usize,
    level: u8,
    /// The key that its first line must have, where it is not read yet.
    first: Option<Vec<u8>>,
}

impl Segment {
    /// The segment at `at`, proven by its id.
    fn open(reader: &SnapshotReader, at: Member, id: &ChunkId, level: u8) -> Result<Self> {
        let (frame, at) = reader.segment_in(at, id)?;
        Ok(Self { frame, at, next: 0, level, first: None })
    }

    /// The next line; `keep` leaves it to be read again.
    fn line(&mut self, keep: bool) -> Option<&[u8]> {
        let rest = self.frame.chunk(self.at.n)?.get(self.next..)?;
        let length = rest.iter().position(|b| *b == b'\n')?;
        if !keep {
            self.next += length + 1;
        }
        Some(&rest[..length])
    }

    /// The line that was read last, as people find it.
    fn shown_line(&self) -> String {
        let read = self.frame.chunk(self.at.n).and_then(|bytes| bytes.get(..self.next)).unwrap_or_default();
        format!("line {} of the catalog's segment {}", read.iter().filter(|b| **b == b'\n').count(), self.at)
    }
}

/// The entries of a snapshot, or of a part of it, in order.
///
/// After an error the iterator goes on behind what could not be read, or ends when the catalog contradicts itself.
pub struct Entries<'a> {
    reader: &'a SnapshotReader,
    stack: Vec<Segment>,
    /// Where to begin; taken when the root has been opened.
    start: Option<Vec<u8>>,
    /// Only paths that begin so.
    prefix: Vec<u8>,
    /// The last key seen; every further one is greater.
    last: Option<Vec<u8>>,
    /// Whether one entry is all that is wanted.
    single: bool,
    over: bool,
}

impl std::fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entries({:?})", self.reader)
    }
}

impl<'a> Entries<'a> {
    /// Those from `start` on whose paths begin with `prefix`.
    pub(crate) fn new(reader: &'a SnapshotReader, start: Vec<u8>, prefix: Vec<u8>) -> Self {
        Self { reader, stack: Vec::new(), start: Some(start), prefix, last: None, single: false, over: false }
    }

    /// No entry.
    pub(crate) fn none(reader: &'a SnapshotReader) -> Self {
        Self { over: true, ..Self::new(reader, Vec::new(), Vec::new()) }
    }

    /// The first of them, and nothing behind it.
    pub(crate) fn first_alone(self) -> Self {
        Self { single: true, ..self }
    }

    fn end(&mut self, error: Error) -> Option<Result<Entry>> {
        self.over = true;
        Some(Err(error.context("the catalog contradicts itself")))
    }

    /// Opens a segment and steps over the lines in front of `start`.
    fn push(&mut self, at: Member, id: &ChunkId, level: u8, first: Option<Vec<u8>>, start: &[u8]) -> Result<()> {
        let mut segment = Segment::open(self.reader, at, id, level)?;
        segment.first = first;
        if level > 0 && !start.is_empty() {
            // The child that may have `start` is the last one that does not begin behind it.
            let mut chosen = segment.next;
            loop {
                let here = segment.next;
                let Some(line) = segment.line(false) else { break };
                if here > 0 && Child::parse(line)?.first.as_slice() > start {
                    break;
                }
                chosen = here;
            }
            if chosen > 0 {
                segment.first = None;
            }
            segment.next = chosen;
        }
        self.stack.push(segment);
        Ok(())
    }

    /// Reads one line: an entry, an error, or nothing to show yet.
    fn step(&mut self) -> Option<Result<Entry>> {
        let Some(segment) = self.stack.last_mut() else {
            self.over = true;
            return None;
        };
        let (level, first) = (segment.level, segment.first.take());
        let Some(line) = segment.line(false) else {
            self.stack.pop();
            return None;
        };
        if level > 0 {
            let child = match Child::parse(line) {
                Ok(child) => child,
                Err(error) => return Some(Err(error.context(segment.shown_line()))),
            };
            return self.descend(child, level, first);
        }
        let entry = match Entry::parse(line) {
            Ok(entry) => entry,
            Err(error) => {
                let last = self.last.as_deref().map(|last| base::text::printable(&String::from_utf8_lossy(last)));
                let behind = last.map(|last| format!(", behind {last:?}")).unwrap_or_default();
                return Some(Err(error.context(format!("{}{behind}", segment.shown_line()))));
            }
        };
        if first.is_some_and(|first| first != entry.path) || self.last.as_ref().is_some_and(|last| *last >= entry.path) {
            return self.end(Error::refused(format!("{} is not in its place", entry.shown_path())));
        }
        self.last = Some(entry.path.clone());
        Some(Ok(entry))
    }

    fn descend(&mut self, child: Child, level: u8, first: Option<Vec<u8>>) -> Option<Result<Entry>> {
        if first.is_some_and(|first| first != child.first) || self.last.as_ref().is_some_and(|last| *last >= child.first) {
            return self.end(Error::refused("a segment is not in its place"));
        }
        if !child.first.starts_with(&self.prefix) && child.first > self.prefix {
            self.over = true;
            return None;
        }
        let start = self.start.clone().unwrap_or_default();
        let from = base::text::printable(&String::from_utf8_lossy(&child.first));
        match self.push(child.at, &child.id, level - 1, Some(child.first), &start) {
            Ok(()) => None,
            Err(error) => Some(Err(error.context(format!("a part of the catalog cannot be read, from {from:?} on")))),
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        if self.stack.is_empty() && !self.over {
            let Root { at, id, level } = self.reader.catalog_root().clone();
            let start = self.start.clone().unwrap_or_default();
            if let Err(error) = self.push(at, &id, level, None, &start) {
                self.over = true;
                return Some(Err(error.context("the catalog cannot be read")));
            }
        }
        while !self.over {
            match self.step() {
                Some(Ok(entry)) => {
                    if let Some(start) = &self.start {
                        if entry.path < *start {
                            continue;
                        }
                        self.start = None;
                    }
                    if entry.path.starts_with(&self.prefix) {
                        self.over = self.single;
                        return Some(Ok(entry));
                    }
                    self.over = true;
                }
                Some(error) => return Some(error),
                None => {}
            }
        }
        None
    }
}

/// How many entries of a folder within are read over before its end is looked up in the catalog, which costs a way from
/// the root down.
const READ_OVER: usize = 64;

/// The entries directly in one folder, in order. After an error it goes on as [`Entries`] does.
pub struct Children<'a> {
    reader: &'a SnapshotReader,
    folder: Vec<u8>,
    entries: Entries<'a>,
    /// The folder within that came last.
    within: Option<Vec<u8>>,
    skipped: usize,
}

impl<'a> Children<'a> {
    /// Those in `folder`, whose path ends in `/` or is empty.
    pub(crate) fn new(reader: &'a SnapshotReader, folder: &[u8]) -> Self {
        let entries = Entries::new(reader, folder.to_vec(), folder.to_vec());
        Self { reader, folder: folder.to_vec(), entries, within: None, skipped: 0 }
    }
}

impl std::fmt::Debug for Children<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Children({:?})", self.reader)
    }
}

impl Iterator for Children<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        loop {
            let entry = match self.entries.next()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            if entry.path == self.folder {
                continue;
            }
            if self.within.as_ref().is_none_or(|within| !entry.path.starts_with(within)) {
                self.within = (entry.kind == EntryKind::Dir).then(|| entry.path.clone());
                self.skipped = 0;
                return Some(Ok(entry));
            }
            self.skipped += 1;
            if self.skipped == READ_OVER
                && let Some(mut behind) = self.within.clone()
            {
                // The first path that can stand behind all that begin with `within`: its last byte, `/`, one higher.
                behind.pop();
                behind.push(b'/' + 1);
                self.entries = Entries::new(self.reader, behind, self.folder.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::{Forge, folder, link};

    /// A folder with more below it than is read over, and what comes before and behind it in the order of bytes.
    fn paths() -> Vec<String> {
        let mut paths: Vec<String> = ["", "a!", "a/", "a/inner/", "a/zz/", "a/zz/x", "a0", "a00/", "a00/x", "b"].map(Into::into).into();
        paths.extend((0..200).map(|n| format!("a/{n:03}")));
        paths.extend((0..READ_OVER + 40).map(|n| format!("a/inner/{n:03}")));
        paths.sort();
        paths
    }

    #[test]
    fn what_is_in_a_folder_within_is_stepped_over() {
        let is_folder = |path: &str| path.is_empty() || path.ends_with('/');
        let entry = |path: &String| if is_folder(path) { folder(path) } else { link(path, "x") };
        for lines in [2, 5] {
            let mut forge = Forge::new();
            forge.segment_lines = lines;
            let forged = forge.finish(paths().iter().map(entry).collect());
            let reader = forged.reader();
            for within in paths().iter().filter(|path| is_folder(path)) {
                let direct = |path: &&String| {
                    path.strip_prefix(within.as_str()).is_some_and(|rest| !rest.is_empty() && !rest.trim_end_matches('/').contains('/'))
                };
                let all = paths();
                let expected: Vec<&String> = all.iter().filter(direct).collect();
                let found: Vec<String> = reader.children(within.as_bytes()).map(|entry| entry.unwrap().shown_path()).collect();
                assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{within} with {lines} lines");
            }
            // Its end was looked up, and not come by: less is read than all of it.
            let reads = || std::mem::take(&mut *forged.packs.reads.lock().unwrap()).len();
            reads();
            assert_eq!(forged.reader().children(b"").count(), 5);
            let stepped = reads();
            assert_eq!(forged.reader().entries().count(), paths().len());
            assert!(stepped < reads(), "{lines} lines");
        }
    }
}
