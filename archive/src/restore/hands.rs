//! Threads that make new files: those that lie in one frame, have nothing special about them, and go where nothing is.
//!
//! Whatever does not go smoothly is taken back and given to the first thread, which says why. Decides nothing.

use super::dress::{FOREIGN, Lacks, OWNER};
use super::folders::{Folders, split};
use super::jobs::FileJob;
use super::pace::Pace;
use super::target::times;
use crate::read::frames::Frame;
use crate::read::order::{Piece, Reached};
use base::Result;
use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// Files of one parcel: neighbours, so that two threads seldom make files in one folder.
const FILES: usize = 64;
/// Parcels that may wait.
const WAITING: usize = 4;
/// Threads that make files, at most.
const THREADS: usize = 4;
/// What is measured at once, at least.
const PERIOD: Duration = Duration::from_millis(100);
/// What making a file counts besides its bytes.
const FILE: u64 = 16 << 10;

/// Files that lie in one frame.
struct Parcel {
    frame: Option<Arc<Frame>>,
    pieces: Vec<Piece>,
}

/// What became of a parcel.
pub(super) struct Made {
    /// Files that are there.
    pub(super) files: Vec<usize>,
    /// Files that are not, and what they are of.
    pub(super) back: Vec<Piece>,
    pub(super) frame: Option<Arc<Frame>>,
    pub(super) lacks: Lacks,
}

/// Whether a piece can be made here: all of a file.
pub(super) fn takes(piece: &Piece, job: &FileJob) -> bool {
    matches!(piece.state, Reached::Whole) && piece.offset == 0 && job.sparse.is_none() && job.there.is_none() && job.meta.worn.is_none()
}

/// Makes files.
struct Hand<'a> {
    folders: Folders,
    files: &'a [FileJob],
    shown: &'a Path,
}

impl Hand<'_> {
    fn make(&mut self, Parcel { frame, pieces }: Parcel) -> Made {
        let mut made = Made { files: Vec::with_capacity(pieces.len()), back: Vec::new(), frame: None, lacks: Lacks::default() };
        for piece in pieces {
            let job = &self.files[piece.file];
            match self.file(job, &piece, frame.as_deref()) {
                Ok(()) => {
                    if job.meta.foreign {
                        made.lacks.add(OWNER, &self.shown.join(OsStr::from_bytes(&job.path)), FOREIGN);
                    }
                    made.files.push(piece.file);
                }
                Err(_) => made.back.push(piece),
            }
        }
        made.frame = frame.filter(|_| !made.back.is_empty());
        made
    }

    /// Makes one; when that fails, nothing of it is there.
    fn file(&mut self, job: &FileJob, piece: &Piece, frame: Option<&Frame>) -> std::io::Result<()> {
        let (folder, name) = split(&job.path).map_err(std::io::Error::other)?;
        let folder = self.folders.folder(folder).map_err(std::io::Error::other)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // The target itself is closed to others while it is new, so the mode may be the last one at once.
        let file = File::from(rustix::fs::openat(folder, name, flags, job.meta.mode & Mode::from_raw_mode(0o777))?);
        let filled = fill(&file, piece, frame).and_then(|()| dress(&file, job));
        if filled.is_err() {
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
        }
        filled
    }
}

fn fill(file: &File, piece: &Piece, frame: Option<&Frame>) -> std::io::Result<()> {
    let mut offset = 0;
    for n in &piece.chunks {
        let chunk = frame.and_then(|frame| frame.chunk(*n)).ok_or(std::io::ErrorKind::NotFound)?;
        file.write_all_at(chunk, offset)?;
        offset += chunk.len() as u64;
    }
    Ok(())
}

/// What was just made has neither attributes nor set-id bits to lose: what is right already is left so.
fn dress(file: &File, job: &FileJob) -> std::io::Result<()> {
    let (meta, stat) = (&job.meta, rustix::fs::fstat(file)?);
    if let Some((user, group)) = meta.owner.filter(|(user, group)| (user.as_raw(), group.as_raw()) != (stat.st_uid, stat.st_gid)) {
        rustix::fs::fchown(file, Some(user), Some(group))?;
    }
    if stat.st_mode & 0o7777 != meta.mode.as_raw_mode() {
        rustix::fs::fchmod(file, meta.mode)?;
    }
    Ok(rustix::fs::futimens(file, &times(meta))?)
}

#[derive(Default)]
struct Queue {
    parcels: VecDeque<Parcel>,
    /// How many of the further threads may work.
    active: usize,
    over: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a parcel for the thread of this number; nothing when it is over.
    fn wait(&self, number: usize) -> Option<Parcel> {
        let mut queue = self.queue();
        while !queue.over {
            if number < queue.active
                && let Some(parcel) = queue.parcels.pop_front()
            {
                return Some(parcel);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }
}

/// The first thread's own hand, and further threads as they are worth it.
pub(super) struct Hands<'a> {
    own: Hand<'a>,
    shared: Arc<Shared>,
    results: Receiver<Made>,
    /// Parcels that the others have and did not give back.
    out: usize,
    pace: Pace,
    since: Instant,
    done: u64,
}

impl<'a> Hands<'a> {
    /// Starts threads that make `files` below the target, which is called `shown`.
    pub(super) fn start<'scope>(scope: &'scope Scope<'scope, '_>, folders: &Folders, files: &'a [FileJob], shown: &'a Path) -> Result<Self>
    where
        'a: 'scope,
    {
        let most = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        let (shared, (send, results)) = (Arc::<Shared>::default(), unbounded());
        let hand = || Ok::<_, base::Error>(Hand { folders: folders.again()?, files, shown });
        for number in 0..most - 1 {
            let (mut hand, shared, send): (_, _, Sender<Made>) = (hand()?, Arc::clone(&shared), send.clone());
            scope.spawn(move || {
                while let Some(parcel) = shared.wait(number) {
                    if send.send(hand.make(parcel)).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self { own: hand()?, shared, results, out: 0, pace: Pace::new(most), since: Instant::now(), done: 0 })
    }

    /// Has these files made, now or later, and gives what became of those that were given before.
    pub(super) fn make(&mut self, frame: Option<&Arc<Frame>>, pieces: Vec<Piece>) -> Vec<Made> {
        let mut made = Vec::new();
        let mut pieces = pieces.into_iter().peekable();
        while pieces.peek().is_some() {
            let parcel = Parcel { frame: frame.cloned(), pieces: pieces.by_ref().take(FILES).collect() };
            let first = {
                let mut queue = self.shared.queue();
                queue.parcels.push_back(parcel);
                self.out += 1;
                if queue.active == 0 || queue.parcels.len() > WAITING { queue.parcels.pop_front() } else { None }
            };
            match first {
                Some(parcel) => made.push(self.make_own(parcel)),
                None => self.shared.changed.notify_all(),
            }
            made.extend(self.given_back());
        }
        self.measure(&made);
        made
    }

    fn make_own(&mut self, parcel: Parcel) -> Made {
        self.out -= 1;
        self.own.make(parcel)
    }

    fn given_back(&mut self) -> Vec<Made> {
        let back: Vec<Made> = self.results.try_iter().collect();
        self.out -= back.len();
        back
    }

    /// Makes what is left, or gives it up, and waits for the others.
    pub(super) fn finish(&mut self, gives_up: bool) -> Vec<Made> {
        let mut made = Vec::new();
        loop {
            let parcel = self.shared.queue().parcels.pop_front();
            match parcel {
                Some(_) if gives_up => self.out -= 1,
                Some(parcel) => made.push(self.make_own(parcel)),
                None => break,
            }
        }
        while self.out > 0
            && let Ok(one) = self.results.recv()
        {
            self.out -= 1;
            made.push(one);
        }
        made
    }

    fn measure(&mut self, made: &[Made]) {
        let files = || made.iter().flat_map(|made| &made.files);
        self.done += files().map(|file| FILE + self.own.files[*file].size).sum::<u64>();
        let time = self.since.elapsed();
        if time < PERIOD || self.done < 256 * FILE {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        self.pace.period(self.done as f64 / time.as_secs_f64());
        (self.since, self.done) = (Instant::now(), 0);
        let mut queue = self.shared.queue();
        queue.active = self.pace.threads() - 1;
        drop(queue);
        self.shared.changed.notify_all();
    }
}

impl Drop for Hands<'_> {
    fn drop(&mut self) {
        self.shared.queue().over = true;
        self.shared.changed.notify_all();
    }
}
