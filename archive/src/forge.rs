//! Snapshots made by hand for tests: also such as no honest client makes.
//!
//! Independent of the writing half, but for the codecs of frames, tables, lines and manifests.

use crate::PackSource;
use crate::catalog::Child;
use crate::entry::{Content, Entry, EntryKind, FileDigest, Mtime};
use crate::epoch::{Epoch, IdentityFile, Secrets, encrypt};
use crate::manifest::{Counts, Manifest, PackRef, Public, Root, Sealed, SealedPack, SealedRef};
use crate::pack::FrameTable;
use crate::reference::{Member, References, RunId};
use crate::snapshot::SnapshotReader;
use age::secrecy::ExposeSecret;
use base::{Blake3, Claim, Payload, Proof, ReadAt, Reason, RequestId, Result, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Packs in memory, which can be damaged, and counts of what was read of them.
#[derive(Default)]
pub(crate) struct Packs {
    pub(crate) packs: Mutex<HashMap<Blake3, Vec<u8>>>,
    pub(crate) reads: Arc<Mutex<Vec<(Blake3, u64, usize)>>>,
    /// What is in them.
    pub(crate) plain: Mutex<HashMap<Blake3, Vec<u8>>>,
    /// What is offered for packs that are lost.
    pub(crate) repairs: Mutex<Vec<Public>>,
}

struct Memory {
    name: Blake3,
    bytes: Vec<u8>,
    reads: Arc<Mutex<Vec<(Blake3, u64, usize)>>>,
}

impl ReadAt for Memory {
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = self.bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        self.reads.lock().unwrap().push((self.name, offset, n));
        Ok(n)
    }
}

impl PackSource for Packs {
    fn pack(&self, digest: &Blake3) -> Result<Box<dyn ReadAt>> {
        let packs = self.packs.lock().unwrap();
        let bytes = packs.get(digest).ok_or_else(|| base::Error::failed(format!("pack {digest} is not in the store")))?.clone();
        Ok(Box::new(Memory { name: *digest, bytes, reads: self.reads.clone() }))
    }

    fn repairs(&self) -> Result<Vec<Public>> {
        Ok(self.repairs.lock().unwrap().clone())
    }
}

/// A snapshot being made.
pub(crate) struct Forge {
    pub(crate) secrets: Secrets,
    pub(crate) identities: IdentityFile,
    pub(crate) epoch: Epoch,
    pub(crate) packs: Arc<Packs>,
    /// Bytes of a frame at which it is closed.
    pub(crate) frame_size: usize,
    /// Frames in a pack.
    pub(crate) pack_frames: usize,
    /// Lines in a segment.
    pub(crate) segment_lines: usize,
    pub(crate) refs: Vec<PackRef>,
    pub(crate) sealed: Vec<SealedPack>,
    /// What the manifest says that it repairs.
    pub(crate) repairs: Option<crate::manifest::Repairs>,
    data: Run,
    catalog: Run,
}

struct Run {
    run: RunId,
    first: u32,
    frames: Vec<Vec<u8>>,
    frame: Vec<u8>,
    n: u32,
}

impl Run {
    fn new(run: u64) -> Self {
        Self { run: RunId(run), first: 0, frames: Vec::new(), frame: Vec::new(), n: 0 }
    }

    fn number(&self) -> u32 {
        self.first + u32::try_from(self.frames.len()).unwrap()
    }

    fn close_frame(&mut self) {
        if !self.frame.is_empty() {
            self.frames.push(std::mem::take(&mut self.frame));
            self.n = 0;
        }
    }
}

pub(crate) const ID: &str = "20261120T031500Z-3f9a1c7e";

impl Forge {
    pub(crate) fn new() -> Self {
        let key = age::x25519::Identity::generate();
        let dir = tempfile::tempdir().unwrap();
        let epoch = Epoch::current(&dir.path().join("epoch.toml"), &[key.to_public().to_string()], "2026-11-20T00:00:00Z".parse().unwrap())
            .unwrap();
        Self {
            secrets: Secrets::from_bytes([7; 32]),
            identities: IdentityFile::parse(key.to_string().expose_secret().as_bytes()).unwrap(),
            epoch,
            packs: Arc::default(),
            frame_size: 4096,
            pack_frames: 4,
            segment_lines: 5,
            refs: Vec::new(),
            sealed: Vec::new(),
            repairs: None,
            data: Run::new(0xda7a),
            catalog: Run::new(0xca7a),
        }
    }

    /// Stores a chunk among the data.
    pub(crate) fn chunk(&mut self, bytes: &[u8]) -> Member {
        self.put(false, bytes)
    }

    fn put(&mut self, catalog: bool, bytes: &[u8]) -> Member {
        let run = if catalog { &mut self.catalog } else { &mut self.data };
        let at = Member { run: run.run, frame: run.number(), n: run.n };
        crate::frame::append(&mut run.frame, at, bytes).unwrap();
        run.n += 1;
        if run.frame.len() >= self.frame_size {
            run.close_frame();
        }
        if run.frames.len() >= self.pack_frames {
            self.close_pack(catalog);
        }
        at
    }

    pub(crate) fn close_pack(&mut self, catalog: bool) {
        let run = if catalog { &mut self.catalog } else { &mut self.data };
        run.close_frame();
        let frames = std::mem::take(&mut run.frames);
        if frames.is_empty() {
            return;
        }
        let (id, first) = (run.run, run.first);
        run.first += u32::try_from(frames.len()).unwrap();
        let compressed: Vec<(Vec<u8>, usize)> = frames.iter().map(|frame| (zstd::bulk::compress(frame, 3).unwrap(), frame.len())).collect();
        self.add_pack(id, first, &compressed);
    }

    /// Puts a pack together from compressed frames, whatever they hold.
    pub(crate) fn add_pack(&mut self, run: RunId, first: u32, compressed: &[(Vec<u8>, usize)]) {
        let mut table = FrameTable::default();
        for (frame, plain) in compressed {
            table.push(frame, *plain).unwrap();
        }
        let mut plain: Vec<u8> = compressed.iter().flat_map(|(frame, _)| frame.clone()).collect();
        plain.extend(table.trailer());
        let frames = u32::try_from(compressed.len()).unwrap();
        self.add_plain(&plain, SealedPack { run, first, frames, table: table.digest() });
    }

    /// Encrypts and adds a pack of any content.
    pub(crate) fn add_plain(&mut self, plain: &[u8], sealed: SealedPack) {
        let bytes = encrypt(std::iter::once(self.epoch.recipient() as &dyn age::Recipient), plain).unwrap();
        self.refs.push(PackRef { digest: Blake3::of(&bytes), size: bytes.len() as u64 });
        self.packs.plain.lock().unwrap().insert(Blake3::of(&bytes), plain.to_vec());
        self.packs.packs.lock().unwrap().insert(Blake3::of(&bytes), bytes);
        self.sealed.push(sealed);
    }

    /// A file of these chunks, each stored.
    pub(crate) fn file(&mut self, path: &str, chunks: &[&[u8]]) -> Entry {
        let members: Vec<Member> = chunks.iter().map(|chunk| self.chunk(chunk)).collect();
        self.file_at(path, References::of(members), &chunks.concat())
    }

    /// A file whose content is said to be at these places.
    pub(crate) fn file_at(&self, path: &str, list: References, content: &[u8]) -> Entry {
        let digest = FileDigest::of(&self.secrets.chunk_id(content).0);
        entry(path, EntryKind::File { size: content.len() as u64, content: Content::Chunks(list), digest, sparse: None })
    }

    /// Sorts the entries and finishes.
    pub(crate) fn finish(mut self, mut entries: Vec<Entry>) -> Forged {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let bytes = entries.iter().map(|entry| if let EntryKind::File { size, .. } = entry.kind { size } else { 0 }).sum();
        let lines: Vec<(Vec<u8>, String)> = entries.iter().map(|entry| (entry.path.clone(), entry.to_line().unwrap())).collect();
        let root = self.catalog(lines);
        let entries = entries.len() as u64;
        self.finish_with(root, Counts { entries, files: 0, bytes, unreadable: 0 })
    }

    /// Stores lines as they are, as a catalog.
    pub(crate) fn catalog(&mut self, mut lines: Vec<(Vec<u8>, String)>) -> Root {
        for level in 0.. {
            let mut above = Vec::new();
            let mut root = None;
            for segment in lines.chunks(self.segment_lines) {
                let text: String = segment.iter().map(|(_, line)| format!("{line}\n")).collect();
                let (at, id) = self.segment(text.as_bytes());
                let child = Child { first: segment[0].0.clone(), at, id };
                above.push((child.first.clone(), child.to_line().unwrap()));
                root = Some(Root { at, id, level });
            }
            if above.len() == 1 {
                return root.unwrap();
            }
            lines = above;
        }
        unreachable!()
    }

    /// Stores one segment.
    pub(crate) fn segment(&mut self, bytes: &[u8]) -> (Member, crate::epoch::ChunkId) {
        (self.put(true, bytes), self.secrets.chunk_id(bytes))
    }

    pub(crate) fn finish_with(mut self, root: Root, counts: Counts) -> Forged {
        self.close_pack(false);
        self.close_pack(true);
        let id: RequestId = ID.parse().unwrap();
        let dataset: base::Dataset = "files:/var/www".parse().unwrap();
        let public = Public {
            version: 1,
            id: id.clone(),
            part: None,
            client: "web1".parse().unwrap(),
            node: "node1".parse().unwrap(),
            dataset: dataset.clone(),
            epoch: self.epoch.public().clone(),
            packs: self.refs.clone(),
            repairs: self.repairs,
            counts,
            sealed: SealedRef { digest: Blake3::of(b""), size: 0 },
        };
        let sealed = Sealed {
            version: 1,
            id,
            dataset,
            secret: self.secrets.clone(),
            root,
            packs: self.sealed.clone(),
            unreadable: Vec::new(),
            skipped: Vec::new(),
            tags: Vec::new(),
            stream: false,
            time: "2026-11-20T03:15:00Z".parse().unwrap(),
        };
        let manifest = Manifest::seal(public, &sealed, self.epoch.recipient()).unwrap();
        Forged { manifest, packs: self.packs, identities: self.identities, epoch: self.epoch }
    }
}

/// A finished one.
pub(crate) struct Forged {
    pub(crate) manifest: Manifest,
    pub(crate) packs: Arc<Packs>,
    pub(crate) identities: IdentityFile,
    epoch: Epoch,
}

impl Forged {
    pub(crate) fn reader(&self) -> SnapshotReader {
        SnapshotReader::open(self.manifest.clone(), &self.identities, self.packs.clone()).unwrap()
    }

    /// The names of the packs in the manifest's order: data first, then the catalog's.
    pub(crate) fn names(&self) -> Vec<Blake3> {
        self.manifest.public.packs.iter().map(|pack| pack.digest).collect()
    }

    /// Changes what is in a pack, as whoever knows the recipients can: encrypted to the epoch, and of the same size.
    pub(crate) fn forge(&self, name: &Blake3, change: impl FnOnce(&mut Vec<u8>)) {
        let mut plain = self.packs.plain.lock().unwrap()[name].clone();
        change(&mut plain);
        let size = self.packs.packs.lock().unwrap()[name].len();
        // The heads of age's files are of several lengths.
        let made = || encrypt(std::iter::once(self.epoch.recipient() as &dyn age::Recipient), &plain).unwrap();
        let bytes = std::iter::repeat_with(made).find(|bytes| bytes.len() == size).unwrap();
        self.damage(name, |old| *old = bytes);
    }

    /// Changes a pack's bytes.
    pub(crate) fn damage(&self, name: &Blake3, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.packs.packs.lock().unwrap().get_mut(name).unwrap());
    }
}

/// An entry with plain metadata.
pub(crate) fn entry(path: &str, kind: EntryKind) -> Entry {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mode = if kind == EntryKind::Dir { 0o755 } else { 0o644 };
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode,
        uid,
        gid,
        user: None,
        group: None,
        mtime: Mtime { seconds: 1_700_000_000, nanos: 123_456_789 },
        hard_link: None,
        attributes: None,
    }
}

pub(crate) fn folder(path: &str) -> Entry {
    entry(path, EntryKind::Dir)
}

pub(crate) fn link(path: &str, target: &str) -> Entry {
    entry(path, EntryKind::Link { target: target.as_bytes().to_vec() })
}

/// A claim as `prove` would have made it for a manifest.
pub(crate) fn claim(manifest: &Manifest) -> Claim {
    let request = format!("id = \"{}\"\nmanifest = \"{}\"\n", manifest.public.id, manifest.digest).into_bytes();
    Claim {
        id: manifest.public.id.clone(),
        client: manifest.public.client.clone(),
        node: manifest.public.node.clone(),
        dataset: manifest.public.dataset.clone(),
        seq: 1,
        prev: None,
        submitted: "2026-11-20T03:15:00Z".parse().unwrap(),
        by: "root".into(),
        reason: Reason::Manual,
        payload: Payload::Manifest(manifest.digest),
        repairs: manifest.public.repairs.as_ref().map(|repairs| repairs.of.clone()).unwrap_or_default(),
        group: None,
        request_digest: Sha256::of(&request),
        commit: "0".repeat(40),
        proof: Proof { commit: b"commit".to_vec(), tree: b"tree".to_vec(), request },
    }
}
