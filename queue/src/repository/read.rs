//! Reading a repository's objects: walks along the branch, commits with their trees, files, proofs.
//!
//! Every object's header is looked at before the object is read, and every walk has an end.

use super::{Repository, oid_of};
use crate::history::Note;
use crate::request::FILE_LIMIT;
use crate::signature::COMMIT_LIMIT;
use crate::tree::{self, PLAIN, TREE_LIMIT};
use base::{Dataset, Error, Proof, RequestId, Result};
use git2::{ObjectType, Oid};

/// The most commits that one call of [`Repository::commits`] or [`Repository::walk`] goes through.
pub const WALK_LIMIT: usize = 1_000_000;
/// The most bytes of commits and trees that one call of [`Repository::commits`] holds.
const COMMITS_TOTAL: usize = 256 << 20;

/// One entry of a commit's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// The name, as it stands in the tree.
    pub name: Vec<u8>,
    /// The mode; a plain file has 0o100644.
    pub mode: u32,
    /// The object's id, 40 hex digits.
    pub oid: String,
    /// The content's size in bytes; 0 for what is no plain file.
    pub size: u64,
}

/// A commit and its tree, raw and taken apart.
#[derive(Debug, Clone)]
pub struct CommitFiles {
    /// The commit's id, 40 hex digits.
    pub oid: String,
    /// The commit object.
    pub raw: Vec<u8>,
    /// The tree object.
    pub tree: Vec<u8>,
    /// The tree's entries.
    pub entries: Vec<TreeEntry>,
}

/// A file of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// The newest commit that carries it.
    pub commit: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl Repository {
    /// The ids of the commits after `from_exclusive` up to `to`, oldest first. Without `from_exclusive` the oldest is
    /// the one without a parent.
    ///
    /// # Errors
    /// Of kind refused, when `to` does not descend from there in a straight line of at most [`WALK_LIMIT`].
    pub fn walk(&self, from_exclusive: Option<&str>, to: &str) -> Result<Vec<String>> {
        let from = from_exclusive.map(oid_of).transpose()?;
        let mut oids = Vec::new();
        let mut next = Some(oid_of(to)?);
        while next != from {
            let Some(oid) = next else {
                return Err(Error::refused(format!("{to} does not descend from {}", from_exclusive.unwrap_or("the beginning"))));
            };
            if oids.len() == WALK_LIMIT {
                return Err(Error::refused(format!("there are more than {WALK_LIMIT} commits before {to}")));
            }
            let raw = self.raw(oid, ObjectType::Commit, COMMIT_LIMIT)?;
            let (_, parents) = tree::links(&raw)?;
            next = match parents[..] {
                [] => None,
                [parent] => Some(parent),
                _ => return Err(Error::refused(format!("commit {oid} is a merge, and this history is a straight line"))),
            };
            oids.push(oid.to_string());
        }
        oids.reverse();
        Ok(oids)
    }

    /// The commit `oid` with its tree.
    ///
    /// # Errors
    /// Of kind refused, when an object is longer than allowed or no such object.
    pub fn load(&self, oid: &str) -> Result<CommitFiles> {
        let raw = self.raw(oid_of(oid)?, ObjectType::Commit, COMMIT_LIMIT)?;
        let (tree, _) = tree::links(&raw)?;
        let tree = self.raw(tree, ObjectType::Tree, TREE_LIMIT)?;
        let entries = self.entries_of(&tree)?;
        Ok(CommitFiles { oid: oid.to_owned(), raw, tree, entries })
    }

    /// The commits after `from_exclusive` up to `to`, oldest first, as [`Repository::walk`] finds them. For long
    /// histories `walk` and [`Repository::load`] need less memory.
    ///
    /// # Errors
    /// As these.
    pub fn commits(&self, from_exclusive: Option<&str>, to: &str) -> Result<Vec<CommitFiles>> {
        let mut room = COMMITS_TOTAL;
        let mut commits = Vec::new();
        for oid in self.walk(from_exclusive, to)? {
            let commit = self.load(&oid)?;
            room = room
                .checked_sub(commit.raw.len() + 3 * commit.tree.len())
                .ok_or_else(|| Error::refused(format!("the commits before {to} are too large to be held at once")))?;
            commits.push(commit);
        }
        Ok(commits)
    }

    /// The entries of the tree `oid`, for trees with folders in them.
    ///
    /// # Errors
    /// Of kind refused, when it is longer than allowed or no tree.
    pub fn entries(&self, oid: &str) -> Result<Vec<TreeEntry>> {
        self.entries_of(&self.raw(oid_of(oid)?, ObjectType::Tree, TREE_LIMIT)?)
    }

    fn entries_of(&self, raw: &[u8]) -> Result<Vec<TreeEntry>> {
        let odb = self.odb()?;
        let entry = |entry: tree::RawEntry<'_>| {
            // Only plain files have a size worth asking for; what a link to another repository names is not here at all.
            let size = if entry.mode == PLAIN {
                let (size, kind) = odb.read_header(entry.oid).map_err(|error| self.broken("read an object of", error))?;
                if kind != ObjectType::Blob {
                    return Err(Error::refused("the tree calls something a file that is none"));
                }
                size as u64
            } else {
                0
            };
            Ok(TreeEntry { name: entry.name.to_vec(), mode: entry.mode, oid: entry.oid.to_string(), size })
        };
        tree::parse(raw)?.into_iter().map(entry).collect()
    }

    /// The content of the blob `oid`, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// Of kind refused, when it is longer or no blob.
    pub fn blob(&self, oid: &str, limit: usize) -> Result<Vec<u8>> {
        self.raw(oid_of(oid)?, ObjectType::Blob, limit)
    }

    /// An object's content. Its header is looked at first, so that nothing is allocated by a length that is too long.
    pub(super) fn raw(&self, oid: Oid, kind: ObjectType, limit: usize) -> Result<Vec<u8>> {
        let odb = self.odb()?;
        let (size, found) = odb.read_header(oid).map_err(|error| self.broken("read an object of", error))?;
        if found != kind {
            return Err(Error::refused(format!("{oid} is a {found}, and a {kind} was expected")));
        }
        if size > limit {
            return Err(Error::refused(format!("the {kind} {oid} has {size} bytes, and at most {limit} are allowed")));
        }
        let object = odb.read(oid).map_err(|error| self.broken("read an object of", error))?;
        Ok(object.data().to_vec())
    }

    /// The newest file called `name` in the branch's history.
    ///
    /// # Errors
    /// With the path.
    pub fn find_file(&self, name: &str) -> Result<Option<FoundFile>> {
        let Some(commit) = self.history()?.newest_with(self, self.tip_oid()?, name)? else { return Ok(None) };
        self.file_of(&commit, name).map(|bytes| Some(FoundFile { commit, bytes }))
    }

    /// The content of the plain file `name` in the tree of `commit`, at most 64 KiB.
    ///
    /// # Errors
    /// When it is not there.
    pub fn file_of(&self, commit: &str, name: &str) -> Result<Vec<u8>> {
        let files = self.load(commit)?;
        let entry = files.entries.iter().find(|entry| entry.name == name.as_bytes() && entry.mode == PLAIN);
        let entry = entry.ok_or_else(|| Error::failed(format!("there is no {name} in commit {commit} of {}", self.path.display())))?;
        self.blob(&entry.oid, FILE_LIMIT)
    }

    /// The raw proof of request `id` as `commit` carries it, and what travels with it (`MF<id>`).
    ///
    /// # Errors
    /// When the commit has no such request.
    pub fn proof(&self, commit: &str, id: &RequestId) -> Result<(Proof, Option<Vec<u8>>)> {
        let files = self.load(commit)?;
        let read = |name: String| {
            let entry = files.entries.iter().find(|entry| entry.name == name.as_bytes() && entry.mode == PLAIN);
            entry.map(|entry| self.blob(&entry.oid, FILE_LIMIT)).transpose()
        };
        let name = crate::request::request_name(id);
        let request = read(name.clone())?
            .ok_or_else(|| Error::failed(format!("there is no {name} in commit {commit} of {}", self.path.display())))?;
        let attachment = read(crate::request::attachment_name(id))?;
        Ok((Proof { commit: files.raw, tree: files.tree, request }, attachment))
    }

    /// The newest request for `dataset` in the branch's history: the next one's `prev`.
    ///
    /// # Errors
    /// With the path.
    pub fn last_request(&self, dataset: &Dataset) -> Result<Option<RequestId>> {
        self.history()?.last_request(self, self.tip_oid()?, dataset)
    }

    /// The highest `seq` in the branch's history; 0 before the first request.
    ///
    /// # Errors
    /// With the path.
    pub fn last_seq(&self) -> Result<u64> {
        self.history()?.last_seq(self, self.tip_oid()?)
    }

    /// What the history notes about one commit: its files, and for requests what they ask for.
    pub(crate) fn notes(&self, oid: &str) -> Result<Vec<Note>> {
        let files = self.load(oid)?;
        let note = |entry: &TreeEntry| -> Option<Note> {
            let name = String::from_utf8(entry.name.clone()).ok().filter(|_| entry.mode == PLAIN)?;
            let request = name.starts_with("RQ").then(|| self.blob(&entry.oid, FILE_LIMIT)).and_then(Result::ok);
            let request = request.and_then(|bytes| crate::Request::parse(&bytes).ok()).filter(|r| r.file_name() == name);
            Some(Note { commit: oid.to_owned(), name, request: request.map(|r| (r.seq, r.dataset.to_string())) })
        };
        Ok(files.entries.iter().filter_map(note).collect())
    }
}
