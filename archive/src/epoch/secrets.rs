//! The client's chunk secret: what chunks are known and cut by.
//!
//! Knows nothing of recipients and epochs.

use base::{Error, Result, atomic};
use std::fmt;
use std::path::Path;

/// The client's secret of 32 bytes, by which chunks are known and cut. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    chunk: [u8; 32],
}

/// What a chunk is known by: BLAKE3 of its bytes, keyed with the client's secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; 32]);

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base::digest::to_hex(&self.0))
    }
}

impl Secrets {
    /// The secret kept in `folder`, or a new one.
    ///
    /// # Errors
    /// With the path.
    pub fn load_or_create(folder: &Path) -> Result<Self> {
        atomic::make_folder(folder, 0o700)?;
        let path = folder.join("chunk");
        if !path.exists() {
            let mut chunk = [0; 32];
            getrandom::fill(&mut chunk).map_err(|e| Error::failed(format!("no random bytes from the system: {e}")))?;
            // Where another process was first, its secret is the one.
            let written = atomic::write_new(&path, format!("{}\n", base::digest::to_hex(&chunk)).as_bytes(), 0o600);
            if let Err(error) = written
                && !path.exists()
            {
                return Err(error);
            }
        }
        let text = base::untrusted::read(&path, 100)?.bytes;
        let hex = std::str::from_utf8(&text).map(str::trim_end).unwrap_or_default();
        Self::from_hex(hex).ok_or_else(|| {
            Error::failed(format!("{} does not hold 64 hex digits", path.display()))
                .hint("Without the old secret everything is sent again once; remove the file to begin with a new one.")
        })
    }

    /// The secret of these 32 bytes.
    pub fn from_bytes(chunk: [u8; 32]) -> Self {
        Self { chunk }
    }

    /// The secret of these 64 hex digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        base::Blake3::from_hex(hex).map(|bytes| Self { chunk: bytes.0 })
    }

    pub(crate) fn to_hex(&self) -> String {
        base::digest::to_hex(&self.chunk)
    }

    /// What the chunk of these bytes is known by.
    pub fn chunk_id(&self, bytes: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.chunk, bytes).as_bytes())
    }

    /// A hasher for content that comes piece by piece; what it gives for a chunk's bytes is the chunk's id.
    pub fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.chunk)
    }

    /// A text of 64 letters and digits that is always the same for this client and `purpose`, and that nobody else knows.
    pub fn word(&self, purpose: &str) -> String {
        blake3::derive_key(purpose, &self.chunk).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The seed of the content-defined cutting.
    pub(crate) fn cutting_seed(&self) -> u64 {
        let derived = blake3::derive_key("nightsafe 2026 seed of content-defined cutting", &self.chunk);
        derived[..8].iter().rev().fold(0, |seed, byte| seed << 8 | u64::from(*byte))
    }

    /// Whether a catalog's segment of this level ends after the line with this key.
    pub(crate) fn ends_segment(&self, level: u8, key: &[u8]) -> bool {
        let hash = self.hasher().update(&[level]).update(key).finalize();
        hash.as_bytes()[0] & 0xfc == 0
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}
