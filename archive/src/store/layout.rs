//! Where things stand in a client's store, and with which permission bits.
//!
//! Does not know what the files mean.

use base::{At, Blake3, Error, RequestId, Result, atomic};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Folders may be read by a group: restorers, cgit.
pub(super) const FOLDER_MODE: u32 = 0o750;
/// So may files.
pub(super) const FILE_MODE: u32 = 0o640;

/// The names of a snapshot's files.
pub(super) const COMMIT: &str = "commit";
pub(super) const TREE: &str = "tree";
pub(super) const REQUEST: &str = "request.toml";
pub(super) const MANIFEST: &str = "manifest";
pub(super) const REFS: &str = "refs";
pub(super) const ACCEPTED: &str = "accepted.toml";

/// The marks that may lie beside them.
pub(super) const HELD: &str = "held.toml";
pub(super) const PINNED: &str = "pinned.toml";
pub(super) const CONDEMNED: &str = "condemned.toml";
pub(super) const MARKS: [&str; 3] = [HELD, PINNED, CONDEMNED];

/// The paths below one client's folder.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn packs(&self) -> PathBuf {
        self.root.join("packs")
    }

    pub(super) fn pack(&self, digest: &Blake3) -> PathBuf {
        self.packs().join(digest.hex())
    }

    pub(super) fn all_damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }

    pub(super) fn damaged(&self, digest: &Blake3) -> PathBuf {
        self.all_damaged().join(digest.hex())
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// The folder of folders in which the root of `id` belongs: a part's is no snapshot's.
    pub(super) fn roots_of(&self, id: &RequestId) -> PathBuf {
        if id.part().is_some() { self.parts() } else { self.snapshots() }
    }

    /// The folder of one snapshot, or of one part.
    pub(super) fn snapshot(&self, id: &RequestId) -> PathBuf {
        self.roots_of(id).join(id.as_str())
    }

    /// Accepted parts of snapshots that are still to come.
    pub(super) fn parts(&self) -> PathBuf {
        self.root.join("parts")
    }

    /// Snapshots that were taken out of the store and are about to be removed.
    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(super) fn all_incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    pub(super) fn incoming(&self, id: &RequestId) -> PathBuf {
        self.all_incoming().join(id.as_str())
    }

    pub(super) fn incoming_pack(&self, id: &RequestId, digest: &Blake3) -> PathBuf {
        self.incoming(id).join(digest.hex())
    }

    pub(super) fn prepared(&self, id: &RequestId) -> PathBuf {
        self.incoming(id).join("snapshot")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("store.lock")
    }

    pub(super) fn usage(&self) -> PathBuf {
        self.root.join("usage.toml")
    }
}

/// Makes sure that `path` is a folder and no link; a new one gets [`FOLDER_MODE`] whatever the umask says.
pub(super) fn folder(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => return Err(Error::refused(format!("{} stands where a folder of the store should be", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).at("look at", path),
    }
    atomic::make_folder(path, FOLDER_MODE)?;
    fs::set_permissions(path, fs::Permissions::from_mode(FOLDER_MODE)).at("set the mode of", path)?;
    // The new name itself must survive a crash, or what is renamed into it would not.
    path.parent().map_or(Ok(()), atomic::sync_folder)
}
