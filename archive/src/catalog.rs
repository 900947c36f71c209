//! The catalog: entries' lines cut into segments, and lists of segments above them up to one root.
//!
//! Does not know where segments are stored; it is given a place for each.

use crate::entry::{bytes_of, text_or_base64, unreadable};
use crate::epoch::ChunkId;
use crate::limits;
use crate::manifest::chunk_hex;
use crate::reference::Member;
use base::{Error, Result};
use serde::{Deserialize, Serialize};

/// A line of the levels above the entries: a segment of the level below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// The key (the path of an entry) of its first line.
    pub first: Vec<u8>,
    /// Its place.
    pub at: Member,
    /// What its bytes must hash to.
    pub id: ChunkId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChildLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_b64: Option<String>,
    #[serde(rename = "ref")]
    at: Member,
    #[serde(with = "chunk_hex")]
    id: ChunkId,
}

impl Child {
    /// The line, without the line feed.
    ///
    /// # Errors
    /// When the key is longer than a path may be.
    pub fn to_line(&self) -> Result<String> {
        if self.first.len() > limits::PATH {
            return Err(Error::failed("a path in the catalog is too long"));
        }
        let (first, first_b64) = text_or_base64(&self.first);
        let line = ChildLine { first, first_b64, at: self.at, id: self.id };
        serde_json::to_string(&line).map_err(|e| Error::failed("could not write a line of the catalog").because(e))
    }

    /// Reads a line (without its line feed).
    ///
    /// # Errors
    /// With what is wrong in it.
    pub fn parse(line: &[u8]) -> Result<Self> {
        if line.len() > limits::LINE {
            return Err(Error::failed("a line of the catalog is longer than 1 MiB"));
        }
        let line: ChildLine = serde_json::from_slice(line).map_err(unreadable)?;
        let first = bytes_of(line.first, line.first_b64)?.filter(|first| first.len() <= limits::PATH && !first.contains(&0));
        let first = first.ok_or_else(|| Error::failed("a segment in the catalog has no key, or one that no path has"))?;
        Ok(Self { first, at: line.at, id: line.id })
    }
}

/// The lines of a segment, without their line feeds.
///
/// # Errors
/// When the segment is empty, longer than 1 MiB, or its last line does not end.
pub fn lines(segment: &[u8]) -> Result<impl Iterator<Item = &[u8]>> {
    let body = segment.strip_suffix(b"\n").filter(|_| segment.len() <= limits::LINE);
    let body = body.ok_or_else(|| Error::failed("a segment of the catalog is cut off or too long"))?;
    Ok(body.split(|b| *b == b'\n'))
}
