//! Packs of a client that lies: it has the keys, so that everything behind the encryption is its own choice.

use archive::PackSource;
use archive::epoch::{Epoch, IdentityFile, Secrets};
use archive::frame::named_members;
use archive::manifest::{Counts, Manifest, PackRef, Public, Root, Sealed, SealedPack, SealedRef};
use archive::pack::{FrameTable, TAIL, find_table};
use archive::reference::{Member, RunId};
use archive::snapshot::SnapshotReader;
use base::{Blake3, ReadAt, RequestId, Result};
use std::collections::HashMap;
use std::io::{Error, Write};
use std::sync::{Arc, OnceLock};

/// How many entries are looked at.
const ENTRIES: usize = 200;
/// Of how many of them the content is read: each time threads are started, which takes longer than all the rest.
const FILES: usize = 4;
/// How much is taken of one file: a hole may be of any size.
const CONTENT: usize = 4 << 20;

/// The keys of the client, and of whoever reads.
pub(crate) struct Hostile {
    pub(crate) epoch: Epoch,
    pub(crate) identities: IdentityFile,
}

impl Hostile {
    pub(crate) fn get() -> &'static Self {
        static HOSTILE: OnceLock<Hostile> = OnceLock::new();
        HOSTILE.get_or_init(|| {
            use archive::epoch::secrecy::ExposeSecret;
            let key = age::x25519::Identity::generate();
            let folder = tempfile::tempdir().expect("a folder");
            let recipients = [key.to_public().to_string()];
            let epoch = Epoch::current(&folder.path().join("epoch.toml"), &recipients, jiff::Timestamp::UNIX_EPOCH).expect("an epoch");
            let identities = IdentityFile::parse(key.to_string().expose_secret().as_bytes()).expect("an identity");
            Self { epoch, identities }
        })
    }

    fn encrypt(&self, plain: &[u8]) -> Vec<u8> {
        let recipient: &dyn age::Recipient = self.epoch.recipient();
        let mut bytes = Vec::new();
        let mut writer =
            age::Encryptor::with_recipients(std::iter::once(recipient)).expect("a recipient").wrap_output(&mut bytes).expect("memory");
        writer.write_all(plain).and_then(|()| writer.finish().map(drop)).expect("memory");
        bytes
    }
}

/// Packs in memory.
#[derive(Default)]
pub(crate) struct Packs(HashMap<Blake3, Arc<Vec<u8>>>);

struct Memory(Arc<Vec<u8>>);

impl ReadAt for Memory {
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

impl PackSource for Packs {
    fn pack(&self, digest: &Blake3) -> Result<Box<dyn ReadAt>> {
        let pack = self.0.get(digest).ok_or_else(|| base::Error::failed("there is no such pack"))?;
        Ok(Box::new(Memory(Arc::clone(pack))))
    }
}

/// Takes no more than so much.
struct Bounded(usize);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| Error::other("enough"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A pack, and a snapshot whose catalog begins at its first chunk. The first byte says what the rest is, the second at which
/// level the catalog begins:
///
/// - 0: the pack's plaintext, as it is;
/// - 1: frames, each behind its length in two bytes; they are compressed and put into a right pack;
/// - 2: the length of one frame in three bytes, and how it is compressed;
/// - 3: the pack file, as it is.
///
/// All of it is read: every entry, and the content of the first files.
pub fn pack(bytes: &[u8]) {
    let &[kind, level, ref rest @ ..] = bytes else { return };
    let hostile = Hostile::get();
    let mut first = Vec::new();
    let (file, frames, table) = match kind % 4 {
        0 => {
            let table = table_of(rest);
            (hostile.encrypt(rest), table.frames().len(), table.digest())
        }
        1 => {
            let frames = cut(rest);
            first = frames
                .first()
                .and_then(|frame| named_members(frame).ok().map(|members| frame[members[0].1.clone()].to_vec()))
                .unwrap_or_default();
            let Some((plain, table)) = put_together(&frames) else { return };
            (hostile.encrypt(&plain), frames.len(), table.digest())
        }
        2 => {
            let Some((length, compressed)) = rest.split_first_chunk::<3>() else { return };
            let mut table = FrameTable::default();
            if table.push(compressed, u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize).is_err() {
                return;
            }
            (hostile.encrypt(&[compressed, &table.trailer()].concat()), 1, table.digest())
        }
        _ => (rest.to_vec(), 1, Blake3::of(b"")),
    };
    read(hostile, file, u32::try_from(frames).unwrap_or(u32::MAX), table, &first, level);
}

/// The frames in what was read.
fn cut(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (frame, after) = after.split_at(usize::from(u16::from_be_bytes(*length)).min(after.len()));
        frames.push(frame);
        rest = after;
    }
    frames
}

fn put_together(frames: &[&[u8]]) -> Option<(Vec<u8>, FrameTable)> {
    let (mut plain, mut table) = (Vec::new(), FrameTable::default());
    for frame in frames {
        let compressed = zstd::bulk::compress(frame, 1).ok()?;
        table.push(&compressed, frame.len()).ok()?;
        plain.extend(compressed);
    }
    plain.extend(table.trailer());
    assert!(table_of(&plain) == table, "a table survives its pack");
    Some((plain, table))
}

/// The table that this plaintext would have.
fn table_of(plain: &[u8]) -> FrameTable {
    let found = plain.last_chunk::<TAIL>().and_then(|tail| find_table(tail, plain.len() as u64).ok());
    let place = found.and_then(|place| Some(usize::try_from(place.start).ok()?..usize::try_from(place.end).ok()?));
    place.and_then(|place| FrameTable::parse(&plain[place]).ok()).unwrap_or_default()
}

/// Reads the snapshot that this pack is all of.
fn read(hostile: &Hostile, file: Vec<u8>, frames: u32, table: Blake3, first: &[u8], level: u8) {
    let (secret, run) = (Secrets::from_bytes([7; 32]), RunId(0));
    let name = PackRef { digest: Blake3::of(&file), size: file.len() as u64 };
    let id: RequestId = "20261120T031500Z-3f9a1c7e".parse().expect("an id");
    let dataset: base::Dataset = "files:/var/www".parse().expect("a dataset");
    let public = Public {
        version: 1,
        id: id.clone(),
        part: None,
        client: "web1".parse().expect("a name"),
        node: "node1".parse().expect("a name"),
        dataset: dataset.clone(),
        epoch: hostile.epoch.public().clone(),
        packs: vec![name],
        repairs: None,
        counts: Counts::default(),
        sealed: SealedRef { digest: table, size: 0 },
    };
    let root = Root { at: Member { run, frame: 0, n: 0 }, id: secret.chunk_id(first), level };
    let packs = vec![SealedPack { run, first: 0, frames, table }];
    let time = jiff::Timestamp::UNIX_EPOCH;
    let sealed =
        Sealed { version: 1, id, dataset, secret, root, packs, unreadable: vec![], skipped: vec![], tags: vec![], stream: false, time };
    let Ok(manifest) = Manifest::seal(public, &sealed, hostile.epoch.recipient()) else { return };
    let packs = Packs(HashMap::from([(name.digest, Arc::new(file))]));
    let Ok(reader) = SnapshotReader::open(manifest, &hostile.identities, Arc::new(packs)) else { return };
    let (mut last, mut files): (Option<Vec<u8>>, usize) = (None, 0);
    for entry in reader.entries().take(ENTRIES).flatten() {
        assert!(last.is_none_or(|last| last < entry.path), "entries come in order");
        let _ = reader.check_lists(&entry);
        if let archive::entry::EntryKind::File { size, .. } = entry.kind
            && files < FILES
        {
            files += 1;
            let mut taken = Bounded(CONTENT);
            if reader.read_file(&entry, &mut taken).is_ok() {
                assert_eq!((CONTENT - taken.0) as u64, size, "a file has the size that its entry says");
            }
        }
        last = Some(entry.path);
    }
}
