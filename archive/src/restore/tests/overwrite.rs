//! Restores into trees that are there: what stays, what is replaced, what is refused.

use super::*;

const ALL: [Overwrite; 3] = [Overwrite::Never, Overwrite::Changed, Overwrite::Always];

/// All that tells whether something was touched.
fn stamp(path: &Path) -> (u64, i64, i64, u32) {
    let meta = path.symlink_metadata().unwrap();
    (meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.mode())
}

fn stamps(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, u32)> {
    listing(root).into_keys().map(|path| (path.clone(), stamp(&root.join(&path)))).collect()
}

#[test]
fn what_is_the_same_is_not_touched() {
    let (forge, entries) = sample();
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    let first = restore(&forged, &target).unwrap();
    let (before, root) = (stamps(&target), target.join("a").metadata().unwrap().ctime_nsec());
    for overwrite in ALL {
        forged.packs.reads.lock().unwrap().clear();
        let again = restore_over(&forged, &target, overwrite).unwrap();
        assert_eq!((again.entries, again.bytes, again.left, again.same), (0, 0, 0, first.entries), "{overwrite:?}");
        assert_eq!(again.problems, Vec::<String>::new());
        assert_eq!((stamps(&target), target.join("a").metadata().unwrap().ctime_nsec()), (before.clone(), root), "{overwrite:?}");
        let names = forged.names();
        assert!(forged.packs.reads.lock().unwrap().iter().all(|(pack, _, n)| *n < 64 || !names[..2].contains(pack)), "no content is read");
    }
}

#[test]
fn what_differs_is_left_dressed_or_replaced() {
    let (forge, entries) = sample();
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    restore(&forged, &whole).unwrap();
    for overwrite in ALL {
        let target = dir.path().join(format!("{overwrite:?}"));
        restore(&forged, &target).unwrap();
        let time = |name: &str| target.join(name).metadata().unwrap().modified().unwrap();
        let keep = |name: &str, time| fs::File::open(target.join(name)).unwrap().set_modified(time).unwrap();
        // Missing; other bytes; other bytes of the same size and time; another time alone; another mode; a link; a folder's mode.
        fs::remove_file(target.join("many-01")).unwrap();
        fs::remove_dir_all(target.join("a/b")).unwrap();
        fs::write(target.join("many-02"), b"mine").unwrap();
        let (old, length) = (time("many-03"), target.join("many-03").metadata().unwrap().len());
        fs::write(target.join("many-03"), vec![b'x'; usize::try_from(length).unwrap()]).unwrap();
        keep("many-03", old);
        keep("many-04", std::time::SystemTime::now());
        fs::set_permissions(target.join("many-05"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(target.join("a/link")).unwrap();
        symlink("elsewhere", target.join("a/link")).unwrap();
        fs::set_permissions(target.join("empty"), fs::Permissions::from_mode(0o700)).unwrap();
        // And what the snapshot does not have.
        fs::write(target.join("a/own"), b"own").unwrap();
        fs::create_dir(target.join("own")).unwrap();
        let (inode, dressed, own) = (stamp(&target.join("many-04")).0, stamp(&target.join("many-05")).0, stamp(&target.join("a/own")));
        let before = listing(&target);
        let report = restore_over(&forged, &target, overwrite).unwrap();
        assert_eq!(report.problems, Vec::<String>::new(), "{overwrite:?}");
        let after = listing(&target);
        assert_eq!(stamp(&target.join("a/own")), own);
        assert!(target.join("own").is_dir());
        let right = listing(&whole);
        for (path, what) in &right {
            let name = path.to_str().unwrap();
            let wrong = match (overwrite, name) {
                (Overwrite::Never, "many-02" | "many-03" | "many-04" | "many-05" | "a/link" | "empty") => Some(&before[path]),
                // Its time has changed with what was put into it.
                (Overwrite::Never, "a") => continue,
                // Nothing but its content tells.
                (Overwrite::Changed, "many-03") => Some(&before[path]),
                _ => None,
            };
            assert_eq!(&after[path], wrong.unwrap_or(what), "{overwrite:?} {name}");
        }
        let (done, left) = match overwrite {
            Overwrite::Never => (3, 7),
            Overwrite::Changed => (10, 0),
            Overwrite::Always => (11, 0),
        };
        assert_eq!((report.entries, report.left), (done, left), "{overwrite:?} {report:?}");
        // Where the content was right the file is the same one.
        assert_eq!(stamp(&target.join("many-04")).0, inode);
        assert_eq!(stamp(&target.join("many-05")).0, dressed);
        // Once more: nothing is left to be done.
        if overwrite == Overwrite::Always {
            let again = restore_over(&forged, &target, overwrite).unwrap();
            assert_eq!((again.entries, again.left), (0, 0));
        }
    }
}

/// Folders, files, links and special files in each other's places.
#[test]
fn things_of_another_kind() {
    let mut forge = Forge::new();
    let mut entries = vec![folder(""), folder("folder/"), link("link", "x")];
    for path in ["file", "folder/in"] {
        entries.push(forge.file(path, &[path.as_bytes()]));
    }
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("theirs"), b"theirs").unwrap();
    let fifo = |path: &Path| rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
    type Plant<'a> = &'a dyn Fn(&Path);
    let file: Plant<'_> = &|path| fs::write(path, b"there").unwrap();
    let full: Plant<'_> = &|path| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("theirs"), b"theirs").unwrap();
    };
    let empty: Plant<'_> = &|path| fs::create_dir(path).unwrap();
    let away: Plant<'_> = &|path| symlink(&outside, path).unwrap();
    let pipe: Plant<'_> = &|path| fifo(path);
    // What stands in the place of what, and whether never, changed and always bring the right thing.
    for (name, plant, what, comes) in [
        ("file", file, "file", [false, true, true]),
        ("file", away, "link", [false, true, true]),
        ("file", pipe, "fifo", [false, true, true]),
        ("file", empty, "empty", [false, false, true]),
        ("file", full, "full", [false, false, false]),
        ("link", file, "file", [false, true, true]),
        ("link", away, "link", [false, true, true]),
        ("link", empty, "empty", [false, false, true]),
        ("link", full, "full", [false, false, false]),
        ("folder", file, "file", [false, false, true]),
        ("folder", away, "link", [false, false, true]),
        ("folder", pipe, "fifo", [false, false, true]),
        ("folder", full, "full", [true, true, true]),
    ] {
        for (overwrite, comes) in ALL.into_iter().zip(comes) {
            let target = dir.path().join(format!("{name}-{what}-{overwrite:?}"));
            fs::create_dir(&target).unwrap();
            plant(&target.join(name));
            let dry =
                restore_with(&forged, &target, &[], FileOptions { overwrite: Some(overwrite), dry_run: true, ..FileOptions::default() });
            let before = listing(&target);
            let report = restore_over(&forged, &target, overwrite).unwrap();
            let case = format!("{name} {what} {overwrite:?} {report:?}");
            let meta = target.join(name).symlink_metadata().unwrap();
            let right = match name {
                "file" => meta.is_file() && fs::read(target.join("file")).unwrap() == b"file",
                "link" => meta.is_symlink() && fs::read_link(target.join("link")).unwrap() == Path::new("x"),
                _ => meta.is_dir() && target.join("folder/in").exists(),
            };
            assert_eq!(right, comes, "{case}");
            if !comes {
                assert_eq!(listing(&target)[Path::new(name)], before[Path::new(name)], "{case}");
                assert!(report.left + report.problems.len() as u64 > 0, "{case}");
            }
            if what == "full" {
                assert_eq!(fs::read(target.join(name).join("theirs")).unwrap(), b"theirs", "{case}");
            }
            let dry = dry.unwrap();
            assert_eq!((dry.entries, dry.left, dry.problems.len()), (report.entries, report.left, report.problems.len()), "{case} {dry:?}");
            assert_eq!(listing(&outside).len(), 1, "{case}");
            assert!(!target.join(Journal::name(&forged.manifest.public.id)).exists());
        }
    }
}

#[test]
fn hard_links_come_out_right_in_a_tree_that_is_there() {
    let mut forge = Forge::new();
    let grouped = |mut entry: Entry, group: u64| {
        entry.hard_link = Some(group);
        entry
    };
    let first = forge.file("a", &[b"same"]);
    let of = |path: &str| Entry { path: path.as_bytes().to_vec(), ..first.clone() };
    let entries = vec![folder(""), grouped(of("a"), 1), grouped(of("b"), 1), grouped(of("c"), 1), of("single-1"), of("single-2")];
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let names = ["a", "b", "c", "single-1", "single-2"];
    // Which names are one file before; all have the right content and time.
    for (n, groups) in
        [[0, 0, 0, 3, 4], [0, 1, 2, 3, 4], [0, 0, 2, 3, 3], [0, 0, 0, 0, 0], [0, 1, 0, 1, 4], [0, 3, 3, 3, 0]].iter().enumerate()
    {
        for overwrite in [Overwrite::Changed, Overwrite::Always] {
            for missing in [None, Some("a"), Some("b")] {
                let target = dir.path().join(format!("{n}-{overwrite:?}-{missing:?}"));
                fs::create_dir(&target).unwrap();
                for (name, group) in names.iter().zip(groups) {
                    if !target.join(names[*group]).exists() {
                        fs::write(target.join(names[*group]), b"same").unwrap();
                        fs::File::open(target.join(names[*group]))
                            .unwrap()
                            .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789))
                            .unwrap();
                    }
                    if !target.join(name).exists() {
                        fs::hard_link(target.join(names[*group]), target.join(name)).unwrap();
                    }
                }
                if let Some(name) = missing {
                    fs::remove_file(target.join(name)).unwrap();
                }
                // A name that is none of the snapshot's keeps its content and time, whatever becomes of the others.
                let report = restore_over(&forged, &target, overwrite).unwrap();
                assert_eq!(report.problems, Vec::<String>::new());
                let inode = |name: &str| target.join(name).metadata().unwrap().ino();
                let case = format!("{groups:?} {overwrite:?} {missing:?}");
                assert_eq!((inode("a"), inode("a")), (inode("b"), inode("c")), "{case}");
                assert!(
                    inode("a") != inode("single-1") && inode("a") != inode("single-2") && inode("single-1") != inode("single-2"),
                    "{case}"
                );
                assert!(names.iter().all(|name| fs::read(target.join(name)).unwrap() == b"same"), "{case}");
                assert_eq!(fs::read_dir(&target).unwrap().count(), 5, "{case}");
            }
        }
    }
    // A first name that stays another file is not linked to.
    let target = dir.path().join("never");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("a"), b"mine").unwrap();
    assert_eq!(restore_over(&forged, &target, Overwrite::Never).unwrap().left, 2);
    let inode = |name: &str| target.join(name).metadata().unwrap().ino();
    assert!(inode("b") == inode("c") && inode("a") != inode("b"));
    assert_eq!((fs::read(target.join("a")).unwrap(), fs::read(target.join("b")).unwrap()), (b"mine".to_vec(), b"same".to_vec()));
}

#[test]
fn a_name_elsewhere_keeps_what_it_had() {
    let mut forge = Forge::new();
    let file = forge.file("f", &[b"same"]);
    let forged = forge.finish(vec![folder(""), file]);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    fs::create_dir(&target).unwrap();
    // The right content under a wrong mode, and another name of it that is none of ours.
    fs::write(dir.path().join("elsewhere"), b"same").unwrap();
    fs::set_permissions(dir.path().join("elsewhere"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(dir.path().join("elsewhere"), target.join("f")).unwrap();
    let before = (fs::read(dir.path().join("elsewhere")).unwrap(), dir.path().join("elsewhere").metadata().unwrap().mtime());
    assert_eq!(restore_over(&forged, &target, Overwrite::Changed).unwrap().entries, 2);
    let meta = dir.path().join("elsewhere").metadata().unwrap();
    assert_eq!((before, meta.mode() & 0o7777), ((b"same".to_vec(), meta.mtime()), 0o640));
    assert_eq!(target.join("f").metadata().unwrap().mode() & 0o7777, 0o644);
}

#[test]
fn folders_are_taken_off_the_front() {
    let (mut forge, mut entries) = sample();
    entries.extend([folder("c/"), folder("c/b/"), forge.file("c/b/two", &[b"other"]), forge.file("c/b/more", &[b"more"])]);
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let strip = |levels, paths: &[&str], name: &str| {
        let target = dir.path().join(name);
        let report = restore_with(&forged, &target, paths, FileOptions { strip: levels, ..FileOptions::default() }).unwrap();
        (listing(&target).into_keys().map(|path| path.display().to_string()).collect::<Vec<_>>(), report)
    };
    assert_eq!(strip(1, &["a"], "one").0, ["b", "b/two", "link", "nothing", "one"]);
    assert_eq!(strip(2, &["a/b/two"], "two").0, ["two"]);
    assert!(strip(9, &["a"], "nine").0.is_empty());
    // Two files that come to one place: the first one is there, and the other one is named.
    let (names, report) = strip(1, &["a", "c"], "both");
    assert_eq!(names, ["b", "b/more", "b/two", "link", "nothing", "one"]);
    assert!(report.problems.len() == 1 && report.problems[0].contains("c/b/two"), "{:?}", report.problems);
    assert_eq!(fs::read(dir.path().join("both/b/two")).unwrap(), b"twothree");
    assert_eq!(dir.path().join("both/b").metadata().unwrap().mtime(), 1_700_000_000);
    // Again, over itself.
    assert_eq!(strip(1, &["a"], "one").1.entries, 0);
}

#[test]
fn a_dry_run_writes_nothing_and_tells_all() {
    #[derive(Default)]
    struct Told(std::sync::Mutex<Vec<String>>);
    impl Monitor for Told {
        fn planned(&self, step: &base::PlannedStep<'_>) {
            self.0.lock().unwrap().push(format!("{} {} {}", step.what, step.path, step.bytes));
        }
    }
    let (forge, entries) = sample();
    let count = entries.len() as u64;
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("not/yet");
    let dry = FileOptions { dry_run: true, ..FileOptions::default() };
    let told = Told::default();
    let run = |target: &Path, options| {
        restore_tree(&forged.reader(), RestoreSpec { paths: vec![], target, options, monitor: &told })
            .map(|report| (report, std::mem::take(&mut *told.0.lock().unwrap())))
    };
    let (report, steps) = run(&target, dry).unwrap();
    assert_eq!((report.entries, report.bytes, steps.len() as u64), (count, forged.manifest.public.counts.bytes, count));
    assert!(steps.contains(&"create a/one 3".to_owned()) && steps.contains(&"create a/b/ 0".to_owned()), "{steps:?}");
    assert!(!dir.path().join("not").exists());
    restore(&forged, &target).unwrap();
    fs::write(target.join("a/one"), b"mine!").unwrap();
    fs::remove_file(target.join("big")).unwrap();
    let before = stamps(&target);
    assert_eq!(run(&target, dry).unwrap_err().kind(), Kind::Refused);
    for (overwrite, word) in ALL.into_iter().zip(["left a/one 3", "replace a/one 3", "replace a/one 3"]) {
        let (_, steps) = run(&target, FileOptions { overwrite: Some(overwrite), ..dry }).unwrap();
        assert!(steps.iter().any(|step| step == word) && steps.contains(&"create big 30000".to_owned()), "{steps:?}");
        assert!(steps.contains(&"same a/b/two 8".to_owned()));
    }
    assert_eq!(stamps(&target), before);
}
