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
    large: Mutex<Large>,
    changed: Condvar,
}

/// How far a larger file has come.
#[derive(Default)]
struct Large {
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
        Self { reader, entry, size, small: OnceLock::new(), large: Mutex::default(), changed: Condvar::new() }
    }

    /// Whether it takes a thread and room on the disk while it is open.
    pub fn is_large(&self) -> bool {
        self.size > SMALL
    }

    fn lock(&self) -> MutexGuard<'_, Large> {
        self.large.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut large = self.lock();
        let file = match &large.file {
            Some(file) => Arc::clone(file),
            None => {
                let file = tempfile::tempfile().and_then(|file| file.set_len(self.size).map(|()| Arc::new(file)));
                let file = file.map_err(|e| no_room(&self.entry, e))?;
                large.file = Some(Arc::clone(&file));
                let (content, into) = (Arc::clone(self), Arc::clone(&file));
                let thread = std::thread::Builder::new().name("content".into()).spawn(move || content.decode(&into));
                thread.map_err(|e| Error::failed("no thread could be started").because(e))?;
                file
            }
        };
        large.wanted = large.wanted.max(end);
        self.changed.notify_all();
        while large.done < end {
            if let Some(why) = &large.failed {
                return Err(Error::failed(why.clone()));
            }
            large = self.changed.wait(large).unwrap_or_else(PoisonError::into_inner);
        }
        drop(large);
        let mut bytes = vec![0; usize::try_from(end - offset).unwrap_or_default()];
        file.read_exact_at(&mut bytes, offset).map_err(|e| no_room(&self.entry, e))?;
        Ok(bytes)
    }

    /// Decodes all of it into `file`, waiting whenever it is far enough ahead.
    fn decode(&self, file: &File) {
        let decoded = self.reader.read_data(&self.entry, &mut |offset, bytes| {
            let mut large = self.lock();
            // Before it there is a hole, which is in the file already.
            large.done = offset;
            self.changed.notify_all();
            while offset > large.wanted.saturating_add(AHEAD) && !large.closed {
                large = self.changed.wait(large).unwrap_or_else(PoisonError::into_inner);
            }
            if large.closed {
                return Err(Error::failed("it was closed"));
            }
            drop(large);
            file.write_all_at(bytes, offset).map_err(|e| no_room(&self.entry, e))?;
            self.lock().done = offset + bytes.len() as u64;
            self.changed.notify_all();
            Ok(())
        });
        let mut large = self.lock();
        match decoded {
            Ok(()) => large.done = self.size,
            Err(error) => large.failed = Some(error.one_line()),
        }
        self.changed.notify_all();
    }

    /// Nobody reads it any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

fn no_room(entry: &Entry, error: std::io::Error) -> Error {
    Error::failed(format!("{} cannot be decoded into {}", entry.shown_path(), std::env::temp_dir().display()))
        .because(error)
        .hint("TMPDIR says where; there must be room for each larger file that is open.")
        .or_full()
}
