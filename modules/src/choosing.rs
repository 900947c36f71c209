//! What of a dataset is taken, from what the configuration says to the archive's own choice.
//!
//! Walks nothing; of the disk it reads the list of names alone.

use crate::Frozen;
use archive::choose::{Choice, check_pattern};
use base::config::Choosing;
use base::config::ClientConfig;
use base::{At, Dataset, Error, Result, beneath, untrusted};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The settings of a `[[dataset]]` that are carried out here, and last the one that takes a snapshot of the file system first.
pub(crate) const WITH_SNAPSHOT: &[&str] =
    &["exclude", "include", "exclude_caches", "one_file_system", "max_file_size", "files_from", "snapshot"];

/// The same for what is on no file system.
pub(crate) const SETTINGS: &[&str] = match WITH_SNAPSHOT.split_last() {
    Some((_, rest)) => rest,
    None => &[],
};

/// A longer list of names is not read.
const LIST_LIMIT: usize = 256 << 20;

/// Checks what can be known of the datasets of `module` without looking at the disk.
pub(crate) fn check(config: &ClientConfig, module: &str) -> Result<()> {
    let datasets = config.datasets.iter().filter(|entry| entry.address.module() == module);
    for entry in datasets {
        check_one(&entry.choosing()).map_err(|error| error.context(format!("the [[dataset]] {} is wrong", entry.address)))?;
    }
    for entry in config.allow.iter().filter(|entry| entry.module == module) {
        check_one(&entry.choosing()).map_err(|error| error.context(format!("the [[allow]] of {module} under {} is wrong", entry.under)))?;
    }
    Ok(())
}

fn check_one(choosing: &Choosing) -> Result<()> {
    choosing.exclude.iter().try_for_each(|pattern| check_pattern(pattern, true).map_err(|error| error.context("exclude is wrong")))?;
    choosing.include.iter().try_for_each(|pattern| check_pattern(pattern, false).map_err(|error| error.context("include is wrong")))?;
    if !choosing.include.is_empty() && choosing.exclude.is_empty() {
        return Err(Error::usage("include holds exceptions to exclude, and there is no exclude")
            .hint("To take some names and nothing else, exclude = [\"/*\"], or write the names into a file for files_from."));
    }
    match &choosing.files_from {
        Some(path) if !path.is_absolute() => {
            Err(Error::usage(format!("files_from must be an absolute path, and {} is none", path.display())))
        }
        _ => Ok(()),
    }
}

/// The choice for the tree at `path`, which is the dataset's own path or below it: patterns and names are against that.
///
/// # Errors
/// Of kind usage when a pattern is wrong or the dataset lies in the export folder; failed when the list of names cannot
/// be read.
pub(crate) fn choice(config: &ClientConfig, dataset: &Dataset, path: &Path) -> Result<Choice> {
    let own = own_folders(config);
    if let Some(own) = own.iter().find(|own| path.starts_with(own)) {
        return Err(Error::usage(format!("{dataset} lies in {}, where every backup writes itself", own.display()))
            .hint("Back up another folder; what this one holds is made anew by every backup."));
    }
    let choosing = config.choosing(dataset);
    let mut choice = Choice::new(&choosing.exclude, &choosing.include)?;
    choice.exclude_caches = choosing.exclude_caches;
    choice.one_file_system = choosing.one_file_system;
    choice.max_file_size = choosing.max_file_size.map(|size| size.0);
    // By what they are and not by their names: mounts show folders in several places.
    choice.own = own.iter().filter_map(|folder| folder.metadata().ok()).map(|meta| (meta.dev(), meta.ino())).collect();
    if let Some(list) = &choosing.files_from {
        let mut add = || choice.only(&read_list(list)?, path);
        add().map_err(|error| error.context(format!("files_from of {dataset}, {}, cannot be used", list.display())))?;
    }
    Ok(choice)
}

/// Leaves out also what backups write themselves as a snapshot of the file system shows it: under other devices' numbers.
pub(crate) fn leave_out_own_of(choice: &mut Choice, config: &ClientConfig, frozen: &Frozen) {
    let shown = |folder: &PathBuf| {
        let inner = folder.canonicalize().ok()?;
        frozen.root.join(inner.strip_prefix(&frozen.alive).ok()?).metadata().ok()
    };
    choice.own.extend(own_folders(config).iter().filter_map(shown).map(|meta| (meta.dev(), meta.ino())));
}

/// The folders that every backup writes to.
fn own_folders(config: &ClientConfig) -> [PathBuf; 4] {
    [config.export_root(), config.staging_path(), config.state.join(crate::settle::INDEX), config.state.join(crate::settle::CACHE)]
}

/// Reads the list, through no link: whoever may write beside it must not make us read and name the lines of another file.
fn read_list(path: &Path) -> Result<Vec<u8>> {
    let below = path.strip_prefix("/").map_err(|_| Error::usage("it is no absolute path"))?;
    let file = beneath::regular_file(beneath::folder(Path::new("/"))?, below)
        .map_err(|error| error.context("could not open it without following links"))?;
    untrusted::read_bounded(file, LIST_LIMIT).at("read", path)
}
