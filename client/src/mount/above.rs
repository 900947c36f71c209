//! The folders above the snapshots, DIR/CLIENT/MODULE/PATH/SNAPSHOT, as a listing has them.
//!
//! Opens nothing: a name here is what a node says, and nothing below it is shown that was not proven.

use crate::recall::choose::Offered;
use base::RequestId;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// The link to the newest snapshot of a dataset.
pub const LATEST: &str = "latest";

/// What stands in one of these folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Above {
    /// Another one.
    Folder,
    /// A snapshot, and when it was accepted.
    Snapshot(RequestId, Timestamp),
    /// The link to this snapshot beside it.
    Latest(RequestId),
}

/// Whether a snapshot is an archive. A mirror has no packs, and is no tree of files.
pub fn is_archive(one: &Offered) -> bool {
    one.epoch.is_some() || one.packs > 0
}

/// The folders that lead to a dataset's snapshots.
fn way(one: &Offered) -> impl Iterator<Item = &str> {
    let path = one.dataset.path().split('/').filter(|part| !part.is_empty());
    [one.client.as_str(), one.dataset.module()].into_iter().chain(path)
}

/// What is in the folder at `at`, by name. Where a folder of one dataset has the name of another one's snapshot or link,
/// the snapshot stands before the folder, and the folder before the link.
pub fn inside(offered: &[Offered], at: &[String]) -> BTreeMap<String, Above> {
    let (mut folders, mut snapshots, mut newest) = (BTreeMap::new(), BTreeMap::new(), None::<&Offered>);
    for one in offered.iter().filter(|one| is_archive(one)) {
        let mut way = way(one);
        if !at.iter().all(|part| way.next() == Some(part)) {
            continue;
        }
        if let Some(next) = way.next() {
            folders.insert(next.to_owned(), Above::Folder);
        } else {
            snapshots.insert(one.snapshot.to_string(), Above::Snapshot(one.snapshot.clone(), one.received));
            newest = newest.filter(|newest| newest.order > one.order).or(Some(one));
        }
    }
    let mut all: BTreeMap<_, _> = newest.map(|one| (LATEST.to_owned(), Above::Latest(one.snapshot.clone()))).into_iter().collect();
    all.append(&mut folders);
    all.append(&mut snapshots);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Name;

    fn offered(client: &str, dataset: &str, order: u64) -> Offered {
        let dataset: base::Dataset = dataset.parse().unwrap();
        Offered {
            client: Name::new(client).unwrap(),
            module: dataset.module().into(),
            dataset,
            snapshot: format!("20261120T03{order:02}00Z-3f9a1c7e").parse().unwrap(),
            seq: order,
            submitted: "2026-11-20T03:00:00Z".parse().unwrap(),
            received: "2026-11-20T03:01:00Z".parse().unwrap(),
            order,
            bytes: 1,
            packs: 1,
            unreadable: 0,
            epoch: None,
            repairs: Vec::new(),
            group: None,
        }
    }

    fn names(all: &[Offered], at: &str) -> Vec<String> {
        let at: Vec<String> = at.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        inside(all, &at).into_keys().collect()
    }

    #[test]
    fn datasets_are_folders_and_lie_in_each_other() {
        let mirror = Offered { packs: 0, ..offered("web1", "git:/srv/a.git", 9) };
        let all = [
            offered("web1", "files:/var/www", 1),
            offered("web1", "files:/var", 2),
            offered("web1", "files:/var/www", 3),
            offered("web1", "files:/", 4),
            offered("db1", "postgres:main/shop", 5),
            mirror,
        ];
        assert_eq!(names(&all, ""), ["db1", "web1"]);
        assert_eq!(names(&all, "web1"), ["files"]);
        assert_eq!(names(&all, "web1/files"), ["20261120T030400Z-3f9a1c7e", "latest", "var"]);
        assert_eq!(names(&all, "web1/files/var"), ["20261120T030200Z-3f9a1c7e", "latest", "www"]);
        assert_eq!(names(&all, "web1/files/var/www"), ["20261120T030100Z-3f9a1c7e", "20261120T030300Z-3f9a1c7e", "latest"]);
        assert_eq!(names(&all, "db1/postgres/main/shop").len(), 2);
        assert!(names(&all, "web1/git").is_empty() && names(&all, "nobody").is_empty() && names(&[], "").is_empty());
    }

    #[test]
    fn the_link_leads_to_the_newest_by_order() {
        let all = [offered("a", "files:/d", 3), offered("a", "files:/d", 7), offered("a", "files:/d", 5)];
        let at = ["a", "files", "d"].map(str::to_owned);
        assert_eq!(inside(&all, &at)[LATEST], Above::Latest(all[1].snapshot.clone()));
        // A dataset of that name has the place.
        let all = [offered("a", "files:/d", 3), offered("a", "files:/d/latest", 7)];
        assert_eq!(inside(&all, &at)[LATEST], Above::Folder);
    }
}
