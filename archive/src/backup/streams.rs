//! Streams and trees that become the files and folders of a snapshot, in the order of their names.
//!
//! Does not know where they come from, nor when they are whole: it is told.

use super::Run;
use crate::choose::Choice;
use crate::content::Trouble;
use crate::entry::{Entry, EntryKind, Mtime};
use crate::walk::{Root, Source};
use base::{Error, Result, clock};
use std::collections::BTreeSet;
use std::io::Read;

/// The longest name that every file system takes.
const NAME: usize = 255;

/// Takes streams and trees, one after the other.
pub struct Streams<'r, 'a> {
    run: &'r mut Run<'a>,
    names: BTreeSet<String>,
    /// The path of the last entry that has a name.
    last: String,
}

impl std::fmt::Debug for Streams<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Streams({:?})", self.names)
    }
}

impl<'r, 'a> Streams<'r, 'a> {
    pub(super) fn new(run: &'r mut Run<'a>) -> Self {
        Self { run, names: BTreeSet::new(), last: String::new() }
    }

    /// Stores `from` up to its end as the file `name`, and says how many bytes that were. `finish` is called at the end, and
    /// its error means that the stream was not whole: then there is no snapshot. Names are relative paths, and each is
    /// greater than the one before by its bytes, where that of a tree's folder ends in `/`.
    ///
    /// # Errors
    /// When the name is no such path, the stream cannot be read, or `finish` fails; there can be no snapshot after that.
    pub fn put(&mut self, name: &str, from: &mut dyn Read, finish: &mut dyn FnMut() -> Result<()>) -> Result<u64> {
        self.begin(name, name)?;
        let stored = self.run.reader.stream(from, &mut self.run.deposit, self.run.spec.monitor).map_err(|trouble| match trouble {
            Trouble::Source(error) => Error::failed(format!("could not read a stream of {}", self.run.spec.dataset)).because(error),
            Trouble::Archive(error) => error,
        })?;
        finish()?;
        let kind = EntryKind::File { size: stored.size, content: stored.content, digest: stored.digest, sparse: None };
        push(self.run, name, kind, 0o600)?;
        Ok(stored.size)
    }

    /// Stores the folder `source` with what `choice` takes of it as the folder `name`, or a single file as the file `name`.
    /// What cannot be read goes into the errors ledger.
    ///
    /// # Errors
    /// When the name is out of order, or the source itself cannot be read; there can be no snapshot after that.
    pub fn tree(&mut self, name: &str, source: Source<'_>, choice: &Choice) -> Result<()> {
        let root = Root::open(source)?;
        let key = if root.is_folder() { format!("{name}/") } else { name.to_owned() };
        self.begin(name, &key)?;
        self.run.tree(key.as_bytes(), root, choice)
    }

    /// Checks a name, whose entry has the path `key`, and makes the folders above it.
    fn begin(&mut self, name: &str, key: &str) -> Result<()> {
        let plain = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= NAME && !part.chars().any(char::is_control);
        if !name.split('/').all(plain) {
            return Err(Error::failed(format!("{name:?} cannot be the name of a stream")));
        }
        let folders = || name.match_indices('/').map(|(at, _)| &name[..=at]);
        if key <= self.last.as_str() || folders().any(|folder| self.names.contains(folder.trim_end_matches('/'))) {
            return Err(Error::failed(format!("the stream {name:?} cannot come after {:?}", self.last)));
        }
        for folder in folders().filter(|folder| !self.last.starts_with(folder)) {
            push(self.run, folder, EntryKind::Dir, 0o700)?;
        }
        self.last = key.to_owned();
        self.names.insert(name.to_owned());
        Ok(())
    }

    /// Notes in the errors ledger that something of the source could not be read; the snapshot is made all the same.
    ///
    /// # Errors
    /// When the ledger cannot take it.
    pub fn unreadable(&mut self, path: &str, why: String) -> Result<()> {
        self.run.unreadable(path.as_bytes(), why);
        Ok(())
    }
}

fn push(run: &mut Run<'_>, path: &str, kind: EntryKind, mode: u32) -> Result<()> {
    let now = Mtime { seconds: clock::now().as_second(), nanos: 0 };
    let path = path.as_bytes().to_vec();
    run.push(&Entry { path, kind, mode, uid: 0, gid: 0, user: None, group: None, mtime: now, hard_link: None, attributes: None }, None)
        .map(drop)
}
