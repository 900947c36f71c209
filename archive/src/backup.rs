//! Making a snapshot: walk or streams → chunks → packs in the export folder, catalog, manifest.
//!
//! Does not know who asked, and sends nothing.

mod streams;

use crate::catalog;
use crate::content::{Reader, Stored, Trouble};
use crate::deposit::Deposit;
use crate::entry::{Entry, EntryKind};
use crate::epoch::{Epoch, Secrets};
use crate::index::{Index, PackInfo};
use crate::manifest::{Counts, Manifest, PackRef, Public, Root, Sealed, SealedPack, SealedRef, Unreadable, VERSION};
use crate::pipeline::{self, Lane, Target};
use crate::walk::{self, Stat, Visitor};
use base::{At, Blake3, Dataset, Error, Monitor, Name, RequestId, Result, atomic, clock};
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

pub use crate::walk::Source;
pub use streams::Streams;

/// A manifest up to this long travels within the request; a longer one is put into the export folder too.
pub const ATTACHED: usize = 32 << 10;
/// So many things that could not be read are named, and so many bytes their names may take; all are counted.
const LEDGER: usize = 10_000;
const LEDGER_BYTES: usize = 4 << 20;

/// What to make a snapshot with.
#[derive(Clone, Copy)]
pub struct BackupSpec<'a> {
    /// The request's id.
    pub id: &'a RequestId,
    /// This client.
    pub client: &'a Name,
    /// The node it is for.
    pub node: &'a Name,
    /// The dataset.
    pub dataset: &'a Dataset,
    /// The request's tags.
    pub tags: &'a [String],
    /// The client's chunk secret.
    pub secrets: &'a Secrets,
    /// The key that all is sealed to.
    pub epoch: &'a Epoch,
    /// What the node has acknowledged already, of this epoch.
    pub index: &'a Index,
    /// The node's export folder.
    pub export: &'a Path,
    /// Is told of progress.
    pub monitor: &'a dyn Monitor,
}

/// A snapshot that is ready to be asked for.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The manifest file.
    pub manifest: Vec<u8>,
    /// Its digest, which the request names.
    pub digest: Blake3,
    /// The packs that are new, each in the export folder as `<id>.<hex>`.
    pub packs: Vec<PackRef>,
    /// How much the snapshot holds.
    pub counts: Counts,
    /// What could not be read, or changed while it was read.
    pub unreadable: u64,
}

/// Makes a snapshot of a folder with all that is in it, or of a single file.
///
/// What cannot be read goes into the errors ledger and does not stop the rest.
///
/// # Errors
/// When the source itself cannot be read, or the snapshot cannot be written; then nothing of it is left in the export
/// folder or the index.
pub fn backup_tree(spec: &BackupSpec<'_>, source: Source<'_>) -> Result<Prepared> {
    prepare(spec, false, |run| {
        let (root, stat) = walk::open(source)?;
        walk::walk(root, stat, run)
    })
}

/// Makes a snapshot of streams of any length and of trees: `fill` puts them, and each stream becomes one file. There is no snapshot unless all
/// of them were whole.
///
/// # Errors
/// As [`backup_tree`], when `fill` fails, and when it put nothing.
pub fn backup_streams(spec: &BackupSpec<'_>, fill: impl FnOnce(&mut Streams<'_, '_>) -> Result<()>) -> Result<Prepared> {
    prepare(spec, true, |run| {
        fill(&mut Streams::new(run))?;
        if run.counts.files == 0 {
            return Err(Error::failed(format!("{} gave nothing to back up", run.spec.dataset)));
        }
        Ok(())
    })
}

/// What of an unfinished or failed snapshot may be left is removed: in the export folder and in the index.
///
/// # Errors
/// With the path.
pub fn discard(export: &Path, index: &Path, id: &RequestId) -> Result<()> {
    let begins = format!("{id}.");
    for entry in std::fs::read_dir(export).at("list", export)? {
        let entry = entry.at("list", export)?;
        if entry.file_name().as_encoded_bytes().starts_with(begins.as_bytes()) {
            atomic::remove(&entry.path())?;
        }
    }
    Index::discard(index, id)
}

fn prepare(spec: &BackupSpec<'_>, stream: bool, read: impl FnOnce(&mut Run<'_>) -> Result<()>) -> Result<Prepared> {
    // An attempt that a crash cut off left packs under other keys.
    discard(spec.export, spec.index.folder(), spec.id)?;
    let made = write(spec, stream, read);
    if made.is_err() {
        // The first error is the one to tell; what stays is removed at the next attempt.
        let _ = discard(spec.export, spec.index.folder(), spec.id);
    }
    made
}

fn write(spec: &BackupSpec<'_>, stream: bool, read: impl FnOnce(&mut Run<'_>) -> Result<()>) -> Result<Prepared> {
    let time = clock::now();
    spec.monitor.task(&format!("reading {}", spec.dataset), None);
    let target = Target { export: spec.export, id: spec.id, recipient: spec.epoch.recipient(), index: spec.index };
    let (done, fresh) = pipeline::run(&target, |pipeline| {
        let mut run = Run::new(spec, Deposit::new(spec.secrets, spec.index, pipeline)?);
        read(&mut run)?;
        run.finish()
    })?;
    let packs: Vec<&PackInfo> =
        spec.index.packs().iter().zip(&done.referred).filter(|(_, used)| **used).map(|(pack, _)| pack).chain(&fresh).collect();
    let named = |pack: &&PackInfo| PackRef { digest: pack.digest, size: pack.size };
    let public = Public {
        version: VERSION,
        id: spec.id.clone(),
        client: spec.client.clone(),
        node: spec.node.clone(),
        dataset: spec.dataset.clone(),
        epoch: spec.epoch.public().clone(),
        packs: packs.iter().map(named).collect(),
        counts: done.counts,
        sealed: SealedRef { digest: Blake3([0; 32]), size: 0 },
    };
    let sealed = Sealed {
        version: VERSION,
        id: spec.id.clone(),
        dataset: spec.dataset.clone(),
        secret: spec.secrets.clone(),
        root: done.root,
        packs: packs.iter().map(|p| SealedPack { run: p.run, first: p.first, frames: p.frames, table: p.table }).collect(),
        unreadable: done.ledger,
        tags: spec.tags.to_vec(),
        stream,
        time,
    };
    let manifest = Manifest::seal(public, &sealed, spec.epoch.recipient())?;
    let bytes = manifest.to_bytes();
    if bytes.len() > ATTACHED {
        atomic::write(&spec.export.join(format!("{}.manifest", spec.id)), &bytes, 0o640)?;
    }
    Ok(Prepared {
        digest: manifest.digest,
        manifest: bytes,
        packs: fresh.iter().map(|pack| named(&pack)).collect(),
        counts: done.counts,
        unreadable: done.counts.unreadable,
    })
}

/// What a finished reading leaves.
struct Done {
    root: Root,
    counts: Counts,
    ledger: Vec<Unreadable>,
    referred: Vec<bool>,
}

/// A file with several names, by the first of them.
struct Group {
    position: u64,
    stat: Stat,
    stored: Stored,
    /// How many names are still to come, at most.
    left: u64,
}

/// One backup on its way.
struct Run<'a> {
    spec: &'a BackupSpec<'a>,
    deposit: Deposit<'a>,
    catalog: catalog::Writer<'a>,
    reader: Reader,
    counts: Counts,
    ledger: Vec<Unreadable>,
    ledger_bytes: usize,
    groups: HashMap<(u64, u64), Group>,
    users: HashMap<u32, Option<String>>,
    group_names: HashMap<u32, Option<String>>,
}

impl<'a> Run<'a> {
    fn new(spec: &'a BackupSpec<'a>, deposit: Deposit<'a>) -> Self {
        Self {
            spec,
            deposit,
            catalog: catalog::Writer::new(spec.secrets),
            reader: Reader::new(spec.secrets),
            counts: Counts::default(),
            ledger: Vec::new(),
            ledger_bytes: 0,
            groups: HashMap::new(),
            users: HashMap::new(),
            group_names: HashMap::new(),
        }
    }

    fn finish(mut self) -> Result<Done> {
        let unnamed = self.counts.unreadable - self.ledger.len() as u64;
        if unnamed > 0 {
            self.ledger.push(Unreadable { path: Vec::new(), why: format!("{unnamed} more are not named here") });
        }
        let deposit = &mut self.deposit;
        let root = self.catalog.finish(&mut |segment| deposit.put(Lane::Catalog, segment))?;
        Ok(Done { root, counts: self.counts, ledger: self.ledger, referred: self.deposit.finish()? })
    }

    fn push(&mut self, entry: &Entry) -> Result<()> {
        let line = entry.to_line()?;
        let deposit = &mut self.deposit;
        self.catalog.push(&entry.path, &line, &mut |segment| deposit.put(Lane::Catalog, segment))?;
        self.counts.entries += 1;
        self.spec.monitor.entries(1);
        Ok(())
    }

    fn entry(&mut self, path: &[u8], stat: &Stat, kind: EntryKind) -> Entry {
        let name = |os: &std::ffi::OsStr| os.to_str().map(str::to_owned);
        let user =
            self.users.entry(stat.uid).or_insert_with(|| uzers::get_user_by_uid(stat.uid).and_then(|user| name(user.name()))).clone();
        let group = self
            .group_names
            .entry(stat.gid)
            .or_insert_with(|| uzers::get_group_by_gid(stat.gid).and_then(|group| name(group.name())))
            .clone();
        Entry { path: path.to_vec(), kind, mode: stat.mode, uid: stat.uid, gid: stat.gid, user, group, mtime: stat.mtime }
    }

    /// Reads a file, once more if it changes meanwhile; what was read last is stored even if it changed again.
    fn read(&mut self, path: &[u8], file: &File, mut before: Stat) -> Result<Option<(Stat, Stored)>> {
        for last in [false, true] {
            let read = self.reader.file(file, before.size, &mut self.deposit, self.spec.monitor);
            let stored = match read {
                Ok(stored) => stored,
                Err(Trouble::Archive(error)) => return Err(error),
                Err(Trouble::Source(error)) => {
                    self.unreadable(path, format!("could not read it: {error}"))?;
                    return Ok(None);
                }
            };
            let after = match Stat::of(file) {
                Ok(after) => after,
                Err(error) => {
                    self.unreadable(path, format!("could not read it: {error}"))?;
                    return Ok(None);
                }
            };
            if after.same_content(&before) {
                return Ok(Some((after, stored)));
            }
            if last {
                self.unreadable(path, "it changed while it was read; what was read is stored".into())?;
                return Ok(Some((after, stored)));
            }
            before = after;
        }
        Ok(None)
    }
}

impl Visitor for Run<'_> {
    fn folder(&mut self, path: &[u8], stat: &Stat) -> Result<()> {
        let entry = self.entry(path, stat, EntryKind::Dir);
        self.push(&entry)
    }

    fn link(&mut self, path: &[u8], stat: &Stat, target: Vec<u8>) -> Result<()> {
        let entry = self.entry(path, stat, EntryKind::Link { target });
        self.push(&entry)
    }

    fn file(&mut self, path: &[u8], file: &File, stat: Stat) -> Result<()> {
        let identity = (stat.device, stat.inode);
        let known = self.groups.get_mut(&identity).filter(|group| group.stat.same_content(&stat)).map(|group| {
            group.left -= 1;
            (group.stat, group.stored.clone(), group.position, group.left)
        });
        let (stat, stored, hard_link) = match known {
            Some((stat, stored, position, left)) => {
                if left == 0 {
                    self.groups.remove(&identity);
                }
                (stat, stored, Some(position))
            }
            None => {
                let Some((stat, stored)) = self.read(path, file, stat)? else { return Ok(()) };
                let position = self.counts.entries;
                if stat.links > 1 {
                    self.groups.insert(identity, Group { position, stat, stored: stored.clone(), left: stat.links - 1 });
                }
                (stat, stored, (stat.links > 1).then_some(position))
            }
        };
        let kind = EntryKind::File { size: stored.size, content: stored.content, digest: stored.digest, hard_link };
        let entry = self.entry(path, &stat, kind);
        self.push(&entry)?;
        self.counts.files += 1;
        self.counts.bytes = self.counts.bytes.saturating_add(stored.size);
        Ok(())
    }

    fn unreadable(&mut self, path: &[u8], why: String) -> Result<()> {
        self.counts.unreadable += 1;
        let shown = base::text::printable(&String::from_utf8_lossy(path));
        self.spec.monitor.problem(&Error::failed(format!("{shown}: {why}")));
        self.ledger_bytes += path.len() + why.len();
        if self.ledger.len() < LEDGER && self.ledger_bytes < LEDGER_BYTES {
            self.ledger.push(Unreadable { path: path.to_vec(), why });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
