//! Whether a restore has room on the disk, as far as that can be known before it begins.
//!
//! Reads no content.

use base::{At, ByteSize, Error, Result};
use std::path::Path;

/// Bytes and files that may still be written where `path` is, or will be.
pub(super) fn free(path: &Path) -> Result<(u64, u64)> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let stat = rustix::fs::statvfs(there).at("look at the file system of", there)?;
    let blocks = if rustix::process::geteuid().is_root() { stat.f_bfree } else { stat.f_bavail };
    // A file system that does not count its files says that it has none.
    let files = if stat.f_files == 0 { u64::MAX } else { stat.f_favail };
    Ok((blocks.saturating_mul(stat.f_frsize), files))
}

/// # Errors
/// Of kind not-now when there is less than is needed.
pub(super) fn check(path: &Path, needed: (u64, u64), free: (u64, u64)) -> Result<()> {
    if needed.0 > free.0 {
        return Err(Error::not_now(format!(
            "{} are needed and {} are free where {} is",
            ByteSize(needed.0),
            ByteSize(free.0),
            path.display()
        ))
        .hint("Nothing was written. Make room on that file system, or name another folder."));
    }
    if needed.1 > free.1 {
        return Err(Error::not_now(format!(
            "{} files and folders are to be made, and the file system of {} takes {} more",
            needed.1,
            path.display(),
            free.1
        ))
        .hint("Nothing was written. Make room on that file system, or name another folder."));
    }
    Ok(())
}

/// For a snapshot that holds more than its manifest says: `more` bytes of it are still to come to `path`.
///
/// # Errors
/// Of kind not-now when there is less room than that.
pub(super) fn check_more(path: &Path, said: u64, more: u64) -> Result<()> {
    let (free, _) = free(path)?;
    if more <= free {
        return Ok(());
    }
    Err(Error::not_now(format!(
        "the snapshot holds more than the {} that its manifest says: {} are still to come, and {} are free where {} is",
        ByteSize(said),
        ByteSize(more),
        ByteSize(free),
        path.display()
    ))
    .hint("No honest client makes such a snapshot. Restore parts of it, by their paths."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said_with_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let (bytes, files) = free(&dir.path().join("not/there/yet")).unwrap();
        assert!(bytes > 0 && files > 0);
        check(dir.path(), (bytes, 1), (bytes, files)).unwrap();
        let error = check(dir.path(), (3 << 40, 1), (1 << 30, 10)).unwrap_err();
        assert!(error.kind() == base::Kind::NotNow && error.one_line().contains("3.0 TiB are needed and 1.0 GiB"), "{}", error.one_line());
        check_more(dir.path(), 1, bytes / 2).unwrap();
        assert!(check_more(dir.path(), 1, u64::MAX).unwrap_err().one_line().contains("more than the 1 B that its manifest says"));
        assert!(check(dir.path(), (0, 11), (1, 10)).unwrap_err().one_line().contains("11 files"));
    }
}
