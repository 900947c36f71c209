//! Reading extended attributes and access control lists of what a walk meets.
//!
//! Does not follow links, and does not know what becomes of what it reads.

use crate::entry::{ACCESS, Acl, DEFAULT, XattrMap};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

/// The longest list of names, and the longest value, that a kernel gives.
const LONGEST: usize = 64 << 10;

/// Whose attributes are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Thing<'a> {
    /// An opened file or folder.
    Opened(BorrowedFd<'a>),
    /// What must not, or cannot, be opened: a name in an opened folder.
    Named(BorrowedFd<'a>, &'a [u8]),
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) xattrs: XattrMap,
    pub(crate) acl: Option<Acl>,
    pub(crate) default_acl: Option<Acl>,
    /// What could not be read, and why.
    pub(crate) lost: Vec<String>,
}

/// Reads attributes with one call where there are none, and without any where the file system has none.
#[derive(Debug)]
pub(crate) struct Attributes {
    /// File systems that have none, by device.
    without: HashSet<u64>,
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { without: HashSet::new(), names: vec![0; LONGEST], value: vec![0; LONGEST] }
    }
}

impl Attributes {
    /// All attributes of a thing on the file system `device`; `None` where there are none.
    pub(crate) fn read(&mut self, thing: Thing<'_>, device: u64) -> Option<Found> {
        if self.without.contains(&device) {
            return None;
        }
        // A descriptor's own path leads to the very thing: no call takes a folder and a name.
        let path = match thing {
            Thing::Opened(_) => CString::default(),
            Thing::Named(folder, name) => {
                CString::new([format!("/proc/self/fd/{}/", folder.as_raw_fd()).as_bytes(), name].concat()).unwrap_or_default()
            }
        };
        let listed = match thing {
            Thing::Opened(fd) => rustix::fs::flistxattr(fd, self.names.as_mut_slice()),
            Thing::Named(..) => rustix::fs::llistxattr(path.as_c_str(), self.names.as_mut_slice()),
        };
        let length = match listed {
            Ok(0) => return None,
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => {
                self.without.insert(device);
                return None;
            }
            Err(error) => return Some(Found { lost: vec![format!("could not list its attributes: {}", text(error))], ..Found::default() }),
        };
        let mut found = Found::default();
        for name in self.names[..length].split_inclusive(|b| *b == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
            let read = match thing {
                Thing::Opened(fd) => rustix::fs::fgetxattr(fd, name, self.value.as_mut_slice()),
                Thing::Named(..) => rustix::fs::lgetxattr(path.as_c_str(), name, self.value.as_mut_slice()),
            };
            let shown = || base::text::printable(&name.to_string_lossy());
            match read {
                Ok(length) => {
                    found.take(name.to_bytes(), &self.value[..length]).unwrap_or_else(|why| found.lost.push(format!("{}: {why}", shown())))
                }
                // It was taken away in between.
                Err(Errno::NODATA) => {}
                Err(error) => found.lost.push(format!("could not read the attribute {}: {}", shown(), text(error))),
            }
        }
        Some(found)
    }
}

impl Found {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), String> {
        match name {
            ACCESS => self.acl = Some(Acl::from_xattr(value).map_err(|error| error.one_line())?),
            DEFAULT => self.default_acl = Some(Acl::from_xattr(value).map_err(|error| error.one_line())?),
            _ => {
                self.xattrs.insert(name.to_vec(), value.to_vec());
            }
        }
        Ok(())
    }
}

fn text(error: Errno) -> std::io::Error {
    error.into()
}
