//! Putting chunks away: each is stored once, in the frame that is being filled, or referred to where it is already.
//!
//! Does not know what chunks mean, and does not write.

mod fresh;

use crate::epoch::{ChunkId, Secrets};
use crate::frame;
use crate::index::{Index, Key, Record, key};
use crate::mend::{Mended, Mender};
use crate::pipeline::{Frame, Lane, Pipeline};
use crate::reference::{Item, Member, References, RunId};
use crate::usage::{Marks, Outcome, Plan, Standing, can_be};
use base::{Dataset, Error, RequestId, Result};
use fresh::Fresh;

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
    /// Which packs of the index may be referred to, and what is used of them.
    plan: Plan,
    marks: Marks,
    /// The bytes of chunks of content that were stored again because their packs are given up.
    again: u64,
    fresh: Fresh,
    data: Filling,
    catalog: Filling,
    pipeline: Pipeline,
    /// Is offered every chunk, where the node has lost packs.
    mender: Option<Mender<'a>>,
}

impl<'a> Deposit<'a> {
    /// Begins the deposit of request `id` for a dataset.
    pub(crate) fn new(secrets: &'a Secrets, index: &'a Index, id: &RequestId, dataset: &Dataset, pipeline: Pipeline) -> Result<Self> {
        let filling = |lane| {
            let run = RunId::generate()?;
            Ok::<_, Error>(Filling { lane, run, number: 0, bytes: Vec::new(), records: Vec::new(), chunks: 0 })
        };
        Ok(Self {
            secrets,
            index,
            plan: Plan::of(index, dataset),
            marks: Marks::new(index.packs().len()),
            again: 0,
            fresh: Fresh::new(&index.pending_folder(id)),
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
        let key = key(&id);
        if let Some((lane, frame, n)) = self.fresh.get(&key) {
            return Ok(Member { run: self.lane(lane).run, frame, n });
        }
        if let Some(at) = self.known(lane, &key, chunk.len() as u64) {
            return Ok(at);
        }
        let filling = self.lane(lane);
        let n = u32::try_from(filling.records.len()).map_err(|_| Error::failed("a frame has too many members"))?;
        let at = Member { run: filling.run, frame: filling.number, n };
        frame::append(&mut filling.bytes, at, chunk)?;
        filling.records.push((id, at.frame, n));
        filling.chunks += chunk.len() as u64;
        let full = filling.bytes.len() >= frame::TARGET;
        self.fresh.insert(key, lane, at.frame, n);
        if full {
            self.close(lane)?;
        }
        Ok(at)
    }

    /// Where the chunk is in the packs that may be referred to: rather in one that the dataset used before, or refers to already.
    fn known(&mut self, lane: Lane, key: &Key, bytes: u64) -> Option<Member> {
        let (plan, marks) = (&self.plan, &self.marks);
        let mut best = None;
        let mut given_up = false;
        self.index.find_all(key, &mut |pack, at| match plan.standing(pack) {
            Standing::GivenUp => given_up = true,
            standing => {
                let candidate = (standing, !marks.referred(pack), at, pack);
                if best.is_none_or(|best| candidate < best) {
                    best = Some(candidate);
                }
            }
        });
        let Some((.., at, pack)) = best else {
            self.again += if given_up && lane == Lane::Data { bytes } else { 0 };
            return None;
        };
        self.marks.chunk(pack, self.index.packs()[pack].first, at, bytes);
        Some(at)
    }

    /// Whether all chunks of `list`, which an earlier snapshot has put, may be referred to by this one. If so their packs are
    /// marked as referred to, and `bytes`, which is what the content of the list takes, counts as used in them. If not,
    /// nothing is marked, and what the list stands for is to be read and put again. An empty list is always kept.
    pub(crate) fn keep(&mut self, list: &References, bytes: u64) -> Result<bool> {
        // What is not read cannot be offered.
        if self.mender.is_some() {
            return Ok(false);
        }
        let pack = |item: &Item| {
            let pack = self.index.pack_of(item.run, item.frame)?;
            (!self.plan.given_up(pack) && can_be(item)).then_some(pack)
        };
        let Some(packs) = list.0.iter().map(pack).collect::<Option<Vec<_>>>() else { return Ok(false) };
        let count = list.count();
        for (pack, item) in packs.into_iter().zip(&list.0) {
            self.marks.item(pack, self.index.packs()[pack].first, item, count, bytes);
        }
        Ok(true)
    }

    /// Hands on what is left, and tells what is used of which packs of the index, and what was mended.
    pub(crate) fn finish(mut self) -> Result<(Outcome, Option<Mended>)> {
        self.close(Lane::Data)?;
        self.close(Lane::Catalog)?;
        let mended = self.mender.map_or(Ok(None), Mender::finish)?;
        Ok((Outcome::new(self.plan, &self.marks, self.data.run, self.again), mended))
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
