//! A small reader of its own, so that writer and readers are not tested against each other alone.

mod streams;

mod changing;
mod unchanged;

use super::*;
use crate::cache::GRANULARITY;
use crate::catalog::{self, Child};
use crate::entry::{Content, Entry, FileDigest};
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
use std::time::Duration;

struct Setup {
    dir: tempfile::TempDir,
    secrets: Secrets,
    epoch: Epoch,
    identities: IdentityFile,
    stored: PathBuf,
    next: u32,
    /// Whether backups remember, and how far apart changes must be to be told by their times.
    cached: bool,
    level: i32,
    granularity: Duration,
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
        Self {
            secrets: Secrets::from_bytes([5; 32]),
            epoch,
            identities,
            stored: at("stored"),
            next: 0,
            cached: true,
            level: DEFAULT_LEVEL,
            granularity: GRANULARITY,
            dir,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn with<T>(&mut self, make: impl FnOnce(&BackupSpec<'_>) -> T) -> (RequestId, T) {
        self.next += 1;
        let id: RequestId = format!("20261120T031500Z-{:08x}", self.next).parse().unwrap();
        // What is given up for what is unused in it has tests of its own: here nothing moves.
        let index = Index::load(&self.at("index"), &self.epoch.public().recipient).unwrap().rewriting_below(0.0);
        let (client, node) = (Name::new("web1").unwrap(), Name::new("node1").unwrap());
        let dataset = "files:/tree".parse().unwrap();
        let (export, cache) = (self.at("export"), self.at("cache"));
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
            lost: None,
            monitor: &Silent,
            parts: None,
            level: self.level,
            cache: self.cached.then_some(CachePlace { path: &cache, granularity: self.granularity, any_device: false }),
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

/// At every level: frames that every reader takes, and a higher one is worth something.
#[test]
fn levels() {
    let sizes = [1, 3, 12, 19].map(|level| {
        let mut setup = Setup { level, ..Setup::new() };
        // Words in any order: what is found twice lies farther apart than a low level looks.
        let words: Vec<String> = (0..3000u64).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        let dice = noise(240_000, 7);
        let text: String = dice.chunks(2).map(|two| words[usize::from(u16::from_le_bytes([two[0], two[1]])) % 3000].as_str()).collect();
        fs::write(setup.at("tree/text"), &text).unwrap();
        let (prepared, snapshot) = setup.tree();
        assert_eq!(snapshot.bytes[&b"text"[..]], text.as_bytes());
        for pack in &prepared.packs {
            let key = open_epoch(&snapshot.manifest.public.epoch, &setup.identities, &|| Ok(Vec::new())).unwrap();
            let plain = key.decrypt_all(&fs::read(setup.stored.join(pack.digest.hex())).unwrap(), 1 << 30).unwrap();
            let mut strict = zstd::stream::Decoder::new(&plain[..]).unwrap();
            strict.window_log_max(crate::limits::WINDOW_LOG).unwrap();
            std::io::copy(&mut strict, &mut std::io::sink()).unwrap();
        }
        prepared.packs.iter().map(|pack| pack.size).sum::<u64>()
    });
    assert!(sizes[0] > sizes[3] + sizes[3] / 20, "{sizes:?}");
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
