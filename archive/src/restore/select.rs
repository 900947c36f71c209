//! Which entries a restore is about: all, or those that the given paths name, with the folders that they are in.
//!
//! Writes nothing.

use crate::entry::{Entry, EntryKind};
use crate::snapshot::SnapshotReader;
use base::{Error, Result};
use std::collections::HashSet;

/// The entries for these paths, in the catalog's order; all where there are none.
///
/// # Errors
/// When a path names nothing in the snapshot, before anything is written.
pub(super) fn select<'a>(reader: &'a SnapshotReader, paths: &[String]) -> Result<Box<dyn Iterator<Item = Result<Entry>> + 'a>> {
    if paths.is_empty() {
        return Ok(Box::new(reader.entries()));
    }
    let mut chosen: Vec<Entry> = Vec::new();
    for path in paths {
        let clean = clean(path)?;
        match reader.find(clean.as_bytes())? {
            Some(entry) => chosen.push(entry),
            None => {
                return Err(Error::failed(format!("{path:?} is not in snapshot {} of {}", reader.public().id, reader.public().dataset))
                    .hint("`nightsafe ls` shows what is in it; paths are relative to the dataset's own."));
            }
        }
    }
    chosen.sort_by(|a, b| a.path.cmp(&b.path));
    let mut kept: Vec<Entry> = Vec::new();
    for entry in chosen {
        // Sorted, so that a folder stands before what is in it.
        let covered =
            kept.last().is_some_and(|last| last.path == entry.path || last.kind == EntryKind::Dir && entry.path.starts_with(&last.path));
        if !covered {
            kept.push(entry);
        }
    }
    let mut shown = HashSet::new();
    Ok(Box::new(kept.into_iter().flat_map(move |entry| {
        let mut entries: Vec<Result<Entry>> = Vec::new();
        for folder in above(&entry.path) {
            if shown.insert(folder.to_vec()) {
                entries.extend(reader.find(folder).transpose());
            }
        }
        let below: Box<dyn Iterator<Item = Result<Entry>>> = match reader.below(&entry.path) {
            Ok(below) => Box::new(below),
            Err(error) => Box::new(std::iter::once(Err(error))),
        };
        entries.into_iter().chain(below)
    })))
}

/// The path as the catalog has it: without slashes at its ends.
fn clean(path: &str) -> Result<&str> {
    let inner = path.trim_matches('/');
    let inner = if inner == "." { "" } else { inner };
    if !inner.is_empty() && inner.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Error::usage(format!("{path:?} is not a path in a snapshot"))
            .hint("Write it relative to the dataset's own path, without \"..\" and \"//\"."));
    }
    Ok(inner)
}

/// The folders that a path is in, the dataset itself first, each with its `/`.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let inner = path.strip_suffix(b"/").unwrap_or(path);
    let root = (!path.is_empty()).then_some(&b""[..]);
    root.into_iter().chain(inner.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| &inner[..=at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_or_refused() {
        for (path, expected) in [("a", "a"), ("/a/b/", "a/b"), ("", ""), ("/", ""), (".", "")] {
            assert_eq!(clean(path).unwrap(), expected);
        }
        for bad in ["..", "a/../b", "../a", "a//b", "./a", "a/."] {
            assert!(clean(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn folders_above() {
        let all = |path: &'static str| above(path.as_bytes()).map(|p| std::str::from_utf8(p).unwrap()).collect::<Vec<_>>();
        assert_eq!(all("a/b/c"), ["", "a/", "a/b/"]);
        assert_eq!(all("a/b/"), ["", "a/"]);
        assert_eq!(all("a"), [""]);
        assert!(all("").is_empty());
    }
}
