//! The client's index for deduplication: which chunk is where, of packs that one node has acknowledged in one epoch.
//!
//! Knows nothing of receipts: callers say which request was stored. A lost or damaged index costs sending again, never data.
//!
//! `<folder>/<first 16 hex of BLAKE3(epoch recipient)>/<pack hex>` are acknowledged, `<folder>/pending/<request
//! id>/<pack hex>` not yet. A file is one line of JSON ([`Header`]) and, for each chunk of the pack, 40 bytes: id (32),
//! frame (u32 LE), number in the frame (u32 LE).

use crate::epoch::ChunkId;
use crate::limits;
use crate::reference::{Member, RunId};
use base::{At, Blake3, Error, RequestId, Result, atomic};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{BufRead, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files of version 1 did not tell how many bytes a pack's chunks have.
const VERSION: u64 = 2;
/// What one chunk takes in a file.
const RECORD: usize = 40;
/// The longest header.
const HEADER: u64 = 4096;
/// The name of the folder of what is not acknowledged.
const PENDING: &str = "pending";
/// The name of the folder of what was in packs that the node has lost.
const LOST: &str = "lost";

/// What is known of a pack without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackInfo {
    /// The pack's name.
    pub digest: Blake3,
    /// Its size in bytes.
    pub size: u64,
    /// The run that wrote it.
    pub run: RunId,
    /// Its first frame's number in the run.
    pub first: u32,
    /// How many frames it has.
    pub frames: u32,
    /// The digest of its frame table.
    pub table: Blake3,
    /// The bytes of its chunks.
    pub plain: u64,
}

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u64,
    epoch: String,
    pack: Blake3,
    size: u64,
    run: RunId,
    first: u32,
    frames: u32,
    table: Blake3,
    plain: u64,
}

/// A lost pack: the recipient that it was sealed to, what it was, and its chunks by the half of their ids, frame and number.
pub(crate) type LostPack = (String, PackInfo, Vec<([u8; 16], u32, u32)>);

/// A chunk of a pack: its id, its frame, its number in the frame.
pub type Record = (ChunkId, u32, u32);

/// Half of a chunk's id is looked up: 128 bits of a keyed hash do not meet by chance, and memory is what an index costs.
type Key = [u8; 16];

fn key(id: &ChunkId) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&id.0[..16]);
    key
}

/// The acknowledged chunks of one node and epoch, in memory: 28 bytes each.
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    recipient: String,
    packs: Vec<PackInfo>,
    /// Sorted: run, first frame, pack.
    spans: Vec<(RunId, u32, usize)>,
    /// Sorted by key: key, pack, frame, n.
    places: Vec<(Key, u32, u32, u32)>,
}

impl Index {
    /// Reads the acknowledged packs of the epoch with this recipient; `folder` is that of one node, and may be absent.
    /// A file that is damaged counts as absent.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn load(folder: &Path, recipient: &str) -> Result<Self> {
        let mut index =
            Self { folder: folder.to_owned(), recipient: recipient.to_owned(), packs: Vec::new(), spans: Vec::new(), places: Vec::new() };
        for path in files(&folder.join(epoch_name(recipient)))? {
            match read(&path) {
                Ok((header, records)) if header.epoch == recipient => {
                    let pack = u32::try_from(index.packs.len()).map_err(|_| Error::failed("the index has too many packs"))?;
                    index.packs.push(header.info());
                    index.places.extend(records.iter().map(|(id, frame, n)| (key(id), pack, *frame, *n)));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!("left out of the index: {}", error.one_line()),
            }
        }
        index.places.sort_unstable();
        // The same chunk in two packs: the first of them is used by every snapshot.
        index.places.dedup_by(|later, kept| later.0 == kept.0);
        index.places.shrink_to_fit();
        index.spans = index.packs.iter().enumerate().map(|(number, pack)| (pack.run, pack.first, number)).collect();
        index.spans.sort_unstable();
        Ok(index)
    }

    /// Where this chunk is: the pack's number in [`Index::packs`], and the place.
    pub fn find(&self, id: &ChunkId) -> Option<(usize, Member)> {
        let found = self.places.binary_search_by(|place| place.0.cmp(&key(id))).ok()?;
        let (_, pack, frame, n) = self.places[found];
        let pack = pack as usize;
        Some((pack, Member { run: self.packs[pack].run, frame, n }))
    }

    /// Which pack of [`Index::packs`] has this frame.
    pub fn pack_of(&self, run: RunId, frame: u32) -> Option<usize> {
        let after = self.spans.partition_point(|span| (span.0, span.1) <= (run, frame));
        let (found, _, number) = *self.spans.get(after.checked_sub(1)?)?;
        let pack = &self.packs[number];
        (found == run && frame - pack.first < pack.frames).then_some(number)
    }

    /// The acknowledged packs.
    pub fn packs(&self) -> &[PackInfo] {
        &self.packs
    }

    /// How many chunks are known.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Where the index of this node is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Notes a pack that was written for a request, until the request's receipt comes.
    pub(crate) fn note(&self, id: &RequestId, info: &PackInfo, records: &[Record]) -> Result<()> {
        let folder = self.folder.join(PENDING).join(id.as_str());
        atomic::make_folder(&folder, 0o700)?;
        let header = Header {
            version: VERSION,
            epoch: self.recipient.clone(),
            pack: info.digest,
            size: info.size,
            run: info.run,
            first: info.first,
            frames: info.frames,
            table: info.table,
            plain: info.plain,
        };
        let mut bytes = serde_json::to_vec(&header).map_err(|e| Error::failed("could not write the index").because(e))?;
        bytes.push(b'\n');
        bytes.reserve(records.len() * RECORD);
        for (chunk, frame, n) in records {
            bytes.extend_from_slice(&chunk.0);
            bytes.extend_from_slice(&frame.to_le_bytes());
            bytes.extend_from_slice(&n.to_le_bytes());
        }
        atomic::write(&folder.join(info.digest.hex()), &bytes, 0o600)
    }

    /// The node has stored request `id`: its packs are deduplicated against from now on. Done twice it does nothing.
    ///
    /// # Errors
    /// With the path; then it can be done again.
    pub fn acknowledge(folder: &Path, id: &RequestId) -> Result<()> {
        let pending = folder.join(PENDING).join(id.as_str());
        for path in files(&pending)? {
            let header = match read(&path) {
                Ok((header, _)) => header,
                Err(error) => {
                    tracing::warn!("left out of the index: {}", error.one_line());
                    continue;
                }
            };
            let to = folder.join(epoch_name(&header.epoch));
            atomic::make_folder(&to, 0o700)?;
            atomic::rename(&path, &to.join(header.pack.hex()))?;
        }
        atomic::remove_tree(&pending)
    }

    /// Request `id` came to nothing: its packs are not remembered.
    ///
    /// # Errors
    /// With the path.
    pub fn discard(folder: &Path, id: &RequestId) -> Result<()> {
        atomic::remove_tree(&folder.join(PENDING).join(id.as_str()))
    }

    /// Packs that were noted for request `id` go with its part `part`: the answer to that one settles them too.
    pub(crate) fn set_apart(folder: &Path, id: &RequestId, part: &RequestId, packs: &[PackInfo]) -> Result<()> {
        let pending = folder.join(PENDING);
        let to = pending.join(part.as_str());
        atomic::make_folder(&to, 0o700)?;
        for pack in packs {
            let (from, to) = (pending.join(id.as_str()).join(pack.digest.hex()), to.join(pack.digest.hex()));
            match fs::hard_link(&from, &to) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                other => other.at("link to", &to)?,
            }
        }
        atomic::sync_folder(&to)
    }

    /// The packs that are noted for a request, or a part, that is not settled.
    ///
    /// # Errors
    /// With the path.
    pub fn pending(folder: &Path, id: &RequestId) -> Result<Vec<Blake3>> {
        let names = files(&folder.join(PENDING).join(id.as_str()))?;
        Ok(names.iter().filter_map(|path| path.file_name()?.to_str().and_then(Blake3::from_hex)).collect())
    }

    /// The parts of the request `id` for which packs are noted.
    ///
    /// # Errors
    /// With the path.
    pub fn pending_parts(folder: &Path, id: &RequestId) -> Result<Vec<RequestId>> {
        let names = names(&folder.join(PENDING))?;
        let ids = names.iter().filter_map(|path| path.file_name()?.to_str()?.parse::<RequestId>().ok());
        Ok(ids.filter(|part| part.part().is_some() && part.whole() == *id).collect())
    }

    /// The node has lost these packs: what is in them will be sent again, and what they held is remembered for [`Index::lost`].
    /// Gives how many of them were known here.
    ///
    /// # Errors
    /// With the path.
    pub fn lose_packs(folder: &Path, packs: &[Blake3]) -> Result<usize> {
        let lost = folder.join(LOST);
        let mut known = 0;
        for epoch in names(folder)?.into_iter().filter(|epoch| !epoch.ends_with(PENDING) && !epoch.ends_with(LOST)) {
            for pack in packs {
                let from = epoch.join(pack.hex());
                if from.exists() {
                    atomic::make_folder(&lost, 0o700)?;
                    atomic::rename(&from, &lost.join(pack.hex()))?;
                    known += 1;
                }
            }
        }
        Ok(known)
    }

    /// What the packs held that were lost at the node, `most` of them: the recipient that each was sealed to, the pack, and its
    /// chunks. One that cannot be read is passed over.
    pub(crate) fn lost(folder: &Path, most: usize) -> Result<Vec<LostPack>> {
        let mut packs = Vec::new();
        for path in files(&folder.join(LOST))?.into_iter().take(most) {
            match read(&path) {
                Ok((header, records)) => {
                    let chunks = records.iter().map(|(id, frame, n)| (key(id), *frame, *n)).collect();
                    packs.push((header.epoch.clone(), header.info(), chunks));
                }
                Err(error) => tracing::warn!("what was in a lost pack is not known: {}", error.one_line()),
            }
        }
        Ok(packs)
    }

    /// Forgets what was in packs that were lost longer than `age` ago.
    ///
    /// # Errors
    /// With the path.
    pub fn sweep_lost(folder: &Path, age: std::time::Duration) -> Result<()> {
        for path in files(&folder.join(LOST))? {
            // A rename changes this time, and not that of the content.
            let changed = path.metadata().at("look at", &path)?.ctime();
            let passed = base::clock::now().as_second().saturating_sub(changed);
            if u64::try_from(passed).is_ok_and(|passed| passed > age.as_secs()) {
                atomic::remove(&path)?;
            }
        }
        Ok(())
    }

    /// The node lacks these packs: what is in them will be sent again.
    ///
    /// # Errors
    /// With the path.
    pub fn forget_packs(folder: &Path, packs: &[Blake3]) -> Result<()> {
        for epoch in names(folder)?.into_iter().filter(|epoch| !epoch.ends_with(PENDING)) {
            for pack in packs {
                atomic::remove(&epoch.join(pack.hex()))?;
            }
        }
        Ok(())
    }
}

impl Header {
    fn info(&self) -> PackInfo {
        PackInfo {
            digest: self.pack,
            size: self.size,
            run: self.run,
            first: self.first,
            frames: self.frames,
            table: self.table,
            plain: self.plain,
        }
    }
}

fn epoch_name(recipient: &str) -> String {
    Blake3::of(recipient.as_bytes()).hex()[..16].to_owned()
}

/// The paths in a folder, sorted; none when there is no such folder.
fn names(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("list", folder)?,
    };
    let mut names = listing.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>().at("list", folder)?;
    names.sort();
    Ok(names)
}

/// As [`names`], of finished files alone.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let finished = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| Blake3::from_hex(name).is_some());
    Ok(names(folder)?.into_iter().filter(finished).collect())
}

fn read(path: &Path) -> Result<(Header, Vec<Record>)> {
    // Not that of files from strangers, which refuses what has two names: packs of a part have them.
    let file = fs::File::open(path).at("open", path)?;
    let mut file = std::io::BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    file.by_ref().take(HEADER).read_until(b'\n', &mut line).at("read", path)?;
    let wrong = |why: &str| Error::failed(format!("{} is no file of the index: {why}", path.display()));
    let header: Header = serde_json::from_slice(&line).map_err(|e| wrong("its first line cannot be read").because(e))?;
    let end = header.first.checked_add(header.frames).ok_or_else(|| wrong("its frames cannot be"))?;
    if header.version != VERSION
        || path.file_name().and_then(|n| n.to_str()) != Some(&header.pack.hex())
        || header.frames as usize > limits::TABLE
    {
        return Err(wrong("it is of another version, or of another pack"));
    }
    let mut records = Vec::new();
    let mut record = [0; RECORD];
    while !file.fill_buf().at("read", path)?.is_empty() {
        file.read_exact(&mut record).at("read", path)?;
        let number = |at: usize| record[at..at + 4].iter().rev().fold(0u32, |n, b| n << 8 | u32::from(*b));
        let mut id = [0; 32];
        id.copy_from_slice(&record[..32]);
        let (frame, n) = (number(32), number(36));
        if !(header.first..end).contains(&frame) {
            return Err(wrong("it names a frame that is not in the pack"));
        }
        records.push((ChunkId(id), frame, n));
    }
    Ok((header, records))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn info(tag: u8) -> PackInfo {
        PackInfo {
            digest: Blake3([tag; 32]),
            size: 65_536,
            run: RunId(u64::from(tag)),
            first: 10,
            frames: 5,
            table: Blake3([!tag; 32]),
            plain: 1000,
        }
    }

    fn chunk(n: u8) -> ChunkId {
        ChunkId(*blake3::hash(&[n]).as_bytes())
    }

    #[test]
    fn only_what_is_acknowledged_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("node1");
        let load = || Index::load(&folder, "age1x").unwrap();
        let (one, two): (RequestId, RequestId) =
            ("20261120T031500Z-3f9a1c7e".parse().unwrap(), "20261120T031500Z-3f9a1c7f".parse().unwrap());
        load().note(&one, &info(1), &[(chunk(1), 10, 0), (chunk(2), 14, 7)]).unwrap();
        load().note(&two, &info(2), &[(chunk(3), 10, 0)]).unwrap();
        assert!(load().is_empty());
        Index::acknowledge(&folder, &one).unwrap();
        Index::acknowledge(&folder, &one).unwrap();
        Index::discard(&folder, &two).unwrap();
        Index::discard(&folder, &two).unwrap();
        Index::acknowledge(&folder, &two).unwrap();
        let index = load();
        assert_eq!(index.packs(), [info(1)]);
        assert_eq!(index.find(&chunk(2)), Some((0, Member { run: RunId(1), frame: 14, n: 7 })));
        assert_eq!(index.find(&chunk(3)), None);
        let at = |run, frame| index.pack_of(RunId(run), frame);
        assert_eq!([at(1, 9), at(1, 10), at(1, 14), at(1, 15), at(0, 10), at(2, 10)], [None, Some(0), Some(0), None, None, None]);
        assert!(Index::load(&folder, "age1y").unwrap().is_empty());
        Index::forget_packs(&folder, &[Blake3([9; 32]), Blake3([1; 32])]).unwrap();
        assert!(load().is_empty());
    }

    #[test]
    fn damaged_files_count_as_absent() {
        let dir = tempfile::tempdir().unwrap();
        let id: RequestId = "20261120T031500Z-3f9a1c7e".parse().unwrap();
        let empty = Index::load(dir.path(), "age1x").unwrap();
        empty.note(&id, &info(1), &[(chunk(1), 10, 0)]).unwrap();
        Index::acknowledge(dir.path(), &id).unwrap();
        let path = dir.path().join(epoch_name("age1x")).join(info(1).digest.hex());
        let good = fs::read(&path).unwrap();
        let mut frame = good.clone();
        let last = frame.len() - 8;
        frame[last] = 200;
        for bad in [
            vec![],
            b"{}\n".to_vec(),
            good[..good.len() - 1].to_vec(),
            [&good[..], b"x"].concat(),
            frame,
            b"\n".repeat(10_000),
            good.replace_first(b"\"version\":2", b"\"version\":1"),
        ] {
            fs::write(&path, &bad).unwrap();
            assert!(Index::load(dir.path(), "age1x").unwrap().packs().is_empty());
        }
        fs::write(&path, &good).unwrap();
        assert_eq!(Index::load(dir.path(), "age1x").unwrap().len(), 1);
        fs::rename(&path, path.with_file_name(Blake3([3; 32]).hex())).unwrap();
        assert!(Index::load(dir.path(), "age1x").unwrap().is_empty());
    }

    trait ReplaceFirst {
        fn replace_first(&self, from: &[u8], to: &[u8]) -> Vec<u8>;
    }

    impl ReplaceFirst for Vec<u8> {
        fn replace_first(&self, from: &[u8], to: &[u8]) -> Vec<u8> {
            let at = self.windows(from.len()).position(|window| window == from).unwrap();
            [&self[..at], to, &self[at + from.len()..]].concat()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn records_survive(records in prop::collection::vec((any::<[u8; 32]>(), 10u32..15, any::<u32>()), 0..50)) {
            let dir = tempfile::tempdir().unwrap();
            let id: RequestId = "20261120T031500Z-3f9a1c7e".parse().unwrap();
            let records: Vec<Record> = records.into_iter().map(|(id, frame, n)| (ChunkId(id), frame, n)).collect();
            Index::load(dir.path(), "age1x").unwrap().note(&id, &info(1), &records).unwrap();
            Index::acknowledge(dir.path(), &id).unwrap();
            let index = Index::load(dir.path(), "age1x").unwrap();
            for (id, frame, n) in records {
                prop_assert_eq!(index.find(&id), Some((0, Member { run: RunId(1), frame, n })));
            }
        }
    }
}
