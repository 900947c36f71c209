//! Snapshots of ZFS datasets, `DATASET@nightsafe-CLIENT_NODE-ID`, read below `.zfs/snapshot` of where the dataset is mounted.

use super::{Place, run};
use base::config::SnapshotWith;
use base::{Error, Result};
use std::path::{Path, PathBuf};

pub(super) fn find(path: &Path, name: &str) -> Result<Place> {
    let listed = run("zfs", &["list", "-H", "-t", "filesystem", "-o", "name,mountpoint", "--", super::text(path)?])?;
    place(&listed, path, name)
}

/// Reads what `zfs list -H -o name,mountpoint` prints: one line, with a tab between the two.
fn place(listed: &str, path: &Path, name: &str) -> Result<Place> {
    let strange = || Error::failed(format!("zfs list said what was not expected of {}: {}", path.display(), base::text::printable(listed)));
    let (dataset, mountpoint) = listed.trim_end_matches('\n').split_once('\t').ok_or_else(strange)?;
    let alive = PathBuf::from(mountpoint);
    if listed.lines().count() != 1 || dataset.is_empty() || dataset.starts_with('-') || dataset.contains('@') {
        return Err(strange());
    }
    if !alive.is_absolute() || !path.starts_with(&alive) {
        return Err(Error::failed(format!("{dataset} is mounted on {mountpoint:?}, and {} is not below that", path.display()))
            .hint("Datasets with mountpoint=legacy cannot be used; give it a mount point."));
    }
    Ok(Place {
        with: SnapshotWith::Zfs,
        of: dataset.to_owned(),
        name: name.to_owned(),
        root: alive.join(".zfs/snapshot").join(name),
        alive,
        file_system: String::new(),
        size: None,
    })
}

fn full_name(place: &Place) -> String {
    format!("{}@{}", place.of, place.name)
}

pub(super) fn make(place: &Place) -> Result<()> {
    run("zfs", &["snapshot", "--", &full_name(place)]).map(drop)
}

pub(super) fn remove(place: &Place) -> Result<()> {
    if !names(place)?.contains(&place.name) {
        return Ok(());
    }
    run("zfs", &["destroy", "--", &full_name(place)]).map(drop)
}

pub(super) fn names(place: &Place) -> Result<Vec<String>> {
    let listed = run("zfs", &["list", "-H", "-t", "snapshot", "-d", "1", "-o", "name", "--", &place.of])?;
    Ok(listed.lines().filter_map(|line| Some(line.split_once('@')?.1.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_zfs_lists() {
        let path = Path::new("/srv/shop/data");
        let found = place("tank/shop\t/srv/shop\n", path, "nightsafe-n1-x").unwrap();
        assert_eq!((found.of.as_str(), full_name(&found).as_str()), ("tank/shop", "tank/shop@nightsafe-n1-x"));
        assert_eq!(found.root, Path::new("/srv/shop/.zfs/snapshot/nightsafe-n1-x"));
        for bad in ["", "tank", "tank\tlegacy\n", "tank\t/srv/other\n", "-x\t/srv\n", "a@b\t/srv\n", "a\t/srv\nb\t/srv\n"] {
            assert!(place(bad, path, "x").is_err(), "{bad:?}");
        }
    }
}
