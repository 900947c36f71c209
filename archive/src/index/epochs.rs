//! Epochs that are over: their folders go from the index once nothing refers to them.
//!
//! Does not know when an epoch begins.

use super::{Index, PENDING, epoch_name, files, names, record};
use base::{Blake3, Result, atomic};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

/// What the files begin with that say which packs a dataset uses.
const USE: &[u8] = b"use-";

/// Removes the folders of other epochs than that of `recipient`, where each dataset that used packs of theirs has its newest
/// acknowledged snapshot in that epoch, and no request of theirs waits for its receipt. Older snapshots may need these packs as
/// long as the node keeps them: what was in them is remembered as that of all packs which no newest snapshot uses. Done twice it does
/// nothing, and cut off at any place it goes on.
///
/// # Errors
/// With the path.
pub(super) fn retire(folder: &Path, recipient: &str) -> Result<()> {
    let own = epoch_name(recipient);
    let is_epoch = |name: &str| name.len() == own.len() && name.bytes().all(|byte| byte.is_ascii_hexdigit()) && name != own;
    for old in names(folder)? {
        let Some(name) = old.file_name().and_then(|name| name.to_str()).filter(|name| is_epoch(name)) else { continue };
        if !users(&old)?.is_subset(&users(&folder.join(&own))?) || is_waited_for(folder, name)? {
            continue;
        }
        for pack in files(&old)? {
            if let Some(pack) = pack.file_name().and_then(|name| Blake3::from_hex(name.to_str()?)) {
                Index::retire(&old, &pack)?;
            }
        }
        atomic::remove_tree(&old)?;
    }
    Ok(())
}

/// The datasets that use packs of an epoch.
fn users(epoch: &Path) -> Result<BTreeSet<OsString>> {
    let names = names(epoch)?.into_iter().filter_map(|path| path.file_name().map(OsString::from));
    Ok(names.filter(|name| name.as_encoded_bytes().starts_with(USE)).collect())
}

/// Whether a request waits for its receipt that may have packs of this epoch.
fn is_waited_for(folder: &Path, epoch: &str) -> Result<bool> {
    for request in names(&folder.join(PENDING))? {
        for path in files(&request)? {
            // What cannot be read may be anything.
            if record::read_header(&path).map_or(true, |header| epoch_name(&header.epoch) == epoch) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::PackInfo;
    use crate::reference::RunId;
    use base::RequestId;
    use std::fs;

    fn info(tag: u64) -> PackInfo {
        let digest = Blake3::of(&tag.to_le_bytes());
        PackInfo { digest, size: 4096, run: RunId(tag), first: 0, frames: 1, table: digest, plain: 1000 }
    }

    fn id(n: u64) -> RequestId {
        format!("20261120T031500Z-{n:08x}").parse().unwrap()
    }

    fn load(folder: &Path, recipient: &str) -> Index {
        Index::load(folder, recipient).unwrap()
    }

    fn uses(folder: &Path, recipient: &str, dataset: &str) {
        fs::write(folder.join(epoch_name(recipient)).join(format!("use-{dataset}")), "").unwrap();
    }

    #[test]
    fn an_epoch_goes_when_nothing_refers_to_it_and_is_remembered_for_lost_packs() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        let old = folder.join(epoch_name("old"));
        for n in 1..=3 {
            load(folder, "old").note(&id(n), &info(n), &[]).unwrap();
            Index::acknowledge(folder, &id(n)).unwrap();
        }
        uses(folder, "old", "a");
        uses(folder, "old", "b");
        // The first dataset has come over, and the second not.
        load(folder, "new").note(&id(4), &info(4), &[]).unwrap();
        Index::acknowledge(folder, &id(4)).unwrap();
        uses(folder, "new", "a");
        assert_eq!((load(folder, "new").packs().len(), old.is_dir()), (1, true));
        // A request of the old epoch waits for its receipt.
        let waits = folder.join(PENDING).join(id(6).as_str());
        fs::create_dir_all(&waits).unwrap();
        record::write(&waits.join(info(6).digest.hex()), "old", &info(6), &[]).unwrap();
        uses(folder, "new", "b");
        assert_eq!((load(folder, "new").packs().len(), old.is_dir()), (1, true));
        Index::discard(folder, &id(6)).unwrap();
        // Cut off after the first of its files.
        Index::retire(&old, &info(2).digest).unwrap();
        assert_eq!((load(folder, "new").packs().len(), old.is_dir()), (1, false));
        assert_eq!((load(folder, "new").packs().len(), old.is_dir()), (1, false));
        // Older snapshots may need them: what is lost of them can be brought again, sealed as it was.
        assert_eq!(Index::lose_packs(folder, &[info(1).digest, info(2).digest, info(4).digest]).unwrap(), 3);
        let mut epochs: Vec<String> = Index::lost(folder, 9).unwrap().into_iter().map(|(epoch, ..)| epoch).collect();
        epochs.sort();
        assert_eq!(epochs, ["new", "old", "old"]);
    }
}
