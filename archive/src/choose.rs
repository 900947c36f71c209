//! Choosing what of a tree is taken: patterns in gitignore form, caches, other file systems, sizes, a list of names.
//!
//! Decides only: reads nothing but the list of names that it is given, and knows no configuration.

mod names;
mod patterns;
mod walker;

pub(crate) use walker::Chooser;

use base::{Error, Result};
use names::Names;
use patterns::{Form, Met, Patterns};
use std::path::Path;

/// The name of the file that marks a cache, and how it begins (<https://bford.info/cachedir/>).
const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What is taken of a tree. The default takes everything.
#[derive(Debug, Default)]
pub struct Choice {
    patterns: Patterns,
    names: Option<Names>,
    /// Whether of a folder with a valid `CACHEDIR.TAG` only the tag is taken.
    pub exclude_caches: bool,
    /// Whether folders on another file system than the root are taken without their content.
    pub one_file_system: bool,
    /// The largest file that is taken.
    pub max_file_size: Option<u64>,
    /// Folders, as (device, inode), whose content is never taken: where the program itself writes meanwhile.
    pub own: Vec<(u64, u64)>,
}

/// What becomes of a thing and, for a folder, of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It is taken; a folder is entered.
    Take,
    /// A folder that is left out; it is entered because an exception may be below, and taken if one is.
    Pass(Why<'a>),
    /// It is left out with everything below it.
    Leave(Why<'a>),
}

/// Why something is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why<'a> {
    /// By this pattern.
    Pattern(&'a str),
    /// It lies in a folder that a pattern leaves out.
    Folder,
    /// The list of names does not name it.
    NotListed,
    /// It lies in a cache.
    Cache,
    /// It is larger than files may be.
    Size,
    /// It is on another file system.
    OtherFileSystem,
    /// The program writes there itself.
    Own,
}

impl std::fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pattern(pattern) => return write!(f, "exclude {pattern:?}"),
            Self::Folder => "in a folder that is left out",
            Self::NotListed => "not named in files_from",
            Self::Cache => "in a cache (CACHEDIR.TAG)",
            Self::Size => "larger than max_file_size",
            Self::OtherFileSystem => "on another file system (one_file_system)",
            Self::Own => "nightsafe's own, made anew by every backup",
        })
    }
}

impl Choice {
    /// Leaves out what `exclude` matches and `include` does not except.
    ///
    /// # Errors
    /// Of kind usage, with the pattern that is wrong.
    pub fn new(exclude: &[String], include: &[String]) -> Result<Self> {
        Ok(Self { patterns: Patterns::new(exclude, include)?, ..Self::default() })
    }

    /// Takes only what `list` names: paths below `root` or relative to it, one a line, or ended by NUL bytes where there
    /// are any. What cannot be the name of anything below `root` goes into the errors ledger, as does what is not there.
    ///
    /// # Errors
    /// When the list names nothing at all: whoever made it meant something else.
    pub fn only(&mut self, list: &[u8], root: &Path) -> Result<()> {
        let names = Names::parse(list, root);
        if names.is_empty() {
            return Err(Error::failed("it names nothing").hint("Nothing was backed up; look at what makes the list."));
        }
        self.names = Some(names);
        Ok(())
    }

    /// What becomes of `path`, which is relative to the root and has no slash at its end, by its name alone; as git would
    /// find it, every folder above is judged first.
    pub fn judge(&self, path: &[u8], is_dir: bool) -> Verdict<'_> {
        let mut above = Verdict::Take;
        for end in (0..path.len()).filter(|i| path[*i] == b'/') {
            above = self.judge_in(above, &path[..end], true);
            if matches!(above, Verdict::Leave(_)) {
                return above;
            }
        }
        self.judge_in(above, path, is_dir)
    }

    /// As [`Self::judge`], when the verdict on the folder that holds `path` is known, and is not to leave it.
    pub(crate) fn judge_in(&self, above: Verdict<'_>, path: &[u8], is_dir: bool) -> Verdict<'_> {
        if self.names.as_ref().is_some_and(|names| !names.takes(path, is_dir)) {
            return Verdict::Leave(Why::NotListed);
        }
        let why = if above == Verdict::Take {
            match self.patterns.last(path, is_dir) {
                Some(Met::Out(pattern)) => Why::Pattern(pattern),
                Some(Met::In) | None => return Verdict::Take,
            }
        } else if self.patterns.reaches(path, is_dir) {
            return Verdict::Take;
        } else {
            Why::Folder
        };
        if is_dir && self.patterns.may_reach_below(path) { Verdict::Pass(why) } else { Verdict::Leave(why) }
    }
}

/// Checks one pattern of `exclude` (`may_negate`) or `include`.
///
/// # Errors
/// Of kind usage, with what is wrong in it.
pub fn check_pattern(text: &str, may_negate: bool) -> Result<()> {
    Form::parse(text, may_negate).map(drop)
}

#[cfg(test)]
mod tests;
