//! A table: the places of very many chunks in one sorted file, of which little is in memory.
//!
//! Does not know which packs still count. It is a cache: what is damaged is thrown away and made again from the record files.
//!
//! ```text
//! blocks  4096 bytes each: the first 16 of BLAKE3(salt ‖ number of the block ‖ the rest), then 170 places
//! place   24 bytes: first half of the chunk's id (16) ‖ pack's row (u32) ‖ frame within the pack (u16) ‖ number in the frame (u16)
//! fence   for each block the first 8 bytes of its first id: a place is found with one read
//! packs   104 bytes each: see `Row`
//! filter  see `filter.rs`; read when something is looked up for the first time
//! footer  176 bytes: see `Footer`
//! ```
//!
//! Numbers are little-endian, but ids and the fence, whose order is that of their bytes. Ids are keyed hashes, evenly spread: so blocks
//! are read at random whatever the order of the questions, and there is nothing that a tree of pages would do better.

use super::filter::Filter;
use super::{Key, PackInfo, Place};
use crate::reference::RunId;
use base::atomic::Draft;
use base::{At, Blake3, Error, ReadAt, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const BLOCK: usize = 4096;
/// The checksum at the beginning of a block.
const SUM: usize = 16;
const PLACE: usize = 24;
/// Places in a block.
const PER_BLOCK: usize = (BLOCK - SUM) / PLACE;
const ROW: usize = 104;
const FOOTER: usize = 176;
const MAGIC: &[u8; 16] = b"nightsafe table1";
/// Blocks that a cursor reads at once.
const STRIDE: usize = 16;

/// A pack of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(super) info: PackInfo,
    /// How many places are in it.
    pub(super) chunks: u64,
}

impl Row {
    fn to_bytes(&self) -> Vec<u8> {
        let PackInfo { digest, size, run, first, frames, table, plain } = &self.info;
        let mut bytes = Vec::with_capacity(ROW);
        bytes.extend_from_slice(&digest.0);
        bytes.extend_from_slice(&table.0);
        for number in [*size, run.0, *plain, self.chunks] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&first.to_le_bytes());
        bytes.extend_from_slice(&frames.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Self {
        let long = |at| u64::from_le_bytes(part(bytes, at));
        let short = |at| u32::from_le_bytes(part(bytes, at));
        let info = PackInfo {
            digest: Blake3(part(bytes, 0)),
            table: Blake3(part(bytes, 32)),
            size: long(64),
            run: RunId(long(72)),
            plain: long(80),
            first: short(96),
            frames: short(100),
        };
        Self { info, chunks: long(88) }
    }
}

/// The end of the file, from which all else is found: magic (16), salt, places, rows (u64 each), bytes of the filter (u64), digests
/// of epoch, of fence and packs, and of the filter (32 each), digest of all that (32).
struct Footer {
    salt: u64,
    places: u64,
    rows: u64,
    filter: u64,
    epoch: Blake3,
    front: Blake3,
    filter_digest: Blake3,
}

impl Footer {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for number in [self.salt, self.places, self.rows, self.filter] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for digest in [self.epoch, self.front, self.filter_digest] {
            bytes.extend_from_slice(&digest.0);
        }
        bytes.extend_from_slice(&Blake3::of(&bytes).0);
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let body = bytes.get(..FOOTER - 32).filter(|body| body.starts_with(MAGIC) && Blake3::of(body).0 == part(bytes, FOOTER - 32))?;
        let long = |at| u64::from_le_bytes(part(body, at));
        let digest = |at| Blake3(part(body, at));
        let (epoch, front, filter_digest) = (digest(48), digest(80), digest(112));
        Some(Self { salt: long(16), places: long(24), rows: long(32), filter: long(40), epoch, front, filter_digest })
    }

    fn blocks(&self) -> u64 {
        self.places.div_ceil(PER_BLOCK as u64)
    }

    /// Where fence and filter begin, and where all ends.
    fn layout(&self) -> Option<(u64, u64, u64)> {
        let fence = self.blocks().checked_mul(BLOCK as u64)?;
        let filter = self.rows.checked_mul(ROW as u64)?.checked_add(self.blocks() * 8)?.checked_add(fence)?;
        Some((fence, filter, filter.checked_add(self.filter)?.checked_add(FOOTER as u64)?))
    }
}

/// Writes a table; places come in order.
pub(crate) struct Writer {
    out: BufWriter<Draft>,
    path: PathBuf,
    salt: u64,
    epoch: Blake3,
    block: Vec<u8>,
    fence: Vec<u64>,
    filter: Filter,
    places: u64,
}

impl Writer {
    /// Begins the table `path` of the epoch with this recipient, for about `expected` places.
    pub(crate) fn begin(path: &Path, recipient: &str, expected: u64) -> Result<Self> {
        let salt = RunId::generate()?.0;
        let out = BufWriter::with_capacity(STRIDE * BLOCK, Draft::beside(path, 0o600)?);
        let (path, epoch) = (path.to_owned(), Blake3::of(recipient.as_bytes()));
        Ok(Self { out, path, salt, epoch, block: Vec::new(), fence: Vec::new(), filter: Filter::new(expected), places: 0 })
    }

    pub(crate) fn push(&mut self, place: &Place) -> Result<()> {
        if self.block.is_empty() {
            self.block.resize(SUM, 0);
            self.fence.push(prefix(&place.key));
        }
        self.block.extend_from_slice(&place.key);
        self.block.extend_from_slice(&place.pack.to_le_bytes());
        self.block.extend_from_slice(&place.frame.to_le_bytes());
        self.block.extend_from_slice(&place.n.to_le_bytes());
        self.filter.insert(&place.key);
        self.places += 1;
        if self.block.len() == SUM + PER_BLOCK * PLACE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.block.resize(BLOCK, 0);
        let sum = checksum(self.salt, self.fence.len() as u64 - 1, &self.block[SUM..]);
        self.block[..SUM].copy_from_slice(&sum);
        self.out.write_all(&self.block).at("write", &self.path)?;
        self.block.clear();
        Ok(())
    }

    /// Makes it durable and opens it.
    pub(crate) fn finish(mut self, rows: &[Row]) -> Result<Table> {
        self.flush()?;
        let mut front: Vec<u8> = self.fence.iter().flat_map(|first| first.to_be_bytes()).collect();
        rows.iter().for_each(|row| front.extend(row.to_bytes()));
        let filter = self.filter.bytes();
        let footer = Footer {
            salt: self.salt,
            places: self.places,
            rows: rows.len() as u64,
            filter: filter.len() as u64,
            epoch: self.epoch,
            front: Blake3::of(&front),
            filter_digest: Blake3::of(filter),
        };
        for bytes in [&front[..], filter, &footer.to_bytes()] {
            self.out.write_all(bytes).at("write", &self.path)?;
        }
        let draft = self.out.into_inner().map_err(std::io::IntoInnerError::into_error).at("write", &self.path)?;
        draft.publish()?;
        let file = File::open(&self.path).at("open", &self.path)?;
        let filter = OnceLock::from(self.filter);
        Ok(Table { file, path: self.path, footer, fence: self.fence, filter })
    }
}

/// A table that can be asked.
pub(crate) struct Table {
    file: File,
    path: PathBuf,
    footer: Footer,
    fence: Vec<u64>,
    filter: OnceLock<Filter>,
}

impl Table {
    /// Opens a table and reads its packs.
    ///
    /// # Errors
    /// When it is damaged, or of another epoch.
    pub(super) fn open(path: &Path, recipient: &str) -> Result<(Self, Vec<Row>)> {
        let file = base::untrusted::open(path)?;
        let size = file.size().at("stat", path)?;
        let start = size.checked_sub(FOOTER as u64).ok_or_else(|| damaged(path))?;
        let footer = Footer::parse(&read(&file, start, FOOTER, path)?).ok_or_else(|| damaged(path))?;
        // The file has this size, so what it says of itself allocates no more than that.
        let (fence, filter, end) = footer.layout().filter(|layout| layout.2 == size).ok_or_else(|| damaged(path))?;
        let front = read(&file, fence, usize::try_from(filter - fence).unwrap_or(usize::MAX), path)?;
        let whole = end == size && footer.filter > 0 && footer.filter.is_multiple_of(32) && Blake3::of(&front) == footer.front;
        if !whole || footer.epoch != Blake3::of(recipient.as_bytes()) {
            return Err(damaged(path));
        }
        let (firsts, rows) = front.split_at(usize::try_from(footer.blocks() * 8).unwrap_or(usize::MAX));
        let fence = firsts.chunks_exact(8).map(|first| u64::from_be_bytes(part(first, 0))).collect();
        let rows = rows.chunks_exact(ROW).map(Row::parse).collect();
        Ok((Self { file, path: path.to_owned(), footer, fence, filter: OnceLock::new() }, rows))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many places it has.
    pub(super) fn len(&self) -> u64 {
        self.footer.places
    }

    /// Tells all places of a chunk.
    ///
    /// # Errors
    /// When what would have to be read is damaged, or cannot be read.
    pub(crate) fn find(&self, key: &Key, found: &mut dyn FnMut(Place)) -> Result<()> {
        if !self.filter()?.may_hold(key) {
            return Ok(());
        }
        let first = prefix(key);
        let mut at = self.fence.partition_point(|begins| *begins < first).saturating_sub(1);
        while self.fence.get(at).is_some_and(|begins| *begins <= first) {
            let block = self.block(at)?;
            let places = &block[SUM..SUM + self.filled(at) * PLACE];
            let (mut low, mut high) = (0, places.len() / PLACE);
            while low < high {
                let middle = usize::midpoint(low, high);
                if places[middle * PLACE..][..16] < key[..] { low = middle + 1 } else { high = middle }
            }
            let same = places[low * PLACE..].chunks_exact(PLACE).take_while(|place| place[..16] == key[..]);
            same.for_each(|place| found(parse(place)));
            at += 1;
        }
        Ok(())
    }

    fn filter(&self) -> Result<&Filter> {
        if let Some(filter) = self.filter.get() {
            return Ok(filter);
        }
        let at = self.footer.layout().map_or(0, |layout| layout.1);
        let bytes = read(&self.file, at, usize::try_from(self.footer.filter).unwrap_or(usize::MAX), &self.path)?;
        if Blake3::of(&bytes) != self.footer.filter_digest {
            return Err(damaged(&self.path));
        }
        Ok(self.filter.get_or_init(|| Filter::from_bytes(bytes)))
    }

    fn block(&self, number: usize) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        let n = self.file.read_at((number * BLOCK) as u64, &mut block).at("read", &self.path)?;
        let whole = n == BLOCK && block[..SUM] == checksum(self.footer.salt, number as u64, &block[SUM..]);
        if whole { Ok(block) } else { Err(damaged(&self.path)) }
    }

    /// How many places the block has.
    fn filled(&self, block: usize) -> usize {
        let before = (block * PER_BLOCK) as u64;
        usize::try_from(self.footer.places.saturating_sub(before)).map_or(PER_BLOCK, |left| left.min(PER_BLOCK))
    }

    /// All places in order.
    pub(super) fn places(&self) -> Places<'_> {
        Places { table: self, block: 0, ready: Vec::new().into_iter() }
    }
}

/// See [`Table::places`].
pub(super) struct Places<'a> {
    table: &'a Table,
    block: usize,
    ready: std::vec::IntoIter<Place>,
}

impl Places<'_> {
    /// The next place.
    ///
    /// # Errors
    /// As [`Table::find`].
    pub(super) fn next(&mut self) -> Result<Option<Place>> {
        if let Some(place) = self.ready.next() {
            return Ok(Some(place));
        }
        let mut ready = Vec::with_capacity(STRIDE * PER_BLOCK);
        for number in self.block..self.table.fence.len().min(self.block + STRIDE) {
            let block = self.table.block(number)?;
            ready.extend(block[SUM..].chunks_exact(PLACE).take(self.table.filled(number)).map(parse));
            self.block = number + 1;
        }
        self.ready = ready.into_iter();
        Ok(self.ready.next())
    }
}

fn parse(place: &[u8]) -> Place {
    let short = |at| u16::from_le_bytes(part(place, at));
    Place { key: part(place, 0), pack: u32::from_le_bytes(part(place, 16)), frame: short(20), n: short(22) }
}

/// The first 8 bytes, as a number of the same order.
fn prefix(key: &Key) -> u64 {
    u64::from_be_bytes(part(key, 0))
}

fn checksum(salt: u64, number: u64, places: &[u8]) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&salt.to_le_bytes()).update(&number.to_le_bytes()).update(places);
    part(hasher.finalize().as_bytes(), 0)
}

fn read(file: &File, at: u64, length: usize, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let n = file.read_at(at, &mut bytes).at("read", path)?;
    if n == length { Ok(bytes) } else { Err(damaged(path)) }
}

/// `N` bytes of `bytes` from `at` on; zeros where there are none, which callers have excluded by length.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|b| b.try_into().ok()).unwrap_or([0; N])
}

fn damaged(path: &Path) -> Error {
    Error::failed(format!("{} is damaged; it is made again when the next backup begins", path.display()))
}
