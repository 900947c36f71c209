//! Walking ahead of whoever takes what is met: one thread lists and looks, others read small files that are wanted.
//!
//! Does not know what becomes of it. All comes in the order of the walk, and memory is bounded by a few batches.

use super::{Place, Root, Stat, Visitor};
use crate::attributes::{Attributes, Found, Thing};
use crate::choose::{Choice, Chooser, Why};
use crate::chunk::WHOLE;
use crate::entry::Mtime;
use crate::epoch::{ChunkId, Secrets};
use base::{Error, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::{FileType, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A batch is handed on when it has so many things,
const THINGS: usize = 512;
/// when so many bytes of files are to be read for it,
const BYTES: u64 = 2 << 20;
/// when it holds so many folders open,
const FOLDERS: usize = 32;
/// or when its paths are so long.
const PATHS: usize = 1 << 20;
/// More threads that read are of no use to one thread that takes.
const MOST_READERS: usize = 4;

/// What was met.
#[derive(Debug)]
pub(crate) enum Met {
    /// A folder, file, link, FIFO or device.
    Thing(Place, Stat, Reading),
    /// It is left out on purpose.
    LeftOut {
        /// Why, as people read it.
        why: String,
        /// Whether that is for its size.
        size: bool,
    },
    /// It is left out, and nothing is lost by that.
    Skipped(String),
    /// It goes into the errors ledger.
    Unreadable(String),
}

/// Whether a file is read ahead.
#[derive(Debug)]
pub(crate) enum Reading {
    /// No.
    No,
    /// It is to be, or could not be.
    Wanted,
    /// It was.
    Done(ReadAhead),
}

/// A small file that was read whole, has no holes, and did not change meanwhile.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    /// Where its bytes are in the batch, of which none is empty.
    start: usize,
    length: usize,
    /// The keyed hash of its bytes.
    pub(crate) id: ChunkId,
    /// Its attributes, where it has any.
    pub(crate) found: Option<Box<Found>>,
}

/// Is given a thing's path, what it is, and its bytes where it was read.
type Take<'a> = &'a mut dyn FnMut(&[u8], Met, &[u8]) -> Result<()>;

/// Things that were met one after the other.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// A time before which nothing of it was looked at.
    pub(crate) began: Mtime,
    things: Vec<(usize, Met)>,
    /// Their paths, one after the other.
    paths: Vec<u8>,
    /// What was read.
    data: Vec<u8>,
    /// How many bytes are to be read.
    wanted: u64,
    folders: usize,
}

impl Batch {
    /// Calls `take` for each thing in order.
    pub(crate) fn take(&mut self, take: Take<'_>) -> Result<()> {
        let mut start = 0;
        for (end, met) in self.things.drain(..) {
            let read = match &met {
                Met::Thing(_, _, Reading::Done(read)) => {
                    self.data.get(read.start..).and_then(|data| data.get(..read.length)).unwrap_or_default()
                }
                _ => &[],
            };
            take(&self.paths[start..end], met, read)?;
            start = end;
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.things.clear();
        self.paths.clear();
        self.data.clear();
        (self.wanted, self.folders) = (0, 0);
    }
}

/// The clock, as files' times are.
pub(crate) fn now() -> Mtime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Mtime { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
}

/// What is walked, and how.
pub(crate) struct Ahead<'a> {
    pub(crate) root: Root,
    pub(crate) choice: &'a Choice,
    pub(crate) secrets: &'a Secrets,
    /// What was changed before this time is most likely known, and not read ahead.
    pub(crate) known_before: Option<Mtime>,
}

/// Walks `what`, and calls `take` for each batch in order.
///
/// # Errors
/// When the root cannot be listed, and those of `take`.
pub(crate) fn walk(what: Ahead<'_>, take: &mut dyn FnMut(&mut Batch) -> Result<()>) -> Result<()> {
    let Ahead { root, choice, secrets, known_before } = what;
    let readers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(1, MOST_READERS);
    let (jobs, jobs_end) = bounded::<Job>(readers);
    let (ordered, ordered_end) = bounded::<Receiver<Batch>>(readers + 1);
    let (used, used_end) = bounded::<Batch>(readers + 2);
    std::thread::scope(|scope| {
        for _ in 0..readers {
            let jobs = jobs_end.clone();
            scope.spawn(move || read_all(&jobs, secrets));
        }
        drop(jobs_end);
        let walker = scope.spawn(move || {
            let mut queue =
                Queue { batch: Batch { began: now(), ..Batch::default() }, last: None, known_before, jobs, ordered, used: used_end };
            let mut chooser = Chooser::new(choice, &mut queue);
            super::walk(root, &mut chooser)?;
            chooser.finish()?;
            queue.send()
        });
        let taken = take_all(ordered_end, &used, take);
        let walked = walker.join().unwrap_or_else(|_| Err(Error::failed("the thread that walks has ended unexpectedly")));
        // Where taking has failed, the walk ends because nobody listens any more.
        taken.and(walked)
    })
}

fn take_all(batches: Receiver<Receiver<Batch>>, used: &Sender<Batch>, take: &mut dyn FnMut(&mut Batch) -> Result<()>) -> Result<()> {
    for batch in batches {
        let mut batch = batch.recv().map_err(|_| Error::failed("a thread that reads files has ended unexpectedly"))?;
        take(&mut batch)?;
        batch.clear();
        let _ = used.try_send(batch);
    }
    Ok(())
}

/// A batch of which files are to be read.
struct Job {
    batch: Batch,
    done: Sender<Batch>,
}

/// Gathers what the walk tells, and hands it on.
struct Queue {
    batch: Batch,
    /// The folder that was held last.
    last: Option<Arc<OwnedFd>>,
    known_before: Option<Mtime>,
    jobs: Sender<Job>,
    ordered: Sender<Receiver<Batch>>,
    used: Receiver<Batch>,
}

impl Queue {
    fn push(&mut self, path: &[u8], met: Met) -> Result<()> {
        self.batch.paths.extend_from_slice(path);
        self.batch.things.push((self.batch.paths.len(), met));
        let Batch { things, wanted, folders, paths, .. } = &self.batch;
        let full = things.len() >= THINGS || *wanted >= BYTES || *folders >= FOLDERS || paths.len() >= PATHS;
        if full { self.send() } else { Ok(()) }
    }

    fn thing(&mut self, path: &[u8], place: &Place, stat: &Stat) -> Result<()> {
        if !self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, place.held())) {
            self.last = Some(place.held().clone());
            self.batch.folders += 1;
        }
        let reading = if is_wanted(stat, self.known_before) {
            self.batch.wanted += stat.size;
            Reading::Wanted
        } else {
            Reading::No
        };
        self.push(path, Met::Thing(place.clone(), *stat, reading))
    }

    fn send(&mut self) -> Result<()> {
        let stopped = || Error::failed("nobody takes what is walked any more");
        self.last = None;
        let next = self.used.try_recv().unwrap_or_default();
        let batch = std::mem::replace(&mut self.batch, Batch { began: now(), ..next });
        let (done, end) = bounded(1);
        self.ordered.send(end).map_err(|_| stopped())?;
        if batch.wanted == 0 {
            return done.send(batch).map_err(|_| stopped());
        }
        self.jobs.send(Job { batch, done }).map_err(|_| stopped())
    }
}

/// Whether a file is to be read ahead: it is small, has one name, and is most likely not known.
fn is_wanted(stat: &Stat, known_before: Option<Mtime>) -> bool {
    stat.kind == FileType::RegularFile
        && stat.links == 1
        && (1..=WHOLE as u64).contains(&stat.size)
        && known_before.is_none_or(|before| stat.ctime >= before)
}

impl Visitor for Queue {
    fn folder(&mut self, path: &[u8], place: &Place, stat: &Stat) -> Result<()> {
        self.thing(path, place, stat)
    }

    fn file(&mut self, path: &[u8], place: &Place, stat: &Stat) -> Result<()> {
        self.thing(path, place, stat)
    }

    fn node(&mut self, path: &[u8], place: &Place, stat: &Stat) -> Result<()> {
        self.thing(path, place, stat)
    }

    fn left_out(&mut self, path: &[u8], why: Why<'_>) -> Result<()> {
        self.push(path, Met::LeftOut { why: why.to_string(), size: why == Why::Size })
    }

    fn skipped(&mut self, path: &[u8], why: &str) -> Result<()> {
        self.push(path, Met::Skipped(why.to_owned()))
    }

    fn unreadable(&mut self, path: &[u8], why: String) -> Result<()> {
        self.push(path, Met::Unreadable(why))
    }
}

fn read_all(jobs: &Receiver<Job>, secrets: &Secrets) {
    let mut attributes = Attributes::default();
    for Job { mut batch, done } in jobs {
        let Batch { things, paths, data, .. } = &mut batch;
        let mut start = 0;
        for (end, met) in things {
            let path = &paths[start..*end];
            start = *end;
            if let Met::Thing(place, stat, reading @ Reading::Wanted) = met
                && let Some(read) = read_whole(place, path, stat, data, &mut attributes, secrets)
            {
                *reading = Reading::Done(read);
            }
        }
        // Nobody listens any more when taking has failed.
        let _ = done.send(batch);
    }
}

/// Reads a file to the end of `data`. Whatever is not as expected is left to whoever takes it, who reads it anew and says why.
fn read_whole(
    place: &Place,
    path: &[u8],
    stat: &Stat,
    data: &mut Vec<u8>,
    attributes: &mut Attributes,
    secrets: &Secrets,
) -> Option<ReadAhead> {
    let (file, before) = place.open(path).ok().filter(|(_, before)| before.same_content(stat))?;
    // A file system that does not know holes has none.
    if rustix::fs::seek(&file, SeekFrom::Hole(0)).is_ok_and(|hole| hole < before.size) {
        return None;
    }
    let (start, length) = (data.len(), usize::try_from(before.size).ok()?);
    data.resize(start + length, 0);
    let whole = file.read_exact_at(&mut data[start..], 0).is_ok();
    let found = attributes.read(Thing::Opened(file.as_fd()), before.device).map(Box::new);
    if whole && Stat::of(&file).is_ok_and(|after| after.same_content(&before)) {
        return Some(ReadAhead { start, length, id: secrets.chunk_id(&data[start..]), found });
    }
    data.truncate(start);
    None
}
