//! The snapshots that are offered, and those of them that are open: each is proven before anything of it is shown.
//!
//! Does not know how they are shown.

use crate::output;
use crate::recall::choose::{At, Offered};
use crate::recall::proof::Content;
use crate::recall::{Recall, Wanted};
use archive::epoch::IdentityFile;
use archive::snapshot::SnapshotReader;
use base::{Address, Error, Kind, RequestId, Result};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many stay open. Each keeps some megabytes of what was decoded last.
const OPEN: usize = 8;
/// The listing is asked for again after this.
const FRESH: Duration = Duration::from_secs(60);
/// Of how many problems it is remembered that they were told.
const TOLD: usize = 1000;

/// All snapshots of one place.
pub struct Snapshots {
    recall: Recall,
    identities: IdentityFile,
    listed: Mutex<(Instant, Arc<Vec<Offered>>)>,
    open: Mutex<Vec<(RequestId, Arc<SnapshotReader>)>>,
    /// Held while one is being opened, so that none is opened twice and a person is asked one thing at a time.
    opening: Mutex<()>,
    told: Mutex<HashSet<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Snapshots {
    /// What is offered now.
    ///
    /// # Errors
    /// When it cannot be listed, or nobody's signature is trusted.
    pub fn new(recall: Recall, identities: IdentityFile) -> Result<Self> {
        recall.signers()?;
        let listed = Mutex::new((Instant::now(), Arc::new(recall.source.list()?)));
        Ok(Self { recall, identities, listed, open: Mutex::default(), opening: Mutex::default(), told: Mutex::default() })
    }

    /// What is offered, as of the last minute. Where it cannot be listed any more, what was offered before.
    pub fn offered(&self) -> Arc<Vec<Offered>> {
        let mut listed = lock(&self.listed);
        if listed.0.elapsed() > FRESH {
            match self.recall.source.list() {
                Ok(offered) => listed.1 = Arc::new(offered),
                Err(error) => self.tell(&error.context("the list of snapshots is not up to date")),
            }
            listed.0 = Instant::now();
        }
        Arc::clone(&listed.1)
    }

    /// A snapshot, proven and opened. The last few stay open.
    ///
    /// # Errors
    /// When it does not verify, is opened by none of the keys, or cannot be read.
    pub fn reader(&self, id: &RequestId) -> Result<Arc<SnapshotReader>> {
        if let Some(reader) = self.is_open(id) {
            return Ok(reader);
        }
        let _one = lock(&self.opening);
        if let Some(reader) = self.is_open(id) {
            return Ok(reader);
        }
        let reader = Arc::new(self.prove(id)?);
        let mut open = lock(&self.open);
        if open.len() >= OPEN {
            open.remove(0);
        }
        open.push((id.clone(), Arc::clone(&reader)));
        Ok(reader)
    }

    fn is_open(&self, id: &RequestId) -> Option<Arc<SnapshotReader>> {
        let mut open = lock(&self.open);
        let at = open.iter().position(|(one, _)| one == id)?;
        // The least recently used stands first.
        let found = open.remove(at);
        open.push(found.clone());
        Some(found.1)
    }

    fn prove(&self, id: &RequestId) -> Result<SnapshotReader> {
        let offered = self.offered();
        let one = offered.iter().find(|one| one.snapshot == *id);
        let one = one.ok_or_else(|| Error::failed(format!("there is no snapshot {id} any more")))?;
        let of_dataset = offered.iter().filter(|other| other.client == one.client && other.dataset == one.dataset);
        // Of the newest it is said when there was a newer one before.
        let wanted = if of_dataset.max_by_key(|other| other.order).is_some_and(|newest| newest.snapshot == *id) {
            Wanted::Dataset(Address { client: Some(one.client.clone()), dataset: one.dataset.clone() }, At::Newest)
        } else {
            Wanted::Snapshot(id.clone())
        };
        let proven = self.recall.prove(&offered, &wanted)?;
        let Content::Archive(manifest) = proven.content else {
            return Err(Error::refused(format!("{id} is signed as something else than an archive")));
        };
        SnapshotReader::open(*manifest, &self.identities, self.recall.source.packs(&proven.claim.client)?)
    }

    /// Tells the person of an error, once; the programs that look learn no more than that there is one. What could not
    /// be reached is opened anew the next time.
    pub fn tell(&self, error: &Error) {
        if error.kind() == Kind::NotNow {
            lock(&self.open).clear();
        }
        let mut told = lock(&self.told);
        if told.len() >= TOLD {
            told.clear();
        }
        if told.insert(error.one_line()) {
            output::complain(error);
        }
    }
}
