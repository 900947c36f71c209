//! Many files at once, in the order of packs and frames, so that each frame is decrypted and decompressed once.
//!
//! Does not know paths, and what becomes of the bytes.

use super::content::{Check, Expected};
use super::frames::{Frame, Frames, MEMBERS_LIMIT, Place, no_chunk};
use super::schedule::{Long, Part, Schedule, Then, items};
use super::threads::decode;
use crate::entry::Content;
use crate::epoch::Secrets;
use crate::reference::Item;
use base::{Error, Kind, Result};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

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

/// What a thread made of a frame.
struct Looked {
    frame: Result<Arc<Frame>>,
    /// Files that lie in it as a whole, checked.
    whole: Vec<Piece>,
    /// The others, which are checked in their order.
    parts: Vec<Part>,
}

/// Reads all `files` and emits what comes, the pieces of each file in their order; a file that cannot be read does not
/// stop the others. `emit` is called in the caller's thread.
///
/// # Errors
/// Of kind not-now when the packs cannot be reached for now; nothing else stops it.
pub(crate) fn read_all(frames: &Frames, secrets: &Secrets, files: &[Wanted], emit: Emit<'_>) -> Result<()> {
    let (mut schedule, at_once) = Schedule::new(frames, files);
    let at_once: Vec<Piece> = at_once
        .into_iter()
        .map(|(file, then)| {
            let state = match then {
                Then::Lost(error) => Reached::Failed(error),
                _ => ended(&Check::new(secrets, files[file].expected)),
            };
            Piece { file, offset: 0, chunks: Vec::new(), state }
        })
        .collect();
    if !at_once.is_empty() && !emit(Batch { frame: None, pieces: at_once }) {
        return Ok(());
    }
    let (mut state, mut over) = (Sequence { secrets, started: HashMap::new(), failed: HashSet::new() }, Ok(true));
    let work = |frame: Result<Arc<Frame>>, _: Place, parts: Vec<Part>| look(frame, parts, files, secrets);
    decode(frames, &mut schedule, &work, &mut |looked: Looked| {
        over = state.go_on(looked, files, emit);
        matches!(over, Ok(true))
    });
    if !over? {
        return Ok(());
    }
    // A list that has chunks of its own is long: these files are read one after the other.
    for (file, wanted) in files.iter().enumerate() {
        if matches!(wanted.content, Content::More(_)) && !read_long(frames, secrets, wanted, file, emit)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Checks the files that lie in a frame as a whole. What names very many chunks there is checked bit by bit.
fn look(frame: Result<Arc<Frame>>, parts: Vec<Part>, files: &[Wanted], secrets: &Secrets) -> Looked {
    let Ok(frame) = frame else { return Looked { frame, whole: Vec::new(), parts } };
    let (mut whole, mut others, mut numbers) = (Vec::with_capacity(parts.len()), Vec::new(), 0);
    for part in parts {
        let here = &items(&files[part.file])[part.items.clone()];
        let count = here.iter().fold(0, |count: u64, item| count.saturating_add(item.count()));
        if part.items.start > 0 || !matches!(part.then, Then::End) || count > MEMBERS_LIMIT.into() || numbers > NUMBERS {
            others.push(part);
            continue;
        }
        let mut check = Check::new(secrets, files[part.file].expected);
        let mut piece = Piece { file: part.file, offset: 0, chunks: Vec::new(), state: Reached::Middle };
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

/// Files that lie in several frames, checked in the order of their content.
struct Sequence<'a> {
    secrets: &'a Secrets,
    started: HashMap<usize, Check>,
    failed: HashSet<usize>,
}

impl Sequence<'_> {
    /// Emits what a frame gave; `false` when the receiver wants no more.
    fn go_on(&mut self, looked: Looked, files: &[Wanted], emit: Emit<'_>) -> Result<bool> {
        let Looked { frame, whole: mut pieces, parts } = looked;
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) if error.kind() == Kind::NotNow => return Err(error),
            Err(error) => {
                let line = error.one_line();
                let pieces = parts.iter().filter_map(|part| self.fail(part.file, Error::failed(line.clone()))).collect();
                return Ok(emit(Batch { frame: None, pieces }));
            }
        };
        let mut numbers = 0;
        for Part { file, items: range, then } in parts {
            if self.failed.contains(&file) {
                continue;
            }
            if numbers > NUMBERS {
                numbers = 0;
                if !emit(Batch { frame: Some(frame.clone()), pieces: std::mem::take(&mut pieces) }) {
                    return Ok(false);
                }
            }
            let here = &items(&files[file])[range];
            match self.take(&frame, file, &files[file], here, then, emit) {
                Some(piece) => {
                    numbers += piece.chunks.len();
                    pieces.push(piece);
                }
                None => return Ok(false),
            }
        }
        pieces.sort_by_key(|piece| piece.file);
        Ok(pieces.is_empty() || emit(Batch { frame: Some(frame), pieces }))
    }

    /// Says of a file that it will not become whole, once.
    fn fail(&mut self, file: usize, error: Error) -> Option<Piece> {
        let offset = self.started.remove(&file).map_or(0, |check| check.seen());
        self.failed.insert(file).then(|| Piece { file, offset, chunks: Vec::new(), state: Reached::Failed(error) })
    }

    /// Takes what a file has in a frame, and gives the last piece of it; what comes before, because a chunk is repeated
    /// very often, is emitted. Nothing when the receiver wants no more.
    fn take(&mut self, frame: &Arc<Frame>, file: usize, wanted: &Wanted, here: &[Item], then: Then, emit: Emit<'_>) -> Option<Piece> {
        let mut check = self.started.remove(&file).unwrap_or_else(|| Check::new(self.secrets, wanted.expected));
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

/// Reads one file in the order of its content; `false` when the receiver wants no more.
fn read_long(frames: &Frames, secrets: &Secrets, wanted: &Wanted, file: usize, emit: Emit<'_>) -> Result<bool> {
    let broken = Mutex::new(None);
    let mut steps = Long::new(frames, &wanted.content, &broken);
    let mut state = Sequence { secrets, started: HashMap::new(), failed: HashSet::new() };
    let mut over = Ok(true);
    let work = |frame: Result<Arc<Frame>>, _: Place, items: Vec<Item>| (frame, items);
    decode(frames, &mut steps, &work, &mut |(frame, items): (Result<Arc<Frame>>, Vec<Item>)| {
        over = match frame {
            Err(error) if error.kind() == Kind::NotNow => Err(error),
            Err(error) => {
                let pieces = state.fail(file, error).into_iter().collect();
                Ok(emit(Batch { frame: None, pieces }))
            }
            Ok(frame) => Ok(match state.take(&frame, file, wanted, &items, Then::On, emit) {
                Some(piece) => emit(Batch { frame: Some(frame), pieces: vec![piece] }),
                None => false,
            }),
        };
        matches!(over, Ok(true)) && state.failed.is_empty()
    });
    let wants_more = over?;
    if !state.failed.is_empty() {
        return Ok(wants_more);
    }
    if !wants_more {
        return Ok(false);
    }
    let failed = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    let pieces = match failed {
        Some(error) if error.kind() == Kind::NotNow => return Err(error),
        Some(error) => state.fail(file, error).into_iter().collect(),
        None => {
            let check = state.started.remove(&file).unwrap_or_else(|| Check::new(secrets, wanted.expected));
            vec![Piece { file, offset: check.seen(), chunks: Vec::new(), state: ended(&check) }]
        }
    };
    Ok(emit(Batch { frame: None, pieces }))
}

/// Hands on all bytes of a file in order, and in the end says whether they were the right ones.
pub(crate) fn stream(frames: &Frames, secrets: &Secrets, wanted: &Wanted, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let items = items(wanted);
    if let (Content::Chunks(_), Some(first)) = (&wanted.content, items.first())
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
    read_all(frames, secrets, std::slice::from_ref(wanted), &mut |Batch { frame, pieces }| {
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
