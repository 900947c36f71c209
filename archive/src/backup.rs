//! Making a snapshot: walk or streams → chunks → packs in the export folder, catalog, manifest.
//!
//! Does not know who asked, and sends nothing.

mod names;
mod streams;

use crate::attributes::{self, Thing};
use crate::catalog;
use crate::choose::{Choice, Chooser, Why};
use crate::content::{Reader, Stored, Trouble};
use crate::deposit::Deposit;
use crate::entry::{Attributes, Entry, EntryKind, INLINE_XATTRS, Who, Xattrs, xattrs_text};
use crate::epoch::{Epoch, Secrets};
use crate::index::{Index, PackInfo};
use crate::manifest::{Counts, Manifest, PackRef, Public, Root, Sealed, SealedRef, Unreadable, VERSION};
use crate::part::Parts;
use crate::pipeline::{self, Lane, Target};
use crate::walk::{self, Stat, Visitor};
use base::{At, Blake3, Dataset, Error, Monitor, Name, RequestId, Result, atomic, clock};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

pub use crate::walk::Source;
use names::Names;
pub use streams::Streams;

/// A manifest up to this long travels within the request; a longer one is put into the export folder too.
pub const ATTACHED: usize = 32 << 10;
/// So many things that could not be read are named, and so many bytes their names may take; all are counted.
const LEDGER: usize = 10_000;
const LEDGER_BYTES: usize = 4 << 20;
/// So many things that were left out are named.
const SKIPPED: usize = 1000;

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
    /// Keeps the spool within its limit and brings parts to the node; without it, everything waits in the export folder.
    pub parts: Option<&'a dyn Parts>,
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
    /// Lost packs of which it brings again what there still was.
    pub repairs: Vec<Blake3>,
    /// How much the snapshot holds.
    pub counts: Counts,
    /// What could not be read, or changed while it was read.
    pub unreadable: u64,
    /// What of that is named, and why.
    pub ledger: Vec<Unreadable>,
    /// How many things were left out without anything being lost: sockets.
    pub skipped: u64,
    /// How many things were left out on purpose, by reason; what is in a folder that was left out is not counted.
    pub left_out: BTreeMap<String, u64>,
}

/// Makes a snapshot of a folder with all that is in it, or of a single file.
///
/// What cannot be read goes into the errors ledger and does not stop the rest.
///
/// # Errors
/// When the source itself cannot be read, or the snapshot cannot be written; then nothing of it is left in the export
/// folder or the index.
pub fn backup_tree(spec: &BackupSpec<'_>, source: Source<'_>) -> Result<Prepared> {
    backup_chosen(spec, source, &Choice::default())
}

/// As [`backup_tree`], of what `choice` takes: nothing of the rest is stored anywhere. A single file is always taken.
///
/// # Errors
/// As [`backup_tree`].
pub fn backup_chosen(spec: &BackupSpec<'_>, source: Source<'_>, choice: &Choice) -> Result<Prepared> {
    prepare(spec, false, |run| {
        let (root, stat) = walk::open(source)?;
        let mut chooser = Chooser::new(choice, run);
        walk::walk(root, stat, &mut chooser)?;
        chooser.finish()
    })
}

/// Makes a snapshot of the single file `of`, whose content was copied for it: `copy` has that, and all else is the file's. It
/// is cut as a stream is, so that little of it is new when a few pages have changed.
///
/// # Errors
/// As [`backup_tree`], and when the copy cannot be read.
pub fn backup_copy(spec: &BackupSpec<'_>, copy: &mut dyn Read, of: &File) -> Result<Prepared> {
    prepare(spec, true, |run| {
        let stat = Stat::of(of).at("stat", spec.dataset.path())?;
        let stored = run.reader.stream(copy, &mut run.deposit, spec.monitor).map_err(|trouble| match trouble {
            Trouble::Source(error) => Error::failed(format!("could not read the copy of {}", spec.dataset)).because(error),
            Trouble::Archive(error) => error,
        })?;
        let attributes = run.attributes(b"", Thing::Opened(of.as_fd()), &stat)?;
        let Stored { size, content, digest, sparse } = stored;
        let entry = run.entry(b"", &stat, EntryKind::File { size, content, digest, sparse }, None, attributes);
        run.push(&entry).map(drop)
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

/// What of an unfinished or failed snapshot may be left is removed, in the export folder and in the index, but for what
/// belongs to the parts in `kept`: the node was asked to fetch that.
///
/// # Errors
/// With the path.
pub fn discard(export: &Path, index: &Path, id: &RequestId, kept: &[RequestId]) -> Result<()> {
    let mut stays: BTreeSet<String> = BTreeSet::new();
    for part in kept {
        stays.insert(format!("{part}.manifest"));
        stays.extend(Index::pending(index, part)?.iter().map(|pack| pack_name(id, pack)));
    }
    let begins = format!("{id}.");
    for entry in std::fs::read_dir(export).at("list", export)? {
        let entry = entry.at("list", export)?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(begins.as_bytes()) && name.to_str().is_none_or(|name| !stays.contains(name)) {
            atomic::remove(&entry.path())?;
        }
    }
    for part in Index::pending_parts(index, id)?.iter().filter(|part| !kept.contains(part)) {
        Index::discard(index, part)?;
    }
    Index::discard(index, id)
}

/// What a pack of the request `id` (the whole one) is called in the export folder.
pub fn pack_name(id: &RequestId, pack: &Blake3) -> String {
    format!("{}.{}", id.whole(), pack.hex())
}

fn prepare(spec: &BackupSpec<'_>, stream: bool, read: impl FnOnce(&mut Run<'_>) -> Result<()>) -> Result<Prepared> {
    // An attempt that a crash cut off left packs under other keys.
    let discard = || {
        let kept = spec.parts.map_or(Ok(Vec::new()), Parts::unanswered)?;
        discard(spec.export, spec.index.folder(), spec.id, &kept)
    };
    discard()?;
    let made = write(spec, stream, read);
    if made.is_err() {
        // The first error is the one to tell; what stays is removed at the next attempt.
        let _ = discard();
    }
    made
}

fn write(spec: &BackupSpec<'_>, stream: bool, read: impl FnOnce(&mut Run<'_>) -> Result<()>) -> Result<Prepared> {
    let time = clock::now();
    spec.monitor.task(&format!("reading {}", spec.dataset), None);
    if let Some(parts) = spec.parts {
        parts.begin(stream);
    }
    let target = Target { spec, recipient: spec.epoch.recipient() };
    let (done, fresh) = pipeline::run(&target, |pipeline| {
        let mut run = Run::new(spec, Deposit::new(spec.secrets, spec.index, pipeline)?);
        read(&mut run)?;
        run.finish()
    })?;
    let packs: Vec<&PackInfo> =
        spec.index.packs().iter().zip(&done.referred).filter(|(_, used)| **used).map(|(pack, _)| pack).chain(&fresh).collect();
    let public = Public {
        version: VERSION,
        id: spec.id.clone(),
        part: None,
        client: spec.client.clone(),
        node: spec.node.clone(),
        dataset: spec.dataset.clone(),
        epoch: spec.epoch.public().clone(),
        packs: packs.iter().map(|pack| (*pack).into()).collect(),
        repairs: None,
        counts: done.counts,
        sealed: SealedRef { digest: Blake3([0; 32]), size: 0 },
    };
    let sealed = Sealed {
        version: VERSION,
        id: spec.id.clone(),
        dataset: spec.dataset.clone(),
        secret: spec.secrets.clone(),
        root: done.root,
        packs: packs.iter().map(|pack| (*pack).into()).collect(),
        unreadable: done.ledger.clone(),
        skipped: done.skipped,
        tags: spec.tags.to_vec(),
        stream,
        time,
    };
    let manifest = Manifest::seal(public, &sealed, spec.epoch.recipient())?;
    let bytes = manifest.to_bytes();
    if bytes.len() > ATTACHED {
        if let Some(parts) = spec.parts {
            parts.reserve(spec, bytes.len() as u64)?;
        }
        atomic::write(&spec.export.join(format!("{}.manifest", spec.id)), &bytes, 0o640)?;
    }
    Ok(Prepared {
        digest: manifest.digest,
        manifest: bytes,
        packs: fresh.iter().map(Into::into).collect(),
        repairs: Vec::new(),
        counts: done.counts,
        unreadable: done.counts.unreadable,
        ledger: done.ledger,
        skipped: done.skipped_count,
        left_out: done.left_out,
    })
}

/// What a finished reading leaves.
struct Done {
    root: Root,
    counts: Counts,
    ledger: Vec<Unreadable>,
    skipped: Vec<Unreadable>,
    skipped_count: u64,
    left_out: BTreeMap<String, u64>,
    referred: Vec<bool>,
}

/// Attributes where there are any.
type Worn = Option<Box<Attributes>>;

/// A thing with several names, by the first of them.
struct Group {
    position: u64,
    stat: Stat,
    kind: EntryKind,
    attributes: Worn,
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
    left_out: BTreeMap<String, u64>,
    groups: HashMap<(u64, u64), Group>,
    skipped: Vec<Unreadable>,
    skipped_count: u64,
    names: Names,
    attributes: attributes::Attributes,
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
            left_out: BTreeMap::new(),
            groups: HashMap::new(),
            skipped: Vec::new(),
            skipped_count: 0,
            names: Names::default(),
            attributes: attributes::Attributes::default(),
        }
    }

    fn finish(mut self) -> Result<Done> {
        let unnamed = self.counts.unreadable - self.ledger.len() as u64;
        if unnamed > 0 {
            self.ledger.push(Unreadable { path: Vec::new(), why: format!("{unnamed} more are not named here") });
        }
        let unnamed = self.skipped_count - self.skipped.len() as u64;
        if unnamed > 0 {
            self.skipped.push(Unreadable { path: Vec::new(), why: format!("{unnamed} more are not named here") });
        }
        let deposit = &mut self.deposit;
        let root = self.catalog.finish(&mut |segment| deposit.put(Lane::Catalog, segment))?;
        let Self { counts, ledger, skipped, skipped_count, left_out, .. } = self;
        Ok(Done { root, counts, ledger, skipped, skipped_count, left_out, referred: self.deposit.finish()? })
    }

    /// Adds an entry to the catalog; false when that cannot be, and the ledger says why.
    fn push(&mut self, entry: &Entry) -> Result<bool> {
        let line = match entry.to_line() {
            Ok(line) => line,
            Err(error) => return self.unreadable(&entry.path, error.one_line()).map(|()| false),
        };
        let deposit = &mut self.deposit;
        self.catalog.push(&entry.path, &line, &mut |segment| deposit.put(Lane::Catalog, segment))?;
        self.counts.entries += 1;
        if let EntryKind::File { size, sparse, .. } = &entry.kind {
            self.counts.files += 1;
            self.counts.bytes = self.counts.bytes.saturating_add(sparse.as_ref().map_or(*size, |sparse| sparse.data));
        }
        self.spec.monitor.entries(1);
        Ok(true)
    }

    fn entry(&mut self, path: &[u8], stat: &Stat, kind: EntryKind, hard_link: Option<u64>, attributes: Worn) -> Entry {
        let (user, group) = (self.names.user(stat.uid), self.names.group(stat.gid));
        let (mode, uid, gid, mtime) = (stat.mode, stat.uid, stat.gid, stat.mtime);
        Entry { path: path.to_vec(), kind, mode, uid, gid, user, group, mtime, hard_link, attributes }
    }

    /// Reads a thing's attributes; what of them cannot be read goes into the ledger.
    fn attributes(&mut self, path: &[u8], thing: Thing<'_>, stat: &Stat) -> Result<Worn> {
        let Some(found) = self.attributes.read(thing, stat.device) else { return Ok(None) };
        for why in found.lost {
            self.unreadable(path, why)?;
        }
        let mut attributes =
            Attributes { xattrs: Xattrs::Here(found.xattrs), acl: found.acl, default_acl: found.default_acl, ..Attributes::default() };
        for who in attributes.acl.iter().chain(&attributes.default_acl).flat_map(|list| list.0.keys()) {
            let name = match *who {
                Who::User(id) => self.names.user(id),
                Who::Group(id) => self.names.group(id),
                _ => None,
            };
            attributes.names.extend(name.map(|name| (*who, name)));
        }
        if let Xattrs::Here(map) = &attributes.xattrs
            && map.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > INLINE_XATTRS
        {
            attributes.xattrs = match xattrs_text(map) {
                Ok(text) => Xattrs::More(self.reader.text(text, &mut self.deposit)?),
                Err(error) => {
                    self.unreadable(path, error.one_line())?;
                    Xattrs::default()
                }
            };
        }
        Ok((!attributes.is_empty()).then(|| Box::new(attributes)))
    }

    /// Reads a file, once more if it changes meanwhile; what was read last is stored even if it changed again.
    fn read(&mut self, path: &[u8], file: &File, mut before: Stat) -> Result<Option<(Stat, Stored, Worn)>> {
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
            let attributes = self.attributes(path, Thing::Opened(file.as_fd()), &before)?;
            let after = match Stat::of(file) {
                Ok(after) => after,
                Err(error) => {
                    self.unreadable(path, format!("could not read it: {error}"))?;
                    return Ok(None);
                }
            };
            if after.same_content(&before) {
                return Ok(Some((after, stored, attributes)));
            }
            if last {
                self.unreadable(path, "it changed while it was read; what was read is stored".into())?;
                return Ok(Some((after, stored, attributes)));
            }
            before = after;
        }
        Ok(None)
    }

    /// What is known of a thing whose other name came before, and as which entry.
    fn known(&mut self, stat: &Stat) -> Option<(Stat, EntryKind, Worn, u64)> {
        let identity = (stat.device, stat.inode);
        let group = self.groups.get_mut(&identity).filter(|group| group.stat.same_content(stat))?;
        group.left -= 1;
        if group.left > 0 {
            return Some((group.stat, group.kind.clone(), group.attributes.clone(), group.position));
        }
        self.groups.remove(&identity).map(|group| (group.stat, group.kind, group.attributes, group.position))
    }

    /// Adds a thing that is the first of its names, or has one alone.
    fn push_first(&mut self, path: &[u8], stat: Stat, kind: EntryKind, attributes: Worn) -> Result<()> {
        let several = stat.links > 1;
        let position = self.counts.entries;
        let entry = self.entry(path, &stat, kind, several.then_some(position), attributes);
        if self.push(&entry)? && several {
            let Entry { kind, attributes, .. } = entry;
            self.groups.insert((stat.device, stat.inode), Group { position, stat, kind, attributes, left: stat.links - 1 });
        }
        Ok(())
    }

    /// Adds a further name.
    fn push_further(&mut self, path: &[u8], known: (Stat, EntryKind, Worn, u64)) -> Result<()> {
        let (stat, kind, attributes, position) = known;
        let entry = self.entry(path, &stat, kind, Some(position), attributes);
        self.push(&entry).map(drop)
    }
}

impl Visitor for Run<'_> {
    fn folder(&mut self, path: &[u8], thing: Thing<'_>, stat: &Stat) -> Result<()> {
        let attributes = self.attributes(path, thing, stat)?;
        let entry = self.entry(path, stat, EntryKind::Dir, None, attributes);
        self.push(&entry).map(drop)
    }

    fn node(&mut self, path: &[u8], thing: Thing<'_>, stat: Stat, kind: EntryKind) -> Result<()> {
        if let Some(known) = self.known(&stat).filter(|(_, before, ..)| *before == kind) {
            return self.push_further(path, known);
        }
        let attributes = self.attributes(path, thing, &stat)?;
        self.push_first(path, stat, kind, attributes)
    }

    fn file(&mut self, path: &[u8], file: &File, stat: Stat) -> Result<()> {
        if let Some(known) = self.known(&stat) {
            return self.push_further(path, known);
        }
        let Some((stat, stored, attributes)) = self.read(path, file, stat)? else { return Ok(()) };
        let Stored { size, content, digest, sparse } = stored;
        self.push_first(path, stat, EntryKind::File { size, content, digest, sparse }, attributes)
    }

    fn skipped(&mut self, path: &[u8], why: &str) -> Result<()> {
        self.skipped_count += 1;
        let shown = base::text::printable(&String::from_utf8_lossy(path));
        self.spec.monitor.note(&format!("{shown} is left out: {why}"));
        if self.skipped.len() < SKIPPED {
            self.skipped.push(Unreadable { path: path.to_vec(), why: why.into() });
        }
        Ok(())
    }

    fn left_out(&mut self, path: &[u8], why: Why<'_>) -> Result<()> {
        // Who left it out by its name knows; a file that has grown is another matter.
        if why == Why::Size {
            self.skipped(path, &why.to_string())?;
        }
        *self.left_out.entry(why.to_string()).or_default() += 1;
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
