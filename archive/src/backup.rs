//! Making a snapshot: walk or streams → chunks → packs in the export folder, catalog, manifest.
//!
//! Does not know who asked, and sends nothing.

mod names;
mod run;
mod streams;

use crate::attributes::Thing;
use crate::cache::{self, CachePlace};
use crate::choose::Choice;
use crate::content::{Stored, Trouble};
use crate::deposit::Deposit;
use crate::entry::EntryKind;
use crate::epoch::{Epoch, Secrets};
use crate::index::{Index, PackInfo};
use crate::manifest::{self, Counts, Manifest, PackRef, Public, Sealed, SealedRef, Unreadable, VERSION};
use crate::mend::{Lost, Mended, Mender};
use crate::part::Parts;
use crate::pipeline::{self, Target};
use crate::usage::Outcome;
use crate::walk::{Root, Stat};
use base::{At, Blake3, Dataset, Error, Monitor, Name, RequestId, Result, atomic, clock};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

pub use crate::walk::Source;
use run::Run;
pub use streams::Streams;

/// A manifest up to this long travels within the request; a longer one is put into the export folder too.
pub const ATTACHED: usize = 32 << 10;

/// zstd's level where nobody says another: higher ones cost more time than they save bytes.
pub const DEFAULT_LEVEL: i32 = 3;

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
    /// What was in packs that the node has lost: what of it is still in the source is brought again. Everything is read then.
    pub lost: Option<&'a Lost>,
    /// Is told of progress.
    pub monitor: &'a dyn Monitor,
    /// Keeps the spool within its limit and brings parts to the node; without it, everything waits in the export folder.
    pub parts: Option<&'a dyn Parts>,
    /// zstd's level, from 1 to 19; more would need windows that readers refuse.
    pub level: i32,
    /// Where is remembered what a tree held, so that what has not changed is not read again; without it all is read.
    pub cache: Option<CachePlace<'a>>,
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
    prepare(spec, false, |run| run.tree(b"", Root::open(source)?, choice))
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
        let Stored { size, content, digest, sparse, .. } = stored;
        let entry = run.entry(b"", &stat, EntryKind::File { size, content, digest, sparse }, None, attributes);
        run.push(&entry, None).map(drop)
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
    let entries = match std::fs::read_dir(export) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        other => Some(other.at("list", export)?),
    };
    for entry in entries.into_iter().flatten() {
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
        let mut run = Run::new(spec, Deposit::new(spec.secrets, spec.index, spec.id, spec.dataset, pipeline)?.mending(Mender::new(spec)));
        read(&mut run)?;
        run.finish()
    })?;
    let (repairs, mends) = done.mended.map_or_else(Default::default, |(repairs, packs)| (Some(repairs), packs));
    let known = spec.index.packs().iter().enumerate().filter(|(number, _)| done.used.refers(*number)).map(|(_, pack)| pack);
    done.used.note(spec.index, spec.id, spec.dataset, &fresh)?;
    if let Some(trouble) = spec.index.trouble() {
        spec.monitor.note(&trouble);
    }
    let packs: Vec<&PackInfo> = known.chain(&fresh).chain(&mends).collect();
    let public = Public {
        version: VERSION,
        id: spec.id.clone(),
        part: None,
        client: spec.client.clone(),
        node: spec.node.clone(),
        dataset: spec.dataset.clone(),
        epoch: spec.epoch.public().clone(),
        packs: packs.iter().map(|pack| (*pack).into()).collect(),
        repairs: repairs.clone(),
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
    done.remembered.finish();
    Ok(Prepared {
        digest: manifest.digest,
        manifest: bytes,
        packs: fresh.iter().chain(&mends).map(Into::into).collect(),
        repairs: repairs.map(|repairs| repairs.of).unwrap_or_default(),
        counts: done.counts,
        unreadable: done.counts.unreadable,
        ledger: done.ledger,
        skipped: done.skipped_count,
        left_out: done.left_out,
    })
}

/// What a finished reading leaves.
struct Done {
    root: manifest::Root,
    counts: Counts,
    ledger: Vec<Unreadable>,
    skipped: Vec<Unreadable>,
    skipped_count: u64,
    left_out: BTreeMap<String, u64>,
    used: Outcome,
    mended: Option<Mended>,
    remembered: cache::New,
}

#[cfg(test)]
mod tests;
