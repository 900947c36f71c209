//! When what is done again and again for a client's data was last done to its end: the scrub, the prune.
//!
//! A file for each, so that two that run at once do not write the same one. Losing it costs a line in `status`.

use base::Result;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// A share of what is kept was read again.
    Scrub,
    /// What is not to be kept was looked for and taken away.
    Prune,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: i64,
    last: Option<Timestamp>,
}

impl Default for File {
    fn default() -> Self {
        Self { version: base::config::VERSION, last: None }
    }
}

impl Done {
    fn path(self, folder: &Path) -> PathBuf {
        folder.join(match self {
            Self::Scrub => "last-scrub.toml",
            Self::Prune => "last-prune.toml",
        })
    }

    /// When it was last done for the client of this folder.
    pub fn at(self, folder: &Path) -> Option<Timestamp> {
        crate::state::load::<File>(&self.path(folder)).last
    }

    /// Notes that it was done now.
    ///
    /// # Errors
    /// With the path.
    pub fn note(self, folder: &Path, now: Timestamp) -> Result<()> {
        // A client of whom nothing came yet has no folder, and there was nothing to do.
        if !folder.is_dir() {
            return Ok(());
        }
        crate::state::store(&self.path(folder), &File { last: Some(now), ..File::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_by_itself_and_never_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(Done::Scrub.at(dir.path()), None);
        Done::Scrub.note(dir.path(), now).unwrap();
        assert_eq!((Done::Scrub.at(dir.path()), Done::Prune.at(dir.path())), (Some(now), None));
        std::fs::write(dir.path().join("last-scrub.toml"), "version = 1\nlast = 7").unwrap();
        assert_eq!(Done::Scrub.at(dir.path()), None);
    }
}
