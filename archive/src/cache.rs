//! The stat cache: what was found and stored when a tree was read last, so that what has not changed since is not opened.
//!
//! Knows neither the tree nor the index: its reader is asked for what was met, and what it gives counts only when the index
//! confirms each reference. Losing it, or damage to it, costs reading again and never correctness.
//!
//! One file for each node and dataset. It is not fsynced: what a crash leaves of it is told by the blocks' own digests.
//!
//! ```text
//! file    = block …
//! block   = u32 length ‖ 32 bytes digest ‖ payload
//! digest  = BLAKE3(u64 number of the block ‖ payload), keyed with a key of client, epoch, node, dataset and version
//! payload = in block 0 a time (12 bytes) before which nothing was looked at; in the others records, in the catalog's order
//! ```
//!
//! While a backup runs, its cache is `<path>.new`; what a cut-off run left there becomes `<path>.cut`, and the next runs ask
//! both it and the last finished one, until one of them finishes.

mod reader;
mod record;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use reader::Found;
pub(crate) use record::{Pair, Uses};

use crate::entry::Mtime;
use crate::epoch::Secrets;
use crate::walk::Stat;
use crate::walk::ahead::now;
use base::{Dataset, Name, Result, atomic, crash};
use reader::Reader;
use std::path::{Path, PathBuf};
use std::time::Duration;
use writer::Writer;

/// What of it is in the digests' key; files of another version count as absent.
const VERSION: &str = "nightsafe 2026 stat cache, version 1";
/// A block is closed when it is this long; one with a single longer record is longer.
const BLOCK: usize = 64 << 10;
/// The longest payload. What would need more is not remembered, and read every time.
const LONGEST: usize = 16 << 20;
/// Length and digest.
const HEAD: usize = 36;

/// The coarsest clock that files' times come from (FAT: two seconds). What was changed as recently as that when it was looked
/// at may change again without a trace in its times, and is not remembered.
pub const GRANULARITY: Duration = Duration::from_secs(2);

/// Where a dataset's cache is.
#[derive(Debug, Clone, Copy)]
pub struct CachePlace<'a> {
    /// The finished file, which may be absent; its folder is there.
    pub path: &'a Path,
    /// Of the clocks that files' times come from; [`GRANULARITY`] is on the safe side.
    pub granularity: Duration,
    /// Whether the device's number says nothing: that of a file system's snapshot is another one each time. All that is read must
    /// be of that one file system then.
    pub any_device: bool,
}

/// A cache that was not written for so long is that of a dataset which is backed up no more.
const FORGOTTEN: Duration = Duration::from_secs(90 * 24 * 3600);

/// Removes the caches in `folder` that nobody uses any more. Best effort: one that is missed costs reading once.
pub fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let age = || entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|time| time.elapsed().is_ok_and(|age| age > FORGOTTEN));
        if age() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// What a cache belongs to; that of anything else counts as absent.
pub(crate) struct Owner<'a> {
    pub(crate) secrets: &'a Secrets,
    pub(crate) recipient: &'a str,
    pub(crate) node: &'a Name,
    pub(crate) dataset: &'a Dataset,
}

impl Owner<'_> {
    fn key(&self) -> [u8; 32] {
        let about = serde_json::json!([VERSION, self.recipient, self.node.as_str(), self.dataset.to_string()]);
        *self.secrets.hasher().update(about.to_string().as_bytes()).finalize().as_bytes()
    }
}

/// Opens what there is for reading, and begins a new cache. Without a place there is neither. Nothing that goes wrong here
/// stops a backup.
pub(crate) fn open(place: Option<CachePlace<'_>>, owner: &Owner<'_>) -> (Old, New) {
    let Some(CachePlace { path, granularity, any_device }) = place else { return (Old::default(), New::default()) };
    let key = owner.key();
    let (new, cut) = (beside(path, "new"), beside(path, "cut"));
    // Of two runs that were cut off, the one that came further is worth more.
    let length = |path: &Path| path.symlink_metadata().map_or(0, |meta| meta.len());
    if length(&new) > length(&cut) {
        let _ = std::fs::rename(&new, &cut);
        crash::point("renamed");
    }
    let readers = [path, &cut].into_iter().filter_map(|path| Reader::open(path, key)).collect();
    (Old { readers, any_device }, New { writer: Some(Writer::new(&new, key, now())), path: path.to_owned(), granularity, any_device })
}

/// The caches that earlier backups wrote.
#[derive(Default)]
pub(crate) struct Old {
    readers: Vec<Reader>,
    any_device: bool,
}

impl Old {
    /// What was changed before this time is most likely known; `None` when nothing is.
    pub(crate) fn known_before(&self) -> Option<Mtime> {
        self.readers.iter().map(Reader::began).max()
    }

    /// What is remembered of the thing with this path, if it has not changed and `confirms` says so of what it refers to. Paths
    /// come in ascending order.
    ///
    /// # Errors
    /// Those of `confirms`.
    pub(crate) fn find(&mut self, path: &[u8], stat: &Stat, confirms: &mut dyn FnMut(&Uses) -> Result<bool>) -> Result<Option<Found<'_>>> {
        let stat = comparable(stat, self.any_device);
        for reader in &mut self.readers {
            if let Some(found) = reader.find(path, &stat)
                && confirms(found.uses)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The cache that a backup writes.
#[derive(Default)]
pub(crate) struct New {
    writer: Option<Writer>,
    path: PathBuf,
    granularity: Duration,
    any_device: bool,
}

/// A thing as it is compared with what it was.
fn comparable(stat: &Stat, any_device: bool) -> Stat {
    Stat { device: if any_device { 0 } else { stat.device }, ..*stat }
}

impl New {
    /// Remembers a thing that was met. `stat` is from before it was read, and nothing was looked at before `seen`; without
    /// that it is what [`Old::find`] gave.
    pub(crate) fn remember(&mut self, path: &[u8], stat: &Stat, seen: Option<Mtime>, known: &Known<'_>) {
        if seen.is_none_or(|seen| self.settled(stat, seen))
            && let Some(writer) = &mut self.writer
            && let Err(error) = writer.push(path, &comparable(stat, self.any_device), known)
        {
            tracing::warn!("the stat cache cannot be written, so the next backup reads more than it would have to: {error}");
            self.writer = None;
        }
    }

    /// Whether a change after `seen` is sure to show in the times.
    fn settled(&self, stat: &Stat, seen: Mtime) -> bool {
        let nanos = |time: Mtime| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        let (seen, margin) = (nanos(seen), self.granularity.as_nanos());
        // People set the time of the last change, also to one far ahead; the other one is the clock's.
        nanos(stat.ctime) < seen - margin.cast_signed() && nanos(stat.mtime).abs_diff(seen) > margin
    }

    /// The snapshot is prepared: what was written is the cache from now on.
    pub(crate) fn finish(self) {
        let Some(writer) = self.writer else { return };
        let new = beside(&self.path, "new");
        let finished = writer.finish().and_then(|made| if made { std::fs::rename(&new, &self.path) } else { Ok(()) });
        match finished {
            // Best effort: what stays is asked once more, and does no harm.
            Ok(()) => {
                crash::point("finished");
                drop(atomic::remove(&beside(&self.path, "cut")));
            }
            Err(error) => tracing::warn!("the stat cache cannot be written, so the next backup reads more than it would have to: {error}"),
        }
    }
}

/// What is to be remembered of an entry.
pub(crate) struct Known<'a> {
    /// Its line in the catalog.
    pub(crate) line: &'a str,
    /// The names in the line.
    pub(crate) names: (Option<&'a str>, Option<&'a str>),
    /// Whether the line depends on nothing but the thing and these names.
    pub(crate) plain: bool,
    /// What the line refers to.
    pub(crate) uses: &'a Uses,
}

/// What a block's head says of its payload.
fn digest(key: &[u8; 32], number: u64, payload: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new_keyed(key).update(&number.to_le_bytes()).update(payload).finalize().as_bytes()
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}
