//! How packs are used: what lies there, and which roots name it. Pruning reckons with it.
//!
//! Only looks; decides nothing and takes nothing away.

use super::Store;
use crate::manifest::Counts;
use base::{At, Blake3, Monitor, RequestId, Result};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

/// A pack as it lies in a folder.
pub(super) struct PackFile {
    pub(super) size: u64,
    pub(super) modified: Timestamp,
}

/// How a pack is used.
pub(super) struct PackUse {
    pub(super) size: u64,
    /// How many roots name it.
    pub(super) roots: u32,
    /// One of them, by its place in the list of snapshots.
    pub(super) owner: u32,
}

/// What the manifests say of the packs.
#[derive(Default)]
pub(super) struct Uses {
    /// The packs that are there.
    pub(super) present: HashMap<Blake3, PackFile>,
    /// The packs that are named.
    pub(super) packs: HashMap<Blake3, PackUse>,
    /// By root: what it counts, and whether all its packs are there.
    pub(super) snapshots: HashMap<RequestId, (Option<Counts>, bool)>,
    /// Roots that cannot be read, and why, by the names of their folders.
    pub(super) unreadable: BTreeMap<String, String>,
}

impl Store {
    /// Reads every root once, and tells `monitor` of each.
    pub(super) fn uses(&self, names: &HashMap<RequestId, u32>, monitor: &dyn Monitor) -> Result<Uses> {
        let present = pack_files(&self.layout.packs())?;
        let mut uses = Uses::default();
        self.layout.each_root(&mut |path, root| {
            monitor.entries(1);
            let root = match root {
                Ok(root) => root,
                Err(error) => {
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    if let Ok(id) = name.parse::<RequestId>() {
                        uses.snapshots.insert(id, (None, false));
                    }
                    uses.unreadable.insert(name, error.one_line());
                    return Ok(());
                }
            };
            let owner = names.get(&root.id).copied().unwrap_or(u32::MAX);
            let mut whole = true;
            for pack in &root.packs {
                uses.packs.entry(pack.digest).or_insert(PackUse { size: pack.size, roots: 0, owner }).roots += 1;
                whole &= present.get(&pack.digest).is_some_and(|file| file.size == pack.size);
            }
            uses.snapshots.insert(root.id, (Some(root.counts), whole));
            Ok(())
        })?;
        uses.present = present;
        Ok(uses)
    }

    /// The same as if the snapshots in `gone` were not there.
    pub(super) fn without(&self, uses: &mut Uses, gone: &BTreeSet<RequestId>) -> Result<()> {
        for id in gone {
            if uses.unreadable.remove(id.as_str()).is_some() {
                continue;
            }
            for pack in self.layout.root_of(id)?.into_iter().flat_map(|root| root.packs) {
                if let Some(pack) = uses.packs.get_mut(&pack.digest) {
                    pack.roots = pack.roots.saturating_sub(1);
                }
            }
        }
        Ok(())
    }
}

/// The files in a folder of packs, by name.
pub(super) fn pack_files(folder: &Path) -> Result<HashMap<Blake3, PackFile>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
        entries => entries.at("list", folder)?,
    };
    let mut files = HashMap::new();
    for entry in entries {
        let entry = entry.at("list", folder)?;
        let Some(digest) = entry.file_name().to_str().and_then(Blake3::from_hex) else { continue };
        let meta = match entry.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            meta => meta.at("look at", entry.path())?,
        };
        let modified = meta.modified().ok().and_then(|time| Timestamp::try_from(time).ok()).unwrap_or(Timestamp::MAX);
        files.insert(digest, PackFile { size: meta.len(), modified });
    }
    Ok(files)
}
