//! The writing side's threads: frames are compressed side by side, and put into packs in the order they came.
//!
//! Does not know what is in a frame. Everything waits when the disk is slow, so memory is bounded by a few frames.

use crate::backup::{BackupSpec, pack_name};
use crate::index::{PackInfo, Record};
use crate::limits;
use crate::pack::PackWriter;
use crate::part::{self, Parts};
use crate::reference::RunId;
use base::{Error, Result};
use crossbeam_channel::{Receiver, Sender, bounded};

/// More workers than this would need more memory than a backup may take.
const MOST_WORKERS: usize = 6;
/// From this level on a worker needs some 60 MiB, and there are fewer of them.
const HIGH_LEVEL: i32 = 13;
/// So many then.
const MOST_WORKERS_HIGH: usize = 2;

/// A run of frames and packs of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Content of files, and long lists of references.
    Data,
    /// Segments of the catalog, which are read without the rest.
    Catalog,
}

/// A frame as the reading side has filled it.
pub(crate) struct Frame {
    pub(crate) lane: Lane,
    pub(crate) run: RunId,
    pub(crate) number: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: Vec<Record>,
    /// The bytes of its chunks.
    pub(crate) chunks: u64,
}

struct Job {
    bytes: Vec<u8>,
    done: Sender<Compressed>,
}

struct Compressed {
    bytes: std::io::Result<Vec<u8>>,
    plain: usize,
}

/// A frame in the order of packs, with where its compressed bytes will come from.
struct Ordered {
    lane: Lane,
    run: RunId,
    number: u32,
    records: Vec<Record>,
    chunks: u64,
    compressed: Receiver<Compressed>,
}

/// Where packs go to.
pub(crate) struct Target<'a> {
    pub(crate) spec: &'a BackupSpec<'a>,
    pub(crate) recipient: &'a age::x25519::Recipient,
}

impl Target<'_> {
    /// Begins a pack once there is room for it.
    fn begin(&self, run: RunId, number: u32) -> Result<PackWriter> {
        if let Some(parts) = self.spec.parts {
            parts.reserve(self.spec, part::pack_room(parts.limit()))?;
        }
        let size = part::pack_size(self.spec.parts.map_or(u64::MAX, Parts::limit));
        PackWriter::begin(self.spec.export, run, number, self.recipient, size)
    }
}

/// The reading side's end.
pub(crate) struct Pipeline {
    jobs: Sender<Job>,
    ordered: Sender<Ordered>,
    used: Receiver<Vec<u8>>,
}

impl Pipeline {
    /// Hands a frame on, and waits while too many are on their way; gives an empty buffer back.
    pub(crate) fn send(&self, frame: Frame) -> Result<Vec<u8>> {
        let stopped = || Error::failed("the writer of packs has stopped");
        let (done, compressed) = bounded(1);
        let Frame { lane, run, number, bytes, records, chunks } = frame;
        self.ordered.send(Ordered { lane, run, number, records, chunks, compressed }).map_err(|_| stopped())?;
        self.jobs.send(Job { bytes, done }).map_err(|_| stopped())?;
        Ok(self.used.try_recv().unwrap_or_default())
    }
}

/// Runs `read` with a pipeline, and gives its result and the packs that were written.
pub(crate) fn run<T>(target: &Target<'_>, read: impl FnOnce(Pipeline) -> Result<T>) -> Result<(T, Vec<PackInfo>)> {
    let level = target.spec.level;
    if !(1..=limits::HIGHEST_LEVEL).contains(&level) {
        return Err(Error::usage(format!("zstd's level must be from 1 to {}, and is {level}", limits::HIGHEST_LEVEL)));
    }
    let most = if level < HIGH_LEVEL { MOST_WORKERS } else { MOST_WORKERS_HIGH };
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(most);
    // One frame more than workers: nobody waits for the next one, and no more than that is held.
    let (jobs, jobs_end) = bounded::<Job>(workers + 1);
    let (ordered, ordered_end) = bounded::<Ordered>(workers + 1);
    let (used, used_end) = bounded::<Vec<u8>>(2);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (jobs, used) = (jobs_end.clone(), used.clone());
            scope.spawn(move || compress(&jobs, &used, level));
        }
        drop((jobs_end, used));
        let packer = scope.spawn(move || pack(target, &ordered_end));
        let result = read(Pipeline { jobs, ordered, used: used_end });
        let packs = packer.join().unwrap_or_else(|_| Err(Error::failed("the writer of packs has ended unexpectedly")));
        match (result, packs) {
            (Ok(result), Ok(packs)) => Ok((result, packs)),
            // The writer's error is why the reader could not go on.
            (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
        }
    })
}

fn compress(jobs: &Receiver<Job>, used: &Sender<Vec<u8>>, level: i32) {
    let mut compressor = zstd::bulk::Compressor::new(level);
    for mut job in jobs {
        let bytes = match &mut compressor {
            Ok(compressor) => compressor.compress(&job.bytes),
            Err(error) => Err(std::io::Error::other(error.to_string())),
        };
        // Nobody listens any more when the writer has failed.
        let _ = job.done.send(Compressed { bytes, plain: job.bytes.len() });
        job.bytes.clear();
        let _ = used.try_send(job.bytes);
    }
}

/// A pack being filled, with what will be noted of it.
struct Open {
    lane: Lane,
    writer: PackWriter,
    records: Vec<Record>,
}

/// Puts frames into packs. A full pack is made durable while the next one is written: that takes as long as the disk does.
fn pack(target: &Target<'_>, ordered: &Receiver<Ordered>) -> Result<Vec<PackInfo>> {
    std::thread::scope(|scope| {
        let (full, full_end) = bounded::<Open>(1);
        let closer = scope.spawn(move || full_end.into_iter().map(|pack| close(target, pack)).collect::<Result<Vec<_>>>());
        let filled = fill(target, ordered, &full);
        drop(full);
        let closed = closer.join().unwrap_or_else(|_| Err(Error::failed("the thread that closes packs has ended unexpectedly")));
        // The closing thread's error is why no pack could be handed to it.
        closed.and_then(|packs| filled.map(|()| packs))
    })
}

fn fill(target: &Target<'_>, ordered: &Receiver<Ordered>, full: &Sender<Open>) -> Result<()> {
    let stopped = |_| Error::failed("the thread that closes packs has stopped");
    // One for each lane at most.
    let mut open: Vec<Open> = Vec::new();
    for frame in ordered {
        let compressed = frame.compressed.recv().map_err(|_| Error::failed("a worker that compresses has ended unexpectedly"))?;
        let bytes = compressed.bytes.map_err(|e| Error::failed("could not compress").because(e))?;
        let at = match open.iter().position(|pack| pack.lane == frame.lane) {
            Some(at) => at,
            None => {
                let writer = target.begin(frame.run, frame.number)?;
                open.push(Open { lane: frame.lane, writer, records: Vec::new() });
                open.len() - 1
            }
        };
        let pack = &mut open[at];
        pack.writer.push(&bytes, compressed.plain, frame.chunks)?;
        pack.records.extend(frame.records);
        if pack.writer.full() {
            full.send(open.remove(at)).map_err(stopped)?;
        }
    }
    open.into_iter().try_for_each(|pack| full.send(pack).map_err(stopped))
}

fn close(target: &Target<'_>, pack: Open) -> Result<PackInfo> {
    let spec = target.spec;
    let info = pack.writer.finish(&|digest| pack_name(spec.id, digest))?;
    spec.index.note(spec.id, &info, &pack.records)?;
    if let Some(parts) = spec.parts {
        parts.closed(spec, &info, part::pack_room(parts.limit()))?;
    }
    Ok(info)
}
