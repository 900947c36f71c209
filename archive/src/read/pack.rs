//! One pack, opened: its table of frames proven, its frames read, decrypted, checked and decompressed.
//!
//! Does not know which runs and numbers its frames have.

use super::buffers::Buffers;
use super::window::{Ends, Handle, Span, Window};
use crate::epoch::EpochKey;
use crate::limits;
use crate::manifest::{PackRef, SealedPack};
use crate::pack::{FrameTable, TAIL, find_table};
use age::stream::StreamReader;
use base::{Error, ReadAt, Result};
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// What is read of a pack's beginning: the head of an age file for a single recipient has about 200 bytes.
const HEAD: u64 = 4 << 10;
/// The longest head that is read.
const HEAD_LIMIT: u64 = 16 << 10;
/// What age encrypts at once, and how long that is when encrypted.
const AGE_CHUNK: u64 = 64 << 10;
const AGE_SEALED: u64 = AGE_CHUNK + 16;

/// A pack whose table has the digest that the manifest's sealed part names. Several threads may decode its frames.
pub(crate) struct OpenPack {
    source: Box<dyn ReadAt>,
    ends: Arc<Ends>,
    /// Where the encrypted content begins in the file.
    payload: u64,
    table: FrameTable,
    /// Decryptors that nobody uses now: setting one up costs a look-up of the key.
    idle: Mutex<Vec<Decryptor>>,
}

/// One place in the pack's encrypted content. After an error it must not be used again.
struct Decryptor {
    reader: StreamReader<Window>,
    window: Handle,
}

/// Decompresses frames and refuses windows larger than the format allows.
pub(crate) fn decompressor() -> Result<zstd::bulk::Decompressor<'static>> {
    let failed = |e: std::io::Error| Error::failed("could not set up zstd").because(e);
    let mut decompressor = zstd::bulk::Decompressor::new().map_err(failed)?;
    decompressor.set_parameter(zstd::zstd_safe::DParameter::WindowLogMax(limits::WINDOW_LOG)).map_err(failed)?;
    Ok(decompressor)
}

/// Where these bytes of the plaintext are in the file of a pack, in whole pieces of age's.
fn sealed_range(payload: u64, size: u64, plain: Range<u64>) -> Range<u64> {
    let start = payload.saturating_add((plain.start / AGE_CHUNK).saturating_mul(AGE_SEALED));
    let end = payload.saturating_add(plain.end.div_ceil(AGE_CHUNK).saturating_mul(AGE_SEALED));
    start.min(size)..end.min(size)
}

fn read_range(source: &dyn ReadAt, range: Range<u64>) -> Result<Vec<u8>> {
    let length = usize::try_from(range.end - range.start).map_err(|_| Error::failed("more was to be read at once than fits"))?;
    let mut bytes = vec![0; length];
    if source.read_at(range.start, &mut bytes).map_err(unreadable)? < length {
        return Err(Error::failed("it ends before its size"));
    }
    Ok(bytes)
}

impl Decryptor {
    fn new(ends: &Arc<Ends>, key: &EpochKey) -> Result<Self> {
        let (bytes, window) = Window::new(Arc::clone(ends));
        Ok(Self { reader: key.decrypt(bytes)?, window })
    }

    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.reader.seek(SeekFrom::Start(offset)).and_then(|_| self.reader.read_exact(out)).map_err(unreadable)
    }
}

impl OpenPack {
    /// Opens a pack: three reads, of its beginning, its end, and (where that is long) its table.
    pub(crate) fn open(source: Box<dyn ReadAt>, pack: &PackRef, sealed: &SealedPack, key: &EpochKey) -> Result<Self> {
        let size = source.size().map_err(unreadable)?;
        if size != pack.size {
            return Err(Error::failed(format!("it has {size} bytes instead of {}", pack.size)));
        }
        let head = read_range(source.as_ref(), 0..HEAD.min(size))?;
        // The last of age's pieces proves the length, and the table is in it or in those before.
        let tail = read_range(source.as_ref(), size.saturating_sub(AGE_SEALED).max(head.len() as u64)..size)?;
        let mut ends = Arc::new(Ends { size, head, tail });
        let mut decryptor = match Decryptor::new(&ends, key) {
            Err(_) if size > HEAD => {
                let head = read_range(source.as_ref(), 0..HEAD_LIMIT.min(size))?;
                let tail = read_range(source.as_ref(), size.saturating_sub(AGE_SEALED).max(head.len() as u64)..size)?;
                ends = Arc::new(Ends { size, head, tail });
                Decryptor::new(&ends, key)?
            }
            other => other?,
        };
        let payload = decryptor.window.position();
        let plain = decryptor.reader.seek(SeekFrom::End(0)).map_err(unreadable)?;
        let tail_at = plain.checked_sub(TAIL as u64).ok_or_else(|| Error::failed("it is too short to be a pack"))?;
        let mut tail = [0; TAIL];
        decryptor.read(tail_at, &mut tail)?;
        let place = find_table(&tail, plain)?;
        let mut bytes = vec![0; usize::try_from(place.end - place.start).unwrap_or(limits::TABLE)];
        let range = sealed_range(payload, size, place.clone());
        if !ends.hold(&range) {
            decryptor.window.show(Span { start: range.start, bytes: Arc::new(read_range(source.as_ref(), range)?) });
        }
        decryptor.read(place.start, &mut bytes)?;
        let table = FrameTable::parse(&bytes)?;
        if table.digest() != sealed.table {
            return Err(Error::failed("its frame table is not the one that the manifest names"));
        }
        if table.frames().len() != sealed.frames as usize || table.frames_end() > place.start {
            return Err(Error::failed("its frame table does not fit it"));
        }
        decryptor.window.show(Span::default());
        Ok(Self { source, ends, payload, table, idle: Mutex::new(vec![decryptor]) })
    }

    /// Reads what is needed to decode these frames, which are in it: one read, or none where that is in memory.
    pub(crate) fn fetch(&self, frames: Range<usize>) -> Result<Span> {
        let missing = || Error::failed(format!("it has no frame {}", frames.end.saturating_sub(1)));
        let rows = self.table.frames().get(frames.clone()).filter(|rows| !rows.is_empty()).ok_or_else(missing)?;
        let (start, end) = (rows[0].offset, rows[rows.len() - 1].offset + u64::from(rows[rows.len() - 1].compressed));
        let range = sealed_range(self.payload, self.ends.size, start..end);
        if self.ends.hold(&range) {
            return Ok(Span::default());
        }
        Ok(Span { start: range.start, bytes: Arc::new(read_range(self.source.as_ref(), range)?) })
    }

    /// The compressed length of a frame; 0 where there is none.
    pub(crate) fn length(&self, index: usize) -> u64 {
        self.table.frames().get(index).map_or(0, |row| row.compressed.into())
    }

    /// The decompressed bytes of the frame with this place in the pack, out of what was fetched.
    pub(crate) fn frame(
        &self,
        index: usize,
        span: &Span,
        key: &EpochKey,
        decompressor: &mut zstd::bulk::Decompressor<'_>,
        buffers: &Buffers,
    ) -> Result<Vec<u8>> {
        let info = *self.table.frames().get(index).ok_or_else(|| Error::failed(format!("it has no frame {index}")))?;
        // The table was parsed: both lengths are within the limits.
        let mut compressed = buffers.take(info.compressed as usize);
        compressed.resize(info.compressed as usize, 0);
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut decryptor = idle.map_or_else(|| Decryptor::new(&self.ends, key), Ok)?;
        decryptor.window.show(span.clone());
        // One that failed is dropped here.
        decryptor.read(info.offset, &mut compressed)?;
        decryptor.window.show(Span::default());
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(decryptor);
        if base::Blake3::of(&compressed) != info.digest {
            return Err(Error::failed(format!("frame {index} in it is not the one that its table names")));
        }
        let mut plain = buffers.take(info.plain as usize);
        // What has more than the table says does not fit beyond the buffer's room, and is found by its length.
        let decompressed = decompressor.decompress_to_buffer(&compressed, &mut plain);
        buffers.give(compressed);
        decompressed.map_err(|e| Error::failed(format!("frame {index} in it cannot be decompressed")).because(e))?;
        if plain.len() != info.plain as usize {
            return Err(Error::failed(format!("frame {index} in it has another length than its table says")));
        }
        Ok(plain)
    }
}

/// A peer that went away is something else than damage: it may be tried again.
pub(crate) fn unreadable(error: std::io::Error) -> Error {
    use std::io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable, NotConnected, TimedOut,
    };
    let away = matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | HostUnreachable | NetworkDown | NetworkUnreachable | NotConnected | TimedOut
    );
    if away {
        Error::not_now("the connection was lost").because(error)
    } else {
        Error::failed("it cannot be read or was changed").because(error)
    }
}
