//! Packs on their way in: written under a temporary name, hashed while written, named when complete and flushed.
//!
//! Does not know where the bytes come from.

use super::Store;
use super::layout::{FILE_MODE, folder};
use crate::manifest::{PackRef, Public};
use base::{At, Blake3, Error, RequestId, Result, atomic, beneath, crash};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// One pack being fetched. Dropped without [`PackWriter::finish`], it leaves nothing.
#[derive(Debug)]
pub struct PackWriter<'a> {
    store: &'a Store,
    id: RequestId,
    pack: PackRef,
    file: File,
    temp: PathBuf,
    hasher: blake3::Hasher,
    written: u64,
}

impl PackWriter<'_> {
    /// Checks size and digest, flushes the file to the disk and gives it its name in `incoming/`.
    ///
    /// # Errors
    /// Of kind refused when the bytes are not those that the manifest names; otherwise with the path.
    pub fn finish(self) -> Result<()> {
        if self.written != self.pack.size {
            return Err(Error::refused(format!(
                "pack {} came with {} bytes, and the manifest says {}",
                self.pack.digest, self.written, self.pack.size
            )));
        }
        let found = Blake3(*self.hasher.finalize().as_bytes());
        if found != self.pack.digest {
            return Err(Error::refused(format!("pack {} came with other bytes: they are {found}", self.pack.digest)));
        }
        self.file.sync_all().at("write", &self.temp)?;
        let path = self.store.layout.incoming_pack(&self.id, &self.pack.digest);
        crash::point("drafted");
        fs::rename(&self.temp, &path).at("rename to", &path)?;
        crash::point("renamed");
        self.store.note_hashed(&self.id, &self.pack.digest);
        Ok(())
    }
}

impl Write for PackWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.written + bytes.len() as u64 > self.pack.size {
            return Err(std::io::Error::new(
                std::io::ErrorKind::FileTooLarge,
                format!("more than the {} bytes that the manifest says", self.pack.size),
            ));
        }
        // Whoever pulls does not know where to.
        let here = |error: std::io::Error| std::io::Error::new(error.kind(), format!("{}: {error}", self.temp.display()));
        let n = self.file.write(bytes).map_err(here)?;
        self.hasher.update(&bytes[..n]);
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for PackWriter<'_> {
    fn drop(&mut self) {
        // After `finish` the temporary name is gone already; and what stays is garbage by its name.
        let _ = fs::remove_file(&self.temp);
    }
}

impl Store {
    /// Begins to fetch one pack for request `id`.
    ///
    /// # Errors
    /// With the path.
    pub fn begin_pack(&self, id: &RequestId, pack: &PackRef) -> Result<PackWriter<'_>> {
        folder(&self.layout.all_incoming())?;
        folder(&self.layout.incoming(id))?;
        let temp = self.layout.incoming(id).join(format!("{}{}", atomic::TEMP_PREFIX, pack.digest.hex()));
        atomic::remove(&temp)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temp).at("create", &temp)?;
        file.set_permissions(Permissions::from_mode(FILE_MODE)).at("set the mode of", &temp)?;
        Ok(PackWriter { store: self, id: id.clone(), pack: *pack, file, temp, hasher: blake3::Hasher::new(), written: 0 })
    }

    /// The packs still to be fetched for request `id`: those that are neither in `packs/` nor, from a try that was cut
    /// off, complete in `incoming/`.
    ///
    /// # Errors
    /// With the path.
    pub fn to_fetch(&self, id: &RequestId, public: &Public) -> Result<Vec<PackRef>> {
        let mut packs = Vec::new();
        for pack in self.missing(public) {
            if self.incoming_size(id, &pack.digest)? != Some(pack.size) {
                packs.push(pack);
            }
        }
        Ok(packs)
    }

    /// The size of a pack in `incoming/<id>/` whose bytes are right; a file with other bytes is removed.
    pub(super) fn incoming_size(&self, id: &RequestId, digest: &Blake3) -> Result<Option<u64>> {
        let path = self.layout.incoming_pack(id, digest);
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).at("look at", &path),
        };
        if meta.is_file() {
            if self.was_hashed(id, digest) {
                return Ok(Some(meta.len()));
            }
            if hash_file(&self.layout.incoming(id), digest)? == *digest {
                self.note_hashed(id, digest);
                return Ok(Some(meta.len()));
            }
        }
        if meta.is_dir() {
            atomic::remove_tree(&path)?
        } else {
            atomic::remove(&path)?
        }
        Ok(None)
    }

    /// Removes what was fetched for request `id`.
    ///
    /// # Errors
    /// With the path.
    pub fn discard_incoming(&self, id: &RequestId) -> Result<()> {
        self.forget_hashed(id);
        atomic::remove_tree(&self.layout.incoming(id))
    }

    /// Removes every folder of a fetch but those of the requests still in progress.
    ///
    /// # Errors
    /// With the path.
    pub fn clean_incoming(&self, in_progress: &[RequestId]) -> Result<()> {
        let all = self.layout.all_incoming();
        let kept: HashSet<&str> = in_progress.iter().map(RequestId::as_str).collect();
        let folders = match fs::read_dir(&all) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.at("list", &all)?,
        };
        for folder in folders {
            let folder = folder.at("list", &all)?;
            if folder.file_name().to_str().is_some_and(|name| kept.contains(name)) {
                continue;
            }
            if let Some(id) = folder.file_name().to_str().and_then(|name| name.parse().ok()) {
                self.forget_hashed(&id);
            }
            if folder.file_type().at("look at", folder.path())?.is_dir() {
                atomic::remove_tree(&folder.path())?;
            } else {
                atomic::remove(&folder.path())?;
            }
        }
        Ok(())
    }
}

/// Hashes a fetched pack again, for a process that did not write it. It was flushed before it got its name.
fn hash_file(folder: &Path, digest: &Blake3) -> Result<Blake3> {
    let name = digest.hex();
    let mut file = beneath::regular_file(beneath::folder(folder)?, Path::new(&name))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Blake3(*hasher.finalize().as_bytes())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).at("read", folder.join(name)),
        };
    }
}
