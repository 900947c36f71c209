//! Holes: where a sparse file has no bytes of its own, as the catalog writes them.
//!
//! Does not look for holes, and makes none.

use crate::reference::References;
use base::{Error, Result};

/// The longest list that stands in a line; a longer one is stored as chunks of its own.
pub const INLINE_HOLES: usize = 8 << 10;
/// More than the longest item can have: two numbers below 2^64 and a `+`.
const ITEM_LIMIT: usize = 41;

/// So many bytes that read as zeros and take no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Where it begins in the file.
    pub offset: u64,
    /// How long it is, at least 1.
    pub length: u64,
}

/// Where the list of a file's holes is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holes {
    /// These, in order, none touching the next.
    List(Vec<Hole>),
    /// These chunks hold the text of the list, which is too long for the line.
    More(References),
}

/// What makes a file sparse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sparse {
    /// How many bytes are outside of holes: the content, which chunks and digest are of.
    pub data: u64,
    /// The holes.
    pub holes: Holes,
}

impl Sparse {
    /// About how many bytes its list takes in memory.
    pub(super) fn weight(&self) -> usize {
        match &self.holes {
            Holes::List(list) => size_of_val(list.as_slice()),
            Holes::More(list) => super::list_weight(list),
        }
    }
}

/// Appends an item to a list's text: `offset+length`, with a comma between items.
pub fn write_hole(text: &mut String, first: bool, hole: Hole) {
    use std::fmt::Write as _;
    let comma = if first { "" } else { "," };
    // Writing to a string cannot fail.
    let _ = write!(text, "{comma}{}+{}", hole.offset, hole.length);
}

/// The text of a list.
pub(super) fn text_of(holes: &[Hole]) -> String {
    let mut text = String::new();
    for (n, hole) in holes.iter().enumerate() {
        write_hole(&mut text, n == 0, *hole);
    }
    text
}

/// Reads the text of a list.
pub(super) fn parse(text: &str) -> Result<Vec<Hole>> {
    let mut holes = Vec::new();
    let mut push = |hole| {
        holes.push(hole);
        Ok(())
    };
    let mut decoder = HoleDecoder::default();
    decoder.feed(text.as_bytes(), &mut push)?;
    decoder.finish(&mut push)?;
    Ok(holes)
}

/// Reads a list of any length piece by piece, in bounded memory.
#[derive(Debug, Default)]
pub struct HoleDecoder {
    part: Vec<u8>,
    /// Where the hole before ends.
    end: Option<u64>,
}

impl HoleDecoder {
    /// Reads more of the text and hands on the holes that are complete.
    ///
    /// # Errors
    /// When the text is no list of holes in order, or `each` fails.
    pub fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(Hole) -> Result<()>) -> Result<()> {
        let mut pieces = bytes.split(|b| *b == b',').peekable();
        while let Some(piece) = pieces.next() {
            if self.part.len() + piece.len() > ITEM_LIMIT {
                return Err(wrong());
            }
            self.part.extend_from_slice(piece);
            if pieces.peek().is_some() {
                each(self.item()?)?;
            }
        }
        Ok(())
    }

    /// Hands on the last hole; a list has at least one.
    ///
    /// # Errors
    /// As [`HoleDecoder::feed`].
    pub fn finish(mut self, each: &mut dyn FnMut(Hole) -> Result<()>) -> Result<()> {
        each(self.item()?)
    }

    fn item(&mut self) -> Result<Hole> {
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
            plain.then(|| digits.parse::<u64>().ok()).flatten()
        };
        let (offset, length) = std::str::from_utf8(&self.part).ok().and_then(|text| text.split_once('+')).ok_or_else(wrong)?;
        let (offset, length) = (number(offset).ok_or_else(wrong)?, number(length).ok_or_else(wrong)?);
        let end = offset.checked_add(length).ok_or_else(wrong)?;
        // Two that touch would be one: a list has one text alone.
        if length == 0 || self.end.is_some_and(|before| offset <= before) {
            return Err(wrong());
        }
        self.end = Some(end);
        self.part.clear();
        Ok(Hole { offset, length })
    }
}

fn wrong() -> Error {
    Error::failed("a list of holes is wrong; offset+length, with commas between and in order, is expected")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let holes = vec![Hole { offset: 0, length: 4096 }, Hole { offset: 8192, length: u64::MAX - 8192 }];
        assert_eq!(text_of(&holes), "0+4096,8192+18446744073709543423");
        assert_eq!(parse(&text_of(&holes)).unwrap(), holes);
        // In pieces of any length it is the same list.
        for step in 1..20 {
            let mut found = Vec::new();
            let mut push = |hole| {
                found.push(hole);
                Ok(())
            };
            let mut decoder = HoleDecoder::default();
            for piece in text_of(&holes).as_bytes().chunks(step) {
                decoder.feed(piece, &mut push).unwrap();
            }
            decoder.finish(&mut push).unwrap();
            assert_eq!(found, holes);
        }
        for bad in ["", ",", "0", "+", "0+", "+1", "0+0", "1+2,", ",1+2", "0+5,5+1", "5+1,0+1", "01+1", "1+01", "-1+1", "1-2", " 1+2"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse("18446744073709551615+1").is_err());
        assert!(parse("18446744073709551616+1").is_err());
        assert!(parse(&"1".repeat(1 << 20)).is_err());
    }
}
