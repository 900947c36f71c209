//! Record files: one for each pack, with what is known of it and of its chunks. They are the truth of the index.
//!
//! A file is one line of JSON ([`Header`]); for each chunk of the pack 40 bytes: id (32), frame (u32 LE), number in the
//! frame (u32 LE); and the BLAKE3 of all that. A damaged file counts as absent: a wrong place would be a wrong file later.

use super::{Key, PackInfo, Place, Record};
use crate::epoch::ChunkId;
use crate::limits;
use crate::reference::RunId;
use base::{At, Blake3, Error, Result, atomic};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Files of version 1 had neither a digest nor the bytes of a pack's chunks.
const VERSION: u64 = 2;
/// What one chunk takes in a file.
pub(super) const RECORD: usize = 40;
/// The digest at the end.
const DIGEST: usize = 32;
/// The longest header.
const HEADER: u64 = 4096;
/// A frame has fewer members than this: each takes a tar header and at least a byte, so 1 KiB.
pub(crate) const MEMBERS: u32 = (limits::FRAME >> 10) as u32;
/// A pack has at most this many frames: so many rows its table may have.
const FRAMES: u32 = 1 << 16;

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    version: u64,
    pub(super) epoch: String,
    pub(super) pack: Blake3,
    size: u64,
    run: RunId,
    first: u32,
    frames: u32,
    table: Blake3,
    plain: u64,
}

impl Header {
    pub(super) fn info(&self) -> PackInfo {
        let Self { pack: digest, size, run, first, frames, table, plain, .. } = *self;
        PackInfo { digest, size, run, first, frames, table, plain }
    }
}

/// The half of a chunk's id that is looked up: 128 bits of a keyed hash do not meet by chance.
pub(crate) fn key(id: &ChunkId) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&id.0[..16]);
    key
}

/// Writes the file of a pack of the epoch with this recipient.
pub(super) fn write(path: &Path, recipient: &str, info: &PackInfo, records: &[Record]) -> Result<()> {
    let PackInfo { digest: pack, size, run, first, frames, table, plain } = *info;
    let header = Header { version: VERSION, epoch: recipient.to_owned(), pack, size, run, first, frames, table, plain };
    let mut bytes = serde_json::to_vec(&header).map_err(|e| Error::failed("could not write the index").because(e))?;
    bytes.push(b'\n');
    bytes.reserve_exact(records.len() * RECORD + DIGEST);
    for (chunk, frame, n) in records {
        bytes.extend_from_slice(&chunk.0);
        bytes.extend_from_slice(&frame.to_le_bytes());
        bytes.extend_from_slice(&n.to_le_bytes());
    }
    bytes.extend_from_slice(&Blake3::of(&bytes).0);
    atomic::write(path, &bytes, 0o600)
}

/// Reads what a file says of its pack, without looking at the chunks.
pub(super) fn read_header(path: &Path) -> Result<Header> {
    open(path).map(|(header, ..)| header)
}

/// Reads a whole file; `pack` is what its places say.
pub(super) fn read(path: &Path, pack: u32) -> Result<(Header, Vec<Place>)> {
    let wrong = |why: &str| wrong(path, why);
    let (header, line, mut file, size) = open(path)?;
    let count = size.checked_sub((line.len() + DIGEST) as u64).filter(|body| body.is_multiple_of(RECORD as u64));
    let count = count.ok_or_else(|| wrong("it is cut off"))? / RECORD as u64;
    if count > u64::from(header.frames) * u64::from(MEMBERS) {
        return Err(wrong("it names more chunks than its frames can have"));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&line);
    let mut places = Vec::new();
    let mut record = [0; RECORD];
    for _ in 0..count {
        file.read_exact(&mut record).at("read", path)?;
        hasher.update(&record);
        let number = |at: usize| record[at..at + 4].iter().rev().fold(0u32, |n, b| n << 8 | u32::from(*b));
        let (frame, n) = (number(32).wrapping_sub(header.first), number(36));
        let (Ok(place), true) = (u16::try_from(frame), frame < header.frames && n < MEMBERS) else {
            return Err(wrong("it names a chunk that cannot be in the pack"));
        };
        let mut key = [0; 16];
        key.copy_from_slice(&record[..16]);
        // MEMBERS is far below 65,536.
        places.push(Place { key, pack, frame: place, n: u16::try_from(n).unwrap_or(u16::MAX) });
    }
    let mut digest = [0; DIGEST];
    file.read_exact(&mut digest).at("read", path)?;
    if hasher.finalize().as_bytes() != &digest {
        return Err(wrong("it is damaged"));
    }
    Ok((header, places))
}

/// The header, its line, the rest of the file, and the size of the whole.
fn open(path: &Path) -> Result<(Header, Vec<u8>, BufReader<File>, u64)> {
    // A pack that is in a part and in the request as a whole has two names.
    let file = File::open(path).at("open", path)?;
    let size = file.metadata().at("stat", path)?.len();
    let mut file = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    file.by_ref().take(HEADER).read_until(b'\n', &mut line).at("read", path)?;
    let header: Header = serde_json::from_slice(&line).map_err(|e| wrong(path, "its first line cannot be read").because(e))?;
    let named = path.file_name().and_then(|n| n.to_str()) == Some(&header.pack.hex());
    if header.version != VERSION || !named || header.frames > FRAMES || header.first.checked_add(header.frames).is_none() {
        return Err(wrong(path, "it is of another version, or of another pack"));
    }
    Ok((header, line, file, size))
}

fn wrong(path: &Path, why: &str) -> Error {
    Error::failed(format!("{} is no file of the index: {why}", path.display()))
}
