//! Small TOML files in which a program remembers what is no truth of its own: retries, alarms, what was told, what came last.
//!
//! Losing one costs a wait or a mail, never data; so whoever finds one broken may begin it anew.

use crate::error::{Error, Result};
use crate::{atomic, config, untrusted};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Reads `path`, of up to `limit` bytes, or gives the empty state where it is not there.
///
/// # Errors
/// With the path, where it cannot be read as such.
pub fn load<T: DeserializeOwned + Default>(path: &Path, limit: usize) -> Result<T> {
    match untrusted::read_if_there(path, limit)? {
        Some(file) => config::parse(&path.display().to_string(), &file.bytes),
        None => Ok(T::default()),
    }
}

/// Replaces `path`. The state must write `version = 1`, as all TOML of ours.
///
/// # Errors
/// With the path.
pub fn store<T: Serialize>(path: &Path, state: &T) -> Result<()> {
    let text = toml::to_string(state).map_err(|error| Error::failed(format!("could not write {}", path.display())).because(error))?;
    atomic::write(path, text.as_bytes(), 0o640)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct State {
        version: i64,
        last: Option<u32>,
    }

    #[test]
    fn what_is_not_there_is_empty_and_what_is_broken_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.toml");
        assert_eq!(load::<State>(&path, 100).unwrap(), State::default());
        let state = State { version: 1, last: Some(7) };
        store(&path, &state).unwrap();
        assert_eq!(load::<State>(&path, 100).unwrap(), state);
        assert!(load::<State>(&path, 10).is_err());
        std::fs::write(&path, "version = ").unwrap();
        assert!(load::<State>(&path, 100).unwrap_err().one_line().contains("state.toml"));
    }
}
