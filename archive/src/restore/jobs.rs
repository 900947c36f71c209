//! What is to be made: folders, files, links, FIFOs and devices, and further names of them.
//!
//! Does not make anything.

use super::judge::{Judge, Verdict};
use super::nodes::Node;
use super::owner::Meta;
use super::target::Target;
use crate::entry::{FileDigest, Sparse};
use crate::read::order::Wanted;
use rustix::fs::FileType;

/// What is in the place of something that is to be made.
pub(super) type There = Option<FileType>;

/// A folder.
#[derive(Debug)]
pub(super) struct FolderJob {
    pub(super) path: Vec<u8>,
    pub(super) meta: Meta,
    /// None where the folder is there.
    pub(super) make: Option<There>,
    /// Whether it is to have its owner, mode and time in the end.
    pub(super) finish: bool,
    /// Whether it counts as something that is done.
    pub(super) counts: bool,
}

/// A regular file to be made, or to be given its owner, mode and time.
#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) path: Vec<u8>,
    pub(super) meta: Meta,
    pub(super) group: Option<u64>,
    /// With its holes.
    pub(super) size: u64,
    pub(super) sparse: Option<Sparse>,
    pub(super) there: There,
    /// Its content is right already.
    pub(super) dress: bool,
}

/// A link, FIFO or device to be made.
#[derive(Debug)]
pub(super) struct NodeJob {
    pub(super) path: Vec<u8>,
    pub(super) node: Node,
    pub(super) meta: Meta,
    pub(super) group: Option<u64>,
    pub(super) there: There,
}

/// Whatever is no folder.
#[derive(Debug)]
pub(super) enum Thing {
    File(FileJob, Wanted),
    Node(NodeJob),
}

/// All that two names of one thing have in common.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looks {
    File(u64, FileDigest, Meta),
    Node(Node, Meta),
}

/// One thing to be done.
#[derive(Debug)]
pub(super) enum Job {
    Folder(FolderJob),
    Make(Thing),
    /// A further name of something that came before.
    Name(Thing),
}

/// Where a group of hard links was begun, and what is there.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) path: Vec<u8>,
    pub(super) made: Option<Looks>,
}

impl Thing {
    pub(super) fn path(&self) -> &[u8] {
        match self {
            Self::File(file, _) => &file.path,
            Self::Node(node) => &node.path,
        }
    }

    pub(super) fn group(&self) -> Option<u64> {
        match self {
            Self::File(file, _) => file.group,
            Self::Node(node) => node.group,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::File(_, wanted) => wanted.expected.size,
            Self::Node(_) => 0,
        }
    }

    pub(super) fn looks(&self) -> Looks {
        match self {
            Self::File(file, wanted) => file.looks(wanted),
            Self::Node(node) => Looks::Node(node.node.clone(), node.meta.clone()),
        }
    }

    /// What has to be done about it by its own, or why nothing has.
    pub(super) fn judged(mut self, judge: &mut Judge<'_>, target: Option<&mut Target>) -> (Self, Option<Verdict>) {
        let verdict = match &self {
            Self::File(file, wanted) => judge.file(target, file, wanted.expected.digest),
            Self::Node(node) => judge.node(target, node),
        };
        let (found, right) = match verdict {
            Verdict::Make => (None, false),
            Verdict::Replace(kind) => (Some(kind), false),
            Verdict::Dress => (None, true),
            verdict => return (self, Some(verdict)),
        };
        match &mut self {
            Self::File(file, _) => (file.there, file.dress) = (found, right),
            Self::Node(node) => node.there = found,
        }
        (self, None)
    }
}

impl FileJob {
    pub(super) fn looks(&self, wanted: &Wanted) -> Looks {
        Looks::File(self.size, wanted.expected.digest, self.meta.clone())
    }
}
