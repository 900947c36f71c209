//! Streams, with trees among them.

use super::*;

#[test]
fn streams_are_stored_whole_or_not_at_all() {
    let mut setup = Setup::new();
    let dump = noise(5 << 20, 9);
    let (_, snapshot) = setup.stream(&mut &dump[..]);
    assert_eq!(snapshot.entries[0].path, b"dump");
    assert!(snapshot.bytes[&b"dump"[..]] == dump);
    assert!(snapshot.sealed.stream);
    // A second dump with little changed sends little.
    let mut changed = dump.clone();
    changed.splice(1_000_000..1_000_000, *b"inserted");
    let (second, snapshot) = setup.stream(&mut &changed[..]);
    assert!(snapshot.bytes[&b"dump"[..]] == changed);
    assert!(second.packs.iter().map(|pack| pack.size).sum::<u64>() < 1 << 20);
    // Enough zeros for a list that only repeats keep in a line.
    let (zeros, snapshot) = setup.stream(&mut std::io::repeat(0).take(100 << 20));
    assert!(snapshot.entries[0].to_line().unwrap().len() < 400);
    assert!(zeros.packs.iter().all(|pack| pack.size < 70_000) && zeros.packs.len() == 2);
    for error in [true, false] {
        let mut broken = dump.as_slice().chain(Broken);
        let (_, made) = setup.with(|spec| match error {
            true => backup_streams(spec, |streams| streams.put("dump", &mut broken, &mut || Ok(())).map(drop)),
            false => backup_streams(spec, |streams| {
                streams.put("before", &mut &dump[..], &mut || Ok(()))?;
                streams.put("dump", &mut &noise(3 << 20, 77)[..], &mut || Err(Error::failed("pg_dump failed"))).map(drop)
            }),
        });
        assert!(made.is_err());
        assert_eq!(fs::read_dir(setup.at("export")).unwrap().count(), 0);
        assert!(fs::read_dir(setup.at("index/pending")).map_or(0, Iterator::count) == 0);
    }
}

#[test]
fn trees_stand_among_streams_in_one_snapshot() {
    let mut setup = Setup::new();
    let site = setup.at("site");
    fs::create_dir_all(site.join("sub")).unwrap();
    for name in ["a", "sub/b", "sub.c"] {
        fs::write(site.join(name), name).unwrap();
    }
    fs::hard_link(site.join("a"), site.join("sub/also-a")).unwrap();
    std::os::unix::fs::symlink("/etc", site.join("link")).unwrap();
    let (id, prepared) = setup.with(|spec| {
        backup_streams(spec, |streams| {
            streams.put("files.sql", &mut &b"dump"[..], &mut || Ok(()))?;
            streams.tree("files", Source::Path(&site), &Choice::default())?;
            streams.tree("one", Source::Path(&site.join("sub.c")), &Choice::default())?;
            streams.put("z/last", &mut &b"last"[..], &mut || Ok(())).map(drop)
        })
    });
    let (prepared, snapshot) = setup.take(&id, prepared.unwrap());
    let paths: Vec<_> = snapshot.entries.iter().map(|entry| String::from_utf8(entry.path.clone()).unwrap()).collect();
    let expected = [
        "files.sql",
        "files/",
        "files/a",
        "files/link",
        "files/sub.c",
        "files/sub/",
        "files/sub/also-a",
        "files/sub/b",
        "one",
        "z/",
        "z/last",
    ];
    assert_eq!(paths, expected);
    assert_eq!(snapshot.bytes[&b"files/sub/b"[..]], b"sub/b");
    let group = |at: usize| snapshot.entries[at].hard_link;
    assert!(group(2).is_some() && group(2) == group(6), "two names of one file");
    assert_eq!((prepared.counts.files, prepared.unreadable), (7, 0));
    // Out of order, the same name twice, below a tree, and a source that is not there.
    type Fill<'a> = &'a dyn Fn(&mut Streams<'_, '_>) -> Result<()>;
    let bad: [Fill<'_>; 5] = [
        &|streams| {
            streams.tree("files", Source::Path(&site), &Choice::default())?;
            streams.put("files.sql", &mut &b""[..], &mut || Ok(())).map(drop)
        },
        &|streams| {
            streams.tree("files", Source::Path(&site), &Choice::default())?;
            streams.tree("files", Source::Path(&site), &Choice::default())
        },
        &|streams| {
            streams.tree("files", Source::Path(&site), &Choice::default())?;
            streams.put("files/z", &mut &b""[..], &mut || Ok(())).map(drop)
        },
        &|streams| streams.tree("../x", Source::Path(&site), &Choice::default()),
        &|streams| streams.tree("x", Source::Path(&site.join("absent")), &Choice::default()),
    ];
    for (at, fill) in bad.into_iter().enumerate() {
        assert!(setup.with(|spec| backup_streams(spec, fill)).1.is_err(), "{at}");
    }
}

#[test]
fn many_streams_are_files_in_folders() {
    let mut setup = Setup::new();
    let names = ["a-b/x", "a/b-c", "a/b/c", "a/b/d", "a0", "ä/e"];
    let (id, prepared) = setup.with(|spec| {
        backup_streams(spec, |streams| {
            for (n, name) in names.iter().enumerate() {
                let mut ended = 0;
                let bytes = vec![b'x'; n * 1000];
                let size = streams.put(name, &mut &bytes[..], &mut || {
                    ended += 1;
                    Ok(())
                })?;
                assert_eq!((size, ended), (n as u64 * 1000, 1));
            }
            streams.unreadable("a1", "it is not to be read".into())
        })
    });
    let (prepared, snapshot) = setup.take(&id, prepared.unwrap());
    let paths: Vec<_> = snapshot.entries.iter().map(|entry| String::from_utf8(entry.path.clone()).unwrap()).collect();
    assert_eq!(paths, ["a-b/", "a-b/x", "a/", "a/b-c", "a/b/", "a/b/c", "a/b/d", "a0", "ä/", "ä/e"]);
    let modes: Vec<_> = snapshot.entries.iter().map(|entry| (entry.kind == EntryKind::Dir, entry.mode)).collect();
    assert!(modes.iter().all(|(dir, mode)| *mode == if *dir { 0o700 } else { 0o600 }), "{modes:?}");
    assert_eq!((prepared.counts.files, prepared.counts.bytes, prepared.unreadable), (6, 15_000, 1));
    assert_eq!(snapshot.sealed.unreadable[0].path, b"a1");
}

#[test]
fn names_of_streams_are_plain_and_in_order() {
    let mut setup = Setup::new();
    let long = "x".repeat(256);
    for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b", "a\nb", long.as_str()] {
        let (_, made) = setup.with(|spec| backup_streams(spec, |streams| streams.put(bad, &mut &b"x"[..], &mut || Ok(())).map(drop)));
        assert!(made.is_err(), "{bad:?}");
    }
    // Out of order, the same twice, a file that is to be a folder and the other way round.
    for (first, second) in [("b", "a"), ("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/b", "a-b")] {
        let (_, made) = setup.with(|spec| {
            backup_streams(spec, |streams| {
                streams.put(first, &mut &b"x"[..], &mut || Ok(()))?;
                streams.put(second, &mut &b"x"[..], &mut || Ok(())).map(drop)
            })
        });
        assert!(made.is_err(), "{first} and {second}");
    }
    let (_, made) = setup.with(|spec| backup_streams(spec, |_| Ok(())));
    assert!(made.unwrap_err().one_line().contains("nothing"));
    assert_eq!(fs::read_dir(setup.at("export")).unwrap().count(), 0);
}

struct Broken;
impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the pipe broke"))
    }
}
