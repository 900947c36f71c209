//! What comes back: trees, chosen paths, single files, long paths, holes.

use super::*;

#[test]
fn all_comes_back_as_it_was() {
    let (mut forge, mut entries) = sample();
    let inner = forge.file("closed/inner", &[b"inner"]);
    entries.push(inner);
    let mut closed = folder("closed/");
    closed.mode = 0o1555;
    closed.mtime = Mtime { seconds: -5, nanos: 7 };
    entries.push(closed);
    let count = entries.len() as u64;
    let forged = forge.finish(entries.clone());
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("new/target");
    let report = restore(&forged, &target).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.entries, count);
    assert_eq!(report.bytes, forged.manifest.public.counts.bytes);
    for entry in &entries {
        let path = target.join(entry.shown_path());
        let meta = path.symlink_metadata().unwrap();
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (entry.mtime.seconds, i64::from(entry.mtime.nanos)), "{path:?}");
        if !meta.is_symlink() {
            assert_eq!(meta.permissions().mode() & 0o7777, entry.mode, "{path:?}");
        }
        match &entry.kind {
            EntryKind::Dir => assert!(meta.is_dir()),
            EntryKind::Link { target } => assert_eq!(fs::read_link(&path).unwrap().as_os_str().as_encoded_bytes(), target),
            EntryKind::File { size, .. } => {
                let mut content = Vec::new();
                forged.reader().read_file(entry, &mut content).unwrap();
                assert_eq!(fs::read(&path).unwrap(), content);
                assert_eq!(meta.len(), *size);
            }
            EntryKind::Fifo | EntryKind::Device { .. } => unreachable!("none is among them"),
        }
    }
    assert_eq!(fs::read(target.join("a/b/two")).unwrap(), b"twothree");
    // Once more into the same folder: all is there.
    let before = listing(&target);
    let inode = target.join("big").metadata().unwrap().ino();
    let again = restore(&forged, &target).unwrap();
    assert_eq!((again.entries, again.same, again.problems.len()), (0, report.entries, 0));
    assert_eq!((listing(&target), target.join("big").metadata().unwrap().ino()), (before, inode));
    assert_eq!(crate::verify::verify_all(&forged.reader(), &Silent).unwrap().problems, Vec::<String>::new());
}

#[test]
fn paths_choose() {
    let (forge, entries) = sample();
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let names = |target: &Path| listing(target).into_keys().map(|p| p.display().to_string()).collect::<Vec<_>>();
    for (paths, expected) in [
        (&["a/b"][..], &["a", "a/b", "a/b/two"][..]),
        (&["/a/b/two/"], &["a", "a/b", "a/b/two"]),
        (&["big", "a/b", "a/b/two", "a/one"], &["a", "a/b", "a/b/two", "a/one", "big"]),
        (&["a", "a/b"], &["a", "a/b", "a/b/two", "a/link", "a/nothing", "a/one"]),
        (&["many-0", "many-01"], &[]),
        (&["many-01"], &["many-01"]),
        (&["a/../b"], &[]),
    ] {
        let target = dir.path().join(paths.join("+").replace('/', "_"));
        let outcome = restore_paths(&forged, &target, paths);
        if expected.is_empty() {
            assert!(outcome.is_err() && !target.exists(), "{paths:?}");
        } else {
            assert_eq!(outcome.unwrap().problems.len(), 0);
            assert_eq!(names(&target), expected, "{paths:?}");
        }
    }
    // Another part may be put into the same folder afterwards.
    let target = dir.path().join("parts");
    restore_paths(&forged, &target, &["a/one"]).unwrap();
    restore_paths(&forged, &target, &["big"]).unwrap();
    assert_eq!(names(&target), ["a", "a/one", "big"]);
}

#[test]
fn a_target_with_other_things_is_refused() {
    let (forge, entries) = sample();
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let refused = |target: &Path| {
        let before = listing(target);
        let error = restore(&forged, target).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{error:?}");
        assert_eq!(listing(target), before);
    };
    let target = dir.path().join("t");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("mine"), b"mine").unwrap();
    refused(&target);
    fs::remove_file(target.join("mine")).unwrap();
    restore(&forged, &target).unwrap();
    fs::write(target.join("a/mine"), b"mine").unwrap();
    refused(&target);
    fs::remove_file(target.join("a/mine")).unwrap();
    // Other bytes, and then under the old time: it is no leftover of ours, so its time proves nothing.
    let time = target.join("a/one").metadata().unwrap().modified().unwrap();
    fs::write(target.join("a/one"), b"ONE").unwrap();
    refused(&target);
    fs::File::open(target.join("a/one")).unwrap().set_modified(time).unwrap();
    refused(&target);
    let file = dir.path().join("file");
    fs::write(&file, b"x").unwrap();
    assert_eq!(restore(&forged, &file).unwrap_err().kind(), Kind::Refused);
    // An empty folder is fine, whatever its mode was.
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(restore(&forged, &empty).unwrap().problems.len(), 0);
}

#[test]
fn a_single_file_becomes_the_target() {
    let mut forge = Forge::new();
    let file = forge.file("", &[b"dump"]);
    let forged = forge.finish(vec![file]);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("file");
    assert_eq!(restore(&forged, &target).unwrap().bytes, 4);
    assert_eq!(fs::read(&target).unwrap(), b"dump");
    assert_eq!(target.metadata().unwrap().mtime(), 1_700_000_000);
    assert_eq!(restore(&forged, &target).unwrap().same, 1);
    fs::write(&target, b"mine").unwrap();
    assert_eq!(restore(&forged, &target).unwrap_err().kind(), Kind::Refused);
    assert_eq!(fs::read(&target).unwrap(), b"mine");
    assert!(restore_paths(&forged, &dir.path().join("other"), &["x"]).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn paths_longer_than_the_kernel_takes() {
    let mut forge = Forge::new();
    let mut entries = vec![folder("")];
    let mut path = String::new();
    for _ in 0..60 {
        path.push_str(&"n".repeat(99));
        path.push('/');
        entries.push(folder(&path));
    }
    let file = forge.file(&format!("{path}file"), &[b"deep"]);
    entries.push(file.clone());
    entries.push(entry(&format!("{path}link"), EntryKind::Link { target: b"x".to_vec() }));
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    assert_eq!(restore(&forged, &target).unwrap().problems, Vec::<String>::new());
    let mut opened = target::Target::new(&target).unwrap();
    assert_eq!(opened.look(&file.path).unwrap().unwrap().st_size, 4);
    assert_eq!(restore(&forged, &target).unwrap_or_default().problems, Vec::<String>::new());
    // std's removal of the temporary folder copes with depth, not with closed folders; ours are open.
}

#[test]
fn one_small_file_is_read_with_few_reads() {
    let mut forge = Forge::new();
    forge.frame_size = 1 << 20;
    forge.pack_frames = 8;
    forge.segment_lines = 64;
    let mut entries = vec![folder("")];
    let mut random = 1u64;
    for n in 0..2000 {
        let content: Vec<u8> = (0..10_000)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                random.to_be_bytes()[0]
            })
            .collect();
        entries.push(forge.file(&format!("f{n:05}"), &[&content]));
    }
    let forged = forge.finish(entries);
    let reader = forged.reader();
    let found = reader.find(b"f01234").unwrap().unwrap();
    reader.read_file(&found, &mut Vec::new()).unwrap();
    let reads = forged.packs.reads.lock().unwrap().clone();
    // Two packs: head, end and a frame of each.
    assert!(reads.len() <= 6, "{reads:?}");
    let bytes: usize = reads.iter().map(|(_, _, n)| n).sum();
    assert!(bytes < 3 << 20, "{bytes}");
    // And all of it: each pack once, with a little for heads and ends.
    forged.packs.reads.lock().unwrap().clear();
    let dir = tempfile::tempdir().unwrap();
    restore(&forged, dir.path()).unwrap();
    let bytes: u64 = forged.packs.reads.lock().unwrap().iter().map(|(_, _, n)| *n as u64).sum();
    let held: u64 = forged.manifest.public.packs.iter().map(|pack| pack.size).sum();
    assert!(bytes < held + held / 5 + (1 << 20), "{bytes} {held}");
}
