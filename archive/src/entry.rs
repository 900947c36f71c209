//! Entries of a catalog: one JSON line each.
//!
//! Does not know how lines are put together into segments.

use crate::limits;
use crate::reference::References;
use base::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod acl;
mod attributes;
mod holes;
mod values;

pub use acl::{ACCESS, Acl, AclNames, DEFAULT, Who};
pub use attributes::{Attributes, INLINE_XATTRS, XattrMap, Xattrs, parse_xattrs, xattrs_text};
pub use holes::{Hole, HoleDecoder, Holes, INLINE_HOLES, Sparse, write_hole};
pub use values::{FileDigest, Mtime};

use attributes::Keys;

/// Where a file's content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// These chunks, one after the other.
    Chunks(References),
    /// These chunks hold the text of the list of chunks, which is too long for the line.
    More(References),
}

/// What an entry is, with what only that kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Dir,
    /// A regular file.
    File {
        /// Its length in bytes, with its holes.
        size: u64,
        /// Where its bytes are, without holes.
        content: Content,
        /// What they must hash to.
        digest: FileDigest,
        /// Its holes, where it has any.
        sparse: Option<Sparse>,
    },
    /// A symbolic link.
    Link {
        /// What it says.
        target: Vec<u8>,
    },
    /// A FIFO.
    Fifo,
    /// A device.
    Device {
        /// Whether it is one of blocks, and not one of characters.
        block: bool,
        /// Which driver.
        major: u32,
        /// Which device of it.
        minor: u32,
    },
}

impl EntryKind {
    /// All words that the catalog has for kinds.
    pub const WORDS: [&str; 6] = ["file", "dir", "link", "fifo", "char", "block"];

    /// The word that the catalog has for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Dir => "dir",
            Self::File { .. } => "file",
            Self::Link { .. } => "link",
            Self::Fifo => "fifo",
            Self::Device { block: false, .. } => "char",
            Self::Device { block: true, .. } => "block",
        }
    }
}

/// One file, folder, link, FIFO or device of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path below the dataset's own; that of a folder ends in `/`, and the dataset itself is the empty path.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// The permission bits, 12 of them.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The owner's name, where there was one.
    pub user: Option<String>,
    /// The group's name, where there was one.
    pub group: Option<String>,
    /// When the content was changed last.
    pub mtime: Mtime,
    /// Which group of names of one thing it belongs to: the position in the catalog of the group's first entry.
    pub hard_link: Option<u64>,
    /// Extended attributes and access control lists, where there are any.
    pub attributes: Option<Box<Attributes>>,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Type {
    File,
    Dir,
    Link,
    Fifo,
    Char,
    Block,
}

/// The line as it is written; the order of the fields is the order of the keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    #[serde(rename = "type")]
    kind: Type,
    mode: String,
    uid: u32,
    gid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    mtime: Mtime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_b64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunks: Option<References>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    more: Option<References>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<FileDigest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hard_link: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holes: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holes_more: Option<References>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    major: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    minor: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acl: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default_acl: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acl_names: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    xattrs: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    xattrs_b64: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    xattrs_more: Option<References>,
}

impl Entry {
    /// The entry's line, without the line feed.
    ///
    /// # Errors
    /// When it would be longer than [`limits::LINE`], or its path than [`limits::PATH`].
    pub fn to_line(&self) -> Result<String> {
        if self.path.len() > limits::PATH {
            return Err(Error::failed("its path is longer than 64 KiB"));
        }
        let (path, path_b64) = text_or_base64(&self.path);
        let keys = self.attributes.as_deref().map(Keys::of).unwrap_or_default();
        let mut line = Line {
            path,
            path_b64,
            kind: Type::Dir,
            mode: format!("{:04o}", self.mode & 0o7777),
            uid: self.uid,
            gid: self.gid,
            user: self.user.clone(),
            group: self.group.clone(),
            mtime: self.mtime,
            size: None,
            target: None,
            target_b64: None,
            chunks: None,
            more: None,
            digest: None,
            hard_link: self.hard_link,
            data: None,
            holes: None,
            holes_more: None,
            major: None,
            minor: None,
            acl: keys.acl,
            default_acl: keys.default_acl,
            acl_names: keys.acl_names,
            xattrs: keys.xattrs,
            xattrs_b64: keys.xattrs_b64,
            xattrs_more: keys.xattrs_more,
        };
        match &self.kind {
            EntryKind::Dir => {}
            EntryKind::File { size, content, digest, sparse } => {
                line.kind = Type::File;
                line.size = Some(*size);
                match content {
                    Content::Chunks(list) if list.is_empty() => {}
                    Content::Chunks(list) => line.chunks = Some(list.clone()),
                    Content::More(list) => line.more = Some(list.clone()),
                }
                line.digest = Some(*digest);
                if let Some(Sparse { data, holes }) = sparse {
                    line.data = Some(*data);
                    match holes {
                        Holes::List(list) => line.holes = Some(holes::text_of(list)),
                        Holes::More(list) => line.holes_more = Some(list.clone()),
                    }
                }
            }
            EntryKind::Link { target } => {
                line.kind = Type::Link;
                (line.target, line.target_b64) = text_or_base64(target);
            }
            EntryKind::Fifo => line.kind = Type::Fifo,
            EntryKind::Device { block, major, minor } => {
                line.kind = if *block { Type::Block } else { Type::Char };
                (line.major, line.minor) = (Some(*major), Some(*minor));
            }
        }
        let text = serde_json::to_string(&line).map_err(|e| Error::failed("could not write a line of the catalog").because(e))?;
        if text.len() > limits::LINE {
            return Err(Error::failed("the entry's line in the catalog would be longer than 1 MiB"));
        }
        Ok(text)
    }

    /// Reads a line (without its line feed) and checks all that can be told from the line alone. The path is one that
    /// stays below the folder it is joined to: relative, without `.`, `..` and empty parts.
    ///
    /// # Errors
    /// With what is wrong in it.
    pub fn parse(line: &[u8]) -> Result<Self> {
        if line.len() > limits::LINE {
            return Err(Error::failed("a line of the catalog is longer than 1 MiB"));
        }
        let mut line: Line = serde_json::from_slice(line).map_err(crate::entry::unreadable)?;
        let path = bytes_of(line.path.take(), line.path_b64.take())?.ok_or_else(|| broken("it has no path"))?;
        check_path(&path, line.kind == Type::Dir)?;
        let mode = (line.mode.len() == 4)
            .then(|| u32::from_str_radix(&line.mode, 8).ok())
            .flatten()
            .filter(|_| line.mode.bytes().all(|b| b.is_ascii_digit()));
        let mode = mode.ok_or_else(|| broken("its mode is not four octal digits"))?;
        let kind = kind_of(&mut line, path.is_empty())?;
        if line.hard_link.is_some() && kind == EntryKind::Dir {
            return Err(broken("a folder has one name alone"));
        }
        if line.default_acl.is_some() && kind != EntryKind::Dir || line.acl.is_some() && matches!(kind, EntryKind::Link { .. }) {
            return Err(broken("it has an access control list that its type cannot have"));
        }
        let keys = Keys {
            acl: line.acl,
            default_acl: line.default_acl,
            acl_names: line.acl_names,
            xattrs: line.xattrs,
            xattrs_b64: line.xattrs_b64,
            xattrs_more: line.xattrs_more,
        };
        Ok(Self {
            path,
            kind,
            mode,
            uid: line.uid,
            gid: line.gid,
            user: line.user,
            group: line.group,
            mtime: line.mtime,
            hard_link: line.hard_link,
            attributes: keys.read()?,
        })
    }

    /// About how many bytes it takes in memory beyond those that every entry takes: a line of a few can unfold to many.
    pub(crate) fn weight(&self) -> usize {
        let kind = match &self.kind {
            EntryKind::File { content: Content::Chunks(list) | Content::More(list), sparse, .. } => {
                list_weight(list) + sparse.as_ref().map_or(0, Sparse::weight)
            }
            EntryKind::Link { target } => target.len(),
            _ => 0,
        };
        let names = self.user.as_ref().map_or(0, String::len) + self.group.as_ref().map_or(0, String::len);
        self.path.len() + kind + names + self.attributes.as_deref().map_or(0, Attributes::weight)
    }

    /// The path as people read it; bytes that are not UTF-8 are replaced.
    pub fn shown_path(&self) -> String {
        base::text::printable(&String::from_utf8_lossy(&self.path))
    }
}

/// About how many bytes a list takes in memory.
fn list_weight(list: &References) -> usize {
    size_of_val(list.0.as_slice())
}

/// What a line says it is; takes the keys that only some types have, and refuses those that this type cannot have.
fn kind_of(line: &mut Line, root: bool) -> Result<EntryKind> {
    let target = bytes_of(line.target.take(), line.target_b64.take())?;
    let (size, digest, chunks, more) = (line.size.take(), line.digest.take(), line.chunks.take(), line.more.take());
    let (data, holes, holes_more) = (line.data.take(), line.holes.take(), line.holes_more.take());
    let numbers = (line.major.take(), line.minor.take());
    let no_file = size.is_none()
        && digest.is_none()
        && chunks.is_none()
        && more.is_none()
        && data.is_none()
        && holes.is_none()
        && holes_more.is_none();
    let no_device = numbers == (None, None);
    match (line.kind, target, numbers) {
        (Type::Dir, None, _) if no_file && no_device => Ok(EntryKind::Dir),
        (Type::Fifo, None, _) if no_file && no_device && !root => Ok(EntryKind::Fifo),
        (kind @ (Type::Char | Type::Block), None, (Some(major), Some(minor))) if no_file && !root => {
            Ok(EntryKind::Device { block: kind == Type::Block, major, minor })
        }
        (Type::Link, Some(target), _) if no_file && no_device && !root => {
            if target.is_empty() || target.len() > limits::PATH || target.contains(&0) {
                return Err(broken("its target cannot be a link's"));
            }
            Ok(EntryKind::Link { target })
        }
        (Type::File, None, _) if no_device => {
            let (Some(size), Some(digest)) = (size, digest) else { return Err(broken("a file needs size and digest")) };
            let content = match (chunks, more) {
                (chunks, None) => Content::Chunks(chunks.unwrap_or_default()),
                (None, Some(more)) => Content::More(more),
                (Some(_), Some(_)) => return Err(broken("it has both chunks and more")),
            };
            let sparse = sparse_of(size, data, holes, holes_more)?;
            let data = sparse.as_ref().map_or(size, |sparse| sparse.data);
            let listed = !matches!(&content, Content::Chunks(list) | Content::More(list) if list.is_empty());
            if listed != (data > 0) {
                return Err(broken("its size does not fit its list of chunks"));
            }
            Ok(EntryKind::File { size, content, digest, sparse })
        }
        _ => Err(broken("it has keys that its type cannot have, or lacks some that it needs")),
    }
}

fn sparse_of(size: u64, data: Option<u64>, holes: Option<String>, more: Option<References>) -> Result<Option<Sparse>> {
    let (data, holes) = match (data, holes, more) {
        (None, None, None) => return Ok(None),
        (Some(data), Some(text), None) => (data, Holes::List(holes::parse(&text)?)),
        (Some(data), None, Some(list)) if !list.is_empty() => (data, Holes::More(list)),
        _ => return Err(broken("a file with holes needs data and a list of them")),
    };
    // Where the list is elsewhere, this is found when it is read.
    let fits = match &holes {
        Holes::List(list) => {
            let end = list.last().map_or(0, |last| last.offset + last.length);
            let sum = list.iter().map(|hole| hole.length).sum::<u64>();
            end <= size && size - sum == data
        }
        Holes::More(_) => data < size,
    };
    if fits { Ok(Some(Sparse { data, holes })) } else { Err(broken("its holes do not fit its size")) }
}

fn check_path(path: &[u8], folder: bool) -> Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    let inner = if folder { path.strip_suffix(b"/") } else { Some(path) };
    let good = path.len() <= limits::PATH
        && !path.contains(&0)
        && inner.is_some_and(|inner| inner.split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b"..")));
    if good { Ok(()) } else { Err(broken("its path cannot be an entry's")) }
}

/// Bytes as JSON holds them: as text where they are UTF-8, else in base64.
pub(crate) fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.into()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// The reverse of [`text_or_base64`]; `None` when both are absent.
pub(crate) fn bytes_of(text: Option<String>, base64: Option<String>) -> Result<Option<Vec<u8>>> {
    match (text, base64) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(base64)) => STANDARD.decode(base64).map(Some).map_err(|e| broken("it has bytes that are no base64").because(e)),
        (Some(_), Some(_)) => Err(broken("it has a name both as text and in base64")),
    }
}

pub(crate) fn unreadable(error: serde_json::Error) -> Error {
    let newer_key = error.to_string().contains("unknown");
    let wrong = Error::failed("could not read a part of the archive").because(error);
    if newer_key { wrong.hint(NEWER) } else { wrong }
}

/// What helps where a format is newer than this program.
pub(crate) const NEWER: &str = "It may be written by a newer nightsafe: install the newest version and try again.";

pub(crate) fn newer(what: &str) -> Error {
    Error::failed(format!("{what} cannot be read by this version")).hint(NEWER)
}

fn broken(why: &str) -> Error {
    Error::failed(format!("a line of the catalog is wrong: {why}"))
}

#[cfg(test)]
mod tests;
