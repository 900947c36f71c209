//! Reading one content after the other into chunks, with its digest and its list of references.
//!
//! Does not know paths, and whether what it reads changes meanwhile.

use crate::cache::Uses;
use crate::chunk::{Chunker, Cutter, FILES, STREAMS, WHOLE};
use crate::deposit::Deposit;
use crate::entry::{Content, FileDigest, Hole, Holes, INLINE_HOLES, Sparse, write_hole};
use crate::epoch::{ChunkId, Secrets};
use crate::pipeline::Lane;
use crate::reference::{Encoder, INLINE_LIMIT, Item, Member, References};
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
    /// With its holes.
    pub(crate) size: u64,
    pub(crate) content: Content,
    pub(crate) digest: FileDigest,
    pub(crate) sparse: Option<Sparse>,
    /// Every chunk of it, and of its lists, or another one of the same frame.
    pub(crate) uses: Uses,
}

impl Stored {
    fn new(size: u64, data: u64, (content, mut chunks): (Content, References), digest: FileDigest, holes: Option<Holes>) -> Self {
        if let Content::More(list) = &content {
            chunks.0.extend_from_slice(&list.0);
        }
        if let Some(Holes::More(list)) = &holes {
            chunks.0.extend_from_slice(&list.0);
        }
        Self { size, content, digest, sparse: holes.map(|holes| Sparse { data, holes }), uses: Uses { list: chunks, bytes: data } }
    }
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

    /// Reads a file from its beginning, but for its holes. `expected` is its size, if it does not change.
    pub(crate) fn file(&mut self, file: &File, expected: u64, deposit: &mut Deposit<'_>, monitor: &dyn Monitor) -> Result<Stored, Trouble> {
        // A file of size 0 may be one that the kernel makes up. The blocks that a file takes do not tell whether it has
        // holes: those of its attributes count too.
        let known = if expected == 0 { u64::MAX } else { 0 };
        let mut source = FromStart { file, offset: 0, expected, known, hole: None };
        let mut holes = HoleText::default();
        self.chunker.begin();
        let mut data = 0;
        let start = self.chunker.fill(&mut WithHoles { source: &mut source, holes: &mut holes }, WHOLE + 1)?;
        let (digest, content) = if start.len() > WHOLE {
            let cutter = &self.files;
            let mut hasher = self.secrets.hasher();
            let mut list = List::new(&self.streams);
            while let Some(chunk) = self.chunker.next(&mut WithHoles { source: &mut source, holes: &mut holes }, cutter)? {
                hasher.update(chunk);
                data += chunk.len() as u64;
                let (_, at) = deposit.put(Lane::Data, chunk)?;
                list.push(at, deposit)?;
                holes.spill(&self.streams, deposit)?;
                monitor.bytes(chunk.len() as u64);
            }
            (FileDigest::of(hasher.finalize().as_bytes()), list.finish(deposit)?)
        } else {
            data = start.len() as u64;
            monitor.bytes(data);
            let id = self.secrets.chunk_id(start);
            single(id, start, deposit)?
        };
        let holes = holes.finish(&self.streams, deposit)?;
        Ok(Stored::new(source.offset, data, content, digest, holes))
    }

    /// Stores a text in chunks, and says where they are.
    pub(crate) fn text(&self, text: Vec<u8>, deposit: &mut Deposit<'_>) -> Result<References, Error> {
        let mut long = Long { text, places: Vec::new() };
        while !long.text.is_empty() {
            long.store(&self.streams, deposit)?;
        }
        Ok(References::of(long.places))
    }

    /// Reads a stream to its end.
    pub(crate) fn stream(&mut self, stream: &mut dyn Read, deposit: &mut Deposit<'_>, monitor: &dyn Monitor) -> Result<Stored, Trouble> {
        self.chunker.begin();
        let cutter = &self.streams;
        let mut hasher = self.secrets.hasher();
        let mut size = 0;
        let mut list = List::new(cutter);
        while let Some(chunk) = self.chunker.next(stream, cutter)? {
            hasher.update(chunk);
            size += chunk.len() as u64;
            let (_, at) = deposit.put(Lane::Data, chunk)?;
            list.push(at, deposit)?;
            monitor.bytes(chunk.len() as u64);
        }
        Ok(Stored::new(size, size, list.finish(deposit)?, FileDigest::of(hasher.finalize().as_bytes()), None))
    }
}

/// Stores a file without holes that is a single chunk at most, and whose bytes have this id.
pub(crate) fn whole(id: ChunkId, bytes: &[u8], deposit: &mut Deposit<'_>) -> Result<Stored, Error> {
    let (digest, content) = single(id, bytes, deposit)?;
    let size = bytes.len() as u64;
    Ok(Stored::new(size, size, content, digest, None))
}

fn single(id: ChunkId, bytes: &[u8], deposit: &mut Deposit<'_>) -> Result<(FileDigest, (Content, References)), Error> {
    let list = if bytes.is_empty() { References::default() } else { References::of([deposit.put_as(id, Lane::Data, bytes)?]) };
    // A single chunk's id is the keyed hash of the whole content already.
    Ok((FileDigest::of(&id.0), (Content::Chunks(list.clone()), list)))
}

/// A file's bytes from its beginning, without its holes. The end is where it was expected, without asking for it once
/// more: whether the file has grown is seen by its stat afterwards.
struct FromStart<'a> {
    file: &'a File,
    offset: u64,
    expected: u64,
    /// Up to where it is known that there is no hole.
    known: u64,
    /// The hole that was found last, until it is taken.
    hole: Option<Hole>,
}

impl FromStart<'_> {
    /// Steps over a hole at the offset, and finds out where the next one begins.
    fn look(&mut self) {
        let next = |from| rustix::fs::seek(self.file, from);
        let data = match next(SeekFrom::Data(self.offset)) {
            Ok(data) => data.min(self.expected),
            // A hole up to the end, unless the file was cut shorter meanwhile.
            Err(rustix::io::Errno::NXIO) => self.file.metadata().map_or(0, |now| now.len().min(self.expected)),
            // A file system that does not know holes.
            Err(_) => {
                self.known = u64::MAX;
                return;
            }
        };
        if data > self.offset {
            self.hole = Some(Hole { offset: self.offset, length: data - self.offset });
            self.offset = data;
        }
        // At least one byte is read before it is asked again, whatever changes meanwhile.
        self.known = next(SeekFrom::Hole(self.offset)).unwrap_or(u64::MAX).max(self.offset + 1);
    }
}

impl Read for FromStart<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.offset >= self.known && self.offset < self.expected {
            self.look();
        }
        if self.offset >= self.expected && self.expected > 0 {
            return Ok(0);
        }
        // What grows while it is read is read to where it ended.
        let end = if self.expected > 0 { self.known.min(self.expected) } else { self.known };
        let room = usize::try_from(end - self.offset).unwrap_or(usize::MAX).min(to.len());
        let n = self.file.read_at(&mut to[..room], self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

/// A file that is read, and the list of its holes that grows with that.
struct WithHoles<'a, 'b> {
    source: &'a mut FromStart<'b>,
    holes: &'a mut HoleText,
}

impl Read for WithHoles<'_, '_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let n = self.source.read(to)?;
        if let Some(hole) = self.source.hole.take() {
            self.holes.push(hole);
        }
        Ok(n)
    }
}

/// A list of holes that goes into chunks as it becomes too long for a line.
#[derive(Default)]
struct HoleText {
    /// All of them, as long as they fit into a line.
    list: Vec<Hole>,
    /// The text that is not stored yet.
    text: String,
    long: Option<Long>,
}

impl HoleText {
    fn push(&mut self, hole: Hole) {
        let first = self.text.is_empty() && self.long.is_none();
        write_hole(&mut self.text, first, hole);
        if self.long.is_none() {
            self.list.push(hole);
        }
    }

    /// Stores what is long enough, so that memory stays bounded.
    fn spill(&mut self, cutter: &Cutter, deposit: &mut Deposit<'_>) -> Result<(), Error> {
        if self.long.is_none() && self.text.len() > INLINE_HOLES {
            self.list = Vec::new();
            self.long = Some(Long::default());
        }
        if let Some(long) = &mut self.long {
            long.text.extend_from_slice(self.text.as_bytes());
            self.text.clear();
            while long.text.len() >= cutter.window() {
                long.store(cutter, deposit)?;
            }
        }
        Ok(())
    }

    fn finish(mut self, cutter: &Cutter, deposit: &mut Deposit<'_>) -> Result<Option<Holes>, Error> {
        self.spill(cutter, deposit)?;
        let Some(mut long) = self.long else {
            return Ok((!self.list.is_empty()).then_some(Holes::List(self.list)));
        };
        while !long.text.is_empty() {
            long.store(cutter, deposit)?;
        }
        Ok(Some(Holes::More(References::of(long.places))))
    }
}

/// A list of references that goes into chunks as it becomes too long for a line.
struct List<'a> {
    encoder: Encoder,
    long: Option<Long>,
    frames: Frames,
    cutter: &'a Cutter,
}

/// The end of a long list's text, and where its beginning is.
#[derive(Default)]
struct Long {
    text: Vec<u8>,
    places: Vec<Member>,
}

impl<'a> List<'a> {
    fn new(cutter: &'a Cutter) -> Self {
        Self { encoder: Encoder::default(), long: None, frames: Frames::default(), cutter }
    }

    fn push(&mut self, at: Member, deposit: &mut Deposit<'_>) -> Result<(), Error> {
        self.encoder.push(at);
        self.frames.push(at);
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

    /// The content, and one chunk at least of each frame that it is in.
    fn finish(self, deposit: &mut Deposit<'_>) -> Result<(Content, References), Error> {
        let rest = self.encoder.finish();
        let mut long = match self.long {
            None if rest.len() <= INLINE_LIMIT => {
                let list: References = rest.parse()?;
                return Ok((Content::Chunks(list.clone()), list));
            }
            long => long.unwrap_or_default(),
        };
        long.text.extend_from_slice(rest.as_bytes());
        while !long.text.is_empty() {
            long.store(self.cutter, deposit)?;
        }
        Ok((Content::More(References::of(long.places)), self.frames.finish()))
    }
}

/// The frames of a content that may have far more chunks.
#[derive(Default)]
struct Frames {
    chunks: Vec<Member>,
    /// When it is this long, what is there more than once is looked for.
    full: usize,
}

impl Frames {
    fn push(&mut self, at: Member) {
        let of = |at: &Member| (at.run, at.frame);
        if self.chunks.last().is_some_and(|last| of(last) == of(&at)) {
            return;
        }
        if self.chunks.len() >= self.full {
            self.chunks.sort_unstable();
            self.chunks.dedup_by_key(|at| of(at));
            self.full = (2 * self.chunks.len()).max(4096);
        }
        self.chunks.push(at);
    }

    fn finish(mut self) -> References {
        self.chunks.sort_unstable();
        self.chunks.dedup_by_key(|at| (at.run, at.frame));
        References(self.chunks.into_iter().map(Item::one).collect())
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
