//! Giving a reader the packs of a store on this machine.
//!
//! Takes no lock and writes nothing.

use super::layout::Layout;
use super::listing::{StoredContent, signed_files};
use crate::PackSource;
use crate::epoch::KeyFile;
use crate::manifest::{Manifest, Public};
use base::{At, Blake3, Error, ReadAt, Result, beneath};
use std::path::Path;

/// The packs of one store.
#[derive(Debug)]
pub struct StorePacks {
    layout: Layout,
}

impl StorePacks {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout }
    }
}

impl PackSource for StorePacks {
    fn pack(&self, digest: &Blake3) -> Result<Box<dyn ReadAt>> {
        let path = self.layout.pack(digest);
        match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let place = if self.layout.damaged(digest).exists() { "was found damaged and set aside" } else { "is not in the store" };
                return Err(Error::failed(format!("pack {digest} {place} ({})", path.display())));
            }
            other => other.at("look at", &path)?,
        };
        let file = beneath::regular_file(beneath::folder(&self.layout.packs())?, Path::new(&digest.hex()))?;
        Ok(Box::new(file))
    }

    fn repairs(&self) -> Result<Vec<Public>> {
        let store = super::Store::open(self.layout.root())?;
        let mut claims = Vec::new();
        for snapshot in store.readable_snapshots(&base::Silent)?.iter().rev().filter(|snapshot| !snapshot.repairs.is_empty()) {
            match signed_files(&snapshot.path) {
                Ok((_, StoredContent::Manifest(bytes))) => match Manifest::parse(&bytes) {
                    Ok(manifest) => claims.push(manifest.public),
                    Err(error) => tracing::warn!("the repairs in {} are passed over: {}", snapshot.id, error.one_line()),
                },
                Ok(_) => {}
                Err(error) => tracing::warn!("the repairs in {} are passed over: {}", snapshot.id, error.one_line()),
            }
        }
        Ok(claims)
    }

    fn key_files(&self, recipient: &str) -> Result<Vec<KeyFile>> {
        Ok(super::keys::key_files(&self.layout, recipient))
    }
}
