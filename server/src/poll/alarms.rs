//! Alarms: what must not happen when every party is honest, kept until a person has seen it.
//!
//! Does not act on them, and does not know what an alarm is about.

use base::{Result, text};
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

/// Notes an alarm in `folder`; true when it is news.
///
/// # Errors
/// When the file cannot be written.
pub fn raise(folder: &Path, about: &str, words: &str, now: Timestamp) -> Result<bool> {
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
    let path = folder.join(FILE);
    let mut alarms: Alarms = crate::state::load(&path);
    let before = alarms.alarm.len();
    alarms.alarm.retain(|alarm| alarm.about != about);
    if alarms.alarm.len() == before { Ok(()) } else { crate::state::store(&path, &alarms) }
}

/// The alarms of `folder`.
pub fn all(folder: &Path) -> Vec<Alarm> {
    crate::state::load::<Alarms>(&folder.join(FILE)).alarm
}

/// Forgets the alarms of `folder`: a person has seen them.
///
/// # Errors
/// When the file cannot be removed.
pub fn forget(folder: &Path) -> Result<()> {
    base::atomic::remove(&folder.join(FILE))
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
        forget(dir.path()).unwrap();
        assert!(all(dir.path()).is_empty());
    }
}
