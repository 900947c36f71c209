//! Alarms: what must not happen when every party is honest, kept until a person has seen it.
//!
//! Does not act on them, and does not know what an alarm is about.

use base::{FileLock, Result, text};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// What it is about; the same again only counts up.
    pub about: String,
    /// When it was first seen.
    pub first: Timestamp,
    /// When it was last seen.
    pub last: Timestamp,
    /// How often.
    pub times: u64,
    /// What happened.
    pub words: String,
}

/// The alarms of one client, or of the node, kept as `alarms.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarms {
    version: i64,
    /// The alarms, oldest first.
    #[serde(default)]
    pub alarm: Vec<Alarm>,
}

/// How many are kept: somebody who raises alarms on purpose must not fill the disk.
const MOST: usize = 100;

impl Default for Alarms {
    fn default() -> Self {
        Self { version: base::config::VERSION, alarm: Vec::new() }
    }
}

impl Alarms {
    /// Notes that `about` was seen; true when it is news.
    fn note(&mut self, about: &str, words: &str, now: Timestamp) -> bool {
        if let Some(alarm) = self.alarm.iter_mut().find(|alarm| alarm.about == about) {
            alarm.last = now;
            alarm.times = alarm.times.saturating_add(1);
            words.clone_into(&mut alarm.words);
            return false;
        }
        if self.alarm.len() >= MOST {
            // The first ones tell how it began; the place of the latest is taken.
            self.alarm.pop();
        }
        self.alarm.push(Alarm { about: about.to_owned(), first: now, last: now, times: 1, words: words.to_owned() });
        true
    }
}

/// What an alarm about a mirror, which may be nobody's fault, begins with.
pub const MIRROR: &str = "mirror ";

/// The file's name, in a client's folder or the node's state folder.
pub const FILE: &str = "alarms.toml";

/// Held by whoever reads the file to write it anew: several threads and programs do.
fn lock(folder: &Path) -> Result<FileLock> {
    FileLock::wait(&folder.join("alarms.lock"))
}

/// Notes an alarm in `folder`; true when it is news.
///
/// # Errors
/// When the file cannot be written.
pub fn raise(folder: &Path, about: &str, words: &str, now: Timestamp) -> Result<bool> {
    let _lock = lock(folder)?;
    let path = folder.join(FILE);
    let mut alarms: Alarms = crate::state::load(&path);
    let words: String = text::printable(words).chars().take(1000).collect();
    let news = alarms.note(about, &words, now);
    crate::state::store(&path, &alarms)?;
    Ok(news)
}

/// `about` is as it should be again: what was noted goes away by itself. For the node's own trouble, which is no sign
/// of anybody's doing.
///
/// # Errors
/// When the file cannot be written.
pub fn settle(folder: &Path, about: &str) -> Result<()> {
    // Nearly always there is none.
    if folder.join(FILE).exists() { keep(folder, |alarm| alarm.about != about) } else { Ok(()) }
}

/// The alarms of `folder`.
pub fn all(folder: &Path) -> Vec<Alarm> {
    crate::state::load::<Alarms>(&folder.join(FILE)).alarm
}

/// Forgets those alarms of `folder` that a person has seen. What came up meanwhile, or once more, stays.
///
/// # Errors
/// When the file cannot be written.
pub fn forget(folder: &Path, seen: &[Alarm]) -> Result<()> {
    if seen.is_empty() { Ok(()) } else { keep(folder, |alarm| !seen.contains(alarm)) }
}

/// Writes down again which alarms stay.
fn keep(folder: &Path, stays: impl Fn(&Alarm) -> bool) -> Result<()> {
    let _lock = lock(folder)?;
    let path = folder.join(FILE);
    let mut alarms: Alarms = crate::state::load(&path);
    let before = alarms.alarm.len();
    alarms.alarm.retain(stays);
    match alarms.alarm.len() {
        now if now == before => Ok(()),
        0 => base::atomic::remove(&path),
        _ => crate::state::store(&path, &alarms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_bounded_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        assert!(raise(dir.path(), "tip", "went back", now).unwrap());
        assert!(!raise(dir.path(), "tip", "went back\x1b", now).unwrap());
        let seen = all(dir.path());
        assert_eq!((seen.len(), seen[0].times, seen[0].words.as_str()), (1, 2, "went back\\u{1b}"));
        for i in 0..300 {
            raise(dir.path(), &i.to_string(), "x", now).unwrap();
        }
        let seen = all(dir.path());
        assert_eq!((seen.len(), seen[0].about.as_str(), seen[MOST - 1].about.as_str()), (MOST, "tip", "299"));
        settle(dir.path(), "tip").unwrap();
        assert_eq!(all(dir.path())[0].about, "0");
        let seen = all(dir.path());
        raise(dir.path(), "0", "once more", now).unwrap();
        forget(dir.path(), &seen).unwrap();
        assert_eq!(all(dir.path()).iter().map(|alarm| (alarm.about.as_str(), alarm.times)).collect::<Vec<_>>(), [("0", 2)]);
        forget(dir.path(), &all(dir.path())).unwrap();
        assert!(all(dir.path()).is_empty() && !dir.path().join(FILE).exists());
    }

    #[test]
    fn alarms_that_come_at_once_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        raise(dir.path(), "stays", "x", now).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let folder = dir.path();
                scope.spawn(move || {
                    for n in 0..10 {
                        raise(folder, &format!("{thread} {n}"), "x", now).unwrap();
                        raise(folder, &format!("{thread} goes"), "x", now).unwrap();
                        settle(folder, &format!("{thread} goes")).unwrap();
                    }
                });
            }
        });
        let about: std::collections::BTreeSet<String> = all(dir.path()).into_iter().map(|alarm| alarm.about).collect();
        assert_eq!(about.len(), 41, "{about:?}");
    }
}
