//! Trees of everything that a file system has, backed up and restored, compared by what stat, getfattr and getfacl see.
//!
//! As root all of it; otherwise what an ordinary user can make.

use crate::world::{World, noise, set_time};
use archive::backup::{Source, backup_tree};
use archive::manifest::Manifest;
use archive::restore::{FileOptions, RestoreSpec, restore_tree};
use base::Silent;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// So many trees at least, whatever the environment says.
const CASES: u32 = 24;

/// What the programs see of a folder.
pub(crate) fn seen(folder: &Path) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/seen.py");
    let output = Command::new("python3").arg(script).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Tells lines that one of two has alone.
#[track_caller]
pub(crate) fn same(a: &[String], b: &[String]) {
    let only = |one: &[String], other: &[String]| one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>().join("\n  ");
    assert!(a == b, "was there:\n  {}\ncame back:\n  {}", only(a, b), only(b, a));
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

#[derive(Debug, Clone)]
enum Thing {
    Folder,
    File(u64, usize),
    /// Gaps in KiB and bytes of data, and a gap at the end.
    Sparse(u64, Vec<(u64, usize)>, u64),
    Link(Vec<u8>),
    Fifo,
    Device(bool, u32, u32),
    Socket,
    Again(usize),
}

#[derive(Debug, Clone)]
struct Looks {
    mode: u32,
    owner: (u32, u32),
    time: (i64, i64),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Permissions of users and groups by number.
    list: Vec<(bool, u32, u8)>,
    default_list: Vec<(bool, u32, u8)>,
    capable: bool,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let any_byte = || any::<u8>().prop_filter("separates", |b| *b != b'/' && *b != 0);
    prop_oneof![
        6 => "[a-c.\\-]{1,3}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any_byte(), 1..20),
        1 => prop::collection::vec(any_byte(), 255),
        1 => "[ \n\t*?\\[\\\\'\"$-]{1,5}".prop_map(String::into_bytes),
    ]
    .prop_filter("has a meaning", |name| name != b"." && name != b"..")
}

fn thing() -> impl Strategy<Value = Thing> {
    let size = prop_oneof![2 => Just(0usize), 6 => 0usize..3000, 2 => 0usize..3_000_000, 1 => Just(1 << 20), 1 => Just((1 << 20) + 1)];
    let gap = || prop_oneof![3 => 0u64..100, 1 => Just(10 << 20), 1 => Just(1 << 30)];
    let parts = prop::collection::vec((gap(), prop_oneof![4 => 1usize..9000, 1 => 1usize..1_500_000]), 0..6);
    prop_oneof![
        3 => Just(Thing::Folder),
        6 => (0u64..4, size).prop_map(|(seed, size)| Thing::File(seed, size)),
        4 => (0u64..4, parts, gap()).prop_map(|(seed, parts, gap)| Thing::Sparse(seed, parts, gap)),
        2 => prop_oneof![name(), prop::collection::vec(1u8.., 1..2000)].prop_map(Thing::Link),
        1 => Just(Thing::Fifo),
        1 => (any::<bool>(), 0u32..4096, 0u32..1 << 20).prop_map(|(block, major, minor)| Thing::Device(block, major, minor)),
        1 => Just(Thing::Socket),
        3 => any::<usize>().prop_map(Thing::Again),
    ]
}

fn looks() -> impl Strategy<Value = Looks> {
    let id = || prop_oneof![2 => Just(0u32), 1 => Just(1), 1 => Just(33), 2 => 0u32..100_000, 1 => Just(u32::MAX - 2)];
    let list = || prop::collection::vec((any::<bool>(), id(), 0u8..8), 0..4);
    let label = prop_oneof![4 => "[a-z.]{1,20}".prop_map(String::into_bytes), 1 => prop::collection::vec(1u8.., 1..40)];
    // Together well below the 4 KiB that ext4 has for one file's: how much more fits there depends on what was there before.
    let xattrs = prop::collection::vec((label, prop::collection::vec(any::<u8>(), 0..300)), 0..4);
    let mode = prop_oneof![3 => prop::sample::select(vec![0o644, 0o755, 0o600, 0o4755, 0o2750, 0o1777, 0]), 1 => 0u32..=0o7777];
    let time = (-2_000_000_000i64..15_000_000_000, 0i64..1_000_000_000);
    (mode, (id(), id()), time, xattrs, (any::<bool>(), list(), list()), any::<bool>()).prop_map(
        |(mode, owner, time, xattrs, (listed, list, default_list), capable)| {
            let (list, default_list) = if listed { (list, default_list) } else { Default::default() };
            Looks { mode, owner, time, xattrs, list, default_list, capable }
        },
    )
}

/// Makes a thing; false where there is something already, or where this user cannot.
fn make(path: &Path, thing: &Thing, made: &[PathBuf]) -> bool {
    let node = |kind, device| rustix::fs::mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, device).is_ok();
    match thing {
        _ if path.symlink_metadata().is_ok() => false,
        Thing::Folder => fs::create_dir(path).is_ok(),
        Thing::File(seed, size) => fs::write(path, noise(*seed, *size)).is_ok(),
        Thing::Sparse(seed, parts, gap) => {
            let Ok(file) = fs::File::create(path) else { return false };
            let mut at = 0;
            for (gap, length) in parts {
                at += gap << 10;
                file.write_all_at(&noise(*seed, *length), at).unwrap();
                at += *length as u64;
            }
            file.set_len(at + (gap << 10)).unwrap();
            true
        }
        Thing::Link(target) => symlink(OsStr::from_bytes(target), path).is_ok(),
        Thing::Fifo => node(FileType::Fifo, 0),
        Thing::Device(block, major, minor) => {
            let kind = if *block { FileType::BlockDevice } else { FileType::CharacterDevice };
            root() && node(kind, rustix::fs::makedev(*major, *minor))
        }
        Thing::Socket => node(FileType::Socket, 0),
        Thing::Again(which) => made.get(which % made.len().max(1)).is_some_and(|first| fs::hard_link(first, path).is_ok()),
    }
}

/// Gives a thing its looks. What this file system or this user cannot do is left out: it is compared as it is then.
fn dress(path: &Path, looks: &Looks) {
    let meta = path.symlink_metadata().unwrap();
    let (link, folder) = (meta.is_symlink(), meta.is_dir());
    if root() {
        std::os::unix::fs::lchown(path, Some(looks.owner.0), Some(looks.owner.1)).unwrap();
    }
    let set = |name: &[u8], value: &[u8]| rustix::fs::lsetxattr(path, OsStr::from_bytes(name), value, XattrFlags::empty());
    for (name, value) in &looks.xattrs {
        let space: &[u8] = if meta.is_file() || folder { b"user." } else { b"trusted." };
        let _ = set(&[space, name].concat(), value);
        if root() && name.len() % 3 == 0 {
            let _ = set(&[b"trusted.", &name[..]].concat(), value);
        }
    }
    if looks.capable && meta.is_file() && root() {
        set(b"security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    }
    for (list, option) in [(&looks.list, "-m"), (&looks.default_list, "-dm")] {
        if list.is_empty() || link || option == "-dm" && !folder {
            continue;
        }
        let bit = |bits: u8, mask, letter| if bits & mask == 0 { '-' } else { letter };
        let text: Vec<String> = list
            .iter()
            .map(|(user, id, bits)| {
                let who = if *user { 'u' } else { 'g' };
                format!("{who}:{id}:{}{}{}", bit(*bits, 4, 'r'), bit(*bits, 2, 'w'), bit(*bits, 1, 'x'))
            })
            .collect();
        let _ = Command::new("setfacl").args([option, &text.join(","), "--"]).arg(path).output().unwrap();
    }
    if !link {
        // Otherwise an ordinary user could not read it.
        let readable = if root() { 0 } else { 0o700 };
        fs::set_permissions(path, fs::Permissions::from_mode(looks.mode | readable)).unwrap();
    }
    set_time(path, looks.time.0, looks.time.1);
}

type Tree = Vec<(Vec<Vec<u8>>, Vec<u8>, Thing, Looks)>;

fn trees() -> impl Strategy<Value = Tree> {
    prop::collection::vec((prop::collection::vec(name(), 0..4), name(), thing(), looks()), 1..40)
}

fn plant(at: &Path, tree: &Tree) {
    let mut made: Vec<PathBuf> = Vec::new();
    let mut dressed: Vec<(PathBuf, &Looks)> = Vec::new();
    for (parents, name, thing, looks) in tree {
        let folder = parents.iter().fold(at.to_owned(), |folder, name| folder.join(OsStr::from_bytes(name)));
        let path = folder.join(OsStr::from_bytes(name));
        if fs::create_dir_all(&folder).is_err() || !make(&path, thing, &made) {
            continue;
        }
        if !matches!(thing, Thing::Folder) {
            made.push(path.clone());
        }
        dressed.push((path, looks));
    }
    // What is inside comes first, so that closing a folder and changing it does not matter.
    dressed.sort_by_key(|(path, _)| std::cmp::Reverse(path.components().count()));
    for (path, looks) in dressed {
        dress(&path, looks);
    }
}

/// What seen.py writes of each kind of thing that trees are to have; the later ones need root.
const KINDS: [&str; 11] = [
    "user.",
    "getfacl user::rwx user:",
    "default:user:",
    " | names [",
    " | link b",
    " stat 1",
    "data ",
    "security.capability",
    "trusted.",
    " stat 2",
    " stat 6",
];

/// How many lines of a tree have each kind.
fn kinds(lines: &[String]) -> [usize; KINDS.len()] {
    KINDS.map(|kind| lines.iter().filter(|line| line.contains(kind)).count())
}

fn check(tree: &Tree) -> [usize; KINDS.len()] {
    let mut world = World::new();
    plant(&world.source(), tree);
    let before = seen(&world.source());
    let first = world.keep_tree();
    // Once more without a change: the same catalog, no new data.
    let second = world.keep_tree();
    let packs = |manifest: &Manifest| manifest.public.packs.iter().map(|pack| pack.digest).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(packs(&second), packs(&first));
    assert_eq!(first.public.counts.unreadable, 0);
    let report = world.restore(&first, "one");
    assert_eq!((report.problems, report.notes), (Vec::new(), Vec::new()));
    assert_eq!((report.entries, report.bytes), (first.public.counts.entries, first.public.counts.bytes));
    same(&before, &seen(&world.at("one")));
    world.restore_independently(&second, "two");
    same(&before, &seen(&world.at("two")));
    let verified = archive::verify::verify_all(&world.reader(&first), &Silent).unwrap();
    assert_eq!((verified.entries, verified.problems.len()), (first.public.counts.entries, 0));
    let reader = world.reader(&first);
    for entry in reader.entries() {
        let entry = entry.unwrap();
        assert_eq!(reader.find(&entry.path).unwrap(), Some(entry));
    }
    kinds(&before)
}

#[test]
fn any_tree_comes_back_with_all_that_programs_see() {
    let given = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cases = u32::try_from(given("PROPTEST_CASES").unwrap_or(0)).unwrap_or(u32::MAX).max(CASES);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let seed = given("PROPTEST_RNG_SEED").unwrap_or(now);
    eprintln!("{cases} trees of seed {seed}; PROPTEST_RNG_SEED={seed} makes the same ones");
    let config = ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_iters: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let had = RefCell::new([0; KINDS.len()]);
    TestRunner::new(config)
        .run(&trees(), |tree| {
            let of = check(&tree);
            had.borrow_mut().iter_mut().zip(of).for_each(|(sum, n)| *sum += n);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    // Trees without the things that this is about would prove nothing.
    let had = had.into_inner();
    let needed = if root() { KINDS.len() } else { 7 };
    eprintln!("{:?}", KINDS.iter().zip(had).collect::<Vec<_>>());
    assert!(had[..needed].iter().all(|count| *count > 0), "{KINDS:?} {had:?}");
}

#[test]
fn paths_longer_than_the_kernel_takes_in_one_call() {
    let mut world = World::new();
    let open = |folder: &OwnedFd, name: &str| rustix::fs::openat(folder, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut folder = rustix::fs::openat(CWD, world.source(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for level in 0..200 {
        let name = format!("{level:03}{}", "x".repeat(197));
        rustix::fs::mkdirat(&folder, &name, Mode::RWXU).unwrap();
        rustix::fs::mknodat(&folder, "fifo", FileType::Fifo, Mode::RUSR, 0).unwrap();
        folder = open(&folder, &name);
        rustix::fs::fsetxattr(&folder, "user.level", &[level], XattrFlags::empty()).unwrap();
    }
    let file = rustix::fs::openat(&folder, "file", OFlags::CREATE | OFlags::RDWR, Mode::RUSR).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    rustix::fs::linkat(&folder, "file", &folder, "again", rustix::fs::AtFlags::empty()).unwrap();
    rustix::fs::symlinkat("file", &folder, "link").unwrap();
    let before = seen(&world.source());
    assert_eq!(before.len(), 1 + 200 * 2 + 3);
    let manifest = world.keep_tree();
    assert_eq!((manifest.public.counts.entries, manifest.public.counts.unreadable), (404, 0));
    let report = world.restore(&manifest, "one");
    assert_eq!((report.problems, report.notes), (Vec::new(), Vec::new()));
    same(&before, &seen(&world.at("one")));
}

#[test]
fn attributes_too_long_for_a_line() {
    // Few file systems take so many; the one that is always there takes them from root.
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), b"x").unwrap();
    for n in 0..20u64 {
        let name = format!("trusted.{n}");
        if rustix::fs::lsetxattr(source.join("file"), &*name, &noise(n, 30_000), XattrFlags::empty()).is_err() {
            return;
        }
    }
    let mut world = World::new();
    let manifest = world.keep(|spec| backup_tree(spec, Source::Path(&source)));
    let target = dir.path().join("back");
    let spec = RestoreSpec { paths: Vec::new(), target: &target, options: FileOptions::default(), monitor: &Silent };
    assert_eq!(restore_tree(&world.reader(&manifest), spec).unwrap().problems, Vec::<String>::new());
    same(&seen(&source), &seen(&target));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reader.py");
    let mut reader = Command::new("python3");
    reader.arg(script).arg(world.store.path()).arg(manifest.public.id.as_str()).arg(world.at("identity.txt"));
    assert!(reader.arg(dir.path().join("python")).status().unwrap().success());
    same(&seen(&source), &seen(&dir.path().join("python")));
}

#[test]
fn a_single_sparse_file_comes_back_alone() {
    let mut world = World::new();
    let file = world.source().join("disk");
    make(&file, &Thing::Sparse(1, vec![(50 << 20, 100_000), (10 << 20, 5)], 30 << 20), &[]);
    let manifest = world.keep(|spec| backup_tree(spec, Source::Path(&file)));
    assert_eq!(world.restore(&manifest, "disk").problems, Vec::<String>::new());
    let tail = |lines: Vec<String>| lines[0].split_once(" stat").unwrap().1.to_owned();
    assert_eq!(tail(seen(&world.at("disk"))), tail(seen(&file)));
    for odd in ["fifo", "socket"] {
        let path = world.source().join(odd);
        let kind = if odd == "fifo" { FileType::Fifo } else { FileType::Socket };
        rustix::fs::mknodat(CWD, &path, kind, Mode::RUSR, 0).unwrap();
        world.refuses(&path, "neither a folder nor a file");
    }
}

#[test]
fn what_a_folder_gives_to_things_that_are_made_in_it_is_taken_away() {
    let mut world = World::new();
    let at = |name: &str| world.source().join(name);
    fs::create_dir_all(at("sub")).unwrap();
    fs::write(at("sub/file"), b"x").unwrap();
    make(&at("sub/fifo"), &Thing::Fifo, &[]);
    let file = at("sub/file");
    let shared = world.at("shared");
    fs::create_dir(&shared).unwrap();
    let gives = Command::new("setfacl").args(["-dm", "u:1:rwx"]).arg(&shared).status().unwrap().success();
    assert!(gives, "this file system has no access control lists; run the tests where it has");
    let manifest = world.keep_tree();
    assert_eq!(world.restore(&manifest, "shared/t").problems, Vec::<String>::new());
    same(&seen(&world.source()), &seen(&world.at("shared/t")));
    let single = world.keep(|spec| backup_tree(spec, Source::Path(&file)));
    assert_eq!(world.restore(&single, "shared/one").problems, Vec::<String>::new());
    assert!(!seen(&world.at("shared/one"))[0].contains("user:1:"));
}

#[test]
fn files_that_say_they_are_empty_and_are_not() {
    let mut world = World::new();
    let made_up = Path::new("/proc/version");
    assert_eq!(made_up.metadata().unwrap().len(), 0);
    let manifest = world.keep(|spec| backup_tree(spec, Source::Path(made_up)));
    let content = fs::read(made_up).unwrap();
    assert_eq!(manifest.public.counts.bytes, content.len() as u64);
    assert_eq!(world.restore(&manifest, "version").problems, Vec::<String>::new());
    assert_eq!(fs::read(world.at("version")).unwrap(), content);
}
