//! How much of a catalog is held at once: some bytes of it can unfold to very many entries, and one entry to many bytes.
//!
//! Counts; holds nothing.

use base::{ByteSize, Error, Result, process};

/// The most entries.
const ENTRIES: usize = 200_000;
/// The most bytes of what entries hold ([`crate::entry::Entry::weight`]), about. Ordinary ones meet the other bound first.
const BYTES: usize = 32 << 20;

/// Entries that are worked on together.
#[derive(Debug, Default)]
pub(crate) struct Load {
    entries: usize,
    bytes: usize,
}

impl Load {
    /// Takes an entry in, and says whether that is enough.
    pub(crate) fn is_full_with(&mut self, weight: usize) -> bool {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(weight);
        self.entries >= ENTRIES || self.bytes >= BYTES
    }
}

/// What has to be remembered until the end, of whatever size the snapshot is.
#[derive(Debug)]
pub(crate) struct Lasting {
    bytes: usize,
    most: usize,
}

impl Lasting {
    /// Nothing yet; half of the memory that a program may have here is the most.
    pub(crate) fn new() -> Self {
        Self { bytes: 0, most: usize::try_from(process::memory_limit() / 2).unwrap_or(usize::MAX) }
    }

    /// Takes something in.
    ///
    /// # Errors
    /// When that is too much.
    pub(crate) fn add(&mut self, weight: usize) -> Result<()> {
        self.bytes = self.bytes.saturating_add(weight);
        if self.bytes <= self.most {
            return Ok(());
        }
        let most = ByteSize(self.most as u64);
        Err(Error::failed(format!("what is to be remembered of hard links and of folders within folders is more than {most}"))
            .hint("Restore parts of it, by their paths."))
    }

    /// Lets something go.
    pub(crate) fn remove(&mut self, weight: usize) {
        self.bytes = self.bytes.saturating_sub(weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_entries_are_enough_and_so_are_long_ones() {
        let after = |weight: usize| {
            let mut load = Load::default();
            (1..).find(|_| load.is_full_with(weight)).unwrap()
        };
        assert_eq!((after(0), after(100), after(1 << 20), after(usize::MAX)), (ENTRIES, ENTRIES, 32, 1));
    }

    #[test]
    fn what_is_let_go_makes_room() {
        let mut lasting = Lasting { bytes: 0, most: 100 };
        lasting.add(90).unwrap();
        lasting.remove(80);
        lasting.add(90).unwrap();
        assert!(lasting.add(1).unwrap_err().render().contains("Restore parts of it"));
        assert!(Lasting::new().most >= 1 << 30);
    }
}
