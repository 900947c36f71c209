//! Reading files that somebody else may have written, linked or replaced.

use crate::error::{At, Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file's content and what is known of it from its descriptor.
#[derive(Debug)]
pub struct Untrusted {
    /// The bytes, at most as many as were allowed.
    pub bytes: Vec<u8>,
    /// The owner's numeric id.
    pub uid: u32,
}

/// Opens `path` for reading without following a last link, without blocking on a FIFO, and only if it is a regular
/// file with one name.
///
/// # Errors
/// With the path, and of kind refused when the file is not of that kind.
pub fn open(path: &Path) -> Result<File> {
    open_at(rustix::fs::CWD, path)
}

/// As [`open`], with `path` relative to the folder `folder`.
///
/// # Errors
/// As [`open`].
pub fn open_at(folder: impl AsFd, path: &Path) -> Result<File> {
    plain(openat(folder, path), path)
}

fn openat(folder: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::openat(folder, path, flags, Mode::empty())
}

fn plain(opened: rustix::io::Result<OwnedFd>, path: &Path) -> Result<File> {
    let unfit = || Error::refused(format!("{} is not a regular file with a single name", path.display()));
    let file = match opened {
        // A link, and a socket.
        Err(Errno::LOOP | Errno::NXIO) => return Err(unfit()),
        other => File::from(other.at("open", path)?),
    };
    let meta = file.metadata().at("stat", path)?;
    // One without a name was replaced since it was opened, and is what was there then.
    if !meta.is_file() || meta.nlink() > 1 {
        return Err(unfit());
    }
    Ok(file)
}

/// Reads a whole file opened as by [`open`], if it has at most `limit` bytes.
///
/// # Errors
/// With the path, and of kind refused when it is longer.
pub fn read(path: &Path, limit: usize) -> Result<Untrusted> {
    read_open(open(path)?, path, limit)
}

/// As [`read`]; none where there is no file.
///
/// # Errors
/// As [`read`].
pub fn read_if_there(path: &Path, limit: usize) -> Result<Option<Untrusted>> {
    match openat(rustix::fs::CWD, path) {
        Err(Errno::NOENT) => Ok(None),
        opened => read_open(plain(opened, path)?, path, limit).map(Some),
    }
}

fn read_open(file: File, path: &Path, limit: usize) -> Result<Untrusted> {
    let uid = file.metadata().at("stat", path)?.uid();
    Ok(Untrusted { bytes: read_bounded(file, limit).at("read", path)?, uid })
}

/// Reads to the end, if that comes within `limit` bytes. Nothing is allocated by a length that the other side states.
///
/// # Errors
/// `FileTooLarge` when there is more.
pub fn read_bounded(source: impl Read, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, format!("longer than the {limit} bytes allowed")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_plain_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("plain"), b"12345").unwrap();
        assert_eq!(read(&at("plain"), 5).unwrap().bytes, b"12345");
        assert!(read(&at("plain"), 4).is_err());
        assert_eq!(read_if_there(&at("plain"), 5).unwrap().unwrap().bytes, b"12345");
        assert!(read_if_there(&at("none"), 5).unwrap().is_none() && read(&at("none"), 5).is_err());
        assert!(read_if_there(dir.path(), 5).is_err());
        symlink(at("plain"), at("link")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), Mode::from_raw_mode(0o600)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for bad in ["link", "folder", "fifo", "socket"] {
            assert_eq!(read(&at(bad), 100).unwrap_err().kind(), crate::Kind::Refused, "{bad}");
        }
        assert_ne!(read(&at("absent"), 100).unwrap_err().kind(), crate::Kind::Refused);
        std::fs::hard_link(at("plain"), at("second")).unwrap();
        assert!(read(&at("plain"), 100).is_err());
    }

    #[test]
    fn a_file_that_is_replaced_meanwhile_is_read_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        std::fs::write(&path, b"word").unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    std::fs::write(dir.path().join("new"), b"word").unwrap();
                    std::fs::rename(dir.path().join("new"), &path).unwrap();
                }
            });
            let read = (0..5000).try_for_each(|_| read(&path, 100).map(|file| assert_eq!(file.bytes, b"word")));
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            read.unwrap();
        });
    }
}
