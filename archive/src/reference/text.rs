//! Lists of references of any length, written and read piece by piece.
//!
//! Knows what stands between items, and of an item no more than that it is short.

use super::{Item, Member, RunId, wrong};
use base::Result;

/// More than the longest item can have.
const ITEM_LIMIT: usize = 80;

/// Writes a list of any length; what is finished of the text can be taken away at any time.
#[derive(Debug, Default)]
pub struct Encoder {
    text: String,
    run: Option<RunId>,
    last: Option<Item>,
}

impl Encoder {
    /// Appends a chunk.
    pub fn push(&mut self, at: Member) {
        if !self.last.as_mut().is_some_and(|item| item.extend(at)) {
            self.flush();
            self.last = Some(Item::one(at));
        }
    }

    /// The text so far that later chunks cannot change; empty after [`Encoder::take`].
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes the finished text away, so that memory stays bounded.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// The rest of the text.
    pub fn finish(mut self) -> String {
        self.flush();
        self.text
    }

    fn flush(&mut self) {
        if let Some(item) = self.last.take() {
            item.write(&mut self.text, self.run);
            self.run = Some(item.run);
        }
    }
}

/// Reads a list of any length piece by piece, in bounded memory.
#[derive(Debug, Default)]
pub struct Decoder {
    part: Vec<u8>,
    run: Option<RunId>,
}

impl Decoder {
    /// Reads more of the text and hands on the items that are complete.
    ///
    /// # Errors
    /// When the text is no list of references, or `each` fails.
    pub fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
        let mut pieces = bytes.split(|b| *b == b',').peekable();
        while let Some(piece) = pieces.next() {
            if self.part.len() + piece.len() > ITEM_LIMIT {
                return Err(wrong(&String::from_utf8_lossy(&piece[..piece.len().min(ITEM_LIMIT)]), "an item of a list of references"));
            }
            self.part.extend_from_slice(piece);
            if pieces.peek().is_some() {
                self.item(each)?;
            }
        }
        Ok(())
    }

    /// Hands on the last item.
    ///
    /// # Errors
    /// As [`Decoder::feed`].
    pub fn finish(mut self, each: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
        // An empty text is an empty list, but nothing may stand behind the last comma.
        if self.part.is_empty() && self.run.is_none() { Ok(()) } else { self.item(each) }
    }

    fn item(&mut self, each: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
        let text = std::str::from_utf8(&self.part).map_err(|_| wrong("", "a list of references"))?;
        let item = Item::parse(text, self.run)?;
        self.run = Some(item.run);
        self.part.clear();
        each(item)
    }
}
