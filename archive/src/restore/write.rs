//! Writing one window of entries: folders first, then files as their bytes come, then links.
//!
//! Does not read the catalog.

use super::dress::Dresser;
use super::nodes::Node;
use super::owner::Meta;
use super::target::{Target, file_type};
use crate::entry::{FileDigest, Sparse};
use crate::problems::Problems;
use crate::read::frames::{Frame, no_chunk};
use crate::read::layout::Layout;
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

/// What to do when it had to stop.
const GO_ON: &str = "Run the same command again: what is restored already is not restored twice.";

/// A regular file to be made.
#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) path: Vec<u8>,
    pub(super) meta: Meta,
    pub(super) group: Option<u64>,
    /// With its holes.
    pub(super) size: u64,
    pub(super) sparse: Option<Sparse>,
}

/// A link, FIFO or device to be made.
#[derive(Debug)]
pub(super) struct NodeJob {
    pub(super) path: Vec<u8>,
    pub(super) node: Node,
    pub(super) meta: Meta,
    pub(super) group: Option<u64>,
}

/// Whatever is no folder.
#[derive(Debug)]
pub(super) enum Job {
    File(FileJob, Wanted),
    Node(NodeJob),
}

impl Job {
    fn path(&self) -> &[u8] {
        match self {
            Self::File(file, _) => &file.path,
            Self::Node(node) => &node.path,
        }
    }

    fn group(&self) -> Option<u64> {
        match self {
            Self::File(file, _) => file.group,
            Self::Node(node) => node.group,
        }
    }
}

/// All that two names of one thing have in common.
#[derive(Debug, PartialEq, Eq)]
enum Looks {
    File(u64, FileDigest, Meta),
    Node(Node, Meta),
}

/// Where a group of hard links was begun, and what is there.
#[derive(Debug)]
struct Origin {
    path: Vec<u8>,
    made: Option<Looks>,
}

/// Files that have begun.
#[derive(Default)]
struct Begun {
    open: HashMap<usize, File>,
    /// Where what comes next of a file belongs.
    layouts: HashMap<usize, Layout>,
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
    pub(super) nodes: Vec<NodeJob>,
    /// Further names of things.
    pub(super) names: Vec<Job>,
}

/// Carries windows out.
pub(super) struct Writer<'a> {
    pub(super) reader: &'a SnapshotReader,
    pub(super) target: Target,
    pub(super) problems: Problems<'a>,
    pub(super) dresser: Dresser<'a>,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    origins: HashMap<u64, Origin>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(reader: &'a SnapshotReader, target: Target, problems: Problems<'a>, monitor: &'a dyn Monitor) -> Self {
        Self { reader, target, problems, dresser: Dresser::new(reader), monitor, entries: 0, bytes: 0, origins: HashMap::new() }
    }

    /// Whether this entry is a further name of something that came before. The first one of a group becomes its origin.
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
        for job in &window.nodes {
            self.make_node(job)?;
        }
        let mut alone = Window::default();
        for job in window.names {
            if self.link(&job)? {
                continue;
            }
            match job {
                Job::Node(job) => self.make_node(&job)?,
                Job::File(file, wanted) => {
                    alone.files.push(file);
                    alone.wanted.push(wanted);
                }
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

    /// Links a further name; `false` when it must be a thing of its own.
    fn link(&mut self, job: &Job) -> Result<bool> {
        let Some(origin) = job.group().and_then(|group| self.origins.get(&group)) else { return Ok(false) };
        // Whoever says that two different things are one is not believed.
        let (expected, bytes) = match job {
            Job::File(file, wanted) => (Looks::File(file.size, wanted.expected.digest, file.meta.clone()), wanted.expected.size),
            Job::Node(job) => (Looks::Node(job.node.clone(), job.meta.clone()), 0),
        };
        if origin.made.as_ref() != Some(&expected) {
            return Ok(false);
        }
        let linked = self.target.hard_link(&origin.path, job.path());
        if linked.is_ok() {
            self.count(Ok(()), bytes)?;
        }
        Ok(linked.is_ok())
    }

    fn make_node(&mut self, job: &NodeJob) -> Result<()> {
        let NodeJob { path, node, meta, group } = job;
        let dresser = &mut self.dresser;
        let made = if self.target.used() && is_made(&mut self.target, job) {
            Ok(())
        } else {
            let link = matches!(node, Node::Link(_));
            self.target.make_node(path, node, |folder, name, shown| dresser.named(folder, name, link, meta, shown))
        };
        if made.is_ok() {
            self.note_made(*group, path, Looks::Node(node.clone(), meta.clone()));
        }
        match made {
            Err(error) if matches!(node, Node::Device { .. }) && error.kind() == Kind::Failed => {
                let shown = self.target.shown(path);
                self.dresser.lacks.add("a device", &shown, &error.one_line());
                Ok(())
            }
            made => self.count(made, 0),
        }
    }

    /// Whether the file is there already: its time is what an earlier restore set last.
    fn is_done(&mut self, job: &FileJob) -> bool {
        let Ok(Some(stat)) = self.target.look(&job.path) else { return false };
        same_file(&stat, job.size, &job.meta)
    }

    fn write_files(&mut self, jobs: Vec<FileJob>, wanted: Vec<Wanted>) -> Result<()> {
        let (mut files, mut missing): (Vec<FileJob>, Vec<Wanted>) = (Vec::with_capacity(jobs.len()), Vec::with_capacity(wanted.len()));
        for (job, wanted) in jobs.into_iter().zip(wanted) {
            if self.target.used() && self.is_done(&job) {
                self.note_file(&job, &wanted);
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
            let job = &files[piece.file];
            let shown = self.target.shown(&job.path);
            let outcome = match piece.state {
                Reached::Failed(error) => Err(error),
                Reached::Middle | Reached::Whole => self.write_piece(&piece, batch.frame.as_deref(), job, begun, &shown).and_then(|file| {
                    if matches!(piece.state, Reached::Middle) {
                        return Ok(Some(file));
                    }
                    if let Some(mut layout) = begun.layouts.remove(&piece.file) {
                        layout.finish(self.reader.frames())?;
                        file.set_len(job.size).at("write", &shown)?;
                    }
                    self.dresser.opened(&file, &job.meta, &shown).map(|()| None)
                }),
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
                    self.note_file(job, &wanted[piece.file]);
                    self.count(Ok(()), wanted[piece.file].expected.size)?;
                }
                Err(error) => {
                    begun.open.remove(&piece.file);
                    begun.layouts.remove(&piece.file);
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

    /// Writes a piece and gives the open file. Holes stay holes: nothing is written there.
    fn write_piece(&mut self, piece: &Piece, frame: Option<&Frame>, job: &FileJob, begun: &mut Begun, shown: &Path) -> Result<File> {
        let file = match begun.open.remove(&piece.file) {
            Some(file) => file,
            None if piece.offset == 0 => self.target.create(&job.path)?,
            None => self.target.reopen(&job.path)?,
        };
        let mut layout =
            job.sparse.as_ref().map(|sparse| begun.layouts.entry(piece.file).or_insert_with(|| Layout::new(job.size, Some(sparse))));
        let mut offset = piece.offset;
        for n in &piece.chunks {
            let chunk = frame.and_then(|frame| frame.chunk(*n)).ok_or_else(|| no_chunk(Member { run: RunId(0), frame: 0, n: *n }))?;
            match &mut layout {
                None => file.write_all_at(chunk, offset).at("write", shown)?,
                Some(layout) => {
                    let mut rest = chunk;
                    while !rest.is_empty() {
                        let (place, length) = layout.place(self.reader.frames(), rest.len())?;
                        file.write_all_at(&rest[..length], place).at("write", shown)?;
                        rest = &rest[length..];
                    }
                }
            }
            offset += chunk.len() as u64;
            self.monitor.bytes(chunk.len() as u64);
        }
        Ok(file)
    }

    /// Takes a file away that will not become whole; says whether something of it is still there.
    fn remove_unfinished(&mut self, job: &FileJob) -> Result<bool> {
        let Some(stat) = self.target.look(&job.path)? else { return Ok(false) };
        Ok(file_type(&stat) != FileType::RegularFile || self.target.remove(&job.path).is_err())
    }

    fn note_file(&mut self, job: &FileJob, wanted: &Wanted) {
        if job.group.is_some() {
            self.note_made(job.group, &job.path, Looks::File(job.size, wanted.expected.digest, job.meta.clone()));
        }
    }

    fn note_made(&mut self, group: Option<u64>, path: &[u8], looks: Looks) {
        if let Some(origin) = group.and_then(|group| self.origins.get_mut(&group))
            && origin.path == path
        {
            origin.made = Some(looks);
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

/// Whether a link, FIFO or device is there already.
fn is_made(target: &mut Target, job: &NodeJob) -> bool {
    let Ok(Some(stat)) = target.look(&job.path) else { return false };
    job.node.is(&stat)
        && match &job.node {
            Node::Link(says) => target.read_link(&job.path).is_ok_and(|found| found == *says),
            Node::Fifo | Node::Device { .. } => same_time(&stat, &job.meta),
        }
}

/// Whether a stat is that of a finished file.
pub(super) fn same_file(stat: &rustix::fs::Stat, size: u64, meta: &Meta) -> bool {
    file_type(stat) == FileType::RegularFile && u64::try_from(stat.st_size).is_ok_and(|found| found == size) && same_time(stat, meta)
}

/// The time is set last, so it marks what is complete.
fn same_time(stat: &rustix::fs::Stat, meta: &Meta) -> bool {
    let time = (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(-1));
    time == (meta.mtime.tv_sec, meta.mtime.tv_nsec)
}
