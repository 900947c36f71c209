//! Restores of forged snapshots: honest ones, damaged ones and such as no honest client makes.

mod basic;
mod damage;
mod frames;
mod holes;
mod hostile;
mod overwrite;
mod property;
mod reads;
mod resume;

use super::journal::Mode;
use super::nodes::Node;
use super::*;
use crate::PackSource;
use crate::entry::{Content, Entry, Mtime};
use crate::forge::{Forge, Forged, entry, folder, link};
use crate::reference::{Member, References, RunId};
use base::{Kind, Silent};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

fn restore(forged: &Forged, target: &Path) -> Result<RestoreReport> {
    restore_paths(forged, target, &[])
}

fn restore_paths(forged: &Forged, target: &Path, paths: &[&str]) -> Result<RestoreReport> {
    restore_with(forged, target, paths, FileOptions::default())
}

fn restore_over(forged: &Forged, target: &Path, overwrite: Overwrite) -> Result<RestoreReport> {
    restore_with(forged, target, &[], FileOptions { overwrite: Some(overwrite), ..FileOptions::default() })
}

fn restore_with(forged: &Forged, target: &Path, paths: &[&str], options: FileOptions) -> Result<RestoreReport> {
    let paths = paths.iter().map(|p| (*p).to_owned()).collect();
    restore_tree(&forged.reader(), RestoreSpec { paths, target, options, monitor: &Silent })
}

/// The mark of a restore that was cut off, as it is left where the target was new.
fn plant_mark(forged: &Forged, target: &Path) -> PathBuf {
    let spec = RestoreSpec { paths: vec![], target, options: FileOptions::default(), monitor: &Silent };
    let name = Journal::name(&forged.manifest.public.id);
    drop(Journal::begin(fs::File::open(target).unwrap(), target, name.clone(), Mode::Fresh, &asked(&spec), false).unwrap());
    target.join(name)
}

/// Everything below a folder: kind, mode and content (or target), by path.
fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).unwrap() {
            let path = item.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let what = if meta.is_dir() {
                folders.push(path.clone());
                "folder".to_owned()
            } else if meta.is_symlink() {
                format!("link {}", fs::read_link(&path).unwrap().display())
            } else if !meta.is_file() {
                "special".to_owned()
            } else {
                format!("file {}", base::Blake3::of(&fs::read(&path).unwrap()))
            };
            let mode = if meta.is_symlink() { 0 } else { meta.permissions().mode() & 0o7777 };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), format!("{what} {mode:o} {}.{:09}", meta.mtime(), meta.mtime_nsec()));
        }
    }
    found
}

fn sample() -> (Forge, Vec<Entry>) {
    let mut forge = Forge::new();
    let big: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n + 1; 1500]).collect();
    let big: Vec<&[u8]> = big.iter().map(Vec::as_slice).collect();
    let mut entries =
        vec![folder(""), folder("a/"), folder("a/b/"), folder("empty/"), link("a/link", "../x"), link("zlink", "/etc/passwd")];
    entries.push(forge.file("a/one", &[b"one"]));
    entries.push(forge.file("a/nothing", &[]));
    entries.push(forge.file("big", &big));
    entries.push(forge.file("a/b/two", &[b"two", b"three"]));
    for n in 0..30 {
        let content = format!("file {n} {}", "x".repeat(n * 40));
        entries.push(forge.file(&format!("many-{n:02}"), &[content.as_bytes()]));
    }
    (forge, entries)
}
