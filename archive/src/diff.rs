//! What differs between two snapshots. Both catalogs are trees of segments with digests: what is equal in both is not read.
//!
//! Reads no contents: a file's digest says whether they are the same.

use crate::entry::{Attributes, Entry, EntryKind, Xattrs};
use crate::snapshot::SnapshotReader;
use crate::tree::{Branch, Line};
use base::{Error, Kind, Monitor, Result};
use std::cmp::Ordering;

/// In what one path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// It is another kind of thing.
    Type,
    /// What is in the file.
    Content,
    /// Where the link points, or which device it is.
    Target,
    /// Permission bits.
    Mode,
    /// Owner or group.
    Owner,
    /// Access control lists or extended attributes.
    Attributes,
    /// When it was changed.
    Time,
}

impl Aspect {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Content => "content",
            Self::Target => "target",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Attributes => "attributes",
            Self::Time => "time",
        }
    }
}

/// One path that is not the same in both.
#[derive(Debug)]
pub enum Change {
    /// Only the later snapshot has it.
    Added(Entry),
    /// Only the earlier one has it.
    Removed(Entry),
    /// Both have it, and it differs in these aspects.
    Changed(Box<Entry>, Box<Entry>, Vec<Aspect>),
}

/// How much work a comparison was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Segments of both catalogs that were read.
    pub read: u64,
    /// Pairs of segments that were equal and left out, with all that is below them.
    pub skipped: u64,
    /// Parts of a catalog that could not be read; of what is in them nothing is said.
    pub problems: Vec<String>,
}

/// Tells `each` what differs between `before` and `after` at `path` and below, in the order of paths, until it returns false. The
/// empty path is everything. Snapshots of which the client had lost its secret in between are compared by size and time.
///
/// # Errors
/// Of kind not-now when packs cannot be reached for now.
pub fn compare(
    before: &SnapshotReader,
    after: &SnapshotReader,
    path: &[u8],
    monitor: &dyn Monitor,
    each: &mut dyn FnMut(Change) -> bool,
) -> Result<Compared> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let digests = before.secrets() == after.secrets();
    let mut old = Side::new(before, path);
    let mut new = Side::new(after, path);
    let mut compared = Compared::default();
    loop {
        old.fill(&mut compared, monitor)?;
        new.fill(&mut compared, monitor)?;
        let change = match (old.front.take(), new.front.take()) {
            (None, None) => return Ok(compared),
            (Some(Line::Branch(a)), Some(Line::Branch(b))) if digests && a.id == b.id && a.level == b.level => {
                compared.skipped += 1;
                old.passed();
                new.passed();
                None
            }
            (Some(Line::Branch(a)), Some(Line::Branch(b))) => {
                // What begins earlier is opened first: what is equal may follow in it. Of two that begin together, the higher.
                let order = a.first.cmp(&b.first).then(b.level.cmp(&a.level));
                if order != Ordering::Greater {
                    old.open(a, &mut compared, monitor)?
                } else {
                    old.front = Some(Line::Branch(a))
                }
                if order != Ordering::Less {
                    new.open(b, &mut compared, monitor)?
                } else {
                    new.front = Some(Line::Branch(b))
                }
                None
            }
            (Some(Line::Branch(a)), Some(Line::Entry(b))) if a.first.as_ref().is_some_and(|first| *first > b.path) => {
                old.front = Some(Line::Branch(a));
                new.passed();
                (!old.says_nothing_here()).then_some(Change::Added(*b))
            }
            (Some(Line::Branch(a)), b) => {
                new.front = b;
                old.open(a, &mut compared, monitor)?;
                None
            }
            (Some(Line::Entry(a)), Some(Line::Branch(b))) if b.first.as_ref().is_some_and(|first| *first > a.path) => {
                new.front = Some(Line::Branch(b));
                old.passed();
                (!new.says_nothing_here()).then_some(Change::Removed(*a))
            }
            (a, Some(Line::Branch(b))) => {
                old.front = a;
                new.open(b, &mut compared, monitor)?;
                None
            }
            (Some(Line::Entry(a)), Some(Line::Entry(b))) => match a.path.cmp(&b.path) {
                Ordering::Less => {
                    new.front = Some(Line::Entry(b));
                    old.passed();
                    (!new.says_nothing_here()).then_some(Change::Removed(*a))
                }
                Ordering::Greater => {
                    old.front = Some(Line::Entry(a));
                    new.passed();
                    (!old.says_nothing_here()).then_some(Change::Added(*b))
                }
                Ordering::Equal => {
                    old.passed();
                    new.passed();
                    let aspects = aspects((before, &a), (after, &b), digests)?;
                    (!aspects.is_empty()).then_some(Change::Changed(a, b, aspects))
                }
            },
            (Some(Line::Entry(a)), None) => {
                old.passed();
                (!new.says_nothing_here()).then_some(Change::Removed(*a))
            }
            (None, Some(Line::Entry(b))) => {
                new.passed();
                (!old.says_nothing_here()).then_some(Change::Added(*b))
            }
        };
        if let Some(change) = change {
            monitor.entries(1);
            if !each(change) {
                return Ok(compared);
            }
        }
    }
}

/// One of the two catalogs, read from its beginning to its end.
struct Side<'a> {
    reader: &'a SnapshotReader,
    /// What comes next.
    front: Option<Line>,
    /// What comes after that, the last first.
    rest: Vec<Line>,
    /// What is asked for: this path, and what is below it.
    path: &'a [u8],
    /// The key that was seen last: every further one is greater.
    last: Option<Vec<u8>>,
    /// Whether what lies before `front` could not be read.
    blind: bool,
}

impl<'a> Side<'a> {
    fn new(reader: &'a SnapshotReader, path: &'a [u8]) -> Self {
        Self { reader, front: Some(Line::Branch(reader.root())), rest: Vec::new(), path, last: None, blind: false }
    }

    /// Brings what is wanted and comes next to the front; a catalog that contradicts itself ends there.
    fn fill(&mut self, compared: &mut Compared, monitor: &dyn Monitor) -> Result<()> {
        while self.front.is_none() {
            let Some(line) = self.rest.pop() else { return Ok(()) };
            if self.last.as_deref().is_some_and(|last| line.key().is_some_and(|key| key <= last)) {
                let error = Error::refused("a part of it is not in its place").context("the catalog contradicts itself");
                self.broken(error, compared, monitor)?;
                self.rest.clear();
                return Ok(());
            }
            self.last = line.key().map(<[u8]>::to_vec);
            let next = self.rest.last().and_then(Line::key);
            if self.wants(&line, next) {
                self.front = Some(line);
            }
        }
        Ok(())
    }

    /// Whether anything of a line is asked for; `next` is the key of the one behind it, as far as that is known.
    fn wants(&self, line: &Line, next: Option<&[u8]>) -> bool {
        let below = |key: &[u8]| key.strip_prefix(self.path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
        let behind = |key: &[u8]| {
            // The last key that can be wanted begins with the path and a slash.
            key > self.path && !below(key) && key.iter().copied().cmp(self.path.iter().copied().chain([b'/'])) == Ordering::Greater
        };
        if self.path.is_empty() {
            return true;
        }
        match line {
            Line::Entry(entry) => below(&entry.path),
            Line::Branch(branch) => {
                let ends_before = next.is_some_and(|next| next <= self.path);
                !ends_before && !branch.first.as_deref().is_some_and(behind)
            }
        }
    }

    /// Reads a segment; what is in it comes next.
    fn open(&mut self, branch: Branch, compared: &mut Compared, monitor: &dyn Monitor) -> Result<()> {
        compared.read += 1;
        match self.reader.read_branch(&branch) {
            Ok(lines) => {
                // Its first line has the key that was seen already, as that of the segment.
                self.last = None;
                self.rest.extend(lines.into_iter().rev());
                Ok(())
            }
            Err(error) => self.broken(error, compared, monitor),
        }
    }

    fn broken(&mut self, error: Error, compared: &mut Compared, monitor: &dyn Monitor) -> Result<()> {
        if error.kind() == Kind::NotNow {
            return Err(error);
        }
        monitor.problem(&error);
        compared.problems.push(error.one_line());
        self.blind = true;
        Ok(())
    }

    /// What was in front is dealt with: behind it everything is known again.
    fn passed(&mut self) {
        self.blind = false;
    }

    /// Whether this side cannot say that it lacks what the other has here.
    fn says_nothing_here(&self) -> bool {
        self.blind
    }
}

/// In what two entries of one path differ.
fn aspects((before, a): (&SnapshotReader, &Entry), (after, b): (&SnapshotReader, &Entry), digests: bool) -> Result<Vec<Aspect>> {
    let content = match (&a.kind, &b.kind) {
        (EntryKind::File { size: before, digest: old, .. }, EntryKind::File { size: after, digest: new, .. }) => {
            before != after || if digests { old != new } else { a.mtime != b.mtime }
        }
        _ => false,
    };
    let target = match (&a.kind, &b.kind) {
        (EntryKind::Link { target: before }, EntryKind::Link { target: after }) => before != after,
        (EntryKind::Device { .. }, EntryKind::Device { .. }) => a.kind != b.kind,
        _ => false,
    };
    let found = [
        (Aspect::Type, a.kind.word() != b.kind.word()),
        (Aspect::Content, content),
        (Aspect::Target, target),
        (Aspect::Mode, a.mode != b.mode),
        (Aspect::Owner, (a.uid, a.gid, &a.user, &a.group) != (b.uid, b.gid, &b.user, &b.group)),
        (Aspect::Attributes, attributes_differ((before, a), (after, b))?),
        (Aspect::Time, a.mtime != b.mtime),
    ];
    Ok(found.into_iter().filter(|(_, differs)| *differs).map(|(aspect, _)| aspect).collect())
}

/// Whether what few entries have differs; lists that lie elsewhere are read, because the same may lie in two places.
fn attributes_differ((before, a): (&SnapshotReader, &Entry), (after, b): (&SnapshotReader, &Entry)) -> Result<bool> {
    let (none, a, b) = (Attributes::default(), &a.attributes, &b.attributes);
    if a == b {
        return Ok(false);
    }
    let (a, b) = (a.as_deref().unwrap_or(&none), b.as_deref().unwrap_or(&none));
    if (&a.acl, &a.default_acl, &a.names) != (&b.acl, &b.default_acl, &b.names) {
        return Ok(true);
    }
    if let (Xattrs::Here(a), Xattrs::Here(b)) = (&a.xattrs, &b.xattrs) {
        return Ok(a != b);
    }
    match (before.xattrs(&a.xattrs), after.xattrs(&b.xattrs)) {
        (Ok(a), Ok(b)) => Ok(a != b),
        (Err(error), _) | (_, Err(error)) if error.kind() == Kind::NotNow => Err(error),
        // What cannot be read is not the same.
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests;
