//! `Read` and `Seek` over a [`ReadAt`], reading as much at once as its user has said will be needed.
//!
//! Does not know what the bytes mean.

use base::ReadAt;
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is read at least.
const LEAST: u64 = 4 << 10;
/// What is read at most, at once.
const MOST: u64 = 9 << 20;

/// How far to read ahead, and how far reading may go; shared with whoever has given the reader away.
#[derive(Debug)]
pub(crate) struct Control {
    until: AtomicU64,
    barrier: AtomicU64,
    position: AtomicU64,
}

impl Control {
    /// The bytes up to `offset` will be needed.
    pub(crate) fn expect(&self, offset: u64) {
        self.until.store(offset, Ordering::Relaxed);
    }

    /// Nothing may be read from `offset` on.
    pub(crate) fn forbid_from(&self, offset: u64) {
        self.barrier.store(offset, Ordering::Relaxed);
    }

    /// Where the next byte would be read.
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }
}

/// The reader.
pub(crate) struct Ahead {
    source: Box<dyn ReadAt>,
    size: u64,
    start: u64,
    buffer: Vec<u8>,
    control: Arc<Control>,
}

impl Ahead {
    pub(crate) fn new(source: Box<dyn ReadAt>, size: u64) -> (Self, Arc<Control>) {
        let control = Arc::new(Control { until: AtomicU64::new(0), barrier: AtomicU64::new(u64::MAX), position: AtomicU64::new(0) });
        (Self { source, size, start: 0, buffer: Vec::new(), control: control.clone() }, control)
    }

    /// Reads the beginning, so that a source that cannot be read says so itself.
    pub(crate) fn begin(&mut self) -> Result<()> {
        if self.size > 0 { self.fill(0).map(|_| ()) } else { Ok(()) }
    }

    /// The buffered bytes from `position` on; reads some where there are none.
    fn fill(&mut self, position: u64) -> Result<&[u8]> {
        let end = self.start + self.buffer.len() as u64;
        if !(self.start..end).contains(&position) {
            let wanted = self.control.until.load(Ordering::Relaxed).saturating_sub(position).clamp(LEAST, MOST);
            let wanted = usize::try_from(wanted.min(self.size - position)).map_err(Error::other)?;
            self.buffer.clear();
            self.buffer.resize(wanted, 0);
            self.start = position;
            let got = self.source.read_at(position, &mut self.buffer)?;
            self.buffer.truncate(got);
            if got == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, "it ends before its size"));
            }
        }
        let skip = usize::try_from(position - self.start).map_err(Error::other)?;
        Ok(&self.buffer[skip..])
    }
}

impl Read for Ahead {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        let position = self.control.position();
        if position >= self.size || out.is_empty() {
            return Ok(0);
        }
        if position >= self.control.barrier.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::InvalidData, "its head is too long"));
        }
        let bytes = self.fill(position)?;
        let n = bytes.len().min(out.len());
        out[..n].copy_from_slice(&bytes[..n]);
        self.control.position.store(position + n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl Seek for Ahead {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.control.position().checked_add_signed(offset),
        };
        let position = position.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "an offset before the beginning"))?;
        self.control.position.store(position, Ordering::Relaxed);
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Counted(Vec<u8>, Arc<Mutex<Vec<(u64, usize)>>>);

    impl ReadAt for Counted {
        fn size(&self) -> Result<u64> {
            Ok(self.0.len() as u64)
        }
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
            self.1.lock().unwrap().push((offset, buffer.len()));
            let rest = &self.0[usize::try_from(offset).unwrap()..];
            let n = rest.len().min(buffer.len());
            buffer[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        }
    }

    #[test]
    fn reads_once_what_is_expected() {
        let data: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, control) = Ahead::new(Box::new(Counted(data.clone(), calls.clone())), data.len() as u64);
        control.expect(60_000);
        reader.seek(SeekFrom::Start(10_000)).unwrap();
        let mut out = vec![0; 50_000];
        reader.read_exact(&mut out).unwrap();
        assert_eq!(out, data[10_000..60_000]);
        reader.seek(SeekFrom::End(-10)).unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, data[99_990..]);
        assert_eq!(*calls.lock().unwrap(), [(10_000, 50_000), (99_990, 10)]);
        control.forbid_from(20);
        reader.seek(SeekFrom::Start(0)).unwrap();
        assert!(reader.read_to_end(&mut rest).is_err());
        // A source that is shorter than it said.
        let (mut short, _) = Ahead::new(Box::new(Counted(vec![1; 10], calls)), 100);
        assert!(short.read_to_end(&mut rest).is_err());
    }
}
