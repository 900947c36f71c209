//! Read-only snapshots of btrfs subvolumes, beside what they are of: `.nightsafe-CLIENT_NODE-ID` in the subvolume's own folder.

use super::{Place, run, text};
use base::config::SnapshotWith;
use base::{At, Error, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What `statfs` says of btrfs (linux/magic.h).
const MAGIC: i128 = 0x9123_683e;

/// The inode of every subvolume's root (`BTRFS_FIRST_FREE_OBJECTID`).
const ROOT: u64 = 256;

/// What the name in the folder begins with, before the snapshot's own.
const HIDDEN: char = '.';

pub(super) fn find(path: &Path, name: &str) -> Result<Place> {
    let found = rustix::fs::statfs(path).at("look at", path)?;
    // Its sign and width are the platform's.
    if i128::from(found.f_type) != MAGIC {
        return Err(Error::failed(format!("{} is on no btrfs", path.display())));
    }
    let is_root = |folder: &&Path| is_subvolume(folder);
    let root = path.ancestors().find(is_root).ok_or_else(|| Error::failed(format!("{} is in no subvolume", path.display())))?;
    Ok(Place {
        with: SnapshotWith::Btrfs,
        of: text(root)?.to_owned(),
        name: name.to_owned(),
        root: root.join(format!("{HIDDEN}{name}")),
        alive: root.to_owned(),
        file_system: String::new(),
        size: None,
    })
}

fn is_subvolume(folder: &Path) -> bool {
    folder.symlink_metadata().is_ok_and(|meta| meta.is_dir() && meta.ino() == ROOT)
}

pub(super) fn make(place: &Place) -> Result<()> {
    run("btrfs", &["subvolume", "snapshot", "-r", "--", &place.of, text(&place.root)?]).map(drop)
}

pub(super) fn remove(place: &Place) -> Result<()> {
    if !is_subvolume(&place.root) {
        return Ok(());
    }
    run("btrfs", &["subvolume", "delete", "--", text(&place.root)?]).map(drop)
}

pub(super) fn names(place: &Place) -> Result<Vec<String>> {
    let folder = PathBuf::from(&place.of);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).at("list", &folder)? {
        let name = entry.at("list", &folder)?.file_name();
        if let Some(name) = name.to_str().and_then(|name| name.strip_prefix(HIDDEN))
            && is_subvolume(&folder.join(format!("{HIDDEN}{name}")))
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
