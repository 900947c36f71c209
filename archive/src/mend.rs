//! Mending: chunks that were in packs which the node has lost are brought again, under the names that they had there.
//!
//! Only what is still in the source comes by here; nobody but a keyholder can see whether that is all. Packs of repairs hold
//! nothing that a snapshot refers to, so nothing is deduplicated against them.

use crate::backup::{BackupSpec, DEFAULT_LEVEL, pack_name};
use crate::epoch::ChunkId;
use crate::frame;
use crate::index::{Index, PackInfo};
use crate::manifest::Repairs;
use crate::pack::PackWriter;
use crate::part;
use crate::reference::{Member, RunId};
use base::{Blake3, Error, Result};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// So many packs are mended by one backup.
const PACKS: usize = 400;
/// So many chunks are looked for: some 200 MiB of memory.
const CHUNKS: usize = 4_000_000;
/// Repairs take at most this share of a spool that has a limit.
const OF_SPOOL: u64 = 4;

/// What was in packs that a node has lost.
#[derive(Debug, Default)]
pub struct Lost {
    /// The packs, and the recipient of the epoch that each was sealed to.
    packs: Vec<(Blake3, String)>,
    /// By the first half of the chunk's id: the pack's number, and the chunk's name in it.
    chunks: HashMap<[u8; 16], Vec<(usize, Member)>>,
}

impl Lost {
    /// Reads what the index of one node remembers of packs that were lost there; a record that is damaged is passed over.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn load(index: &Path) -> Result<Self> {
        let mut lost = Self::default();
        let mut count = 0;
        for (epoch, info, records) in Index::lost(index, PACKS)? {
            count += records.len();
            if count > CHUNKS {
                break;
            }
            for (key, frame, n) in records {
                lost.chunks.entry(key).or_default().push((lost.packs.len(), Member { run: info.run, frame, n }));
            }
            lost.packs.push((info.digest, epoch));
        }
        Ok(lost)
    }

    /// Whether nothing was lost.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }
}

/// A pack of repairs being filled.
struct Filling {
    recipient: age::x25519::Recipient,
    run: RunId,
    frames: u32,
    bytes: Vec<u8>,
    writer: Option<PackWriter>,
}

/// What was brought again, and the packs that hold it.
pub(crate) type Mended = (Repairs, Vec<PackInfo>);

/// The repairs of one backup.
pub(crate) struct Mender<'a> {
    spec: &'a BackupSpec<'a>,
    lost: &'a Lost,
    /// Chunks that were brought.
    done: BTreeSet<(usize, Member)>,
    /// By the recipient: those who can open the lost pack must be able to open its repair.
    open: HashMap<String, Filling>,
    packs: Vec<PackInfo>,
    written: u64,
}

impl<'a> Mender<'a> {
    /// For a backup that has something to mend.
    pub(crate) fn new(spec: &'a BackupSpec<'a>) -> Option<Self> {
        let lost = spec.lost.filter(|lost| !lost.is_empty())?;
        Some(Self { spec, lost, done: BTreeSet::new(), open: HashMap::new(), packs: Vec::new(), written: 0 })
    }

    /// Takes a chunk that was in a lost pack; others are none of its business.
    pub(crate) fn offer(&mut self, id: &ChunkId, chunk: &[u8]) -> Result<()> {
        let mut key = [0; 16];
        key.copy_from_slice(&id.0[..16]);
        let lost = self.lost;
        for (pack, at) in lost.chunks.get(&key).into_iter().flatten() {
            let room = self.spec.parts.is_none_or(|parts| self.written < parts.limit() / OF_SPOOL);
            if room && self.done.insert((*pack, *at)) {
                self.append(&lost.packs[*pack].1, *at, chunk)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, recipient: &str, at: Member, chunk: &[u8]) -> Result<()> {
        let filling = match self.open.entry(recipient.to_owned()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Filling {
                recipient: recipient.parse().map_err(|e: &str| Error::failed(format!("an epoch's key cannot be read: {e}")))?,
                run: RunId::generate()?,
                frames: 0,
                bytes: Vec::new(),
                writer: None,
            }),
        };
        frame::append(&mut filling.bytes, at, chunk)?;
        self.written += chunk.len() as u64;
        if filling.bytes.len() >= frame::TARGET { close_frame(self.spec, filling, &mut self.packs) } else { Ok(()) }
    }

    /// Closes the packs, and says what they repair; nothing where nothing was met.
    pub(crate) fn finish(mut self) -> Result<Option<Mended>> {
        for filling in self.open.values_mut() {
            close_frame(self.spec, filling, &mut self.packs)?;
            close_pack(self.spec, filling, &mut self.packs)?;
        }
        let of: BTreeSet<Blake3> = self.done.iter().map(|(pack, _)| self.lost.packs[*pack].0).collect();
        let packs: BTreeSet<Blake3> = self.packs.iter().map(|pack| pack.digest).collect();
        let repairs = Repairs { of: of.into_iter().collect(), packs: packs.into_iter().collect() };
        Ok((!self.packs.is_empty()).then_some((repairs, self.packs)))
    }
}

fn close_frame(spec: &BackupSpec<'_>, filling: &mut Filling, packs: &mut Vec<PackInfo>) -> Result<()> {
    if filling.bytes.is_empty() {
        return Ok(());
    }
    let compressed = zstd::bulk::compress(&filling.bytes, DEFAULT_LEVEL).map_err(|e| Error::failed("could not compress").because(e))?;
    if filling.writer.is_none() {
        if let Some(parts) = spec.parts {
            parts.reserve(spec, part::pack_room(parts.limit()))?;
        }
        let closes_at = part::pack_size(spec.parts.map_or(u64::MAX, |parts| parts.limit()));
        filling.writer = Some(PackWriter::begin(spec.export, filling.run, filling.frames, &filling.recipient, closes_at)?);
    }
    let plain = filling.bytes.len();
    if let Some(writer) = &mut filling.writer {
        writer.push(&compressed, plain, plain as u64)?;
        filling.bytes.clear();
        filling.frames += 1;
        if writer.full() {
            close_pack(spec, filling, packs)?;
        }
    }
    Ok(())
}

fn close_pack(spec: &BackupSpec<'_>, filling: &mut Filling, packs: &mut Vec<PackInfo>) -> Result<()> {
    if let Some(writer) = filling.writer.take() {
        packs.push(writer.finish(&|digest| pack_name(spec.id, digest))?);
    }
    Ok(())
}
