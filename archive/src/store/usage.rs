//! How much a store holds, and the last place given in the order: counted once, then kept in step.
//!
//! Does not know about quotas.

use super::layout::{ACCEPTED, FILE_MODE, Layout, MARKS};
use base::{Accepted, At, Error, RequestId, Result, atomic, config, untrusted};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// What `usage.toml` says. It is there only while it is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Usage {
    version: i64,
    /// Bytes of packs and of the files of snapshots and parts.
    pub(super) bytes: u64,
    /// The highest place in the order that was ever given here.
    pub(super) order: u64,
}

impl Usage {
    pub(super) fn new(bytes: u64, order: u64) -> Self {
        Self { version: config::VERSION, bytes, order }
    }

    /// What the file says, or what counting gives. Writes nothing, so that readers may ask.
    pub(super) fn get(layout: &Layout) -> Result<Self> {
        // A file that cannot be understood is as good as none: it can always be computed again.
        let path = layout.usage();
        let kept = untrusted::read(&path, 4096).and_then(|file| config::parse(&path.display().to_string(), &file.bytes));
        match kept {
            Ok(usage) => Ok(usage),
            Err(_) => Self::count(layout),
        }
    }

    /// Counts by listing.
    pub(super) fn count(layout: &Layout) -> Result<Self> {
        let mut usage = Self::new(0, 0);
        each(&layout.packs(), |pack| usage.add(&pack.path()))?;
        for roots in [layout.snapshots(), layout.parts()] {
            each(&roots, |root| {
                if root.file_name().to_str().is_none_or(|name| name.parse::<RequestId>().is_err()) {
                    return Ok(());
                }
                // Marks and unfinished files come and go without the count; they are the node's own.
                let is_ours = |name: &OsStr| {
                    MARKS.iter().any(|mark| name == *mark) || name.as_encoded_bytes().starts_with(atomic::TEMP_PREFIX.as_bytes())
                };
                each(&root.path(), |file| if is_ours(&file.file_name()) { Ok(()) } else { usage.add(&file.path()) })?;
                let path = root.path().join(ACCEPTED);
                // A snapshot whose note cannot be read has a place that nobody knows: no new one may be given.
                let note = untrusted::read(&path, base::ACCEPTED_LIMIT)?;
                usage.order = usage.order.max(Accepted::parse(&path.display().to_string(), &note.bytes)?.order);
                Ok(())
            })?;
        }
        Ok(usage)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_file() => self.bytes = self.bytes.saturating_add(meta.len()),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).at("look at", path),
            // Folders count nothing; a file that is gone was removed meanwhile.
            _ => {}
        }
        Ok(())
    }

    /// To be called before anything changes: until [`Usage::keep`], and after a crash, whoever asks must count.
    pub(super) fn invalidate(layout: &Layout) -> Result<()> {
        let path = layout.usage();
        if !path.exists() {
            return Ok(());
        }
        atomic::remove(&path)?;
        atomic::sync_folder(layout.root())
    }

    /// To be called when the change is durable.
    pub(super) fn keep(self, layout: &Layout) -> Result<()> {
        let text = toml::to_string(&self).map_err(|error| Error::failed("could not write down what the store holds").because(error))?;
        atomic::write(&layout.usage(), text.as_bytes(), FILE_MODE)
    }
}

/// Bytes of the files in the folder of one root.
pub(super) fn bytes_in(root: &Path) -> Result<u64> {
    let mut usage = Usage::new(0, 0);
    each(root, |file| usage.add(&file.path()))?;
    Ok(usage.bytes)
}

/// Calls `f` for everything in `folder`; a folder that is not there is empty.
fn each(folder: &Path, mut f: impl FnMut(&fs::DirEntry) -> Result<()>) -> Result<()> {
    match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(()),
        entries => entries.at("list", folder)?.try_for_each(|entry| f(&entry.at("list", folder)?)),
    }
}
