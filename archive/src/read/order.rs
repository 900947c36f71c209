//! Many files at once, in the order of packs and frames, so that each frame is decrypted and decompressed once.
//!
//! Does not know paths, and what becomes of the bytes.

use super::content::{Check, Cursor, Expected, stream};
use super::frames::{Frame, Frames, MEMBERS_LIMIT, Place, no_chunk};
use crate::entry::Content;
use crate::epoch::Secrets;
use crate::reference::Item;
use base::{Error, Kind, Result};
use std::collections::BTreeMap;
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

struct Progress {
    cursor: Cursor,
    check: Check,
}

/// Reads all `files` and emits what comes; a file that cannot be read does not stop the others.
///
/// # Errors
/// Of kind not-now when the packs cannot be reached for now; nothing else stops it.
pub(crate) fn read_all(frames: &Frames, secrets: &Secrets, files: &[Wanted], emit: Emit<'_>) -> Result<()> {
    let mut waiting: BTreeMap<Place, Vec<usize>> = BTreeMap::new();
    let mut long = Vec::new();
    // Files that need no frame: empty ones, and those whose first chunk is nowhere.
    let mut at_once = Vec::new();
    for (file, wanted) in files.iter().enumerate() {
        match &wanted.content {
            Content::More(_) => long.push(file),
            Content::Chunks(list) => match Cursor::default().peek(&list.0).map(|at| frames.locate(at)) {
                Some(Ok(place)) => waiting.entry(place).or_default().push(file),
                Some(Err(error)) => at_once.push(failed(file, error)),
                None => at_once.push(Piece { file, offset: 0, chunks: Vec::new(), state: ended(&Check::new(secrets, wanted.expected)) }),
            },
        }
    }
    if !at_once.is_empty() && !emit(Batch { frame: None, pieces: at_once }) {
        return Ok(());
    }
    let mut started: BTreeMap<usize, Progress> = BTreeMap::new();
    let mut here = (0, 0);
    // Always onwards to the next frame that somebody waits for, and from the last one back to the first: files whose
    // chunks lie in several runs share each sweep.
    while let Some(place) = waiting.range(here..).next().or_else(|| waiting.first_key_value()).map(|(place, _)| *place) {
        here = place;
        let Some(mut here_now) = waiting.remove(&place) else { break };
        here_now.sort_unstable();
        let pieces = match frames.get(place) {
            Ok(frame) => {
                let mut pieces = Vec::with_capacity(here_now.len());
                for file in here_now {
                    let Content::Chunks(list) = &files[file].content else { continue };
                    let mut progress = started
                        .remove(&file)
                        .unwrap_or_else(|| Progress { cursor: Cursor::default(), check: Check::new(secrets, files[file].expected) });
                    let (piece, next) = take_from(frames, place, &frame, file, &list.0, &mut progress);
                    if let Some(next) = next {
                        waiting.entry(next).or_default().push(file);
                        started.insert(file, progress);
                    }
                    pieces.push(piece);
                }
                Batch { frame: Some(frame), pieces }
            }
            Err(error) if error.kind() == Kind::NotNow => return Err(error),
            Err(error) => {
                let line = error.one_line();
                here_now.iter().for_each(|file| {
                    started.remove(file);
                });
                Batch { frame: None, pieces: here_now.into_iter().map(|file| failed(file, Error::failed(line.clone()))).collect() }
            }
        };
        if !emit(pieces) {
            return Ok(());
        }
    }
    // A list that has chunks of its own is long: these files are read one after the other.
    for file in long {
        if !read_long(frames, secrets, &files[file], file, emit)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Takes from a frame all that a file has there next, and says where the file goes on.
fn take_from(
    frames: &Frames,
    place: Place,
    frame: &Arc<Frame>,
    file: usize,
    items: &[Item],
    progress: &mut Progress,
) -> (Piece, Option<Place>) {
    let mut piece = Piece { file, offset: progress.check.seen(), chunks: Vec::new(), state: Reached::Middle };
    loop {
        let Some(at) = progress.cursor.peek(items) else {
            piece.state = ended(&progress.check);
            return (piece, None);
        };
        match frames.locate(at) {
            Ok(next) if next != place => return (piece, Some(next)),
            // A chunk that is repeated very often comes in several pieces.
            Ok(next) if piece.chunks.len() >= MEMBERS_LIMIT as usize => return (piece, Some(next)),
            Ok(_) => {}
            Err(error) => {
                piece.state = Reached::Failed(error);
                return (piece, None);
            }
        }
        let taken = frame.chunk(at.n).ok_or_else(|| no_chunk(at)).and_then(|chunk| progress.check.take(chunk));
        if let Err(error) = taken {
            piece.state = Reached::Failed(error);
            return (piece, None);
        }
        piece.chunks.push(at.n);
        progress.cursor.advance(items);
    }
}

/// Reads one file in the order of its content; `false` when the receiver wants no more.
fn read_long(frames: &Frames, secrets: &Secrets, wanted: &Wanted, file: usize, emit: Emit<'_>) -> Result<bool> {
    let mut pending: Option<(Arc<Frame>, Piece)> = None;
    let mut wants_more = true;
    let mut seen = 0;
    let outcome = stream(frames, secrets, &wanted.content, wanted.expected, &mut |offset, frame, n, chunk| {
        seen = offset + chunk.len() as u64;
        match &mut pending {
            Some((kept, piece)) if Arc::ptr_eq(kept, frame) && piece.chunks.len() < MEMBERS_LIMIT as usize => piece.chunks.push(n),
            _ => {
                let fresh = Piece { file, offset, chunks: vec![n], state: Reached::Middle };
                if let Some((frame, piece)) = pending.replace((frame.clone(), fresh)) {
                    wants_more = emit(Batch { frame: Some(frame), pieces: vec![piece] });
                }
            }
        }
        if wants_more { Ok(()) } else { Err(Error::failed("stopped")) }
    });
    if !wants_more {
        return Ok(false);
    }
    let state = match outcome {
        Ok(()) => Reached::Whole,
        Err(error) if error.kind() == Kind::NotNow => return Err(error),
        Err(error) => Reached::Failed(error),
    };
    let (frame, mut piece) = match pending {
        Some((frame, piece)) => (Some(frame), piece),
        None => (None, Piece { file, offset: seen, chunks: Vec::new(), state: Reached::Middle }),
    };
    piece.state = state;
    Ok(emit(Batch { frame, pieces: vec![piece] }))
}

fn failed(file: usize, error: Error) -> Piece {
    Piece { file, offset: 0, chunks: Vec::new(), state: Reached::Failed(error) }
}

fn ended(check: &Check) -> Reached {
    check.finish().map_or_else(Reached::Failed, |()| Reached::Whole)
}
