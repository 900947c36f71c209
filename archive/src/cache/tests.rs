//! What is written is read, what is damaged counts as absent, and what may have changed without a trace is not remembered.

use super::*;
use crate::reference::{Extent, Item, References, RunId};
use proptest::prelude::*;
use rustix::fs::FileType;
use std::fs;

const KEY: [u8; 32] = [7; 32];
const LONG_AGO: Mtime = Mtime { seconds: 1_000_000, nanos: 5 };

fn stat(inode: u64) -> Stat {
    Stat {
        kind: FileType::RegularFile,
        mode: 0o644,
        uid: 1000,
        gid: (inode % 3) as u32,
        size: 10 * inode,
        mtime: LONG_AGO,
        ctime: LONG_AGO,
        device: 1,
        inode,
        links: 1,
        is_device: 0,
    }
}

fn uses(n: u64) -> Uses {
    let item = |frame| Item { run: RunId(n), frame, extent: Extent::Range { first: frame, last: frame + 1 } };
    Uses { list: References((0..u32::try_from(n % 4).unwrap()).map(item).collect()), bytes: n }
}

fn place(path: &Path) -> Option<CachePlace<'_>> {
    Some(CachePlace { path, granularity: GRANULARITY, any_device: false })
}

/// Opens as a backup of this dataset does.
fn open_for(path: &Path, dataset: &str, secret: u8, recipient: &str) -> (Old, New) {
    let (secrets, node, dataset) = (Secrets::from_bytes([secret; 32]), "node1".parse().unwrap(), dataset.parse().unwrap());
    open(place(path), &Owner { secrets: &secrets, recipient, node: &node, dataset: &dataset })
}

fn begin(path: &Path) -> (Old, New) {
    open_for(path, "files:/a", 1, "age1x")
}

fn name(n: u64) -> Vec<u8> {
    format!("folder {:03}/{n:06}", n / 100).into_bytes()
}

fn line(n: u64) -> String {
    format!("line of {n} {}", "x".repeat(usize::try_from(n % 300).unwrap()))
}

/// Remembers the things `from` to `to`.
fn fill(new: &mut New, from: u64, to: u64) {
    for n in from..to {
        let (line, uses) = (line(n), uses(n));
        let known = Known { line: &line, names: (Some("somebody"), None), plain: n % 2 == 0, uses: &uses };
        new.remember(&name(n), &stat(n), Some(now()), &known);
    }
}

/// Which of the things 0 to `to` are remembered; all that is remembered is as it was.
fn remembered(old: &mut Old, to: u64) -> Vec<u64> {
    let mut all = Vec::new();
    for n in 0..to {
        if let Some(found) = old.find(&name(n), &stat(n), &mut |_| Ok(true)).unwrap() {
            assert_eq!((found.line, found.plain, found.uses), (line(n).as_str(), n % 2 == 0, &uses(n)));
            assert_eq!(*found.names, Pair { user: Some("somebody".into()), group: None, holds: None });
            all.push(n);
        }
    }
    all
}

#[test]
fn what_has_not_changed_is_found_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let (mut old, mut new) = begin(&path);
    assert!(old.known_before().is_none() && remembered(&mut old, 10).is_empty());
    fill(&mut new, 0, 5000);
    new.finish();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(remembered(&mut begin(&path).0, 6000), (0..5000).collect::<Vec<_>>());
    let changes: [fn(&mut Stat); 10] = [
        |s| s.kind = FileType::Symlink,
        |s| s.mode = 0o600,
        |s| s.uid += 1,
        |s| s.gid += 1,
        |s| s.size += 1,
        |s| s.mtime.nanos += 1,
        |s| s.ctime.nanos += 1,
        |s| s.device += 1,
        |s| s.inode += 1,
        |s| s.links += 1,
    ];
    for change in changes {
        let mut changed = stat(7);
        change(&mut changed);
        let (mut old, _) = begin(&path);
        assert!(old.find(&name(7), &changed, &mut |_| Ok(true)).unwrap().is_none(), "{changed:?}");
        // The things after it are found all the same, and what the index does not confirm is not.
        assert!(old.find(&name(9), &stat(9), &mut |_| Ok(true)).unwrap().is_some());
        assert!(old.find(&name(11), &stat(11), &mut |_| Ok(false)).unwrap().is_none());
    }
}

#[test]
fn a_snapshot_of_a_file_system_has_another_device_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let secrets = Secrets::from_bytes([1; 32]);
    let (node, dataset) = ("node1".parse().unwrap(), "files:/a".parse().unwrap());
    let owner = Owner { secrets: &secrets, recipient: "age1x", node: &node, dataset: &dataset };
    let open = || open(Some(CachePlace { path: &path, granularity: GRANULARITY, any_device: true }), &owner);
    let (_, mut new) = open();
    fill(&mut new, 0, 10);
    new.finish();
    let (mut old, _) = open();
    assert!(old.find(&name(3), &Stat { device: 77, ..stat(3) }, &mut |_| Ok(true)).unwrap().is_some());
    assert!(old.find(&name(4), &Stat { device: 77, inode: 99, ..stat(4) }, &mut |_| Ok(true)).unwrap().is_none());
}

#[test]
fn what_may_change_again_without_a_trace_is_not_remembered() {
    let new = New { writer: None, path: PathBuf::new(), granularity: GRANULARITY, any_device: false };
    let at = |seconds, nanos| Mtime { seconds, nanos };
    let seen = at(1000, 500);
    for (ctime, mtime, settled) in [
        (at(998, 499), at(998, 499), true),
        (at(998, 500), at(998, 499), false),
        (at(1000, 500), at(900, 0), false),
        // The clock was set back after the change.
        (at(5000, 0), at(900, 0), false),
        (at(900, 0), at(998, 500), false),
        (at(900, 0), at(1002, 500), false),
        // Somebody has set a time far ahead.
        (at(900, 0), at(1002, 501), true),
        (at(-5, 0), at(i64::MIN, 0), true),
    ] {
        assert_eq!(new.settled(&Stat { ctime, mtime, ..stat(1) }, seen), settled, "{ctime:?} {mtime:?}");
    }
}

#[test]
fn a_damaged_cache_is_used_as_far_as_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let (_, mut new) = begin(&path);
    fill(&mut new, 0, 2000);
    new.finish();
    let good = fs::read(&path).unwrap();
    let mut edges = vec![0];
    while let Some(head) = good.get(edges[edges.len() - 1]..).and_then(|rest| rest.first_chunk::<4>()) {
        edges.push(edges[edges.len() - 1] + HEAD + u32::from_le_bytes(*head) as usize);
    }
    assert!(edges.len() > 6 && edges[edges.len() - 1] == good.len());
    let found = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        remembered(&mut begin(&path).0, 2000)
    };
    let mut last = 0;
    for (number, edge) in edges.iter().enumerate() {
        for length in [edge.saturating_sub(1), edge + 1, edge + HEAD, *edge].into_iter().filter(|length| *length <= good.len()) {
            let found = found(&good[..length]);
            assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>(), "cut at {length}");
            if length == *edge && number > 1 {
                assert!(found.len() > last);
                last = found.len();
            }
        }
    }
    assert_eq!(last, 2000);
    for at in
        (0..good.len()).step_by(9973).chain(edges.iter().flat_map(|edge| [0, 3, 4, 35, 36].map(|n| edge + n)).filter(|at| *at < good.len()))
    {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let found = found(&bytes);
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>(), "flipped at {at}");
        assert!(found.len() < 2000);
    }
    // Blocks in another order, one twice, one missing, one of an older version of the file; lengths that lie.
    let block = |n: usize| &good[edges[n]..edges[n + 1]];
    for bytes in [
        [block(0), block(2), block(1), &good[edges[3]..]].concat(),
        [block(0), block(1), &good[edges[1]..]].concat(),
        [block(0), &good[edges[2]..]].concat(),
        [&[0xff; 4][..], &good[4..]].concat(),
        [&[0; 4][..], &good[4..]].concat(),
        vec![0; 1 << 20],
        Vec::new(),
    ] {
        assert!(found(&bytes).len() < 2000);
    }
    // That of another secret, key, dataset or node is nobody's.
    fs::write(&path, &good).unwrap();
    for (dataset, secret, recipient) in [("files:/b", 1, "age1x"), ("files:/a", 2, "age1x"), ("files:/a", 1, "age1y")] {
        assert!(open_for(&path, dataset, secret, recipient).0.readers.is_empty());
    }
    // Something else in its place.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(begin(&path).0.readers.is_empty());
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert!(begin(&path).0.readers.is_empty());
}

#[test]
fn what_cut_off_runs_have_written_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let (_, mut new) = begin(&path);
    fill(&mut new, 0, 500);
    new.finish();
    // One that came far, and one after it that did not. What of it was not written yet is lost.
    let (_, mut new) = begin(&path);
    fill(&mut new, 500, 3000);
    drop(new);
    let (mut old, mut new) = begin(&path);
    let cut = remembered(&mut old, 3000).len() as u64;
    assert!((1500..3000).contains(&cut), "{cut}");
    fill(&mut new, 0, 400);
    drop(new);
    assert_eq!(remembered(&mut begin(&path).0, 3000), (0..cut).collect::<Vec<_>>());
    // One that ends: the others are no longer needed.
    let (_, mut new) = begin(&path);
    fill(&mut new, 100, 200);
    new.finish();
    assert_eq!(remembered(&mut begin(&path).0, 3000), (100..200).collect::<Vec<_>>());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // A crash between any two steps leaves one of these states.
    for (names, there) in [
        (vec!["cache", "cache.new", "cache.cut"], true),
        (vec!["cache", "cache.cut"], true),
        (vec!["cache.new"], true),
        (vec!["cache.cut"], true),
        (vec![], false),
    ] {
        let bytes = fs::read(&path).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(folder.path().join(name), &bytes).unwrap();
        }
        assert_eq!(remembered(&mut begin(&folder.path().join("cache")).0, 3000).len() == 100, there);
    }
}

#[test]
fn caches_that_nobody_writes_any_more_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    for (name, days) in [("old", 91), ("young", 89)] {
        let file = fs::File::create(dir.path().join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(days * 24 * 3600)).unwrap();
    }
    sweep(dir.path());
    sweep(&dir.path().join("absent"));
    assert!(!dir.path().join("old").exists() && dir.path().join("young").exists());
}

#[test]
fn a_cache_that_cannot_be_written_is_done_without() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("absent/cache");
    let (mut old, mut new) = begin(&path);
    fill(&mut new, 0, 3000);
    new.finish();
    assert!(remembered(&mut old, 10).is_empty() && !path.exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn records_survive(things in prop::collection::btree_map(prop::collection::vec(1u8.., 0..300), (any::<u64>(), "\\PC{0,80}", any::<u32>(), any::<bool>()), 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let mut writer = Writer::new(&path, KEY, LONG_AGO);
        let stat_of = |inode: u64, uid: u32| Stat { uid: uid % 4, gid: 5, ..stat(inode % (1 << 60)) };
        for (name, (inode, line, uid, plain)) in &things {
            let user = format!("user {}", uid % 4);
            let uses = uses(*inode);
            let known = Known { line, names: (Some(&user), None), plain: *plain, uses: &uses };
            writer.push(name, &stat_of(*inode, *uid), &known).unwrap();
        }
        prop_assert_eq!(writer.finish().unwrap(), !things.is_empty());
        if !things.is_empty() {
            let mut reader = Reader::open(&path, KEY).unwrap();
            prop_assert_eq!(reader.began(), LONG_AGO);
            for (name, (inode, line, uid, plain)) in &things {
                let found = reader.find(name, &stat_of(*inode, *uid)).unwrap();
                prop_assert_eq!((found.line, found.plain, found.uses), (line.as_str(), *plain, &uses(*inode)));
                prop_assert_eq!(&found.names.user, &Some(format!("user {}", uid % 4)));
            }
        }
    }
}
