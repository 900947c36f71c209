//! The roots of a store: which packs the kept snapshots and the accepted parts name. The one place that says so.
//!
//! Opens nothing sealed. Believes a manifest only when it is the one that was signed for: a flipped digit in its list of
//! packs would otherwise give up a pack that a snapshot needs.

use super::Store;
use super::layout::{Layout, MANIFEST, REFS, REQUEST};
use super::listing::{CONTENT_LIMIT, read};
use crate::manifest::{Counts, Manifest, PackRef};
use base::{At, Blake3, Dataset, Error, RequestId, Result, atomic, beneath};
use std::fs;
use std::path::{Path, PathBuf};

/// A folder with a manifest: an archive's snapshot, or an accepted part of one.
#[derive(Debug, Clone)]
pub struct Root {
    /// The id of the request that made it; a part's ends in its number.
    pub id: RequestId,
    /// The part's number; none for a snapshot.
    pub part: Option<u16>,
    /// What it is of.
    pub dataset: Dataset,
    /// How much it holds, as the manifest counts.
    pub counts: Counts,
    /// Every pack that it names, each once.
    pub packs: Vec<PackRef>,
    /// Its folder.
    pub path: PathBuf,
}

impl Layout {
    /// All roots, in no order. Take [`Layout::each_root`] where a store may be large.
    ///
    /// # Errors
    /// When any of them cannot be read: whoever removes by this list must not remove by half of it.
    pub(super) fn roots(&self) -> Result<Vec<Root>> {
        let mut roots = Vec::new();
        self.each_root(&mut |_, root| {
            roots.push(root?);
            Ok(())
        })?;
        Ok(roots)
    }

    /// The root that a snapshot is; none where it is a mirror's.
    ///
    /// # Errors
    /// When it cannot be read, or is not there.
    pub(super) fn root_of(&self, id: &RequestId) -> Result<Option<Root>> {
        read_root(&self.snapshot(id), false)
    }

    /// Calls `f` with the folder of every root and what was read of it, one after the other, so that the lists of packs
    /// of a thousand snapshots need not be in memory at once. Snapshots of mirrors name no packs and are passed over.
    ///
    /// # Errors
    /// As `f`, or when the folders cannot be listed. A root that cannot be read, and a folder that could be one under a
    /// name that is none, is an error for `f`.
    pub(super) fn each_root(&self, f: &mut dyn FnMut(&Path, Result<Root>) -> Result<()>) -> Result<()> {
        for (folder, parts) in [(self.snapshots(), false), (self.parts(), true)] {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.at("list", &folder)?,
            };
            for entry in entries {
                let entry = entry.at("list", &folder)?;
                if entry.file_name().as_encoded_bytes().starts_with(atomic::TEMP_PREFIX.as_bytes()) {
                    continue;
                }
                let path = entry.path();
                match read_root(&path, parts) {
                    Ok(Some(root)) => f(&path, Ok(root))?,
                    Ok(None) => {}
                    // Gone since the folder was listed: whoever decides holds the lock, and does not see this.
                    Err(_) if path.symlink_metadata().is_err() => {}
                    Err(error) => f(&path, Err(error.context(format!("{} cannot be read", path.display()))))?,
                }
            }
        }
        Ok(())
    }
}

impl Store {
    /// All roots, in no order, for whoever looks at a store from outside.
    ///
    /// # Errors
    /// When any of them cannot be read.
    pub fn roots(&self) -> Result<Vec<Root>> {
        self.layout.roots()
    }
}

/// Reads one root; none where a mirror's list of refs lies.
fn read_root(path: &Path, in_parts: bool) -> Result<Option<Root>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let id: RequestId = name.parse().map_err(|error: Error| {
        error.with_kind(base::Kind::Failed).hint("Nothing else belongs there: move it out of the store, or give it its name again.")
    })?;
    let part = id.part();
    if part.is_some() != in_parts {
        return Err(Error::failed(if in_parts { "it is no part" } else { "it is a part" }));
    }
    let folder = beneath::folder(path)?;
    let there = |name: &str| path.join(name).symlink_metadata().is_ok();
    if !there(MANIFEST) && there(REFS) {
        return Ok(None);
    }
    let signed = signed_digest(&read(&folder, REQUEST, CONTENT_LIMIT)?)?;
    let bytes = read(&folder, MANIFEST, CONTENT_LIMIT)?;
    let found = Blake3::of(&bytes);
    if found != signed {
        return Err(Error::failed(format!("its manifest is {found}, and {signed} was signed for")));
    }
    let public = Manifest::parse(&bytes)?.public;
    if public.id != id {
        return Err(Error::failed(format!("its manifest belongs to {}", public.id)));
    }
    Ok(Some(Root { id, part, dataset: public.dataset, counts: public.counts, packs: public.packs, path: path.to_owned() }))
}

/// The manifest's digest as the request names it. Whether it is signed, accept has checked; this is about rot.
fn signed_digest(request: &[u8]) -> Result<Blake3> {
    let wrong = || Error::failed(format!("its {REQUEST} does not name a manifest"));
    let text = std::str::from_utf8(request).map_err(|error| wrong().because(error))?;
    let table: toml::Table = toml::from_str(text).map_err(|error| wrong().because(error))?;
    table.get("manifest").and_then(toml::Value::as_str).and_then(|digest| digest.parse().ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::{Forge, ID, claim, folder};
    use crate::store::{Content, Quota, Stats, Store};
    use std::io::Write as _;

    fn one_snapshot(path: &Path) -> (Store, crate::forge::Forged) {
        let mut forge = Forge::new();
        let entries = vec![folder(""), forge.file("a", &[b"content"])];
        let forged = forge.finish(entries);
        let store = Store::open(path).unwrap();
        let claim = claim(&forged.manifest);
        for pack in store.to_fetch(&claim.id, &forged.manifest.public).unwrap() {
            let mut writer = store.begin_pack(&claim.id, &pack).unwrap();
            writer.write_all(&forged.packs.packs.lock().unwrap()[&pack.digest]).unwrap();
            writer.finish().unwrap();
        }
        let now = "2026-11-20T04:00:00Z".parse().unwrap();
        store.accept(&claim, Content::Manifest(&forged.manifest), now, &Quota::default(), Stats::default()).unwrap();
        (store, forged)
    }

    #[test]
    fn every_manifest_is_a_root_and_whatever_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Layout::new(dir.path()).roots().unwrap().is_empty());
        let (store, forged) = one_snapshot(dir.path());
        let layout = &store.layout;
        let roots = layout.roots().unwrap();
        assert_eq!((roots.len(), &roots[0].id, roots[0].part), (1, &forged.manifest.public.id, None));
        assert_eq!((&roots[0].packs, &roots[0].path), (&forged.manifest.public.packs, &layout.snapshots().join(ID)));
        // A mirror's snapshot names no packs, and an unfinished file is nothing.
        let mirror = layout.snapshots().join("20261121T031500Z-00000001");
        fs::create_dir(&mirror).unwrap();
        fs::write(mirror.join(REFS), b"HEAD refs/heads/main\n").unwrap();
        fs::write(layout.snapshots().join(".tmp-1-2"), b"").unwrap();
        assert_eq!(layout.roots().unwrap().len(), 1);
        // Whatever else is wrong with it: it is named, and the others are still given.
        let own = layout.snapshots().join(ID);
        let manifest = fs::read(own.join(MANIFEST)).unwrap();
        let request = fs::read(own.join(REQUEST)).unwrap();
        let digest = forged.manifest.public.packs[0].digest.hex();
        let other = if digest.ends_with('0') { "1" } else { "0" };
        let text: Vec<u8> = {
            let at = manifest.windows(64).position(|window| window == digest.as_bytes()).unwrap();
            let mut bytes = manifest.clone();
            bytes[at + 63] = other.as_bytes()[0];
            bytes
        };
        for (what, manifest, request, words) in [
            ("another pack's name", Some(text.as_slice()), request.as_slice(), "was signed for"),
            ("cut off", Some(&manifest[..manifest.len() - 1]), &request, "was signed for"),
            ("empty", Some(b""), &request, "was signed for"),
            ("gone", None, &request, "manifest"),
            ("request gone bad", Some(&manifest), b"\xff", "does not name a manifest"),
            ("request of a mirror", Some(&manifest), b"refs = \"sha256:00\"\n", "does not name a manifest"),
        ] {
            fs::write(own.join(REQUEST), request).unwrap();
            match manifest {
                Some(bytes) => fs::write(own.join(MANIFEST), bytes).unwrap(),
                None => fs::remove_file(own.join(MANIFEST)).unwrap(),
            }
            let error = layout.roots().unwrap_err().one_line();
            assert!(error.contains(ID) && error.contains(words), "{what}: {error}");
            let mut seen = 0;
            layout
                .each_root(&mut |path, root| {
                    seen += 1;
                    assert!(path == own && root.is_err());
                    Ok(())
                })
                .unwrap();
            assert_eq!(seen, 1, "{what}");
        }
        fs::write(own.join(REQUEST), &request).unwrap();
        fs::write(own.join(MANIFEST), &manifest).unwrap();
        assert_eq!(layout.roots().unwrap().len(), 1);
        // Under another name it could be a root that nobody counts.
        fs::rename(&own, layout.snapshots().join("kept-by-hand")).unwrap();
        assert!(layout.roots().unwrap_err().one_line().contains("kept-by-hand"));
    }
}
