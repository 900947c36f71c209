//! Reading and writing raw git objects: ids, trees, the little of a commit that a walk needs.
//!
//! Opens no repository.

use base::{Error, Result};
use git2::{ObjectType, Oid};

/// The largest tree object that is read, in bytes: the keys of more than 10,000 clients, with the names that are allowed.
pub const TREE_LIMIT: usize = 1 << 20;
/// The mode of a plain file in a tree.
pub const PLAIN: u32 = 0o100_644;
/// The mode of a folder in a tree.
pub const FOLDER: u32 = 0o40_000;

/// One entry of a tree as it stands in the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEntry<'a> {
    pub name: &'a [u8],
    pub mode: u32,
    pub oid: Oid,
}

/// The id of an object with this content.
pub fn id_of(kind: ObjectType, content: &[u8]) -> Result<Oid> {
    // libgit2 is built with collision detection: content that plays such a trick has no id.
    Oid::hash_object(kind, content).map_err(|error| Error::refused("the object has no id").because(error))
}

/// The entries of a raw tree object, which must be in git's order, each name once.
///
/// # Errors
/// Of kind refused when it is no such tree.
pub fn parse(raw: &[u8]) -> Result<Vec<RawEntry<'_>>> {
    if raw.len() > TREE_LIMIT {
        return Err(Error::refused(format!("the tree is longer than {TREE_LIMIT} bytes")));
    }
    let wrong = || Error::refused("the tree cannot be read");
    let mut entries: Vec<RawEntry> = Vec::new();
    let mut rest = raw;
    while !rest.is_empty() {
        let space = rest.iter().take(7).position(|b| *b == b' ').ok_or_else(wrong)?;
        let (mode, after) = (&rest[..space], &rest[space + 1..]);
        let zero = after.iter().position(|b| *b == 0).ok_or_else(wrong)?;
        let (name, after) = (&after[..zero], &after[zero + 1..]);
        let (oid, after) = after.split_at_checked(20).ok_or_else(wrong)?;
        if name.is_empty() || mode.first() == Some(&b'0') || !mode.iter().all(|b| matches!(b, b'0'..=b'7')) {
            return Err(wrong());
        }
        let mode = std::str::from_utf8(mode).ok().and_then(|m| u32::from_str_radix(m, 8).ok()).ok_or_else(wrong)?;
        let entry = RawEntry { name, mode, oid: Oid::from_bytes(oid).map_err(|_| wrong())? };
        if entries.last().is_some_and(|last| order(last) >= order(&entry) || last.name == entry.name) {
            return Err(Error::refused("the tree has a name twice, or its names are not in order"));
        }
        entries.push(entry);
        rest = after;
    }
    Ok(entries)
}

/// What git sorts by: a folder's name is taken with a slash at its end.
fn order(entry: &RawEntry<'_>) -> Vec<u8> {
    let mut key = entry.name.to_vec();
    if entry.mode == FOLDER {
        key.push(b'/');
    }
    key
}

/// A raw tree of plain files; `files` must be sorted by name.
pub fn write<'a>(files: impl IntoIterator<Item = (&'a str, Oid)>) -> Vec<u8> {
    let mut raw = Vec::new();
    for (name, oid) in files {
        raw.extend_from_slice(b"100644 ");
        raw.extend_from_slice(name.as_bytes());
        raw.push(0);
        raw.extend_from_slice(oid.as_bytes());
    }
    raw
}

/// Writes the tree of plain files whose names may be `FOLDER/NAME`, sorted by name, with `put` for each tree object.
pub fn write_nested(files: &[(&str, Oid)], put: &mut dyn FnMut(&[u8]) -> Result<Oid>) -> Result<Oid> {
    let mut folders: std::collections::BTreeMap<&str, Vec<(&str, Oid)>> = std::collections::BTreeMap::new();
    let mut entries: Vec<RawEntry<'_>> = Vec::new();
    for (name, oid) in files {
        match name.split_once('/') {
            Some((folder, name)) => folders.entry(folder).or_default().push((name, *oid)),
            None => entries.push(RawEntry { name: name.as_bytes(), mode: PLAIN, oid: *oid }),
        }
    }
    for (folder, files) in folders {
        entries.push(RawEntry { name: folder.as_bytes(), mode: FOLDER, oid: put(&write(files))? });
    }
    entries.sort_by_key(order);
    let mut raw = Vec::new();
    for entry in entries {
        raw.extend_from_slice(format!("{:o} ", entry.mode).as_bytes());
        raw.extend_from_slice(entry.name);
        raw.push(0);
        raw.extend_from_slice(entry.oid.as_bytes());
    }
    put(&raw)
}

/// Tree and parents of a raw commit whose other headers are not looked at: enough to walk past commits that prove
/// nothing.
///
/// # Errors
/// Of kind refused when these are not where git puts them.
pub fn links(raw: &[u8]) -> Result<(Oid, Vec<Oid>)> {
    let wrong = || Error::refused("the commit cannot be read");
    let mut lines = raw.split(|b| *b == b'\n');
    let oid = |line: &[u8], name: &str| -> Option<Oid> {
        let hex = line.strip_prefix(name.as_bytes())?;
        let hex = std::str::from_utf8(hex).ok().filter(|hex| hex.len() == 40)?;
        Oid::from_str(hex).ok()
    };
    let tree = lines.next().and_then(|line| oid(line, "tree ")).ok_or_else(wrong)?;
    let parents = lines.take_while(|line| line.starts_with(b"parent ")).take(17).map(|line| oid(line, "parent ").ok_or_else(wrong));
    Ok((tree, parents.collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn trees_are_read_as_git_writes_them() {
        let oid = id_of(ObjectType::Blob, b"x").unwrap();
        let raw = write([("a", oid), ("b", oid)]);
        let entries = parse(&raw).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[1].name, entries[1].mode, entries[1].oid), (&b"b"[..], PLAIN, oid));
        for end in 1..raw.len() {
            assert_eq!(parse(&raw[..end]).is_ok(), end == raw.len() / 2, "{end}");
        }
        for (first, second) in [("a", "a"), ("b", "a")] {
            assert!(parse(&write([(first, oid), (second, oid)])).is_err());
        }
        let folder_and_file = [b"100644 a\0", oid.as_bytes(), b"40000 a\0", oid.as_bytes()].concat();
        assert!(parse(&folder_and_file).is_err());
        assert!(parse(&[b"0100644 a\0", oid.as_bytes()].concat()).is_err());
    }

    #[test]
    fn folders_stand_where_git_looks_for_them() {
        let oid = id_of(ObjectType::Blob, b"x").unwrap();
        let mut trees = Vec::new();
        let files = [("a.toml", oid), ("a/x", oid), ("a/y", oid), ("b", oid)];
        write_nested(&files, &mut |raw| {
            trees.push(raw.to_vec());
            id_of(ObjectType::Tree, raw)
        })
        .unwrap();
        let root = parse(&trees[1]).unwrap();
        assert_eq!(root.iter().map(|e| (e.name, e.mode)).collect::<Vec<_>>(), [(&b"a.toml"[..], PLAIN), (b"a", FOLDER), (b"b", PLAIN)]);
        assert_eq!(parse(&trees[0]).unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = links(&bytes);
        }
    }
}
