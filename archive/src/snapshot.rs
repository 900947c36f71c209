//! Reading a snapshot: its entries in order, one path from root to leaf, one file's content, or everything.
//!
//! Writes no files, and does not know who signed for the manifest: that was proven before it is opened here.

use crate::PackSource;
use crate::catalog::lines;
use crate::entries::{Children, Entries};
use crate::entry::{Entry, EntryKind, Holes, Sparse, XattrMap, Xattrs, parse_xattrs};
use crate::epoch::{IdentityFile, open_epoch};
use crate::limits;
use crate::manifest::{Manifest, Public, Root, Sealed, Unreadable};
use crate::read::content::{Cursor, Expected};
use crate::read::frames::{Frame, Frames, no_chunk};
use crate::read::layout::Layout;
use crate::read::order::{Wanted, stream};
use crate::reference::Member;
use base::{Error, Result};
use std::io::Write;
use std::sync::Arc;

/// An opened snapshot. May be used from several threads.
pub struct SnapshotReader {
    public: Public,
    sealed: Sealed,
    frames: Frames,
}

impl std::fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SnapshotReader({})", self.public.id)
    }
}

impl SnapshotReader {
    /// Opens the manifest's key file and sealed part; no pack is touched yet.
    ///
    /// # Errors
    /// When none of the identities opens it, or its parts do not belong together.
    pub fn open(manifest: Manifest, identities: &IdentityFile, source: Arc<dyn PackSource>) -> Result<Self> {
        let key = open_epoch(&manifest.public.epoch, identities, &|| source.key_files(&manifest.public.epoch.recipient))?;
        let sealed = manifest.open(&key)?;
        let packs = manifest.public.packs.iter().copied().zip(sealed.packs.iter().copied()).collect();
        Ok(Self { frames: Frames::new(source, key, packs)?, public: manifest.public, sealed })
    }

    /// The manifest's public part.
    pub fn public(&self) -> &Public {
        &self.public
    }

    /// The client's clock when the snapshot was begun.
    pub fn time(&self) -> jiff::Timestamp {
        self.sealed.time
    }

    /// The request's tags.
    pub fn tags(&self) -> &[String] {
        &self.sealed.tags
    }

    /// What could not be read, or changed while it was read.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.sealed.unreadable
    }

    /// What was left out without anything being lost: sockets.
    pub fn skipped(&self) -> &[Unreadable] {
        &self.sealed.skipped
    }

    /// Whether it was made from a stream and not from files.
    pub fn is_stream(&self) -> bool {
        self.sealed.stream
    }

    pub(crate) fn frames(&self) -> &Frames {
        &self.frames
    }

    pub(crate) fn secrets(&self) -> &crate::epoch::Secrets {
        &self.sealed.secret
    }

    /// All entries in the order of their paths, in constant memory. A part of the catalog that cannot be read gives one
    /// error, and the rest follows.
    pub fn entries(&self) -> Entries<'_> {
        Entries::new(self, Vec::new(), Vec::new())
    }

    /// The entry at `path`, relative to the dataset, with or without the `/` at a folder's end; the empty path is the
    /// dataset itself.
    ///
    /// # Errors
    /// When the part of the catalog that would have it cannot be read.
    pub fn find(&self, path: &[u8]) -> Result<Option<Entry>> {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let mut keys = vec![path.to_vec()];
        if !path.is_empty() {
            keys.push([path, b"/"].concat());
        }
        for key in keys {
            if let Some(entry) = Entries::new(self, key.clone(), key.clone()).next().transpose()?.filter(|entry| entry.path == key) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The entry of `path` and, if it is a folder, all entries below it. Begins to read at its place in the catalog.
    ///
    /// # Errors
    /// As [`SnapshotReader::find`]; when there is no such entry there are no entries.
    pub fn below(&self, path: &[u8]) -> Result<Entries<'_>> {
        if path.is_empty() {
            // Streams have no folder above them.
            return Ok(self.entries());
        }
        Ok(match self.find(path)? {
            Some(entry) => {
                // `a` is not a folder that `ab` would be in.
                let entries = Entries::new(self, entry.path.clone(), entry.path);
                if entry.kind == EntryKind::Dir { entries } else { entries.first_alone() }
            }
            None => Entries::none(self),
        })
    }

    /// All entries the paths of which begin with `prefix`. Begins to read at their place in the catalog.
    pub fn beginning_with(&self, prefix: &[u8]) -> Entries<'_> {
        Entries::new(self, prefix.to_vec(), prefix.to_vec())
    }

    /// The entries directly in a folder, whose path ends in `/` or is empty, and not those in its own folders, over which
    /// it steps in the catalog. Begins to read at its place in the catalog.
    pub fn children(&self, folder: &[u8]) -> Children<'_> {
        Children::new(self, folder)
    }

    /// Writes a file's content to `out`, checking it on the way: on an error, what was written must not be used. Holes
    /// are written as zeros.
    ///
    /// # Errors
    /// When the entry is no file, a pack is missing or damaged, the content is not the one that was backed up, or `out`
    /// fails.
    pub fn read_file(&self, entry: &Entry, out: &mut dyn Write) -> Result<()> {
        let full = |error| Error::failed("the receiver took no more").because(error);
        let mut at = 0;
        self.read_data(entry, &mut |offset, bytes| {
            zeros(out, offset - at).map_err(full)?;
            at = offset + bytes.len() as u64;
            out.write_all(bytes).map_err(full)
        })?;
        if let EntryKind::File { size, .. } = entry.kind {
            zeros(out, size - at).map_err(full)?;
        }
        out.flush().map_err(full)
    }

    /// Hands on a file's data in order, each piece with its place in the file; between the pieces there are holes. On an
    /// error, what was handed on must not be used.
    ///
    /// # Errors
    /// As [`SnapshotReader::read_file`], and when `each` fails.
    pub fn read_data(&self, entry: &Entry, each: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let EntryKind::File { size, content, digest, sparse } = &entry.kind else {
            return Err(Error::usage(format!("{} is not a file", entry.shown_path())));
        };
        let mut layout = Layout::new(*size, sparse.as_ref());
        let wanted = Wanted { content: content.clone(), expected: Expected::of(*size, sparse.as_ref(), *digest) };
        stream(&self.frames, &self.sealed.secret, &wanted, &mut |mut chunk| {
            while !chunk.is_empty() {
                let (offset, length) = layout.place(&self.frames, chunk.len())?;
                each(offset, &chunk[..length])?;
                chunk = &chunk[length..];
            }
            Ok(())
        })
        .and_then(|()| layout.finish(&self.frames))
        .map_err(|error| error.context(format!("could not read {} from the snapshot", entry.shown_path())))
    }

    /// An entry's extended attributes, wherever they are.
    ///
    /// # Errors
    /// When the chunks that hold them cannot be read, or hold something else.
    pub fn xattrs(&self, xattrs: &Xattrs) -> Result<XattrMap> {
        let list = match xattrs {
            Xattrs::Here(map) => return Ok(map.clone()),
            Xattrs::More(list) => list,
        };
        let mut text = Vec::new();
        let mut cursor = Cursor::default();
        while let Some(at) = cursor.peek(&list.0) {
            cursor.advance(&list.0);
            let frame = self.frames.get_for(at)?;
            text.extend_from_slice(frame.chunk(at.n).ok_or_else(|| no_chunk(at))?);
            if text.len() > limits::XATTRS {
                break;
            }
        }
        parse_xattrs(&text)
    }

    /// Reads the lists of an entry that lie in chunks of their own, and checks them: holes and extended attributes.
    ///
    /// # Errors
    /// When they cannot be read, or do not fit.
    pub fn check_lists(&self, entry: &Entry) -> Result<()> {
        if let Some(attributes) = &entry.attributes {
            self.xattrs(&attributes.xattrs).map_err(|error| error.context(format!("the attributes of {}", entry.shown_path())))?;
        }
        if let EntryKind::File { size, sparse: Some(sparse @ Sparse { holes: Holes::More(_), .. }), .. } = &entry.kind {
            let mut layout = Layout::new(*size, Some(sparse));
            let mut left = sparse.data;
            let mut check = || {
                while left > 0 {
                    let (_, placed) = layout.place(&self.frames, usize::try_from(left).unwrap_or(usize::MAX))?;
                    left -= placed as u64;
                }
                layout.finish(&self.frames)
            };
            check().map_err(|error| error.context(format!("the holes of {}", entry.shown_path())))?;
        }
        Ok(())
    }

    pub(crate) fn catalog_root(&self) -> &Root {
        &self.sealed.root
    }

    /// The bytes of a segment, proven by its id.
    pub(crate) fn segment_bytes(&self, at: Member, id: &crate::epoch::ChunkId) -> Result<Vec<u8>> {
        let (frame, at) = self.segment_in(at, id)?;
        Ok(frame.chunk(at.n).ok_or_else(|| no_chunk(at))?.to_vec())
    }

    /// The frame with the segment at `at`, which is proven by its id.
    pub(crate) fn segment_in(&self, at: Member, id: &crate::epoch::ChunkId) -> Result<(Arc<Frame>, Member)> {
        let frame = self.frames.get_for(at)?;
        let bytes = frame.chunk(at.n).ok_or_else(|| no_chunk(at))?;
        if self.sealed.secret.chunk_id(bytes) != *id {
            return Err(Error::failed(format!("the catalog's segment {at} is not the one that was named")));
        }
        drop(lines(bytes)?);
        Ok((frame, at))
    }
}

fn zeros(out: &mut dyn Write, mut count: u64) -> std::io::Result<()> {
    let zeros = [0; 8192];
    while count > 0 {
        let now = usize::try_from(count).unwrap_or(usize::MAX).min(zeros.len());
        out.write_all(&zeros[..now])?;
        count -= now as u64;
    }
    Ok(())
}
