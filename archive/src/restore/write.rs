//! Writing one window of entries, in folders that are there: files as their bytes come, then further names of them.
//!
//! Does not read the catalog.

use super::dress::{Dresser, undress};
use super::hands::{Hands, Made, takes};
use super::jobs::{FileJob, FolderJob, NodeJob, There, Thing};
use super::journal::{Journal, Mode};
use super::judge::{Judge, Verdict};
use super::nodes::Node;
use super::tally::Tally;
use super::target::{Target, file_type};
use crate::read::early::Room;
use crate::read::frames::{Frame, no_chunk};
use crate::read::layout::Layout;
use crate::read::order::{Batch, Piece, Reached, Wanted, read_all};
use crate::reference::{Member, RunId};
use crate::snapshot::SnapshotReader;
use base::{At, Error, Kind, Monitor, Result, stop};
use rustix::fs::FileType;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Files that are kept open while they wait for more.
const OPEN_FILES: usize = 64;
/// From so many files on, further threads are worth their start.
const MANY: usize = 256;

/// What to do when it had to stop.
const GO_ON: &str = "Run the same command again: what is restored already is not restored twice.";

/// An error that ended a restore which can go on. What to do about a full disk was said where it was met.
fn goes_on(error: &Error) -> Error {
    Error::not_now(error.one_line()).hint(error.advice().unwrap_or(GO_ON))
}

/// Files that have begun.
#[derive(Default)]
struct Begun {
    open: HashMap<usize, File>,
    /// The drafts of those that are not written in their own place.
    drafts: HashMap<usize, Vec<u8>>,
    /// Those that are, and are not whole yet.
    in_place: HashSet<usize>,
    /// Where what comes next of a file belongs.
    layouts: HashMap<usize, Layout>,
    /// Files that failed: what still comes of them is thrown away.
    given_up: HashSet<usize>,
}

/// What is restored in one go.
#[derive(Debug, Default)]
pub(super) struct Window {
    files: Vec<FileJob>,
    /// Parallel to `files`.
    wanted: Vec<Wanted>,
    nodes: Vec<NodeJob>,
    /// Further names of things.
    names: Vec<Thing>,
}

impl Window {
    /// Takes a further name of something.
    pub(super) fn name(&mut self, thing: Thing) {
        self.names.push(thing);
    }

    /// Takes a thing.
    pub(super) fn make(&mut self, thing: Thing) {
        match thing {
            Thing::Node(job) => self.nodes.push(job),
            Thing::File(job, wanted) => {
                self.files.push(job);
                self.wanted.push(wanted);
            }
        }
    }
}

/// Carries windows out.
pub(super) struct Writer<'a> {
    pub(super) reader: &'a SnapshotReader,
    pub(super) target: Target,
    pub(super) journal: Journal,
    pub(super) mode: Mode,
    pub(super) tally: Tally<'a>,
    pub(super) dresser: Dresser<'a>,
    pub(super) monitor: &'a dyn Monitor,
    /// Bytes that may be in the target for a while, besides what is restored.
    pub(super) spare: u64,
}

impl Writer<'_> {
    /// Makes a folder, if it is to be made.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub(super) fn write_folder(&mut self, job: &FolderJob) -> Result<()> {
        let made = job.make.map_or(Ok(()), |there| self.make_folder(&job.path, there));
        if job.counts || made.is_err() { self.count(made, 0) } else { Ok(()) }
    }

    /// # Errors
    /// When going on makes no sense: the disk is full, or the packs cannot be reached for now.
    pub(super) fn write(&mut self, window: Window, judge: &mut Judge<'_>) -> Result<()> {
        self.write_things(window.files, window.wanted, &window.nodes)?;
        self.write_names(window.names, judge)?;
        for folder in self.target.take_made_up() {
            self.problem(&Error::failed(format!(
                "the folder {:?} has no entry; it was made with mode 0700",
                base::text::printable(&folder)
            )))?;
        }
        Ok(())
    }

    fn write_things(&mut self, files: Vec<FileJob>, wanted: Vec<Wanted>, nodes: &[NodeJob]) -> Result<()> {
        self.write_files(files, wanted)?;
        nodes.iter().try_for_each(|job| self.make_node(job))
    }

    fn make_folder(&mut self, path: &[u8], there: There) -> Result<()> {
        if self.mode != Mode::Fresh {
            self.journal.folder(path)?;
        }
        if let Some(kind) = there {
            self.target.remove(path, kind)?;
        }
        self.target.make_folder(path)?;
        if self.mode == Mode::Fresh { Ok(()) } else { self.target.undress_folder(path) }
    }

    /// Makes something at `path` as a whole: in its place where everything is this restore's own, else as a draft beside it.
    fn place(&mut self, path: &[u8], there: There, make: &mut dyn FnMut(&mut Self, &[u8]) -> Result<()>) -> Result<()> {
        if self.mode == Mode::Fresh {
            if let Some(kind) = there {
                self.target.remove(path, kind)?;
            }
            return make(self, path);
        }
        let draft = self.journal.draft(path)?;
        let made = make(self, &draft).and_then(|()| self.target.publish(&draft, path, there));
        if made.is_err() {
            // It may not have been made.
            let _ = self.target.remove(&draft, FileType::RegularFile);
        }
        made
    }

    /// Links further names; those that cannot be are things of their own, and the next ones of their group are theirs.
    fn write_names(&mut self, names: Vec<Thing>, judge: &mut Judge<'_>) -> Result<()> {
        let mut waiting = names;
        while !waiting.is_empty() {
            let mut alone = Window::default();
            let mut begun = HashSet::new();
            let mut later = Vec::new();
            for thing in std::mem::take(&mut waiting) {
                if begun.contains(&thing.group()) {
                    later.push(thing);
                    continue;
                }
                if self.write_name(&thing, judge)? {
                    continue;
                }
                match thing.judged(judge, Some(&mut self.target)) {
                    (thing, None) => {
                        begun.insert(thing.group());
                        alone.make(thing);
                    }
                    (thing, Some(verdict)) => self.tally.settle_thing(&thing, verdict)?,
                }
            }
            self.write_things(alone.files, alone.wanted, &alone.nodes)?;
            waiting = later;
        }
        Ok(())
    }

    /// Links a further name; `false` when it must be a thing of its own.
    fn write_name(&mut self, thing: &Thing, judge: &mut Judge<'_>) -> Result<bool> {
        let Some(origin) = thing.group().and_then(|group| self.tally.origins.get(&group)) else { return Ok(false) };
        // Whoever says that two different things are one is not believed.
        if origin.made.as_ref() != Some(&thing.looks()) {
            return Ok(false);
        }
        let origin = origin.path.clone();
        let there = match judge.name(&mut self.target, thing.path(), &origin) {
            Ok(Verdict::Make) => None,
            Ok(Verdict::Replace(kind)) => Some(kind),
            Ok(verdict) => return self.tally.settle(thing.path(), thing.bytes(), verdict).map(|()| true),
            Err(error) => return self.tally.settle(thing.path(), 0, Verdict::Refused(error)).map(|()| true),
        };
        let linked = self.place(thing.path(), there, &mut |this, path| this.target.hard_link(&origin, path));
        if linked.is_ok() {
            self.count(Ok(()), thing.bytes())?;
        }
        Ok(linked.is_ok())
    }

    fn make_node(&mut self, job: &NodeJob) -> Result<()> {
        let NodeJob { path, node, meta, group, there } = job;
        let link = matches!(node, Node::Link(_));
        let made = self.place(path, *there, &mut |this, path| {
            let dresser = &mut this.dresser;
            this.target.make_node(path, node, |folder, name, shown| dresser.named(folder, name, link, meta, shown))
        });
        match made {
            Err(error) if matches!(node, Node::Device { .. }) && error.kind() == Kind::Failed => {
                let shown = self.target.shown(path);
                self.dresser.lacks.add("a device", &shown, &error.one_line());
                Ok(())
            }
            Ok(()) => {
                self.tally.note_made(*group, path, || super::jobs::Looks::Node(node.clone(), meta.clone()));
                self.count(Ok(()), 0)
            }
            made => self.count(made, 0),
        }
    }

    fn write_files(&mut self, jobs: Vec<FileJob>, wanted: Vec<Wanted>) -> Result<()> {
        let (mut files, mut missing): (Vec<FileJob>, Vec<Wanted>) = (Vec::with_capacity(jobs.len()), Vec::with_capacity(wanted.len()));
        for (job, wanted) in jobs.into_iter().zip(wanted) {
            if job.dress {
                let dressed = self.target.dress_file(&job.path, &job.meta, &mut self.dresser);
                if dressed.is_ok() {
                    self.tally.note_made(job.group, &job.path, || job.looks(&wanted));
                    self.monitor.bytes(wanted.expected.size);
                }
                self.count(dressed, 0)?;
            } else {
                files.push(job);
                missing.push(wanted);
            }
        }
        if files.is_empty() {
            return Ok(());
        }
        let reader = self.reader;
        let (shown, folders) = (self.target.shown(b""), self.target.folders()?);
        let room = Room { disk: self.spare, file: &|| folders.nameless(), ..Room::MEMORY };
        // Other threads decrypt, decompress and hash, this one makes the files, with more of them where that is worth it: most
        // of the time is the kernel's.
        std::thread::scope(|scope| {
            // Elsewhere each file is written down before it is made.
            let new = self.mode == Mode::Fresh && files.len() >= MANY;
            let mut hands = if new { Some(Hands::start(scope, &folders, &files, &shown)?) } else { None };
            let (mut begun, mut written) = (Begun::default(), Ok(()));
            let read = read_all(reader.frames(), reader.secrets(), &missing, room, &mut |batch| {
                written = self.share_batch(batch, &files, &missing, &mut begun, hands.as_mut());
                written.is_ok()
            });
            if let Some(mut hands) = hands {
                let made = hands.finish(written.is_err());
                let counted = self.take_made(made, &files, &missing, &mut begun);
                written = written.and(counted);
            }
            // Best effort, for both: the next try removes what is left, or makes it anew.
            for draft in begun.drafts.into_values() {
                let _ = self.target.remove(&draft, FileType::RegularFile);
            }
            for file in begun.in_place {
                let _ = self.target.remove(&files[file].path, FileType::RegularFile);
            }
            written.map_err(|error| if error.kind() == Kind::NotNow { goes_on(&error) } else { error })?;
            read.map_err(|error| if error.kind() == Kind::NotNow { goes_on(&error) } else { error })
        })
    }

    /// Gives what others can make to them, and makes the rest.
    fn share_batch(
        &mut self,
        mut batch: Batch,
        files: &[FileJob],
        wanted: &[Wanted],
        begun: &mut Begun,
        hands: Option<&mut Hands<'_>>,
    ) -> Result<()> {
        stop::check()?;
        if let Some(hands) = hands {
            let (plain, rest) = batch.pieces.into_iter().partition(|piece| takes(piece, &files[piece.file]));
            batch.pieces = rest;
            let made = hands.make(batch.frame.as_ref(), plain);
            self.take_made(made, files, wanted, begun)?;
        }
        self.write_batch(batch, files, wanted, begun)
    }

    /// Counts what others made, and makes what they could not.
    fn take_made(&mut self, made: Vec<Made>, files: &[FileJob], wanted: &[Wanted], begun: &mut Begun) -> Result<()> {
        let mut outcome = Ok(());
        for Made { files: done, back, frame, lacks } in made {
            self.dresser.lacks.merge(lacks);
            for file in done {
                let (job, wanted) = (&files[file], &wanted[file]);
                self.tally.note_made(job.group, &job.path, || job.looks(wanted));
                self.monitor.bytes(wanted.expected.size);
                self.count(Ok(()), wanted.expected.size)?;
            }
            if outcome.is_ok() {
                outcome = self.write_batch(Batch { frame, pieces: back }, files, wanted, begun);
            }
        }
        outcome
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
                    self.dresser.opened(&file, &job.meta, &shown)?;
                    begun.in_place.remove(&piece.file);
                    if let Some(draft) = begun.drafts.get(&piece.file) {
                        self.target.publish(draft, &job.path, job.there)?;
                        begun.drafts.remove(&piece.file);
                    }
                    Ok(None)
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
                    self.tally.note_made(job.group, &job.path, || job.looks(&wanted[piece.file]));
                    self.count(Ok(()), wanted[piece.file].expected.size)?;
                }
                Err(error) => {
                    begun.open.remove(&piece.file);
                    begun.layouts.remove(&piece.file);
                    begun.given_up.insert(piece.file);
                    begun.in_place.remove(&piece.file);
                    let kept = self.remove_unfinished(job, begun.drafts.remove(&piece.file))?;
                    let what = if kept { "could not be restored completely" } else { "was not restored" };
                    if error.kind() == Kind::NotNow {
                        self.problem(&error)?;
                    }
                    self.tally.problems.add_for(&format!("{} {what}", shown.display()), &error);
                }
            }
        }
        Ok(())
    }

    /// Writes a piece and gives the open file. Holes stay holes: nothing is written there.
    fn write_piece(&mut self, piece: &Piece, frame: Option<&Frame>, job: &FileJob, begun: &mut Begun, shown: &Path) -> Result<File> {
        let file = match begun.open.remove(&piece.file) {
            Some(file) => file,
            None if piece.offset == 0 => self.begin(piece.file, job, begun)?,
            None => self.target.reopen(begun.drafts.get(&piece.file).unwrap_or(&job.path))?,
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

    /// Creates a file in its place, or its draft.
    fn begin(&mut self, number: usize, job: &FileJob, begun: &mut Begun) -> Result<File> {
        if self.mode == Mode::Fresh {
            if let Some(kind) = job.there {
                self.target.remove(&job.path, kind)?;
            }
            let file = self.target.create(&job.path)?;
            begun.in_place.insert(number);
            return Ok(file);
        }
        let draft = self.journal.draft(&job.path)?;
        let file = self.target.create(&draft)?;
        // A folder that was there may give lists to what is made in it.
        undress(&file);
        begun.drafts.insert(number, draft);
        Ok(file)
    }

    /// Takes a file away that will not become whole; says whether something of it is still there.
    fn remove_unfinished(&mut self, job: &FileJob, draft: Option<Vec<u8>>) -> Result<bool> {
        if self.mode != Mode::Fresh {
            // What is in its place was there before, or is nothing.
            return Ok(draft.is_some_and(|draft| self.target.remove(&draft, FileType::RegularFile).is_err()));
        }
        let Some(stat) = self.target.look(&job.path)? else { return Ok(false) };
        Ok(file_type(&stat) != FileType::RegularFile || self.target.remove(&job.path, FileType::RegularFile).is_err())
    }

    /// Counts an entry that is done, or notes why it is not.
    pub(super) fn count(&mut self, outcome: Result<()>, bytes: u64) -> Result<()> {
        match outcome {
            Ok(()) => {
                self.tally.entries += 1;
                self.tally.bytes += bytes;
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
            return Err(goes_on(error));
        }
        self.tally.problems.add(error);
        Ok(())
    }
}
