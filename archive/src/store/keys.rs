//! Key files that an administrator put into a store: `keys/<epoch's recipient>/<n>.json`, n from 1.
//!
//! Has no key: looks at their form, and whether the store has a snapshot of the epoch. Packs are not touched.

use super::Store;
use super::layout::{FILE_MODE, Layout, folder};
use crate::epoch::{KEY_FILE_BYTES, KEY_FILES, KeyFile, is_epoch_recipient};
use base::{Error, Result, atomic, beneath, untrusted};
use std::path::Path;

/// What became of a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// It is there now, under this number.
    New(usize),
    /// It was there before, under this number.
    Before(usize),
}

/// The name of the key file with this number, below a client's folder.
pub fn key_file_name(recipient: &str, number: usize) -> String {
    format!("keys/{recipient}/{number}.json")
}

/// The bytes of one key file of a store; `None` when there is none of that number.
fn read(layout: &Layout, recipient: &str, number: usize) -> Result<Option<Vec<u8>>> {
    let name = key_file_name(recipient, number);
    if layout.root().join(&name).symlink_metadata().is_err() {
        return Ok(None);
    }
    let file = beneath::regular_file(beneath::folder(layout.root())?, Path::new(&name))?;
    let bytes = untrusted::read_bounded(file, KEY_FILE_BYTES).map_err(|e| Error::failed(format!("{name} cannot be read")).because(e))?;
    Ok(Some(bytes))
}

/// The key files of the epoch with this recipient. What is none is passed over: it opens nothing.
pub(super) fn key_files(layout: &Layout, recipient: &str) -> Vec<KeyFile> {
    if !is_epoch_recipient(recipient) {
        return Vec::new();
    }
    let readable = |number| match read(layout, recipient, number).and_then(|found| found.map(|bytes| KeyFile::parse(&bytes)).transpose()) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!("{} is passed over: {}", layout.root().join(key_file_name(recipient, number)).display(), error.one_line());
            None
        }
    };
    (1..=KEY_FILES).filter_map(readable).collect()
}

impl Store {
    /// The key files that were added to the epoch with this recipient.
    pub fn key_files(&self, recipient: &str) -> Vec<KeyFile> {
        key_files(&self.layout, recipient)
    }

    /// Puts a key file into the store, whole or not at all; the same one again changes nothing.
    ///
    /// # Errors
    /// Of kind refused when no snapshot here is of its epoch, or the epoch has as many as it can have.
    pub fn install_key_file(&self, bytes: &[u8]) -> Result<Installed> {
        let file = KeyFile::parse(bytes)?;
        let recipient = &file.epoch.recipient;
        let _lock = self.lock()?;
        if !self.has_epoch(recipient)? {
            return Err(Error::refused(format!("no snapshot in {} is of the epoch {recipient}", self.path().display()))
                .hint("Was it made for another client or another node? nightsafe keys check lists the epochs."));
        }
        let here = self.path().join("keys").join(recipient);
        folder(&self.path().join("keys"))?;
        folder(&here)?;
        let mut free = None;
        for number in 1..=KEY_FILES {
            match read(&self.layout, recipient, number) {
                Ok(Some(found)) if found == bytes => return Ok(Installed::Before(number)),
                Ok(None) => free = free.or(Some(number)),
                // Something else stands there; it is left alone.
                _ => {}
            }
        }
        let number = free.ok_or_else(|| {
            Error::refused(format!("the epoch {recipient} has {KEY_FILES} key files, and more are not looked at"))
                .hint(format!("Remove those that nobody needs from {}; one file can be for several recipients.", here.display()))
        })?;
        atomic::write_new(&self.path().join(key_file_name(recipient, number)), bytes, FILE_MODE)?;
        Ok(Installed::New(number))
    }

    /// Whether a snapshot here is of the epoch. Listings name the epoch; the manifest is what counts.
    fn has_epoch(&self, recipient: &str) -> Result<bool> {
        Ok(self.snapshots()?.iter().any(|snapshot| snapshot.epoch.as_deref() == Some(recipient)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        std::fs::write(dir.path().join("1.json"), b"{}").unwrap();
        for bad in ["..", "", "../keys", "age1", "."] {
            assert!(store.key_files(bad).is_empty(), "{bad}");
        }
    }
}
