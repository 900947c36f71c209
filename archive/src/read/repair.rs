//! Frames of lost packs, put together again from what repairs hold of them.
//!
//! Believes nothing: what a repair holds under a name counts only when the file, or the segment of the catalog, that it
//! goes into has its own digest in the end. Members that no repair has are missing in the frame.

use super::frames::MEMBERS_LIMIT;
use super::pack::{decompressor, unreadable};
use crate::PackSource;
use crate::epoch::EpochKey;
use crate::frame::named_members;
use crate::limits;
use crate::manifest::{PackRef, Public};
use crate::pack::{FrameTable, TAIL, find_table};
use crate::reference::RunId;
use base::{Blake3, Error, Kind, Result};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// The largest pack that is read as a repair; clients make none of more than 40 MiB.
const PACK: u64 = 64 << 20;
/// How many decompressed frames of repairs are kept.
const KEPT: usize = 4;

/// The repairs that a source offers for the packs of one snapshot.
pub(crate) struct Repairs {
    source: Arc<dyn PackSource>,
    key: EpochKey,
    state: Mutex<State>,
}

/// A member's number in its old frame, the repair pack, the frame there, the place in it.
type Place = (u32, PackRef, usize, Range<usize>);

#[derive(Default)]
struct State {
    /// What the source offers, asked for once.
    offers: Option<Vec<Public>>,
    /// Repair packs that were looked into, or that are no use.
    known: HashSet<Blake3>,
    /// Where members are, by run and frame.
    places: HashMap<(RunId, u32), Vec<Place>>,
    /// The pack that was decrypted last.
    pack: Option<(Blake3, Vec<u8>, FrameTable)>,
    frames: Vec<(Blake3, usize, Arc<Vec<u8>>)>,
}

/// A frame's bytes, and the place of each of its chunks; empty for those that are missing.
pub(crate) type Mended = (Vec<u8>, Vec<Range<usize>>);

impl Repairs {
    pub(crate) fn new(source: Arc<dyn PackSource>, key: EpochKey) -> Self {
        Self { source, key, state: Mutex::default() }
    }

    /// Whether somebody claims to have mended this pack.
    ///
    /// # Errors
    /// Of kind not-now when the source cannot be reached for now.
    pub(crate) fn claimed(&self, lost: &Blake3) -> Result<bool> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(!self.packs_for(&mut state, lost)?.is_empty())
    }

    /// What repairs hold of this frame of a lost pack; nothing where they hold none of it.
    ///
    /// # Errors
    /// Of kind not-now when the source cannot be reached for now; otherwise when it is longer than a frame can be.
    pub(crate) fn frame(&self, lost: &Blake3, run: RunId, number: u32) -> Result<Option<Mended>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        for pack in self.packs_for(state, lost)? {
            if state.known.insert(pack.digest)
                && let Err(error) = self.look_into(state, &pack)
            {
                if error.kind() == Kind::NotNow {
                    state.known.remove(&pack.digest);
                    return Err(error);
                }
                tracing::warn!("the repair in pack {} is no use: {}", pack.digest, error.one_line());
            }
        }
        let Some(mut places) = state.places.get(&(run, number)).cloned() else { return Ok(None) };
        // The newest repair of a member was noted first.
        places.sort_by_key(|(n, ..)| *n);
        places.dedup_by_key(|(n, ..)| *n);
        let (mut bytes, mut members) = (Vec::new(), Vec::new());
        for (n, pack, frame, place) in places {
            let source = self.frame_of(state, &pack, frame)?;
            let chunk = source.get(place).unwrap_or_default();
            if bytes.len() + chunk.len() > limits::FRAME {
                return Err(Error::failed(format!("what repairs hold of frame {run}/{number} is more than a frame can be")));
            }
            members.resize(n as usize, 0..0);
            members.push(bytes.len()..bytes.len() + chunk.len());
            bytes.extend_from_slice(chunk);
        }
        Ok(Some((bytes, members)))
    }

    /// The packs that are offered for a lost one, those of the newest snapshot first.
    fn packs_for(&self, state: &mut State, lost: &Blake3) -> Result<Vec<PackRef>> {
        if state.offers.is_none() {
            let offers = match self.source.repairs() {
                Err(error) if error.kind() == Kind::NotNow => return Err(error),
                Err(error) => {
                    tracing::warn!("repairs could not be looked for: {}", error.one_line());
                    Vec::new()
                }
                Ok(offers) => offers,
            };
            state.offers = Some(offers);
        }
        let mut packs = Vec::new();
        for public in state.offers.iter().flatten() {
            let Some(repairs) = public.repairs.as_ref().filter(|repairs| repairs.of.contains(lost)) else { continue };
            packs.extend(public.packs.iter().filter(|pack| repairs.packs.contains(&pack.digest)));
        }
        Ok(packs)
    }

    /// Notes what a repair pack holds.
    fn look_into(&self, state: &mut State, pack: &PackRef) -> Result<()> {
        let table = self.open(state, pack)?.clone();
        let mut found = Vec::new();
        for index in 0..table.frames().len() {
            let bytes = self.frame_of(state, pack, index)?;
            found.extend(named_members(&bytes)?.into_iter().map(|(member, place)| (member, index, place)));
        }
        // A frame has no more members than this, which bounds what is made of a number that a stranger chose.
        for (at, index, place) in found.into_iter().filter(|(at, ..)| at.n < MEMBERS_LIMIT) {
            state.places.entry((at.run, at.frame)).or_default().push((at.n, *pack, index, place));
        }
        Ok(())
    }

    /// One frame of a repair pack, decompressed.
    fn frame_of(&self, state: &mut State, pack: &PackRef, index: usize) -> Result<Arc<Vec<u8>>> {
        if let Some((.., bytes)) = state.frames.iter().find(|(digest, frame, _)| *digest == pack.digest && *frame == index) {
            return Ok(Arc::clone(bytes));
        }
        let row = *self.open(state, pack)?.frames().get(index).ok_or_else(|| Error::failed("a repair has no such frame"))?;
        let Some((_, plain, _)) = &state.pack else { return Err(Error::failed("a repair was closed")) };
        let from = usize::try_from(row.offset).unwrap_or(usize::MAX);
        let compressed = plain.get(from..from.saturating_add(row.compressed as usize)).unwrap_or_default();
        if Blake3::of(compressed) != row.digest {
            return Err(Error::failed(format!("frame {index} in it is not the one that its table names")));
        }
        let bytes = decompressor()?
            .decompress(compressed, row.plain as usize)
            .map_err(|e| Error::failed(format!("frame {index} in it cannot be decompressed")).because(e))?;
        let bytes = Arc::new(bytes);
        if state.frames.len() >= KEPT {
            state.frames.remove(0);
        }
        state.frames.push((pack.digest, index, Arc::clone(&bytes)));
        Ok(bytes)
    }

    /// Decrypts a repair pack, which becomes the one that is kept, and gives its table.
    fn open<'a>(&self, state: &'a mut State, pack: &PackRef) -> Result<&'a FrameTable> {
        if state.pack.as_ref().is_none_or(|(digest, ..)| *digest != pack.digest) {
            state.pack = None;
            let source = self.source.pack(&pack.digest)?;
            let size = source.size().map_err(unreadable)?;
            if size != pack.size || size > PACK {
                return Err(Error::failed(format!("it has {size} bytes")));
            }
            let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
            let mut read = 0;
            while read < bytes.len() {
                match source.read_at(read as u64, &mut bytes[read..]).map_err(unreadable)? {
                    0 => return Err(Error::failed("it ends before its size")),
                    n => read += n,
                }
            }
            let plain = self.key.decrypt_all(&bytes, bytes.len())?;
            let tail: &[u8; TAIL] = plain.last_chunk().ok_or_else(|| Error::failed("it is too short to be a pack"))?;
            let place = find_table(tail, plain.len() as u64)?;
            let within = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
            let table = FrameTable::parse(plain.get(within(place.start)..within(place.end)).unwrap_or_default())?;
            if table.frames_end() > place.start {
                return Err(Error::failed("its frame table does not fit it"));
            }
            state.pack = Some((pack.digest, plain, table));
        }
        state.pack.as_ref().map(|(.., table)| table).ok_or_else(|| Error::failed("a repair was closed"))
    }
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
