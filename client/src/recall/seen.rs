//! The highest request numbers that this machine has seen proven, so that an older history does not pass as the newest.
//!
//! Kept for each node, client and dataset; below the state folder where that can be written, else in the user's own.

use base::config::ClientConfig;
use base::{At, Claim, Dataset, Error, FileLock, Name, Result, atomic};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The longest such file that is read.
const LIMIT: usize = 16 << 20;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: i64,
    /// By `node/client:dataset`.
    #[serde(default)]
    seen: BTreeMap<String, u64>,
}

/// The memory.
#[derive(Debug)]
pub struct Seen {
    path: PathBuf,
}

impl Seen {
    /// Where it is kept for this user and configuration.
    pub fn of(config: Option<&ClientConfig>) -> Self {
        let shared = config.map(|config| config.state.join("seen")).filter(|folder| can_write(folder));
        let own = || {
            let base = std::env::var_os("XDG_STATE_HOME").filter(|value| Path::new(value).is_absolute()).map(PathBuf::from);
            let base = base.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state")));
            base.unwrap_or_else(|| "/var/lib".into()).join("nightsafe")
        };
        Self { path: shared.unwrap_or_else(own).join("seen.toml") }
    }

    /// Takes in a proven claim that was offered as the newest. Says the number that was seen before, when the claim's
    /// is lower: then the node offers an older history.
    ///
    /// # Errors
    /// With the path.
    pub fn newest(&self, claim: &Claim) -> Result<Option<u64>> {
        if let Some(folder) = self.path.parent() {
            atomic::make_folder(folder, 0o700)?;
        }
        let _lock = FileLock::wait(&self.path.with_extension("lock"))?;
        let mut file = self.load()?;
        let key = Self::key(&claim.node, &claim.client, &claim.dataset);
        match file.seen.get(&key) {
            Some(before) if *before > claim.seq => return Ok(Some(*before)),
            Some(before) if *before == claim.seq => return Ok(None),
            _ => {}
        }
        file.seen.insert(key, claim.seq);
        let text = toml::to_string(&file).map_err(|e| Error::failed("could not write what was seen").because(e))?;
        atomic::write(&self.path, text.as_bytes(), 0o600)?;
        Ok(None)
    }

    /// All that is remembered, by `node/client:dataset`, and where.
    ///
    /// # Errors
    /// With the path.
    pub fn all(&self) -> Result<(BTreeMap<String, u64>, &Path)> {
        Ok((self.load()?.seen, &self.path))
    }

    /// What a dataset is remembered by.
    pub fn key(node: &Name, client: &Name, dataset: &Dataset) -> String {
        format!("{node}/{client}:{dataset}")
    }

    fn load(&self) -> Result<File> {
        let empty = File { version: base::config::VERSION, seen: BTreeMap::new() };
        if !self.path.exists() {
            return Ok(empty);
        }
        let bytes = std::fs::File::open(&self.path).and_then(|file| base::untrusted::read_bounded(file, LIMIT)).at("read", &self.path)?;
        base::config::parse(&self.path.display().to_string(), &bytes)
            .map_err(|error: Error| error.hint("It remembers how far each node's history went; without it an older one is not noticed."))
    }
}

/// Whether files can be made there.
pub fn can_write(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recall::testing;
    use base::RequestId;

    fn claim(seq: u64) -> Claim {
        testing::claim(RequestId::generate().unwrap(), "files:/a", seq)
    }

    #[test]
    fn an_older_history_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let seen = Seen { path: dir.path().join("a/seen.toml") };
        assert_eq!(seen.newest(&claim(3)).unwrap(), None);
        assert_eq!(seen.newest(&claim(3)).unwrap(), None);
        assert_eq!(seen.newest(&claim(7)).unwrap(), None);
        assert_eq!(seen.newest(&claim(6)).unwrap(), Some(7));
        assert_eq!(seen.newest(&claim(7)).unwrap(), None);
    }
}
