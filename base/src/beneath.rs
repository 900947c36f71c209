//! Opening paths below a folder without leaving it: no link is followed, no `..` gets out (`openat2`).

use crate::error::{At, Error, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Opens a folder that is to be read or walked.
///
/// # Errors
/// With the path.
pub fn folder(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty()).at("open the folder", path)
}

/// Opens `relative` below `folder` with `flags`, following no link at all.
///
/// # Errors
/// With the path; also when a component is a link or leads outside.
pub fn open(folder: impl AsFd, relative: &Path, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    rustix::fs::openat2(folder, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve).at("open", relative)
}

/// Opens an absolute path below the absolute folder `base`, without following any link below `base`.
///
/// # Errors
/// Of kind refused when `path` is not `base` or below it; otherwise with the path.
pub fn open_absolute(base: &Path, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let relative = path.strip_prefix(base).map_err(|_| Error::refused(format!("{} is not below {}", path.display(), base.display())))?;
    open(folder(base)?, relative, flags)
        .map_err(|error| error.context(format!("could not open {} without following links", path.display())))
}

/// Opens a regular file below `folder` for reading, following no link and without blocking.
///
/// # Errors
/// With the path; of kind refused when it is no regular file.
pub fn regular_file(folder: impl AsFd, relative: &Path) -> Result<File> {
    let file = File::from(open(folder, relative, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?);
    if !file.metadata().at("stat", relative)?.is_file() {
        return Err(Error::refused(format!("{} is not a regular file", relative.display())));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_and_dots_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("in")).unwrap();
        std::fs::write(base.join("in/file"), b"x").unwrap();
        std::fs::write(base.join("out"), b"x").unwrap();
        symlink("../out", base.join("in/link")).unwrap();
        symlink("in", base.join("folder")).unwrap();
        let fd = folder(&base.join("in")).unwrap();
        assert!(regular_file(&fd, Path::new("file")).is_ok());
        for bad in ["link", "../out", "/etc/passwd", "absent", "."] {
            assert!(regular_file(&fd, Path::new(bad)).is_err(), "{bad}");
        }
        assert!(open_absolute(&base, &base.join("folder/file"), OFlags::RDONLY).is_err());
        assert!(open_absolute(&base.join("in"), &base.join("in/file"), OFlags::RDONLY).is_ok());
        assert!(open_absolute(&base.join("in"), &base.join("inside"), OFlags::RDONLY).is_err());
    }
}
