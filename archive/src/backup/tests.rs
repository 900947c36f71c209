//! A small reader of its own, so that writer and readers are not tested against each other alone.

use super::*;
use crate::catalog::Child;
use crate::entry::{Content, FileDigest};
use crate::epoch::{IdentityFile, open_epoch};
use crate::pack::{FrameTable, TAIL, find_table};
use crate::reference::{Decoder, Member, References};
use age::secrecy::ExposeSecret;
use base::Silent;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

struct Setup {
    dir: tempfile::TempDir,
    secrets: Secrets,
    epoch: Epoch,
    identities: IdentityFile,
    stored: PathBuf,
    next: u32,
}

/// A snapshot read back: entries by path, with the bytes of files.
struct Snapshot {
    entries: Vec<Entry>,
    bytes: BTreeMap<Vec<u8>, Vec<u8>>,
    sealed: Sealed,
    manifest: Manifest,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = age::x25519::Identity::generate();
        let at = |name: &str| dir.path().join(name);
        for name in ["export", "stored", "tree"] {
            fs::create_dir(at(name)).unwrap();
        }
        let epoch = Epoch::current(&at("epochs/node1.toml"), &[identity.to_public().to_string()], clock::now()).unwrap();
        let identities = IdentityFile::parse(identity.to_string().expose_secret().as_bytes()).unwrap();
        // One secret, so that cuts fall at the same places in every run of the tests.
        Self { secrets: Secrets::from_bytes([5; 32]), epoch, identities, stored: at("stored"), next: 0, dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn with<T>(&mut self, make: impl FnOnce(&BackupSpec<'_>) -> T) -> (RequestId, T) {
        self.next += 1;
        let id: RequestId = format!("20261120T031500Z-{:08x}", self.next).parse().unwrap();
        let index = Index::load(&self.at("index"), &self.epoch.public().recipient).unwrap();
        let (client, node) = (Name::new("web1").unwrap(), Name::new("node1").unwrap());
        let dataset = "files:/tree".parse().unwrap();
        let export = self.at("export");
        let spec = BackupSpec {
            id: &id,
            client: &client,
            node: &node,
            dataset: &dataset,
            tags: &["daily".to_owned()],
            secrets: &self.secrets,
            epoch: &self.epoch,
            index: &index,
            export: &export,
            monitor: &Silent,
        };
        let made = make(&spec);
        (id, made)
    }

    /// Backs the tree up, moves the packs to the node, acknowledges.
    fn tree(&mut self) -> (Prepared, Snapshot) {
        let tree = self.at("tree");
        let (id, prepared) = self.with(|spec| backup_tree(spec, Source::Path(&tree)));
        self.take(&id, prepared.unwrap())
    }

    fn stream(&mut self, stream: &mut dyn Read) -> (Prepared, Snapshot) {
        let (id, prepared) = self.with(|spec| backup_streams(spec, |streams| streams.put("dump", stream, &mut || Ok(())).map(drop)));
        self.take(&id, prepared.unwrap())
    }

    fn take(&mut self, id: &RequestId, prepared: Prepared) -> (Prepared, Snapshot) {
        for pack in &prepared.packs {
            let from = self.at("export").join(format!("{id}.{}", pack.digest.hex()));
            assert_eq!(fs::metadata(&from).unwrap().len(), pack.size);
            assert_eq!(Blake3::of(&fs::read(&from).unwrap()), pack.digest);
            fs::rename(from, self.stored.join(pack.digest.hex())).unwrap();
        }
        assert_eq!(self.at("export").join(format!("{id}.manifest")).exists(), prepared.manifest.len() > ATTACHED);
        atomic::remove(&self.at("export").join(format!("{id}.manifest"))).unwrap();
        assert_eq!(fs::read_dir(self.at("export")).unwrap().count(), 0);
        Index::acknowledge(&self.at("index"), id).unwrap();
        let snapshot = self.read(&prepared.manifest);
        assert_eq!(snapshot.manifest.digest, prepared.digest);
        assert_eq!(snapshot.manifest.public.counts, prepared.counts);
        assert_eq!(snapshot.entries.len() as u64, prepared.counts.entries);
        (prepared, snapshot)
    }

    fn read(&self, manifest: &[u8]) -> Snapshot {
        let manifest = Manifest::parse(manifest).unwrap();
        let key = open_epoch(&manifest.public.epoch, &self.identities, &|| Ok(Vec::new())).unwrap();
        let sealed = manifest.open(&key).unwrap();
        let mut chunks: BTreeMap<Member, Vec<u8>> = BTreeMap::new();
        for (pack, held) in manifest.public.packs.iter().zip(&sealed.packs) {
            let plain = key.decrypt_all(&fs::read(self.stored.join(pack.digest.hex())).unwrap(), 1 << 30).unwrap();
            let tail: &[u8; TAIL] = plain.last_chunk().unwrap();
            let place = find_table(tail, plain.len() as u64).unwrap();
            let table = FrameTable::parse(&plain[place.start as usize..place.end as usize]).unwrap();
            assert_eq!((table.digest(), table.frames().len()), (held.table, held.frames as usize));
            for (number, frame) in (held.first..).zip(table.frames()) {
                let compressed = &plain[frame.offset as usize..][..frame.compressed as usize];
                assert_eq!(Blake3::of(compressed), frame.digest);
                let bytes = zstd::bulk::decompress(compressed, frame.plain as usize).unwrap();
                for (n, place) in crate::frame::members(&bytes, held.run, number).unwrap().into_iter().enumerate() {
                    chunks.insert(Member { run: held.run, frame: number, n: n as u32 }, bytes[place].to_vec());
                }
            }
            // The whole pack is one zstd stream of one tar archive.
            assert_eq!(zstd::stream::decode_all(&plain[..]).unwrap().len(), table.frames().iter().map(|f| f.plain as usize).sum::<usize>());
        }
        let mut entries = Vec::new();
        let root = &sealed.root;
        segment(&chunks, &sealed.secret, root.at, root.id, root.level, &mut entries);
        assert!(entries.windows(2).all(|two| two[0].path < two[1].path), "out of order");
        let mut bytes = BTreeMap::new();
        for entry in &entries {
            if let EntryKind::File { size, content, digest, sparse } = &entry.kind {
                let content = content_of(&chunks, content);
                let size = sparse.as_ref().map_or(size, |sparse| &sparse.data);
                assert_eq!(
                    (content.len() as u64, FileDigest::of(&sealed.secret.chunk_id(&content).0)),
                    (*size, *digest),
                    "{}",
                    entry.shown_path()
                );
                bytes.insert(entry.path.clone(), content);
            }
        }
        Snapshot { entries, bytes, sealed, manifest }
    }
}

fn segment(chunks: &BTreeMap<Member, Vec<u8>>, secrets: &Secrets, at: Member, id: crate::epoch::ChunkId, level: u8, to: &mut Vec<Entry>) {
    let bytes = &chunks[&at];
    assert_eq!(secrets.chunk_id(bytes), id);
    for line in catalog::lines(bytes).unwrap() {
        if level == 0 {
            to.push(Entry::parse(line).unwrap());
        } else {
            let child = Child::parse(line).unwrap();
            let begin = to.len();
            segment(chunks, secrets, child.at, child.id, level - 1, to);
            assert_eq!(to[begin].path, child.first);
        }
    }
}

fn content_of(chunks: &BTreeMap<Member, Vec<u8>>, content: &Content) -> Vec<u8> {
    let join = |list: &References| list.members().map(|at| &chunks[&at][..]).collect::<Vec<_>>().concat();
    match content {
        Content::Chunks(list) => join(list),
        Content::More(list) => {
            let mut items = Vec::new();
            let mut push = |item| {
                items.push(item);
                Ok(())
            };
            let mut decoder = Decoder::default();
            decoder.feed(&join(list), &mut push).unwrap();
            decoder.finish(&mut push).unwrap();
            join(&References(items))
        }
    }
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_tree_comes_back() {
    let mut setup = Setup::new();
    let tree = setup.at("tree");
    let names = ["a.txt", "b/c", "b/\u{e4} \"quoted\"", "b-c", "b.c", "empty", "big"];
    fs::create_dir(tree.join("b")).unwrap();
    fs::create_dir(tree.join("empty folder")).unwrap();
    for (seed, name) in (0u64..).zip(names) {
        let length = match name {
            "empty" => 0,
            "big" => 7 << 20,
            _ => 1000,
        };
        fs::write(tree.join(name), noise(length, seed)).unwrap();
    }
    let strange = std::os::unix::ffi::OsStringExt::from_vec(b"not \xff utf-8\n".to_vec());
    let strange: std::ffi::OsString = strange;
    fs::write(tree.join(&strange), b"x").unwrap();
    symlink("../outside", tree.join("link")).unwrap();
    fs::set_permissions(tree.join("a.txt"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(tree.join("a.txt"), tree.join("b/linked")).unwrap();
    fs::hard_link(tree.join("a.txt"), tree.join("z")).unwrap();
    let (prepared, snapshot) = setup.tree();
    let paths: Vec<&[u8]> = snapshot.entries.iter().map(|e| &e.path[..]).collect();
    let expected: [&[u8]; 14] = [
        b"",
        b"a.txt",
        b"b-c",
        b"b.c",
        b"b/",
        b"b/c",
        b"b/linked",
        "b/\u{e4} \"quoted\"".as_bytes(),
        b"big",
        b"empty",
        b"empty folder/",
        b"link",
        b"not \xff utf-8\n",
        b"z",
    ];
    assert_eq!(paths, expected);
    for (seed, name) in (0u64..).zip(names) {
        assert_eq!(snapshot.bytes[name.as_bytes()], fs::read(tree.join(name)).unwrap(), "{seed}");
    }
    let find = |path: &[u8]| snapshot.entries.iter().find(|e| e.path == path).unwrap();
    let meta = fs::metadata(tree.join("a.txt")).unwrap();
    let entry = find(b"a.txt");
    assert_eq!(
        (entry.mode, entry.uid, entry.mtime.seconds, i64::from(entry.mtime.nanos)),
        (0o4755, meta.uid(), meta.mtime(), meta.mtime_nsec())
    );
    assert_eq!(find(b"link").kind, EntryKind::Link { target: b"../outside".to_vec() });
    for name in [&b"a.txt"[..], b"b/linked", b"z"] {
        assert_eq!(find(name).hard_link, Some(1));
    }
    assert_eq!(find(b"b/c").hard_link, None);
    assert_eq!((prepared.counts.entries, prepared.counts.files, prepared.unreadable), (14, 10, 0));
    assert_eq!(snapshot.sealed.tags, ["daily"]);
    // Nothing changed: no pack is made, and all old ones are named.
    let (second, again) = setup.tree();
    assert!(second.packs.is_empty());
    assert_eq!(again.entries, snapshot.entries);
    let names = |s: &Snapshot| s.manifest.public.packs.iter().map(|pack| pack.digest).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(names(&again), names(&snapshot));
    // The node has lost the data: it is sent again.
    let lost: Vec<Blake3> = snapshot.manifest.public.packs.iter().map(|pack| pack.digest).collect();
    Index::forget_packs(&setup.at("index"), &lost).unwrap();
    let (third, _) = setup.tree();
    assert_eq!(third.packs.len(), lost.len());
}

#[test]
fn sockets_are_left_out_and_said_to_be() {
    let mut setup = Setup::new();
    let tree = setup.at("tree");
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.join("fifo"), rustix::fs::Mode::from_raw_mode(0o640)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    fs::write(tree.join("good"), b"good").unwrap();
    let (prepared, snapshot) = setup.tree();
    assert_eq!((prepared.unreadable, prepared.ledger.len(), prepared.skipped), (0, 0, 1));
    assert_eq!(snapshot.sealed.unreadable, []);
    let skipped = &snapshot.sealed.skipped;
    assert!(skipped.len() == 1 && skipped[0].path == b"socket" && skipped[0].why.contains("socket"), "{skipped:?}");
    let kinds: Vec<_> = snapshot.entries.iter().map(|entry| (entry.shown_path(), entry.kind.word())).collect();
    assert_eq!(kinds, [(String::new(), "dir"), ("fifo".into(), "fifo"), ("good".into(), "file")]);
}

/// Removes files as soon as something was read, and puts other things in the place of some.
struct Remover(PathBuf);

impl Monitor for Remover {
    fn bytes(&self, _bytes: u64) {
        let at = |name: &str| self.0.join(name);
        if fs::remove_file(at("b")).is_ok() {
            fs::remove_dir_all(at("c")).unwrap();
            fs::remove_dir_all(at("d")).unwrap();
            symlink("/", at("d")).unwrap();
            fs::remove_file(at("e")).unwrap();
            symlink("/etc/passwd", at("e")).unwrap();
            fs::remove_file(at("f")).unwrap();
            fs::create_dir(at("f")).unwrap();
        }
    }
}

#[test]
fn what_vanishes_or_is_replaced_is_in_the_ledger_and_the_rest_is_kept() {
    let mut setup = Setup::new();
    let tree = setup.at("tree");
    for name in ["c", "d"] {
        fs::create_dir(tree.join(name)).unwrap();
        fs::write(tree.join(name).join("in"), name).unwrap();
    }
    for name in ["a", "b", "e", "f", "z"] {
        fs::write(tree.join(name), name).unwrap();
    }
    let remover = Remover(tree.clone());
    let (id, prepared) = setup.with(|spec| backup_tree(&BackupSpec { monitor: &remover, ..*spec }, Source::Path(&tree)));
    let (prepared, snapshot) = setup.take(&id, prepared.unwrap());
    let lost: Vec<_> = prepared.ledger.iter().map(|line| (String::from_utf8(line.path.clone()).unwrap(), line.why.clone())).collect();
    let (gone, replaced) = ("it vanished while the folder was read", "it was replaced while the folder was read");
    let expected = [("b", gone), ("c/", gone), ("d/", replaced), ("e", replaced), ("f", replaced)];
    assert_eq!(lost, expected.map(|(path, why)| (path.to_owned(), why.to_owned())));
    assert_eq!(snapshot.sealed.unreadable, prepared.ledger);
    assert_eq!(snapshot.bytes.keys().map(|path| &path[..]).collect::<Vec<_>>(), [&b"a"[..], b"z"]);
}

/// Writes to the file that is being read, whenever the backup reports bytes.
struct Meddler(PathBuf);

impl Monitor for Meddler {
    fn bytes(&self, _bytes: u64) {
        use std::io::Write as _;
        fs::OpenOptions::new().append(true).open(&self.0).unwrap().write_all(b"more").unwrap();
    }
}

#[test]
fn a_file_that_changes_is_noted_and_stored_as_read() {
    let mut setup = Setup::new();
    let tree = setup.at("tree");
    fs::write(tree.join("log"), b"line").unwrap();
    let meddler = Meddler(tree.join("log"));
    let (id, prepared) = setup.with(|spec| backup_tree(&BackupSpec { monitor: &meddler, ..*spec }, Source::Path(&tree)));
    let (prepared, snapshot) = setup.take(&id, prepared.unwrap());
    assert_eq!(prepared.unreadable, 1);
    assert!(snapshot.sealed.unreadable[0].why.contains("changed"));
    assert_eq!(snapshot.bytes[&b"log"[..]], b"linemore");
}

#[test]
fn a_single_file_is_a_dataset() {
    let mut setup = Setup::new();
    let file = setup.at("file");
    fs::write(&file, b"content").unwrap();
    let (id, prepared) = setup.with(|spec| backup_tree(spec, Source::Opened(File::open(&file).unwrap().into())));
    let (_, snapshot) = setup.take(&id, prepared.unwrap());
    assert_eq!(snapshot.bytes[&b""[..]], b"content");
}

#[test]
fn a_source_that_is_not_there_is_an_error_and_leaves_nothing() {
    let mut setup = Setup::new();
    symlink("/etc", setup.at("link")).unwrap();
    for bad in ["absent", "link"] {
        let path = setup.at(bad);
        let (id, made) = setup.with(|spec| backup_tree(spec, Source::Path(&path)));
        assert!(made.unwrap_err().one_line().contains(bad));
        assert_eq!(fs::read_dir(setup.at("export")).unwrap().count(), 0);
        assert!(!setup.at("index").join("pending").join(id.as_str()).exists());
    }
    let device = File::open("/dev/null").unwrap();
    assert!(setup.with(|spec| backup_tree(spec, Source::Opened(device.into()))).1.is_err());
}

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
            streams.tree("files", Source::Path(&site))?;
            streams.tree("one", Source::Path(&site.join("sub.c")))?;
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
            streams.tree("files", Source::Path(&site))?;
            streams.put("files.sql", &mut &b""[..], &mut || Ok(())).map(drop)
        },
        &|streams| {
            streams.tree("files", Source::Path(&site))?;
            streams.tree("files", Source::Path(&site))
        },
        &|streams| {
            streams.tree("files", Source::Path(&site))?;
            streams.put("files/z", &mut &b""[..], &mut || Ok(())).map(drop)
        },
        &|streams| streams.tree("../x", Source::Path(&site)),
        &|streams| streams.tree("x", Source::Path(&site.join("absent"))),
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

#[test]
fn holes_are_not_read() {
    use crate::entry::{Hole, Holes, Sparse};
    use std::os::unix::fs::FileExt;
    let mut setup = Setup::new();
    let file = File::create(setup.at("tree/sparse")).unwrap();
    file.set_len(100 << 30).unwrap();
    file.write_all_at(b"in the middle", 7 << 30).unwrap();
    file.write_all_at(&noise(2 << 20, 1), 12 << 30).unwrap();
    // A small one, one that is nothing but a hole, and one with very many of them.
    let small = File::create(setup.at("tree/small")).unwrap();
    small.write_all_at(b"end", 40_000).unwrap();
    File::create(setup.at("tree/void")).unwrap().set_len(1).unwrap();
    let many = File::create(setup.at("tree/many")).unwrap();
    for n in 0..2000 {
        many.write_all_at(&[7; 4096], n * 8192 + 4096).unwrap();
    }
    let began = std::time::Instant::now();
    let (prepared, snapshot) = setup.tree();
    assert!(began.elapsed().as_secs() < 30, "100 GiB of holes were read: {:?}", began.elapsed());
    let find = |name: &str| match snapshot.entries.iter().find(|entry| entry.path == name.as_bytes()).unwrap().kind.clone() {
        EntryKind::File { size, sparse, .. } => (size, sparse),
        other => panic!("{other:?}"),
    };
    // Blocks of file systems differ, but the ends of data are multiples of 4 KiB on those that tests run on.
    let at = |offset, length| Hole { offset, length };
    let (size, sparse) = find("sparse");
    let holes = Holes::List(vec![
        at(0, 7 << 30),
        at((7 << 30) + 4096, (5 << 30) - 4096),
        at((12 << 30) + (2 << 20), (100 << 30) - (12 << 30) - (2 << 20)),
    ]);
    assert_eq!((size, sparse), (100 << 30, Some(Sparse { data: 4096 + (2 << 20), holes })));
    assert_eq!(find("small"), (40_003, Some(Sparse { data: 40_003 - 36_864, holes: Holes::List(vec![at(0, 36_864)]) })));
    assert_eq!(find("void"), (1, Some(Sparse { data: 0, holes: Holes::List(vec![at(0, 1)]) })));
    let (size, sparse) = find("many");
    assert!(size == 2000 * 8192 && matches!(sparse, Some(Sparse { data: 8_192_000, holes: Holes::More(_) })));
    assert_eq!(prepared.counts.bytes, 4096 + (2 << 20) + 40_003 - 36_864 + 8_192_000);
    // Nothing changed: nothing is new.
    let (second, _) = setup.tree();
    assert!(second.packs.is_empty());
}

#[test]
fn long_lists_and_many_files() {
    let mut setup = Setup::new();
    let tree = setup.at("tree");
    for folder in 0..30 {
        let folder = tree.join(format!("folder {folder}"));
        fs::create_dir(&folder).unwrap();
        for n in 0..100 {
            fs::write(folder.join(format!("{n}")), format!("{} {n}", folder.display())).unwrap();
        }
    }
    let (_, first) = setup.tree();
    assert!(first.sealed.root.level >= 1);
    // Chunks in an order that no range describes: a file of pieces of another one, each repeated out of order.
    let piece = |n: u64| noise(300 << 10, n);
    let ordered = (0..40).map(piece).collect::<Vec<_>>().concat();
    fs::write(tree.join("pieces"), &ordered).unwrap();
    fs::write(tree.join("folder 7/5"), b"changed").unwrap();
    let (second, snapshot) = setup.tree();
    assert!(snapshot.bytes[&b"pieces"[..]] == ordered);
    assert_eq!(snapshot.bytes[&b"folder 7/5"[..]], b"changed");
    let segments = second.packs.iter().map(|pack| pack.size).sum::<u64>() - ordered.len() as u64;
    assert!(segments < 400_000, "{segments}");
}

#[test]
fn a_list_over_the_limit_becomes_chunks() {
    let mut setup = Setup::new();
    // Known pieces in an order that no range describes.
    let pieces: Vec<Vec<u8>> = (0..8).map(|seed| noise(96 << 10, seed)).collect();
    let order = noise(1800, 99);
    let content = order.iter().map(|n| &pieces[usize::from(n % 8)][..]).collect::<Vec<_>>().concat();
    let (_, snapshot) = setup.stream(&mut &content[..]);
    assert!(matches!(snapshot.entries[0].kind, EntryKind::File { content: Content::More(_), .. }));
    assert!(snapshot.bytes[&b"dump"[..]] == content);
}

#[test]
fn deep_trees_are_walked_with_few_descriptors() {
    let mut setup = Setup::new();
    let mut path = setup.at("tree");
    let mut expected = 1;
    for depth in 0..200 {
        fs::write(path.join("z"), format!("{depth}")).unwrap();
        path.push("d");
        fs::create_dir(&path).unwrap();
        expected += 2;
    }
    let (prepared, _) = setup.tree();
    assert_eq!((prepared.counts.entries, prepared.unreadable), (expected, 0));
}
