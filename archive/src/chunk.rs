//! Cutting of content into chunks: where cuts fall depends on the content and the client's secret alone.
//!
//! Does not hash or store what it cuts.

use crate::epoch::Secrets;
use crate::limits;
use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};
use std::borrow::Cow;
use std::io::Read;
use std::ops::Range;

/// A file up to this long is one chunk.
pub const WHOLE: usize = 1 << 20;
/// Room to read into; more than the longest chunk, so that few bytes are moved.
const BUFFER: usize = 2 * limits::CHUNK;

/// How long chunks are: never shorter (but for the last one), about, never longer.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    min: usize,
    average: usize,
    max: usize,
}

/// For files longer than [`WHOLE`].
pub const FILES: Sizes = Sizes { min: 128 << 10, average: 512 << 10, max: limits::CHUNK };
/// For streams, and for long lists of references.
pub const STREAMS: Sizes = Sizes { min: 16 << 10, average: 64 << 10, max: 256 << 10 };

/// `FastCDC` with the client's secret in its table.
#[derive(Debug)]
pub struct Cutter {
    sizes: Sizes,
    masks: (u64, u64),
    gear: Cow<'static, [u64]>,
    gear_shifted: Cow<'static, [u64]>,
}

impl Cutter {
    /// A cutter for this client and these sizes.
    pub fn new(secrets: &Secrets, sizes: Sizes) -> Self {
        let (gear, gear_shifted) = get_gear_with_seed(secrets.cutting_seed());
        Self { sizes, masks: select_masks(sizes.average, Normalization::Level1), gear, gear_shifted }
    }

    /// How many bytes must be there for [`Cutter::cut`], unless the content ends before.
    pub fn window(&self) -> usize {
        self.sizes.max
    }

    /// The length of the first chunk of `content`, which is at least [`Cutter::window`] long or the end of the whole.
    pub fn cut(&self, content: &[u8]) -> usize {
        let Sizes { min, average, max } = self.sizes;
        let (strict, loose) = self.masks;
        cut_gear(content, min, average, max, strict, loose, strict << 1, loose << 1, &self.gear, &self.gear_shifted).1
    }
}

/// A buffer through which one content after the other is read and cut.
#[derive(Debug)]
pub struct Chunker {
    buffer: Vec<u8>,
    filled: Range<usize>,
    ended: bool,
}

impl Default for Chunker {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER], filled: 0..0, ended: false }
    }
}

impl Chunker {
    /// Forgets what is buffered; a new content begins.
    pub fn begin(&mut self) {
        self.filled = 0..0;
        self.ended = false;
    }

    /// Reads until `want` bytes are there or the content has ended, and gives all that is there.
    ///
    /// # Errors
    /// As reading does.
    pub fn fill(&mut self, source: &mut dyn Read, want: usize) -> std::io::Result<&[u8]> {
        if self.filled.start + want > self.buffer.len() {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        while self.filled.len() < want && !self.ended {
            match source.read(&mut self.buffer[self.filled.end..]) {
                Ok(0) => self.ended = true,
                Ok(n) => self.filled.end += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.filled.clone()])
    }

    /// The next chunk; `None` behind the last one.
    ///
    /// # Errors
    /// As reading does.
    pub fn next(&mut self, source: &mut dyn Read, cutter: &Cutter) -> std::io::Result<Option<&[u8]>> {
        let content = self.fill(source, cutter.window())?;
        if content.is_empty() {
            return Ok(None);
        }
        let length = cutter.cut(content);
        let start = self.filled.start;
        self.filled.start += length;
        Ok(Some(&self.buffer[start..start + length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn chunks(mut source: impl Read, sizes: Sizes, secret: u8) -> Vec<Vec<u8>> {
        let cutter = Cutter::new(&Secrets::from_bytes([secret; 32]), sizes);
        let mut chunker = Chunker::default();
        chunker.begin();
        let mut all = Vec::new();
        while let Some(chunk) = chunker.next(&mut source, &cutter).unwrap() {
            all.push(chunk.to_vec());
        }
        all
    }

    /// Gives few bytes at a time, as a pipe does.
    struct Slow<'a>(&'a [u8], usize);
    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let n = self.1.min(to.len()).min(self.0.len());
            to[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let content = noise(8 << 20, 1);
        let before = chunks(&content[..], STREAMS, 1);
        assert!(before.len() > 60 && before.len() < 250, "{}", before.len());
        let mut changed = content.clone();
        changed.splice(4_000_000..4_000_000, *b"inserted");
        let after = chunks(&changed[..], STREAMS, 1);
        let new = after.iter().filter(|chunk| !before.contains(chunk)).count();
        assert!(new <= 3, "{new}");
        // Another client cuts elsewhere.
        let other = chunks(&content[..], STREAMS, 2);
        assert!(other.iter().filter(|chunk| before.contains(chunk)).count() < 3);
    }

    #[test]
    fn zeros_are_cut_alike() {
        let all = chunks(std::io::repeat(0).take(20 << 20), FILES, 1);
        assert!(all[..all.len() - 1].windows(2).all(|two| two[0] == two[1]));
        assert!(chunks(std::io::empty(), FILES, 1).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn cuts_do_not_depend_on_reads(length in 0usize..3_000_000, step in 1000usize..700_000, seed: u64) {
            let content = noise(length, seed);
            let at_once = chunks(&content[..], STREAMS, 1);
            prop_assert_eq!(&chunks(Slow(&content, step), STREAMS, 1), &at_once);
            prop_assert!(at_once.iter().all(|c| c.len() <= STREAMS.max));
            prop_assert!(at_once.iter().rev().skip(1).all(|c| c.len() >= STREAMS.min));
            prop_assert_eq!(at_once.concat(), content);
        }
    }
}
