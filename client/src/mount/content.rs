//! One open file: its bytes, as far as they were asked for.
//!
//! A small file is read and checked as a whole. Of a larger one, what was asked for and a little more is decoded into a file
//! without a name, in order, since only its frames tell how long its chunks are; each frame is checked before it is used, and
//! the file's own digest at its end.

use archive::entry::{Entry, EntryKind};
use archive::snapshot::SnapshotReader;
use base::{Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// Files up to this are held in memory while they are open.
const SMALL: u64 = 256 << 10;
/// How far a larger one is decoded beyond what was asked for.
const AHEAD: u64 = 16 << 20;

/// A file's content.
pub struct Content {
    reader: Arc<SnapshotReader>,
    entry: Arc<Entry>,
    size: u64,
    small: OnceLock<Result<Vec<u8>, String>>,
    large: Large,
}

/// A larger file, and who waits for it.
#[derive(Default)]
struct Large {
    state: Mutex<State>,
    changed: Condvar,
}

/// How far it has come.
#[derive(Default)]
struct State {
    /// Where it is decoded into; somebody is at it, or was.
    file: Option<Arc<File>>,
    /// All bytes before this are in the file.
    done: u64,
    /// Somebody waits for the bytes before this.
    wanted: u64,
    failed: Option<String>,
    closed: bool,
}

impl Content {
    /// Of a file; nothing is read yet.
    pub fn new(reader: Arc<SnapshotReader>, entry: Arc<Entry>) -> Self {
        let size = match entry.kind {
            EntryKind::File { size, .. } => size,
            _ => 0,
        };
        Self { reader, entry, size, small: OnceLock::new(), large: Large::default() }
    }

    /// Whether it takes a thread and room on the disk while it is open.
    pub fn is_large(&self) -> bool {
        self.size > SMALL
    }

    /// Up to `length` bytes at `offset`; fewer at the end alone.
    ///
    /// # Errors
    /// When the file cannot be read from the snapshot, or there is no room to decode it.
    pub fn read(self: &Arc<Self>, offset: u64, length: u32) -> Result<Vec<u8>> {
        let end = offset.saturating_add(length.into()).min(self.size);
        if offset >= end {
            return Ok(Vec::new());
        }
        if self.is_large() {
            return self.read_large(offset, end);
        }
        let read = || {
            let mut bytes = Vec::new();
            self.reader.read_file(&self.entry, &mut bytes).map(|()| bytes).map_err(|error| error.one_line())
        };
        let bytes = self.small.get_or_init(read).as_ref().map_err(|why| Error::failed(why.clone()))?;
        let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
        let found = range.and_then(|(from, to)| bytes.get(from..to));
        found.map(<[u8]>::to_vec).ok_or_else(|| Error::failed(format!("{} is shorter than it says", self.entry.shown_path())))
    }

    fn read_large(self: &Arc<Self>, offset: u64, end: u64) -> Result<Vec<u8>> {
        let file = self.large.file(|| {
            let file = tempfile::tempfile().and_then(|file| file.set_len(self.size).map(|()| Arc::new(file)));
            let file = file.map_err(|e| no_room(&self.entry, e))?;
            let (content, into) = (Arc::clone(self), Arc::clone(&file));
            let thread = std::thread::Builder::new().name("content".into()).spawn(move || content.decode(&into));
            thread.map_err(|e| Error::failed("no thread could be started").because(e))?;
            Ok(file)
        })?;
        self.large.wait_for(end)?;
        let mut bytes = vec![0; usize::try_from(end - offset).unwrap_or_default()];
        file.read_exact_at(&mut bytes, offset).map_err(|e| no_room(&self.entry, e))?;
        Ok(bytes)
    }

    /// Decodes all of it into `file`, waiting whenever it is far enough ahead.
    fn decode(&self, file: &File) {
        self.large.decode(self.size, |come| {
            self.reader.read_data(&self.entry, &mut |offset, bytes| {
                // Before it there is a hole, which is in the file already.
                come(offset)?;
                file.write_all_at(bytes, offset).map_err(|e| no_room(&self.entry, e))?;
                come(offset + bytes.len() as u64)
            })
        });
    }

    /// Nobody reads it any more.
    pub fn close(&self) {
        self.large.lock().closed = true;
        self.large.changed.notify_all();
    }
}

impl Large {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is decoded into. Where nobody is at it, `begin` has somebody do that; if it cannot, the next read tries again.
    fn file(&self, begin: impl FnOnce() -> Result<Arc<File>>) -> Result<Arc<File>> {
        let mut state = self.lock();
        if let Some(file) = &state.file {
            return Ok(Arc::clone(file));
        }
        let file = begin()?;
        state.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Waits until all before `end` is there.
    fn wait_for(&self, end: u64) -> Result<()> {
        let mut state = self.lock();
        state.wanted = state.wanted.max(end);
        self.changed.notify_all();
        while state.done < end {
            if let Some(why) = &state.failed {
                return Err(Error::failed(why.clone()));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Has `work` decode all `size` bytes. It tells before what is written and behind how far it has come, and is held up there
    /// while it is far enough ahead.
    fn decode(&self, size: u64, work: impl FnOnce(&mut dyn FnMut(u64) -> Result<()>) -> Result<()>) {
        // Whoever waits hears of it however this ends.
        let mut end = End { large: self, with: Err("it could not be decoded".to_owned()) };
        let decoded = work(&mut |done| {
            let mut state = self.lock();
            state.done = done;
            self.changed.notify_all();
            while done > state.wanted.saturating_add(AHEAD) && !state.closed {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed { Err(Error::failed("it was closed")) } else { Ok(()) }
        });
        end.with = decoded.map(|()| size).map_err(|error| error.one_line());
    }
}

/// Tells those who wait how it ended, also when that is by a panic.
struct End<'a> {
    large: &'a Large,
    /// How far it has come, or why not.
    with: Result<u64, String>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut state = self.large.lock();
        match std::mem::replace(&mut self.with, Ok(0)) {
            Ok(done) => state.done = done,
            Err(why) => state.failed = Some(why),
        }
        self.large.changed.notify_all();
    }
}

fn no_room(entry: &Entry, error: std::io::Error) -> Error {
    Error::failed(format!("{} cannot be decoded into {}", entry.shown_path(), std::env::temp_dir().display()))
        .because(error)
        .hint("TMPDIR says where; there must be room for each larger file that is open.")
        .or_full()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has `work` decode 100 bytes in a thread, as far as it comes, and says what who waits for `end` gets.
    fn waited(end: u64, work: impl FnOnce(&mut dyn FnMut(u64) -> Result<()>) -> Result<()> + Send + 'static) -> Result<(), String> {
        let large = Arc::new(Large::default());
        let other = Arc::clone(&large);
        let thread = std::thread::spawn(move || other.decode(100, work));
        let waited = large.wait_for(end).map_err(|error| error.one_line());
        drop(thread.join());
        waited
    }

    #[test]
    fn who_waits_hears_how_it_ended() {
        assert_eq!(waited(100, |_| Ok(())), Ok(()));
        assert_eq!(waited(50, |come| come(50).and(Err(Error::failed("damaged")))), Ok(()));
        assert_eq!(waited(51, |come| come(50).and(Err(Error::failed("damaged")))), Err("damaged".into()));
        assert_eq!(waited(51, |_| panic!("of this test")), Err("it could not be decoded".into()));
    }

    #[test]
    fn what_could_not_be_begun_is_tried_again() {
        let large = Large::default();
        let file = || tempfile::tempfile().map(Arc::new).map_err(|error| Error::failed("no file").because(error));
        assert!(large.file(|| Err(Error::failed("no thread could be started"))).is_err());
        let begun = large.file(file).unwrap();
        assert!(Arc::ptr_eq(&begun, &large.file(|| panic!("somebody is at it")).unwrap()));
    }
}
