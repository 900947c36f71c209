//! Which entries a restore is about: all, or those that paths and patterns name, with the folders that they are in.
//!
//! Writes nothing, and holds no more of the catalog than the folders above one entry.

use crate::entries::Entries;
use crate::entry::{Entry, EntryKind};
use crate::snapshot::SnapshotReader;
use base::{Error, Result};
use globset::{GlobBuilder, GlobMatcher};
use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// An entry that is to be restored.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) entry: Entry,
    /// Whether it was named, or is in a folder that was; the others are the folders that these are in.
    pub(super) named: bool,
}

/// What is chosen.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    /// Parts of the catalog, in its order, none inside another; each with what is wanted of it.
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
struct Part {
    /// The folder, with its `/`, or the entry.
    key: Vec<u8>,
    /// With what everything that is wanted begins: the key, and what follows in a pattern up to its first special character.
    prefix: Vec<u8>,
    wanted: Vec<Matcher>,
}

#[derive(Debug, Clone)]
enum Matcher {
    /// The entry of this key, and if it is a folder what is in it.
    Key(Vec<u8>),
    Glob(GlobMatcher),
}

impl Matcher {
    fn is(&self, path: &[u8]) -> bool {
        match self {
            Self::Key(key) => key == path || key.ends_with(b"/") && path.starts_with(key) || key.is_empty(),
            Self::Glob(glob) => matches(glob, path),
        }
    }
}

impl Selection {
    /// Reads paths and patterns; none of them means everything. A name that holds `*` or `[` itself is taken as it is
    /// where the snapshot has it.
    ///
    /// # Errors
    /// When one names nothing in the snapshot.
    pub(super) fn new(reader: &SnapshotReader, paths: &[String]) -> Result<Self> {
        let mut parts = Vec::new();
        for path in paths {
            let clean = clean(path)?;
            if let Some(entry) = reader.find(clean.as_bytes())? {
                parts.push(Part { key: entry.path.clone(), prefix: entry.path.clone(), wanted: vec![Matcher::Key(entry.path)] });
                continue;
            }
            let missing = || {
                Error::failed(format!("{path:?} is not in snapshot {} of {}", reader.public().id, reader.public().dataset))
                    .hint("`nightsafe ls` shows what is in it; paths are relative to the dataset's own.")
            };
            if !is_pattern(clean) {
                return Err(missing());
            }
            // Folders that are there under the very name are taken as they are.
            let steps: Vec<&str> = clean.split('/').collect();
            let (mut folder, mut key, mut text) = (String::new(), Vec::new(), String::new());
            for part in &steps[..steps.len() - 1] {
                folder.push_str(part);
                match reader.find(folder.as_bytes())? {
                    Some(entry) if entry.kind == EntryKind::Dir => key = entry.path,
                    _ if is_pattern(part) => break,
                    _ => return Err(missing()),
                }
                text.push_str(&globset::escape(part));
                text.push('/');
                folder.push('/');
            }
            let plain = text.matches('/').count();
            text.push_str(&steps[plain..].join("/"));
            let glob = pattern(path, &text)?;
            let next = steps[plain..].first().map_or("", |step| &step[..step.find(SPECIAL).unwrap_or(step.len())]);
            let part = Part { prefix: [&key, next.as_bytes()].concat(), key, wanted: vec![Matcher::Glob(glob)] };
            if !part.entries(reader)?.any(|entry| entry.is_ok_and(|entry| part.wanted[0].is(&entry.path))) {
                return Err(missing());
            }
            parts.push(part);
        }
        if parts.is_empty() {
            parts.push(Part { key: Vec::new(), prefix: Vec::new(), wanted: vec![Matcher::Key(Vec::new())] });
        }
        parts.sort_by(|a, b| a.key.cmp(&b.key));
        let mut merged: Vec<Part> = Vec::new();
        for part in parts {
            match merged.last_mut() {
                Some(last) if covers(&last.key, &part.key) => {
                    let common = last.prefix.iter().zip(&part.prefix).take_while(|(a, b)| a == b).count();
                    last.prefix.truncate(common.max(last.key.len()));
                    last.wanted.extend(part.wanted);
                }
                _ => merged.push(part),
            }
        }
        Ok(Self { parts: merged })
    }

    /// Whether it is everything.
    pub(super) fn is_all(&self) -> bool {
        self.parts.iter().any(|part| part.wanted.iter().any(|matcher| matches!(matcher, Matcher::Key(key) if key.is_empty())))
    }

    /// The entries, in the catalog's order.
    pub(super) fn entries<'a>(&'a self, reader: &'a SnapshotReader) -> Chosen<'a> {
        Chosen {
            reader,
            parts: self.parts.iter(),
            part: None,
            above: Vec::new(),
            inside: None,
            shown: HashSet::new(),
            ready: VecDeque::new(),
        }
    }
}

/// Whether a folder's key covers another key.
fn covers(folder: &[u8], key: &[u8]) -> bool {
    folder == key || folder.is_empty() || folder.ends_with(b"/") && key.starts_with(folder)
}

impl Part {
    /// The entries among which the wanted ones are.
    fn entries<'a>(&self, reader: &'a SnapshotReader) -> Result<Entries<'a>> {
        if self.prefix.is_empty() {
            Ok(reader.entries())
        } else if self.prefix == self.key {
            reader.below(&self.key)
        } else {
            Ok(reader.beginning_with(&self.prefix))
        }
    }

    /// The folders that it is in, the dataset itself first; with the key where its own entry is not among the entries.
    fn above(&self) -> impl Iterator<Item = &[u8]> {
        above(&self.key).chain((self.prefix != self.key).then_some(self.key.as_slice()))
    }
}

/// The chosen entries.
#[derive(Debug)]
pub(super) struct Chosen<'a> {
    reader: &'a SnapshotReader,
    parts: std::slice::Iter<'a, Part>,
    part: Option<(&'a Part, Entries<'a>)>,
    /// Folders above the place that was reached, of which nothing was chosen yet.
    above: Vec<Entry>,
    /// A chosen folder: everything in it is.
    inside: Option<Vec<u8>>,
    /// Folders above parts that were given already.
    shown: HashSet<Vec<u8>>,
    ready: VecDeque<Result<Selected>>,
}

impl Chosen<'_> {
    fn begin(&mut self) -> bool {
        let Some(part) = self.parts.next() else { return false };
        (self.inside, self.above) = (None, Vec::new());
        for folder in part.above() {
            if !self.shown.contains(folder) {
                // One whose place in the catalog is damaged is made as it comes.
                self.above.extend(self.reader.find(folder).ok().flatten());
            }
        }
        match part.entries(self.reader) {
            Ok(entries) => self.part = Some((part, entries)),
            Err(error) => self.ready.push_back(Err(error)),
        }
        true
    }

    fn take(&mut self, part: &Part, entry: Entry) {
        self.above.retain(|folder| entry.path.starts_with(&folder.path));
        if self.inside.as_ref().is_some_and(|folder| entry.path.starts_with(folder)) {
            return self.ready.push_back(Ok(Selected { entry, named: true }));
        }
        let folder = entry.kind == EntryKind::Dir;
        if !part.wanted.iter().any(|matcher| matcher.is(&entry.path)) {
            if folder {
                self.above.push(entry);
            }
            return;
        }
        self.inside = folder.then(|| entry.path.clone());
        for folder in std::mem::take(&mut self.above) {
            self.shown.insert(folder.path.clone());
            self.ready.push_back(Ok(Selected { entry: folder, named: false }));
        }
        self.ready.push_back(Ok(Selected { entry, named: true }));
    }
}

impl Iterator for Chosen<'_> {
    type Item = Result<Selected>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            let Some((part, mut entries)) = self.part.take() else {
                if self.begin() {
                    continue;
                }
                return None;
            };
            match entries.next() {
                Some(Ok(entry)) => self.take(part, entry),
                Some(Err(error)) => self.ready.push_back(Err(error)),
                None => continue,
            }
            self.part = Some((part, entries));
        }
    }
}

fn matches(glob: &GlobMatcher, path: &[u8]) -> bool {
    glob.is_match(Path::new(OsStr::from_bytes(path.strip_suffix(b"/").unwrap_or(path))))
}

/// What makes a text a pattern.
const SPECIAL: [char; 5] = ['*', '?', '[', '{', '\\'];

/// Whether a text can be a pattern.
fn is_pattern(text: &str) -> bool {
    text.contains(SPECIAL)
}

fn pattern(shown: &str, text: &str) -> Result<GlobMatcher> {
    let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| {
        Error::usage(format!("{shown:?} is no pattern"))
            .because(error)
            .hint("Patterns are made of *, ?, [a-z] and **; \\ takes the next character as it is.")
    })
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
    use crate::forge::{Forge, folder};

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

    #[test]
    fn patterns_choose_as_a_shell_would() {
        let mut forge = Forge::new();
        let mut entries: Vec<Entry> = ["", "a/", "a/b/", "a/b/c/", "d[1]/", "z/"].iter().map(|path| folder(path)).collect();
        for path in ["a/b/c/x.txt", "a/b/one.txt", "a/two.txt", "a/two.md", "d[1]/in", "d1", "star*", "start", "top.txt", "z/.hidden"] {
            entries.push(forge.file(path, &[path.as_bytes()]));
        }
        let mut odd = forge.file("odd", &[b"x"]);
        odd.path = b"z/odd\xff.txt".to_vec();
        entries.push(odd);
        let forged = forge.finish(entries);
        let reader = forged.reader();
        let chosen = |paths: &[&str]| -> Result<Vec<String>> {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            let selection = Selection::new(&reader, &paths)?;
            selection
                .entries(&reader)
                .map(|one| one.map(|one| format!("{}{}", if one.named { "" } else { "^" }, one.entry.shown_path())))
                .collect()
        };
        for (paths, expected) in [
            (&["*.txt"][..], &["^", "top.txt"][..]),
            (&["a/*.txt"], &["^", "^a/", "a/two.txt"]),
            (
                &["**/*.txt"],
                &["^", "^a/", "^a/b/", "^a/b/c/", "a/b/c/x.txt", "a/b/one.txt", "a/two.txt", "top.txt", "^z/", "z/odd\u{fffd}.txt"],
            ),
            (&["a/*"], &["^", "^a/", "a/b/", "a/b/c/", "a/b/c/x.txt", "a/b/one.txt", "a/two.md", "a/two.txt"]),
            (&["a/two.?d"], &["^", "^a/", "a/two.md"]),
            (&["[s-t]*"], &["^", "star*", "start", "top.txt"]),
            // Names that hold such characters are there as they are.
            (&["star*"], &["^", "star*"]),
            (&["d[1]"], &["^", "d[1]/", "d[1]/in"]),
            (&["d[1]/*"], &["^", "^d[1]/", "d[1]/in"]),
            (&["d[0-9]"], &["^", "d1"]),
            (&["a/*/o*", "**/x.*"], &["^", "^a/", "^a/b/", "^a/b/c/", "a/b/c/x.txt", "a/b/one.txt"]),
            // One within the other, in any order.
            (&["a/b/*.txt", "a"], &["^", "a/", "a/b/", "a/b/c/", "a/b/c/x.txt", "a/b/one.txt", "a/two.md", "a/two.txt"]),
            (&["a/b/c/*", "a/two.md", "a/*/one*"], &["^", "^a/", "^a/b/", "^a/b/c/", "a/b/c/x.txt", "a/b/one.txt", "a/two.md"]),
            (&["z/*", "a/two.md"], &["^", "^a/", "a/two.md", "^z/", "z/.hidden", "z/odd\u{fffd}.txt"]),
        ] {
            assert_eq!(chosen(paths).unwrap(), expected, "{paths:?}");
        }
        assert_eq!(chosen(&[]).unwrap(), chosen(&["."]).unwrap());
        assert_eq!(chosen(&[]).unwrap().len(), 17);
        for bad in [&["*.rs"][..], &["a", "b*"], &["no/*"], &["a/two.md/*"], &["[z"], &["top.txt/"], &["a", "a/*.rs"]] {
            assert_eq!(chosen(bad).is_ok(), bad == ["top.txt/"], "{bad:?}");
        }
    }
}
