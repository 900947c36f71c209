//! Packs whose ciphertext is held against its digest on the way to the reader, each once, the next one read ahead.
//!
//! Does not know what is in them.

use crate::PackSource;
use crate::epoch::KeyFile;
use crate::manifest::PackRef;
use crate::read::pack::unreadable;
use base::{Blake3, Error, Kind, Monitor, ReadAt, Result};
use crossbeam_channel::{Sender, bounded};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Packs up to this size (clients make none of more than 40 MiB) are read whole; of larger ones only what is asked for,
/// and their digest in a sweep of its own.
const WHOLE: u64 = 64 << 20;
/// How many bytes of packs are kept in memory, besides the pack that is being read: two of the usual size, because they are
/// needed one after the other.
const KEPT: usize = 72 << 20;
/// What is read at once of a pack that is only hashed.
const BLOCK: usize = 4 << 20;
/// How many packs are hashed side by side: while one waits for the network or the disk, the other is worked on.
const SIDE_BY_SIDE: usize = 2;

/// A source of packs that remembers which of them are what their names say.
pub struct ProvenPacks {
    shared: Arc<Shared>,
    ahead: Option<(Sender<Blake3>, JoinHandle<()>)>,
}

struct Shared {
    source: Arc<dyn PackSource>,
    state: Mutex<State>,
    loaded: Condvar,
}

#[derive(Default)]
struct State {
    /// What is wrong with a pack; nothing where it is whole.
    verdicts: HashMap<Blake3, Option<String>>,
    kept: Vec<(Blake3, Arc<Vec<u8>>)>,
    loading: HashSet<Blake3>,
    /// Which pack comes after which in the manifest that is being read.
    next: HashMap<Blake3, Blake3>,
    bytes: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A whole pack, from memory or read and hashed now. Two who ask at once share one reading.
    fn load(&self, digest: &Blake3) -> io::Result<Arc<Vec<u8>>> {
        let mut state = self.state();
        loop {
            if let Some(i) = state.kept.iter().position(|(kept, _)| kept == digest) {
                // The least recently used stands first.
                let kept = state.kept.remove(i);
                let bytes = kept.1.clone();
                state.kept.push(kept);
                return Ok(bytes);
            }
            if state.loading.insert(*digest) {
                break;
            }
            state = self.loaded.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let read = self.read(digest);
        let verdict = read.as_ref().ok().map(|bytes| verdict_of(Blake3::of(bytes), digest));
        let mut state = self.state();
        state.loading.remove(digest);
        if let (Ok(bytes), Some(verdict)) = (&read, verdict) {
            if state.verdicts.insert(*digest, verdict).is_none() {
                state.bytes += bytes.len() as u64;
            }
            state.kept.push((*digest, bytes.clone()));
            while state.kept.len() > 1 && state.kept.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > KEPT {
                state.kept.remove(0);
            }
        }
        self.loaded.notify_all();
        read
    }

    fn read(&self, digest: &Blake3) -> io::Result<Arc<Vec<u8>>> {
        let source = self.source.pack(digest).map_err(|error| {
            let kind = if error.kind() == Kind::NotNow { io::ErrorKind::NotConnected } else { io::ErrorKind::NotFound };
            io::Error::new(kind, error.one_line())
        })?;
        let size = usize::try_from(source.size()?.min(WHOLE)).map_err(io::Error::other)?;
        let mut bytes = vec![0; size];
        let got = source.read_at(0, &mut bytes)?;
        bytes.truncate(got);
        Ok(Arc::new(bytes))
    }
}

fn verdict_of(found: Blake3, digest: &Blake3) -> Option<String> {
    (found != *digest).then(|| "its bytes are not those that the manifest names".to_owned())
}

impl ProvenPacks {
    /// Packs of `source`, none of them proven yet.
    pub fn new(source: Arc<dyn PackSource>) -> Self {
        let shared = Arc::new(Shared { source, state: Mutex::default(), loaded: Condvar::new() });
        let (send, receive) = bounded::<Blake3>(1);
        let reader = Arc::clone(&shared);
        let ahead = std::thread::Builder::new().name("packs ahead".into()).spawn(move || {
            for digest in receive {
                // Whoever needs it gets the error; what was read before is not read again on a guess.
                if !reader.state().verdicts.contains_key(&digest) {
                    let _ = reader.load(&digest);
                }
            }
        });
        Self { shared, ahead: ahead.ok().map(|thread| (send, thread)) }
    }

    /// These packs will be read, mostly in this order.
    pub(super) fn expect(&self, packs: &[PackRef]) {
        self.shared.state().next = packs.windows(2).map(|two| (two[0].digest, two[1].digest)).collect();
    }

    /// How many packs and bytes were held against their digests so far.
    pub fn proven(&self) -> (u64, u64) {
        let state = self.shared.state();
        (state.verdicts.len() as u64, state.bytes)
    }

    /// Holds the ciphertext of these packs against their digests, each once however often it is asked about. Says which
    /// are damaged or missing, and how.
    ///
    /// # Errors
    /// Of kind not-now when they cannot be reached for now.
    pub fn check(&self, packs: &[PackRef], monitor: &dyn Monitor) -> Result<Vec<(Blake3, String)>> {
        let (turn, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || {
            let mut found = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let i = turn.fetch_add(1, Ordering::Relaxed);
                let Some(pack) = packs.get(i) else { break };
                match self.check_one(pack, monitor) {
                    Ok(Some(why)) => found.push((i, pack.digest, why)),
                    Ok(None) => {}
                    Err(error) => {
                        over.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            Ok(found)
        };
        let results: Vec<Result<Vec<_>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..SIDE_BY_SIDE.min(packs.len())).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(Error::failed("a thread ended")))).collect()
        });
        let mut found = Vec::new();
        for result in results {
            found.extend(result?);
        }
        found.sort_unstable();
        Ok(found.into_iter().map(|(_, digest, why)| (digest, why)).collect())
    }

    fn check_one(&self, pack: &PackRef, monitor: &dyn Monitor) -> Result<Option<String>> {
        if let Some(known) = self.shared.state().verdicts.get(&pack.digest) {
            return Ok(known.clone());
        }
        let (verdict, bytes) = match self.hash(pack, monitor) {
            Ok(found) => (found.0, found.1),
            Err(error) if error.kind() == Kind::NotNow => return Err(error),
            Err(error) => (Some(error.one_line()), 0),
        };
        let mut state = self.shared.state();
        if state.verdicts.insert(pack.digest, verdict.clone()).is_none() {
            state.bytes += bytes;
        }
        Ok(verdict)
    }

    fn hash(&self, pack: &PackRef, monitor: &dyn Monitor) -> Result<(Option<String>, u64)> {
        let source = self.shared.source.pack(&pack.digest)?;
        let size = source.size().map_err(unreadable)?;
        if size != pack.size {
            return Ok((Some(format!("it has {size} bytes instead of {}", pack.size)), 0));
        }
        let (mut hasher, mut offset, mut block) = (blake3::Hasher::new(), 0, vec![0; BLOCK.min(usize::try_from(size).unwrap_or(BLOCK))]);
        while offset < size {
            let got = source.read_at(offset, &mut block).map_err(unreadable)?;
            if got == 0 {
                return Ok((Some(format!("it ends after {offset} of {size} bytes")), offset));
            }
            hasher.update(&block[..got]);
            offset += got as u64;
            monitor.bytes(got as u64);
        }
        Ok((verdict_of(Blake3(*hasher.finalize().as_bytes()), &pack.digest), offset))
    }
}

impl Drop for ProvenPacks {
    fn drop(&mut self) {
        if let Some((send, thread)) = self.ahead.take() {
            drop(send);
            let _ = thread.join();
        }
    }
}

impl PackSource for ProvenPacks {
    fn pack(&self, digest: &Blake3) -> Result<Box<dyn ReadAt>> {
        let source = self.shared.source.pack(digest)?;
        let size = source.size().map_err(unreadable)?;
        if size > WHOLE {
            return Ok(source);
        }
        let next = self.shared.state().next.get(digest).copied();
        if let (Some(next), Some((ahead, _))) = (next, &self.ahead) {
            let _ = ahead.try_send(next);
        }
        Ok(Box::new(Whole { shared: Arc::clone(&self.shared), digest: *digest, size }))
    }

    fn repairs(&self) -> Result<Vec<crate::manifest::Public>> {
        self.shared.source.repairs()
    }

    fn key_files(&self, recipient: &str) -> Result<Vec<KeyFile>> {
        self.shared.source.key_files(recipient)
    }
}

/// A pack that is read as a whole when something of it is needed.
struct Whole {
    shared: Arc<Shared>,
    digest: Blake3,
    size: u64,
}

impl ReadAt for Whole {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.shared.load(&self.digest)?;
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}
