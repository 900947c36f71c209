//! Looking for files in many snapshots at once. Segments that several catalogs share are read and matched once.
//!
//! Knows patterns and what entries say; nothing of who asks.

use crate::entry::{Entry, EntryKind, Mtime};
use crate::epoch::ChunkId;
use crate::snapshot::SnapshotReader;
use crate::tree::{Branch, Line};
use base::{Error, Kind, Monitor, Result};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use jiff::Timestamp;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// So many versions of files are remembered; who wants more looks for less.
const MOST: usize = 1_000_000;

/// What is looked for. Everything that is said must hold.
#[derive(Debug, Default)]
pub struct Query {
    patterns: GlobSet,
    /// Only these kinds, in the catalog's words; empty for all.
    pub kinds: Vec<String>,
    /// Only files of at least so many bytes.
    pub least: Option<u64>,
    /// Only files of at most so many bytes.
    pub most: Option<u64>,
    /// Only what was changed at this time or later.
    pub newer: Option<Timestamp>,
    /// Only what was changed at this time or earlier.
    pub older: Option<Timestamp>,
}

impl Query {
    /// Looks for any of these patterns: one without a `/` in a name, wherever it is; one with a `/` in a whole path below the
    /// dataset's own. `*` and `?` stay within a name, `**` stands for any folders.
    ///
    /// # Errors
    /// Of kind usage, when one is no pattern.
    pub fn new(patterns: &[String], ignore_case: bool) -> Result<Self> {
        let mut set = GlobSetBuilder::new();
        for shown in patterns {
            let inner = shown.trim_matches('/');
            let text = if shown.contains('/') { inner.to_owned() } else { format!("**/{inner}") };
            let glob = GlobBuilder::new(&text).literal_separator(true).backslash_escape(true).case_insensitive(ignore_case).build();
            set.add(glob.map_err(|error| no_pattern(shown, error))?);
        }
        let patterns = set.build().map_err(|error| no_pattern(&patterns.join(" "), error))?;
        Ok(Self { patterns, ..Self::default() })
    }

    fn matches(&self, entry: &Entry) -> bool {
        let path = entry.path.strip_suffix(b"/").unwrap_or(&entry.path);
        let size = if let EntryKind::File { size, .. } = entry.kind { Some(size) } else { None };
        let within = |least: Option<u64>, size: Option<u64>| least.is_none_or(|least| size.is_some_and(|size| size >= least));
        let time = Timestamp::new(entry.mtime.seconds, 0).ok();
        !path.is_empty()
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == entry.kind.word()))
            && within(self.least, size)
            && self.most.is_none_or(|most| size.is_some_and(|size| size <= most))
            && self.newer.is_none_or(|newer| time.is_some_and(|time| time >= newer))
            && self.older.is_none_or(|older| time.is_some_and(|time| time <= older))
            && self.names(path)
    }

    /// Whether a path, or any other name, is one of those that are looked for.
    pub fn names(&self, path: &[u8]) -> bool {
        self.patterns.is_match(Path::new(OsStr::from_bytes(path)))
    }
}

fn no_pattern(shown: &str, error: globset::Error) -> Error {
    Error::usage(format!("{shown:?} is no pattern"))
        .because(error)
        .hint("Patterns are made of *, ?, [a-z] and **; \\ takes the next character as it is.")
}

/// What a version of something is told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    /// Its path below the dataset's own; that of a folder ends in `/`.
    pub path: Vec<u8>,
    /// `file`, `dir`, `link`, `fifo`, `char` or `block`.
    pub kind: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// The owner's name, or its number.
    pub owner: String,
    /// The group's name, or its number.
    pub group: String,
    /// Bytes of a file; 0 of anything else.
    pub size: u64,
    /// When it was changed, in seconds.
    pub mtime: i64,
    /// And the part of a second.
    nanos: u32,
    /// What a link says.
    pub target: Option<Vec<u8>>,
    /// What a file holds.
    digest: Option<[u8; 16]>,
}

impl Version {
    fn of(entry: &Entry) -> Self {
        let Mtime { seconds, nanos } = entry.mtime;
        let (mut size, mut target, mut digest) = (0, None, None);
        match &entry.kind {
            EntryKind::File { size: length, digest: of, .. } => (size, digest) = (*length, Some(of.0)),
            EntryKind::Link { target: says } => target = Some(says.clone()),
            EntryKind::Dir | EntryKind::Fifo | EntryKind::Device { .. } => {}
        }
        Self {
            path: entry.path.clone(),
            kind: entry.kind.word(),
            mode: entry.mode,
            owner: entry.user.clone().unwrap_or_else(|| entry.uid.to_string()),
            group: entry.group.clone().unwrap_or_else(|| entry.gid.to_string()),
            size,
            mtime: seconds,
            nanos,
            target,
            digest,
        }
    }
}

/// A version, and the snapshots that have it.
#[derive(Debug)]
pub struct Found {
    /// What was found.
    pub version: Rc<Version>,
    /// The numbers of the snapshots, in the order in which they were searched, as ranges with both ends.
    pub runs: Vec<(u32, u32)>,
}

/// What is known of a segment that was read.
struct Known {
    /// The keys of its first and its last entry; of what cannot be read, the one that was named.
    first: Vec<u8>,
    last: Vec<u8>,
    /// What was found in it.
    found: Vec<usize>,
    /// The segments below it in which something was found.
    below: Vec<Rc<Known>>,
}

impl Known {
    /// Hands on everything that was found in it and below.
    fn each(&self, each: &mut impl FnMut(usize)) {
        self.found.iter().copied().for_each(&mut *each);
        for known in &self.below {
            known.each(each);
        }
    }
}

/// A search over snapshots of one client.
pub struct Search<'a> {
    query: &'a Query,
    monitor: &'a dyn Monitor,
    /// By segment; nothing where it could not be read, which is told once.
    known: HashMap<(ChunkId, u8), Option<Rc<Known>>>,
    numbers: HashMap<Rc<Version>, usize>,
    found: Vec<Found>,
    read: u64,
    problems: Vec<String>,
}

impl<'a> Search<'a> {
    /// A search that has not begun.
    pub fn new(query: &'a Query, monitor: &'a dyn Monitor) -> Self {
        Self { query, monitor, known: HashMap::new(), numbers: HashMap::new(), found: Vec::new(), read: 0, problems: Vec::new() }
    }

    /// Searches one more snapshot, which is called `number` in what is found; the numbers must go up. What of its catalog cannot
    /// be read is told, and the rest is searched.
    ///
    /// # Errors
    /// Of kind not-now when packs cannot be reached for now; when too much is found.
    pub fn add(&mut self, number: u32, reader: &SnapshotReader) -> Result<()> {
        let Some(known) = self.visit(reader, &reader.root())? else { return Ok(()) };
        known.each(&mut |index| {
            let runs = &mut self.found[index].runs;
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => runs.push((number, number)),
            }
        });
        Ok(())
    }

    /// What was found, in the order of paths, older versions first; and what could not be read.
    pub fn finish(self) -> (Vec<Found>, Vec<String>) {
        let mut found = self.found;
        found.sort_by(|a, b| a.version.path.cmp(&b.version.path).then(a.runs.cmp(&b.runs)));
        (found, self.problems)
    }

    /// How many segments were read.
    pub fn segments_read(&self) -> u64 {
        self.read
    }

    /// What is found in a segment and below; nothing where it cannot be read.
    fn visit(&mut self, reader: &SnapshotReader, branch: &Branch) -> Result<Option<Rc<Known>>> {
        if let Some(known) = self.known.get(&(branch.id, branch.level)) {
            let known = known.clone();
            // It was read under the name that it had there.
            if let (Some(known), Some(named)) = (&known, &branch.first)
                && known.first != *named
            {
                self.problem(contradiction())?;
                return Ok(None);
            }
            return Ok(known);
        }
        self.read += 1;
        let lines = match reader.read_branch(branch) {
            Ok(lines) => lines,
            Err(error) => {
                self.problem(error)?;
                self.known.insert((branch.id, branch.level), None);
                return Ok(None);
            }
        };
        let first = lines.first().and_then(Line::key).unwrap_or_default().to_vec();
        let mut all = Known { last: first.clone(), first, found: Vec::new(), below: Vec::new() };
        for (place, line) in lines.into_iter().enumerate() {
            match line {
                Line::Entry(entry) => {
                    self.monitor.entries(1);
                    if self.query.matches(&entry) {
                        all.found.push(self.number(&entry)?);
                    }
                    all.last = entry.path;
                }
                Line::Branch(below) => {
                    let named = below.first.as_deref().unwrap_or_default();
                    if place > 0 && named <= all.last.as_slice() {
                        self.problem(contradiction())?;
                        break;
                    }
                    let Some(known) = self.visit(reader, &below)? else {
                        all.last = named.to_vec();
                        continue;
                    };
                    all.last.clone_from(&known.last);
                    if !known.found.is_empty() || !known.below.is_empty() {
                        all.below.push(known);
                    }
                }
            }
        }
        let all = Rc::new(all);
        self.known.insert((branch.id, branch.level), Some(Rc::clone(&all)));
        Ok(Some(all))
    }

    fn number(&mut self, entry: &Entry) -> Result<usize> {
        let version = Rc::new(Version::of(entry));
        if let Some(number) = self.numbers.get(&version) {
            return Ok(*number);
        }
        if self.found.len() >= MOST {
            return Err(Error::failed(format!("more than {MOST} versions of files were found"))
                .hint("Look for less: a longer pattern, one snapshot with --at, or a size or time."));
        }
        self.found.push(Found { version: Rc::clone(&version), runs: Vec::new() });
        self.numbers.insert(version, self.found.len() - 1);
        Ok(self.found.len() - 1)
    }

    fn problem(&mut self, error: Error) -> Result<()> {
        if error.kind() == Kind::NotNow {
            return Err(error);
        }
        self.monitor.problem(&error);
        self.problems.push(error.one_line());
        Ok(())
    }
}

fn contradiction() -> Error {
    Error::refused("a part of it is not in its place").context("the catalog contradicts itself")
}

#[cfg(test)]
mod tests;
