//! One record: a path, what stat told of it, its line in the catalog, and what that refers to.
//!
//! Does not know blocks.
//!
//! ```text
//! record = u32 bytes of the path that are the last record's in this block ‖ u32 n ‖ n bytes of the path
//!        ‖ stat, 68 bytes ‖ u8 whether the line is plain
//!        ‖ u32 number of the pair of names ‖ where it is the next one: the pair
//!        ‖ u64 bytes of content ‖ u32 k ‖ k references of 20 bytes ‖ u32 n ‖ n bytes of the line
//! pair   = user ‖ group, each u8 whether there is one ‖ u32 n ‖ n bytes
//! ```

use super::Known;
use crate::entry::Mtime;
use crate::reference::{Extent, Item, References, RunId};
use crate::walk::Stat;

/// What a thing's stat takes.
const STAT: usize = 68;

/// The chunks that an entry refers to, directly and through lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    /// Of each chunk, or at least of each frame, one.
    pub(crate) list: References,
    /// The bytes of its content.
    pub(crate) bytes: u64,
}

/// The names of an owner and a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
    /// Whether they are right still, once somebody has found out.
    pub(crate) holds: Option<bool>,
}

/// What must be as it was.
pub(super) fn stat_bytes(stat: &Stat) -> [u8; STAT] {
    let mut bytes = [0; STAT];
    let mut at = 0;
    let mut put = |part: &[u8]| {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    };
    put(&(stat.kind.as_raw_mode() | stat.mode).to_le_bytes());
    put(&stat.uid.to_le_bytes());
    put(&stat.gid.to_le_bytes());
    put(&stat.links.to_le_bytes());
    put(&stat.size.to_le_bytes());
    put(&time_bytes(stat.mtime));
    put(&time_bytes(stat.ctime));
    put(&stat.device.to_le_bytes());
    put(&stat.inode.to_le_bytes());
    bytes
}

/// A time in 12 bytes.
pub(super) fn time_bytes(time: Mtime) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&time.seconds.to_le_bytes());
    bytes[8..].copy_from_slice(&time.nanos.to_le_bytes());
    bytes
}

/// The reverse of [`time_bytes`].
pub(super) fn time_of(mut bytes: &[u8]) -> Option<Mtime> {
    Some(Mtime { seconds: i64::from_le_bytes(array(&mut bytes)?), nanos: u32::from_le_bytes(array(&mut bytes)?) })
}

/// Appends a record; `names` is the number of its pair, which is written where it is new.
pub(super) fn write(to: &mut Vec<u8>, shared: usize, path: &[u8], stat: &Stat, known: &Known<'_>, names: u32, new: bool) {
    // Whatever is too long for its length makes the whole too long for a block.
    let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let text = |to: &mut Vec<u8>, bytes: &[u8]| {
        to.extend_from_slice(&length(bytes.len()));
        to.extend_from_slice(bytes);
    };
    to.extend_from_slice(&length(shared));
    text(to, &path[shared..]);
    to.extend_from_slice(&stat_bytes(stat));
    to.push(u8::from(known.plain));
    to.extend_from_slice(&names.to_le_bytes());
    if new {
        for name in [known.names.0, known.names.1] {
            to.push(u8::from(name.is_some()));
            text(to, name.unwrap_or_default().as_bytes());
        }
    }
    to.extend_from_slice(&known.uses.bytes.to_le_bytes());
    to.extend_from_slice(&length(known.uses.list.0.len()));
    for Item { run, frame, extent } in &known.uses.list.0 {
        let (first, last) = match *extent {
            Extent::Range { first, last } => (first, last),
            Extent::Repeat { n, .. } => (n, n),
        };
        to.extend_from_slice(&run.0.to_le_bytes());
        for number in [*frame, first, last] {
            to.extend_from_slice(&number.to_le_bytes());
        }
    }
    text(to, known.line.as_bytes());
}

/// A record as it was read; used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) path: Vec<u8>,
    pub(super) stat: Vec<u8>,
    pub(super) plain: bool,
    pub(super) names: usize,
    pub(super) uses: Uses,
    pub(super) line: String,
}

impl Record {
    /// Reads the next record of `bytes`; `None` when there is no whole one. Pairs of names that come with it are added.
    pub(super) fn read(&mut self, bytes: &mut &[u8], pairs: &mut Vec<Pair>) -> Option<()> {
        let shared = number(bytes)?;
        if shared > self.path.len() {
            return None;
        }
        self.path.truncate(shared);
        self.path.extend_from_slice(text(bytes)?);
        self.stat.clear();
        self.stat.extend_from_slice(part(bytes, STAT)?);
        self.plain = part(bytes, 1)? == [1];
        self.names = number(bytes)?;
        if self.names == pairs.len() {
            let mut name = || {
                let there = part(bytes, 1)? == [1];
                let name = std::str::from_utf8(text(bytes)?).ok()?;
                Some(there.then(|| name.to_owned()))
            };
            pairs.push(Pair { user: name()?, group: name()?, holds: None });
        }
        self.uses.bytes = u64::from_le_bytes(array(bytes)?);
        let items = &mut self.uses.list.0;
        items.clear();
        for _ in 0..number(bytes)? {
            let run = RunId(u64::from_le_bytes(array(bytes)?));
            let mut next = || array(bytes).map(u32::from_le_bytes);
            let (frame, first, last) = (next()?, next()?, next()?);
            items.push(Item { run, frame, extent: Extent::Range { first, last } });
        }
        self.line.clear();
        self.line.push_str(std::str::from_utf8(text(bytes)?).ok()?);
        (self.names < pairs.len()).then_some(())
    }
}

fn part<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(part)
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    part(bytes, N)?.try_into().ok()
}

fn number(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(array(bytes)?)).ok()
}

fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(bytes)?;
    part(bytes, length)
}
