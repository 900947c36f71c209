//! The way back of a sealed repository: its bundles, in order, into a bare repository, and the refs of its list.
//!
//! Does not prove the snapshot; the caller did. Bundles bring objects alone; refs and HEAD come from the list.

use super::LIST_LIMIT;
use super::mirror::git;
use super::refs::RefList;
use super::restore::{self, TIME};
use crate::archived::feed_by;
use crate::{RestoreContext, RestoreReport};
use archive::entry::{Entry, EntryKind};
use archive::snapshot::SnapshotReader;
use base::{Error, Result};
use std::io::Write;
use std::path::Path;

/// The longest head of a bundle.
const HEAD_LIMIT: usize = 2 * LIST_LIMIT;

/// See [`crate::ClientModule::restore`].
pub(super) fn restore(context: &RestoreContext<'_>, reader: &SnapshotReader) -> Result<RestoreReport> {
    let list = list(reader)?;
    let Some(begun) = restore::begin(context, &reader.public().id, &list)? else { return Ok(restore::planned(&list)) };
    let target = begun.target;
    for entry in reader.below(b"bundles")? {
        let entry = entry?;
        match entry.kind {
            EntryKind::Dir => {}
            EntryKind::File { .. } => unbundle(target, reader, &entry, context)
                .map_err(|error| error.context(format!("{} could not be unpacked", entry.shown_path())))?,
            _ => return Err(Error::refused(format!("{} is no bundle", entry.shown_path()))),
        }
    }
    let report = restore::finish(context, target, &list)?;
    begun.mark.finish()?;
    Ok(report)
}

/// The list of refs of a sealed snapshot.
pub(super) fn list(reader: &SnapshotReader) -> Result<RefList> {
    let entry = reader.find(b"refs")?.ok_or_else(|| Error::failed("the snapshot holds no list of refs"))?;
    let mut bytes = Bounded(Vec::new());
    reader.read_file(&entry, &mut bytes)?;
    RefList::parse(&bytes.0)
}

fn unbundle(target: &Path, reader: &SnapshotReader, entry: &Entry, context: &RestoreContext<'_>) -> Result<()> {
    // As for mirrors not strictly: what old programs wrote comes back all the same. Bases of deltas may be in an earlier bundle.
    let command = git(target, &["-c", "core.bigFileThreshold=1m", "index-pack", "--stdin", "--fix-thin"]);
    let fed = feed_by(command, TIME, context.monitor, |out| {
        let mut pack = AfterHead { out, head: Vec::new(), done: false };
        reader.read_file(entry, &mut pack)?;
        if pack.done { Ok(()) } else { Err(Error::failed("it has no head that ends")) }
    })?;
    let said = base::text::excerpt(&fed.words, 2000);
    if !said.is_empty() {
        context.monitor.note(&said);
    }
    Ok(())
}

/// A list of refs while it is read.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > LIST_LIMIT {
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "the list of refs is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Lets through what comes after a bundle's head, which ends with an empty line.
struct AfterHead<'a> {
    out: &'a mut dyn Write,
    head: Vec<u8>,
    done: bool,
}

impl Write for AfterHead<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.done {
            return self.out.write(bytes);
        }
        let from = self.head.len().saturating_sub(1);
        self.head.extend_from_slice(bytes);
        let wrong = |why: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, why.to_owned());
        if let Some(at) = self.head[from..].windows(2).position(|two| two == b"\n\n") {
            if !self.head.starts_with(b"# v2 git bundle\n") {
                return Err(wrong("it is no bundle of git"));
            }
            self.done = true;
            let rest = self.head.split_off(from + at + 2);
            self.out.write_all(&rest)?;
        } else if self.head.len() > HEAD_LIMIT {
            return Err(wrong("the head of the bundle does not end"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_left_out_however_it_is_cut() {
        let bundle = b"# v2 git bundle\nabc refs/heads/a\n\nPACK\n\nrest";
        for size in 1..bundle.len() {
            let mut out = Vec::new();
            let mut pack = AfterHead { out: &mut out, head: Vec::new(), done: false };
            for piece in bundle.chunks(size) {
                pack.write_all(piece).unwrap();
            }
            assert!(pack.done);
            assert_eq!(out, b"PACK\n\nrest", "{size}");
        }
        for bad in [&b"# v3 git bundle\n\nPACK"[..], b"\n\n", b"PACK\n\n"] {
            let mut out = Vec::new();
            assert!(AfterHead { out: &mut out, head: Vec::new(), done: false }.write_all(bad).is_err());
        }
    }
}
