//! Whose turn it is: a rolling share of many things, those first that were not looked at for longest.
//!
//! Does not know what the things are, nor what is looked at in them. A file of lines: `nightsafe turns 1 RUN`, then for each
//! thing the run in which it was looked at last, or before which it was first seen, and its name. Losing it costs looking
//! at some things again before others; so a broken one is begun anew.

use base::{Error, Result, atomic, untrusted};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the first line begins with.
const HEAD: &str = "nightsafe turns 1 ";
/// The longest file that is read: some three million packs.
const LIMIT: usize = 256 << 20;

/// When each of many things was looked at last, counted in runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turns {
    path: PathBuf,
    run: u64,
    seen: BTreeMap<String, u64>,
}

impl Turns {
    /// Begins a run over the things of these names, of which none has a line feed in it; what is kept in `path` says when
    /// they had their turn. What is new comes after what was there before.
    pub fn begin(path: &Path, names: impl IntoIterator<Item = String>) -> Self {
        let (run, before) = read(path).unwrap_or_else(|error| {
            if path.exists() {
                tracing::warn!("{} is begun anew: {}", path.display(), error.one_line());
            }
            (0, BTreeMap::new())
        });
        let seen =
            names.into_iter().map(|name| (before.get(&name).copied().unwrap_or(run).min(run), name)).map(|(turn, name)| (name, turn));
        Self { path: path.to_owned(), seen: seen.collect(), run: run.saturating_add(1) }
    }

    /// The share whose turn it is, rounded up: of `percent` = 4 everything has its turn within 25 runs. None when there is
    /// nothing, and never more than there is.
    pub fn due(&self, percent: f64) -> Vec<String> {
        self.due_of("", percent)
    }

    /// As [`Turns::due`], of those whose names begin so.
    pub fn due_of(&self, begin: &str, percent: f64) -> Vec<String> {
        let mut ranked: Vec<(u64, &String)> =
            self.seen.iter().filter(|(name, _)| name.starts_with(begin)).map(|(name, turn)| (*turn, name)).collect();
        ranked.sort_unstable();
        let share = share(ranked.len(), percent);
        ranked.into_iter().take(share).map(|(_, name)| name.clone()).collect()
    }

    /// This one was looked at.
    pub fn done(&mut self, name: &str) {
        if let Some(turn) = self.seen.get_mut(name) {
            *turn = self.run;
        }
    }

    /// This one is to be looked at again before all others.
    pub fn again(&mut self, name: &str) {
        if let Some(turn) = self.seen.get_mut(name) {
            *turn = 0;
        }
    }

    /// Writes down how far it came.
    ///
    /// # Errors
    /// With the path.
    pub fn keep(&self) -> Result<()> {
        let mut text = format!("{HEAD}{}\n", self.run);
        for (name, turn) in &self.seen {
            text.push_str(&format!("{turn} {name}\n"));
        }
        atomic::write(&self.path, text.as_bytes(), 0o640)
    }
}

/// How many of `all` are `percent`, rounded up.
fn share(all: usize, percent: f64) -> usize {
    let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let mut low = 0;
    let mut high = all;
    // Searched, so that no number has to be cut: how many are enough grows with the number.
    while low < high {
        let middle = low + (high - low) / 2;
        if number(middle) * 100.0 >= number(all) * percent { high = middle } else { low = middle + 1 }
    }
    low
}

fn read(path: &Path) -> Result<(u64, BTreeMap<String, u64>)> {
    let wrong = || Error::failed("it is not what this program writes");
    let bytes = untrusted::read(path, LIMIT)?.bytes;
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    let mut lines = text.lines();
    let run = lines.next().and_then(|line| line.strip_prefix(HEAD)?.parse().ok()).ok_or_else(wrong)?;
    let line = |line: &str| line.split_once(' ').and_then(|(turn, name)| Some((name.to_owned(), turn.parse().ok()?)));
    let seen = lines.map(|text| line(text).ok_or_else(wrong)).collect::<Result<_>>()?;
    Ok((run, seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn shares() {
        for (all, percent, expected) in
            [(0, 4.0, 0), (1, 4.0, 1), (25, 4.0, 1), (26, 4.0, 2), (75, 4.0, 3), (100, 100.0, 100), (3, 50.0, 2), (7, 0.001, 1)]
        {
            assert_eq!(share(all, percent), expected, "{all} {percent}");
        }
    }

    #[test]
    fn broken_files_are_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("turns");
        let begin = || Turns::begin(&path, ["a".to_owned(), "b".to_owned()]);
        let mut turns = begin();
        assert_eq!(turns.due(50.0), ["a"]);
        turns.done("a");
        turns.keep().unwrap();
        assert_eq!(begin().due(50.0), ["b"]);
        for bad in ["", "nightsafe turns 2 1\n", "nightsafe turns 1 x\n", "nightsafe turns 1 1\nx a\n", "nightsafe turns 1 1\n5\n"] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(begin().due(50.0), ["a"], "{bad}");
        }
        // A turn from the future does not keep anybody waiting.
        std::fs::write(&path, "nightsafe turns 1 3\n99 a\n3 b\n").unwrap();
        assert_eq!(begin().due(50.0), ["a"]);
        let mut turns = begin();
        turns.done("a");
        turns.done("b");
        turns.again("b");
        turns.keep().unwrap();
        assert_eq!(begin().due(50.0), ["b"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn everything_has_its_turn(old in 1usize..200, fresh in prop::collection::vec(0usize..30, 25), percent in 4.0f64..30.0) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("turns");
            let mut names: Vec<String> = (0..old).map(|n| format!("old/{n}")).collect();
            let mut looked = BTreeSet::new();
            // What comes meanwhile, however it is called, does not keep those waiting that were there first.
            for (run, more) in fresh.into_iter().enumerate() {
                let mut turns = Turns::begin(&path, names.iter().cloned());
                for name in turns.due(percent) {
                    turns.done(&name);
                    looked.insert(name);
                }
                turns.keep().unwrap();
                names.extend((0..more).map(|n| format!("new/{run}-{n}")));
            }
            let all = (0..old).map(|n| format!("old/{n}")).all(|name| looked.contains(&name));
            prop_assert!(all);
        }
    }
}
