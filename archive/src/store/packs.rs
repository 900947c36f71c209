//! Giving a reader the packs of a store on this machine.
//!
//! Takes no lock and writes nothing.

use super::layout::Layout;
use crate::PackSource;
use crate::epoch::KeyFile;
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

    fn key_files(&self, recipient: &str) -> Result<Vec<KeyFile>> {
        Ok(super::keys::key_files(&self.layout, recipient))
    }
}
