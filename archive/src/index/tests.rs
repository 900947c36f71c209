use super::*;
use crate::epoch::ChunkId;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const EPOCH: &str = "age1x";

impl Index {
    /// As if the node lacked these packs: what is in them is sent again.
    pub(crate) fn forget_packs(folder: &Path, packs: &[Blake3]) -> Result<()> {
        for epoch in names(folder)?.into_iter().filter(|epoch| !epoch.ends_with(PENDING)) {
            for pack in packs {
                atomic::remove(&epoch.join(pack.hex()))?;
            }
        }
        Ok(())
    }
}

fn info(tag: u8) -> PackInfo {
    pack(u64::from(tag), 10, 5)
}

fn pack(tag: u64, first: u32, frames: u32) -> PackInfo {
    let digest = Blake3::of(&tag.to_le_bytes());
    PackInfo { digest, size: 65_536, run: RunId(tag), first, frames, table: Blake3([!digest.0[0]; 32]), plain: 1000 }
}

fn chunk(n: u64) -> ChunkId {
    ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn id(n: u64) -> RequestId {
    format!("20261120T031500Z-{n:08x}").parse().unwrap()
}

struct Setup(tempfile::TempDir);

impl Setup {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    fn load(&self) -> Index {
        Index::load(self.folder(), EPOCH).unwrap()
    }

    fn store(&self, request: u64, info: &PackInfo, records: &[Record]) {
        self.load().note(&id(request), info, records).unwrap();
        Index::acknowledge(self.folder(), &id(request)).unwrap();
    }

    fn epoch(&self) -> PathBuf {
        self.folder().join(epoch_name(EPOCH))
    }

    fn tables(&self) -> Vec<PathBuf> {
        let all = names(&self.epoch()).unwrap();
        all.into_iter().filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("table-")).collect()
    }

    fn fold(&self) {
        fold::fold(&self.epoch(), EPOCH).unwrap();
    }
}

/// All places of a chunk, by the packs' digests.
fn places(index: &Index, id: &ChunkId) -> BTreeSet<(String, Member)> {
    let mut found = BTreeSet::new();
    index.find_all(&key(id), &mut |pack, at| assert!(found.insert((index.packs()[pack].digest.hex(), at)), "told twice"));
    found
}

#[test]
fn only_what_is_acknowledged_is_found() {
    let setup = Setup::new();
    let folder = setup.folder();
    setup.load().note(&id(1), &info(1), &[(chunk(1), 10, 0), (chunk(2), 14, 7)]).unwrap();
    setup.load().note(&id(2), &info(2), &[(chunk(3), 10, 0)]).unwrap();
    assert!(setup.load().packs().is_empty());
    Index::acknowledge(folder, &id(1)).unwrap();
    Index::acknowledge(folder, &id(1)).unwrap();
    Index::discard(folder, &id(2)).unwrap();
    Index::discard(folder, &id(2)).unwrap();
    Index::acknowledge(folder, &id(2)).unwrap();
    for folded in [false, true] {
        let index = setup.load();
        assert_eq!(index.packs(), [info(1)]);
        assert_eq!(index.find(&chunk(2)), Some((0, Member { run: RunId(1), frame: 14, n: 7 })));
        assert_eq!(index.find(&chunk(3)), None);
        let at = |run, frame| index.pack_of(RunId(run), frame);
        assert_eq!([at(1, 9), at(1, 10), at(1, 14), at(1, 15), at(0, 10), at(2, 10)], [None, Some(0), Some(0), None, None, None]);
        assert_eq!(setup.tables().len(), usize::from(folded));
        setup.fold();
    }
    assert!(Index::load(folder, "age1y").unwrap().packs().is_empty());
    Index::forget_packs(folder, &[Blake3([9; 32]), info(1).digest]).unwrap();
    let index = setup.load();
    assert!(index.packs().is_empty() && index.find(&chunk(2)).is_none());
}

#[test]
fn damaged_records_count_as_absent() {
    let setup = Setup::new();
    setup.store(1, &info(1), &[(chunk(1), 10, 0), (chunk(2), 10, 1)]);
    let path = setup.epoch().join(info(1).digest.hex());
    let good = fs::read(&path).unwrap();
    let replaced = |from: &str, to: &str| {
        let at = good.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        [&good[..at], to.as_bytes(), &good[at + from.len()..]].concat()
    };
    let mut hostile = vec![
        vec![],
        b"{}\n".to_vec(),
        b"\n".repeat(10_000),
        [&good[..], b"x"].concat(),
        good[..good.len() - 40].to_vec(),
        replaced("\"version\":2", "\"version\":1"),
        replaced("\"frames\":5", "\"frames\":6"),
        replaced("\"frames\":5", "\"frames\":4294967295"),
        replaced("\"size\":", "\"more\":1,\"size\":"),
    ];
    hostile.extend((1..good.len()).step_by(7).map(|cut| good[..good.len() - cut].to_vec()));
    for at in (0..good.len()).step_by(3) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        hostile.push(flipped);
    }
    for bad in hostile {
        fs::write(&path, &bad).unwrap();
        let index = setup.load();
        assert!(index.packs().is_empty() && index.find(&chunk(1)).is_none(), "{:?}", String::from_utf8_lossy(&bad));
        setup.fold();
        assert!(setup.tables().is_empty());
    }
    fs::write(&path, &good).unwrap();
    assert!(setup.load().find(&chunk(1)).is_some());
    fs::rename(&path, path.with_file_name(Blake3([3; 32]).hex())).unwrap();
    assert!(setup.load().packs().is_empty());
}

#[test]
fn damaged_tables_never_tell_wrongly_and_are_made_again() {
    let setup = Setup::new();
    let chunks: Vec<Record> = (0..500).map(|n| (chunk(n), 10 + (n % 5) as u32, n as u32)).collect();
    setup.store(1, &info(1), &chunks);
    setup.fold();
    let [path] = &setup.tables()[..] else { panic!("one table") };
    let good = fs::read(path).unwrap();
    let mut hostile: Vec<Vec<u8>> = [0, 1, 175, 176, 4095, 4096, good.len() - 177, good.len() - 1].map(|cut| good[..cut].to_vec()).into();
    hostile.push([&good[..], &[0]].concat());
    hostile.push(vec![0xff; good.len()]);
    for at in (0..good.len()).step_by(101).chain(good.len() - 176..good.len()) {
        let mut flipped = good.clone();
        flipped[at] ^= 4;
        hostile.push(flipped);
    }
    // Two blocks changed places.
    hostile.push([&good[4096..8192], &good[..4096], &good[8192..]].concat());
    for bad in hostile {
        fs::write(path, &bad).unwrap();
        let index = setup.load();
        let expected = |n: u64| Some((0, Member { run: RunId(1), frame: 10 + (n % 5) as u32, n: n as u32 }));
        let missed = (0..500).filter(|n| index.find(&chunk(*n)) != expected(*n)).count();
        assert!((500..600).all(|n| index.find(&chunk(n)).is_none()));
        // Either the damage was noticed when it was opened, and the records were read, or when it was asked.
        assert!((0..500).all(|n| index.find(&chunk(n)).is_none_or(|found| Some(found) == expected(n))));
        assert_eq!((missed > 0, path.exists()), (index.trouble().is_some(), missed == 0 && index.layers.len() == 1), "{missed}");
        // Next time all is found.
        let again = setup.load();
        assert!((0..500).all(|n| again.find(&chunk(n)) == expected(n)));
    }
    // A table of another epoch in this one's folder.
    fs::write(path, &good).unwrap();
    let other = setup.folder().join(epoch_name("age1y"));
    fs::create_dir_all(&other).unwrap();
    fs::copy(path, other.join("table-0")).unwrap();
    fs::copy(setup.epoch().join(info(1).digest.hex()), other.join(info(1).digest.hex())).unwrap();
    assert!(Index::load(setup.folder(), "age1y").unwrap().find(&chunk(1)).is_none());
}

#[test]
fn a_chunk_in_two_packs_is_found_in_both() {
    let setup = Setup::new();
    for n in 1..=3 {
        setup.store(n, &pack(n, 0, 1), &[(chunk(7), 0, n as u32), (chunk(100 + n), 0, 0)]);
        if n < 3 {
            setup.fold();
        }
    }
    let both = |n: &[u64]| n.iter().map(|n| (pack(*n, 0, 1).digest.hex(), Member { run: RunId(*n), frame: 0, n: *n as u32 })).collect();
    assert_eq!(places(&setup.load(), &chunk(7)), both(&[1, 2, 3]));
    Index::forget_packs(setup.folder(), &[pack(2, 0, 1).digest]).unwrap();
    assert_eq!(places(&setup.load(), &chunk(7)), both(&[1, 3]));
    assert!(setup.load().find(&chunk(102)).is_none());
    setup.fold();
    assert_eq!(places(&setup.load(), &chunk(7)), both(&[1, 3]));
}

#[test]
fn what_gathers_is_folded_into_few_tables() {
    let setup = Setup::new();
    let index = setup.load();
    let count = 1200;
    for n in 0..count {
        index.note(&id(n / 10), &pack(n, 0, 1), &[(chunk(n), 0, 0)]).unwrap();
    }
    for request in 0..count / 10 {
        Index::acknowledge(setup.folder(), &id(request)).unwrap();
    }
    let index = setup.load();
    assert!((1..=4).contains(&index.layers.len()) && index.recent.len() <= 256, "{} {}", index.layers.len(), index.recent.len());
    assert!((0..count).all(|n| index.find(&chunk(n)).is_some_and(|(at, _)| index.packs()[at].digest == pack(n, 0, 1).digest)));
    // An index that is open stays right while others fold and forget.
    let most: Vec<Blake3> = (0..count - 50).map(|n| pack(n, 0, 1).digest).collect();
    Index::forget_packs(setup.folder(), &most).unwrap();
    setup.fold();
    assert!((0..count).all(|n| index.find(&chunk(n)).is_some()) && index.trouble().is_none());
    let later = setup.load();
    assert_eq!(later.packs().len(), 50);
    assert!((0..count).all(|n| later.find(&chunk(n)).is_some() == (n >= count - 50)));
    assert!(later.layers.iter().map(|layer| layer.table.len()).sum::<u64>() <= 100);
}

#[test]
fn only_small_tables_are_merged() {
    for (sizes, staying) in [
        (&[][..], 0),
        (&[5], 0),
        (&[5, 5], 0),
        (&[100, 5, 5], 1),
        (&[39, 5, 5], 0),
        (&[1000, 100, 20, 5], 3),
        (&[1000, 100, 19, 5], 2),
        (&[5, 0], 0),
    ] {
        assert_eq!(fold::staying(sizes), staying, "{sizes:?}");
    }
}

/// What may happen to an index.
#[derive(Debug, Clone)]
enum Step {
    Note {
        request: u64,
        chunks: Vec<u64>,
    },
    Acknowledge(u64),
    Discard(u64),
    Forget(u64),
    Fold,
    /// A crash between making a table and removing those that it is made of.
    FoldHalf,
    LoseTable(usize),
    DamageTable(usize, usize),
    DamageRecord(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4u64, prop::collection::vec(0..60u64, 0..30)).prop_map(|(request, chunks)| Step::Note { request, chunks }),
        4 => (0..4u64).prop_map(Step::Acknowledge),
        1 => (0..4u64).prop_map(Step::Discard),
        2 => (0..20u64).prop_map(Step::Forget),
        3 => Just(Step::Fold),
        1 => Just(Step::FoldHalf),
        1 => (0..4usize).prop_map(Step::LoseTable),
        1 => (0..4usize, any::<usize>()).prop_map(|(table, at)| Step::DamageTable(table, at)),
        1 => (0..20u64).prop_map(Step::DamageRecord),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn it_knows_what_a_map_knows(steps in prop::collection::vec(step(), 0..60)) {
        let setup = Setup::new();
        let folder = setup.folder().to_owned();
        // Packs by their number: request, records; and those that count.
        let mut pending: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut packs: BTreeMap<u64, Vec<Record>> = BTreeMap::new();
        let mut counts: BTreeSet<u64> = BTreeSet::new();
        let mut in_table: BTreeSet<u64> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Note { request, chunks } => {
                    let number = packs.len() as u64;
                    let records: Vec<Record> = chunks.iter().enumerate().map(|(n, of)| (chunk(*of), 3 + (n % 4) as u32, n as u32)).collect();
                    setup.load().note(&id(request), &pack(number, 3, 4), &records).unwrap();
                    packs.insert(number, records);
                    pending.entry(request).or_default().push(number);
                }
                Step::Acknowledge(request) => {
                    Index::acknowledge(&folder, &id(request)).unwrap();
                    counts.extend(pending.remove(&request).unwrap_or_default());
                }
                Step::Discard(request) => {
                    Index::discard(&folder, &id(request)).unwrap();
                    pending.remove(&request);
                }
                Step::Forget(number) => {
                    Index::forget_packs(&folder, &[pack(number, 3, 4).digest]).unwrap();
                    counts.remove(&number);
                }
                Step::Fold if setup.epoch().exists() => {
                    setup.fold();
                    in_table.extend(&counts);
                }
                Step::FoldHalf if setup.epoch().exists() => {
                    let kept: Vec<_> = setup.tables().into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
                    setup.fold();
                    in_table.extend(&counts);
                    kept.into_iter().for_each(|(bytes, path)| fs::write(path, bytes).unwrap());
                }
                Step::LoseTable(number) => {
                    if let Some(path) = setup.tables().get(number) {
                        fs::remove_file(path).unwrap();
                        in_table.clear();
                    }
                }
                Step::DamageTable(number, at) => {
                    if let Some(path) = setup.tables().get(number) {
                        let mut bytes = fs::read(path).unwrap();
                        let at = at % bytes.len();
                        bytes[at] ^= 1;
                        fs::write(path, bytes).unwrap();
                        // What is damaged is told of at the first question; then it is whole again.
                        let index = setup.load();
                        for n in 0..60 {
                            for (digest, at) in places(&index, &chunk(n)) {
                                let (number, records) = packs.iter().find(|(number, _)| pack(**number, 3, 4).digest.hex() == digest).unwrap();
                                prop_assert!(counts.contains(number) && records.contains(&(chunk(n), at.frame, at.n)));
                            }
                        }
                        in_table.clear();
                    }
                }
                // A damaged record does not matter while a table has the pack: only those that are surely in none are damaged.
                Step::DamageRecord(number) if counts.contains(&number) && in_table.is_empty() && setup.tables().is_empty() => {
                    fs::write(setup.epoch().join(pack(number, 3, 4).digest.hex()), b"damaged").unwrap();
                    counts.remove(&number);
                }
                Step::Fold | Step::FoldHalf | Step::DamageRecord(_) => {}
            }
            let index = setup.load();
            let expected: BTreeSet<String> = counts.iter().map(|number| pack(*number, 3, 4).digest.hex()).collect();
            prop_assert_eq!(index.packs().iter().map(|pack| pack.digest.hex()).collect::<BTreeSet<_>>(), expected);
            for n in 0..60 {
                let expected = counts.iter().flat_map(|number| {
                    let digest = pack(*number, 3, 4).digest.hex();
                    let records = packs[number].iter().filter(|record| record.0 == chunk(n));
                    records.map(move |(_, frame, n)| (digest.clone(), Member { run: RunId(*number), frame: *frame, n: *n }))
                });
                prop_assert_eq!(places(&index, &chunk(n)), expected.collect::<BTreeSet<_>>());
            }
            prop_assert!(index.trouble().is_none());
        }
    }
}

/// What many cost: `CHUNKS=10000000 cargo test --release -p archive --lib -- --nocapture many_chunks`, which takes 700 MB of disk.
#[test]
fn many_chunks() {
    use std::time::Instant;
    let count: u64 = std::env::var("CHUNKS").map_or(100_000, |count| count.parse().unwrap());
    let asked = count.min(1_000_000);
    let per_pack = 5000;
    let setup = Setup::new();
    let id_of = |n: u64| ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes());
    let memory = |what: &str| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let of = |key: &str| status.lines().find(|line| line.starts_with(key)).unwrap().split_whitespace().nth(1).unwrap().to_owned();
        println!("  {what}: {} kB now, {} kB at most", of("VmRSS"), of("VmHWM"));
    };
    let began = Instant::now();
    let index = setup.load();
    for number in 0..count / per_pack {
        let records: Vec<Record> =
            (number * per_pack..(number + 1) * per_pack).map(|n| (id_of(n), (n % 128) as u32, (n % 4000) as u32)).collect();
        index.note(&id(1), &pack(number, 0, 128), &records).unwrap();
    }
    drop(index);
    println!("{count} chunks noted in {:.1?}", began.elapsed());
    memory("noting");
    let began = Instant::now();
    Index::acknowledge(setup.folder(), &id(1)).unwrap();
    println!(
        "acknowledged and folded in {:.1?}; the tables have {} bytes",
        began.elapsed(),
        setup.tables().iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>()
    );
    memory("folding");
    let began = Instant::now();
    let index = setup.load();
    println!("opened in {:.1?}", began.elapsed());
    memory("opened");
    for (what, first) in [("found", 0), ("not found", count)] {
        let began = Instant::now();
        let found = (0..asked).filter(|n| index.find(&id_of(first + n * 7919 % count)).is_some()).count() as u64;
        println!("{asked} {what} in {:.1?}", began.elapsed());
        assert_eq!(found, if first == 0 { asked } else { 0 });
        memory("asked");
    }
    // And what a night adds.
    for number in 0..20 {
        let records: Vec<Record> = (0..per_pack).map(|n| (id_of((1 << 40) + number * per_pack + n), 0, (n % 4000) as u32)).collect();
        index.note(&id(2), &pack((1 << 40) + number, 0, 128), &records).unwrap();
    }
    drop(index);
    let began = Instant::now();
    Index::acknowledge(setup.folder(), &id(2)).unwrap();
    println!("100,000 more acknowledged and folded in {:.1?}, {} tables", began.elapsed(), setup.tables().len());
    let began = Instant::now();
    let index = setup.load();
    println!("opened in {:.1?}, {} chunks of it from record files", began.elapsed(), index.recent.len());
}
