//! The frames of a snapshot by run and number: which pack has them, and the last few kept decompressed.
//!
//! Does not know what the chunks in them are for.

use super::pack::{OpenPack, decompressor};
use crate::PackSource;
use crate::epoch::EpochKey;
use crate::frame::members;
use crate::manifest::{PackRef, SealedPack};
use crate::reference::{Member, RunId};
use base::{Error, Kind, Result};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// How many decompressed frames are kept.
const FRAMES_KEPT: usize = 8;
/// How many packs are kept open.
const PACKS_KEPT: usize = 8;

/// A decompressed frame and the places of its chunks.
#[derive(Debug)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
    members: Vec<Range<usize>>,
}

impl Frame {
    /// The `n`-th chunk, if there is one.
    pub(crate) fn chunk(&self, n: u32) -> Option<&[u8]> {
        self.members.get(n as usize).map(|range| &self.bytes[range.clone()])
    }
}

/// Where a frame is: the pack's place in the manifest, and the frame's number within its run.
pub(crate) type Place = (usize, u32);

/// All frames that a snapshot can refer to.
pub(crate) struct Frames {
    source: Arc<dyn PackSource>,
    key: EpochKey,
    packs: Vec<(PackRef, SealedPack)>,
    /// Packs by run and first frame.
    spans: Vec<(RunId, u32, usize)>,
    state: Mutex<State>,
}

struct State {
    frames: Vec<(Place, Arc<Frame>)>,
    open: Vec<(usize, OpenPack)>,
    /// Packs that could not be opened, and why: they are not asked for again.
    lost: HashMap<usize, String>,
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl Frames {
    /// The frames of these packs, whose spans were found apart when the manifest was opened.
    pub(crate) fn new(source: Arc<dyn PackSource>, key: EpochKey, packs: Vec<(PackRef, SealedPack)>) -> Result<Self> {
        let mut spans: Vec<_> = packs.iter().enumerate().map(|(index, (_, sealed))| (sealed.run, sealed.first, index)).collect();
        spans.sort_unstable();
        let state = State { frames: Vec::new(), open: Vec::new(), lost: HashMap::new(), decompressor: decompressor()? };
        Ok(Self { source, key, packs, spans, state: Mutex::new(state) })
    }

    /// The packs in the manifest's order, with what each holds.
    pub(crate) fn packs(&self) -> &[(PackRef, SealedPack)] {
        &self.packs
    }

    /// Which pack holds a chunk's frame.
    pub(crate) fn locate(&self, at: Member) -> Result<Place> {
        let after = self.spans.partition_point(|(run, first, _)| (*run, *first) <= (at.run, at.frame));
        let found = after
            .checked_sub(1)
            .map(|i| self.spans[i])
            .filter(|(run, first, index)| *run == at.run && at.frame - first < self.packs[*index].1.frames);
        found
            .map(|(_, _, index)| (index, at.frame))
            .ok_or_else(|| Error::failed(format!("chunk {at} is in none of the packs that the manifest names")))
    }

    /// The frame at a place. One thread at a time decodes; others wait for it.
    pub(crate) fn get(&self, place: Place) -> Result<Arc<Frame>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        if let Some(i) = state.frames.iter().position(|(kept, _)| *kept == place) {
            // The least recently used stands first.
            let kept = state.frames.remove(i);
            let frame = kept.1.clone();
            state.frames.push(kept);
            return Ok(frame);
        }
        let (index, number) = place;
        let (pack, sealed) = self.packs.get(index).ok_or_else(|| Error::failed("a pack that the manifest does not name"))?;
        let context = |error: Error| error.context(format!("pack {} cannot be used", pack.digest));
        let bytes = self.decode(state, index, number - sealed.first).map_err(context)?;
        let members = members(&bytes, sealed.run, number).map_err(context)?;
        let frame = Arc::new(Frame { bytes, members });
        if state.frames.len() >= FRAMES_KEPT {
            state.frames.remove(0);
        }
        state.frames.push((place, frame.clone()));
        Ok(frame)
    }

    /// The frame that a chunk is in.
    pub(crate) fn get_for(&self, at: Member) -> Result<Arc<Frame>> {
        self.get(self.locate(at)?)
    }

    fn decode(&self, state: &mut State, index: usize, number: u32) -> Result<Vec<u8>> {
        if let Some(why) = state.lost.get(&index) {
            return Err(Error::failed(why.clone()));
        }
        let opened = state.open.iter().position(|(kept, _)| *kept == index).map(|i| state.open.remove(i).1);
        let mut pack = match opened {
            Some(pack) => pack,
            None => {
                let (name, sealed) = &self.packs[index];
                let opened = self.source.pack(&name.digest).and_then(|source| OpenPack::open(source, name, sealed, &self.key));
                opened.inspect_err(|error| {
                    if error.kind() != Kind::NotNow {
                        state.lost.insert(index, error.one_line());
                    }
                })?
            }
        };
        // A pack that failed is dropped here, and opened again for the next frame.
        let bytes = pack.frame(number as usize, &mut state.decompressor)?;
        if state.open.len() >= PACKS_KEPT {
            state.open.remove(0);
        }
        state.open.push((index, pack));
        Ok(bytes)
    }
}

/// The error for a chunk that its frame does not have.
pub(crate) fn no_chunk(at: Member) -> Error {
    Error::failed(format!("there is no chunk {at} in its frame"))
}

/// A frame has no more members than this, which bounds what a list can name in it.
pub(crate) const MEMBERS_LIMIT: u32 = (crate::limits::FRAME / 1024) as u32;
