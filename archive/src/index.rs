//! The client's index for deduplication: which chunk is where, of packs that one node has acknowledged in one epoch.
//!
//! Knows nothing of receipts: callers say which request was stored. A lost or damaged index costs sending again, never data.
//!
//! `<folder>/<first 16 hex of BLAKE3(epoch recipient)>/<pack hex>` are acknowledged, `<folder>/pending/<request
//! id>/<pack hex>` not yet: one record file for each pack (`index/record.rs`), which is the truth. Where many have gathered, they are
//! folded (`index/fold.rs`) into tables (`index/table.rs`) beside them, `table-…`, of which little is in memory; a pack counts as long as it
//! has its record file, whatever tables say. So opening takes some milliseconds and 3 MB at most, 100 bytes a pack, and
//! for each chunk 10 bits as soon as one is looked up.

mod epochs;
mod filter;
mod fold;
mod record;
mod table;

use crate::epoch::ChunkId;
use crate::reference::{Member, RunId};
use crate::usage;
use base::{At, Blake3, RequestId, Result, atomic, crash};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub(crate) use record::{MEMBERS, key};
pub(crate) use table::{Table, Writer as TableWriter};

/// The name of the folder of what is not acknowledged.
const PENDING: &str = "pending";
/// The name of the folder of what was in packs that the node has lost.
const LOST: &str = "lost";
/// The name of the folder of what was in packs that no newest snapshot uses, and for how long that is remembered.
const RETIRED: &str = "retired";
const REMEMBERED: Duration = Duration::from_secs(90 * 86_400);
/// See [`Index::rewriting_below`].
const REWRITE_BELOW: f64 = 0.5;
/// More chunks than this are not taken into memory when they could not be folded into a table.
const MOST_RECENT: usize = 1 << 20;

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

/// A lost pack: the recipient that it was sealed to, what it was, and its chunks by the half of their ids, frame and number.
pub(crate) type LostPack = (String, PackInfo, Vec<(Key, u32, u32)>);

/// A chunk of a pack: its id, its frame, its number in the frame.
pub type Record = (ChunkId, u32, u32);

/// What a chunk is looked up by: see [`key`].
pub(crate) type Key = [u8; 16];

/// Where a chunk is. The order is that of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) key: Key,
    /// A number in whatever list of packs is at hand.
    pub(crate) pack: u32,
    /// Counted from the pack's first frame.
    pub(crate) frame: u16,
    pub(crate) n: u16,
}

/// A table, and which pack of the index each of its rows is; none where the pack is forgotten.
struct Layer {
    table: Table,
    packs: Vec<Option<u32>>,
    /// It was found to be damaged, and is not asked again.
    lost: AtomicBool,
}

/// The acknowledged chunks of one node and epoch.
pub struct Index {
    folder: PathBuf,
    recipient: String,
    packs: Vec<PackInfo>,
    /// Sorted: run, first frame, pack.
    spans: Vec<(RunId, u32, u32)>,
    layers: Vec<Layer>,
    /// What is in no table, sorted.
    recent: Vec<Place>,
    trouble: Mutex<Option<String>>,
    rewrite_below: f64,
}

impl Index {
    /// Opens the index of the epoch with this recipient, the present one; `folder` is that of one node, and may be absent. Folds what is
    /// due, and lets go of epochs that are over.
    /// A file that is damaged counts as absent.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn load(folder: &Path, recipient: &str) -> Result<Self> {
        let mut index = Self {
            folder: folder.to_owned(),
            recipient: recipient.to_owned(),
            packs: Vec::new(),
            spans: Vec::new(),
            layers: Vec::new(),
            recent: Vec::new(),
            trouble: Mutex::default(),
            rewrite_below: REWRITE_BELOW,
        };
        if let Err(error) = epochs::retire(folder, recipient) {
            tracing::warn!("the index of an epoch that is over stays: {}", error.one_line());
        }
        let epoch = index.epoch_folder();
        let (stock, _lock) = fold::stock(&epoch, recipient)?;
        let mut known = std::collections::HashSet::new();
        for (table, rows) in stock.tables {
            // A pack that a crash has left in two tables is taken from the first.
            let mut take = |row: &table::Row| fold::holds(&stock.packs, &row.info.digest) && known.insert(row.info.digest);
            let packs = rows.into_iter().map(|row| take(&row).then(|| index.add(row.info))).collect();
            index.layers.push(Layer { table, packs, lost: AtomicBool::new(false) });
        }
        for path in stock.recent.iter().map(|pack| epoch.join(pack.hex())) {
            if index.recent.len() > MOST_RECENT {
                index.tell("the index could not be put in order, and part of it is not used; what is there is sent again".into());
                break;
            }
            let number = u32::try_from(index.packs.len()).unwrap_or(u32::MAX);
            match record::read(&path, number) {
                Ok((header, places)) if header.epoch == recipient => {
                    index.add(header.info());
                    index.recent.extend(places);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!("left out of the index: {}", error.one_line()),
            }
        }
        index.recent.sort_unstable();
        index.spans = (0u32..).zip(&index.packs).map(|(number, pack)| (pack.run, pack.first, number)).collect();
        index.spans.sort_unstable();
        Ok(index)
    }

    /// A pack of which a dataset uses a smaller share than this is not referred to any more by it (`usage.rs`); 0 for never, and without
    /// this 0.5.
    #[must_use]
    pub fn rewriting_below(mut self, share: f64) -> Self {
        self.rewrite_below = share;
        self
    }

    pub(crate) fn rewrite_below(&self) -> f64 {
        self.rewrite_below
    }

    fn add(&mut self, pack: PackInfo) -> u32 {
        self.packs.push(pack);
        u32::try_from(self.packs.len() - 1).unwrap_or(u32::MAX)
    }

    /// Where this chunk is: the pack's number in [`Index::packs`], and the place. Where several packs have it, one of those.
    pub fn find(&self, id: &ChunkId) -> Option<(usize, Member)> {
        let mut first = None;
        self.find_all(&key(id), &mut |pack, at| {
            first.get_or_insert((pack, at));
        });
        first
    }

    /// Tells every place of a chunk. What cannot be read for damage is not known, which is remembered for [`Index::trouble`].
    pub(crate) fn find_all(&self, key: &Key, found: &mut dyn FnMut(usize, Member)) {
        let mut tell = |pack: u32, place: &Place| {
            let pack = pack as usize;
            let PackInfo { run, first, frames, .. } = self.packs[pack];
            // Checked when it was written; no reference is ever made of what cannot be.
            if u32::from(place.frame) < frames {
                found(pack, Member { run, frame: first + u32::from(place.frame), n: place.n.into() });
            }
        };
        let begin = self.recent.partition_point(|place| place.key < *key);
        self.recent[begin..].iter().take_while(|place| place.key == *key).for_each(|place| tell(place.pack, place));
        for layer in self.layers.iter().filter(|layer| !layer.lost.load(Ordering::Relaxed)) {
            let mut known = |place: Place| {
                if let Some(Some(pack)) = layer.packs.get(place.pack as usize) {
                    tell(*pack, &place);
                }
            };
            if let Err(error) = layer.table.find(key, &mut known) {
                layer.lost.store(true, Ordering::Relaxed);
                self.tell(format!("the index for deduplication is not whole, so more than is new may be sent: {}", error.one_line()));
                // It is made anew from the record files when the index is opened next; if it stays, so is this error.
                let _ = fold::lost(layer.table.path(), &error);
            }
        }
    }

    fn tell(&self, text: String) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }

    /// Why chunks may have counted as new that are not, if anything was noticed.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which pack of [`Index::packs`] has this frame.
    pub fn pack_of(&self, run: RunId, frame: u32) -> Option<usize> {
        let after = self.spans.partition_point(|span| (span.0, span.1) <= (run, frame));
        let (found, _, number) = *self.spans.get(after.checked_sub(1)?)?;
        let pack = &self.packs[number as usize];
        (found == run && frame - pack.first < pack.frames).then_some(number as usize)
    }

    /// The acknowledged packs.
    pub fn packs(&self) -> &[PackInfo] {
        &self.packs
    }

    /// A pack of the epoch in `folder` is not deduplicated against any more.
    pub(crate) fn retire(folder: &Path, pack: &Blake3) -> Result<()> {
        let (from, to) = (folder.join(pack.hex()), folder.with_file_name(RETIRED));
        if from.exists() {
            atomic::make_folder(&to, 0o700)?;
            atomic::rename(&from, &to.join(pack.hex()))?;
        }
        Ok(())
    }

    /// Where the index of this node is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn recipient(&self) -> &str {
        &self.recipient
    }

    pub(crate) fn epoch_folder(&self) -> PathBuf {
        self.folder.join(epoch_name(&self.recipient))
    }

    /// Where what is not acknowledged of a request is.
    pub(crate) fn pending_folder(&self, id: &RequestId) -> PathBuf {
        self.folder.join(PENDING).join(id.as_str())
    }

    /// Notes a pack that was written for a request, until the request's receipt comes.
    pub(crate) fn note(&self, id: &RequestId, info: &PackInfo, records: &[Record]) -> Result<()> {
        let folder = self.pending_folder(id);
        atomic::make_folder(&folder, 0o700)?;
        record::write(&folder.join(info.digest.hex()), &self.recipient, info, records)
    }

    /// The node has stored request `id`: its packs are deduplicated against from now on. Done twice it does nothing.
    ///
    /// # Errors
    /// With the path; then it can be done again.
    pub fn acknowledge(folder: &Path, id: &RequestId) -> Result<()> {
        let pending = folder.join(PENDING).join(id.as_str());
        let mut epochs = std::collections::BTreeSet::new();
        for path in files(&pending)? {
            let header = match record::read_header(&path) {
                Ok(header) => header,
                Err(error) => {
                    tracing::warn!("left out of the index: {}", error.one_line());
                    continue;
                }
            };
            let to = folder.join(epoch_name(&header.epoch));
            atomic::make_folder(&to, 0o700)?;
            atomic::rename(&path, &to.join(header.pack.hex()))?;
            epochs.insert(header.epoch);
        }
        usage::settle(&pending, |recipient| folder.join(epoch_name(recipient)))?;
        atomic::remove_tree(&pending)?;
        sweep(&folder.join(RETIRED), REMEMBERED)?;
        // Now, when nobody waits for it, rather than when the next backup begins.
        epochs.iter().try_for_each(|recipient| fold::stock(&folder.join(epoch_name(recipient)), recipient).map(drop))
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
            crash::point("linked");
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
            match record::read(&path, 0) {
                Ok((header, places)) => {
                    let info = header.info();
                    let chunks = places.iter().map(|at| (at.key, info.first + u32::from(at.frame), at.n.into())).collect();
                    packs.push((header.epoch.clone(), info, chunks));
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
    pub fn sweep_lost(folder: &Path, age: Duration) -> Result<()> {
        sweep(&folder.join(LOST), age)
    }
}

/// Removes the files in `folder` that were put there longer than `age` ago.
fn sweep(folder: &Path, age: Duration) -> Result<()> {
    for path in files(folder)? {
        // A rename changes this time, and not that of the content.
        let changed = path.metadata().at("look at", &path)?.ctime();
        let passed = base::clock::now().as_second().saturating_sub(changed);
        if u64::try_from(passed).is_ok_and(|passed| passed > age.as_secs()) {
            atomic::remove(&path)?;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests;
