//! Forward rewriting: what a dataset's snapshots use of the packs they refer to, and which packs the next one gives up.
//!
//! A pack of which much is not used any more is not referred to again: its chunks that are still there count as new. So what a snapshot
//! refers to stays near what it needs, older packs go when retention drops the snapshots that named them, and the node needs no key.
//!
//! Each backup notes what it used in a file beside its packs' records (`pending/<id>/use`); when the node has stored the request, that becomes
//! the dataset's (`<epoch>/use-<16 hex>`), so a refused request changes nothing. A lost or damaged file costs that one backup
//! gives nothing up. A pack that was given up is never referred to again by that dataset as long as the index has it, though another one may
//! go on using it: otherwise each second night would find its chunks there again. And a pack that no dataset's newest snapshot uses
//! leaves the index, because the node may drop it at any time; what it held is remembered for some time, in case the node loses it while older
//! snapshots need it.
//!
//! A file is one line of JSON ([`Header`]); for each pack 40 bytes: its digest (32) and the bytes used of it (u64 LE, all ones: given up); and
//! the BLAKE3 of all that.

mod choose;
mod marks;

use crate::index::{Index, PackInfo};
use crate::reference::RunId;
use base::{At, Blake3, Dataset, Error, RequestId, Result, atomic};
use choose::{Choice, Pack, choose, earned};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

pub(crate) use marks::{Marks, can_be};

const VERSION: u64 = 1;
/// What a pack takes in a file.
const ROW: usize = 40;
/// The digest at the end.
const DIGEST: usize = 32;
/// Stands for a pack that was given up.
const GIVEN_UP: u64 = u64::MAX;
/// The longest file: a manifest cannot name more packs than fit into that.
const LIMIT: usize = crate::limits::MANIFEST;
/// The name beside the records of a request.
pub(crate) const NOTE: &str = "use";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u64,
    epoch: String,
    dataset: Dataset,
    /// How many bytes of packs may be written again ahead of time.
    credit: u64,
}

/// A file's content: of each pack the bytes used, or none when it was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Usage {
    header: Header,
    packs: Vec<(Blake3, Option<u64>)>,
}

/// How a pack of the index stands with a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Its last snapshot used it, and the next one may.
    Own,
    /// Others' alone, as far as is known.
    Foreign,
    /// Not to be referred to.
    GivenUp,
}

/// What the next snapshot of a dataset may refer to.
pub(crate) struct Plan {
    standing: Vec<Standing>,
    credit: u64,
}

impl Plan {
    /// Goes by what the dataset's last snapshot used; nothing is given up where that is not known.
    pub(crate) fn of(index: &Index, dataset: &Dataset) -> Self {
        let mut plan = Self { standing: vec![Standing::Foreign; index.packs().len()], credit: 0 };
        let path = index.epoch_folder().join(name(dataset));
        let usage = match read(&path) {
            Ok(Some(usage)) if usage.header.dataset == *dataset => usage,
            Ok(_) => return plan,
            Err(error) => {
                tracing::warn!("nothing is written anew for want of {}", error.one_line());
                return plan;
            }
        };
        let numbers: HashMap<Blake3, usize> = index.packs().iter().enumerate().map(|(number, pack)| (pack.digest, number)).collect();
        let mut own = Vec::new();
        for (digest, used) in usage.packs {
            let Some(number) = numbers.get(&digest).copied() else { continue };
            match used {
                Some(used) => own.push((number, used)),
                None => plan.standing[number] = Standing::GivenUp,
            }
        }
        let pack = |(number, used): &(usize, u64)| {
            let PackInfo { size, plain, .. } = index.packs()[*number];
            Pack { size, plain, used: *used }
        };
        let Choice { given_up, credit } = choose(&own.iter().map(pack).collect::<Vec<_>>(), usage.header.credit, index.rewrite_below());
        for ((number, _), given_up) in own.into_iter().zip(given_up) {
            plan.standing[number] = if given_up { Standing::GivenUp } else { Standing::Own };
        }
        plan.credit = credit;
        plan
    }

    pub(crate) fn standing(&self, pack: usize) -> Standing {
        self.standing[pack]
    }

    pub(crate) fn given_up(&self, pack: usize) -> bool {
        self.standing[pack] == Standing::GivenUp
    }
}

/// What a backup has used, when it is done.
pub(crate) struct Outcome {
    plan: Plan,
    /// The bytes of each pack of the index, where it is referred to.
    used: Vec<Option<u64>>,
    /// The run of its content, and the bytes of that which were stored again because packs are given up.
    content: RunId,
    again: u64,
}

impl Outcome {
    pub(crate) fn new(plan: Plan, marks: &Marks, content: RunId, again: u64) -> Self {
        Self { plan, used: marks.used(), content, again }
    }

    /// Whether the snapshot refers to this pack of the index.
    pub(crate) fn refers(&self, pack: usize) -> bool {
        self.used[pack].is_some()
    }

    /// Notes it beside the records of request `id`, which has also made the packs `fresh`.
    ///
    /// # Errors
    /// With the path.
    pub(crate) fn note(&self, index: &Index, id: &RequestId, dataset: &Dataset, fresh: &[PackInfo]) -> Result<()> {
        let mut packs = Vec::new();
        for (number, pack) in index.packs().iter().enumerate() {
            match self.used[number] {
                Some(used) => packs.push((pack.digest, Some(used))),
                None if self.plan.given_up(number) => packs.push((pack.digest, None)),
                None => {}
            }
        }
        packs.extend(fresh.iter().map(|pack| (pack.digest, Some(pack.plain))));
        // A first snapshot is new as a whole, which says nothing of how much changes. Nor does the catalog, of which
        // most is new when few files here and there are.
        let first = self.plan.standing.iter().all(|standing| *standing == Standing::Foreign);
        let content = || fresh.iter().filter(|pack| pack.run == self.content && !first);
        let (size, plain) = (content().map(|pack| pack.size).sum::<u64>(), content().map(|pack| pack.plain).sum::<u64>());
        let new = u128::from(size) * u128::from(plain.saturating_sub(self.again)) / u128::from(plain.max(1));
        let credit = self.plan.credit.saturating_add(earned(u64::try_from(new).unwrap_or(u64::MAX)));
        let header = Header { version: VERSION, epoch: index.recipient().to_owned(), dataset: dataset.clone(), credit };
        let folder = index.pending_folder(id);
        atomic::make_folder(&folder, 0o700)?;
        atomic::write(&folder.join(NOTE), &Usage { header, packs }.to_bytes()?, 0o600)
    }
}

impl Usage {
    fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(&self.header).map_err(|e| Error::failed("could not write what is used of packs").because(e))?;
        bytes.push(b'\n');
        for (pack, used) in &self.packs {
            bytes.extend_from_slice(&pack.0);
            bytes.extend_from_slice(&used.unwrap_or(GIVEN_UP).to_le_bytes());
        }
        bytes.extend_from_slice(&Blake3::of(&bytes).0);
        Ok(bytes)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
        let end = body.iter().position(|byte| *byte == b'\n')?;
        let header: Header = serde_json::from_slice(&body[..end]).ok()?;
        let rows = &body[end + 1..];
        if Blake3::of(body).0 != digest || header.version != VERSION || !rows.len().is_multiple_of(ROW) {
            return None;
        }
        let row = |row: &[u8]| {
            let (digest, used) = row.split_at(32);
            let used = used.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
            Some((Blake3(digest.try_into().ok()?), (used != GIVEN_UP).then_some(used)))
        };
        Some(Self { header, packs: rows.chunks_exact(ROW).map(row).collect::<Option<_>>()? })
    }
}

fn name(dataset: &Dataset) -> String {
    format!("{NOTE}-{}", &Blake3::of(dataset.to_string().as_bytes()).hex()[..16])
}

/// Reads a file; none when there is none.
fn read(path: &Path) -> Result<Option<Usage>> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = base::untrusted::read(path, LIMIT)?.bytes;
    Usage::parse(&bytes).map(Some).ok_or_else(|| Error::failed(format!("{}, which is damaged", path.display())))
}

/// The request with the note `path` is stored: what it used is what the dataset uses now, and packs that no dataset uses
/// any more leave the index. `epoch` gives the folder for a recipient. Done twice it does nothing.
///
/// # Errors
/// With the path.
pub(crate) fn settle(pending: &Path, epoch: impl Fn(&str) -> std::path::PathBuf) -> Result<()> {
    let note = pending.join(NOTE);
    let new = match read(&note) {
        Ok(Some(new)) => new,
        Ok(None) => return Ok(()),
        Err(error) => {
            tracing::warn!("nothing is written anew for want of {}", error.one_line());
            return Ok(());
        }
    };
    let folder = epoch(&new.header.epoch);
    atomic::make_folder(&folder, 0o700)?;
    let own = folder.join(name(&new.header.dataset));
    if let Ok(Some(old)) = read(&own) {
        match in_use(&folder, &own, pending, &new) {
            Ok(kept) => {
                let mut gone = old.packs.iter().filter(|(pack, used)| used.is_some() && !kept.contains(pack));
                gone.try_for_each(|(pack, _)| Index::retire(&folder, pack))?;
            }
            // Whether others use them is not known, so they stay.
            Err(error) => tracing::warn!("the index is not tidied up for want of {}", error.one_line()),
        }
    }
    atomic::rename(&note, &own)
}

/// The packs that this new usage, other datasets, or requests that wait for their receipts use.
fn in_use(folder: &Path, own: &Path, pending: &Path, new: &Usage) -> Result<HashSet<Blake3>> {
    let mut others = Vec::new();
    for entry in fs::read_dir(folder).at("list", folder)? {
        let path = entry.at("list", folder)?.path();
        let usage = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"use-"));
        if usage && path != own {
            others.extend(read(&path)?);
        }
    }
    let all = pending.parent().unwrap_or(pending);
    for entry in fs::read_dir(all).at("list", all)? {
        let path = entry.at("list", all)?.path();
        if path != pending {
            others.extend(read(&path.join(NOTE))?);
        }
    }
    let used = others.iter().chain([new]).flat_map(|usage| &usage.packs);
    Ok(used.filter(|(_, used)| used.is_some()).map(|(pack, _)| *pack).collect())
}

#[cfg(test)]
mod tests;
