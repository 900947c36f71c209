//! Packs: frames one after the other, padding, and the table of frames, encrypted to the epoch's key.
//!
//! Does not know what the frames hold.

use crate::index::PackInfo;
use crate::limits;
use crate::reference::RunId;
use base::atomic::Draft;
use base::{At, Blake3, Error, Result};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Magic of the skippable frame that holds the padding.
const PADDING: u32 = 0x184D_2A50;
/// Magic of the skippable frame that holds the frame table.
const TABLE: u32 = 0x184D_2A51;
/// Magic of the skippable frame that holds the table's length.
const LENGTH: u32 = 0x184D_2A52;
/// Magic and length in front of what a skippable frame holds.
const SKIPPABLE: usize = 8;
/// The last bytes of a pack's plaintext, from which the table is found.
pub const TAIL: usize = SKIPPABLE + 8;
/// A row of the table.
const ROW: usize = 48;
/// A pack's plaintext is filled up to a multiple of at least this.
const LEAST_GRAIN: u64 = 4 << 10;
/// And of at most this: by then what is filled up is below a 32nd.
const MOST_GRAIN: u64 = 64 << 10;

/// Where a frame is in the pack's plaintext, and what its compressed bytes must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameInfo {
    /// Where it begins.
    pub offset: u64,
    /// Its length as compressed.
    pub compressed: u32,
    /// Its length as decompressed.
    pub plain: u32,
    /// BLAKE3 of the compressed bytes.
    pub digest: Blake3,
}

/// The frames of one pack, in order; they stand without gaps from its first byte on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrameTable {
    rows: Vec<FrameInfo>,
}

impl FrameTable {
    /// Appends the frame that stands behind the last one.
    ///
    /// # Errors
    /// When the frame, or the table, would be larger than readers accept.
    pub fn push(&mut self, compressed: &[u8], plain: usize) -> Result<()> {
        let row = FrameInfo {
            offset: self.frames_end(),
            compressed: u32::try_from(compressed.len()).unwrap_or(u32::MAX),
            plain: u32::try_from(plain).unwrap_or(u32::MAX),
            digest: Blake3::of(compressed),
        };
        if !fits(&row) || self.rows.len() >= limits::TABLE / ROW {
            return Err(Error::failed(format!("a frame of {plain} bytes, compressed {}, does not fit a pack", compressed.len())));
        }
        self.rows.push(row);
        Ok(())
    }

    /// The frames.
    pub fn frames(&self) -> &[FrameInfo] {
        &self.rows
    }

    /// Where the last frame ends.
    pub fn frames_end(&self) -> u64 {
        self.rows.last().map_or(0, |row| row.offset + u64::from(row.compressed))
    }

    /// The table's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.rows.len() * ROW);
        for row in &self.rows {
            bytes.extend_from_slice(&row.offset.to_le_bytes());
            bytes.extend_from_slice(&row.compressed.to_le_bytes());
            bytes.extend_from_slice(&row.plain.to_le_bytes());
            bytes.extend_from_slice(&row.digest.0);
        }
        bytes
    }

    /// Reads the table's bytes.
    ///
    /// # Errors
    /// When a length is out of bounds, or the frames do not stand without gaps from the first byte on.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = |why: &str| Error::failed(format!("a pack's frame table is wrong: {why}"));
        if bytes.is_empty() || bytes.len() > limits::TABLE || !bytes.len().is_multiple_of(ROW) {
            return Err(wrong("its length cannot be a table's"));
        }
        let mut table = Self { rows: Vec::with_capacity(bytes.len() / ROW) };
        for row in bytes.chunks_exact(ROW) {
            let info = FrameInfo {
                offset: u64::from_le_bytes(part(row, 0)),
                compressed: u32::from_le_bytes(part(row, 8)),
                plain: u32::from_le_bytes(part(row, 12)),
                digest: Blake3(part(row, 16)),
            };
            if !fits(&info) {
                return Err(wrong("a frame is longer than readers accept, or empty"));
            }
            if info.offset != table.frames_end() {
                return Err(wrong("its frames do not follow one another"));
            }
            table.rows.push(info);
        }
        Ok(table)
    }

    /// What manifests name the table by: BLAKE3 of its bytes.
    pub fn digest(&self) -> Blake3 {
        Blake3::of(&self.to_bytes())
    }

    /// All that stands behind the frames: padding, table, length of the table.
    pub fn trailer(&self) -> Vec<u8> {
        let table = self.to_bytes();
        let without = self.frames_end() + (3 * SKIPPABLE + table.len() + 8) as u64;
        let padding = without.next_multiple_of(grain(without)) - without;
        let mut bytes = Vec::new();
        // All three lengths are far below 4 GiB: the padding below 64 KiB, the table bounded by `push`.
        let mut skippable = |magic: u32, content: &[u8]| {
            bytes.extend_from_slice(&magic.to_le_bytes());
            bytes.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(content);
        };
        skippable(PADDING, &vec![0; usize::try_from(padding).unwrap_or(0)]);
        skippable(TABLE, &table);
        skippable(LENGTH, &(table.len() as u64).to_le_bytes());
        bytes
    }
}

/// What the length of a plaintext of `size` bytes is a multiple of, so that it tells little: 4 KiB below 256 KiB, 64 KiB from 2 MiB on,
/// and between them a 32nd of the power of two that it has reached. That is the Padmé rule (K. Nikitin and others, "Reducing Metadata
/// Leakage from Encrypted Files and Communication with PURBs", 2019), which shows O(log log n) bits of a length n, where it costs
/// more than 4 KiB and less than 64.
///
/// What is a multiple of 64 KiB, as all packs once were, is one of this as well.
fn grain(size: u64) -> u64 {
    (size.checked_ilog2().map_or(0, |power| (1 << power) / 32)).clamp(LEAST_GRAIN, MOST_GRAIN)
}

/// Where the table's bytes are in a pack's plaintext of `size` bytes, told from its last [`TAIL`] bytes.
///
/// # Errors
/// When these are no tail, or the table would be out of bounds.
pub fn find_table(tail: &[u8; TAIL], size: u64) -> Result<std::ops::Range<u64>> {
    let wrong = || Error::failed("a pack does not end as packs do");
    if u32::from_le_bytes(part(tail, 0)) != LENGTH || u32::from_le_bytes(part(tail, 4)) != 8 || !size.is_multiple_of(grain(size)) {
        return Err(wrong());
    }
    let length = u64::from_le_bytes(part(tail, 8));
    let end = size.checked_sub(TAIL as u64).ok_or_else(wrong)?;
    if length == 0 || length > limits::TABLE as u64 {
        return Err(wrong());
    }
    Ok(end.checked_sub(length).ok_or_else(wrong)?..end)
}

/// A pack is closed when it has this many frames: what compresses very well would fill memory with what is noted for the index.
const FRAMES: usize = 128;

/// A pack being written: each frame is encrypted and hashed on its way to the disk.
pub(crate) struct PackWriter {
    run: RunId,
    first: u32,
    table: FrameTable,
    /// The bytes of the chunks in it.
    plain: u64,
    /// At this size of its frames it is closed.
    closes_at: u64,
    out: age::stream::StreamWriter<Hashing>,
    path: PathBuf,
}

impl PackWriter {
    /// Begins a pack in `folder` with the frame `first` of a run. It is full once its frames have `closes_at` bytes.
    pub(crate) fn begin(folder: &Path, run: RunId, first: u32, recipient: &age::x25519::Recipient, closes_at: u64) -> Result<Self> {
        let path = folder.join("pack");
        let out = Hashing { draft: Draft::beside(&path, 0o640)?, hasher: blake3::Hasher::new(), size: 0 };
        let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient as &dyn age::Recipient))
            .map_err(|e| Error::failed("could not encrypt a pack").because(e))?;
        Ok(Self {
            run,
            first,
            table: FrameTable::default(),
            plain: 0,
            closes_at,
            out: encryptor.wrap_output(out).at("write a pack in", folder)?,
            path,
        })
    }

    /// Appends the next frame, which is `plain` bytes long when it is decompressed and has `chunks` bytes of chunks.
    pub(crate) fn push(&mut self, compressed: &[u8], plain: usize, chunks: u64) -> Result<()> {
        self.table.push(compressed, plain)?;
        self.plain += chunks;
        self.out.write_all(compressed).at("write", &self.path)
    }

    /// Whether it is time to close it.
    pub(crate) fn full(&self) -> bool {
        self.table.frames_end() >= self.closes_at || self.table.frames().len() >= FRAMES
    }

    /// Closes the pack, makes it durable, and gives it the name that `name` makes of its digest.
    pub(crate) fn finish(mut self, name: &dyn Fn(&Blake3) -> String) -> Result<PackInfo> {
        self.out.write_all(&self.table.trailer()).at("write", &self.path)?;
        let Hashing { draft, hasher, size } = self.out.finish().at("write", &self.path)?;
        let digest = Blake3(*hasher.finalize().as_bytes());
        draft.publish_as(&self.path.with_file_name(name(&digest)))?;
        let frames = u32::try_from(self.table.frames().len()).unwrap_or(u32::MAX);
        Ok(PackInfo { digest, size, run: self.run, first: self.first, frames, table: self.table.digest(), plain: self.plain })
    }
}

/// A file whose bytes are hashed as they are written.
struct Hashing {
    draft: Draft,
    hasher: blake3::Hasher,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.draft.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.draft.flush()
    }
}

/// Frames within bounds, so that `offset + compressed` never overflows either.
fn fits(row: &FrameInfo) -> bool {
    let within = |n: u32| (1..=limits::FRAME).contains(&(n as usize));
    within(row.compressed) && within(row.plain) && row.offset < 1 << 62
}

/// `N` bytes of `bytes` from `at` on; zeros where there are none, which callers have excluded by length.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|b| b.try_into().ok()).unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(frames: &[Vec<u8>]) -> FrameTable {
        let mut table = FrameTable::default();
        for frame in frames {
            table.push(frame, frame.len() * 2).unwrap();
        }
        table
    }

    #[test]
    fn hostile_tables() {
        let good = table(&[vec![1; 10], vec![2; 20]]).to_bytes();
        assert!(FrameTable::parse(&good).is_ok());
        let edit = |at: usize, bytes: &[u8]| {
            let mut table = good.clone();
            table[at..at + bytes.len()].copy_from_slice(bytes);
            table
        };
        let bad = [
            vec![],
            good[..47].to_vec(),
            good[..95].to_vec(),
            [&good[..], &[0]].concat(),
            [&good[..], &[0; 48]].concat(),
            vec![0; 48],
            vec![0xff; 48],
            edit(0, &[1]),
            edit(48, &[9]),
            edit(48, &[11]),
            edit(8, &[0; 4]),
            edit(12, &[0; 4]),
            edit(56, &[0xff; 4]),
            edit(60, &[0xff; 4]),
            edit(48, &[0xff; 8]),
            vec![0; limits::TABLE + 48],
        ];
        for table in bad {
            assert!(FrameTable::parse(&table).is_err(), "{table:?}");
        }
        assert!(FrameTable::default().push(&[], 1).is_err());
        assert!(FrameTable::default().push(&[1], limits::FRAME + 1).is_err());
        assert!(FrameTable::default().push(&vec![0; limits::FRAME + 1], 1).is_err());
    }

    #[test]
    fn hostile_tails() {
        let tail = |magic: u32, inner: u32, length: u64| {
            let bytes = [&magic.to_le_bytes()[..], &inner.to_le_bytes(), &length.to_le_bytes()].concat();
            <[u8; TAIL]>::try_from(bytes).unwrap()
        };
        const SIZE: u64 = 64 << 10;
        assert_eq!(find_table(&tail(LENGTH, 8, 48), SIZE).unwrap(), 65_472..65_520);
        for (magic, inner, length, size) in [
            (TABLE, 8, 48, SIZE),
            (LENGTH, 9, 48, SIZE),
            (LENGTH, 8, 0, SIZE),
            (LENGTH, 8, u64::MAX, SIZE),
            (LENGTH, 8, 65_536, SIZE),
            (LENGTH, 8, 48, SIZE + 1),
            (LENGTH, 8, 48, 0),
            (LENGTH, 8, limits::TABLE as u64 + 48, 1 << 40),
            (LENGTH, 8, 48, (256 << 10) + (4 << 10)),
            (LENGTH, 8, 48, (2 << 20) + (32 << 10)),
        ] {
            assert!(find_table(&tail(magic, inner, length), size).is_err(), "{magic:x} {inner} {length} {size}");
        }
    }

    proptest! {
        #[test]
        fn tables_survive(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..20)) {
            let table = table(&frames);
            prop_assert_eq!(&FrameTable::parse(&table.to_bytes()).unwrap(), &table);
            let plain = [frames.concat(), table.trailer()].concat();
            prop_assert_eq!(plain.len() as u64 % LEAST_GRAIN, 0);
            let tail: &[u8; TAIL] = plain.last_chunk().unwrap();
            let place = find_table(tail, plain.len() as u64).unwrap();
            let found = &plain[usize::try_from(place.start).unwrap()..usize::try_from(place.end).unwrap()];
            prop_assert_eq!(FrameTable::parse(found).unwrap().digest(), table.digest());
        }

        #[test]
        fn a_length_is_filled_up_by_little_and_read_again(power in 0..48_u32, fraction: u64) {
            let size = (1 << power) + fraction % (1 << power);
            let filled = size.next_multiple_of(grain(size));
            prop_assert!(filled.is_multiple_of(grain(filled)));
            prop_assert!(filled - size < (size / 32).clamp(LEAST_GRAIN, MOST_GRAIN));
            let before = size.next_multiple_of(MOST_GRAIN);
            prop_assert!(before.is_multiple_of(grain(before)) && filled <= before);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = FrameTable::parse(&bytes);
        }
    }
}
