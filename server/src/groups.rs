//! Who may read which part of the node's data: the gate's account what it serves, cgit's the mirrors (`groups` in node.toml). All
//! the rest has the group of the data's folder, as the restorers' account has.
//!
//! Gives files of ours to groups that this account is a member of, and changes nothing else.

use base::{At, Error, Result};
use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// What new folders in a folder take over, and what the group needs to read it.
const FOLDER: u32 = 0o2050;
/// What the group needs to read a file.
const FILE: u32 = 0o040;

/// The id of a group of node.toml's; `None` where none is set.
///
/// # Errors
/// Of kind usage when there is no such group.
pub fn id(name: Option<&str>) -> Result<Option<u32>> {
    let find = |name: &str| {
        let group = uzers::get_group_by_name(name)
            .ok_or_else(|| Error::usage(format!("groups in node.toml names {name}, and there is no such group")));
        group.map(|group| group.gid())
    };
    name.map(find).transpose()
}

/// Lets the group `name` read all that is at `path`, and all that comes there; nothing where no group is set, or nothing is
/// there. Done before, it costs a look.
///
/// # Errors
/// With the path; mostly because this account is no member of the group.
pub fn give(path: &Path, name: Option<&str>) -> Result<()> {
    let Some(group) = id(name)? else { return Ok(()) };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Ok(meta) if is_given(&meta, group) => Ok(()),
        other => all(path, &other.at("look at", path)?, group),
    }
}

/// Whether the group reads it.
pub fn is_given(meta: &Metadata, group: u32) -> bool {
    let needs = if meta.is_dir() { FOLDER } else { FILE };
    meta.gid() == group && meta.mode() & needs == needs
}

/// The folder last: what was cut off is done again.
fn all(path: &Path, meta: &Metadata, group: u32) -> Result<()> {
    if meta.is_symlink() {
        return Ok(());
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path).at("read the folder", path)? {
            let entry = entry.at("read the folder", path)?;
            // Something unfinished may go away meanwhile.
            if let Ok(meta) = entry.metadata() {
                all(&entry.path(), &meta, group)?;
            }
        }
    }
    lchown(path, None, Some(group))
        .at("give to the group", path)
        .map_err(|error| error.hint("The account that polls must be a member of the groups in node.toml; docs/install.md makes it one."))?;
    let more = if meta.is_dir() { FOLDER } else { FILE };
    fs::set_permissions(path, Permissions::from_mode(meta.mode() & 0o7777 | more)).at("set the mode of", path)
}

/// Lets others pass through a folder without reading it, so that they get to what is theirs.
///
/// # Errors
/// With the path.
pub fn open_way(path: &Path) -> Result<()> {
    let mode = fs::metadata(path).at("look at", path)?.mode() & 0o7777;
    if mode & 0o001 != 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode | 0o001)).at("set the mode of", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_given_and_what_is_not_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::create_dir_all(path.join("b")).unwrap();
        fs::write(path.join("b/file"), "x").unwrap();
        fs::set_permissions(path.join("b/file"), Permissions::from_mode(0o400)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path.join("link")).unwrap();
        // The only group that every machine's test may give to.
        let own = fs::metadata(&path).unwrap().gid();
        let name = uzers::get_group_by_gid(own).unwrap().name().to_str().unwrap().to_owned();
        give(&path, None).unwrap();
        assert!(!is_given(&fs::metadata(&path).unwrap(), own));
        give(&path, Some(&name)).unwrap();
        for part in ["", "b", "b/file"] {
            assert!(is_given(&fs::metadata(path.join(part)).unwrap(), own), "{part}");
        }
        assert_eq!(fs::metadata(path.join("b/file")).unwrap().mode() & 0o777, 0o440);
        give(&folder.path().join("absent"), Some(&name)).unwrap();
        assert_eq!(give(&path, Some("no-such-group")).unwrap_err().kind(), base::Kind::Usage);
        open_way(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o001, 0o001);
    }
}
