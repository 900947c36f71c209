//! What git-lfs keeps beside a repository, `lfs/objects/ab/cd/<sha256>`: by which names it is asked for over sftp, and how it is
//! opened.
//!
//! Grants nothing, and hashes nothing: whoever reads an object holds it against its name.

use crate::sftp::{Denied, open_beneath};
use base::{At, beneath};
use rustix::fs::{AtFlags, Dir, FileType, MemfdFlags, OFlags, statat};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The most objects that are listed.
const MOST: usize = 200_000;

/// What a name asks for of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    /// The ids and sizes of all objects, a line each.
    List,
    /// One object.
    Object(&'a str),
}

/// Reads `lfs-list/PATH` and `lfs/ID/PATH`; the path has lost the slash that it begins with.
pub fn asked(name: &str) -> Option<(Asked<'_>, &str)> {
    if let Some(path) = name.strip_prefix("lfs-list/") {
        return Some((Asked::List, path));
    }
    let (id, path) = name.strip_prefix("lfs/")?.split_once('/')?;
    is_id(id).then_some((Asked::Object(id), path))
}

/// 64 lowercase hex digits.
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Where an object is, from the repository on.
pub fn place(id: &str) -> PathBuf {
    Path::new("lfs/objects").join(&id[..2]).join(&id[2..4]).join(id)
}

/// Opens what is asked for of a repository that is open.
///
/// # Errors
/// Why not.
pub fn open(repository: &OwnedFd, asked: Asked<'_>) -> Result<File, Denied> {
    match asked {
        Asked::Object(id) => open_beneath(repository, &place(id)),
        Asked::List => list(repository).map_err(|_| Denied::Forbidden),
    }
}

/// A file in memory.
fn list(repository: &OwnedFd) -> base::Result<File> {
    let mut text = String::new();
    let mut count = 0;
    if let Ok(top) = folder(repository, Path::new("lfs/objects")) {
        for first in names(&top, 2)? {
            let Ok(one) = folder(&top, Path::new(&first)) else { continue };
            for second in names(&one, 2)? {
                let Ok(two) = folder(&one, Path::new(&second)) else { continue };
                for id in names(&two, 64)?.into_iter().filter(|id| id.starts_with(&format!("{first}{second}"))) {
                    let Ok(stat) = statat(&two, id.as_str(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
                    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && count < MOST {
                        count += 1;
                        let _ = writeln!(text, "{id} {}", stat.st_size);
                    }
                }
            }
        }
    }
    let mut file = File::from(rustix::fs::memfd_create("list", MemfdFlags::CLOEXEC).at("make", "a file in memory")?);
    file.write_all(text.as_bytes()).and_then(|()| file.rewind()).at("write", "the list")?;
    Ok(file)
}

fn folder(above: &OwnedFd, name: &Path) -> base::Result<OwnedFd> {
    beneath::open(above, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// The names in a folder that are so many hex digits.
fn names(folder: &OwnedFd, digits: usize) -> base::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).at("list", "objects")? {
        let entry = entry.at("list", "objects")?;
        let name = entry.file_name().to_str().unwrap_or_default();
        if name.len() == digits && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            names.push(name.to_owned());
        }
        if names.len() > MOST {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_something() {
        let id = "ab".repeat(32);
        assert_eq!(asked("lfs-list/srv/a.git"), Some((Asked::List, "srv/a.git")));
        assert_eq!(asked(&format!("lfs/{id}/srv/a b.git")), Some((Asked::Object(&id), "srv/a b.git")));
        for bad in
            ["lfs-list", "lfs", "lfs/", "lfs/abc/srv", &format!("lfs/{id}"), &format!("lfs/{}/srv", id.to_uppercase()), "lfs/../../x"]
        {
            assert_eq!(asked(bad), None, "{bad}");
        }
        assert_eq!(place(&id), Path::new("lfs/objects/ab/ab").join(&id));
    }
}
