//! Which packs are looked into when not all are, and which files were found right before.
//!
//! Decides; reads nothing.

use crate::entry::Content;
use crate::read::content::Expected;
use crate::reference::{Extent, References, RunId};
use crate::snapshot::SnapshotReader;
use base::{Blake3, Error, Result};
use std::collections::{HashMap, HashSet};

/// How many files are remembered as right: some 200 MiB.
const REMEMBERED: usize = 4_000_000;

/// A share of what there is, drawn at random; the same for all who ask in one run, so that what several snapshots have is
/// drawn for all of them or for none.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    percent: f64,
    seed: [u8; 32],
}

impl Sample {
    /// A share of this many percent.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(percent: f64) -> Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| Error::failed("the system gives no random bytes").because(e))?;
        Ok(Self { percent, seed })
    }

    /// The share, in percent.
    pub fn percent(&self) -> f64 {
        self.percent
    }

    /// Draws from these: the share rounded up, and at least one.
    pub fn draw(&self, from: impl IntoIterator<Item = Blake3>) -> HashSet<Blake3> {
        let rank = |digest: Blake3| (*blake3::keyed_hash(&self.seed, &digest.0).as_bytes(), digest);
        let mut ranked: Vec<([u8; 32], Blake3)> = from.into_iter().map(rank).collect();
        ranked.sort_unstable();
        ranked.dedup();
        let mut wanted = 1;
        while wanted < ranked.len() && share(wanted, ranked.len()) < self.percent {
            wanted += 1;
        }
        ranked.into_iter().take(wanted).map(|(_, digest)| digest).collect()
    }
}

/// What share `part` is of `whole`, in percent.
fn share(part: usize, whole: usize) -> f64 {
    let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    number(part) * 100.0 / number(whole)
}

/// Files that were read and found right in this run: many snapshots share most of them.
#[derive(Default)]
pub struct Known {
    files: HashSet<[u8; 16]>,
    /// What each run's frames are, as far as the manifests said so far.
    spans: HashMap<(RunId, u32), (u32, Blake3, Blake3)>,
}

impl Known {
    /// Takes in where a snapshot says that frames are. References mean the same bytes only while all snapshots agree.
    pub(super) fn begin(&mut self, reader: &SnapshotReader) {
        for (pack, sealed) in reader.frames().packs() {
            let span = (sealed.frames, sealed.table, pack.digest);
            if self.spans.insert((sealed.run, sealed.first), span).is_some_and(|before| before != span) {
                self.files.clear();
            }
        }
    }

    /// Whether a file of this content was found right.
    pub(super) fn has(&self, content: &Content, expected: &Expected) -> bool {
        self.files.contains(&key(content, expected))
    }

    /// Remembers that it was.
    pub(super) fn add(&mut self, content: &Content, expected: &Expected) {
        if self.files.len() < REMEMBERED {
            self.files.insert(key(content, expected));
        }
    }
}

/// What stands for a file's content: its digest, its size and its list.
fn key(content: &Content, expected: &Expected) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&expected.digest.0).update(&expected.size.to_le_bytes());
    let (kind, References(items)) = match content {
        Content::Chunks(list) => (0, list),
        Content::More(list) => (1, list),
    };
    hasher.update(&[kind]);
    for item in items {
        let (what, a, b) = match item.extent {
            Extent::Range { first, last } => (0, first, u64::from(last)),
            Extent::Repeat { n, count } => (1, n, count),
        };
        hasher.update(&[what]).update(&item.run.0.to_le_bytes()).update(&item.frame.to_le_bytes());
        hasher.update(&a.to_le_bytes()).update(&b.to_le_bytes());
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::FileDigest;

    #[test]
    fn at_least_one_pack_and_never_more_than_all() {
        let all = || (0..40u8).map(|n| Blake3::of(&[n]));
        let draw = |percent: f64| Sample::new(percent).unwrap().draw(all());
        for (percent, expected) in [(0.001, 1), (2.5, 1), (2.6, 2), (5.0, 2), (50.0, 20), (99.9, 40), (100.0, 40)] {
            assert_eq!(draw(percent).len(), expected, "{percent}");
        }
        assert_eq!(Sample::new(5.0).unwrap().draw(all().take(1)).len(), 1);
        assert!((0..50).any(|_| draw(5.0) != draw(5.0)), "it is drawn at random");
        let one = Sample::new(10.0).unwrap();
        assert_eq!(one.draw(all()), one.draw(all()));
    }

    #[test]
    fn another_list_or_digest_is_another_file() {
        let expected = Expected { size: 3, digest: FileDigest([1; 16]) };
        let list = |text: &str| text.parse::<References>().unwrap();
        let one = Content::Chunks(list("0f3a56b1c2d4e6f8/3/0-9"));
        let mut known = Known::default();
        known.add(&one, &expected);
        assert!(known.has(&one, &expected));
        for other in ["0f3a56b1c2d4e6f8/3/0-8", "0f3a56b1c2d4e6f8/4/0-9", "0f3a56b1c2d4e6f9/3/0-9", "0f3a56b1c2d4e6f8/3/0*9"] {
            assert!(!known.has(&Content::Chunks(list(other)), &expected), "{other}");
        }
        assert!(!known.has(&Content::More(list("0f3a56b1c2d4e6f8/3/0-9")), &expected));
        assert!(!known.has(&one, &Expected { size: 4, ..expected }));
    }
}
