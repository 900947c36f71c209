//! The catalog as a tree of segments, for whoever wants to leave out what it knows already: equal ids are equal segments.
//!
//! Does not decide what is left out. Whoever reads all entries in order takes [`crate::entries::Entries`].

use crate::catalog::{Child, lines};
use crate::entry::Entry;
use crate::epoch::ChunkId;
use crate::reference::Member;
use crate::snapshot::SnapshotReader;
use base::{Error, Result};

/// A segment that was not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Branch {
    /// The key of its first line; of the root it is not known.
    pub(crate) first: Option<Vec<u8>>,
    pub(crate) at: Member,
    pub(crate) id: ChunkId,
    /// 0 where its lines are entries.
    pub(crate) level: u8,
}

/// A line of a segment.
#[derive(Debug)]
pub(crate) enum Line {
    Branch(Branch),
    Entry(Box<Entry>),
}

impl Line {
    /// The key of its first entry.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Branch(branch) => branch.first.as_deref(),
            Self::Entry(entry) => Some(&entry.path),
        }
    }
}

impl SnapshotReader {
    /// The root of its catalog.
    pub(crate) fn root(&self) -> Branch {
        let root = self.catalog_root();
        Branch { first: None, at: root.at, id: root.id, level: root.level }
    }

    /// The lines of a segment, proven by its id, in order, the first with the key that was named above.
    ///
    /// # Errors
    /// When it cannot be read, or is not what a client of ours writes.
    pub(crate) fn read_branch(&self, branch: &Branch) -> Result<Vec<Line>> {
        let read = || -> Result<Vec<Line>> {
            let bytes = self.segment_bytes(branch.at, &branch.id)?;
            let line = |line: &[u8]| -> Result<Line> {
                let Some(below) = branch.level.checked_sub(1) else { return Ok(Line::Entry(Box::new(Entry::parse(line)?))) };
                let Child { first, at, id } = Child::parse(line)?;
                Ok(Line::Branch(Branch { first: Some(first), at, id, level: below }))
            };
            let lines = lines(&bytes)?.map(line).collect::<Result<Vec<_>>>()?;
            let misplaced =
                |key: &[u8]| Error::refused(format!("{:?} is not in its place", base::text::printable(&String::from_utf8_lossy(key))));
            if let Some(pair) = lines.windows(2).find(|pair| pair[0].key() >= pair[1].key()) {
                return Err(misplaced(pair[1].key().unwrap_or_default()));
            }
            match (&branch.first, lines.first().and_then(Line::key)) {
                (Some(named), Some(first)) if named != first => Err(misplaced(first)),
                _ => Ok(lines),
            }
        };
        let from = base::text::printable(&String::from_utf8_lossy(branch.first.as_deref().unwrap_or_default()));
        read().map_err(|error| error.context(format!("a part of the catalog cannot be read, from {from:?} on")))
    }
}
