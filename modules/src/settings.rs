//! What the client halves have in common: their table of the configuration, and a first look at a path.
//!
//! Knows no module by name.

use base::config::ClientConfig;
use base::{At, Dataset, Error, Result};
use serde::de::DeserializeOwned;
use std::path::Path;

/// The table `[module.NAME]`; all its defaults when there is none.
///
/// # Errors
/// Of kind usage, with the field.
pub(crate) fn table<T: DeserializeOwned + Default>(config: &ClientConfig, module: &str) -> Result<T> {
    let Some(value) = config.module.get(module) else { return Ok(T::default()) };
    value.clone().try_into().map_err(|error: toml::de::Error| {
        Error::usage(format!("[module.{module}] is wrong: {}", error.message().trim().replace('\n', " ")))
    })
}

/// Refuses settings for a module that has none.
///
/// # Errors
/// Of kind usage, with the first field.
pub(crate) fn none(config: &ClientConfig, module: &str) -> Result<()> {
    match config.module.get(module).and_then(|value| value.as_table()).and_then(|table| table.keys().next()) {
        Some(field) => {
            Err(Error::usage(format!("[module.{module}] has the setting {field}, and there is none of that name in this release")))
        }
        None => Ok(()),
    }
}

/// The dataset's path, which must be absolute.
///
/// # Errors
/// Of kind usage.
pub(crate) fn absolute(dataset: &Dataset) -> Result<&Path> {
    let path = Path::new(dataset.path());
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(Error::usage(format!("{dataset} has no absolute path")).hint(format!("Write {}:/PATH.", dataset.module())))
    }
}

/// An error when nothing is at `path`, as far as this user can tell.
///
/// # Errors
/// With the path.
pub(crate) fn exists(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Err(error).at("find", path)
        }
        _ => Ok(()),
    }
}

/// Whether this user can look into the folder `path`.
pub(crate) fn is_visible(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok()
}

/// The error for a dataset that nobody allowed.
pub(crate) fn not_allowed(dataset: &Dataset) -> Error {
    Error::refused(format!("{dataset} is neither listed nor allowed in the configuration"))
        .hint("Add a [[dataset]] or an [[allow]] to client.toml.")
}
