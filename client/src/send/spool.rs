//! The spool of one node, as the lanes share it: how much of it is taken, and which parts have no answer yet.
//!
//! Decides nothing, and sends nothing.

use super::bell::{Bell, lock};
use crate::outcome::Ending;
use base::{At, Blake3, RequestId, Result, atomic};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

/// What became of a part that is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// How the backup ends by it.
    pub ending: Ending,
    /// Why.
    pub reason: String,
    /// Packs that the node lacks and that must be sent again.
    pub missing: Vec<Blake3>,
}

/// The answer to a part: nothing more where it is stored.
pub type Answer = std::result::Result<(), Trouble>;

/// The export folder of one node, and the parts in it.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    inner: Mutex<Inner>,
    bell: Bell,
}

#[derive(Debug, Default)]
struct Inner {
    /// Bytes that are set aside for files being written.
    reserved: u64,
    /// How many wait for room.
    wanting: usize,
    /// Parts that somebody here waits for, with the answers that came.
    parts: BTreeMap<RequestId, Option<Answer>>,
}

impl Spool {
    /// The spool in `folder`, in which nothing is being written.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, inner: Mutex::default(), bell: Bell::default() }
    }

    /// Sets `bytes` aside if `fits` says so of all that is taken already. Gives what it said.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn reserve<T>(&self, bytes: u64, fits: impl FnOnce(u64) -> (T, bool)) -> Result<T> {
        // Under the lock, so that two lanes do not take the same room.
        let mut inner = lock(&self.inner);
        let (told, fits) = fits(self.files()?.saturating_add(inner.reserved));
        if fits {
            inner.reserved += bytes;
        }
        Ok(told)
    }

    /// What was set aside is a file by now, or will never be one.
    pub fn release(&self, bytes: u64) {
        let mut inner = lock(&self.inner);
        inner.reserved = inner.reserved.saturating_sub(bytes);
        drop(inner);
        self.bell.ring();
    }

    /// Bytes of the files that have their names; for the others room was set aside.
    fn files(&self) -> Result<u64> {
        let mut bytes = 0u64;
        for file in std::fs::read_dir(&self.folder).at("list", &self.folder)? {
            let file = file.at("list", &self.folder)?;
            if file.file_name().as_encoded_bytes().starts_with(atomic::TEMP_PREFIX.as_bytes()) {
                continue;
            }
            match file.metadata() {
                Ok(meta) => bytes = bytes.saturating_add(meta.len()),
                // The node has answered for it in this moment.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).at("look at", file.path()),
            }
        }
        Ok(bytes)
    }

    /// Somebody waits for the answer to this part from now on.
    pub fn expect(&self, part: &RequestId) {
        lock(&self.inner).parts.entry(part.clone()).or_default();
    }

    /// The answer has come. One that nobody waits for is dropped.
    pub fn answered(&self, part: &RequestId, answer: Answer) {
        if let Some(waiting) = lock(&self.inner).parts.get_mut(part) {
            *waiting = Some(answer);
        }
        self.bell.ring();
    }

    /// The answer to a part, once: then nobody waits for it any more.
    pub fn take_answer(&self, part: &RequestId) -> Option<Answer> {
        let mut inner = lock(&self.inner);
        inner.parts.get_mut(part)?.take().inspect(|_| {
            inner.parts.remove(part);
        })
    }

    /// Nobody waits for this part any more.
    pub fn forget(&self, part: &RequestId) {
        lock(&self.inner).parts.remove(part);
    }

    /// Room is wanted as long as the value lives, and whatever is answered may make it.
    pub fn want_room(&self) -> WantsRoom<'_> {
        lock(&self.inner).wanting += 1;
        WantsRoom(self)
    }

    /// Whether somebody waits for answers: to a part, or to whatever takes room.
    pub fn awaits_answers(&self) -> bool {
        let inner = lock(&self.inner);
        inner.wanting > 0 || inner.parts.values().any(Option::is_none)
    }

    /// Something may have become free: whoever waits looks again.
    pub fn ring(&self) {
        self.bell.ring();
    }

    /// Waits until something may have changed since `heard`, at most `time`.
    pub fn wait(&self, heard: &mut u64, time: Duration) {
        self.bell.wait(heard, time);
    }
}

/// Somebody waits for room.
pub struct WantsRoom<'a>(&'a Spool);

impl Drop for WantsRoom<'_> {
    fn drop(&mut self) {
        lock(&self.0.inner).wanting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_counts_until_it_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path().to_owned());
        let reserve = |bytes, limit| spool.reserve(bytes, |held| (held, held + bytes <= limit)).unwrap();
        assert_eq!(reserve(60, 100), 0);
        assert_eq!(reserve(60, 100), 60);
        assert_eq!(reserve(40, 100), 60);
        std::fs::write(dir.path().join(format!("{}1", atomic::TEMP_PREFIX)), [0; 50]).unwrap();
        std::fs::write(dir.path().join("pack"), [0; 30]).unwrap();
        spool.release(60);
        assert_eq!(reserve(1, 0), 70);
        spool.release(40);
        assert_eq!(reserve(1, 0), 30);
    }

    #[test]
    fn answers_are_kept_for_those_who_wait() {
        let spool = Spool::new("/nowhere".into());
        let [one, two]: [RequestId; 2] = ["20261120T031500Z-3f9a1c7e.1", "20261120T031500Z-3f9a1c7e.2"].map(|id| id.parse().unwrap());
        spool.expect(&one);
        assert!(spool.awaits_answers());
        spool.answered(&two, Ok(()));
        assert_eq!((spool.take_answer(&one), spool.take_answer(&two)), (None, None));
        let trouble = Trouble { ending: Ending::Refused, reason: "over quota".into(), missing: vec![] };
        spool.answered(&one, Err(trouble.clone()));
        spool.expect(&one);
        assert!(!spool.awaits_answers());
        assert_eq!((spool.take_answer(&one), spool.take_answer(&one)), (Some(Err(trouble)), None));
        spool.expect(&two);
        spool.forget(&two);
        assert!(!spool.awaits_answers());
        let wants = spool.want_room();
        assert!(spool.awaits_answers());
        drop(wants);
        assert!(!spool.awaits_answers());
    }
}
