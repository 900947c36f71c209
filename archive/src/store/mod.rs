//! The store of one client on a node: packs, accepted snapshots, and what is on its way in.
//!
//! Knows no hosts, no queue and no keys: it takes a proven [`Claim`], counts and hashes bytes, and renames. Whether the
//! access list allows the dataset, and whether the id has a receipt that left no snapshot, its caller has checked.
//!
//! # Layout
//!
//! ```text
//! packs/<64 hex>        ciphertext, named by its BLAKE3, mode 0640
//! snapshots/<id>/       one accepted snapshot: commit tree request.toml  manifest | refs  accepted.toml
//! parts/<id>.<n>/       an accepted part of a snapshot that is still to come: the same files
//! incoming/<id>/        one fetch: <64 hex> complete and flushed, .tmp-<64 hex> being written, snapshot/ being prepared
//! snapshots/<id>/…      beside them the node's own marks: held.toml pinned.toml condemned.toml
//! trash/<id>/           a snapshot that was pruned and is about to be removed; no root
//! damaged/<64 hex>      packs that were found damaged
//! keys/<age1…>/<n>.json  key files that an administrator added to an epoch, n from 1 to 32
//! usage.toml            bytes held and the last place in the order; may be deleted at any time
//! store.lock            flock; only those who change packs/ or snapshots/ take it
//! ```
//!
//! # Invariants
//!
//! - I1 `packs/X` was hashed here and equals X. Fetches land in `incoming/<id>/` on the same file system; that folder is
//!   garbage once the request has its receipt.
//! - I2 Roots are the manifests kept, those condemned but within grace, and accepted parts. Every pack that a root names
//!   is in `packs/`, or known to be lost in `damaged/`.
//! - I3 A manifest becomes a root by one rename of a complete folder under the store lock; prune computes the roots again
//!   and unlinks under the same lock.
//! - I4 A pack that no root names goes after grace, and only while every root can be read.
//! - I5 Never condemned: a dataset's newest snapshot by order of acceptance, its newest undamaged one, held and pinned
//!   ones. `forget` is the only way to a dataset's last.
//! - I6 The client's index for deduplication is for one node and one epoch, and holds only packs named by a `stored`
//!   receipt that verified; a pack that this store lacks is asked for again, never assumed.
//! - I7 `usage.toml` is there only while it is right: whoever changes `packs/` or `snapshots/` removes it first, durably,
//!   and writes it anew last. Where it is not, the folders are counted.
//!
//! # Operations against each other
//!
//! | | fetch (`begin_pack`) | accept | list, read, restore | `clean_incoming` | prune, scrub |
//! |---|---|---|---|---|---|
//! | fetch | other ids: other folders; the same id: one caller, who locks the request | takes complete packs only: a pack gets its name after its fsync | never looks into `incoming/` | is told which ids are in progress | never looks into `incoming/` |
//! | accept | – | store lock | packs come before the manifest that names them; the folder appears whole | accept removes its own folder last; what a crash leaves has a receipt or is fetched again | store lock; a pack that is in no root yet is young, and within grace |
//! | list, read, restore | – | – | nothing is written, nothing locked | – | a snapshot may go while it is read: the reader gets an error that names the pack, and nothing false |
//! | `clean_incoming` | – | – | – | both remove; a folder that is gone is no error | – |
//! | prune, scrub | – | – | – | – | store lock |
//!
//! Marks are written and removed under the store lock. Prune takes a snapshot away by one rename into `trash/`, makes that
//! durable, and only then unlinks packs: a crash between any two of its steps leaves packs without a root, which the next
//! run finds. What to take is decided anew under the lock, so an accept, a hold or a policy that came after the plan counts.
//!
//! A crash between two steps of accept leaves packs without a root (used by the next try, or gone after grace) or a
//! prepared folder in `incoming/`, never a root that lacks a pack.

mod accept;
mod forget;
mod incoming;
mod keys;
mod layout;
mod listing;
mod marks;
mod pack_use;
mod packs;
mod parts;
mod prune;
pub mod retention;
mod roots;
mod scrub;
mod turns;
mod usage;

#[cfg(test)]
mod tests;

pub use accept::{AcceptFacts, AcceptVerdict, Content, ContentFacts, Known, PackFacts, Quota, Stats, check_accept};
pub use base::Accepted;
pub use incoming::PackWriter;
pub use keys::{Installed, key_file_name};
pub use listing::{Stored, StoredContent, StoredSnapshot};
pub use marks::{By, Condemned, Held, Marks, Pinned, Released};
pub use packs::StorePacks;
pub use parts::{Part, abandoned};
pub use prune::{Change, Planned, PrunePlan, PruneRules, Pruned};
pub use roots::Root;
pub use scrub::{Copied, Damage, Damaged, ScrubReport, ScrubSpec, believable};
pub use turns::Turns;

use crate::manifest::{PackRef, Public};
use base::{Blake3, Claim, Error, FileLock, RequestId, Result};
use layout::Layout;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// One client's store. Opening it reads and writes nothing, so that people who may only read can.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    /// Packs in `incoming/` that this process hashed while writing; after a restart they are hashed again.
    hashed: Mutex<HashSet<(RequestId, Blake3)>>,
}

impl Store {
    /// The store in `client_dir`, which need not exist yet: folders are made when something is put into them.
    ///
    /// # Errors
    /// When `client_dir` is there and is no folder.
    pub fn open(client_dir: &Path) -> Result<Self> {
        if client_dir.exists() && !client_dir.is_dir() {
            return Err(Error::usage(format!("{} is not a folder", client_dir.display())));
        }
        Ok(Self { layout: Layout::new(client_dir), hashed: Mutex::default() })
    }

    /// The store in `client_dir` for reading, which must look like one.
    ///
    /// # Errors
    /// Of kind usage when it does not.
    pub fn open_existing(client_dir: &Path) -> Result<Self> {
        let store = Self::open(client_dir)?;
        if store.layout.snapshots().is_dir() {
            return Ok(store);
        }
        Err(Error::usage(format!("{} is no client's store: it has no folder \"snapshots\"", client_dir.display()))
            .hint("Name the folder of one client below the node's data folder, as in /srv/nightsafe/web1."))
    }

    /// The client's folder.
    pub fn path(&self) -> &Path {
        self.layout.root()
    }

    /// Whether the pack is in `packs/`.
    pub fn has_pack(&self, digest: &Blake3) -> bool {
        self.pack_size(digest).is_some()
    }

    fn pack_size(&self, digest: &Blake3) -> Option<u64> {
        self.layout.pack(digest).symlink_metadata().ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len())
    }

    /// The packs that the manifest names and `packs/` lacks, each once. One with another length is damaged, or is not what
    /// the manifest says, and then as good as none.
    pub fn missing(&self, public: &Public) -> Vec<PackRef> {
        let mut seen = HashSet::new();
        let lacks = |pack: &PackRef| self.pack_size(&pack.digest) != Some(pack.size);
        public.packs.iter().filter(|pack| seen.insert(pack.digest) && lacks(pack)).copied().collect()
    }

    /// What there is of the client's data, in bytes: packs and snapshots, without mirrors.
    ///
    /// # Errors
    /// When the folders cannot be read.
    pub fn bytes_used(&self) -> Result<u64> {
        Ok(usage::Usage::get(&self.layout)?.bytes)
    }

    /// Asks before fetching what [`Store::accept`] asks again: whether the packs still missing fit into the quota.
    ///
    /// # Errors
    /// Of kind refused when they do not.
    pub fn check_quota(&self, public: &Public, quota: &Quota) -> Result<()> {
        let new = self.missing(public).iter().fold(0u64, |sum, pack| sum.saturating_add(pack.size));
        accept::quota_verdict(self.bytes_used()?, new, quota).map_or(Ok(()), |reason| Err(Error::refused(reason)))
    }

    /// The store's packs, for a reader.
    pub fn packs(&self) -> Arc<StorePacks> {
        Arc::new(StorePacks::new(self.layout.clone()))
    }

    fn lock(&self) -> Result<FileLock> {
        layout::folder(self.layout.root())?;
        FileLock::wait(&self.layout.lock())
    }

    fn was_hashed(&self, id: &RequestId, digest: &Blake3) -> bool {
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner).contains(&(id.clone(), *digest))
    }

    fn note_hashed(&self, id: &RequestId, digest: &Blake3) {
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner).insert((id.clone(), *digest));
    }

    fn forget_hashed(&self, id: &RequestId) {
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| other != id);
    }

    /// The folder of one fetch.
    pub fn incoming(&self, id: &RequestId) -> PathBuf {
        self.layout.incoming(id)
    }

    /// Accepts what a proven request asks to keep: checks everything again under the store lock, moves the packs in and
    /// makes the snapshot by one rename. The same request again gives the same answer.
    ///
    /// # Errors
    /// Of kind refused when a rule forbids it (final); of kind not-now when a pack has not been fetched; otherwise as
    /// I/O fails. In every case the store is as it was, or holds packs without a root.
    pub fn accept(&self, claim: &Claim, content: Content<'_>, received: jiff::Timestamp, quota: &Quota, stats: Stats) -> Result<Accepted> {
        accept::accept(self, claim, content, received, quota, stats)
    }
}
