//! What a store holds, read without a lock and without writing: for the poller, restorers and listings.
//!
//! Proves nothing: the raw proof is handed out, and whoever asks recomputes the chain.

use super::Store;
use super::layout::{ACCEPTED, COMMIT, MANIFEST, REFS, REQUEST, TREE};
use base::{Accepted, At, Error, Monitor, Proof, RequestId, Result, beneath, untrusted};
use std::fs;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The largest commit or tree object that is read, in bytes.
const OBJECT_LIMIT: usize = 1 << 20;
/// The largest manifest or list of refs that is read, in bytes.
pub(super) const CONTENT_LIMIT: usize = 64 << 20;

/// One accepted snapshot as a listing shows it: what the node wrote down ([`Accepted`]'s fields), and where it lies.
#[derive(Debug, Clone)]
pub struct StoredSnapshot {
    /// The node's own words.
    pub accepted: Accepted,
    /// The snapshot's folder.
    pub path: PathBuf,
}

impl Deref for StoredSnapshot {
    type Target = Accepted;
    fn deref(&self) -> &Accepted {
        &self.accepted
    }
}

/// Everything that is kept of one snapshot beside its packs.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The node's own words.
    pub accepted: Accepted,
    /// What the client signed, for `prove`.
    pub proof: Proof,
    /// What the signature leads to; its digest must be the one in the proven claim.
    pub content: StoredContent,
}

/// What a snapshot keeps, in the bytes that were signed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredContent {
    /// The manifest file of an archive.
    Manifest(Vec<u8>),
    /// The list of refs of a git repository.
    Refs(Vec<u8>),
}

impl Store {
    /// All snapshots in the order in which they were accepted.
    ///
    /// # Errors
    /// When one of them cannot be read: whoever decides by the list must not decide by half of it.
    pub fn snapshots(&self) -> Result<Vec<StoredSnapshot>> {
        self.list(&mut Err)
    }

    /// As [`Store::snapshots`], but what cannot be read is reported and left out: for people who look.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn readable_snapshots(&self, monitor: &dyn Monitor) -> Result<Vec<StoredSnapshot>> {
        self.list(&mut |error| {
            monitor.problem(&error);
            Ok(())
        })
    }

    fn list(&self, on_error: &mut dyn FnMut(Error) -> Result<()>) -> Result<Vec<StoredSnapshot>> {
        let folder = self.layout.snapshots();
        let names = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.at("list", &folder)?,
        };
        let mut found = Vec::new();
        for name in names {
            let name = name.at("list", &folder)?;
            let Some(id) = name.file_name().to_str().and_then(|name| name.parse::<RequestId>().ok()).filter(|id| id.part().is_none())
            else {
                continue;
            };
            match self.accepted(&id) {
                Ok(Some(accepted)) => found.push(StoredSnapshot { accepted, path: self.layout.snapshot(&id) }),
                // Forgotten since the folder was listed.
                Ok(None) => {}
                Err(error) => on_error(error)?,
            }
        }
        found.sort_by(|a, b| (a.order, &a.id).cmp(&(b.order, &b.id)));
        Ok(found)
    }

    /// What the node wrote down of one snapshot; none when there is no such snapshot.
    ///
    /// # Errors
    /// With the path.
    pub fn accepted(&self, id: &RequestId) -> Result<Option<Accepted>> {
        let path = self.layout.snapshot(id);
        if !path.exists() {
            return Ok(None);
        }
        let context = |error: Error| error.context(format!("the snapshot in {} cannot be listed", path.display()));
        let bytes = read(&beneath::folder(&path)?, ACCEPTED, base::ACCEPTED_LIMIT).map_err(context)?;
        let accepted = Accepted::parse(ACCEPTED, &bytes).map_err(context)?;
        if accepted.id != *id {
            return Err(context(Error::failed(format!("its note belongs to {}", accepted.id))));
        }
        Ok(Some(accepted))
    }

    /// Everything that is kept of one snapshot.
    ///
    /// # Errors
    /// When there is no such snapshot, or with the path.
    pub fn snapshot(&self, id: &RequestId) -> Result<Stored> {
        let path = self.layout.snapshot(id);
        let accepted =
            self.accepted(id)?.ok_or_else(|| Error::failed(format!("there is no snapshot {id} in {}", self.layout.root().display())))?;
        let (proof, content) = signed_files(&path)?;
        Ok(Stored { accepted, proof, content })
    }
}

/// What the client signed for, of a snapshot or of a part, as it lies in `path`.
pub(super) fn signed_files(path: &Path) -> Result<(Proof, StoredContent)> {
    let context = |error: Error| error.context(format!("the snapshot in {} cannot be read", path.display()));
    let folder = beneath::folder(path)?;
    let get = |name: &str, limit: usize| read(&folder, name, limit).map_err(context);
    let proof = Proof { commit: get(COMMIT, OBJECT_LIMIT)?, tree: get(TREE, OBJECT_LIMIT)?, request: get(REQUEST, OBJECT_LIMIT)? };
    let content = if path.join(MANIFEST).exists() {
        StoredContent::Manifest(get(MANIFEST, CONTENT_LIMIT)?)
    } else {
        StoredContent::Refs(get(REFS, CONTENT_LIMIT)?)
    };
    Ok((proof, content))
}

/// Reads one small file of a snapshot.
pub(super) fn read(folder: &OwnedFd, name: &str, limit: usize) -> Result<Vec<u8>> {
    untrusted::read_bounded(beneath::regular_file(folder, Path::new(name))?, limit).at("read", name)
}
