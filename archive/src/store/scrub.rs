//! Scrubbing: what is kept is read and hashed again, a share at a time; what is damaged is set aside and named.
//!
//! Has no key and knows no signatures: who calls it proves requests. Decides what is believable before anything is moved: a
//! disk that is away looks as if everything were damaged.

use super::Store;
use super::layout::{ACCEPTED, COMMIT, FILE_MODE, Layout, MANIFEST, REFS, REQUEST, TREE, folder};
use super::listing::{CONTENT_LIMIT, StoredContent, read, signed_files};
use super::turns::Turns;
use super::usage::Usage;
use crate::manifest::Manifest;
use base::{At, Blake3, Dataset, Error, Kind, Monitor, Payload, Proof, RequestId, Result, Sha256, atomic, beneath};
use rustix::fs::{Advice, fadvise};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is read at once.
const BLOCK: usize = 1 << 20;
/// After so many bytes the system is told that it need not keep them.
const RELEASE: u64 = 8 << 20;
/// How often it is written down how far it came.
const KEEP: Duration = Duration::from_secs(60);
/// After this long an unfinished file was left by a killed process.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
/// So much damage is believed whatever else was read; beyond it, it must be the lesser part.
const FEW: usize = 3;
/// How many snapshots are named for one pack.
const NAMED: usize = 1000;

/// What is asked of a scrub.
pub struct ScrubSpec<'a> {
    /// The share of packs and of snapshots that is looked at, in percent, above 0; 100 is all.
    pub percent: f64,
    /// Act on damage even where it is more than is believed.
    pub believe: bool,
    /// What the bytes of a proof were signed for, when they are intact.
    pub intact: &'a dyn Fn(&RequestId, &Proof) -> Result<Payload>,
    /// What the node's history has of a request: its proof, and what travelled with it.
    pub copy: &'a dyn Fn(&RequestId) -> Option<Copied>,
    /// Is told of bytes.
    pub monitor: &'a dyn Monitor,
}

/// What a history of requests has of one: its proof, and the manifest or list of refs that travelled with it.
pub type Copied = (Proof, Option<Vec<u8>>);

/// What is damaged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damaged {
    /// A pack.
    Pack(Blake3),
    /// What lies beside the packs of a snapshot: its proof, or its manifest.
    Snapshot(RequestId),
}

/// One damage, and whom it touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What is damaged.
    pub what: Damaged,
    /// How.
    pub why: String,
    /// The snapshots that need it, by dataset; at most 1,000.
    pub touches: Vec<(Dataset, RequestId)>,
}

/// What a scrub has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Packs that were read.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Snapshots whose files were read.
    pub snapshots: u64,
    /// What is damaged or missing now, also what was known before.
    pub damage: Vec<Damage>,
    /// Files of snapshots that were damaged and came back from the node's own history, a sentence each.
    pub mended: Vec<String>,
    /// Why nothing of it was acted on, where it is not believed.
    pub doubt: Option<String>,
}

/// Whether `bad` of `all` things can be damage. A disk that is away, another one in its place, or a folder that is not
/// mounted damages most of them at once.
pub fn believable(bad: usize, all: usize) -> bool {
    bad <= FEW || bad.saturating_mul(2) <= all
}

/// How one pack was found.
enum Look {
    Whole,
    Damaged(String),
    Gone,
}

impl Store {
    /// Looks at the share whose turn it is. Packs that are damaged go to `damaged/`; those that a snapshot names and that
    /// are nowhere are told as well, in every run.
    ///
    /// # Errors
    /// When the folders cannot be listed, or the disk does not answer; then nothing was moved.
    pub fn scrub(&self, spec: &ScrubSpec<'_>) -> Result<ScrubReport> {
        let layout = &self.layout;
        let mut report = ScrubReport::default();
        let kept = kept(layout)?;
        let mut broken: BTreeMap<RequestId, String> = BTreeMap::new();
        let needed = needed(layout, &kept, &mut broken)?;
        let present = present(layout)?;
        let names = present.iter().map(|pack| format!("pack/{}", pack.hex())).chain(kept.keys().map(|id| format!("snapshot/{id}")));
        let mut turns = Turns::begin(&layout.root().join("scrub.turns"), names);
        let mut wrong: BTreeMap<Blake3, String> = BTreeMap::new();
        let mut written = Instant::now();
        // Each kind has its own share, so that many small snapshots do not take the packs' turns.
        let due = turns.due_of("pack/", spec.percent).into_iter().chain(turns.due_of("snapshot/", spec.percent));
        // What is known to be broken is looked at in every run: it may have come right.
        let known: Vec<String> = broken.keys().map(|id| format!("snapshot/{id}")).collect();
        let due: BTreeSet<String> = due.chain(known).collect();
        for name in due {
            let mut fine = true;
            if let Some(digest) = name.strip_prefix("pack/").and_then(Blake3::from_hex) {
                match look(layout, &digest, spec.monitor, &mut report.bytes) {
                    Look::Whole => {
                        report.packs += 1;
                        if layout.damaged(&digest).exists() {
                            came_back(self, &digest)?;
                        }
                    }
                    // Pruned since it was listed, or told as missing below.
                    Look::Gone => {}
                    Look::Damaged(why) => {
                        report.packs += 1;
                        fine = false;
                        wrong.insert(digest, why);
                    }
                }
            } else if let Some((id, path)) = name.strip_prefix("snapshot/").and_then(|id| kept.get_key_value(&id.parse().ok()?)) {
                report.snapshots += 1;
                // What a killed process has left beside its files: nothing else looks into so many folders.
                atomic::sweep_drafts(path, ABANDONED);
                match self.look_at_snapshot(id, path, spec, &mut report.mended) {
                    Ok(()) => drop(broken.remove(id)),
                    // Forgotten since it was listed.
                    Err(_) if !path.exists() => drop(broken.remove(id)),
                    Err(error) => {
                        fine = false;
                        broken.insert(id.clone(), error.one_line());
                    }
                }
            }
            // What is damaged has its turn again in the next run, until it is mended or gone.
            if fine {
                turns.done(&name)
            } else {
                turns.again(&name)
            }
            if written.elapsed() >= KEEP {
                turns.keep()?;
                written = Instant::now();
            }
        }
        let missing: BTreeSet<Blake3> = needed.difference(&present).copied().collect();
        let newly_missing = missing.iter().filter(|pack| !layout.damaged(pack).exists()).count();
        if !wrong.is_empty() || !broken.is_empty() {
            answers(layout.root())?;
        }
        let looked = usize::try_from(report.packs).unwrap_or(usize::MAX);
        let doubt = if !believable(wrong.len(), looked) {
            Some(format!("{} of {looked} packs that were read seem to be damaged", wrong.len()))
        } else if !believable(newly_missing, needed.len()) {
            Some(format!("{newly_missing} of {} packs that are needed are not there", needed.len()))
        } else {
            None
        };
        report.doubt = doubt.filter(|_| !spec.believe).map(|what| {
            format!("{what}, in {}: is its disk away, or is another one mounted in its place? Nothing was moved", layout.root().display())
        });
        let bad: BTreeSet<Blake3> = wrong.keys().chain(&missing).copied().collect();
        let mut touched = touched(layout, &bad)?;
        for (pack, why) in wrong {
            if report.doubt.is_none() {
                set_aside(self, &pack)?;
            }
            let touches = touched.remove(&pack).unwrap_or_default();
            report.damage.push(Damage { what: Damaged::Pack(pack), why, touches });
        }
        report.damage.extend(self.still_missing(&missing, touched)?);
        for (id, why) in broken {
            // Its own note may be what is broken, and its manifest as well; then nobody knows of what it is.
            let touches = dataset_of(self, &id).map(|dataset| (dataset, id.clone())).into_iter().collect();
            report.damage.push(Damage { what: Damaged::Snapshot(id), why, touches });
        }
        turns.keep()?;
        Ok(report)
    }

    /// Of the packs that were not there when they were listed, those that are still needed and not there.
    fn still_missing(&self, missing: &BTreeSet<Blake3>, mut touched: BTreeMap<Blake3, Vec<(Dataset, RequestId)>>) -> Result<Vec<Damage>> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        // Between the listings a snapshot may have gone with its packs; under the lock none goes or comes.
        let _lock = self.lock()?;
        let mut found = Vec::new();
        for pack in missing {
            let mut touches = touched.remove(pack).unwrap_or_default();
            touches.retain(|(_, id)| folder_of(&self.layout, id).exists());
            if touches.is_empty() || self.has_pack(pack) {
                continue;
            }
            let why = if self.layout.damaged(pack).exists() { "it was damaged, and lies in damaged/" } else { "it is not there" };
            found.push(Damage { what: Damaged::Pack(*pack), why: why.into(), touches });
        }
        Ok(found)
    }

    /// Holds the small files of a snapshot against each other; takes from the node's history what it can put back.
    fn look_at_snapshot(&self, id: &RequestId, path: &Path, spec: &ScrubSpec<'_>, mended: &mut Vec<String>) -> Result<()> {
        let check = || -> Result<()> {
            let (proof, content) = signed_files(path)?;
            let note = read(&beneath::folder(path)?, ACCEPTED, base::ACCEPTED_LIMIT)?;
            if base::Accepted::parse(ACCEPTED, &note)?.id != *id {
                return Err(Error::failed("its note belongs to another snapshot"));
            }
            fits(&(spec.intact)(id, &proof)?, &content)
        };
        let Err(error) = check() else { return Ok(()) };
        let Some((proof, content)) = (spec.copy)(id) else { return Err(error) };
        let payload = (spec.intact)(id, &proof)?;
        let _lock = self.lock()?;
        if !path.exists() {
            return Err(error);
        }
        let mut files = vec![(COMMIT, proof.commit), (TREE, proof.tree), (REQUEST, proof.request)];
        if let Some(content) = content {
            match payload {
                Payload::Manifest(digest) if Blake3::of(&content) == digest => files.push((MANIFEST, content)),
                Payload::Refs(digest) if Sha256::of(&content) == digest => files.push((REFS, content)),
                _ => {}
            }
        }
        let usage = Usage::get(&self.layout);
        Usage::invalidate(&self.layout)?;
        let mut grown = 0i64;
        let size = |path: &Path| path.symlink_metadata().map_or(0, |meta| i64::try_from(meta.len()).unwrap_or(i64::MAX));
        for (name, bytes) in files {
            let file = path.join(name);
            if fs::read(&file).is_ok_and(|found| found == bytes) {
                continue;
            }
            let before = size(&file);
            atomic::write(&file, &bytes, FILE_MODE)?;
            grown = grown.saturating_add(size(&file) - before);
            mended.push(format!("{name} of {id} was damaged and came back from the history of requests"));
        }
        if let Ok(usage) = usage {
            Usage::new(usage.bytes.saturating_add_signed(grown), usage.order).keep(&self.layout)?;
        }
        check()
    }
}

/// Whether what is kept is what was signed for.
fn fits(payload: &Payload, content: &StoredContent) -> Result<()> {
    let good = match (payload, content) {
        (Payload::Manifest(digest), StoredContent::Manifest(bytes)) => Blake3::of(bytes) == *digest,
        (Payload::Refs(digest), StoredContent::Refs(bytes)) => Sha256::of(bytes) == *digest,
        _ => false,
    };
    let what = if matches!(content, StoredContent::Manifest(_)) { "manifest" } else { "list of refs" };
    if good { Ok(()) } else { Err(Error::failed(format!("its {what} is not the one that was signed for"))) }
}

/// The folder of a snapshot, or of a part.
fn folder_of(layout: &Layout, id: &RequestId) -> PathBuf {
    let folder = layout.parts().join(id.as_str());
    if folder.exists() { folder } else { layout.snapshot(id) }
}

/// The folders of snapshots and parts, also those that cannot be read.
fn kept(layout: &Layout) -> Result<BTreeMap<RequestId, PathBuf>> {
    let mut kept = BTreeMap::new();
    for folder in [layout.snapshots(), layout.parts()] {
        kept.extend(names(&folder)?.iter().filter_map(|name| Some((name.parse().ok()?, folder.join(name)))));
    }
    Ok(kept)
}

/// The packs that roots need. A root that does not say which, is broken.
fn needed(layout: &Layout, kept: &BTreeMap<RequestId, PathBuf>, broken: &mut BTreeMap<RequestId, String>) -> Result<BTreeSet<Blake3>> {
    let mut needed = BTreeSet::new();
    layout.each_root(&mut |path, root| {
        match root {
            Ok(root) => needed.extend(root.packs.iter().map(|pack| pack.digest)),
            Err(error) => {
                let id = path.file_name().and_then(|name| name.to_str()?.parse().ok()).filter(|id| kept.contains_key(id));
                broken.extend(id.map(|id| (id, error.one_line())));
            }
        }
        Ok(())
    })?;
    Ok(needed)
}

/// Who needs these packs. Asked a second time, so that not all lists of all snapshots are in memory at once.
fn touched(layout: &Layout, bad: &BTreeSet<Blake3>) -> Result<BTreeMap<Blake3, Vec<(Dataset, RequestId)>>> {
    let mut touched: BTreeMap<Blake3, Vec<(Dataset, RequestId)>> = BTreeMap::new();
    if bad.is_empty() {
        return Ok(touched);
    }
    layout.each_root(&mut |_, root| {
        let Ok(root) = root else { return Ok(()) };
        for pack in root.packs.iter().filter(|pack| bad.contains(&pack.digest)) {
            let users = touched.entry(pack.digest).or_default();
            if users.len() < NAMED {
                users.push((root.dataset.clone(), root.id.clone()));
            }
        }
        Ok(())
    })?;
    touched.values_mut().for_each(|users| users.sort());
    Ok(touched)
}

/// Of what a broken snapshot is, from whatever of it can still be read.
fn dataset_of(store: &Store, id: &RequestId) -> Option<Dataset> {
    if let Ok(Some(accepted)) = store.accepted(id) {
        return Some(accepted.dataset);
    }
    let bytes = read(&beneath::folder(&folder_of(&store.layout, id)).ok()?, MANIFEST, CONTENT_LIMIT).ok()?;
    Some(Manifest::parse(&bytes).ok()?.public.dataset)
}

/// The packs that are there.
fn present(layout: &Layout) -> Result<BTreeSet<Blake3>> {
    Ok(names(&layout.packs())?.iter().filter_map(|name| Blake3::from_hex(name)).collect())
}

/// The names in a folder that are text; none where there is no folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("list", folder)?,
    };
    let names = listing.map(|entry| entry.map(|entry| entry.file_name())).collect::<std::io::Result<Vec<_>>>().at("list", folder)?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// Reads a pack to its end; what looks damaged is read a second time, past what the system has kept in memory.
fn look(layout: &Layout, digest: &Blake3, monitor: &dyn Monitor, bytes: &mut u64) -> Look {
    let first = hash(layout, digest, monitor, bytes);
    let second = match first {
        Ok(found) if found == *digest => return Look::Whole,
        _ => hash(layout, digest, monitor, bytes),
    };
    match second {
        Ok(found) if found == *digest => Look::Whole,
        Ok(_) => Look::Damaged("its bytes are not those that its name says".into()),
        Err(_) if layout.pack(digest).symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) => Look::Gone,
        Err(error) => Look::Damaged(error.one_line()),
    }
}

fn hash(layout: &Layout, digest: &Blake3, monitor: &dyn Monitor, bytes: &mut u64) -> Result<Blake3> {
    let mut file = beneath::regular_file(beneath::folder(&layout.packs())?, Path::new(&digest.hex()))?;
    // Advice that is not taken costs nothing but memory.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    let _ = fadvise(&file, 0, None, Advice::Sequential);
    let (mut hasher, mut buffer, mut released, mut read) = (blake3::Hasher::new(), vec![0; BLOCK], 0, 0u64);
    loop {
        let n = match file.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other.at("read", layout.pack(digest))?,
        };
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        read += n as u64;
        monitor.bytes(n as u64);
        if read - released >= RELEASE {
            release(&file, released, read);
            released = read;
        }
    }
    release(&file, released, read);
    *bytes = bytes.saturating_add(read);
    Ok(Blake3(*hasher.finalize().as_bytes()))
}

/// What was read once for its digest is not what others will want next.
fn release(file: &File, from: u64, to: u64) {
    let _ = fadvise(file, from, std::num::NonZeroU64::new(to.saturating_sub(from)), Advice::DontNeed);
}

/// Whether the disk takes bytes and gives them back: otherwise everything seems damaged.
fn answers(root: &Path) -> Result<()> {
    let path = root.join(format!("{}scrub", atomic::TEMP_PREFIX));
    let away = |error: Error| {
        error
            .context(format!("the disk of {} does not answer, so nothing that could not be read is taken for damaged", root.display()))
            .with_kind(Kind::Failed)
    };
    let probe = || -> Result<bool> {
        atomic::remove(&path)?;
        atomic::write(&path, b"nightsafe", FILE_MODE)?;
        let mut file = File::open(&path).at("read", &path)?;
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
        let mut found = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut found)).at("read", &path)?;
        atomic::remove(&path)?;
        Ok(found == b"nightsafe")
    };
    match probe() {
        Ok(true) => Ok(()),
        Ok(false) => Err(away(Error::failed("it gives other bytes back than were written"))),
        // A full disk can be read.
        Err(error) if error.kind() == Kind::NotNow => Ok(()),
        Err(error) => Err(away(error)),
    }
}

/// What was set aside of a pack that is whole again is of no more use. Whoever brought it back has not counted it.
fn came_back(store: &Store, pack: &Blake3) -> Result<()> {
    let _lock = store.lock()?;
    Usage::invalidate(&store.layout)?;
    atomic::remove(&store.layout.damaged(pack))
}

/// Moves a damaged pack out of the way, under the lock.
fn set_aside(store: &Store, pack: &Blake3) -> Result<()> {
    let _lock = store.lock()?;
    let (layout, from) = (&store.layout, store.layout.pack(pack));
    // Gone since it was read.
    let Ok(meta) = from.symlink_metadata() else { return Ok(()) };
    let usage = Usage::get(layout);
    folder(&layout.root().join("damaged"))?;
    Usage::invalidate(layout)?;
    atomic::rename(&from, &layout.damaged(pack))?;
    match usage {
        Ok(usage) => Usage::new(usage.bytes.saturating_sub(meta.len()), usage.order).keep(layout),
        Err(_) => Ok(()),
    }
}
