//! The content of one file: its list of chunks, and the digest that its bytes must have.
//!
//! Does not know paths.

use super::frames::{Frames, no_chunk};
use crate::entry::{Content, FileDigest, Sparse};
use crate::epoch::Secrets;
use crate::reference::{Decoder, Extent, Item, Member};
use base::{Error, Result};
use std::collections::VecDeque;

/// What a file's bytes must be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// Their number, without holes.
    pub(crate) size: u64,
    /// Their digest.
    pub(crate) digest: FileDigest,
}

impl Expected {
    /// Of a file of `size` bytes.
    pub(crate) fn of(size: u64, sparse: Option<&Sparse>, digest: FileDigest) -> Self {
        Self { size: sparse.map_or(size, |sparse| sparse.data), digest }
    }
}

/// Takes a file's bytes in order and says in the end whether they were the right ones.
pub(crate) struct Check {
    expected: Expected,
    hasher: blake3::Hasher,
    seen: u64,
}

impl Check {
    pub(crate) fn new(secrets: &Secrets, expected: Expected) -> Self {
        Self { expected, hasher: secrets.hasher(), seen: 0 }
    }

    /// How many bytes have come.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When there are more than there should be: nothing endless is written.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.seen += bytes.len() as u64;
        if self.seen > self.expected.size {
            return Err(Error::failed(format!("its chunks hold more than its {} bytes", self.expected.size)));
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// To be asked when the list has ended.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.seen != self.expected.size {
            return Err(Error::failed(format!("its chunks hold {} bytes instead of {}", self.seen, self.expected.size)));
        }
        if FileDigest::of(self.hasher.finalize().as_bytes()) != self.expected.digest {
            return Err(Error::failed("its content is not the one that was backed up: the digest differs"));
        }
        Ok(())
    }
}

/// A place in a list of items.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    item: usize,
    within: u64,
}

impl Cursor {
    /// The chunk at the cursor.
    pub(crate) fn peek(&self, items: &[Item]) -> Option<Member> {
        items.get(self.item).map(|item| nth(item, self.within))
    }

    /// Goes on to the next one.
    pub(crate) fn advance(&mut self, items: &[Item]) {
        self.within += 1;
        if items.get(self.item).is_some_and(|item| self.within >= item.count()) {
            *self = Self { item: self.item + 1, within: 0 };
        }
    }
}

/// The chunk at place `i` of an item, which has more than `i`.
fn nth(item: &Item, i: u64) -> Member {
    let n = match item.extent {
        Extent::Range { first, last } => u32::try_from(i).ok().and_then(|i| first.checked_add(i)).unwrap_or(last),
        Extent::Repeat { n, .. } => n,
    };
    Member { run: item.run, frame: item.frame, n }
}

/// The items of a file's list in order, whether it stands in the entry or in chunks of its own.
pub(crate) struct Items<'a> {
    frames: &'a Frames,
    /// Chunks that hold the list's text, and the reader of that text.
    list: Option<(&'a [Item], Cursor, Decoder)>,
    items: VecDeque<Item>,
}

impl<'a> Items<'a> {
    pub(crate) fn new(frames: &'a Frames, content: &'a Content) -> Self {
        match content {
            Content::Chunks(list) => Self { frames, list: None, items: list.0.iter().copied().collect() },
            Content::More(list) => Self { frames, list: Some((&list.0, Cursor::default(), Decoder::default())), items: VecDeque::new() },
        }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> Result<Option<Item>> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Ok(Some(item));
            }
            let Some((texts, cursor, decoder)) = &mut self.list else { return Ok(None) };
            let items = &mut self.items;
            let mut push = |item| {
                items.push_back(item);
                Ok(())
            };
            match cursor.peek(texts) {
                Some(at) => {
                    cursor.advance(texts);
                    let frame = self.frames.get_for(at)?;
                    decoder.feed(frame.chunk(at.n).ok_or_else(|| no_chunk(at))?, &mut push)?;
                }
                None => {
                    let (_, _, decoder) = self.list.take().unwrap_or_default();
                    decoder.finish(&mut push)?;
                }
            }
        }
    }
}
