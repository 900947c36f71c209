//! Snapshots of logical volumes, `GROUP/nightsafe-CLIENT_NODE-ID`, mounted read-only in a folder of the state folder.

use super::{Place, mounts, run, text};
use base::config::SnapshotWith;
use base::{At, ByteSize, Error, Result, atomic};
use std::path::Path;

pub(super) fn find(path: &Path, name: &str, size: Option<ByteSize>, below: &Path) -> Result<Place> {
    let mount = mounts::of(path)?;
    if mount.root != "/" {
        return Err(Error::failed(format!("{} shows only {} of its file system", mount.on.display(), mount.root)));
    }
    let listed = run("lvs", &["--noheadings", "--separator", "\t", "-o", "vg_name,lv_name,pool_lv", "--", &mount.source])?;
    let (volume, thin) = volume(&listed)
        .ok_or_else(|| Error::failed(format!("lvs said what was not expected of {}: {}", mount.source, base::text::printable(&listed))))?;
    if !thin && size.is_none() {
        return Err(Error::failed(format!("{volume} is no thin volume, and a snapshot of it needs room of its own"))
            .hint("Say with snapshot_size how much may change on it while it is read."));
    }
    Ok(Place {
        with: SnapshotWith::Lvm,
        of: volume,
        name: name.to_owned(),
        root: below.join(name),
        alive: mount.on,
        file_system: mount.kind,
        size: size.filter(|_| !thin).map(|size| size.0),
    })
}

/// `group/volume` and whether it is thin, from the one line that `lvs` prints.
fn volume(listed: &str) -> Option<(String, bool)> {
    let mut fields = listed.trim_end_matches('\n').split('\t').map(str::trim);
    let (group, volume, pool) = (fields.next()?, fields.next()?, fields.next().unwrap_or_default());
    let plain = |name: &str| !name.is_empty() && !name.starts_with('-') && !name.contains('/');
    (listed.trim().lines().count() == 1 && plain(group) && plain(volume)).then(|| (format!("{group}/{volume}"), !pool.is_empty()))
}

/// `group/snapshot`.
fn full_name(place: &Place) -> String {
    format!("{}/{}", place.of.split('/').next().unwrap_or_default(), place.name)
}

pub(super) fn make(place: &Place) -> Result<()> {
    let size = place.size.map(|size| format!("{}b", size.next_multiple_of(512)));
    let mut arguments = vec!["--quiet", "--snapshot", "--name", &place.name];
    match &size {
        Some(size) => arguments.extend(["--permission", "rw", "--size", size]),
        // Thin snapshots are not activated by themselves.
        None => arguments.extend(["--setactivationskip", "n"]),
    }
    arguments.extend(["--", &place.of]);
    run("lvcreate", &arguments)?;
    atomic::make_folder(&place.root, 0o700)?;
    let device = format!("/dev/{}", full_name(place));
    let options = mount_options(&place.file_system);
    run("mount", &["-t", &place.file_system, "-o", &options, "--", &device, text(&place.root)?]).map(drop)
}

/// The file system's own identity is there twice, which XFS refuses.
fn mount_options(kind: &str) -> String {
    let more = if kind == "xfs" { ",nouuid" } else { "" };
    format!("ro,nosuid,nodev,noexec{more}")
}

pub(super) fn remove(place: &Place) -> Result<()> {
    if place.root.is_dir() {
        if mounts::of(&place.root)?.on == place.root.canonicalize().at("find", &place.root)? {
            run("umount", &["--", text(&place.root)?])?;
        }
        // Never what is in it: something may be mounted there still.
        std::fs::remove_dir(&place.root).at("remove", &place.root)?;
    }
    if !names(place)?.contains(&place.name) {
        return Ok(());
    }
    run("lvremove", &["--quiet", "--yes", "--", &full_name(place)]).map(drop)
}

pub(super) fn names(place: &Place) -> Result<Vec<String>> {
    let group = place.of.split('/').next().unwrap_or_default();
    let listed = run("lvs", &["--noheadings", "-o", "lv_name", "--", group])?;
    Ok(listed.lines().map(|line| line.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lvs_lists() {
        assert_eq!(volume("  vg0\tshop\t\n"), Some(("vg0/shop".into(), false)));
        assert_eq!(volume("  vg0\tshop\tpool0\n"), Some(("vg0/shop".into(), true)));
        for bad in ["", "\n", "  vg0\n", "  vg0\t\t\n", "  -x\tshop\t\n", "  a\tb\t\n  c\td\t\n"] {
            assert_eq!(volume(bad), None, "{bad:?}");
        }
        assert_eq!(mount_options("xfs"), "ro,nosuid,nodev,noexec,nouuid");
    }
}
