//! The packets of sftp, version 3: taken apart within bounds, put together into one buffer.
//!
//! Opens nothing and decides nothing.

use std::io::{self, Read, Write};

/// The longest packet that is taken. What may be asked here is short.
const PACKET_LIMIT: usize = (256 << 10) + 1024;
/// The version that we speak.
const VERSION: u32 = 3;
/// Tells clients how much they may ask for at once, as OpenSSH defined it.
const LIMITS: &[u8] = b"limits@openssh.com";

/// An error that ends the conversation.
pub fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// One packet: its type and what follows.
#[derive(Debug)]
pub struct Packet<'a> {
    kind: u8,
    body: &'a [u8],
}

/// Bytes from the other end, cut into packets.
#[derive(Debug)]
pub struct Packets {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    step: usize,
}

impl Packets {
    /// An empty buffer that is filled with up to `step` bytes at a time.
    pub fn new(step: usize) -> Self {
        Self { buffer: vec![0; step], start: 0, end: 0, step }
    }

    /// The next whole packet.
    ///
    /// # Errors
    /// When a packet is empty or too long.
    pub fn next(&mut self) -> io::Result<Option<Packet<'_>>> {
        let waiting = &self.buffer[self.start..self.end];
        let Some((head, rest)) = waiting.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length == 0 || length > PACKET_LIMIT {
            return Err(broken("a packet is empty or too long"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let from = self.start + 4;
        self.start = from + length;
        Ok(Some(Packet { kind: self.buffer[from], body: &self.buffer[from + 1..from + length] }))
    }

    /// Waits for more bytes; `false` when there will be none.
    ///
    /// # Errors
    /// When the other end cannot be read, or ends within a packet.
    pub fn fill(&mut self, input: &mut impl Read) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < self.end + self.step {
            // At most one packet is incomplete, and its length was checked.
            self.buffer.resize(self.end + self.step, 0);
        }
        loop {
            match input.read(&mut self.buffer[self.end..]) {
                Ok(0) if self.end > 0 => return Err(broken("it ended in the middle of a packet")),
                Ok(0) => return Ok(false),
                Ok(n) => {
                    self.end += n;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What the other end wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// To begin.
    Init,
    /// To open a file.
    Open {
        id: u32,
        name: &'a [u8],
        /// Whether it wants to read and nothing more.
        read_only: bool,
    },
    /// To be done with a file.
    Close { id: u32, handle: usize },
    /// A part of a file.
    Read { id: u32, handle: usize, offset: u64, length: u32 },
    /// What an open file is like.
    Fstat { id: u32, handle: usize },
    /// What a file is like.
    Stat { id: u32, name: &'a [u8] },
    /// How a name is written in full.
    RealPath { id: u32, name: &'a [u8] },
    /// How much may be asked for.
    Limits { id: u32 },
    /// Anything else.
    Other {
        id: u32,
        /// Whether it would change something.
        writes: bool,
    },
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> io::Result<u32> {
        let (head, rest) = self.0.split_first_chunk::<4>().ok_or_else(|| broken("a packet is too short"))?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*head))
    }

    fn long(&mut self) -> io::Result<u64> {
        Ok(u64::from(self.number()?) << 32 | u64::from(self.number()?))
    }

    fn text(&mut self) -> io::Result<&'a [u8]> {
        let length = self.number()? as usize;
        let (text, rest) = self.0.split_at_checked(length).ok_or_else(|| broken("a packet is too short"))?;
        self.0 = rest;
        Ok(text)
    }

    /// A handle of ours; any other text is a number that no file has.
    fn handle(&mut self) -> io::Result<usize> {
        let text = self.text()?;
        Ok(<[u8; 4]>::try_from(text).map_or(usize::MAX, |bytes| u32::from_be_bytes(bytes) as usize))
    }
}

/// Reads a packet.
///
/// # Errors
/// When it is shorter than it says.
pub fn parse<'a>(packet: &Packet<'a>) -> io::Result<Request<'a>> {
    let mut fields = Fields(packet.body);
    let id = fields.number()?;
    Ok(match packet.kind {
        1 => Request::Init,
        3 => Request::Open { id, name: fields.text()?, read_only: fields.number()? == 1 },
        4 => Request::Close { id, handle: fields.handle()? },
        5 => Request::Read { id, handle: fields.handle()?, offset: fields.long()?, length: fields.number()? },
        7 | 17 => Request::Stat { id, name: fields.text()? },
        8 => Request::Fstat { id, handle: fields.handle()? },
        16 => Request::RealPath { id, name: fields.text()? },
        200 if fields.text()? == LIMITS => Request::Limits { id },
        // Write, setstat, fsetstat, remove, mkdir, rmdir, rename, symlink, and extensions, which mostly do the same.
        6 | 9 | 10 | 13 | 14 | 15 | 18 | 20 => Request::Other { id, writes: true },
        _ => Request::Other { id, writes: false },
    })
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// There is no more.
    Eof = 1,
    /// There is no such file.
    NoSuchFile = 2,
    /// Not allowed.
    Forbidden = 3,
    /// It did not work.
    Failure = 4,
    /// We do not do that.
    Unsupported = 8,
}

impl Status {
    fn words(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Eof => "end of file",
            Self::NoSuchFile => "no such file",
            Self::Forbidden => "not allowed",
            Self::Failure => "failed",
            Self::Unsupported => "not supported",
        }
    }
}

/// What is told of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Bytes.
    pub size: u64,
    /// Type and permissions.
    pub mode: u32,
    /// When it was changed.
    pub time: u32,
}

/// Replies that wait to be handed on.
#[derive(Debug)]
pub struct Replies {
    buffer: Vec<u8>,
    used: usize,
}

impl Replies {
    /// A buffer that never grows past `capacity` when it is flushed in time.
    pub fn new(capacity: usize) -> Self {
        // Filled once: reads go straight into it, and zeroing a part for each would cost as much as a copy.
        Self { buffer: vec![0; capacity], used: 0 }
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Hands everything on.
    ///
    /// # Errors
    /// When the other end does not take it.
    pub fn flush(&mut self, output: &mut impl Write) -> io::Result<()> {
        let waiting = &self.buffer[..self.used];
        if !waiting.is_empty() {
            output.write_all(waiting)?;
            output.flush()?;
        }
        self.used = 0;
        Ok(())
    }

    fn room(&mut self, more: usize) {
        if self.buffer.len() < self.used + more {
            self.buffer.resize(self.used + more, 0);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.room(bytes.len());
        self.buffer[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    #[expect(clippy::cast_possible_truncation, reason = "all packets of ours are short")]
    fn packet(&mut self, kind: u8, id: u32, parts: &[&[u8]]) {
        let length = 5 + parts.iter().map(|part| part.len()).sum::<usize>();
        self.put(&(length as u32).to_be_bytes());
        self.put(&[kind]);
        self.put(&id.to_be_bytes());
        for part in parts {
            self.put(part);
        }
    }

    /// Answers the first packet.
    pub fn version(&mut self) {
        let one = 1u32.to_be_bytes();
        #[expect(clippy::cast_possible_truncation, reason = "a constant")]
        let length = (LIMITS.len() as u32).to_be_bytes();
        self.packet(2, VERSION, &[&length, LIMITS, &one, b"1"]);
    }

    /// Answers with how it went.
    pub fn status(&mut self, id: u32, status: Status) {
        let words = status.words().as_bytes();
        #[expect(clippy::cast_possible_truncation, reason = "our own words")]
        let length = (words.len() as u32).to_be_bytes();
        self.packet(101, id, &[&(status as u32).to_be_bytes(), &length, words, &0u32.to_be_bytes()]);
    }

    /// Answers with a handle.
    #[expect(clippy::cast_possible_truncation, reason = "there are few handles")]
    pub fn handle(&mut self, id: u32, handle: usize) {
        self.packet(102, id, &[&4u32.to_be_bytes(), &(handle as u32).to_be_bytes()]);
    }

    /// Answers with what `read` puts into the buffer of `length` bytes that it is given.
    #[expect(clippy::cast_possible_truncation, reason = "the caller bounds the length")]
    pub fn data(&mut self, id: u32, length: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) {
        const HEAD: usize = 13;
        self.room(HEAD + length);
        let begin = self.used;
        match read(&mut self.buffer[begin + HEAD..begin + HEAD + length]) {
            Ok(0) if length > 0 => self.status(id, Status::Eof),
            Ok(found) => {
                self.put(&((found + 9) as u32).to_be_bytes());
                self.put(&[103]);
                self.put(&id.to_be_bytes());
                self.put(&(found as u32).to_be_bytes());
                self.used += found;
            }
            Err(_) => self.status(id, Status::Failure),
        }
    }

    /// Answers with what a file is like.
    pub fn attributes(&mut self, id: u32, attributes: &Attributes) {
        // Size, permissions, times.
        let flags = (1u32 | 4 | 8).to_be_bytes();
        let time = attributes.time.to_be_bytes();
        self.packet(105, id, &[&flags, &attributes.size.to_be_bytes(), &attributes.mode.to_be_bytes(), &time, &time]);
    }

    /// Answers with one name.
    #[expect(clippy::cast_possible_truncation, reason = "names are bounded")]
    pub fn name(&mut self, id: u32, name: &str) {
        let length = (name.len() as u32).to_be_bytes();
        self.packet(104, id, &[&1u32.to_be_bytes(), &length, name.as_bytes(), &length, name.as_bytes(), &0u32.to_be_bytes()]);
    }

    /// Answers with how much may be asked for.
    pub fn limits(&mut self, id: u32, read: u64, handles: u64) {
        self.packet(201, id, &[&(PACKET_LIMIT as u64).to_be_bytes(), &read.to_be_bytes(), &0u64.to_be_bytes(), &handles.to_be_bytes()]);
    }
}
