//! The archive: how a tree or a stream becomes encrypted packs, catalog and manifest, and how these are kept and read.
//!
//! Knows bytes and paths; no hosts, no requests, no git. `docs/format.md` says what every byte means.

mod attributes;
pub mod backup;
pub mod cache;
pub mod catalog;
pub mod choose;
pub mod chunk;
mod content;
mod deposit;
pub mod diff;
pub mod entries;
pub mod entry;
pub mod epoch;
pub mod find;
#[cfg(test)]
mod forge;
pub mod frame;
pub mod index;
mod load;
pub mod look;
pub mod manifest;
pub mod mend;
pub mod pack;
pub mod part;
mod pipeline;
mod problems;
mod read;
pub mod reference;
pub mod restore;
pub mod snapshot;
pub mod store;
mod tree;
mod usage;
pub mod verify;
mod walk;

use base::{Blake3, ReadAt, Result};

/// Where packs are read from: a folder of a store, or a node far away.
pub trait PackSource: Send + Sync {
    /// The pack of this name; its bytes are not trusted.
    ///
    /// # Errors
    /// When there is none, or it cannot be opened.
    fn pack(&self, digest: &Blake3) -> Result<Box<dyn ReadAt>>;

    /// Key files that were added later to the epoch with this recipient; they are not trusted.
    ///
    /// # Errors
    /// When the place cannot be reached.
    fn key_files(&self, recipient: &str) -> Result<Vec<epoch::KeyFile>> {
        let _ = recipient;
        Ok(Vec::new())
    }

    /// The public parts of manifests that claim to repair lost packs, the newest first; they are not trusted.
    ///
    /// # Errors
    /// When the place cannot be reached.
    fn repairs(&self) -> Result<Vec<manifest::Public>> {
        Ok(Vec::new())
    }
}

/// What readers accept at most. Nothing is allocated by a length that somebody else chose beyond these.
pub mod limits {
    /// A frame, as compressed and as decompressed.
    pub const FRAME: usize = 8 << 20;
    /// The base-2 logarithm of zstd's window.
    pub const WINDOW_LOG: u32 = 23;
    /// zstd's highest level whose windows stay within [`WINDOW_LOG`], whatever is compressed. Configurations are held to it.
    pub const HIGHEST_LEVEL: i32 = base::config::DatasetEntry::HIGHEST_LEVEL as i32;
    /// A chunk.
    pub const CHUNK: usize = 2 << 20;
    /// A manifest file.
    pub const MANIFEST: usize = 64 << 20;
    /// A line of the catalog, without its line feed; and a segment with all its lines.
    pub const LINE: usize = 1 << 20;
    /// The highest level of a catalog.
    pub const LEVELS: u8 = 16;
    /// A path or a link's target, in bytes.
    pub const PATH: usize = 64 << 10;
    /// The text of one entry's extended attributes.
    pub const XATTRS: usize = 16 << 20;
    /// The frame table of one pack.
    pub const TABLE: usize = 48 << 16;
    /// The key file in a manifest, decoded.
    pub const KEY_FILE: usize = 64 << 10;
}
