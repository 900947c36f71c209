//! Putting chunks away: each is stored once, in the frame that is being filled, or referred to where it is already.
//!
//! Does not know what chunks mean, and does not write.

use crate::epoch::{ChunkId, Secrets};
use crate::frame;
use crate::index::{Index, Record};
use crate::mend::{Mended, Mender};
use crate::pipeline::{Frame, Lane, Pipeline};
use crate::reference::{Member, References, RunId};
use base::{Error, Result};
use std::collections::HashMap;

/// A frame being filled.
struct Filling {
    lane: Lane,
    run: RunId,
    number: u32,
    bytes: Vec<u8>,
    records: Vec<Record>,
    /// The bytes of its chunks.
    chunks: u64,
}

/// The chunks of one backup.
pub(crate) struct Deposit<'a> {
    secrets: &'a Secrets,
    index: &'a Index,
    /// Which packs of the index are referred to.
    referred: Vec<bool>,
    /// What this backup has stored, by the first half of the id.
    fresh: HashMap<[u8; 16], (Lane, u32, u32)>,
    data: Filling,
    catalog: Filling,
    pipeline: Pipeline,
    /// Is offered every chunk, where the node has lost packs.
    mender: Option<Mender<'a>>,
}

impl<'a> Deposit<'a> {
    pub(crate) fn new(secrets: &'a Secrets, index: &'a Index, pipeline: Pipeline) -> Result<Self> {
        let filling =
            |lane| Ok::<_, Error>(Filling { lane, run: RunId::generate()?, number: 0, bytes: Vec::new(), records: Vec::new(), chunks: 0 });
        Ok(Self {
            secrets,
            index,
            referred: vec![false; index.packs().len()],
            fresh: HashMap::new(),
            data: filling(Lane::Data)?,
            catalog: filling(Lane::Catalog)?,
            pipeline,
            mender: None,
        })
    }

    /// Brings again what was in packs that the node has lost.
    pub(crate) fn mending(mut self, mender: Option<Mender<'a>>) -> Self {
        self.mender = mender;
        self
    }

    /// Stores a chunk unless it is known, and tells what it is known by and where it is.
    pub(crate) fn put(&mut self, lane: Lane, chunk: &[u8]) -> Result<(ChunkId, Member)> {
        let id = self.secrets.chunk_id(chunk);
        Ok((id, self.put_as(id, lane, chunk)?))
    }

    /// As [`Deposit::put`], of a chunk whose id is known already.
    pub(crate) fn put_as(&mut self, id: ChunkId, lane: Lane, chunk: &[u8]) -> Result<Member> {
        if let Some(mender) = &mut self.mender {
            mender.offer(&id, chunk)?;
        }
        let mut key = [0; 16];
        key.copy_from_slice(&id.0[..16]);
        if let Some((lane, frame, n)) = self.fresh.get(&key).copied() {
            return Ok(Member { run: self.lane(lane).run, frame, n });
        }
        if let Some((pack, at)) = self.index.find(&id) {
            self.referred[pack] = true;
            return Ok(at);
        }
        let filling = self.lane(lane);
        let n = u32::try_from(filling.records.len()).map_err(|_| Error::failed("a frame has too many members"))?;
        let at = Member { run: filling.run, frame: filling.number, n };
        frame::append(&mut filling.bytes, at, chunk)?;
        filling.records.push((id, at.frame, n));
        filling.chunks += chunk.len() as u64;
        let full = filling.bytes.len() >= frame::TARGET;
        self.fresh.insert(key, (lane, at.frame, n));
        if full {
            self.close(lane)?;
        }
        Ok(at)
    }

    /// Whether all chunks of `list`, which an earlier snapshot has put, may be referred to by this one. If so their packs are
    /// marked as referred to, and `bytes`, which is what the content of the list takes, counts as used in them. If not,
    /// nothing is marked, and what the list stands for is to be read and put again. An empty list is always kept.
    pub(crate) fn keep(&mut self, list: &References, bytes: u64) -> Result<bool> {
        let _ = bytes;
        // What is not read cannot be offered.
        if self.mender.is_some() {
            return Ok(false);
        }
        let Some(packs) = list.0.iter().map(|item| self.index.pack_of(item.run, item.frame)).collect::<Option<Vec<_>>>() else {
            return Ok(false);
        };
        for pack in packs {
            self.referred[pack] = true;
        }
        Ok(true)
    }

    /// Hands on what is left, and tells which packs of the index are referred to, and what was mended.
    pub(crate) fn finish(mut self) -> Result<(Vec<bool>, Option<Mended>)> {
        self.close(Lane::Data)?;
        self.close(Lane::Catalog)?;
        let mended = self.mender.map_or(Ok(None), Mender::finish)?;
        Ok((self.referred, mended))
    }

    fn lane(&mut self, lane: Lane) -> &mut Filling {
        match lane {
            Lane::Data => &mut self.data,
            Lane::Catalog => &mut self.catalog,
        }
    }

    fn close(&mut self, lane: Lane) -> Result<()> {
        let filling = self.lane(lane);
        if filling.bytes.is_empty() {
            return Ok(());
        }
        let (bytes, records) = (std::mem::take(&mut filling.bytes), std::mem::take(&mut filling.records));
        let chunks = std::mem::take(&mut filling.chunks);
        let sent = Frame { lane: filling.lane, run: filling.run, number: filling.number, bytes, records, chunks };
        filling.number = filling.number.checked_add(1).ok_or_else(|| Error::failed("the backup has too many frames"))?;
        let empty = self.pipeline.send(sent)?;
        self.lane(lane).bytes = empty;
        Ok(())
    }
}
