//! Whether a file that is there holds what the snapshot has, to the byte.
//!
//! Does not look at names, owners or times.

use crate::entry::{Entry, EntryKind, FileDigest, Sparse};
use crate::read::layout::Layout;
use crate::snapshot::SnapshotReader;
use base::{At, Result};
use rustix::fs::SeekFrom;
use std::fs::File;
use std::io::Result as Read;
use std::os::unix::fs::FileExt;

/// So many bytes are read at once.
const PIECE: usize = 128 << 10;

/// Compares by the entry's digest. Where the snapshot has a hole, the file may have zeros.
pub(super) fn same_content(reader: &SnapshotReader, entry: &Entry, file: &File) -> Result<bool> {
    let EntryKind::File { size, digest, sparse, .. } = &entry.kind else { return Ok(false) };
    same_bytes(reader, (*size, sparse.as_ref(), *digest), file, &entry.shown_path())
}

/// As [`same_content`], by size, holes and digest.
pub(super) fn same_bytes(
    reader: &SnapshotReader,
    (size, sparse, digest): (u64, Option<&Sparse>, FileDigest),
    file: &File,
    shown: &str,
) -> Result<bool> {
    let mut hasher = reader.secrets().hasher();
    let mut layout = Layout::new(size, sparse);
    let mut left = sparse.map_or(size, |sparse| sparse.data);
    let mut at = 0;
    if file.metadata().at("look at", shown)?.len() != size {
        return Ok(false);
    }
    while left > 0 {
        let (offset, length) = layout.place(reader.frames(), usize::try_from(left).unwrap_or(usize::MAX))?;
        let end = offset + length as u64;
        if !is_zero(file, at, offset).at("read", shown)? {
            return Ok(false);
        }
        each_piece(file, offset, end, &mut |bytes| {
            hasher.update(bytes);
            true
        })
        .at("read", shown)?;
        at = end;
        left -= length as u64;
    }
    layout.finish(reader.frames())?;
    Ok(is_zero(file, at, size).at("read", shown)? && FileDigest::of(hasher.finalize().as_bytes()) == digest)
}

/// Whether there are zeros alone from `from` to `to`; holes are not read.
fn is_zero(file: &File, mut from: u64, to: u64) -> Read<bool> {
    while from < to {
        let (data, hole) = match rustix::fs::seek(file, SeekFrom::Data(from)) {
            Ok(data) => (data, rustix::fs::seek(file, SeekFrom::Hole(data)).unwrap_or(to).min(to)),
            Err(rustix::io::Errno::NXIO) => return Ok(true),
            // A file system that does not know holes.
            Err(_) => (from, to),
        };
        if data >= to {
            return Ok(true);
        }
        if !each_piece(file, data, hole, &mut |bytes| bytes.iter().all(|b| *b == 0))? {
            return Ok(false);
        }
        from = hole.max(data + 1);
    }
    Ok(true)
}

/// Hands on the bytes of a range while `each` is content, and says whether it was to the end.
fn each_piece(file: &File, mut from: u64, to: u64, each: &mut dyn FnMut(&[u8]) -> bool) -> Read<bool> {
    let mut buffer = vec![0; PIECE];
    while from < to {
        let room = usize::try_from(to - from).unwrap_or(PIECE).min(PIECE);
        let n = file.read_at(&mut buffer[..room], from)?;
        if n == 0 || !each(&buffer[..n]) {
            return Ok(false);
        }
        from += n as u64;
    }
    Ok(true)
}
