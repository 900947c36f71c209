//! The frames of a snapshot by run and number: which pack has them, and the last few kept decompressed.
//!
//! Does not know what the chunks in them are for.

use super::buffers::Buffers;
use super::pack::{OpenPack, decompressor};
use super::repair::Repairs;
use super::window::Span;
use crate::PackSource;
use crate::epoch::EpochKey;
use crate::frame::members;
use crate::manifest::{PackRef, SealedPack};
use crate::reference::{Member, RunId};
use base::{Error, Kind, Result};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many bytes of frames that were asked for one by one are kept decompressed, besides the last two: segments of the
/// catalog, long lists. A tree that grew over many nights has them in many small frames.
const KEPT: usize = 12 << 20;
/// How many packs are kept open; a gate lets 64 be open.
const PACKS_KEPT: usize = 32;

/// A decompressed frame and the places of its chunks. Its memory is used again for another one.
#[derive(Debug)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
    members: Vec<Range<usize>>,
    buffers: Option<Arc<Buffers>>,
}

impl Drop for Frame {
    fn drop(&mut self) {
        if let Some(buffers) = &self.buffers {
            buffers.give(std::mem::take(&mut self.bytes));
        }
    }
}

impl Frame {
    /// A frame of which only these chunks are there: their numbers, ascending, and how long each is.
    pub(super) fn of_chunks(bytes: Vec<u8>, chunks: &[(u32, usize)]) -> Self {
        let (mut members, mut from) = (Vec::new(), 0);
        for (n, length) in chunks {
            members.resize(*n as usize, 0..0);
            members.push(from..from + length);
            from += length;
        }
        Self { bytes, members, buffers: None }
    }

    /// How many chunks it has, with those that are missing.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    /// The `n`-th chunk, if there is one.
    pub(crate) fn chunk(&self, n: u32) -> Option<&[u8]> {
        self.members.get(n as usize).filter(|range| !range.is_empty()).map(|range| &self.bytes[range.clone()])
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
    open: Mutex<Open>,
    kept: Mutex<Vec<(Place, Arc<Frame>)>>,
    /// Decompressors that nobody uses now.
    idle: Mutex<Vec<zstd::bulk::Decompressor<'static>>>,
    buffers: Arc<Buffers>,
    repairs: Repairs,
}

#[derive(Default)]
struct Open {
    packs: Vec<(usize, Arc<OpenPack>)>,
    /// Packs that could not be opened, and why: they are not asked for again.
    lost: HashMap<usize, String>,
}

/// The encrypted bytes of some frames.
#[derive(Clone)]
pub(crate) enum Fetched {
    /// They are here.
    Here { pack: Arc<OpenPack>, span: Span },
    /// Their pack cannot be read, for this reason; but somebody claims to have brought again what was in it.
    Lost(String),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Frames {
    /// The frames of these packs, whose spans were found apart when the manifest was opened.
    pub(crate) fn new(source: Arc<dyn PackSource>, key: EpochKey, packs: Vec<(PackRef, SealedPack)>) -> Result<Self> {
        let mut spans: Vec<_> = packs.iter().enumerate().map(|(index, (_, sealed))| (sealed.run, sealed.first, index)).collect();
        spans.sort_unstable();
        let idle = Mutex::new(vec![decompressor()?]);
        let repairs = Repairs::new(Arc::clone(&source), key.clone());
        Ok(Self { source, key, packs, spans, open: Mutex::default(), kept: Mutex::default(), idle, buffers: Arc::default(), repairs })
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

    /// The frame at a place, one of those that are kept or read now. Who asks meanwhile waits: nothing is decoded twice.
    pub(crate) fn get(&self, place: Place) -> Result<Arc<Frame>> {
        let mut kept = lock(&self.kept);
        if let Some(i) = kept.iter().position(|(kept, _)| *kept == place) {
            // The least recently used stands first.
            let found = kept.remove(i);
            let frame = found.1.clone();
            kept.push(found);
            return Ok(frame);
        }
        let frame = self.decode(place, &self.fetch(place.0, place.1..place.1.saturating_add(1))?)?;
        kept.push((place, frame.clone()));
        let mut bytes = kept.iter().map(|(_, frame)| frame.bytes.len()).sum::<usize>();
        while bytes > KEPT && kept.len() > 2 {
            bytes -= kept.remove(0).1.bytes.len();
        }
        Ok(frame)
    }

    /// The frame that a chunk is in.
    pub(crate) fn get_for(&self, at: Member) -> Result<Arc<Frame>> {
        self.get(self.locate(at)?)
    }

    fn pack_at(&self, index: usize) -> Result<&(PackRef, SealedPack)> {
        self.packs.get(index).ok_or_else(|| Error::failed("a pack that the manifest does not name"))
    }

    /// Reads what is needed to decode these frames of one pack.
    pub(crate) fn fetch(&self, index: usize, frames: Range<u32>) -> Result<Fetched> {
        // Whatever reads a snapshot comes by here every few megabytes.
        base::stop::check()?;
        let (name, sealed) = self.pack_at(index)?;
        let place = |number: u32| usize::try_from(number - sealed.first).unwrap_or(usize::MAX);
        let fetched = self.pack(index).and_then(|pack| {
            let span = pack.fetch(place(frames.start)..place(frames.end))?;
            Ok(Fetched::Here { pack, span })
        });
        let fetched = match fetched {
            Err(error) if error.kind() != Kind::NotNow && self.repairs.claimed(&name.digest)? => Ok(Fetched::Lost(error.one_line())),
            other => other,
        };
        fetched.map_err(|error| error.context(format!("pack {} cannot be used", name.digest)))
    }

    /// How long these frames of one pack are, compressed; 0 where that cannot be told.
    pub(crate) fn length(&self, (index, number): Place) -> u64 {
        let Some((_, sealed)) = self.packs.get(index) else { return 0 };
        self.pack(index).map_or(0, |pack| pack.length(usize::try_from(number - sealed.first).unwrap_or(usize::MAX)))
    }

    /// Decrypts, checks and decompresses one of the frames that were fetched.
    pub(crate) fn decode(&self, place: Place, fetched: &Fetched) -> Result<Arc<Frame>> {
        let (index, number) = place;
        let (name, sealed) = self.pack_at(index)?;
        let decoded = || {
            let (pack, span) = match fetched {
                Fetched::Here { pack, span } => (pack, span),
                Fetched::Lost(why) => return Err(Error::failed(why.clone())),
            };
            let mut tool = lock(&self.idle).pop().map_or_else(decompressor, Ok)?;
            let bytes = pack.frame((number - sealed.first) as usize, span, &self.key, &mut tool, &self.buffers)?;
            lock(&self.idle).push(tool);
            let members = members(&bytes, sealed.run, number)?;
            Ok(self.frame(bytes, members))
        };
        let mended = |error: Error| match error.kind() {
            Kind::NotNow => Err(error),
            _ => match self.repairs.frame(&name.digest, sealed.run, number)? {
                Some((bytes, members)) => Ok(self.frame(bytes, members)),
                None => Err(error),
            },
        };
        decoded().or_else(mended).map_err(|error: Error| error.context(format!("pack {} cannot be used", name.digest)))
    }

    fn frame(&self, bytes: Vec<u8>, members: Vec<Range<usize>>) -> Arc<Frame> {
        Arc::new(Frame { bytes, members, buffers: Some(Arc::clone(&self.buffers)) })
    }

    /// Whether somebody claims to have brought again what was in a pack.
    ///
    /// # Errors
    /// Of kind not-now when the source cannot be reached for now.
    pub(crate) fn repair_claimed(&self, pack: &base::Blake3) -> Result<bool> {
        self.repairs.claimed(pack)
    }

    /// A pack, opened. Who asks meanwhile waits: none is opened twice.
    fn pack(&self, index: usize) -> Result<Arc<OpenPack>> {
        let (name, sealed) = self.pack_at(index)?;
        let mut open = lock(&self.open);
        if let Some(why) = open.lost.get(&index) {
            return Err(Error::failed(why.clone()));
        }
        if let Some(i) = open.packs.iter().position(|(kept, _)| *kept == index) {
            let found = open.packs.remove(i);
            let pack = found.1.clone();
            open.packs.push(found);
            return Ok(pack);
        }
        let opened = self.source.pack(&name.digest).and_then(|source| OpenPack::open(source, name, sealed, &self.key));
        let pack = Arc::new(opened.inspect_err(|error| {
            if error.kind() != Kind::NotNow {
                open.lost.insert(index, error.one_line());
            }
        })?);
        if open.packs.len() >= PACKS_KEPT {
            open.packs.remove(0);
        }
        open.packs.push((index, pack.clone()));
        Ok(pack)
    }
}

/// The error for a chunk that its frame does not have.
pub(crate) fn no_chunk(at: Member) -> Error {
    Error::failed(format!("there is no chunk {at} in its frame"))
}

/// A frame has no more members than this, which bounds what a list can name in it.
pub(crate) const MEMBERS_LIMIT: u32 = (crate::limits::FRAME / 1024) as u32;
