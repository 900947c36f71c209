//! What a backup has stored itself: where, by the key of each chunk, in little memory however many there are.
//!
//! Does not know what is in the index.

use crate::index::{Key, Place, Table, TableWriter};
use crate::pipeline::Lane;
use base::{Result, atomic};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::{Path, PathBuf};

/// So many are held in the map: as many as fit into 2^20 buckets of 24 bytes. More go into a file, of which 10 bits a chunk stay in memory:
/// 10 million new chunks take 25 MB and 13 MB.
const HELD: usize = (1 << 20) / 8 * 7;

/// Keys are hashes.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // The key's 16 bytes; the end of it, as its beginning orders the files.
        self.0 = bytes.iter().rev().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte));
    }

    fn write_usize(&mut self, _: usize) {
        // The length in front of an array's bytes tells nothing.
    }
}

/// Frame (with the lane as its highest bit) and number in it, in 6 bytes.
type Packed = [u8; 6];

/// See the module.
pub(super) struct Fresh {
    held: HashMap<Key, Packed, BuildHasherDefault<AsItIs>>,
    most: usize,
    files: Vec<Table>,
    folder: PathBuf,
}

impl Fresh {
    /// An empty one, which puts what does not fit into files in `folder`; they have no name any more as soon as they are written.
    pub(super) fn new(folder: &Path) -> Self {
        Self { held: HashMap::default(), most: HELD, files: Vec::new(), folder: folder.to_owned() }
    }

    #[cfg(test)]
    fn holding(folder: &Path, most: usize) -> Self {
        Self { most, ..Self::new(folder) }
    }

    /// Where the chunk is, if this backup has stored it: lane, frame, number in it. What cannot be read of a file any more is not known.
    pub(super) fn get(&self, key: &Key) -> Option<(Lane, u32, u32)> {
        let mut found = self.held.get(key).map(|packed| {
            let [a, b, c, d, n @ ..] = *packed;
            (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes(n))
        });
        for file in &self.files {
            if found.is_some() {
                break;
            }
            if let Err(error) = file.find(key, &mut |place| found = Some((place.pack, place.n))) {
                tracing::warn!("what was stored before may be stored again: {}", error.one_line());
            }
        }
        let (frame, n) = found?;
        let lane = if frame & CATALOG == 0 { Lane::Data } else { Lane::Catalog };
        Some((lane, frame & !CATALOG, n.into()))
    }

    /// Remembers a chunk. What there is no room for, in its small form or on the disk, is forgotten: it will be stored again.
    pub(super) fn insert(&mut self, key: Key, lane: Lane, frame: u32, n: u32) {
        let Ok(n) = u16::try_from(n) else { return };
        if frame & CATALOG != 0 {
            return;
        }
        if self.held.len() >= self.most
            && let Err(error) = self.spill()
        {
            tracing::warn!("what was stored before may be stored again: {}", error.one_line());
        }
        let frame = if lane == Lane::Catalog { frame | CATALOG } else { frame };
        let [a, b, c, d] = frame.to_le_bytes();
        let [e, f] = n.to_le_bytes();
        self.held.insert(key, [a, b, c, d, e, f]);
    }

    fn spill(&mut self) -> Result<()> {
        let place = |(key, packed): (Key, Packed)| {
            let [a, b, c, d, n @ ..] = packed;
            Place { key, pack: u32::from_le_bytes([a, b, c, d]), frame: 0, n: u16::from_le_bytes(n) }
        };
        let mut places: Vec<Place> = self.held.drain().map(place).collect();
        places.sort_unstable();
        atomic::make_folder(&self.folder, 0o700)?;
        let path = self.folder.join(format!("fresh-{}", self.files.len()));
        let mut writer = TableWriter::begin(&path, "", places.len() as u64)?;
        places.iter().try_for_each(|place| writer.push(place))?;
        self.files.push(writer.finish(&[])?);
        atomic::remove(&path)
    }
}

/// The highest bit of a frame's number stands for the lane: a backup of 2^31 frames of 4 MiB would be 8 PiB.
const CATALOG: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Key {
        let mut key = [0; 16];
        key.copy_from_slice(&blake3::hash(&n.to_le_bytes()).as_bytes()[..16]);
        key
    }

    #[test]
    fn what_does_not_fit_into_memory_is_found_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let mut fresh = Fresh::holding(dir.path(), 1000);
        let at = |n: u32| (if n.is_multiple_of(3) { Lane::Catalog } else { Lane::Data }, n / 7, n % 7);
        for n in 0..3500 {
            let (lane, frame, member) = at(n);
            fresh.insert(key(n), lane, frame, member);
        }
        assert_eq!((fresh.files.len(), fresh.held.len()), (3, 500));
        assert!((0..3500).all(|n| fresh.get(&key(n)) == Some(at(n))));
        assert!((3500..9000).all(|n| fresh.get(&key(n)).is_none()));
        // Nothing is left behind, whatever happens.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        // What the small form has no room for is stored again, not wrongly.
        fresh.insert(key(9001), Lane::Data, 1 << 31, 0);
        fresh.insert(key(9002), Lane::Data, 0, 1 << 16);
        assert!(fresh.get(&key(9001)).is_none() && fresh.get(&key(9002)).is_none());
    }

    #[test]
    fn the_map_is_as_small_as_promised() {
        assert_eq!(size_of::<(Key, Packed)>(), 22);
    }

    /// What many cost: `CHUNKS=10000000 cargo test --release -p archive --lib -- --nocapture many_new_chunks`.
    #[test]
    fn many_new_chunks() {
        let count: u32 = std::env::var("CHUNKS").map_or(100_000, |count| count.parse().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let mut fresh = Fresh::new(dir.path());
        let began = std::time::Instant::now();
        for n in 0..count {
            assert!(fresh.get(&key(n)).is_none());
            fresh.insert(key(n), Lane::Data, n / 200, n % 200);
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let most = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        println!("{:.1?}, {} files, {most}", began.elapsed(), fresh.files.len());
        assert!((0..count).step_by(1009).all(|n| fresh.get(&key(n)) == Some((Lane::Data, n / 200, n % 200))));
    }
}
