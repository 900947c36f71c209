//! `Read` and `Seek` over what is in memory of a pack's file: its head, its end, and one span between them.
//!
//! Reads no file, and does not know what the bytes mean.

use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The two ends of a file, which stay in memory while it is read.
#[derive(Debug)]
pub(crate) struct Ends {
    /// The file's size in bytes.
    pub(crate) size: u64,
    /// Its first bytes.
    pub(crate) head: Vec<u8>,
    /// Its last bytes.
    pub(crate) tail: Vec<u8>,
}

impl Ends {
    /// Whether these bytes are in memory.
    pub(crate) fn hold(&self, range: &Range<u64>) -> bool {
        let (head, tail) = (self.head.len() as u64, self.size.saturating_sub(self.tail.len() as u64));
        range.end <= head || range.start >= tail || head >= tail
    }
}

/// Some bytes of a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Span {
    /// Where they begin in it.
    pub(crate) start: u64,
    /// The bytes.
    pub(crate) bytes: Arc<Vec<u8>>,
}

/// Moves a window that was given away.
#[derive(Debug, Clone)]
pub(crate) struct Handle(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    position: u64,
    span: Span,
}

/// The reader.
pub(crate) struct Window {
    ends: Arc<Ends>,
    state: Handle,
}

impl Handle {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets these bytes be read, and none of a span before.
    pub(crate) fn show(&self, span: Span) {
        self.state().span = span;
    }

    /// Where the next byte would be read.
    pub(crate) fn position(&self) -> u64 {
        self.state().position
    }
}

impl Window {
    pub(crate) fn new(ends: Arc<Ends>) -> (Self, Handle) {
        let state = Handle(Arc::default());
        (Self { ends, state: state.clone() }, state)
    }
}

impl Read for Window {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        let mut state = self.state.state();
        let position = state.position;
        if position >= self.ends.size {
            return Ok(0);
        }
        let tail = self.ends.size.saturating_sub(self.ends.tail.len() as u64);
        let places = [(state.span.start, state.span.bytes.as_slice()), (0, &self.ends.head), (tail, &self.ends.tail)];
        let found = places.into_iter().find_map(|(start, bytes)| {
            let skip = usize::try_from(position.checked_sub(start)?).ok()?;
            bytes.get(skip..).filter(|rest| !rest.is_empty())
        });
        // Whoever shows a span shows all that will be asked for: what is not there was asked for by a hostile head.
        let bytes = found.ok_or_else(|| Error::new(ErrorKind::InvalidData, "its head is too long, or its table is wrong"))?;
        let n = bytes.len().min(out.len());
        out[..n].copy_from_slice(&bytes[..n]);
        state.position = position + n as u64;
        Ok(n)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let mut state = self.state.state();
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.ends.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => state.position.checked_add_signed(offset),
        };
        state.position = position.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "an offset before the beginning"))?;
        Ok(state.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_memory_is_read_and_nothing_else() {
        let data: Vec<u8> = (0..1000u32).map(|n| n.to_le_bytes()[0]).collect();
        let ends = Arc::new(Ends { size: 1000, head: data[..100].to_vec(), tail: data[900..].to_vec() });
        assert!(ends.hold(&(50..100)) && ends.hold(&(900..1000)) && !ends.hold(&(50..101)) && !ends.hold(&(899..1000)));
        let (mut window, handle) = Window::new(ends);
        let mut out = vec![0; 100];
        window.read_exact(&mut out).unwrap();
        assert_eq!((out.as_slice(), handle.position()), (&data[..100], 100));
        assert_eq!(window.read(&mut out).unwrap_err().kind(), ErrorKind::InvalidData);
        handle.show(Span { start: 90, bytes: Arc::new(data[90..950].to_vec()) });
        let mut rest = Vec::new();
        window.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, data[100..]);
        handle.show(Span::default());
        window.seek(SeekFrom::End(-10)).unwrap();
        rest.clear();
        window.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, data[990..]);
        assert_eq!(window.seek(SeekFrom::Start(5000)).unwrap(), 5000);
        assert_eq!(window.read(&mut out).unwrap(), 0);
        assert!(window.seek(SeekFrom::Current(-5001)).is_err());
    }
}
