//! Files that root named on the command line and the data's owner may not be able to open: they come along in memory, and are
//! still called by their own names.
//!
//! Does not know what is in them. Folders do not come along.

use base::{At, Result, untrusted};
use rustix::fs::{MemfdFlags, Mode, fchmod, fchown, memfd_create};
use rustix::process::Uid;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// With the number of the open file behind it, a variable whose value is the file's own path.
const VARIABLE: &str = "NIGHTSAFE_GIVEN_";
/// The largest file that comes along: as the largest that is read of them.
const LIMIT: usize = queue::AllowedSigners::LIMIT;

/// A file that goes along, open for as long as this lives.
#[derive(Debug)]
pub struct Given {
    memory: OwnedFd,
    path: PathBuf,
}

impl Given {
    /// A copy that `uid` alone can read, and that is gone with the process. `None` for what is no file, or a larger one than any
    /// that is named here: then the command finds out what is the matter with it.
    ///
    /// # Errors
    /// With the path.
    pub fn copy(path: &Path, uid: u32) -> Result<Option<Self>> {
        if !path.is_file() {
            return Ok(None);
        }
        let read = |file: File| Ok((file.metadata()?.mode(), untrusted::read_bounded(file, LIMIT)?));
        let Ok((mode, bytes)) = File::open(path).and_then(read) else { return Ok(None) };
        // It stays open across exec: that is what it is for.
        let memory = memfd_create("nightsafe-given", MemfdFlags::empty()).at("make a file in memory for", path)?;
        let mut file = File::from(memory);
        file.write_all(&bytes).at("copy", path)?;
        // A key that everybody can read is refused, and so is its copy.
        fchmod(&file, Mode::from_raw_mode(0o600 | mode & 0o007)).at("set the mode of the copy of", path)?;
        fchown(&file, Some(Uid::from_raw(uid)), None).at("give away the copy of", path)?;
        Ok(Some(Self { memory: file.into(), path: path.to_owned() }))
    }

    /// The variable that tells the next program of it.
    pub fn variable(&self) -> (OsString, OsString) {
        (format!("{VARIABLE}{}", self.memory.as_raw_fd()).into(), self.path.clone().into())
    }
}

/// Opens a file that the command line names.
///
/// # Errors
/// As the system has them.
pub fn open(named: &Path) -> io::Result<File> {
    File::open(path(named))
}

/// Where a file that the command line names can be read: in memory, when root handed it on, or else where it lies.
pub fn path(named: &Path) -> PathBuf {
    find(named, std::env::vars_os()).unwrap_or_else(|| named.to_owned())
}

fn find(named: &Path, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Option<PathBuf> {
    let number = |name: &OsString| name.to_str()?.strip_prefix(VARIABLE)?.parse::<u32>().ok();
    let mut given = variables.into_iter().filter(|(_, value)| Path::new(value) == named);
    given.find_map(|(name, _)| number(&name)).map(|number| format!("/proc/self/fd/{number}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::geteuid;

    #[test]
    fn a_file_in_memory_is_found_by_its_own_name() {
        let dir = tempfile::tempdir().unwrap();
        let (key, other) = (dir.path().join("alice"), dir.path().join("bob"));
        std::fs::write(&key, "secret").unwrap();
        let given = Given::copy(&key, geteuid().as_raw()).unwrap().unwrap();
        assert!(Given::copy(dir.path(), 0).unwrap().is_none() && Given::copy(&other, 0).unwrap().is_none());
        std::fs::remove_file(&key).unwrap();
        let found = find(&key, [("NIGHTSAFE_GIVEN_x".into(), key.clone().into()), given.variable()]).unwrap();
        assert_eq!(std::fs::read_to_string(found).unwrap(), "secret");
        assert_eq!(find(&other, [given.variable()]), None);
        assert_eq!(path(&other), other);
    }
}
