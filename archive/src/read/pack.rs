//! One pack, opened: its table of frames proven, its frames decrypted, checked and decompressed.
//!
//! Does not know which runs and numbers its frames have.

use super::ahead::{Ahead, Control};
use crate::epoch::EpochKey;
use crate::limits;
use crate::manifest::{PackRef, SealedPack};
use crate::pack::{FrameTable, TAIL, find_table};
use age::stream::StreamReader;
use base::{Error, ReadAt, Result};
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

/// The longest head of an age file that is read: one for a single recipient has about 200 bytes.
const HEAD_LIMIT: u64 = 16 << 10;
/// What age encrypts at once, and how long that is when encrypted.
const AGE_CHUNK: u64 = 64 << 10;
const AGE_SEALED: u64 = AGE_CHUNK + 16;

/// A pack whose table has the digest that the manifest's sealed part names.
///
/// After an error it must not be used again: age's reader does not start anew.
pub(crate) struct OpenPack {
    reader: StreamReader<Ahead>,
    control: Arc<Control>,
    /// Where the encrypted content begins in the file.
    payload: u64,
    table: FrameTable,
}

/// Decompresses frames and refuses windows larger than the format allows.
pub(crate) fn decompressor() -> Result<zstd::bulk::Decompressor<'static>> {
    let failed = |e: std::io::Error| Error::failed("could not set up zstd").because(e);
    let mut decompressor = zstd::bulk::Decompressor::new().map_err(failed)?;
    decompressor.set_parameter(zstd::zstd_safe::DParameter::WindowLogMax(limits::WINDOW_LOG)).map_err(failed)?;
    Ok(decompressor)
}

impl OpenPack {
    /// Opens a pack: three reads, of its beginning, its end, and (where that is long) its table.
    pub(crate) fn open(source: Box<dyn ReadAt>, pack: &PackRef, sealed: &SealedPack, key: &EpochKey) -> Result<Self> {
        let size = source.size().map_err(unreadable)?;
        if size != pack.size {
            return Err(Error::failed(format!("it has {size} bytes instead of {}", pack.size)));
        }
        let (mut ahead, control) = Ahead::new(source, size);
        ahead.begin().map_err(unreadable)?;
        control.forbid_from(HEAD_LIMIT);
        let mut reader = key.decrypt(ahead)?;
        control.forbid_from(u64::MAX);
        let payload = control.position();
        // The last of age's chunks proves the length, and the table is in it or in those before.
        control.expect(u64::MAX);
        let plain = reader.seek(SeekFrom::End(0)).map_err(unreadable)?;
        let tail_at = plain.checked_sub(TAIL as u64).ok_or_else(|| Error::failed("it is too short to be a pack"))?;
        let mut tail = [0; TAIL];
        reader.seek(SeekFrom::Start(tail_at)).and_then(|_| reader.read_exact(&mut tail)).map_err(unreadable)?;
        let place = find_table(&tail, plain)?;
        let mut bytes = vec![0; usize::try_from(place.end - place.start).unwrap_or(limits::TABLE)];
        control.expect(payload + place.end.div_ceil(AGE_CHUNK) * AGE_SEALED);
        reader.seek(SeekFrom::Start(place.start)).and_then(|_| reader.read_exact(&mut bytes)).map_err(unreadable)?;
        let table = FrameTable::parse(&bytes)?;
        if table.digest() != sealed.table {
            return Err(Error::failed("its frame table is not the one that the manifest names"));
        }
        if table.frames().len() != sealed.frames as usize || table.frames_end() > place.start {
            return Err(Error::failed("its frame table does not fit it"));
        }
        Ok(Self { reader, control, payload, table })
    }

    /// The decompressed bytes of the frame with this place in the pack.
    pub(crate) fn frame(&mut self, index: usize, decompressor: &mut zstd::bulk::Decompressor<'_>) -> Result<Vec<u8>> {
        let info = *self.table.frames().get(index).ok_or_else(|| Error::failed(format!("it has no frame {index}")))?;
        // The table was parsed: both lengths are within the limits.
        let mut compressed = vec![0; info.compressed as usize];
        self.control.expect(self.payload + (info.offset + u64::from(info.compressed)).div_ceil(AGE_CHUNK) * AGE_SEALED);
        self.reader.seek(SeekFrom::Start(info.offset)).and_then(|_| self.reader.read_exact(&mut compressed)).map_err(unreadable)?;
        if base::Blake3::of(&compressed) != info.digest {
            return Err(Error::failed(format!("frame {index} in it is not the one that its table names")));
        }
        let plain = decompressor
            .decompress(&compressed, info.plain as usize)
            .map_err(|e| Error::failed(format!("frame {index} in it cannot be decompressed")).because(e))?;
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
