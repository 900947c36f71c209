//! Fetching the packs of one request: one after the other where the client is near, side by side over connections of their
//! own where it is far.
//!
//! Does not know which packs are wanted, nor what becomes of the request.

use super::server::Exports;
use crate::allowance::Slowed;
use archive::manifest::PackRef;
use archive::store::{PackWriter, Store};
use base::{Blake3, Error, Monitor, RequestId, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// OpenSSH lets 2 MiB of a connection be on their way, so one brings 2 MiB in each round trip and no more. From this
/// round trip on (200 MB in a second) that is less than many links do.
const FAR: Duration = Duration::from_millis(10);
/// The most connections at once.
const MOST: usize = 4;
/// A connection of its own pays from so many bytes on.
const EACH: u64 = 32 << 20;

/// What fetching needs.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    /// Where packs go to.
    pub(super) store: &'a Store,
    /// For which request.
    pub(super) id: &'a RequestId,
    /// The most bytes in a second.
    pub(super) bandwidth: Option<u64>,
    /// Is told of bytes.
    pub(super) monitor: &'a dyn Monitor,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fetched {
    /// How many bytes came.
    pub(super) bytes: u64,
    /// The packs that the client does not have any more; what came is not enough then.
    pub(super) missing: Vec<Blake3>,
}

/// How many connections are worth their logins.
fn connections(bytes: u64, packs: usize, round_trip: Duration) -> usize {
    if round_trip < FAR { 1 } else { usize::try_from(bytes / EACH).unwrap_or(MOST).min(packs).clamp(1, MOST) }
}

/// Fetches `packs` by `first`, and by what `beside` opens where that is worth it. Each pack is checked and made durable while
/// others are fetched: that takes as long as the disk does.
///
/// # Errors
/// Of kind refused when a pack is another one; otherwise when a connection breaks or something cannot be written. What was
/// fetched whole stays in `incoming/`.
pub(super) fn fetch(
    first: Box<dyn Exports>,
    beside: &dyn Fn() -> Result<Box<dyn Exports>>,
    target: Target<'_>,
    packs: &[PackRef],
) -> Result<Fetched> {
    let bytes = packs.iter().fold(0u64, |sum, pack| sum.saturating_add(pack.size));
    let several = target.bandwidth.is_none() && connections(bytes, packs.len(), Duration::MAX) > 1;
    let lanes = if several { connections(bytes, packs.len(), round_trip(&*first, target.id, &packs[0])?) } else { 1 };
    over(first, beside, lanes, target, packs)
}

/// How long an answer takes. Asked twice, since the peer may have been busy for a moment.
fn round_trip(exports: &dyn Exports, id: &RequestId, pack: &PackRef) -> Result<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..2 {
        let begun = Instant::now();
        exports.has(&name(id, pack))?;
        // A file is opened, and then its size is asked for.
        least = least.min(begun.elapsed() / 2);
    }
    Ok(least)
}

/// Packs are the whole backup's, whichever part brings them.
fn name(id: &RequestId, pack: &PackRef) -> String {
    format!("{}.{}", id.whole(), pack.digest.hex())
}

fn over(
    first: Box<dyn Exports>,
    beside: &dyn Fn() -> Result<Box<dyn Exports>>,
    lanes: usize,
    target: Target<'_>,
    packs: &[PackRef],
) -> Result<Fetched> {
    let work = Work {
        target,
        packs,
        next: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        bytes: AtomicU64::new(0),
        missing: Mutex::default(),
    };
    std::thread::scope(|scope| {
        let work = &work;
        let (whole, whole_end) = sync_channel(1);
        let closer = scope.spawn(move || whole_end.into_iter().try_for_each(PackWriter::finish));
        let pull = |exports: Box<dyn Exports>| {
            let whole = whole.clone();
            scope.spawn(move || work.pull(&*exports, &whole))
        };
        let mut pulling = vec![pull(first)];
        while pulling.len() < lanes && work.goes_on() {
            match beside() {
                Ok(exports) => pulling.push(pull(exports)),
                // As many as there are must do.
                Err(_) => break,
            }
        }
        drop(whole);
        let ended = || Error::failed("a thread that fetches packs has ended unexpectedly");
        let pulled: Vec<Result<()>> = pulling.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(ended()))).collect();
        // What is wrong with a pack is why no other was handed on.
        closer.join().unwrap_or_else(|_| Err(ended()))?;
        pulled.into_iter().collect::<Result<()>>()
    })?;
    let mut missing = work.missing.into_inner().unwrap_or_else(PoisonError::into_inner);
    missing.sort_unstable_by_key(|(at, _)| *at);
    Ok(Fetched { bytes: work.bytes.into_inner(), missing: missing.into_iter().map(|(_, digest)| digest).collect() })
}

/// What those who pull share.
struct Work<'a> {
    target: Target<'a>,
    packs: &'a [PackRef],
    next: AtomicUsize,
    over: AtomicBool,
    bytes: AtomicU64,
    missing: Mutex<Vec<(usize, Blake3)>>,
}

impl<'a> Work<'a> {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed) && self.next.load(Ordering::Relaxed) < self.packs.len()
    }

    fn pull(&self, exports: &dyn Exports, whole: &SyncSender<PackWriter<'a>>) -> Result<()> {
        let pulled = self.pull_all(exports, whole);
        if pulled.is_err() {
            self.over.store(true, Ordering::Relaxed);
        }
        pulled
    }

    /// Gives each pack that is fetched to `whole`, until nobody takes it any more.
    fn pull_all(&self, exports: &dyn Exports, whole: &SyncSender<PackWriter<'a>>) -> Result<()> {
        let Target { store, id, bandwidth, monitor } = self.target;
        while !self.over.load(Ordering::Relaxed) {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(pack) = self.packs.get(at) else { break };
            let missing = || self.missing.lock().unwrap_or_else(PoisonError::into_inner);
            if !missing().is_empty() {
                // Nothing will be stored; all that is missing is told at once.
                if !exports.has(&name(id, pack))? {
                    missing().push((at, pack.digest));
                }
                continue;
            }
            let mut writer = Slowed::new(store.begin_pack(id, pack)?, bandwidth);
            match exports.pull(&name(id, pack), pack.size, &mut writer, monitor)? {
                Some(bytes) => self.bytes.fetch_add(bytes, Ordering::Relaxed),
                None => {
                    missing().push((at, pack.digest));
                    continue;
                }
            };
            if whole.send(writer.into_inner()).is_err() {
                self.over.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Silent;
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::Arc;

    #[test]
    fn far_clients_are_fetched_from_side_by_side() {
        let far = Duration::from_millis(50);
        assert_eq!(connections(2 << 30, 64, far), 4);
        assert_eq!(connections(2 << 30, 3, far), 3);
        assert_eq!(connections(70 << 20, 64, far), 2);
        assert_eq!(connections(1 << 20, 64, far), 1);
        assert_eq!(connections(2 << 30, 64, Duration::from_millis(1)), 1);
    }

    /// A folder in the place of sftp, which counts what it is asked for.
    struct Folder {
        path: PathBuf,
        pulls: Arc<AtomicUsize>,
    }

    impl Exports for Folder {
        fn read(&self, _name: &str, _limit: usize) -> Result<Option<Vec<u8>>> {
            Ok(None)
        }

        fn pull(&self, name: &str, _size: u64, sink: &mut dyn Write, monitor: &dyn Monitor) -> Result<Option<u64>> {
            self.pulls.fetch_add(1, Ordering::Relaxed);
            let Ok(bytes) = std::fs::read(self.path.join(name)) else { return Ok(None) };
            // So that the others come to something as well.
            std::thread::sleep(Duration::from_millis(20));
            sink.write_all(&bytes).map_err(|error| Error::refused("too long").because(error))?;
            monitor.bytes(bytes.len() as u64);
            Ok(Some(bytes.len() as u64))
        }

        fn has(&self, name: &str) -> Result<bool> {
            Ok(self.path.join(name).exists())
        }
    }

    #[test]
    fn packs_come_over_several_connections_or_as_many_as_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let id = RequestId::generate().unwrap();
        let packs: Vec<PackRef> = (0..24u8)
            .map(|n| {
                let bytes = vec![n; 1000 + usize::from(n)];
                let pack = PackRef { digest: Blake3::of(&bytes), size: bytes.len() as u64 };
                std::fs::write(dir.path().join(name(&id, &pack)), bytes).unwrap();
                pack
            })
            .collect();
        let all: u64 = packs.iter().map(|pack| pack.size).sum();
        let fetch = |node: &str, opened: usize| {
            let store = Store::open(&dir.path().join(node)).unwrap();
            let pulls: Vec<Arc<AtomicUsize>> = (0..4).map(|_| Arc::default()).collect();
            let folder = |n: usize| Box::new(Folder { path: dir.path().into(), pulls: Arc::clone(&pulls[n]) });
            let more = AtomicUsize::new(0);
            let beside = || -> Result<Box<dyn Exports>> {
                let n = more.fetch_add(1, Ordering::Relaxed) + 1;
                if n < opened { Ok(folder(n)) } else { Err(Error::not_now("too many")) }
            };
            let target = Target { store: &store, id: &id, bandwidth: None, monitor: &Silent };
            let fetched = over(folder(0), &beside, 4, target, &packs);
            let used = pulls.iter().filter(|pulls| pulls.load(Ordering::Relaxed) > 0).count();
            (fetched, used, std::fs::read_dir(dir.path().join(node).join("incoming").join(id.as_str())).unwrap().count())
        };
        for opened in [1, 2, 4] {
            let (fetched, used, stored) = fetch(&format!("node{opened}"), opened);
            assert_eq!((fetched.unwrap(), stored), (Fetched { bytes: all, missing: Vec::new() }, packs.len()));
            assert_eq!(used, opened);
        }
        // All that is missing is told, in the order of the packs.
        for lost in [20, 3, 7] {
            std::fs::remove_file(dir.path().join(name(&id, &packs[lost]))).unwrap();
        }
        let (fetched, ..) = fetch("missing", 4);
        let missing = fetched.unwrap().missing;
        assert!(missing.windows(2).all(|two| {
            let place = |digest: &Blake3| packs.iter().position(|pack| pack.digest == *digest);
            place(&two[0]) < place(&two[1])
        }));
        assert_eq!(missing.len(), 3);
        // One that is another ends it.
        std::fs::write(dir.path().join(name(&id, &packs[0])), vec![9; 1000]).unwrap();
        let (fetched, ..) = fetch("other", 4);
        assert_eq!(fetched.unwrap_err().kind(), base::Kind::Refused);
    }
}
