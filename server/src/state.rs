//! The poller's small TOML files: a broken one is begun anew, and the log says so.
//!
//! What they look like and how they are replaced is `base::state`.

use serde::de::DeserializeOwned;
use std::path::Path;

pub use base::state::store;

/// The largest state file that is read, in bytes.
const LIMIT: usize = 16 << 20;

/// Reads `path`, or gives the empty state where it is not there or not readable as such.
pub fn load<T: DeserializeOwned + Default>(path: &Path) -> T {
    base::state::load(path, LIMIT).unwrap_or_else(|error| {
        tracing::warn!("{} is begun anew: {}", path.display(), error.one_line());
        T::default()
    })
}
