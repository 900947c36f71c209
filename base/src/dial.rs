//! The line that a client dials where its node cannot reach it: what passes over it, and the socket at which the node's gate
//! joins it to the poller.
//!
//! A line carries one command of the node's, in frames: a byte for the kind, four for the length (big-endian), then at most
//! [`LIMIT`] bytes. Knows neither ssh nor what a command means; both ends are strangers to each other.

use crate::error::{At, Error, Result};
use crate::{atomic, crash};
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The longest content of a frame.
pub const LIMIT: usize = 64 << 10;

/// What a frame is. [`Kind::Waiting`] and [`Kind::Joined`] come in turns as pollers come and go; then a line carries one
/// [`Kind::Command`], its [`Kind::Accepted`], data both ways with [`Kind::Words`] in between, and one [`Kind::Ended`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The gate to the client: no poller runs, and the line waits for one.
    Waiting = 1,
    /// The gate to the client: the poller has the line.
    Joined = 2,
    /// The node to the client: go away, with the reason.
    Leave = 3,
    /// The node to the client: the version of git's protocol, a line break, and the command.
    Command = 4,
    /// The client to the node: the command came, and is looked at.
    Accepted = 5,
    /// What the command reads, or what it says.
    Data = 6,
    /// The node to the client: the command has nothing more to read.
    Closed = 7,
    /// The client to the node: what the command says of trouble.
    Words = 8,
    /// The client to the node: the command has ended, with this exit code.
    Ended = 9,
}

const KINDS: [Kind; 9] =
    [Kind::Waiting, Kind::Joined, Kind::Leave, Kind::Command, Kind::Accepted, Kind::Data, Kind::Closed, Kind::Words, Kind::Ended];

/// Writes one frame, in one piece where the system takes it so.
///
/// # Errors
/// As the writer; of kind invalid-input when the content is too long.
pub fn write(to: &mut impl Write, kind: Kind, content: &[u8]) -> io::Result<()> {
    if content.len() > LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the frame is too long"));
    }
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = Vec::with_capacity(content.len() + 5);
    frame.push(kind as u8);
    frame.extend_from_slice(&length);
    frame.extend_from_slice(content);
    to.write_all(&frame)?;
    to.flush()
}

/// Reads one frame; `None` where the line ends before one begins.
///
/// # Errors
/// As the reader; of kind invalid-data when it is no frame of ours.
pub fn read(from: &mut impl Read) -> io::Result<Option<(Kind, Vec<u8>)>> {
    read_at_most(from, LIMIT)
}

/// As [`read`], of frames that hold at most so many bytes: of a longer one nothing but its head is read.
///
/// # Errors
/// As [`read`].
pub fn read_at_most(from: &mut impl Read, most: usize) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut head = [0; 5];
    loop {
        match from.read(&mut head[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    from.read_exact(&mut head[1..])?;
    let [kind, a, b, c, d] = head;
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let kind = KINDS.into_iter().find(|known| *known as u8 == kind).ok_or_else(|| wrong(format!("a frame of the unknown kind {kind}")))?;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > most {
        return Err(wrong(format!("a frame of {length} bytes")));
    }
    let mut content = vec![0; length];
    from.read_exact(&mut content)?;
    Ok(Some((kind, content)))
}

/// Makes a socket at `path`, in place of one that is there, which `mode` alone can connect to, and who is in `group`. The path
/// may be of any length.
///
/// # Errors
/// With the path.
pub fn bind(path: &Path, mode: u32, group: Option<u32>) -> Result<UnixListener> {
    let (folder, name) = parts(path)?;
    let mut draft = std::ffi::OsString::from(atomic::TEMP_PREFIX);
    draft.push(name);
    let draft_path = path.with_file_name(&draft);
    let folder = crate::beneath::folder(folder)?;
    // What a process left that was killed in this very place.
    atomic::remove(&draft_path)?;
    let listener = UnixListener::bind(short(&folder, &draft)).at("make the socket", &draft_path)?;
    std::os::unix::fs::lchown(&draft_path, None, group).at("give to the group", &draft_path)?;
    std::fs::set_permissions(&draft_path, std::fs::Permissions::from_mode(mode)).at("set the mode of", &draft_path)?;
    // One that is there is a dead one: the caller holds the lock of whoever makes it.
    std::fs::rename(&draft_path, path).at("rename", &draft_path)?;
    crash::point("bound");
    Ok(listener)
}

/// Connects to the socket at `path`, of whatever length.
///
/// # Errors
/// As the system says, mostly that there is none, or that nobody listens.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let (folder, name) = parts(path).map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let folder = rustix::fs::openat(rustix::fs::CWD, folder, flags, rustix::fs::Mode::empty())?;
    UnixStream::connect(short(&folder, name))
}

/// The user at the other end of a connection, as the system knows it.
///
/// # Errors
/// As the system says.
pub fn user_of(connection: &UnixStream) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(connection)?.uid.as_raw())
}

fn parts(path: &Path) -> Result<(&Path, &OsStr)> {
    path.parent().zip(path.file_name()).ok_or_else(|| Error::usage(format!("{} cannot be a socket", path.display())))
}

/// A socket's own path has at most 107 bytes; through the open folder every path is short.
fn short(folder: &impl AsRawFd, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_come_back(contents in prop::collection::vec((0usize..9, prop::collection::vec(any::<u8>(), 0..300)), 0..20)) {
            let mut line = Vec::new();
            for (kind, content) in &contents {
                write(&mut line, KINDS[*kind], content).unwrap();
            }
            let mut from = line.as_slice();
            for (kind, content) in contents {
                prop_assert_eq!(read(&mut from).unwrap(), Some((KINDS[kind], content)));
            }
            prop_assert_eq!(read(&mut from).unwrap(), None);
        }

        #[test]
        fn whatever_comes_is_a_frame_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut from = bytes.as_slice();
            while let Ok(Some((_, content))) = read(&mut from) {
                prop_assert!(content.len() <= LIMIT);
            }
        }
    }

    #[test]
    fn what_is_no_frame() {
        for (bad, words) in [
            (&b"\x00\x00\x00\x00\x00"[..], "unknown kind 0"),
            (b"\x0a\x00\x00\x00\x00", "unknown kind 10"),
            (b"\x06\x00\x01\x00\x01", "65537 bytes"),
            (b"\x06\xff\xff\xff\xff", "bytes"),
            (b"\x06\x00\x00", "fill"),
            (b"\x06\x00\x00\x00\x05abc", "fill"),
        ] {
            let error = read(&mut &bad[..]).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(write(&mut Vec::new(), Kind::Data, &vec![0; LIMIT + 1]).is_err());
        let mut long = &b"\x05\x00\x00\x00\x01abc"[..];
        assert!(read_at_most(&mut long, 0).unwrap_err().to_string().contains("a frame of 1 bytes"));
        assert_eq!(long, b"abc", "nothing of it was read");
    }

    #[test]
    fn a_socket_below_a_long_path() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("x".repeat(150));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("dial");
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let first = bind(&path, 0o600, None).unwrap();
        let mut here = connect(&path).unwrap();
        let (mut there, _) = first.accept().unwrap();
        assert_eq!(user_of(&there).unwrap(), rustix::process::getuid().as_raw());
        write(&mut here, Kind::Joined, b"x").unwrap();
        assert_eq!(read(&mut there).unwrap(), Some((Kind::Joined, b"x".to_vec())));
        // One that is left is replaced.
        drop(first);
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let _second = bind(&path, 0o660, None).unwrap();
        connect(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }
}
