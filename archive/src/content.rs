//! Reading one content after the other into chunks, with its digest and its list of references.
//!
//! Does not know paths, and whether what it reads changes meanwhile.

use crate::chunk::{Chunker, Cutter, FILES, STREAMS, WHOLE};
use crate::deposit::Deposit;
use crate::entry::{Content, FileDigest};
use crate::epoch::Secrets;
use crate::pipeline::Lane;
use crate::reference::{Encoder, INLINE_LIMIT, Member, References};
use base::{Error, Monitor};
use rustix::fs::SeekFrom;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

/// Why a content could not be stored.
pub(crate) enum Trouble {
    /// The source could not be read; the rest of the backup can.
    Source(std::io::Error),
    /// The archive could not be written.
    Archive(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Archive(error)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Source(error)
    }
}

/// A content that is stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) size: u64,
    pub(crate) content: Content,
    pub(crate) digest: FileDigest,
}

/// Buffers and tables for reading.
pub(crate) struct Reader {
    secrets: Secrets,
    chunker: Chunker,
    files: Cutter,
    streams: Cutter,
}

impl Reader {
    pub(crate) fn new(secrets: &Secrets) -> Self {
        Self {
            secrets: secrets.clone(),
            chunker: Chunker::default(),
            files: Cutter::new(secrets, FILES),
            streams: Cutter::new(secrets, STREAMS),
        }
    }

    /// Reads a file from its beginning. `expected` is its size, if it does not change.
    pub(crate) fn file(&mut self, file: &File, expected: u64, deposit: &mut Deposit<'_>, monitor: &dyn Monitor) -> Result<Stored, Trouble> {
        let mut source = FromStart { file, offset: 0, expected, known: 0, hole: false };
        self.chunker.begin();
        let start = self.chunker.fill(&mut source, WHOLE + 1)?;
        if start.len() > WHOLE {
            return self.cut(&mut source, false, deposit, monitor);
        }
        let size = start.len() as u64;
        let (digest, list) = if start.is_empty() {
            (self.secrets.chunk_id(start), References::default())
        } else {
            let (id, at) = deposit.put(Lane::Data, start)?;
            (id, References::of([at]))
        };
        monitor.bytes(size);
        // A single chunk's id is the keyed hash of the whole content already.
        Ok(Stored { size, content: Content::Chunks(list), digest: FileDigest::of(&digest.0) })
    }

    /// Reads a stream to its end.
    pub(crate) fn stream(&mut self, stream: &mut dyn Read, deposit: &mut Deposit<'_>, monitor: &dyn Monitor) -> Result<Stored, Trouble> {
        self.chunker.begin();
        self.cut(stream, true, deposit, monitor)
    }

    fn cut(&mut self, source: &mut dyn Read, stream: bool, deposit: &mut Deposit<'_>, monitor: &dyn Monitor) -> Result<Stored, Trouble> {
        let cutter = if stream { &self.streams } else { &self.files };
        let mut hasher = self.secrets.hasher();
        let mut size = 0;
        let mut list = List { encoder: Encoder::default(), long: None, cutter: &self.streams };
        while let Some(chunk) = self.chunker.next(source, cutter)? {
            hasher.update(chunk);
            size += chunk.len() as u64;
            let (_, at) = deposit.put(Lane::Data, chunk)?;
            list.push(at, deposit)?;
            monitor.bytes(chunk.len() as u64);
        }
        Ok(Stored { size, content: list.finish(deposit)?, digest: FileDigest::of(hasher.finalize().as_bytes()) })
    }
}

/// A file's bytes from its beginning. The end is where it was expected, without asking for it once more: whether the
/// file has grown is seen by its stat afterwards. Holes give zeros without being read.
struct FromStart<'a> {
    file: &'a File,
    offset: u64,
    expected: u64,
    /// Up to where it is known what the file is, and whether that is a hole.
    known: u64,
    hole: bool,
}

impl FromStart<'_> {
    /// Finds out where the hole, or the data, at the offset ends.
    fn look(&mut self) {
        let next = |from| rustix::fs::seek(self.file, from);
        (self.known, self.hole) = match next(SeekFrom::Data(self.offset)) {
            Ok(data) if data > self.offset => (data.min(self.expected), true),
            Ok(_) => (next(SeekFrom::Hole(self.offset)).unwrap_or(u64::MAX), false),
            // A hole up to the end, unless the file was cut shorter meanwhile.
            Err(rustix::io::Errno::NXIO) => match self.file.metadata() {
                Ok(now) if now.len() > self.offset => (now.len().min(self.expected), true),
                _ => (u64::MAX, false),
            },
            // A file system that does not know holes.
            Err(_) => (u64::MAX, false),
        };
    }
}

impl Read for FromStart<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.offset == self.expected && self.expected > 0 {
            return Ok(0);
        }
        // Small files are not worth asking; a file of size 0 may be one that the kernel makes up.
        if self.expected > WHOLE as u64 && self.offset >= self.known {
            self.look();
        }
        let offset = self.offset;
        let within = |end: u64| usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(to.len());
        let n = if self.hole && self.offset < self.known {
            let zeros = within(self.known);
            to[..zeros].fill(0);
            zeros
        } else {
            let room = if self.expected > offset { within(self.expected) } else { to.len() };
            self.file.read_at(&mut to[..room], self.offset)?
        };
        self.offset += n as u64;
        Ok(n)
    }
}

/// A list of references that goes into chunks as it becomes too long for a line.
struct List<'a> {
    encoder: Encoder,
    long: Option<Long>,
    cutter: &'a Cutter,
}

/// The end of a long list's text, and where its beginning is.
#[derive(Default)]
struct Long {
    text: Vec<u8>,
    places: Vec<Member>,
}

impl List<'_> {
    fn push(&mut self, at: Member, deposit: &mut Deposit<'_>) -> Result<(), Error> {
        self.encoder.push(at);
        if self.long.is_none() && self.encoder.text().len() > INLINE_LIMIT {
            self.long = Some(Long::default());
        }
        if let Some(long) = &mut self.long {
            long.text.extend_from_slice(self.encoder.take().as_bytes());
            while long.text.len() >= self.cutter.window() {
                long.store(self.cutter, deposit)?;
            }
        }
        Ok(())
    }

    fn finish(self, deposit: &mut Deposit<'_>) -> Result<Content, Error> {
        let rest = self.encoder.finish();
        let mut long = match self.long {
            None if rest.len() <= INLINE_LIMIT => return Ok(Content::Chunks(rest.parse()?)),
            long => long.unwrap_or_default(),
        };
        long.text.extend_from_slice(rest.as_bytes());
        while !long.text.is_empty() {
            long.store(self.cutter, deposit)?;
        }
        Ok(Content::More(References::of(long.places)))
    }
}

impl Long {
    fn store(&mut self, cutter: &Cutter, deposit: &mut Deposit<'_>) -> Result<(), Error> {
        let length = cutter.cut(&self.text);
        let (_, at) = deposit.put(Lane::Data, &self.text[..length])?;
        self.places.push(at);
        self.text.drain(..length);
        Ok(())
    }
}
