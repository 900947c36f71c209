//! One backup on its way: what is met, or streamed, becomes chunks, lines of the catalog and lines of the ledgers.
//!
//! Does not know the manifest, nor where packs go.

use super::names::Names;
use super::{BackupSpec, Done};
use crate::attributes::{self, Thing};
use crate::cache::{self, Known, New, Old, Owner, Pair, Uses};
use crate::catalog;
use crate::choose::Choice;
use crate::content::{self, Reader, Stored, Trouble};
use crate::deposit::Deposit;
use crate::entry::{Attributes, Entry, EntryKind, INLINE_XATTRS, Mtime, Who, Xattrs, xattrs_text};
use crate::manifest::{Counts, Unreadable};
use crate::pipeline::Lane;
use crate::walk::ahead::{self, Ahead, Met, ReadAhead, Reading};
use crate::walk::{Place, Root, Stat, node_kind, why_not};
use base::{Error, Result};
use rustix::fs::FileType;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::AsFd;

/// So many things that could not be read are named, and so many bytes their names may take; all are counted.
const LEDGER: usize = 10_000;
const LEDGER_BYTES: usize = 4 << 20;
/// So many things that were left out are named.
const SKIPPED: usize = 1000;

/// Attributes where there are any.
type Worn = Option<Box<Attributes>>;

/// What the next backup needs to know of an entry, so as not to read it again.
#[derive(Clone)]
pub(super) struct Memo {
    stat: Stat,
    uses: Uses,
    /// A time before which nothing of it was looked at; without it, it was known before.
    seen: Option<Mtime>,
}

/// A thing with several names, by the first of them.
#[derive(Clone)]
struct Group {
    position: u64,
    stat: Stat,
    kind: EntryKind,
    attributes: Worn,
    memo: Option<Memo>,
    /// How many names are still to come, at most.
    left: u64,
}

/// One backup on its way.
pub(super) struct Run<'a> {
    pub(super) spec: &'a BackupSpec<'a>,
    pub(super) deposit: Deposit<'a>,
    catalog: catalog::Writer<'a>,
    pub(super) reader: Reader,
    pub(super) counts: Counts,
    ledger: Vec<Unreadable>,
    ledger_bytes: usize,
    left_out: BTreeMap<String, u64>,
    groups: HashMap<(u64, u64), Group>,
    skipped: Vec<Unreadable>,
    skipped_count: u64,
    names: Names,
    attributes: attributes::Attributes,
    known: Old,
    remembered: New,
}

impl<'a> Run<'a> {
    pub(super) fn new(spec: &'a BackupSpec<'a>, deposit: Deposit<'a>) -> Self {
        let owner = Owner { secrets: spec.secrets, recipient: &spec.epoch.public().recipient, node: spec.node, dataset: spec.dataset };
        let (known, remembered) = cache::open(spec.cache, &owner);
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
            known,
            remembered,
        }
    }

    pub(super) fn finish(mut self) -> Result<Done> {
        let more = |unnamed| Unreadable { path: Vec::new(), why: format!("{unnamed} more are not named here") };
        let unnamed = self.counts.unreadable - self.ledger.len() as u64;
        self.ledger.extend((unnamed > 0).then(|| more(unnamed)));
        let unnamed = self.skipped_count - self.skipped.len() as u64;
        self.skipped.extend((unnamed > 0).then(|| more(unnamed)));
        let deposit = &mut self.deposit;
        let root = self.catalog.finish(&mut |segment| deposit.put(Lane::Catalog, segment))?;
        let Self { counts, ledger, skipped, skipped_count, left_out, remembered, .. } = self;
        let (used, mended) = self.deposit.finish()?;
        Ok(Done { root, counts, ledger, skipped, skipped_count, left_out, used, mended, remembered })
    }

    /// Takes what `choice` takes of a tree, or a single file; its paths begin with `prefix`.
    pub(super) fn tree(&mut self, prefix: &[u8], root: Root, choice: &Choice) -> Result<()> {
        let ahead = Ahead { root, choice, secrets: self.spec.secrets, known_before: self.known.known_before() };
        let mut path = prefix.to_vec();
        ahead::walk(ahead, &mut |batch| {
            let (seen, before) = (batch.began, self.counts.entries);
            batch.take(&mut |below, met, read| {
                path.truncate(prefix.len());
                path.extend_from_slice(below);
                self.met(&path, met, read, seen)
            })?;
            self.spec.monitor.entries(self.counts.entries - before);
            Ok(())
        })
    }

    fn met(&mut self, path: &[u8], met: Met, read: &[u8], seen: Mtime) -> Result<()> {
        match met {
            Met::Thing(place, stat, reading) => self.thing(path, &place, &stat, reading, read, seen),
            Met::LeftOut { why, size } => {
                // Who left it out by its name knows; a file that has grown is another matter.
                if size {
                    self.skip(path, &why);
                }
                *self.left_out.entry(why).or_default() += 1;
                Ok(())
            }
            Met::Skipped(why) => {
                self.skip(path, &why);
                Ok(())
            }
            Met::Unreadable(why) => {
                self.unreadable(path, why);
                Ok(())
            }
        }
    }

    fn thing(&mut self, path: &[u8], place: &Place, stat: &Stat, reading: Reading, read: &[u8], seen: Mtime) -> Result<()> {
        let several = has_several(stat);
        if several && let Some(group) = self.group(stat) {
            let entry = self.entry(path, &group.stat, group.kind, Some(group.position), group.attributes);
            return self.push(&entry, group.memo).map(drop);
        }
        if self.unchanged(path, stat, several)? {
            return Ok(());
        }
        let unreadable = self.counts.unreadable;
        let found = match stat.kind {
            FileType::Directory => {
                let attributes = self.attributes(path, place.thing(path), stat)?;
                Some((*stat, EntryKind::Dir, Uses::default(), attributes))
            }
            FileType::RegularFile => self.file(path, place, stat, reading, read)?,
            _ => match node_kind(place, path, stat) {
                Ok(kind) => Some((*stat, kind, Uses::default(), self.attributes(path, place.thing(path), stat)?)),
                Err(error) => {
                    self.unreadable(path, why_not(error));
                    None
                }
            },
        };
        let Some((stat, kind, mut uses, attributes)) = found else { return Ok(()) };
        if let Some(Xattrs::More(list)) = attributes.as_deref().map(|attributes| &attributes.xattrs) {
            uses.list.0.extend_from_slice(&list.0);
        }
        // What the ledger tells of is read again, so that it is told of again.
        let memo = (self.counts.unreadable == unreadable).then_some(Memo { stat, uses, seen: Some(seen) });
        self.push_first(path, stat, kind, attributes, memo)
    }

    /// Takes what is known already of a thing that has not changed; false when it is to be read.
    fn unchanged(&mut self, path: &[u8], stat: &Stat, several: bool) -> Result<bool> {
        let Self { known, remembered, deposit, catalog, counts, names, .. } = self;
        let mut confirms = |uses: &Uses| if uses.list.is_empty() { Ok(true) } else { deposit.keep(&uses.list, uses.bytes) };
        let Some(found) = known.find(path, stat, &mut confirms)? else { return Ok(false) };
        let Pair { user, group, holds } = found.names;
        let holds = *holds.get_or_insert_with(|| names.user(stat.uid) == *user && names.group(stat.gid) == *group);
        if found.plain && holds && !several {
            catalog.push(path, found.line, &mut |segment| deposit.put(Lane::Catalog, segment))?;
            counts.entries += 1;
            if stat.kind == FileType::RegularFile {
                counts.files += 1;
                counts.bytes = counts.bytes.saturating_add(found.uses.bytes);
            }
            let names = (user.as_deref(), group.as_deref());
            remembered.remember(path, stat, None, &Known { line: found.line, names, plain: true, uses: found.uses });
            return Ok(true);
        }
        // A position in the catalog, or a name on this machine, may be another one by now.
        let Ok(Entry { path: named, kind, mut attributes, .. }) = Entry::parse(found.line.as_bytes()) else { return Ok(false) };
        if named != path {
            return Ok(false);
        }
        let memo = Memo { stat: *stat, uses: found.uses.clone(), seen: None };
        if let Some(attributes) = &mut attributes {
            self.name(attributes);
        }
        self.push_first(path, *stat, kind, attributes, Some(memo)).map(|()| true)
    }

    /// Reads a file that changed, or is not known.
    fn file(
        &mut self,
        path: &[u8],
        place: &Place,
        stat: &Stat,
        reading: Reading,
        read: &[u8],
    ) -> Result<Option<(Stat, EntryKind, Uses, Worn)>> {
        let read = if let Reading::Done(ReadAhead { id, found, .. }) = reading {
            self.spec.monitor.bytes(stat.size);
            let stored = content::whole(id, read, &mut self.deposit)?;
            Some((*stat, stored, self.worn(path, found.map(|found| *found))?))
        } else {
            match place.open(path) {
                Ok((file, stat)) => self.read(path, &file, stat)?,
                Err(error) => {
                    self.unreadable(path, why_not(error));
                    None
                }
            }
        };
        Ok(read.map(|(stat, Stored { size, content, digest, sparse, uses }, attributes)| {
            (stat, EntryKind::File { size, content, digest, sparse }, uses, attributes)
        }))
    }

    /// Reads a file, once more if it changes meanwhile; what was read last is stored even if it changed again.
    fn read(&mut self, path: &[u8], file: &File, mut before: Stat) -> Result<Option<(Stat, Stored, Worn)>> {
        for last in [false, true] {
            let read = self.reader.file(file, before.size, &mut self.deposit, self.spec.monitor);
            let stored = match read {
                Ok(stored) => stored,
                Err(Trouble::Archive(error)) => return Err(error),
                Err(Trouble::Source(error)) => {
                    self.unreadable(path, format!("could not read it: {error}"));
                    return Ok(None);
                }
            };
            let attributes = self.attributes(path, Thing::Opened(file.as_fd()), &before)?;
            let after = match Stat::of(file) {
                Ok(after) => after,
                Err(error) => {
                    self.unreadable(path, format!("could not read it: {error}"));
                    return Ok(None);
                }
            };
            if after.same_content(&before) {
                return Ok(Some((after, stored, attributes)));
            }
            if last {
                self.unreadable(path, "it changed while it was read; what was read is stored".into());
                return Ok(Some((after, stored, attributes)));
            }
            before = after;
        }
        Ok(None)
    }

    /// Adds an entry to the catalog; false when that cannot be, and the ledger says why.
    pub(super) fn push(&mut self, entry: &Entry, memo: Option<Memo>) -> Result<bool> {
        let line = match entry.to_line() {
            Ok(line) => line,
            Err(error) => {
                self.unreadable(&entry.path, error.one_line());
                return Ok(false);
            }
        };
        let deposit = &mut self.deposit;
        self.catalog.push(&entry.path, &line, &mut |segment| deposit.put(Lane::Catalog, segment))?;
        self.counts.entries += 1;
        if let EntryKind::File { size, sparse, .. } = &entry.kind {
            self.counts.files += 1;
            self.counts.bytes = self.counts.bytes.saturating_add(sparse.as_ref().map_or(*size, |sparse| sparse.data));
        }
        if let Some(Memo { stat, uses, seen }) = memo {
            let names = (entry.user.as_deref(), entry.group.as_deref());
            let lists = entry.attributes.as_deref().is_some_and(|worn| worn.acl.is_some() || worn.default_acl.is_some());
            let plain = entry.hard_link.is_none() && !lists;
            self.remembered.remember(&entry.path, &stat, seen, &Known { line: &line, names, plain, uses: &uses });
        }
        Ok(true)
    }

    /// Adds a thing that is the first of its names, or has one alone.
    fn push_first(&mut self, path: &[u8], stat: Stat, kind: EntryKind, attributes: Worn, memo: Option<Memo>) -> Result<()> {
        let position = self.counts.entries;
        let several = has_several(&stat);
        let entry = self.entry(path, &stat, kind, several.then_some(position), attributes);
        if self.push(&entry, memo.clone())? && several {
            let Entry { kind, attributes, .. } = entry;
            self.groups.insert(stat.identity(), Group { position, stat, kind, attributes, memo, left: stat.links - 1 });
        }
        Ok(())
    }

    /// What is known of a thing whose other name came before.
    fn group(&mut self, stat: &Stat) -> Option<Group> {
        let identity = stat.identity();
        let group = self.groups.get_mut(&identity).filter(|group| group.stat.kind == stat.kind && group.stat.same_content(stat))?;
        group.left -= 1;
        if group.left > 0 { Some(group.clone()) } else { self.groups.remove(&identity) }
    }

    pub(super) fn entry(&mut self, path: &[u8], stat: &Stat, kind: EntryKind, hard_link: Option<u64>, attributes: Worn) -> Entry {
        let (user, group) = (self.names.user(stat.uid), self.names.group(stat.gid));
        let (mode, uid, gid, mtime) = (stat.mode, stat.uid, stat.gid, stat.mtime);
        Entry { path: path.to_vec(), kind, mode, uid, gid, user, group, mtime, hard_link, attributes }
    }

    /// Reads a thing's attributes; what of them cannot be read goes into the ledger.
    pub(super) fn attributes(&mut self, path: &[u8], thing: Thing<'_>, stat: &Stat) -> Result<Worn> {
        let found = self.attributes.read(thing, stat.device);
        self.worn(path, found)
    }

    /// Attributes as an entry has them.
    fn worn(&mut self, path: &[u8], found: Option<attributes::Found>) -> Result<Worn> {
        let Some(found) = found else { return Ok(None) };
        for why in found.lost {
            self.unreadable(path, why);
        }
        let mut attributes =
            Attributes { xattrs: Xattrs::Here(found.xattrs), acl: found.acl, default_acl: found.default_acl, ..Attributes::default() };
        self.name(&mut attributes);
        if let Xattrs::Here(map) = &attributes.xattrs
            && map.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > INLINE_XATTRS
        {
            attributes.xattrs = match xattrs_text(map) {
                Ok(text) => Xattrs::More(self.reader.text(text, &mut self.deposit)?),
                Err(error) => {
                    self.unreadable(path, error.one_line());
                    Xattrs::default()
                }
            };
        }
        Ok((!attributes.is_empty()).then(|| Box::new(attributes)))
    }

    /// Gives the names that users and groups of access control lists have on this machine.
    fn name(&mut self, attributes: &mut Attributes) {
        let who = attributes.acl.iter().chain(&attributes.default_acl).flat_map(|list| list.0.keys());
        let named = who.filter_map(|who| match *who {
            Who::User(id) => Some((*who, self.names.user(id)?)),
            Who::Group(id) => Some((*who, self.names.group(id)?)),
            _ => None,
        });
        attributes.names = named.collect();
    }

    fn skip(&mut self, path: &[u8], why: &str) {
        self.skipped_count += 1;
        let shown = base::text::printable(&String::from_utf8_lossy(path));
        self.spec.monitor.note(&format!("{shown} is left out: {why}"));
        if self.skipped.len() < SKIPPED {
            self.skipped.push(Unreadable { path: path.to_vec(), why: why.into() });
        }
    }

    pub(super) fn unreadable(&mut self, path: &[u8], why: String) {
        self.counts.unreadable += 1;
        let shown = base::text::printable(&String::from_utf8_lossy(path));
        self.spec.monitor.problem(&Error::failed(format!("{shown}: {why}")));
        self.ledger_bytes += path.len() + why.len();
        if self.ledger.len() < LEDGER && self.ledger_bytes < LEDGER_BYTES {
            self.ledger.push(Unreadable { path: path.to_vec(), why });
        }
    }
}

/// Whether a thing may be met under another name too.
fn has_several(stat: &Stat) -> bool {
    stat.links > 1 && stat.kind != FileType::Directory
}
