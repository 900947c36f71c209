//! Streams that become the files of a snapshot, in the order of their names.
//!
//! Does not know where they come from, nor when they are whole: it is told.

use super::Run;
use crate::content::Trouble;
use crate::entry::{Entry, EntryKind, Mtime};
use crate::walk::Visitor;
use base::{Error, Result, clock};
use std::collections::BTreeSet;
use std::io::Read;

/// The longest name that every file system takes.
const NAME: usize = 255;

/// Takes streams, one after the other.
pub struct Streams<'r, 'a> {
    run: &'r mut Run<'a>,
    names: BTreeSet<String>,
}

impl std::fmt::Debug for Streams<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Streams({:?})", self.names)
    }
}

impl<'r, 'a> Streams<'r, 'a> {
    pub(super) fn new(run: &'r mut Run<'a>) -> Self {
        Self { run, names: BTreeSet::new() }
    }

    /// Stores `from` up to its end as the file `name`, and says how many bytes that were. `finish` is called at the end, and
    /// its error means that the stream was not whole: then there is no snapshot. Names are relative paths, and each is
    /// greater than the one before by its bytes.
    ///
    /// # Errors
    /// When the name is no such path, the stream cannot be read, or `finish` fails; there can be no snapshot after that.
    pub fn put(&mut self, name: &str, from: &mut dyn Read, finish: &mut dyn FnMut() -> Result<()>) -> Result<u64> {
        let plain = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= NAME && !part.chars().any(char::is_control);
        if !name.split('/').all(plain) {
            return Err(Error::failed(format!("{name:?} cannot be the name of a stream")));
        }
        let last = self.names.last().map(String::as_str).unwrap_or_default();
        let folders = || name.match_indices('/').map(|(at, _)| &name[..=at]);
        if name <= last || folders().any(|folder| self.names.contains(folder.trim_end_matches('/'))) {
            return Err(Error::failed(format!("the stream {name:?} cannot come after {last:?}")));
        }
        for folder in folders().filter(|folder| !last.starts_with(folder)) {
            push(self.run, folder, EntryKind::Dir, 0o700)?;
        }
        let stored = self.run.reader.stream(from, &mut self.run.deposit, self.run.spec.monitor).map_err(|trouble| match trouble {
            Trouble::Source(error) => Error::failed(format!("could not read a stream of {}", self.run.spec.dataset)).because(error),
            Trouble::Archive(error) => error,
        })?;
        finish()?;
        self.run.counts.files += 1;
        self.run.counts.bytes = self.run.counts.bytes.saturating_add(stored.size);
        let kind = EntryKind::File { size: stored.size, content: stored.content, digest: stored.digest, hard_link: None };
        push(self.run, name, kind, 0o600)?;
        self.names.insert(name.to_owned());
        Ok(stored.size)
    }

    /// Notes in the errors ledger that something of the source could not be read; the snapshot is made all the same.
    ///
    /// # Errors
    /// When the ledger cannot take it.
    pub fn unreadable(&mut self, path: &str, why: String) -> Result<()> {
        self.run.unreadable(path.as_bytes(), why)
    }
}

fn push(run: &mut Run<'_>, path: &str, kind: EntryKind, mode: u32) -> Result<()> {
    let now = Mtime { seconds: clock::now().as_second(), nanos: 0 };
    run.push(&Entry { path: path.as_bytes().to_vec(), kind, mode, uid: 0, gid: 0, user: None, group: None, mtime: now })
}
