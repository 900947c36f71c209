//! What the client halves have in common: their table of the configuration, and a first look at a path.
//!
//! Knows no module by name.

use base::config::ClientConfig;
use base::{At, Dataset, Error, Result, Span};
use serde::de::DeserializeOwned;
use std::path::Path;
use std::time::Duration;

/// The table `[module.NAME]`; all its defaults when there is none.
///
/// # Errors
/// Of kind usage, with the field.
pub(crate) fn table<T: DeserializeOwned + Default>(config: &ClientConfig, module: &str) -> Result<T> {
    let Some(value) = config.module.get(module) else { return Ok(T::default()) };
    value.clone().try_into().map_err(|error: toml::de::Error| {
        let message = error.message().trim().replace('\n', " ");
        base::config::meant(Error::usage(format!("[module.{module}] is wrong: {message}")), &message)
    })
}

/// How long a program of a module may run where its table has no `time_limit`.
pub(crate) fn time_limit() -> Span {
    Span(Duration::from_secs(86_400))
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

/// The dataset's path; an error when nothing is there, or when a link below what is allowed leads to it, as far as this
/// user can tell.
///
/// # Errors
/// With the path.
pub(crate) fn reachable<'a>(config: &ClientConfig, dataset: &'a Dataset) -> Result<&'a Path> {
    let path = absolute(dataset)?;
    let base = Path::new(config.base_of(dataset).ok_or_else(|| not_allowed(dataset))?);
    let parts: Vec<&Path> = path.ancestors().take_while(|part| part.starts_with(base)).collect();
    for part in parts.into_iter().rev() {
        match part.symlink_metadata() {
            Ok(meta) if meta.is_symlink() && part != base => {
                let hint = match path.canonicalize() {
                    Ok(real) => format!("Name {} itself.", real.display()),
                    Err(_) => "Name what the link leads to.".into(),
                };
                return Err(Error::usage(format!("{} is a symbolic link, and none is followed", part.display())).hint(hint));
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Err(error).at("find", path);
            }
            _ => {}
        }
    }
    Ok(path)
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
