//! Many files at once, in the order of packs and frames, so that each frame is decrypted and decompressed once.
//!
//! Does not know paths, and what becomes of the bytes.

use super::content::{Check, Expected, Items};
use super::early::{Early, Room};
use super::frames::{Frame, Frames, MEMBERS_LIMIT, Place, no_chunk};
use super::schedule::{List, Part, Schedule, Then};
use super::threads::decode;
use crate::entry::Content;
use crate::epoch::Secrets;
use crate::reference::{Item, References};
use base::{Error, Kind, Result};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// One file to be read.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Where its chunks are.
    pub(crate) content: Content,
    /// What they must be.
    pub(crate) expected: Expected,
}

/// Neighbouring chunks of one file in one frame.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Which of the files.
    pub(crate) file: usize,
    /// Where in the file the first one begins.
    pub(crate) offset: u64,
    /// The chunks' numbers in the frame; one is named as often as the file repeats it.
    pub(crate) chunks: Vec<u32>,
    /// What is known of the file after them.
    pub(crate) state: Reached,
}

/// How far a file has come.
#[derive(Debug)]
pub(crate) enum Reached {
    /// More will come.
    Middle,
    /// It is whole, and its digest was right.
    Whole,
    /// It will not become whole.
    Failed(Error),
}

/// What one frame gave. `frame` is there whenever a piece has chunks.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The frame.
    pub(crate) frame: Option<Arc<Frame>>,
    /// The pieces, by file.
    pub(crate) pieces: Vec<Piece>,
}

/// Whether the receiver wants more.
pub(crate) type Emit<'a> = &'a mut dyn FnMut(Batch) -> bool;

/// How many chunks' numbers are held at once, about.
const NUMBERS: usize = 1 << 16;
/// How many items of lists that lie in chunks are looked at together.
const ITEMS: usize = 250_000;
/// How long a chunk is, about, of a list that is not known as a whole.
const EACH: u64 = 512 << 10;

/// What a thread made of a frame.
struct Looked {
    frame: Result<Arc<Frame>>,
    /// Files that lie in it as a whole, checked.
    whole: Vec<Piece>,
    /// The others, which are checked in their order.
    parts: Vec<Part>,
}

/// Reads all `files` and emits what comes, the pieces of each file in their order; a file that cannot be read does not
/// stop the others. What is decoded before its turn is kept in `room`. `emit` is called in the caller's thread.
///
/// # Errors
/// Of kind not-now when the packs cannot be reached for now; nothing else stops it.
pub(crate) fn read_all(frames: &Frames, secrets: &Secrets, files: &[Wanted], room: Room<'_>, emit: Emit<'_>) -> Result<()> {
    let run = Run { frames, secrets, files, room };
    let mut state = Sequence { secrets, started: HashMap::new(), failed: HashSet::new() };
    let mut lists = Vec::with_capacity(files.len());
    for (file, Wanted { content, expected }) in files.iter().enumerate() {
        if let Content::Chunks(list) = content {
            let count = list.0.iter().fold(0, |count: u64, item| count.saturating_add(item.count()));
            let each = expected.size / count.max(1);
            lists.push(List { file, items: Cow::Borrowed(&list.0), begins: true, ends: true, each });
        }
    }
    // Lists that have chunks of their own are long: as many of them together as fit into memory.
    let mut left = ITEMS;
    for (file, wanted) in files.iter().enumerate().filter(|(_, wanted)| matches!(wanted.content, Content::More(_))) {
        let (mut begins, mut items) = (true, Items::new(frames, &wanted.content));
        loop {
            let (some, ends) = match read_some(&mut items, left) {
                Ok(read) => read,
                Err(error) if error.kind() == Kind::NotNow => return Err(error),
                Err(error) => {
                    let pieces = state.fail(file, error).into_iter().collect();
                    if !emit(Batch { frame: None, pieces }) {
                        return Ok(());
                    }
                    break;
                }
            };
            left -= some.len();
            lists.push(List { file, items: Cow::Owned(some), begins, ends, each: EACH.min(wanted.expected.size) });
            if left == 0 {
                left = ITEMS;
                if !run.lists(std::mem::take(&mut lists), &mut state, emit)? {
                    return Ok(());
                }
            }
            begins = false;
            if ends {
                break;
            }
        }
    }
    run.lists(lists, &mut state, emit).map(drop)
}

/// Reads so many items, and says whether that was the end.
fn read_some(items: &mut Items<'_>, most: usize) -> Result<(Vec<Item>, bool)> {
    let mut some = Vec::new();
    while some.len() < most {
        match items.next()? {
            Some(item) => some.push(item),
            None => return Ok((some, true)),
        }
    }
    Ok((some, false))
}

/// What is read, and from where.
struct Run<'a> {
    frames: &'a Frames,
    secrets: &'a Secrets,
    files: &'a [Wanted],
    room: Room<'a>,
}

impl Run<'_> {
    /// Reads these lists to their ends; `false` when the receiver wants no more.
    fn lists(&self, mut lists: Vec<List<'_>>, state: &mut Sequence<'_>, emit: Emit<'_>) -> Result<bool> {
        let mut room = self.room.bytes();
        while !lists.is_empty() {
            let Some(behind) = self.sweep(&lists, room, state, emit)? else { return Ok(false) };
            // There was less room than it was said. Without any, each list waits for its next frame.
            room = 0;
            lists = behind
                .into_iter()
                .map(|(list, from)| {
                    let List { file, items, begins, ends, each } = &lists[list];
                    List { file: *file, items: Cow::Owned(items[from..].to_vec()), begins: *begins && from == 0, ends: *ends, each: *each }
                })
                .collect();
        }
        Ok(true)
    }

    /// Decodes what these lists need, and gives those that could not be read to their ends, with the items that they came to;
    /// nothing when the receiver wants no more.
    fn sweep(&self, lists: &[List<'_>], room: u64, state: &mut Sequence<'_>, emit: Emit<'_>) -> Result<Option<Vec<(usize, usize)>>> {
        let (mut schedule, at_once) = Schedule::new(self.frames, lists, room);
        let mut sweep =
            Sweep { lists, files: self.files, early: Early::new(self.room), at: HashMap::new(), behind: BTreeSet::new(), state };
        let pieces: Vec<Piece> = at_once.into_iter().filter_map(|(list, then)| sweep.at_once(list, then)).collect();
        if !pieces.is_empty() && !emit(Batch { frame: None, pieces }) {
            return Ok(None);
        }
        let mut over = Ok(true);
        let work = |frame: Result<Arc<Frame>>, _: Place, parts: Vec<Part>| look(frame, parts, lists, self.files, self.secrets);
        decode(self.frames, &mut schedule, &work, &mut |looked: Looked| {
            over = sweep.go_on(looked, emit);
            matches!(over, Ok(true))
        });
        Ok(over?.then(|| sweep.left_behind()))
    }
}

/// Checks the files that lie in a frame as a whole. What names very many chunks there is checked bit by bit.
fn look(frame: Result<Arc<Frame>>, parts: Vec<Part>, lists: &[List<'_>], files: &[Wanted], secrets: &Secrets) -> Looked {
    let Ok(frame) = frame else { return Looked { frame, whole: Vec::new(), parts } };
    let (mut whole, mut others, mut numbers) = (Vec::with_capacity(parts.len()), Vec::new(), 0);
    for part in parts {
        let List { file, items, begins, .. } = &lists[part.list];
        let here = &items[part.items.clone()];
        let count = here.iter().fold(0, |count: u64, item| count.saturating_add(item.count()));
        let all = *begins && part.items.start == 0 && matches!(part.then, Then::End);
        if !all || count > MEMBERS_LIMIT.into() || numbers > NUMBERS {
            others.push(part);
            continue;
        }
        let mut check = Check::new(secrets, files[*file].expected);
        let mut piece = Piece { file: *file, offset: 0, chunks: Vec::new(), state: Reached::Middle };
        let taken = here.iter().flat_map(|item| item.members()).try_for_each(|at| {
            check.take(frame.chunk(at.n).ok_or_else(|| no_chunk(at))?)?;
            piece.chunks.push(at.n);
            Ok(())
        });
        piece.state = taken.map_or_else(Reached::Failed, |()| ended(&check));
        numbers += piece.chunks.len();
        whole.push(piece);
    }
    Looked { frame: Ok(frame), whole, parts: others }
}

/// Some lists, read together.
struct Sweep<'a, 'b> {
    lists: &'a [List<'a>],
    files: &'a [Wanted],
    early: Early<'a>,
    /// The item that each list waits for, where that is not the first.
    at: HashMap<usize, usize>,
    /// Lists of which something came before its turn and could not be kept.
    behind: BTreeSet<usize>,
    state: &'a mut Sequence<'b>,
}

impl Sweep<'_, '_> {
    /// What becomes of a list that needs no frame.
    fn at_once(&mut self, list: usize, then: Then) -> Option<Piece> {
        let file = self.lists[list].file;
        if self.state.failed.contains(&file) {
            return None;
        }
        let check = self.state.check(file, &self.files[file]);
        let state = match then {
            Then::Lost(error) => return self.state.fail(file, error),
            Then::End => ended(&check),
            Then::On => Reached::Middle,
        };
        Some(Piece { file, offset: check.seen(), chunks: Vec::new(), state })
    }

    /// Emits what a frame gave; `false` when the receiver wants no more.
    fn go_on(&mut self, looked: Looked, emit: Emit<'_>) -> Result<bool> {
        let Looked { frame, whole: mut pieces, parts } = looked;
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) if error.kind() == Kind::NotNow => return Err(error),
            Err(error) => {
                let line = error.one_line();
                let pieces = parts.iter().filter_map(|part| self.fail(part.list, Error::failed(line.clone()))).collect();
                return Ok(emit(Batch { frame: None, pieces }));
            }
        };
        let mut numbers = 0;
        for part in parts {
            let List { file, items, .. } = &self.lists[part.list];
            if self.state.failed.contains(file) || self.behind.contains(&part.list) {
                continue;
            }
            if !part.now {
                let (list, here) = (part.list, &items[part.items.clone()]);
                if !self.early.keep(&frame, part, here) {
                    self.behind.insert(list);
                }
                continue;
            }
            if numbers > NUMBERS {
                numbers = 0;
                if !emit(Batch { frame: Some(frame.clone()), pieces: std::mem::take(&mut pieces) }) {
                    return Ok(false);
                }
            }
            let (list, to) = (part.list, part.items.end);
            let Some(piece) = self.take(&frame, part, emit) else { return Ok(false) };
            numbers += piece.chunks.len();
            pieces.push(piece);
            if let Some(next) = self.early.take(list, to) {
                // What was kept comes behind what is here.
                if !emit(Batch { frame: Some(frame.clone()), pieces: std::mem::take(&mut pieces) }) || !self.go_on_kept(next, list, emit) {
                    return Ok(false);
                }
            }
        }
        pieces.sort_by_key(|piece| piece.file);
        Ok(pieces.is_empty() || emit(Batch { frame: Some(frame), pieces }))
    }

    /// Emits what was kept of a list, one part after the other, until one is missing; `false` when the receiver wants no more.
    fn go_on_kept(&mut self, first: std::io::Result<(Frame, Part)>, list: usize, emit: Emit<'_>) -> bool {
        let mut next = Some(first);
        while let Some(kept) = next.take() {
            let batch = match kept {
                Ok((frame, part)) => {
                    let (frame, to) = (Arc::new(frame), part.items.end);
                    let Some(piece) = self.take(&frame, part, emit) else { return false };
                    next = self.early.take(list, to);
                    Batch { frame: Some(frame), pieces: vec![piece] }
                }
                Err(error) => {
                    let error = Error::failed("what was decoded already could not be kept on the disk").because(error);
                    Batch { frame: None, pieces: self.fail(list, error).into_iter().collect() }
                }
            };
            if !emit(batch) {
                return false;
            }
        }
        true
    }

    fn take(&mut self, frame: &Arc<Frame>, part: Part, emit: Emit<'_>) -> Option<Piece> {
        let List { file, items, .. } = &self.lists[part.list];
        self.at.insert(part.list, part.items.end);
        let piece = self.state.take(frame, *file, &self.files[*file], &items[part.items], part.then, emit)?;
        if let Reached::Failed(_) = piece.state {
            self.early.forget(part.list);
        }
        Some(piece)
    }

    fn fail(&mut self, list: usize, error: Error) -> Option<Piece> {
        self.early.forget(list);
        self.state.fail(self.lists[list].file, error)
    }

    fn left_behind(self) -> Vec<(usize, usize)> {
        let failed = |list: &usize| self.state.failed.contains(&self.lists[*list].file);
        self.behind.iter().filter(|list| !failed(list)).map(|list| (*list, self.at.get(list).copied().unwrap_or(0))).collect()
    }
}

/// Files that lie in several frames, checked in the order of their content.
struct Sequence<'a> {
    secrets: &'a Secrets,
    started: HashMap<usize, Check>,
    failed: HashSet<usize>,
}

impl Sequence<'_> {
    /// How far a file has come.
    fn check(&mut self, file: usize, wanted: &Wanted) -> Check {
        self.started.remove(&file).unwrap_or_else(|| Check::new(self.secrets, wanted.expected))
    }

    /// Says of a file that it will not become whole, once.
    fn fail(&mut self, file: usize, error: Error) -> Option<Piece> {
        let offset = self.started.remove(&file).map_or(0, |check| check.seen());
        self.failed.insert(file).then(|| Piece { file, offset, chunks: Vec::new(), state: Reached::Failed(error) })
    }

    /// Takes what a file has in a frame, and gives the last piece of it; what comes before, because a chunk is repeated
    /// very often, is emitted. Nothing when the receiver wants no more.
    fn take(&mut self, frame: &Arc<Frame>, file: usize, wanted: &Wanted, here: &[Item], then: Then, emit: Emit<'_>) -> Option<Piece> {
        let mut check = self.check(file, wanted);
        let begin = |check: &Check| Piece { file, offset: check.seen(), chunks: Vec::new(), state: Reached::Middle };
        let mut piece = begin(&check);
        for at in here.iter().flat_map(|item| item.members()) {
            if piece.chunks.len() >= MEMBERS_LIMIT as usize {
                let full = std::mem::replace(&mut piece, begin(&check));
                if !emit(Batch { frame: Some(frame.clone()), pieces: vec![full] }) {
                    return None;
                }
            }
            if let Err(error) = frame.chunk(at.n).ok_or_else(|| no_chunk(at)).and_then(|chunk| check.take(chunk)) {
                self.failed.insert(file);
                piece.state = Reached::Failed(error);
                return Some(piece);
            }
            piece.chunks.push(at.n);
        }
        piece.state = match then {
            Then::On => {
                self.started.insert(file, check);
                Reached::Middle
            }
            Then::End => ended(&check),
            Then::Lost(error) => Reached::Failed(error),
        };
        Some(piece)
    }
}

/// Hands on all bytes of a file in order, and in the end says whether they were the right ones.
pub(crate) fn stream(frames: &Frames, secrets: &Secrets, wanted: &Wanted, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    if let Content::Chunks(References(items)) = &wanted.content
        && let Some(first) = items.first()
        && items.iter().all(|item| (item.run, item.frame) == (first.run, first.frame))
    {
        // One that was read for a neighbour serves again.
        let (frame, mut check) = (frames.get_for(first.first())?, Check::new(secrets, wanted.expected));
        for at in items.iter().flat_map(|item| item.members()) {
            let chunk = frame.chunk(at.n).ok_or_else(|| no_chunk(at))?;
            check.take(chunk)?;
            each(chunk)?;
        }
        return check.finish();
    }
    let mut outcome = Ok(());
    read_all(frames, secrets, std::slice::from_ref(wanted), Room::MEMORY, &mut |Batch { frame, pieces }| {
        for piece in pieces {
            let mut chunks = piece.chunks.iter().filter_map(|n| frame.as_ref()?.chunk(*n));
            outcome = chunks.try_for_each(&mut *each);
            if let (Ok(()), Reached::Failed(error)) = (&outcome, piece.state) {
                outcome = Err(error);
            }
        }
        outcome.is_ok()
    })?;
    outcome
}

fn ended(check: &Check) -> Reached {
    check.finish().map_or_else(Reached::Failed, |()| Reached::Whole)
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
