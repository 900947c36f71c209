//! Writing one window of entries: folders first, then files as their bytes come, then links.
//!
//! Does not read the catalog.

use super::owner::Meta;
use super::target::{Target, dress, file_type};
use crate::problems::Problems;
use crate::read::frames::{Frame, no_chunk};
use crate::read::order::{Batch, Piece, Reached, Wanted, read_all};
use crate::reference::{Member, RunId};
use crate::snapshot::SnapshotReader;
use base::{At, Error, Kind, Monitor, Result};
use rustix::fs::FileType;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;

/// Frames that the reading thread may be ahead.
const BATCHES_AHEAD: usize = 2;
/// Files that are kept open while they wait for more.
const OPEN_FILES: usize = 64;
/// Chunks of zeros at least this long become holes.
const HOLE: usize = 16 << 10;

/// What to do when it had to stop.
const GO_ON: &str = "Run the same command again: what is restored already is not restored twice.";

/// A regular file to be made.
#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) path: Vec<u8>,
    pub(super) meta: Meta,
    pub(super) group: Option<u64>,
}

/// A further name of a file.
#[derive(Debug)]
pub(super) struct NameJob {
    pub(super) file: FileJob,
    pub(super) wanted: Wanted,
}

/// Where a group of hard links was begun, and what its file is like.
#[derive(Debug)]
struct Origin {
    path: Vec<u8>,
    made: Option<(u64, crate::entry::FileDigest, rustix::fs::Mode, rustix::fs::Timespec)>,
}

/// Files that have begun.
#[derive(Debug, Default)]
struct Begun {
    open: HashMap<usize, File>,
    /// Files that failed: what still comes of them is thrown away.
    given_up: HashSet<usize>,
}

/// What is restored in one go.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) folders: Vec<(Vec<u8>, Meta)>,
    pub(super) files: Vec<FileJob>,
    /// Parallel to `files`.
    pub(super) wanted: Vec<Wanted>,
    pub(super) links: Vec<(Vec<u8>, Vec<u8>, Meta)>,
    pub(super) names: Vec<NameJob>,
}

/// Carries windows out.
pub(super) struct Writer<'a> {
    pub(super) reader: &'a SnapshotReader,
    pub(super) target: Target,
    pub(super) problems: Problems<'a>,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    origins: HashMap<u64, Origin>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(reader: &'a SnapshotReader, target: Target, problems: Problems<'a>, monitor: &'a dyn Monitor) -> Self {
        Self { reader, target, problems, monitor, entries: 0, bytes: 0, origins: HashMap::new() }
    }

    /// Whether this entry is a further name of a file that came before. The first one of a group becomes its origin.
    pub(super) fn is_further_name(&mut self, group: u64, path: &[u8]) -> bool {
        if self.origins.contains_key(&group) {
            return true;
        }
        self.origins.insert(group, Origin { path: path.to_vec(), made: None });
        false
    }

    /// # Errors
    /// When going on makes no sense: the disk is full, or the packs cannot be reached for now.
    pub(super) fn write(&mut self, window: Window) -> Result<()> {
        for (path, _) in &window.folders {
            let made = self.target.make_folder(path);
            self.count(made, 0)?;
        }
        self.write_files(window.files, window.wanted)?;
        for (path, says, meta) in &window.links {
            let same = self.target.used() && self.is_link(path, says);
            let made = if same { Ok(()) } else { self.target.symlink(path, says, meta) };
            self.count(made, 0)?;
        }
        let mut alone = Window::default();
        for name in window.names {
            if !self.link(&name)? {
                alone.files.push(name.file);
                alone.wanted.push(name.wanted);
            }
        }
        self.write_files(alone.files, alone.wanted)?;
        for folder in self.target.take_made_up() {
            self.problem(&Error::failed(format!(
                "the folder {:?} has no entry; it was made with mode 0700",
                base::text::printable(&folder)
            )))?;
        }
        Ok(())
    }

    /// Links a further name; `false` when it must be a file of its own.
    fn link(&mut self, name: &NameJob) -> Result<bool> {
        let Some(origin) = name.file.group.and_then(|group| self.origins.get(&group)) else { return Ok(false) };
        // Whoever says that two different files are one is not believed.
        let expected = (name.wanted.expected.size, name.wanted.expected.digest, name.file.meta.mode, name.file.meta.mtime);
        if origin.made != Some(expected) {
            return Ok(false);
        }
        let linked = self.target.hard_link(&origin.path, &name.file.path);
        if linked.is_ok() {
            self.count(Ok(()), expected.0)?;
        }
        Ok(linked.is_ok())
    }

    fn is_link(&mut self, path: &[u8], says: &[u8]) -> bool {
        let there = self.target.look(path).ok().flatten().is_some_and(|stat| file_type(&stat) == FileType::Symlink);
        there && self.target.read_link(path).is_ok_and(|found| found == says)
    }

    /// Whether the file is there already: its time is what an earlier restore set last.
    fn is_done(&mut self, job: &FileJob, size: u64) -> bool {
        let Ok(Some(stat)) = self.target.look(&job.path) else { return false };
        same_file(&stat, size, &job.meta)
    }

    fn write_files(&mut self, jobs: Vec<FileJob>, wanted: Vec<Wanted>) -> Result<()> {
        let (mut files, mut missing): (Vec<FileJob>, Vec<Wanted>) = (Vec::with_capacity(jobs.len()), Vec::with_capacity(wanted.len()));
        for (job, wanted) in jobs.into_iter().zip(wanted) {
            if self.target.used() && self.is_done(&job, wanted.expected.size) {
                self.note_made(&job, &wanted);
                self.count(Ok(()), wanted.expected.size)?;
            } else {
                files.push(job);
                missing.push(wanted);
            }
        }
        if files.is_empty() {
            return Ok(());
        }
        let reader = self.reader;
        // One thread decrypts, decompresses and hashes, this one makes the files: most of the time is the kernel's.
        std::thread::scope(|scope| {
            let (sender, batches) = mpsc::sync_channel::<Batch>(BATCHES_AHEAD);
            let missing = &missing;
            let reading =
                scope.spawn(move || read_all(reader.frames(), reader.secrets(), missing, &mut |batch| sender.send(batch).is_ok()));
            let mut begun = Begun::default();
            let mut written = Ok(());
            for batch in batches {
                written = self.write_batch(batch, &files, missing, &mut begun);
                if written.is_err() {
                    break;
                }
            }
            let read = reading.join().map_err(|_| Error::failed("the reading thread failed"))?;
            written.and(read.map_err(|error| if error.kind() == Kind::NotNow { error.hint(GO_ON) } else { error }))
        })
    }

    fn write_batch(&mut self, batch: Batch, files: &[FileJob], wanted: &[Wanted], begun: &mut Begun) -> Result<()> {
        for piece in batch.pieces {
            if begun.given_up.contains(&piece.file) {
                continue;
            }
            let (job, expected) = (&files[piece.file], wanted[piece.file].expected);
            let shown = self.target.shown(&job.path);
            let outcome = match piece.state {
                Reached::Failed(error) => Err(error),
                Reached::Middle | Reached::Whole => {
                    self.write_piece(&piece, batch.frame.as_deref(), job, expected.size, &mut begun.open, &shown).and_then(|file| {
                        if matches!(piece.state, Reached::Middle) {
                            return Ok(Some(file));
                        }
                        dress(&file, &job.meta, &shown).map(|()| None)
                    })
                }
            };
            let outcome = match outcome {
                Ok(Some(file)) => {
                    if begun.open.len() >= OPEN_FILES {
                        begun.open.clear();
                    }
                    begun.open.insert(piece.file, file);
                    continue;
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => {
                    self.note_made(job, &wanted[piece.file]);
                    self.count(Ok(()), expected.size)?;
                }
                Err(error) => {
                    begun.open.remove(&piece.file);
                    begun.given_up.insert(piece.file);
                    let kept = self.remove_unfinished(job)?;
                    let what = if kept { "could not be restored completely" } else { "was not restored" };
                    if error.kind() == Kind::NotNow {
                        self.problem(&error)?;
                    }
                    self.problems.add_for(&format!("{} {what}", shown.display()), &error);
                }
            }
        }
        Ok(())
    }

    /// Writes a piece and gives the open file.
    fn write_piece(
        &mut self,
        piece: &Piece,
        frame: Option<&Frame>,
        job: &FileJob,
        size: u64,
        open: &mut HashMap<usize, File>,
        shown: &Path,
    ) -> Result<File> {
        let file = match open.remove(&piece.file) {
            Some(file) => file,
            None if piece.offset == 0 => self.target.create(&job.path)?,
            None => self.target.reopen(&job.path)?,
        };
        let (mut offset, mut hole) = (piece.offset, false);
        for n in &piece.chunks {
            let chunk = frame.and_then(|frame| frame.chunk(*n)).ok_or_else(|| no_chunk(Member { run: RunId(0), frame: 0, n: *n }))?;
            hole = chunk.len() >= HOLE && chunk.iter().all(|b| *b == 0);
            if !hole {
                file.write_all_at(chunk, offset).at("write", shown)?;
            }
            offset += chunk.len() as u64;
            self.monitor.bytes(chunk.len() as u64);
        }
        if hole && offset == size {
            file.set_len(size).at("write", shown)?;
        }
        Ok(file)
    }

    /// Takes a file away that will not become whole; says whether something of it is still there.
    fn remove_unfinished(&mut self, job: &FileJob) -> Result<bool> {
        let Some(stat) = self.target.look(&job.path)? else { return Ok(false) };
        Ok(file_type(&stat) != FileType::RegularFile || self.target.remove(&job.path).is_err())
    }

    fn note_made(&mut self, job: &FileJob, wanted: &Wanted) {
        if let Some(origin) = job.group.and_then(|group| self.origins.get_mut(&group))
            && origin.path == job.path
        {
            origin.made = Some((wanted.expected.size, wanted.expected.digest, job.meta.mode, job.meta.mtime));
        }
    }

    /// Counts an entry that is done, or notes why it is not.
    pub(super) fn count(&mut self, outcome: Result<()>, bytes: u64) -> Result<()> {
        match outcome {
            Ok(()) => {
                self.entries += 1;
                self.bytes += bytes;
                self.monitor.entries(1);
                Ok(())
            }
            Err(error) => self.problem(&error),
        }
    }

    /// # Errors
    /// The same error, when it is one that every further entry would meet.
    pub(super) fn problem(&mut self, error: &Error) -> Result<()> {
        if error.kind() == Kind::NotNow {
            return Err(Error::not_now(error.one_line()).hint(GO_ON));
        }
        self.problems.add(error);
        Ok(())
    }
}

/// Whether a stat is that of a finished file.
pub(super) fn same_file(stat: &rustix::fs::Stat, size: u64, meta: &Meta) -> bool {
    let time = (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(-1));
    file_type(stat) == FileType::RegularFile
        && u64::try_from(stat.st_size).is_ok_and(|found| found == size)
        && time == (meta.mtime.tv_sec, meta.mtime.tv_nsec)
}
