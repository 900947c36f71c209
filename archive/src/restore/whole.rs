//! A target that is made as a whole by something else than files, as a repository is by git: the same mark stands in it until that
//! is done, so that a restore which was cut off is known again, and nothing else is taken for one.
//!
//! Writes nothing but the mark, and does not know what is made.

use super::journal::{Journal, Mode};
use super::ready::{of_others, place};
use super::room;
use base::{At, Error, RequestId, Result};
use std::fs::{self, File};
use std::path::Path;

/// What such a restore was asked for: all of it, always.
const ASKED: &str = "whole";

/// A target with our mark in it, which nobody else restores into meanwhile.
#[derive(Debug)]
pub struct Whole {
    journal: Journal,
    folder: File,
    resumed: bool,
}

impl Whole {
    /// Whether the target may become that snapshot: whether a restore of it was cut off there. Nothing is written.
    ///
    /// # Errors
    /// Of kind refused when something is there that no such restore has left.
    pub fn look(target: &Path, snapshot: &RequestId) -> Result<bool> {
        if !place(target)? {
            return Ok(false);
        }
        let name = Journal::name(snapshot);
        let things = of_others(target, &name)?;
        match Journal::read(target, &name)? {
            Some(before) if before.mode == Mode::Fresh && before.asked == ASKED => Ok(true),
            None if things == 0 => Ok(false),
            _ => {
                Err(Error::refused(format!("{} is there and is not empty", target.display()))
                    .hint("Name a folder that does not exist yet."))
            }
        }
    }

    /// Makes the target, if need be, and leaves the mark in it.
    ///
    /// # Errors
    /// As [`Whole::look`]; of kind not-now when another restore is at work there.
    pub fn begin(target: &Path, snapshot: &RequestId) -> Result<Self> {
        let resumed = Self::look(target, snapshot)?;
        fs::create_dir_all(target).at("create the folder", target)?;
        let folder = File::open(target).at("open", target)?;
        let name = Journal::name(snapshot);
        let journal = Journal::begin(&folder, target, name.clone(), Mode::Fresh, ASKED, resumed)?;
        // What another restore, or anybody, put there meanwhile is not taken for ours.
        if !resumed && of_others(target, &name)? > 0 {
            journal.remove(&folder)?;
            return Err(Error::not_now(format!("{} was made by somebody else meanwhile", target.display())));
        }
        journal.sync()?;
        folder.sync_all().at("sync", target)?;
        Ok(Self { journal, folder, resumed })
    }

    /// Whether a restore that was cut off has left something.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// All is there: the mark goes.
    ///
    /// # Errors
    /// With the mark's name.
    pub fn finish(self) -> Result<()> {
        self.journal.remove(&self.folder)
    }
}

/// Bytes that may still be written where `path` is, or will be.
///
/// # Errors
/// With the path.
pub fn free_bytes(path: &Path) -> Result<u64> {
    room::free(path).map(|(bytes, _)| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Kind;

    #[test]
    fn only_what_such_a_restore_has_left_is_taken_up() {
        let dir = tempfile::tempdir().unwrap();
        let (target, ids) = (dir.path().join("a/t"), ["20261120T031500Z-3f9a1c7e", "20261121T031500Z-3f9a1c7e"]);
        let [id, other] = ids.map(|id| id.parse().unwrap());
        assert!(!Whole::look(&target, &id).unwrap() && !target.exists());
        let whole = Whole::begin(&target, &id).unwrap();
        assert!(!whole.is_resumed());
        fs::write(target.join("HEAD"), "x").unwrap();
        // While it works, nobody else does.
        assert_eq!(Whole::begin(&target, &id).unwrap_err().kind(), Kind::NotNow);
        drop(whole);
        assert_eq!(Whole::look(&target, &other).unwrap_err().kind(), Kind::Refused);
        assert!(Whole::look(&target, &id).unwrap());
        let whole = Whole::begin(&target, &id).unwrap();
        assert!(whole.is_resumed());
        whole.finish().unwrap();
        // Without the mark it is somebody's.
        assert_eq!(Whole::begin(&target, &id).unwrap_err().kind(), Kind::Refused);
        assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
        // A mark that says something else, or nothing, makes nobody's files ours; alone, it was cut off before all.
        let mark = target.join(Journal::name(&id));
        for text in ["", "1 never whole boot\n", "1 fresh other boot\n"] {
            fs::write(&mark, text).unwrap();
            assert_eq!(Whole::begin(&target, &id).unwrap_err().kind(), Kind::Refused, "{text}");
        }
        fs::write(&mark, "").unwrap();
        fs::remove_file(target.join("HEAD")).unwrap();
        assert!(!Whole::begin(&target, &id).unwrap().is_resumed());
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        assert_eq!(Whole::begin(&dir.path().join("link"), &id).unwrap_err().kind(), Kind::Refused);
        fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(Whole::begin(&dir.path().join("file"), &id).unwrap_err().kind(), Kind::Refused);
    }
}
