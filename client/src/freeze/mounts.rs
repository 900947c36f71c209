//! What is mounted where, from `/proc/self/mountinfo` (man 5 proc).

use base::{At, Error, Result, untrusted};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The most that is read of it.
const LIMIT: usize = 16 << 20;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// What of the file system is shown; `/` is all of it.
    pub(super) root: String,
    /// Where.
    pub(super) on: PathBuf,
    /// The kind of file system.
    pub(super) kind: String,
    /// The device.
    pub(super) source: String,
}

/// The mount that `path` lies in, which is a real one.
pub(super) fn of(path: &Path) -> Result<Mount> {
    let path_of_list = "/proc/self/mountinfo";
    let file = std::fs::File::open(path_of_list).at("read", path_of_list)?;
    let bytes = untrusted::read_bounded(file, LIMIT).at("read", path_of_list)?;
    let real = path.canonicalize().at("find", path)?;
    holding(&String::from_utf8_lossy(&bytes), &real)
        .ok_or_else(|| Error::failed(format!("nothing that is mounted holds {}", real.display())))
}

/// The last of the longest: what was mounted later hides what was there.
fn holding(list: &str, path: &Path) -> Option<Mount> {
    let mounts = list.lines().filter_map(parse).filter(|mount| path.starts_with(&mount.on));
    mounts.max_by_key(|mount| mount.on.components().count())
}

fn parse(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
    let (root, on) = (unescaped(left.next()?), unescaped(left.next()?));
    let (kind, source) = (right.next()?.to_owned(), unescaped(right.next()?));
    Some(Mount { root: root.into_string().ok()?, on: on.into(), kind, source: source.into_string().ok()? })
}

/// Blanks and the like stand as `\040`.
fn unescaped(text: &str) -> OsString {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let octal = more.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal.filter(|_| *first == b'\\') {
            Some(byte) => {
                out.push(byte);
                rest = &more[3..];
            }
            None => {
                out.push(*first);
                rest = more;
            }
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_that_holds_a_path() {
        let list = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg0-root rw\n\
                    30 22 254:1 / /srv/two\\040words rw - xfs /dev/mapper/vg0-shop rw\n\
                    31 22 254:1 /inner /srv/part rw - xfs /dev/mapper/vg0-shop rw\n\
                    broken\n";
        let of = |path: &str| holding(list, Path::new(path)).map(|mount| (mount.on, mount.root, mount.source));
        let shop = "/dev/mapper/vg0-shop".to_owned();
        assert_eq!(of("/srv/two words/a").unwrap(), ("/srv/two words".into(), "/".into(), shop.clone()));
        assert_eq!(of("/srv/part").unwrap(), ("/srv/part".into(), "/inner".into(), shop));
        assert_eq!(of("/srv/partition").unwrap().0, Path::new("/"));
        assert!(super::of(Path::new("/proc/self")).unwrap().on.starts_with("/proc"));
    }
}
