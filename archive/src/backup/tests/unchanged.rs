//! Backups that remember what the last one found, against backups that read everything.

use super::*;
use crate::cache::Uses;
use crate::walk::ahead::now;
use proptest::prelude::*;
use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the bytes that were read.
#[derive(Default)]
struct Counting(AtomicU64);

impl Monitor for Counting {
    fn bytes(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Setup {
    /// A setup whose backups remember what is a little older.
    fn quick() -> Self {
        Self { granularity: Duration::from_millis(20), ..Self::new() }
    }

    /// Waits until all changes up to now are old enough to be remembered.
    fn settle(&self) {
        let nanos = |time: crate::entry::Mtime| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        let until = nanos(now()) + 2 * self.granularity.as_nanos().cast_signed();
        while nanos(now()) < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Backs the tree up without what `exclude` names, and says how many bytes were read for it.
    fn counted(&mut self, exclude: &[String]) -> (u64, Prepared, Snapshot) {
        let (tree, counting) = (self.at("tree"), Counting::default());
        let choice = Choice::new(exclude, &[]).unwrap();
        let (id, prepared) = self.with(|spec| backup_chosen(&BackupSpec { monitor: &counting, ..*spec }, Source::Path(&tree), &choice));
        let (prepared, snapshot) = self.take(&id, prepared.unwrap());
        (counting.0.into_inner(), prepared, snapshot)
    }

    /// As [`Setup::counted`], and a second backup that reads everything must come to the same bytes.
    fn compared(&mut self, exclude: &[String]) -> (u64, Snapshot) {
        let (read, _, snapshot) = self.counted(exclude);
        self.cached = false;
        let (all, prepared, again) = self.counted(exclude);
        self.cached = true;
        assert_eq!(again.entries, snapshot.entries);
        assert_eq!((&again.sealed.root, prepared.packs.len()), (&snapshot.sealed.root, 0));
        assert!(again.bytes == snapshot.bytes && read <= all);
        (read, snapshot)
    }
}

fn set_mtime(path: &Path, of: &fs::Metadata) {
    let time = rustix::fs::Timespec { tv_sec: of.mtime(), tv_nsec: of.mtime_nsec() };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_xattr(path: &Path, value: &[u8]) {
    rustix::fs::setxattr(path, "user.test", value, rustix::fs::XattrFlags::empty()).unwrap();
}

#[test]
fn what_has_not_changed_is_not_read() {
    let mut setup = Setup::quick();
    let tree = setup.at("tree");
    fs::create_dir(tree.join("sub")).unwrap();
    fs::write(tree.join("sub/small"), noise(1000, 1)).unwrap();
    fs::write(tree.join("big"), noise(3 << 20, 2)).unwrap();
    fs::write(tree.join("linked"), noise(500, 3)).unwrap();
    fs::hard_link(tree.join("linked"), tree.join("sub/linked")).unwrap();
    fs::write(tree.join("worn"), noise(100, 4)).unwrap();
    set_xattr(&tree.join("worn"), &[7; 3000]);
    symlink("target", tree.join("link")).unwrap();
    File::create(tree.join("sparse")).unwrap().set_len(1 << 20).unwrap();
    setup.settle();
    let whole = 1000 + (3 << 20) + 500 + 100;
    assert_eq!(setup.compared(&[]).0, whole);
    assert_eq!(setup.compared(&[]).0, 0);
    // A name before the others: the positions of hard links and of all that comes after are other ones.
    fs::write(tree.join("a"), b"new").unwrap();
    setup.settle();
    assert_eq!(setup.compared(&[]).0, 3);
    // A file that is left out, and taken again, is read once more, as nothing is known of it.
    assert_eq!(setup.compared(&["/big".to_owned()]).0, 0);
    assert_eq!(setup.compared(&[]).0, 3 << 20);
    // Without the first name of a file with two.
    assert_eq!(setup.compared(&["/linked".to_owned()]).0, 0);
    // Packs that the node lacks: what was in them is read again.
    let (_, snapshot) = setup.compared(&[]);
    let packs: Vec<Blake3> = snapshot.manifest.public.packs.iter().map(|pack| pack.digest).collect();
    Index::forget_packs(&setup.at("index"), &packs).unwrap();
    assert_eq!(setup.compared(&[]).0, whole + 3);
    // A cache that is lost, or is that of something else.
    fs::remove_file(setup.at("cache")).unwrap();
    assert_eq!(setup.compared(&[]).0, whole + 3);
    fs::write(setup.at("cache"), b"something else").unwrap();
    assert_eq!(setup.compared(&[]).0, whole + 3);
    assert_eq!(setup.compared(&[]).0, 0);
}

#[test]
fn what_may_have_changed_without_a_trace_is_read_again() {
    let mut setup = Setup::new();
    let file = setup.at("tree/file");
    fs::write(&file, b"one").unwrap();
    assert_eq!(setup.compared(&[]).0, 3);
    // The file is younger than the coarsest clock can tell, so it is read although nothing shows a change.
    assert_eq!(setup.compared(&[]).0, 3);
    let before = fs::metadata(&file).unwrap();
    fs::write(&file, b"two").unwrap();
    set_mtime(&file, &before);
    assert_eq!(setup.compared(&[]).1.bytes[&b"file"[..]], b"two");
}

#[test]
fn a_request_that_was_refused_leaves_nothing_behind() {
    let mut setup = Setup::quick();
    let tree = setup.at("tree");
    fs::write(tree.join("file"), noise(5000, 1)).unwrap();
    setup.settle();
    // Prepared, with its cache, but the node has refused it: none of its packs is there.
    let (id, prepared) = setup.with(|spec| backup_tree(spec, Source::Path(&tree)));
    prepared.unwrap();
    assert!(setup.at("cache").exists());
    discard(&setup.at("export"), &setup.at("index"), &id, &[]).unwrap();
    assert_eq!(setup.compared(&[]).0, 5000);
    assert_eq!(setup.compared(&[]).0, 0);
}

#[test]
fn what_the_ledger_tells_of_is_told_of_again() {
    let mut setup = Setup::quick();
    let tree = setup.at("tree");
    fs::write(tree.join("log"), b"line").unwrap();
    fs::hard_link(tree.join("log"), setup.at("other name")).unwrap();
    setup.settle();
    struct Meddler(PathBuf);
    impl Monitor for Meddler {
        fn bytes(&self, _bytes: u64) {
            use std::io::Write as _;
            fs::OpenOptions::new().append(true).open(&self.0).unwrap().write_all(b"more").unwrap();
        }
    }
    let meddler = Meddler(tree.join("log"));
    let (id, prepared) = setup.with(|spec| backup_tree(&BackupSpec { monitor: &meddler, ..*spec }, Source::Path(&tree)));
    assert_eq!(setup.take(&id, prepared.unwrap()).0.unreadable, 1);
    setup.settle();
    let (read, snapshot) = setup.compared(&[]);
    assert_eq!((read, snapshot.bytes[&b"log"[..]].len(), snapshot.sealed.unreadable.len()), (12, 12, 0));
}

#[test]
fn very_long_lists_are_confirmed_by_their_frames() {
    let mut setup = Setup::quick();
    // Known pieces in an order that no range describes; after them, much that fills frames.
    let pieces: Vec<Vec<u8>> = (0..8).map(|seed| noise(96 << 10, seed)).collect();
    let order = noise(1800, 99);
    let content = order.iter().map(|n| &pieces[usize::from(n % 8)][..]).chain([&noise(20 << 20, 9)[..]]).collect::<Vec<_>>().concat();
    let mut kept = None;
    let (id, prepared) = setup.with(|spec| {
        prepare(spec, true, |run| {
            let Ok(stored) = run.reader.stream(&mut &content[..], &mut run.deposit, &Silent) else { panic!("not stored") };
            let Stored { size, content, digest, uses, .. } = stored;
            assert!(matches!(&content, Content::More(list) if list.0.iter().all(|item| uses.list.0.contains(item))));
            kept = Some(uses);
            let kind = EntryKind::File { size, content, digest, sparse: None };
            let entry = Entry { path: b"file".to_vec(), ..run.entry(b"", &Stat::of(File::open("/").unwrap()).unwrap(), kind, None, None) };
            run.push(&entry, None).map(drop)
        })
    });
    let (_, snapshot) = setup.take(&id, prepared.unwrap());
    let frames = |uses: &Uses| uses.list.0.iter().map(|item| (item.run, item.frame)).collect::<std::collections::BTreeSet<_>>();
    let uses = kept.unwrap();
    assert!(uses.bytes == content.len() as u64 && uses.list.0.len() < 40, "{:?}", uses.list);
    // The data's frames are all in the first pack.
    assert_eq!(frames(&uses).len(), snapshot.sealed.packs[0].frames as usize);
}

/// One change of a tree: what is done, to which name, and with which content.
type Step = (u8, u8, u8);

fn path_of(tree: &Path, n: u8) -> PathBuf {
    tree.join(["a", "b", "d/a", "d/b", "d/e/x", "f", "z"][usize::from(n % 7)])
}

fn carry_out(tree: &Path, (what, which, content): Step) -> std::io::Result<()> {
    let path = path_of(tree, which);
    let other = path_of(tree, content);
    fs::create_dir_all(path.parent().unwrap())?;
    fs::create_dir_all(other.parent().unwrap())?;
    let before = path.symlink_metadata();
    match what % 14 {
        0 | 1 => fs::write(&path, noise(usize::from(content) * 40, content.into())),
        2 => fs::write(&path, noise((1 << 20) + usize::from(content), content.into())),
        3 => fs::File::open(&path)?.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(content.into())),
        4 => fs::rename(&path, &other),
        5 => fs::set_permissions(&path, fs::Permissions::from_mode(0o400 | u32::from(content))),
        6 => {
            chown(&path, None, Some(if rustix::process::geteuid().is_root() { content.into() } else { rustix::process::getgid().as_raw() }))
        }
        7 => fs::hard_link(&path, &other),
        8 => fs::remove_file(&path),
        // Another inode of the same size and time.
        9 => {
            let new = tree.join("new");
            fs::write(&new, noise(before.as_ref().map_or(0, |meta| meta.len() as usize), content.into()))?;
            set_mtime(&new, &before?);
            fs::rename(&new, &path)
        }
        // Another content of the same size, with the time set back.
        10 => {
            let before = before?;
            if before.is_file() {
                fs::write(&path, noise(before.len() as usize, content.into()))?;
            }
            set_mtime(&path, &before);
            Ok(())
        }
        11 => {
            fs::remove_file(&path)?;
            symlink(format!("target {content}"), &path)
        }
        12 => {
            fs::remove_file(&path)?;
            fs::create_dir(&path)?;
            fs::write(path.join("in"), [content])
        }
        _ => {
            if before?.is_file() {
                set_xattr(&path, &[content]);
            }
            Ok(())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn remembering_makes_no_difference(
        runs in prop::collection::vec((prop::collection::vec(any::<Step>(), 0..8), 0u8..10, any::<bool>()), 2..6),
    ) {
        let mut setup = Setup::quick();
        let tree = setup.at("tree");
        for which in 0..7 {
            carry_out(&tree, (0, which, 50 + which)).unwrap();
        }
        setup.settle();
        setup.compared(&[]);
        for (steps, exclude, settled) in runs {
            for step in steps {
                // Some cannot be done to what is there.
                let _ = carry_out(&tree, step);
            }
            if settled {
                setup.settle();
            }
            let exclude: Vec<String> = match exclude {
                0 => vec!["/a".into()],
                1 => vec!["/d/*".into()],
                2 => vec!["x".into(), "b".into()],
                _ => Vec::new(),
            };
            setup.compared(&exclude);
            // All that a crash may have left: a cache of another time, one that is cut short.
            if exclude.len() == 2 {
                let bytes = fs::read(setup.at("cache")).unwrap_or_default();
                fs::write(setup.at("cache.new"), &bytes[..bytes.len() / 2]).unwrap();
            }
        }
    }
}
