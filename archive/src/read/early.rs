//! Chunks that were decoded before their turn, kept so that their frame need not be decoded again: in memory, and then in a
//! file without a name.
//!
//! Does not decide what is kept.

use super::frames::Frame;
use super::schedule::Part;
use crate::reference::{Extent, Item};
use rustix::fs::FallocateFlags;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Where chunks can be kept.
#[derive(Clone, Copy)]
pub(crate) struct Room<'a> {
    /// So many bytes in memory at most.
    pub(crate) memory: u64,
    /// And so many in a file.
    pub(crate) disk: u64,
    /// Makes the file, if that can be done there: it goes when it is closed, whatever happens.
    pub(crate) file: &'a dyn Fn() -> Option<File>,
}

impl Room<'_> {
    /// In memory alone.
    pub(crate) const MEMORY: Self = Self { memory: 16 << 20, disk: 0, file: &|| None };

    /// How many bytes there are in all.
    pub(super) fn bytes(&self) -> u64 {
        self.disk.saturating_add(self.memory)
    }
}

/// Parts that wait for their turn.
pub(super) struct Early<'a> {
    room: Room<'a>,
    /// By list and first item.
    parts: HashMap<usize, HashMap<usize, Kept>>,
    /// Bytes in memory.
    here: u64,
    file: Option<File>,
    /// Bytes in the file, and where it ends; what was taken is given back to the disk.
    there: u64,
    end: u64,
    /// The file took no more once.
    full: bool,
}

struct Kept {
    part: Part,
    /// Which chunks of the frame, and how long each is.
    chunks: Vec<(u32, usize)>,
    bytes: Bytes,
}

enum Bytes {
    Here(Vec<u8>),
    There { at: u64, length: usize },
}

impl<'a> Early<'a> {
    pub(super) fn new(room: Room<'a>) -> Self {
        Self { room, parts: HashMap::new(), here: 0, file: None, there: 0, end: 0, full: false }
    }

    /// Keeps what a part has in a frame; `false` when there is no room for it.
    pub(super) fn keep(&mut self, frame: &Frame, part: Part, items: &[Item]) -> bool {
        let numbers = |item: &Item| match item.extent {
            Extent::Range { first, last } => first..last.saturating_add(1).min(frame.count()),
            Extent::Repeat { n, .. } => n..n.saturating_add(1),
        };
        let wanted: BTreeSet<u32> = items.iter().flat_map(numbers).collect();
        let found: Vec<(u32, &[u8])> = wanted.into_iter().filter_map(|n| Some((n, frame.chunk(n)?))).collect();
        let length: usize = found.iter().map(|(_, chunk)| chunk.len()).sum();
        let mut bytes = Vec::with_capacity(length);
        found.iter().for_each(|(_, chunk)| bytes.extend_from_slice(chunk));
        let chunks = found.iter().map(|(n, chunk)| (*n, chunk.len())).collect();
        let bytes = if self.here + length as u64 <= self.room.memory {
            self.here += length as u64;
            Bytes::Here(bytes)
        } else {
            match self.write(&bytes) {
                Some(at) => Bytes::There { at, length },
                None => return false,
            }
        };
        self.parts.entry(part.list).or_default().insert(part.items.start, Kept { part, chunks, bytes });
        true
    }

    /// Writes to the file, and says where.
    fn write(&mut self, bytes: &[u8]) -> Option<u64> {
        let length = bytes.len() as u64;
        if self.full || self.there.saturating_add(length) > self.room.disk {
            return None;
        }
        if self.file.is_none() {
            self.file = (self.room.file)();
        }
        let written = self.file.as_ref().is_some_and(|file| file.write_all_at(bytes, self.end).is_ok());
        if !written {
            self.full = true;
            return None;
        }
        let at = self.end;
        // Holes are made of whole blocks.
        self.end += length.next_multiple_of(4096);
        self.there += length;
        Some(at)
    }

    /// What is kept of a list from this item on, as a frame that has these chunks alone; nothing where nothing is.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn take(&mut self, list: usize, from: usize) -> Option<std::io::Result<(Frame, Part)>> {
        let Kept { part, chunks, bytes } = self.parts.get_mut(&list)?.remove(&from)?;
        let bytes = match bytes {
            Bytes::Here(bytes) => {
                self.here -= bytes.len() as u64;
                bytes
            }
            Bytes::There { at, length } => match self.read(at, length) {
                Ok(bytes) => bytes,
                Err(error) => return Some(Err(error)),
            },
        };
        Some(Ok((Frame::of_chunks(bytes, &chunks), part)))
    }

    fn read(&mut self, at: u64, length: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let Some(file) = &self.file else { return Err(std::io::ErrorKind::NotFound.into()) };
        file.read_exact_at(&mut bytes, at)?;
        let whole = (length as u64).next_multiple_of(4096);
        let given = rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, whole);
        // Elsewhere it grows, and is counted so.
        if given.is_ok() {
            self.there -= length as u64;
        }
        Ok(bytes)
    }

    /// Throws away what is kept of a list.
    pub(super) fn forget(&mut self, list: usize) {
        for kept in self.parts.remove(&list).into_iter().flat_map(HashMap::into_values) {
            match kept.bytes {
                Bytes::Here(bytes) => self.here -= bytes.len() as u64,
                Bytes::There { .. } => {}
            }
        }
    }
}
