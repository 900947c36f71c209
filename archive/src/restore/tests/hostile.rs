//! Trees that want to get out of their target, and lies about hard links.

use super::*;
use crate::entry::FileDigest;
use crate::manifest::Counts;
use crate::reference::{Extent, Item};

/// Lines that are long, or unfold to much, are worked on a few at a time, and all of them are.
#[test]
fn entries_that_unfold_are_restored_all_the_same() {
    let mut forge = Forge::new();
    forge.segment_lines = 2;
    let at = forge.chunk(b"x");
    let long = |entry: Entry| Entry { user: Some("u".repeat(400_000)), ..entry };
    let mut entries = vec![folder("")];
    entries.extend((0..90).map(|n| long(forge.file_at(&format!("{n:02}"), References::of([at]), b"x"))));
    let many = References(vec![Item::one(at); 2000]);
    entries.push(forge.file_at("many", many, &[b'x'; 2000]));
    assert!(entries.iter().map(Entry::weight).sum::<usize>() > 32 << 20);
    assert!(entries.last().unwrap().weight() >= 2000 * size_of::<Item>());
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let report = restore(&forged, dir.path()).unwrap();
    assert_eq!((report.entries, report.bytes, report.problems.len()), (92, 2090, 0), "{:?}", report.problems);
    let verified = crate::verify::verify_all(&forged.reader(), &Silent).unwrap();
    assert_eq!((verified.right, verified.problems.len()), (91, 0));
}

/// A file of four exabytes in a line, of a manifest that says that there is one byte: nothing fills the disk.
#[test]
fn what_the_manifest_does_not_say_is_held_against_the_room() {
    let mut forge = Forge::new();
    let at = forge.chunk(b"x");
    let size = 1 << 62;
    let list = References(vec![Item { run: at.run, frame: at.frame, extent: Extent::Repeat { n: at.n, count: size } }]);
    let huge = EntryKind::File { size, content: Content::Chunks(list), digest: FileDigest([1; 16]), sparse: None };
    let entries = [folder(""), forge.file("a", &[b"x"]), entry("huge", huge)];
    let lines = entries.iter().map(|entry| (entry.path.clone(), entry.to_line().unwrap())).collect();
    let root = forge.catalog(lines);
    let forged = forge.finish_with(root, Counts { entries: 3, files: 2, bytes: 1, unreadable: 0 });
    let dir = tempfile::tempdir().unwrap();
    let error = restore(&forged, dir.path()).unwrap_err();
    assert!(error.kind() == Kind::NotNow && error.one_line().contains("more than the 1 B that its manifest says"), "{}", error.render());
    assert!(!dir.path().join("huge").exists());
    assert_eq!(restore_paths(&forged, &dir.path().join("one"), &["a"]).unwrap().problems.len(), 0);
    let verified = crate::verify::verify_all(&forged.reader(), &Silent).unwrap();
    assert_eq!((verified.right, verified.damaged), (1, vec!["huge".to_owned()]), "{:?}", verified.problems);
}

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
