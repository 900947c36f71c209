//! From files to packs, into a store, and back: by our own reader and by the independent one in Python.

use crate::world::{World, noise, set_time, state};
use archive::backup::{Source, backup_streams, backup_tree};
use archive::verify::verify_all;
use base::Silent;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// A tree with one of everything.
fn fill(root: &Path) {
    let at = |name: &str| root.join(name);
    for folder in ["sub/deeper", "empty", "closed", "name with space\nand line", "a"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    fs::write(at("nothing"), b"").unwrap();
    fs::write(at("a.txt"), b"sorts before a/").unwrap();
    fs::write(at("a/x"), b"x").unwrap();
    fs::write(at("big"), noise(1, 5 << 20)).unwrap();
    fs::write(at("sub/copy-of-a-part"), &noise(1, 5 << 20)[1 << 20..]).unwrap();
    fs::write(at("sub/deeper/text"), "line\n".repeat(100_000)).unwrap();
    fs::File::create(at("sparse")).unwrap().set_len(40 << 20).unwrap();
    for n in 0..300u64 {
        fs::write(at(&format!("sub/small-{n}")), noise(n, 10 * usize::try_from(n).unwrap())).unwrap();
    }
    fs::hard_link(at("big"), at("sub/linked")).unwrap();
    fs::hard_link(at("big"), at("z-linked")).unwrap();
    symlink("../outside/absent", at("sub/link")).unwrap();
    symlink("/", at("root-link")).unwrap();
    let odd = root.join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff\xfe"));
    fs::write(&odd, b"odd").unwrap();
    symlink(std::ffi::OsStr::from_bytes(b"\xff"), root.join("odd-link")).unwrap();
    fs::write(at("closed/file"), b"closed").unwrap();
    fs::set_permissions(at("closed/file"), fs::Permissions::from_mode(0o4510)).unwrap();
    fs::set_permissions(at("empty"), fs::Permissions::from_mode(0o1777)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(at("a/x"), Some(12_345), Some(54_321)).unwrap();
        std::os::unix::fs::lchown(at("root-link"), Some(1), Some(1)).unwrap();
        std::os::unix::fs::chown(at("closed"), Some(65_534), Some(65_534)).unwrap();
    }
    set_time(&at("a.txt"), -1_000_000_000, 1);
    set_time(&odd, 1, 999_999_999);
    set_time(&at("sub/link"), 5, 5);
    set_time(&at("closed/file"), 1_600_000_000, 42);
    fs::set_permissions(at("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    set_time(&at("closed"), 1_600_000_001, 43);
    set_time(&at("sub"), 1_600_000_002, 44);
    set_time(root, 1_600_000_003, 45);
}

#[test]
fn everything_comes_back_by_both_readers() {
    let mut world = World::new();
    fill(&world.source());
    let first = world.keep_tree();
    let before = state(&world.source());
    let report = world.restore(&first, "one");
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!((report.entries, report.bytes), (first.public.counts.entries, first.public.counts.bytes));
    assert_eq!(state(&world.at("one")), before);
    world.restore_independently(&first, "two");
    assert_eq!(state(&world.at("two")), before);
    // A second snapshot after changes: old and new packs together.
    let source = world.source();
    fs::remove_file(source.join("sub/small-7")).unwrap();
    fs::write(source.join("new"), noise(77, 3 << 20)).unwrap();
    let mut big = fs::read(source.join("big")).unwrap();
    big.splice(2_000_000..2_000_010, *b"changed");
    fs::write(source.join("big"), &big).unwrap();
    let second = world.keep_tree();
    assert!(second.public.packs.len() > first.public.packs.len());
    let after = state(&world.source());
    for (name, manifest, expected) in [("three", &second, &after), ("four", &first, &before)] {
        assert_eq!(world.restore(manifest, name).problems, Vec::<String>::new());
        assert_eq!(&state(&world.at(name)), expected);
    }
    world.restore_independently(&second, "five");
    assert_eq!(state(&world.at("five")), after);
    for manifest in [&first, &second] {
        let verified = verify_all(&world.reader(manifest), &Silent).unwrap();
        assert_eq!(
            (verified.entries, verified.bytes, verified.problems.len()),
            (manifest.public.counts.entries, manifest.public.counts.bytes, 0)
        );
    }
}

#[test]
fn streams_and_single_files_come_back() {
    let mut world = World::new();
    let dump = [noise(3, 3_000_000), b"row\n".repeat(500_000)].concat();
    let manifest = world.keep(|spec| backup_streams(spec, |streams| streams.put("dump", &mut &dump[..], &mut || Ok(())).map(drop)));
    let reader = world.reader(&manifest);
    assert!(reader.is_stream());
    let entry = reader.find(b"dump").unwrap().unwrap();
    let mut content = Vec::new();
    reader.read_file(&entry, &mut content).unwrap();
    assert_eq!(content, dump);
    world.restore(&manifest, "stream");
    assert_eq!(fs::read(world.at("stream/dump")).unwrap(), dump);
    world.restore_independently(&manifest, "stream-2");
    assert_eq!(fs::read(world.at("stream-2/dump")).unwrap(), dump);
    let file = world.source().join("file");
    fs::write(&file, noise(4, 100_000)).unwrap();
    let manifest = world.keep(|spec| backup_tree(spec, Source::Path(&file)));
    assert_eq!(world.restore(&manifest, "file").entries, 1);
    assert_eq!(state(&world.at("file")), state(&file));
    world.restore_independently(&manifest, "file-2");
    assert_eq!(state(&world.at("file-2")), state(&file));
}

#[test]
fn damage_in_the_store_is_named_and_the_rest_comes_back() {
    let mut world = World::new();
    fill(&world.source());
    world.keep_tree();
    fs::write(world.source().join("new"), noise(9, 1 << 20)).unwrap();
    let manifest = world.keep_tree();
    let before = state(&world.source());
    for (number, pack) in manifest.public.packs.iter().enumerate() {
        let path = world.store.path().join("packs").join(pack.digest.hex());
        let whole = fs::read(&path).unwrap();
        for what in ["delete", "truncate", "flip"] {
            match what {
                "delete" => fs::remove_file(&path).unwrap(),
                "truncate" => fs::write(&path, &whole[..whole.len() / 2]).unwrap(),
                _ => {
                    let mut bytes = whole.clone();
                    let middle = bytes.len() / 3;
                    bytes[middle] ^= 0x10;
                    fs::write(&path, bytes).unwrap();
                }
            }
            let name = format!("restored-{number}-{what}");
            let report = world.restore(&manifest, &name);
            let found = state(&world.at(&name));
            // A flipped bit may lie in the padding or in a frame that only an older snapshot uses.
            assert!(!report.problems.is_empty() || what == "flip" && found == before, "{what}");
            let named = |problem: &String| {
                problem.contains(&pack.digest.hex()) || problem.contains("no entry") || problem.ends_with("for the same reason")
            };
            assert!(report.problems.iter().all(named), "{:?}", report.problems);
            for (path, now) in &found {
                assert!(
                    before.get(path).is_some_and(|then| then == now || then.split(" = ").next() == Some(now))
                        || now.starts_with("folder")
                        || now.contains(" = "),
                    "{what} {path:?} {now}"
                );
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(world.restore(&manifest, "mended").problems, Vec::<String>::new());
    assert_eq!(state(&world.at("mended")), before);
}
