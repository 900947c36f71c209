//! A small sftp server that reads: version 3 of the protocol over standard input and output, one thread, in order.
//!
//! Knows no folder and grants nothing: a [`Tree`] opens names. Whatever would write, list, link or rename is not here.

mod wire;

use base::{At, Exit, Result, beneath};
use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path};
use std::process::ExitCode;
use wire::{Attributes, Packet, Replies, Request, Status};

/// How many files may be open at once.
const HANDLES: usize = 64;
/// The most bytes of one read.
const READ_LIMIT: usize = 256 << 10;
/// Replies are handed on when this many bytes are together, or when no request waits.
const FLUSH: usize = 512 << 10;
/// How much is read from the other end at once.
const INPUT: usize = 64 << 10;

/// Why a name is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// There is no such file.
    Absent,
    /// It may not be read, or is nothing that can be.
    Forbidden,
}

/// Opens names, with no slash at their beginning.
pub trait Tree {
    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// Why not.
    fn open(&mut self, name: &str) -> std::result::Result<File, Denied>;

    /// What waits for the turn of so many bytes of that file, where it may be read so fast and no faster.
    fn pace(&self, _name: &str) -> Option<Pace> {
        None
    }
}

/// Is given a number of bytes, and returns when they may go.
pub type Pace = Box<dyn Fn(u64)>;

/// An open file.
struct Opened {
    file: File,
    pace: Option<Pace>,
}

/// Opens a regular file below `folder`, following no link.
///
/// # Errors
/// Whether it is absent or forbidden.
pub fn open_beneath(folder: impl AsFd, name: &Path) -> std::result::Result<File, Denied> {
    if !name.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Denied::Forbidden);
    }
    beneath::regular_file(&folder, name).map_err(|_| match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Denied::Absent,
        _ => Denied::Forbidden,
    })
}

/// Serves until the other end is done.
///
/// # Errors
/// When it cannot be talked to, or does not keep to the protocol.
pub fn serve(tree: &mut dyn Tree) -> Result<ExitCode> {
    let stdin = std::io::stdin();
    // The descriptors themselves: the library's own buffers would copy everything once more, line by line.
    let mut input = File::from(stdin.as_fd().try_clone_to_owned().at("use", "stdin")?);
    let mut output = File::from(std::io::stdout().as_fd().try_clone_to_owned().at("use", "stdout")?);
    match converse(tree, &mut input, &mut output) {
        // A client that goes away in the middle is no failure of ours.
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(Exit::Done.into()),
        done => done.at("speak sftp with", "the other end").map(|()| Exit::Done.into()),
    }
}

/// As [`serve`], over any two ends.
///
/// # Errors
/// When one of them fails, or what comes does not keep to the protocol.
pub fn converse(tree: &mut dyn Tree, input: &mut impl Read, output: &mut impl Write) -> std::io::Result<()> {
    let mut session = Session { tree, handles: Vec::new(), begun: false };
    let mut packets = wire::Packets::new(INPUT);
    let mut replies = Replies::new(FLUSH + READ_LIMIT + 1024);
    loop {
        // All requests that came together are answered together.
        while let Some(packet) = packets.next()? {
            session.answer(&packet, &mut replies)?;
            // What had to wait for its turn goes when that has come.
            if replies.len() >= FLUSH || session.handles.iter().flatten().any(|opened| opened.pace.is_some()) {
                replies.flush(output)?;
            }
        }
        replies.flush(output)?;
        if !packets.fill(input)? {
            return Ok(());
        }
    }
}

struct Session<'a> {
    tree: &'a mut dyn Tree,
    handles: Vec<Option<Opened>>,
    begun: bool,
}

impl Session<'_> {
    fn answer(&mut self, packet: &Packet<'_>, replies: &mut Replies) -> std::io::Result<()> {
        let request = wire::parse(packet)?;
        let id = match request {
            Request::Init if !self.begun => {
                self.begun = true;
                replies.version();
                return Ok(());
            }
            _ if !self.begun => return Err(wire::broken("the first packet must be SSH_FXP_INIT")),
            Request::Init => return Err(wire::broken("SSH_FXP_INIT came twice")),
            Request::Other { id, .. }
            | Request::Open { id, .. }
            | Request::Close { id, .. }
            | Request::Read { id, .. }
            | Request::Fstat { id, .. }
            | Request::Stat { id, .. }
            | Request::RealPath { id, .. }
            | Request::Limits { id } => id,
        };
        match request {
            Request::Init => {}
            Request::Open { name, read_only, .. } => match self.open(name, read_only) {
                Ok(handle) => replies.handle(id, handle),
                Err(status) => replies.status(id, status),
            },
            Request::Close { handle, .. } => {
                let closed = self.handles.get_mut(handle).and_then(Option::take);
                replies.status(id, if closed.is_some() { Status::Ok } else { Status::Failure });
            }
            Request::Read { handle, offset, length, .. } => match self.handles.get(handle).and_then(Option::as_ref) {
                Some(Opened { file, pace }) => replies.data(id, (length as usize).min(READ_LIMIT), |buffer| {
                    let read = read_full(file, buffer, offset);
                    if let (Some(pace), Ok(bytes)) = (pace, &read) {
                        pace(*bytes as u64);
                    }
                    read
                }),
                None => replies.status(id, Status::Failure),
            },
            Request::Fstat { handle, .. } => match self.handles.get(handle).and_then(Option::as_ref).map(|opened| attributes(&opened.file))
            {
                Some(Ok(attributes)) => replies.attributes(id, &attributes),
                _ => replies.status(id, Status::Failure),
            },
            Request::Stat { name, .. } => match self.stat(name) {
                Ok(attributes) => replies.attributes(id, &attributes),
                Err(status) => replies.status(id, status),
            },
            Request::RealPath { name, .. } => match real_path(name) {
                Some(path) => replies.name(id, &path),
                None => replies.status(id, Status::Forbidden),
            },
            Request::Limits { .. } => replies.limits(id, READ_LIMIT as u64, HANDLES as u64),
            Request::Other { writes, .. } => replies.status(id, if writes { Status::Forbidden } else { Status::Unsupported }),
        }
        Ok(())
    }

    fn open(&mut self, name: &[u8], read_only: bool) -> std::result::Result<usize, Status> {
        if !read_only {
            return Err(Status::Forbidden);
        }
        let free = self.handles.iter().position(Option::is_none);
        if free.is_none() && self.handles.len() >= HANDLES {
            return Err(Status::Failure);
        }
        let name = plain(name).ok_or(Status::Forbidden)?;
        let file = self.tree.open(name).map_err(Status::from)?;
        // Packs are read from the beginning to the end, mostly.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
        let slot = free.unwrap_or_else(|| {
            self.handles.push(None);
            self.handles.len() - 1
        });
        self.handles[slot] = Some(Opened { file, pace: self.tree.pace(name) });
        Ok(slot)
    }

    fn stat(&mut self, name: &[u8]) -> std::result::Result<Attributes, Status> {
        if real_path(name).as_deref() == Some("/") {
            return Ok(Attributes { size: 0, mode: 0o40_500, time: 0 });
        }
        let file = self.tree.open(plain(name).ok_or(Status::Forbidden)?).map_err(Status::from)?;
        attributes(&file).map_err(|_| Status::Failure)
    }
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Absent => Self::NoSuchFile,
            Denied::Forbidden => Self::Forbidden,
        }
    }
}

/// The name without the one slash that may stand before it.
fn plain(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    let name = name.strip_prefix('/').unwrap_or(name);
    (!name.is_empty() && !name.starts_with('/') && name.len() <= 1024 && !name.contains('\0')).then_some(name)
}

/// The only thing that clients ask this for is where they are, and how a name is written in full.
fn real_path(name: &[u8]) -> Option<String> {
    match name {
        b"" | b"." | b"/" | b"./" | b"/." => Some("/".into()),
        name => Some(format!("/{}", plain(name.strip_prefix(b"./").unwrap_or(name))?)),
    }
}

fn attributes(file: &File) -> std::io::Result<Attributes> {
    let meta = file.metadata()?;
    Ok(Attributes { size: meta.size(), mode: 0o100_400, time: u32::try_from(meta.mtime()).unwrap_or(0) })
}

/// Fills as much of `buffer` as the file has from `offset` on.
fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        let Some(at) = offset.checked_add(done as u64).filter(|at| i64::try_from(*at).is_ok()) else { break };
        match file.read_at(&mut buffer[done..], at) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests;
