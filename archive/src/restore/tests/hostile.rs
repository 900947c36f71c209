//! Trees that want to get out of their target, and lies about hard links.

use super::*;

#[test]
fn hard_links_come_back_and_lies_about_them_do_not() {
    let mut forge = Forge::new();
    let mut entries = vec![folder(""), folder("d/")];
    let grouped = |mut entry: Entry, group: u64| {
        entry.hard_link = Some(group);
        entry
    };
    let first = forge.file("d/first", &[b"same"]);
    let second = Entry { path: b"second".to_vec(), ..first.clone() };
    entries.extend([grouped(first, 2), grouped(second, 2)]);
    // Another file says that it is of the same group.
    let liar = forge.file("third", &[b"else"]);
    entries.push(grouped(liar, 2));
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    let report = restore(&forged, &target).unwrap();
    assert_eq!((report.problems.len(), report.entries, report.bytes), (0, 5, 12));
    let inode = |name: &str| target.join(name).metadata().unwrap().ino();
    assert_eq!(inode("d/first"), inode("second"));
    assert_ne!(inode("d/first"), inode("third"));
    assert_eq!(fs::read(target.join("third")).unwrap(), b"else");
    // Once more, and one name alone.
    assert_eq!(restore(&forged, &target).unwrap().problems.len(), 0);
    assert_eq!(inode("d/first"), inode("second"));
    restore_paths(&forged, &dir.path().join("one"), &["second"]).unwrap();
    assert_eq!(fs::read(dir.path().join("one/second")).unwrap(), b"same");
}

#[test]
fn hostile_trees_stay_in_the_target() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let away = outside.to_str().unwrap();
    let mut forge = Forge::new();
    let mut entries = vec![folder(""), link("out", away), link("up", "../outside"), link("also/deep", away)];
    for path in ["out/a", "out/sub/b", "up/c", "also/deep/d", "plain/e", ".nightsafe-restore-20261120T031500Z-3f9a1c7e"] {
        entries.push(forge.file(path, &[path.as_bytes()]));
    }
    entries.extend([folder("out/made/"), folder("plain/")]);
    // A file and a folder of one name.
    entries.push(forge.file("plain", &[b"file"]));
    let forged = forge.finish(entries);
    let target = dir.path().join("t");
    let report = restore(&forged, &target).unwrap();
    assert!(!report.problems.is_empty());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::read(target.join("plain/e")).unwrap(), b"plain/e");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    assert!(report.problems.iter().any(|p| p.contains("use this name themselves")), "{:#?}", report.problems);
    // The names themselves are refused where lines are read, and once more before the kernel sees them.
    let mut opened = target::Target::new(&target).unwrap();
    for bad in ["..", "a/..", "../a", "/etc/a", "a//b", ".", "a/./b", "", "a\0b", "a/\0"] {
        assert!(opened.create(bad.as_bytes()).is_err(), "{bad:?}");
        assert!(opened.make_node(bad.as_bytes(), &Node::Link(b"x".to_vec()), |_, _, _| Ok(())).is_err(), "{bad:?}");
        assert!(opened.remove(bad.as_bytes(), rustix::fs::FileType::RegularFile).is_err(), "{bad:?}");
        assert!(bad.is_empty() || opened.make_folder(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}
