//! Reading a cache in step with a walk.
//!
//! The first thing that is not as it was written ends it: what comes after counts as not there.

use super::record::{Pair, Record, Uses, stat_bytes, time_of};
use super::{HEAD, LONGEST, digest};
use crate::entry::Mtime;
use crate::walk::Stat;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A cache that is being read.
pub(super) struct Reader {
    file: File,
    key: [u8; 32],
    began: Mtime,
    /// Of the block that is next.
    number: u64,
    block: Vec<u8>,
    /// Where in the block the next record begins.
    at: usize,
    record: Record,
    pairs: Vec<Pair>,
    ended: bool,
}

/// What is remembered of a thing that has not changed.
pub(crate) struct Found<'a> {
    /// Its line in the catalog.
    pub(crate) line: &'a str,
    /// Whether the line depends on nothing but the thing and the names.
    pub(crate) plain: bool,
    /// The names in the line.
    pub(crate) names: &'a mut Pair,
    pub(crate) uses: &'a Uses,
}

impl Reader {
    /// Opens a cache; `None` when there is none that was written with this key.
    pub(super) fn open(path: &Path, key: [u8; 32]) -> Option<Self> {
        let file = base::untrusted::open(path).ok()?;
        let mut reader = Self {
            file,
            key,
            began: Mtime::default(),
            number: 0,
            block: Vec::new(),
            at: 0,
            record: Record::default(),
            pairs: Vec::new(),
            ended: false,
        };
        reader.next_block()?;
        reader.began = time_of(&reader.block)?;
        reader.at = reader.block.len();
        reader.next();
        Some(reader)
    }

    /// A time before which nothing was looked at.
    pub(super) fn began(&self) -> Mtime {
        self.began
    }

    /// What is remembered of the thing at `path`, if it is as it was.
    pub(super) fn find(&mut self, path: &[u8], stat: &Stat) -> Option<Found<'_>> {
        while !self.ended && self.record.path.as_slice() < path {
            self.next();
        }
        if self.ended || self.record.path != path || self.record.stat != stat_bytes(stat) {
            return None;
        }
        let Record { line, plain, names, uses, .. } = &self.record;
        Some(Found { line, plain: *plain, names: self.pairs.get_mut(*names)?, uses })
    }

    fn next(&mut self) {
        if self.at >= self.block.len() {
            self.ended = self.next_block().is_none();
            self.at = 0;
            self.record.path.clear();
        }
        if !self.ended {
            let mut rest = &self.block[self.at..];
            self.ended = self.record.read(&mut rest, &mut self.pairs).is_none();
            self.at = self.block.len() - rest.len();
        }
    }

    fn next_block(&mut self) -> Option<()> {
        let mut head = [0; HEAD];
        self.file.read_exact(&mut head).ok()?;
        let (length, expected) = head.split_at(4);
        let length = u32::from_le_bytes(length.try_into().ok()?);
        let length = usize::try_from(length).ok().filter(|length| (1..=LONGEST).contains(length))?;
        self.block.clear();
        // The length is not proven yet: nothing is allocated that is not there.
        (&mut self.file).take(length as u64).read_to_end(&mut self.block).ok().filter(|read| *read == length)?;
        // Compared in constant time.
        let right = blake3::Hash::from(digest(&self.key, self.number, &self.block)) == *expected;
        self.number += 1;
        right.then_some(())
    }
}
