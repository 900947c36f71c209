//! What `stat` says of everything that is shown.
//!
//! Of what is in a snapshot it is what was backed up; the folders above belong to whoever mounts it.

use super::nodes::Node;
use archive::entry::{Entry, EntryKind, Mtime};
use fuser::{FileAttr, FileType, INodeNo};
use jiff::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is said of what is in no snapshot.
pub struct Looks {
    /// Who mounts it.
    owner: (u32, u32),
    since: Timestamp,
}

impl Looks {
    /// Of this process, from now on.
    pub fn new() -> Self {
        let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Self { owner, since: Timestamp::now() }
    }

    /// What `stat` says of a node with this number.
    pub fn of(&self, number: u64, node: &Node) -> FileAttr {
        let time = |time: Timestamp| SystemTime::from(time);
        let mut attr = FileAttr {
            ino: INodeNo(number),
            size: 0,
            blocks: 0,
            atime: time(self.since),
            mtime: time(self.since),
            ctime: time(self.since),
            crtime: UNIX_EPOCH,
            kind: FileType::Directory,
            perm: 0o555,
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 128 << 10,
            flags: 0,
        };
        match node {
            Node::Above(_) => {}
            Node::Latest(_, id) => {
                (attr.kind, attr.perm, attr.size) = (FileType::Symlink, 0o777, id.as_str().len() as u64);
            }
            Node::Snapshot(_, received) => attr.mtime = time(*received),
            Node::Inside(_, entry) => inside_attr(&mut attr, entry),
        }
        (attr.atime, attr.ctime) = (attr.mtime, attr.mtime);
        attr
    }
}

fn inside_attr(attr: &mut FileAttr, entry: &Entry) {
    attr.kind = FileType::RegularFile;
    match &entry.kind {
        EntryKind::Dir => attr.kind = FileType::Directory,
        EntryKind::File { size, sparse, .. } => {
            attr.size = *size;
            attr.blocks = sparse.as_ref().map_or(*size, |sparse| sparse.data).div_ceil(512);
        }
        EntryKind::Link { target } => (attr.kind, attr.size) = (FileType::Symlink, target.len() as u64),
        EntryKind::Fifo => attr.kind = FileType::NamedPipe,
        EntryKind::Device { block, major, minor } => {
            attr.kind = if *block { FileType::BlockDevice } else { FileType::CharDevice };
            // The kernel's own packing: the low byte of the minor number, the major number, the rest of the minor.
            attr.rdev = (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12;
        }
    }
    attr.perm = u16::try_from(entry.mode & 0o7777).unwrap_or_default();
    (attr.uid, attr.gid) = (entry.uid, entry.gid);
    // How many names there are is not counted; that there are several lets tar and cp look for them.
    attr.nlink = if entry.hard_link.is_some() { 2 } else { 1 };
    attr.mtime = system_time(entry.mtime);
}

fn system_time(time: Mtime) -> SystemTime {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let at = if time.seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    at.and_then(|at| at.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_1970() {
        let time = |seconds, nanos| system_time(Mtime { seconds, nanos });
        assert_eq!(time(1, 5), UNIX_EPOCH + Duration::new(1, 5));
        // Half a second before it is second -1 and half a second.
        assert_eq!(time(-1, 500_000_000), UNIX_EPOCH - Duration::from_millis(500));
        // What no clock shows is no reason to end.
        let _ = (time(i64::MAX, 999_999_999), time(i64::MIN, 0));
    }
}
