//! Small TOML files in which the poller remembers what is no truth of its own: retries, alarms, what came last.
//!
//! Losing one costs a wait or a line in `status`, never data; so a broken one is begun anew.

use base::{Error, Result, atomic, config};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// The largest state file that is read, in bytes.
const LIMIT: usize = 16 << 20;

/// Reads `path`, or gives the empty state where it is not there or not readable as such.
pub fn load<T: DeserializeOwned + Default>(path: &Path) -> T {
    let bytes = match base::untrusted::read_if_there(path, LIMIT) {
        Ok(Some(file)) => file.bytes,
        Ok(None) => return T::default(),
        Err(error) => {
            tracing::warn!("{} is begun anew: {}", path.display(), error.one_line());
            return T::default();
        }
    };
    config::parse(&path.display().to_string(), &bytes).unwrap_or_else(|error| {
        tracing::warn!("begun anew: {}", error.one_line());
        T::default()
    })
}

/// Replaces `path`.
///
/// # Errors
/// With the path.
pub fn store<T: Serialize>(path: &Path, state: &T) -> Result<()> {
    let text = toml::to_string(state).map_err(|error| Error::failed(format!("could not write {}", path.display())).because(error))?;
    atomic::write(path, text.as_bytes(), 0o640)
}
