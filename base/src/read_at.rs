//! Reading at an offset: what the archive's reader needs of a pack, wherever the pack is.

use std::os::unix::fs::FileExt;

/// Something of a known size that can be read at any offset, from several threads.
pub trait ReadAt: Send + Sync {
    /// The size in bytes.
    ///
    /// # Errors
    /// When it cannot be told.
    fn size(&self) -> std::io::Result<u64>;

    /// Reads into `buffer` from `offset`; fewer bytes than asked for only at the end, 0 behind it.
    ///
    /// # Errors
    /// As reading does.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize>;
}

impl ReadAt for std::fs::File {
    fn size(&self) -> std::io::Result<u64> {
        self.metadata().map(|meta| meta.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match FileExt::read_at(self, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}
