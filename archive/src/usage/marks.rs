//! What a snapshot uses of the packs it refers to: a bit for each chunk, so that each counts once.
//!
//! Memory is a bit a chunk that is referred to, and 24 bytes a frame.

use crate::index::MEMBERS;
use crate::reference::{Extent, Item, Member};

/// Chunks of a frame; most frames of large chunks have fewer than 64.
#[derive(Default, Clone)]
enum Bits {
    #[default]
    None,
    Few(u64),
    Many(Vec<u64>),
}

impl Bits {
    /// Sets a bit below [`MEMBERS`], and says whether it was not set before.
    fn set(&mut self, n: u32) -> bool {
        let (word, bit) = ((n / 64) as usize, 1 << (n % 64));
        if let Self::None = self {
            *self = Self::Few(0);
        }
        if let Self::Few(first) = self
            && word > 0
        {
            *self = Self::Many(vec![*first]);
        }
        let place = match self {
            Self::Few(first) => first,
            Self::Many(words) => {
                if words.len() <= word {
                    words.resize(word + 1, 0);
                }
                &mut words[word]
            }
            Self::None => return false,
        };
        let new = *place & bit == 0;
        *place |= bit;
        new
    }
}

/// One pack's.
#[derive(Default, Clone)]
struct Used {
    bytes: u64,
    frames: Vec<Bits>,
}

/// Of all packs of an index, by their numbers in it.
pub(crate) struct Marks(Vec<Option<Box<Used>>>);

impl Marks {
    pub(crate) fn new(packs: usize) -> Self {
        Self(vec![None; packs])
    }

    /// Whether anything of the pack is used.
    pub(crate) fn referred(&self, pack: usize) -> bool {
        self.0[pack].is_some()
    }

    /// A chunk of so many bytes is used. `first` is the number of the pack's first frame, and the chunk's frame is not before it.
    pub(crate) fn chunk(&mut self, pack: usize, first: u32, at: Member, bytes: u64) {
        let used = self.0[pack].get_or_insert_default();
        if used.set(at.frame - first, at.n) {
            used.bytes += bytes;
        }
    }

    /// The chunks of an item are used, which are below [`MEMBERS`]; it is one of a list of `count` references to `bytes` bytes. What
    /// each of them takes is not known, so all are taken for equal.
    pub(crate) fn item(&mut self, pack: usize, first: u32, item: &Item, count: u64, bytes: u64) {
        let used = self.0[pack].get_or_insert_default();
        let frame = item.frame - first;
        let new = match item.extent {
            Extent::Range { first, last } => (first..=last).filter(|n| used.set(frame, *n)).count() as u64,
            Extent::Repeat { n, .. } => u64::from(used.set(frame, n)),
        };
        let share = u128::from(bytes) * u128::from(new) / u128::from(count.max(1));
        used.bytes = used.bytes.saturating_add(u64::try_from(share).unwrap_or(u64::MAX));
    }

    /// How many bytes of each pack are used; none of one that is not referred to.
    pub(crate) fn used(&self) -> Vec<Option<u64>> {
        self.0.iter().map(|used| used.as_ref().map(|used| used.bytes)).collect()
    }
}

impl Used {
    fn set(&mut self, frame: u32, n: u32) -> bool {
        let frame = frame as usize;
        if self.frames.len() <= frame {
            self.frames.resize(frame + 1, Bits::None);
        }
        self.frames[frame].set(n)
    }
}

/// Whether a frame can have all chunks of the item.
pub(crate) fn can_be(item: &Item) -> bool {
    match item.extent {
        Extent::Range { last, .. } => last < MEMBERS,
        Extent::Repeat { n, .. } => n < MEMBERS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::RunId;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn each_chunk_counts_once(chunks in prop::collection::vec((0..3usize, 0..5u32, 0..200u32), 0..200)) {
            let mut marks = Marks::new(3);
            let mut model = HashSet::new();
            for (pack, frame, n) in chunks {
                marks.chunk(pack, 7, Member { run: RunId(1), frame: 7 + frame, n }, 10);
                model.insert((pack, frame, n));
            }
            for pack in 0..3 {
                let count = model.iter().filter(|chunk| chunk.0 == pack).count() as u64;
                prop_assert_eq!(marks.used()[pack], (count > 0).then_some(10 * count));
            }
        }
    }

    #[test]
    fn a_list_counts_what_it_adds() {
        let mut marks = Marks::new(1);
        let item = |frame, extent| Item { run: RunId(1), frame, extent };
        marks.item(0, 0, &item(0, Extent::Range { first: 0, last: 99 }), 100, 1000);
        marks.item(0, 0, &item(0, Extent::Range { first: 50, last: 149 }), 100, 1000);
        assert_eq!(marks.used(), [Some(1500)]);
        // A file of one block many times over uses that block.
        marks.item(0, 0, &item(1, Extent::Repeat { n: 3, count: 1 << 40 }), 1 << 40, 1 << 52);
        assert_eq!(marks.used(), [Some(1500 + 4096)]);
        for (extent, can) in [
            (Extent::Range { first: 0, last: MEMBERS - 1 }, true),
            (Extent::Range { first: 0, last: u32::MAX }, false),
            (Extent::Repeat { n: MEMBERS, count: 2 }, false),
        ] {
            assert_eq!(can_be(&item(0, extent)), can);
        }
    }
}
