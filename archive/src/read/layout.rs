//! Where the data of a sparse file belongs: its bytes come one after the other, and its holes lie between them.
//!
//! Reads no data, and writes nothing.

use super::content::Cursor;
use super::frames::{Frames, no_chunk};
use crate::entry::{Hole, HoleDecoder, Holes, Sparse};
use crate::reference::References;
use base::{Error, Result};
use std::collections::VecDeque;

/// Follows a file's holes along its data, in bounded memory however many there are.
pub(crate) struct Layout {
    size: u64,
    /// Where the next byte of data belongs, unless a hole is there.
    at: u64,
    /// Holes that are read of the list.
    ready: VecDeque<Hole>,
    /// The rest of a list that lies in chunks.
    list: Option<(References, Cursor, HoleDecoder)>,
}

impl Layout {
    /// The layout of a file of `size` bytes, holes included.
    pub(crate) fn new(size: u64, sparse: Option<&Sparse>) -> Self {
        let (ready, list) = match sparse.map(|sparse| &sparse.holes) {
            None => (VecDeque::new(), None),
            Some(Holes::List(holes)) => (holes.iter().copied().collect(), None),
            Some(Holes::More(list)) => (VecDeque::new(), Some((list.clone(), Cursor::default(), HoleDecoder::default()))),
        };
        Self { size, at: 0, ready, list }
    }

    /// Places the next `length` bytes of data: where they begin, and how many of them there are before the next hole.
    pub(crate) fn place(&mut self, frames: &Frames, length: usize) -> Result<(u64, usize)> {
        let free = self.skip(frames)?.map_or(self.size, |hole| hole.offset).saturating_sub(self.at);
        if free == 0 {
            return Err(misfit());
        }
        let taken = usize::try_from(free).unwrap_or(usize::MAX).min(length);
        let begins = self.at;
        self.at += taken as u64;
        Ok((begins, taken))
    }

    /// To be asked when all data is placed: whether holes and data make the size together.
    pub(crate) fn finish(&mut self, frames: &Frames) -> Result<()> {
        if self.skip(frames)?.is_none() && self.at == self.size { Ok(()) } else { Err(misfit()) }
    }

    /// Steps over holes that begin here, and says which one comes next.
    fn skip(&mut self, frames: &Frames) -> Result<Option<Hole>> {
        loop {
            let next = self.next(frames)?;
            match next {
                Some(hole) if hole.offset == self.at => {
                    self.ready.pop_front();
                    self.at += hole.length;
                    if self.at > self.size {
                        return Err(misfit());
                    }
                }
                Some(hole) if hole.offset < self.at || hole.offset > self.size => return Err(misfit()),
                next => return Ok(next),
            }
        }
    }

    /// The next hole, which stays.
    fn next(&mut self, frames: &Frames) -> Result<Option<Hole>> {
        while self.ready.is_empty() {
            let ready = &mut self.ready;
            let mut push = |hole| {
                ready.push_back(hole);
                Ok(())
            };
            let Some((list, cursor, decoder)) = &mut self.list else { return Ok(None) };
            match cursor.peek(&list.0) {
                Some(at) => {
                    cursor.advance(&list.0);
                    let frame = frames.get_for(at)?;
                    decoder.feed(frame.chunk(at.n).ok_or_else(|| no_chunk(at))?, &mut push)?;
                }
                None => {
                    let (_, _, decoder) = self.list.take().unwrap_or_default();
                    decoder.finish(&mut push)?;
                }
            }
        }
        Ok(self.ready.front().copied())
    }
}

fn misfit() -> Error {
    Error::failed("its holes do not fit its size and its data")
}
