//! Accepting: the decision as a value, and the steps that carry it out.
//!
//! Does not know who may back up what: the claim is proven, and the access list was asked, before.

use super::layout::{ACCEPTED, COMMIT, FILE_MODE, MANIFEST, REFS, REQUEST, TREE, folder};
use super::listing::{CONTENT_LIMIT, read};
use super::usage::Usage;
use super::{Accepted, Store};
use crate::manifest::{Manifest, PackRef, Public};
use base::{At, Blake3, ByteSize, Claim, Error, Payload, RequestId, Result, Sha256, atomic, beneath, crash};
use jiff::Timestamp;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// What is to be kept beside the proof.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// The manifest of an archive, whose packs are in `packs/` or fetched.
    Manifest(&'a Manifest),
    /// The list of refs of a git repository, whose objects are in the mirror.
    Refs(&'a [u8]),
    /// Nothing: the equalities are checked, and no snapshot is made.
    Nothing,
}

/// How much a client may keep here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quota {
    /// The limit in bytes; none means no limit.
    pub limit: Option<u64>,
    /// What the client keeps outside of this store: its mirrors.
    pub elsewhere: u64,
}

/// What the caller knows of how the data came.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// Bytes that came over the network.
    pub bytes_fetched: u64,
    /// How long it took.
    pub seconds: u64,
    /// Bytes that were stored outside of this store: by how much a mirror grew.
    pub bytes_elsewhere: u64,
}

/// All that the decision depends on.
#[derive(Debug)]
pub struct AcceptFacts<'a> {
    /// The proven request.
    pub claim: &'a Claim,
    /// What came with it.
    pub content: ContentFacts<'a>,
    /// Whether a snapshot of that id is there.
    pub known: Known,
    /// Whether it is a part's request and the snapshot of the whole is there.
    pub whole_known: bool,
    /// Where each pack of the manifest is, in the manifest's order.
    pub packs: &'a [PackFacts],
    /// Bytes of the small files that will be kept.
    pub small: u64,
    /// Bytes that the store holds.
    pub used: u64,
    /// How much it may hold.
    pub quota: Quota,
}

/// What came with the request, and its digest.
#[derive(Debug, Clone, Copy)]
pub enum ContentFacts<'a> {
    /// A manifest.
    Manifest(Blake3, &'a Public),
    /// A list of refs.
    Refs(Sha256),
    /// Nothing.
    Nothing,
}

/// What is known of the request's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// No snapshot has it.
    No,
    /// A snapshot has it, made by the same request, byte for byte.
    Same,
    /// A snapshot has it, made by another request.
    Other,
}

/// Where a pack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackFacts {
    /// In `packs/`, with this size.
    Stored(u64),
    /// In `incoming/`, flushed and with the right digest, with this size.
    Incoming(u64),
    /// Neither.
    Absent,
}

/// What is to be done with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum AcceptVerdict {
    /// Keep it: move these packs in. `bytes` is by how much the store grows.
    Accept {
        /// Packs to be moved from `incoming/`.
        take: Vec<Blake3>,
        /// Their size and that of the small files.
        bytes: u64,
    },
    /// It was accepted before: answer as then.
    Repeat,
    /// These packs must be fetched first.
    Missing(Vec<Blake3>),
    /// A rule forbids it, and always will.
    Refuse(String),
}

/// The decision. No I/O.
pub fn check_accept(facts: &AcceptFacts<'_>) -> AcceptVerdict {
    let refuse = |reason: String| AcceptVerdict::Refuse(reason);
    match facts.known {
        Known::Same => return AcceptVerdict::Repeat,
        Known::Other => return refuse(format!("id {} was accepted before for another request", facts.claim.id)),
        Known::No => {}
    }
    if facts.whole_known {
        return refuse(format!("the snapshot {} is stored, and takes no more parts", facts.claim.id.whole()));
    }
    let packs: &[PackRef] = match (facts.content, facts.claim.payload) {
        (ContentFacts::Manifest(found, _), Payload::Manifest(signed)) if found != signed => {
            return refuse(format!("the manifest is {found}, and {signed} was signed for"));
        }
        (ContentFacts::Refs(found), Payload::Refs(signed)) if found != signed => {
            return refuse(format!("the list of refs is {found}, and {signed} was signed for"));
        }
        (ContentFacts::Manifest(_, public), Payload::Manifest(_)) => {
            if let Some(reason) = inequality(public, facts.claim) {
                return refuse(reason);
            }
            &public.packs
        }
        (ContentFacts::Refs(_), Payload::Refs(_)) | (ContentFacts::Nothing, Payload::Nothing) => &[],
        _ => return refuse("what came is of another kind than what was signed for".into()),
    };
    if packs.len() != facts.packs.len() {
        return refuse(format!("{} packs were looked at, and the manifest names {}", facts.packs.len(), packs.len()));
    }
    let (mut take, mut missing, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    let mut bytes = facts.small;
    for (pack, place) in packs.iter().zip(facts.packs) {
        if !seen.insert(pack.digest) {
            return refuse(format!("the manifest names pack {} twice", pack.digest));
        }
        match *place {
            PackFacts::Incoming(size) if size != pack.size => {
                return refuse(format!("pack {} has {size} bytes, and the manifest says {}", pack.digest, pack.size));
            }
            // A pack is what its name says, and has one length: a file with another one was damaged since it came, or the
            // manifest is wrong. In either case it must come again, and is looked at then.
            PackFacts::Stored(size) if size != pack.size => missing.push(pack.digest),
            PackFacts::Stored(_) => {}
            PackFacts::Incoming(size) => {
                take.push(pack.digest);
                bytes = bytes.saturating_add(size);
            }
            PackFacts::Absent => missing.push(pack.digest),
        }
    }
    if !missing.is_empty() {
        return AcceptVerdict::Missing(missing);
    }
    match quota_verdict(facts.used, bytes, &facts.quota) {
        Some(reason) => refuse(reason),
        None => AcceptVerdict::Accept { take, bytes },
    }
}

/// Where the manifest says something else than the request that was signed.
fn inequality(public: &Public, claim: &Claim) -> Option<String> {
    let differs = |what: &str, found: &str, signed: &str| {
        (found != signed).then(|| format!("the manifest's {what} is {found:?}, and {signed:?} was signed"))
    };
    let of: &[Blake3] = public.repairs.as_ref().map_or(&[], |repairs| &repairs.of);
    if of != claim.repairs {
        return Some(format!("the manifest repairs {} packs, and {} other ones were signed", of.len(), claim.repairs.len()));
    }
    differs("id", public.id.as_str(), claim.id.as_str())
        .or_else(|| differs("client", public.client.as_str(), claim.client.as_str()))
        .or_else(|| differs("node", public.node.as_str(), claim.node.as_str()))
        .or_else(|| differs("dataset", &public.dataset.to_string(), &claim.dataset.to_string()))
}

/// Why `new` bytes do not fit, if they do not. No I/O.
pub(super) fn quota_verdict(used: u64, new: u64, quota: &Quota) -> Option<String> {
    let limit = quota.limit?;
    let held = used.saturating_add(quota.elsewhere);
    (held.saturating_add(new) > limit).then(|| {
        let [held, new, limit] = [held, new, limit].map(ByteSize);
        format!("over quota: {held} are kept and {new} would be added, {limit} are allowed")
    })
}

/// See [`Store::accept`].
pub(super) fn accept(
    store: &Store,
    claim: &Claim,
    content: Content<'_>,
    received: Timestamp,
    quota: &Quota,
    stats: Stats,
) -> Result<Accepted> {
    let _lock = store.lock()?;
    let layout = &store.layout;
    let files = Files::new(claim, content)?;
    let usage = Usage::get(layout)?;
    let (digested, public) = match content {
        Content::Manifest(manifest) => (ContentFacts::Manifest(manifest.digest, &manifest.public), Some(&manifest.public)),
        Content::Refs(refs) => (ContentFacts::Refs(Sha256::of(refs)), None),
        Content::Nothing => (ContentFacts::Nothing, None),
    };
    let packs =
        public.map_or(Ok(Vec::new()), |public| public.packs.iter().map(|pack| store.place(&claim.id, pack)).collect::<Result<Vec<_>>>())?;
    let known = store.known(claim)?;
    let whole_known = claim.id.part().is_some() && layout.snapshot(&claim.id.whole()).exists();
    let small = files.bytes();
    let (used, quota) = (usage.bytes, *quota);
    let verdict = check_accept(&AcceptFacts { claim, content: digested, known, whole_known, packs: &packs, small, used, quota });
    let (take, bytes) = match verdict {
        AcceptVerdict::Accept { take, bytes } => (take, bytes),
        AcceptVerdict::Refuse(reason) => return Err(Error::refused(reason)),
        AcceptVerdict::Missing(packs) => {
            let first = packs.first().map_or_else(String::new, Blake3::to_string);
            return Err(Error::not_now(format!("{} packs have not been fetched, {first} for one", packs.len())));
        }
        AcceptVerdict::Repeat => {
            store.discard_incoming(&claim.id)?;
            store.drop_parts_of_stored(&claim.id)?;
            return store.accepted(&claim.id)?.ok_or_else(|| Error::failed(format!("the snapshot {} went away", claim.id)));
        }
    };
    let mut accepted = Accepted::of(claim, received, usage.order + 1);
    accepted.bytes_fetched = stats.bytes_fetched;
    accepted.bytes_stored = bytes.saturating_add(stats.bytes_elsewhere);
    accepted.seconds = stats.seconds;
    accepted.packs = packs.len() as u64;
    if let Some(public) = public {
        accepted.bytes = public.counts.bytes;
        accepted.unreadable = public.counts.unreadable;
        accepted.files = Some(public.counts.files);
        accepted.epoch = Some(public.epoch.recipient.clone());
    }
    if matches!(content, Content::Nothing) {
        return Ok(accepted);
    }
    let note = accepted.to_toml()?;
    store.prepare(&claim.id, &files, &note)?;
    let replaces = take.iter().any(|digest| store.has_pack(digest));
    Usage::invalidate(layout)?;
    store.take_packs(&claim.id, &take)?;
    store.publish(&claim.id)?;
    let grown = usage.bytes.saturating_add(bytes).saturating_add(note.len() as u64);
    // What stood in the place of a damaged pack is not held any more.
    let bytes = if replaces { Usage::count(layout)?.bytes } else { grown };
    Usage::new(bytes, accepted.order).keep(layout)?;
    store.discard_incoming(&claim.id)?;
    // The manifest is a root now, so that no pack of a part is without one.
    store.drop_parts_of_stored(&claim.id)?;
    Ok(accepted)
}

/// The small files of a snapshot but for the node's note.
pub(super) struct Files<'a>(Vec<(&'static str, Cow<'a, [u8]>)>);

impl<'a> Files<'a> {
    pub(super) fn new(claim: &'a Claim, content: Content<'a>) -> Result<Self> {
        let proof = &claim.proof;
        let mut files: Vec<(_, Cow<'a, [u8]>)> =
            vec![(COMMIT, (&proof.commit[..]).into()), (TREE, (&proof.tree[..]).into()), (REQUEST, (&proof.request[..]).into())];
        match content {
            Content::Manifest(manifest) => files.push((MANIFEST, manifest.to_bytes().into())),
            Content::Refs(refs) => files.push((REFS, refs.into())),
            Content::Nothing => {}
        }
        match files.iter().find(|(_, bytes)| bytes.len() > CONTENT_LIMIT) {
            Some((name, _)) => Err(Error::refused(format!("the {name} is longer than the {CONTENT_LIMIT} bytes allowed"))),
            None => Ok(Self(files)),
        }
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }
}

/// The steps, each durable when it returns; a crash between any two leaves what the next try can use or remove.
impl Store {
    fn known(&self, claim: &Claim) -> Result<Known> {
        let path = self.layout.snapshot(&claim.id);
        if !path.exists() {
            return Ok(Known::No);
        }
        // The first accepted wins. The commit may differ: a client builds it anew when its key has changed.
        let request = read(&beneath::folder(&path)?, REQUEST, CONTENT_LIMIT)?;
        Ok(if request == claim.proof.request { Known::Same } else { Known::Other })
    }

    fn place(&self, id: &RequestId, pack: &PackRef) -> Result<PackFacts> {
        let path = self.layout.pack(&pack.digest);
        match path.symlink_metadata() {
            // What was fetched anew in the place of a damaged one.
            Ok(meta) if meta.is_file() && meta.len() != pack.size && self.incoming_size(id, &pack.digest)? == Some(pack.size) => {}
            Ok(meta) if meta.is_file() => return Ok(PackFacts::Stored(meta.len())),
            Ok(_) => return Err(Error::failed(format!("{} is not a regular file", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).at("look at", &path),
        }
        Ok(self.incoming_size(id, &pack.digest)?.map_or(PackFacts::Absent, PackFacts::Incoming))
    }

    /// Puts the snapshot's folder together in `incoming/<id>/`.
    pub(super) fn prepare(&self, id: &RequestId, files: &Files<'_>, note: &[u8]) -> Result<()> {
        for path in [self.layout.roots_of(id), self.layout.all_incoming(), self.layout.incoming(id)] {
            folder(&path)?;
        }
        let prepared = self.layout.prepared(id);
        atomic::remove_tree(&prepared)?;
        folder(&prepared)?;
        for (name, bytes) in &files.0 {
            write_flushed(&prepared.join(name), bytes)?;
        }
        write_flushed(&prepared.join(ACCEPTED), note)?;
        atomic::sync_folder(&prepared)
    }

    /// Moves packs from `incoming/<id>/` to `packs/`.
    pub(super) fn take_packs(&self, id: &RequestId, take: &[Blake3]) -> Result<()> {
        if take.is_empty() {
            return Ok(());
        }
        let packs = self.layout.packs();
        folder(&packs)?;
        for digest in take {
            let to = self.layout.pack(digest);
            fs::rename(self.layout.incoming_pack(id, digest), &to).at("rename to", &to)?;
            crash::point("renamed");
        }
        atomic::sync_folder(&packs)
    }

    /// Makes the prepared folder a snapshot: the one rename after which it is a root.
    pub(super) fn publish(&self, id: &RequestId) -> Result<()> {
        let to = self.layout.snapshot(id);
        fs::rename(self.layout.prepared(id), &to).at("rename to", &to)?;
        crash::point("renamed");
        atomic::sync_folder(&self.layout.roots_of(id))
    }
}

/// Writes a file into a folder that nobody looks into yet, so that it needs no temporary name.
fn write_flushed(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path).at("create", path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE)).at("set the mode of", path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).at("write", path)?;
    crash::point("written");
    Ok(())
}
