//! The mark that stands in a target while it is restored into: who works there, how it began, what it made so far.
//!
//! A restore that is started again reads it; that is how its own half-finished things are told from somebody's files.

use super::options::Overwrite;
use base::{At, Error, FileLock, Result};
use rustix::fs::{AtFlags, Mode as Bits, OFlags};
use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What names of marks and of drafts begin with.
pub(super) const PREFIX: &str = ".nightsafe-restore-";

/// A mark that is longer than this is none of ours.
const LIMIT: u64 = 1 << 30;

/// How a restore treats what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The target was new or empty: whatever is in it now is this restore's own.
    Fresh,
    /// There were things before.
    Into(Overwrite),
}

impl Mode {
    const WORDS: [(Self, &'static str); 4] = [
        (Self::Fresh, "fresh"),
        (Self::Into(Overwrite::Never), "never"),
        (Self::Into(Overwrite::Changed), "changed"),
        (Self::Into(Overwrite::Always), "always"),
    ];

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(mode, _)| *mode == self).map_or("fresh", |(_, word)| word)
    }
}

/// What a cut-off restore wrote down.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) mode: Mode,
    /// What it was asked for, as a digest.
    pub(super) asked: String,
    /// Whether the machine has run on since: what was written is what is there.
    pub(super) same_boot: bool,
    /// Folders that it made.
    pub(super) folders: HashSet<Vec<u8>>,
    /// Folders in which it may have left drafts.
    pub(super) drafts: Vec<Vec<u8>>,
}

impl Before {
    /// None when it was cut off before it had said what it is.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|b| *b == b'\n')?;
        let line = std::str::from_utf8(&bytes[..end]).ok()?;
        let [version, mode, asked, boot] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let mode = Mode::WORDS.iter().find(|(_, word)| *word == mode).map(|(mode, _)| *mode).filter(|_| version == "1")?;
        let mut before = Self { mode, asked: asked.into(), same_boot: boot == boot_id(), folders: HashSet::new(), drafts: Vec::new() };
        // The last one may be cut off in the middle; what it stands for was not made yet.
        let mut rest = &bytes[end + 1..];
        while let Some(at) = rest.iter().position(|b| *b == 0) {
            match rest[..at].split_first() {
                Some((b'D', path)) => drop(before.folders.insert(path.to_vec())),
                Some((b'T', path)) => before.drafts.push(path.to_vec()),
                _ => {}
            }
            rest = &rest[at + 1..];
        }
        Some(before)
    }
}

/// The mark of the restore that is running.
#[derive(Debug)]
pub(super) struct Journal {
    name: String,
    /// The open mark.
    lock: FileLock,
    /// Folders that are noted for drafts.
    drafts: HashSet<Vec<u8>>,
    count: u64,
}

impl Journal {
    pub(super) fn name(snapshot: &base::RequestId) -> String {
        format!("{PREFIX}{snapshot}")
    }

    /// Reads what a cut-off restore of the same snapshot left, if there is one.
    ///
    /// # Errors
    /// Of kind refused when something else stands in its place.
    pub(super) fn read(target: &Path, name: &str) -> Result<Option<Before>> {
        let path = target.join(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::open(&path, flags, Bits::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            other => File::from(other.at("open", &path)?),
        };
        check(&file, &path)?;
        let mut bytes = Vec::new();
        file.take(LIMIT).read_to_end(&mut bytes).at("read", &path)?;
        Ok(Before::parse(&bytes))
    }

    /// Makes the mark, or takes over that of a cut-off restore.
    ///
    /// # Errors
    /// Of kind not-now when another restore holds it.
    pub(super) fn begin(target: impl AsFd, shown: &Path, name: String, mode: Mode, asked: &str, resumed: bool) -> Result<Self> {
        let path = shown.join(&name);
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(target, name.as_str(), flags, Bits::RUSR | Bits::WUSR).at("create", &path)?);
        let lock =
            FileLock::try_on(file, &path)?.ok_or_else(|| Error::not_now(format!("another restore is writing into {}", shown.display())))?;
        let mut file = lock.file();
        check(file, &path)?;
        if !resumed {
            file.set_len(0).at("write", &path)?;
            file.write_all(format!("1 {} {asked} {}\n", mode.word(), boot_id()).as_bytes()).at("write", &path)?;
        }
        Ok(Self { name, lock, drafts: HashSet::new(), count: 0 })
    }

    /// Notes a folder that is about to be made.
    pub(super) fn folder(&mut self, path: &[u8]) -> Result<()> {
        self.note(b'D', path)
    }

    /// The path of a new draft beside `path`.
    pub(super) fn draft(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        let inner = path.strip_suffix(b"/").unwrap_or(path);
        let folder = inner.iter().rposition(|b| *b == b'/').map_or(&b""[..], |at| &inner[..=at]);
        if !self.drafts.contains(folder) {
            self.note(b'T', folder)?;
            self.drafts.insert(folder.to_vec());
        }
        self.count += 1;
        Ok([folder, self.name.as_bytes(), format!(".{}.{}", std::process::id(), self.count).as_bytes()].concat())
    }

    fn note(&mut self, kind: u8, path: &[u8]) -> Result<()> {
        self.lock.file().write_all(&[&[kind], path, &[0]].concat()).at("write", &self.name)
    }

    /// Makes it durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.lock.file().sync_all().at("sync", &self.name)
    }

    /// Removes it: all that could be restored has been.
    pub(super) fn remove(&self, target: impl AsFd) -> Result<()> {
        rustix::fs::unlinkat(target, self.name.as_str(), AtFlags::empty()).at("remove", &self.name)
    }
}

/// A mark is believed only where nobody else can have written it.
fn check(file: &File, path: &Path) -> Result<()> {
    let meta = file.metadata().at("look at", path)?;
    if meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw() && meta.nlink() == 1 && meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::refused(format!("{} is there and was not made by a restore of yours", path.display()))
        .hint("Remove it if nobody needs it, or name another folder."))
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| "unknown".into(), |id| id.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_noted_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = File::open(dir.path()).unwrap();
        let name = || format!("{PREFIX}x");
        assert!(Journal::read(dir.path(), &name()).unwrap().is_none());
        let mode = Mode::Into(Overwrite::Changed);
        let mut journal = Journal::begin(&folder, dir.path(), name(), mode, "abc", false).unwrap();
        journal.folder(b"a\n\xff/").unwrap();
        let draft = journal.draft(b"a/b").unwrap();
        assert_eq!(draft, journal.draft(b"a/c").map(|path| [&path[..path.len() - 1], b"1"].concat()).unwrap());
        assert!(draft.starts_with(b"a/.nightsafe-restore-x."));
        let other = Journal::begin(&folder, dir.path(), name(), mode, "abc", true).unwrap_err();
        assert_eq!(other.kind(), base::Kind::NotNow);
        drop(journal);
        let before = Journal::read(dir.path(), &name()).unwrap().unwrap();
        assert!(before.mode == mode && before.asked == "abc" && before.same_boot);
        assert_eq!((before.folders.len(), before.drafts), (1, vec![b"a/".to_vec()]));
        assert!(before.folders.contains(&b"a\n\xff/"[..]));
        // One that others can write is none.
        let path = dir.path().join(name());
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        assert_eq!(Journal::read(dir.path(), &name()).unwrap_err().kind(), base::Kind::Refused);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(Journal::read(dir.path(), &name()).is_err());
    }

    proptest! {
        #[test]
        fn any_cut_is_read(bytes in prop::collection::vec(any::<u8>(), 0..60), cut in 0usize..80) {
            let whole = [&b"1 never abc boot\nDa/\0Ta/b/\0D"[..], &bytes].concat();
            let part = &whole[..cut.min(whole.len())];
            prop_assert_eq!(Before::parse(part).is_some(), part.len() > 16);
            let _ = Before::parse(&bytes);
        }
    }
}
