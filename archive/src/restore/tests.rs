//! Restores of forged snapshots: honest ones, damaged ones and such as no honest client makes.

mod holes;

use super::*;
use crate::PackSource;
use crate::entry::Mtime;
use crate::forge::{Forge, Forged, entry, folder, link};
use crate::reference::{Member, References, RunId};
use base::{Kind, Silent};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

fn restore(forged: &Forged, target: &Path) -> Result<RestoreReport> {
    restore_paths(forged, target, &[])
}

fn restore_paths(forged: &Forged, target: &Path, paths: &[&str]) -> Result<RestoreReport> {
    restore_tree(
        &forged.reader(),
        RestoreSpec { paths: paths.iter().map(|p| (*p).to_owned()).collect(), target, options: FileOptions::default(), monitor: &Silent },
    )
}

/// Everything below a folder: kind, mode and content (or target), by path.
fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).unwrap() {
            let path = item.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let what = if meta.is_dir() {
                folders.push(path.clone());
                "folder".to_owned()
            } else if meta.is_symlink() {
                format!("link {}", fs::read_link(&path).unwrap().display())
            } else {
                format!("file {}", base::Blake3::of(&fs::read(&path).unwrap()))
            };
            let mode = if meta.is_symlink() { 0 } else { meta.permissions().mode() & 0o7777 };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), format!("{what} {mode:o} {}.{:09}", meta.mtime(), meta.mtime_nsec()));
        }
    }
    found
}

fn sample() -> (Forge, Vec<Entry>) {
    let mut forge = Forge::new();
    let big: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n + 1; 1500]).collect();
    let big: Vec<&[u8]> = big.iter().map(Vec::as_slice).collect();
    let mut entries =
        vec![folder(""), folder("a/"), folder("a/b/"), folder("empty/"), link("a/link", "../x"), link("zlink", "/etc/passwd")];
    entries.push(forge.file("a/one", &[b"one"]));
    entries.push(forge.file("a/nothing", &[]));
    entries.push(forge.file("big", &big));
    entries.push(forge.file("a/b/two", &[b"two", b"three"]));
    for n in 0..30 {
        let content = format!("file {n} {}", "x".repeat(n * 40));
        entries.push(forge.file(&format!("many-{n:02}"), &[content.as_bytes()]));
    }
    (forge, entries)
}

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
    assert_eq!((again.entries, again.bytes, again.problems.len()), (report.entries, report.bytes, 0));
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
fn a_cut_off_restore_goes_on_and_follows_no_planted_link() {
    let (forge, entries) = sample();
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    restore(&forged, &whole).unwrap();
    let target = dir.path().join("t");
    restore(&forged, &target).unwrap();
    // As a restore leaves it that was killed: the mark is there, one file is cut short, one has no time yet, one lacks.
    let marker = target.join(format!(".nightsafe-restore-{}", forged.manifest.public.id));
    fs::write(&marker, b"").unwrap();
    let kept = target.join("a/one").metadata().unwrap().ino();
    fs::write(target.join("big"), b"part").unwrap();
    fs::write(target.join("many-07"), b"part").unwrap();
    fs::remove_file(target.join("a/b/two")).unwrap();
    // And somebody has planted links where folders, files and links will be.
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("two"), b"theirs").unwrap();
    fs::remove_dir(target.join("a/b")).unwrap();
    symlink(&outside, target.join("a/b")).unwrap();
    fs::remove_file(target.join("many-08")).unwrap();
    symlink(outside.join("two"), target.join("many-08")).unwrap();
    fs::remove_file(target.join("zlink")).unwrap();
    symlink(outside.join("two"), target.join("zlink")).unwrap();
    let report = restore(&forged, &target).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(listing(&target), listing(&whole));
    assert_eq!(target.join("a/one").metadata().unwrap().ino(), kept);
    assert_eq!(fs::read(outside.join("two")).unwrap(), b"theirs");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert!(!marker.exists());
    // Two at once: the second one waits for its turn elsewhere.
    fs::write(&marker, b"").unwrap();
    let lock = fs::File::open(&marker).unwrap();
    lock.lock().unwrap();
    assert_eq!(restore(&forged, &target).unwrap_err().kind(), Kind::NotNow);
}

/// Packs behind a connection that breaks after some reads.
struct Breaking {
    packs: Arc<dyn PackSource>,
    left: Arc<AtomicUsize>,
}

struct BreakingPack(Box<dyn base::ReadAt>, Arc<AtomicUsize>);

impl PackSource for Breaking {
    fn pack(&self, digest: &base::Blake3) -> Result<Box<dyn base::ReadAt>> {
        Ok(Box::new(BreakingPack(self.packs.pack(digest)?, self.left.clone())))
    }
}

impl base::ReadAt for BreakingPack {
    fn size(&self) -> std::io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let lost = |_| std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "the session broke");
        self.1.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).map_err(lost)?;
        self.0.read_at(offset, buffer)
    }
}

#[test]
fn a_lost_connection_stops_it_once_and_it_goes_on() {
    let (forge, entries) = sample();
    let count = entries.len() as u64;
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("t");
    let left = Arc::new(AtomicUsize::new(0));
    let mut stops = 0;
    let report = loop {
        let packs = Arc::new(Breaking { packs: forged.packs.clone(), left: left.clone() });
        let reader = SnapshotReader::open(forged.manifest.clone(), &forged.identities, packs).unwrap();
        left.store(2 + stops, Relaxed);
        match restore_tree(&reader, RestoreSpec { paths: vec![], target: &target, options: FileOptions::default(), monitor: &Silent }) {
            Ok(report) => break report,
            Err(error) => {
                assert_eq!(error.kind(), Kind::NotNow, "{}", error.render());
                assert!(error.render().contains("the session broke") && error.render().contains("again"), "{}", error.render());
                stops += 1;
            }
        }
    };
    assert!(stops > 3);
    assert_eq!((report.entries, report.problems), (count, Vec::<String>::new()));
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
fn a_single_file_becomes_the_target() {
    let mut forge = Forge::new();
    let file = forge.file("", &[b"dump"]);
    let forged = forge.finish(vec![file]);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("file");
    assert_eq!(restore(&forged, &target).unwrap().bytes, 4);
    assert_eq!(fs::read(&target).unwrap(), b"dump");
    assert_eq!(target.metadata().unwrap().mtime(), 1_700_000_000);
    assert_eq!(restore(&forged, &target).unwrap().entries, 1);
    fs::write(&target, b"mine").unwrap();
    assert_eq!(restore(&forged, &target).unwrap_err().kind(), Kind::Refused);
    assert_eq!(fs::read(&target).unwrap(), b"mine");
    assert!(restore_paths(&forged, &dir.path().join("other"), &["x"]).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn damage_is_named_and_the_rest_is_restored() {
    let everything = {
        let (forge, entries) = sample();
        let dir = tempfile::tempdir().unwrap();
        restore(&forge.finish(entries), dir.path()).unwrap();
        listing(dir.path())
    };
    let (forge, entries) = sample();
    let forged = forge.finish(entries);
    let packs = forged.names();
    let originals = forged.packs.packs.lock().unwrap().clone();
    assert!(packs.len() >= 4, "{}", packs.len());
    for pack in &packs {
        let size = originals[pack].len();
        for what in ["delete", "truncate", "longer", "flip head", "flip frame", "flip end", "empty"] {
            *forged.packs.packs.lock().unwrap() = originals.clone();
            forged.damage(pack, |bytes| match what {
                "truncate" => bytes.truncate(size / 2),
                "longer" => bytes.push(0),
                "flip head" => bytes[30] ^= 1,
                "flip frame" => bytes[300] ^= 1,
                "flip end" => bytes[size - 1] ^= 1,
                "empty" => bytes.clear(),
                _ => {}
            });
            if what == "delete" {
                forged.packs.packs.lock().unwrap().remove(pack);
            }
            let dir = tempfile::tempdir().unwrap();
            let report = restore(&forged, dir.path()).unwrap();
            assert!(!report.problems.is_empty(), "{what} {pack}");
            let found = listing(dir.path());
            assert!(found.len() < everything.len(), "{what} {pack}");
            // A folder whose entry was in the damaged part is there with mode 0700; all else is right or absent.
            for (path, what_is_there) in &found {
                assert!(
                    everything.get(path) == Some(what_is_there) || what_is_there.starts_with("folder 700"),
                    "{what} {pack} {path:?} {what_is_there}"
                );
            }
            let named = report.problems.iter().all(|problem| {
                problem.contains(&pack.hex()) || problem.contains("has no entry") || problem.ends_with("for the same reason")
            });
            assert!(named, "{what} {:?}", report.problems);
            let lost = everything.keys().filter(|path| !found.contains_key(*path)).count();
            let verified = crate::verify::verify_all(&forged.reader(), &Silent).unwrap();
            assert!(!verified.problems.is_empty() && verified.problems.len() <= lost + 1, "{what} {:?}", verified.problems);
        }
    }
}

#[test]
fn content_that_is_not_what_was_backed_up_never_stands_there() {
    let mut forge = Forge::new();
    let at = forge.chunk(b"right");
    let other = forge.chunk(b"wrong");
    let nowhere = Member { run: RunId(9), frame: 0, n: 0 };
    let beyond = Member { n: 77, ..at };
    let zeros = Member { n: u32::MAX, ..at };
    let cases = [
        ("swapped", References::of([other]), &b"right"[..]),
        ("too-long", References::of([at, at]), b"right"),
        ("too-short", References::of([at]), b"rightright"),
        ("nowhere", References::of([nowhere]), b"right"),
        ("half-nowhere", References::of([at, nowhere]), b"rightright"),
        ("beyond", References::of([beyond]), b"right"),
        ("far-beyond", References::of([at, zeros]), b"rightright"),
        (
            "endless",
            References(vec![crate::reference::Item {
                run: at.run,
                frame: 0,
                extent: crate::reference::Extent::Repeat { n: 0, count: u64::MAX },
            }]),
            b"right",
        ),
        (
            "endless-range",
            References(vec![crate::reference::Item {
                run: at.run,
                frame: 0,
                extent: crate::reference::Extent::Range { first: 0, last: u32::MAX },
            }]),
            b"right",
        ),
    ];
    let mut entries = vec![folder("")];
    entries.extend(cases.iter().map(|(path, list, content)| forge.file_at(path, list.clone(), content)));
    entries.push(forge.file_at("good", References::of([at]), b"right"));
    let forged = forge.finish(entries);
    let dir = tempfile::tempdir().unwrap();
    let report = restore(&forged, dir.path()).unwrap();
    assert_eq!(report.problems.len(), cases.len(), "{:#?}", report.problems);
    assert_eq!(listing(dir.path()).len(), 1);
    for entry in forged.reader().entries().map(Result::unwrap).filter(|entry| !matches!(entry.path.as_slice(), b"" | b"good")) {
        assert!(forged.reader().read_file(&entry, &mut Vec::new()).is_err(), "{}", entry.shown_path());
    }
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
    let mut opened = target::Target::new(&target, true).unwrap();
    for bad in ["..", "a/..", "../a", "/etc/a", "a//b", ".", "a/./b", "", "a\0b", "a/\0"] {
        assert!(opened.create(bad.as_bytes()).is_err(), "{bad:?}");
        assert!(opened.make_node(bad.as_bytes(), &Node::Link(b"x".to_vec()), |_, _, _| Ok(())).is_err(), "{bad:?}");
        assert!(opened.remove(bad.as_bytes()).is_err(), "{bad:?}");
        assert!(bad.is_empty() || opened.make_folder(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
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
    let mut opened = target::Target::new(&target, true).unwrap();
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_survives(
        names in prop::collection::btree_set("[a-c]{1,2}(/[a-c.-]{1,2}){0,3}", 1..40),
        sizes in prop::collection::vec(prop::collection::vec(0usize..6000, 0..6), 40),
        kinds in prop::collection::vec(0u8..8, 40),
        lines in 1usize..9,
        frame in 600usize..20_000,
    ) {
        let mut forge = Forge::new();
        (forge.segment_lines, forge.frame_size) = (lines.max(2), frame);
        let mut entries: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
        entries.insert(Vec::new(), folder(""));
        let mut shared: Vec<Member> = Vec::new();
        for ((name, chunks), kind) in names.iter().zip(&sizes).zip(&kinds) {
            if name.split('/').any(|part| matches!(part, "." | "..")) {
                continue;
            }
            let parents: Vec<String> = name.match_indices('/').map(|(at, _)| name[..=at].to_owned()).collect();
            let free = |entries: &BTreeMap<Vec<u8>, Entry>, name: &str| !entries.contains_key(name.trim_end_matches('/').as_bytes()) && !entries.contains_key(format!("{}/", name.trim_end_matches('/')).as_bytes());
            if !free(&entries, name) || parents.iter().any(|parent| entries.contains_key(parent.trim_end_matches('/').as_bytes())) {
                continue;
            }
            for parent in parents {
                entries.insert(parent.clone().into_bytes(), folder(&parent));
            }
            let made = match kind {
                0 => folder(&format!("{name}/")),
                1 => link(name, "../target"),
                _ => {
                    let mut members = Vec::new();
                    let mut content = Vec::new();
                    for (i, size) in chunks.iter().enumerate() {
                        // Now and then a chunk that another file has already, so that lists jump back.
                        let bytes = vec![u8::try_from(size % 251).unwrap(); size + 1];
                        let reuse = shared.get(size % 7).copied().filter(|_| kind % 2 == 0 && i % 2 == 1);
                        let at = reuse.unwrap_or_else(|| forge.chunk(&bytes));
                        shared.push(at);
                        members.push((at, bytes, reuse.is_some()));
                    }
                    let mut list = Vec::new();
                    for (at, bytes, reused) in members {
                        if reused { continue }
                        content.extend(&bytes);
                        list.push(at);
                        if kind % 3 == 0 {
                            content.extend(&bytes);
                            list.push(at);
                        }
                    }
                    // Backwards, for lists that no order of frames suits.
                    if kind % 5 == 4 {
                        list.clear();
                        content.clear();
                        for size in chunks.iter().rev() {
                            let bytes = vec![u8::try_from(size % 251).unwrap(); size + 1];
                            let at = forge.chunk(&bytes);
                            list.insert(0, at);
                            content.splice(0..0, bytes);
                        }
                    }
                    forge.file_at(name, References::of(list), &content)
                }
            };
            entries.insert(made.path.clone(), made);
        }
        let all: Vec<Entry> = entries.values().cloned().collect();
        let forged = forge.finish(all.clone());
        let reader = forged.reader();
        prop_assert_eq!(&reader.entries().collect::<Result<Vec<_>>>().unwrap(), &all);
        for entry in &all {
            let found = reader.find(&entry.path).unwrap();
            prop_assert_eq!(found.as_ref(), Some(entry));
            let below: Vec<Entry> = reader.below(&entry.path).unwrap().collect::<Result<_>>().unwrap();
            let expected: Vec<Entry> = all.iter().filter(|other| *other == entry || entry.kind == EntryKind::Dir && other.path.starts_with(&entry.path)).cloned().collect();
            prop_assert_eq!(below, expected);
        }
        for absent in ["", "0", "a-", "b/..", "zz", "a/zz/zz"] {
            let there = all.iter().any(|entry| entry.shown_path().trim_end_matches('/') == absent);
            prop_assert_eq!(reader.find(absent.as_bytes()).unwrap().is_some(), there, "{}", absent);
        }
        let dir = tempfile::tempdir().unwrap();
        let report = restore(&forged, dir.path()).unwrap();
        prop_assert_eq!(report.problems, Vec::<String>::new());
        prop_assert_eq!(report.entries, all.len() as u64);
        for entry in &all {
            let path = dir.path().join(entry.shown_path());
            let mtime = path.symlink_metadata().unwrap().mtime();
            prop_assert_eq!(mtime, entry.mtime.seconds, "{:?}", path);
            if matches!(entry.kind, EntryKind::File { .. }) {
                let mut content = Vec::new();
                reader.read_file(entry, &mut content).unwrap();
                prop_assert_eq!(fs::read(&path).unwrap(), content);
            }
        }
    }
}
