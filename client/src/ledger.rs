//! What a backup could not read, kept on this machine for `status`: the first of it, and how much was left out.
//!
//! Names of files are for the sender and root alone. Nothing rests on it: the whole ledger is in the sealed manifest.

use crate::history::History;
use crate::state;
use base::config::ClientConfig;
use base::{At, Error, RequestId, Result, atomic};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// So many lines are kept of one backup.
pub const KEPT: usize = 20;
/// So many of them are shown to people.
const SHOWN: usize = 3;
/// How long, unless it is a dataset's last snapshot.
const TIME: Duration = Duration::from_secs(7 * 86_400);
/// The longest such file that is read: lines have paths of up to 64 KiB, twice as long when they are written.
const LIMIT: usize = KEPT * 256 * 1024;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// What could not be read and why; the first lines.
    pub lines: Vec<String>,
    /// How many sockets were left out.
    pub skipped: u64,
}

impl Ledger {
    /// Writes what `id` could not read, unless there is nothing to say.
    ///
    /// # Errors
    /// With the path.
    pub fn write(&self, config: &ClientConfig, id: &RequestId) -> Result<()> {
        if *self == Self::default() {
            return Ok(());
        }
        let bytes = serde_json::to_vec(self).map_err(|e| Error::failed("could not write down what was not read").because(e))?;
        atomic::write(&state::ledger_path(config, id.as_str()), &bytes, 0o600)
    }

    /// The first lines, ready to be shown, and how many of `all` are not among them.
    pub fn first(&self, all: u64) -> Vec<String> {
        let mut shown: Vec<String> = self.lines.iter().take(SHOWN).map(|line| base::text::printable(line)).collect();
        let more = all.saturating_sub(shown.len() as u64);
        if more > 0 && !shown.is_empty() {
            shown.push(format!("and {more} more"));
        }
        shown
    }

    /// What the backup `id` could not read; nothing where this user may not know it.
    pub fn read(config: &ClientConfig, id: &str) -> Self {
        // A snapshot's name comes from a receipt.
        if id.parse::<RequestId>().and_then(RequestId::only_whole).is_err() {
            return Self::default();
        }
        let file = base::untrusted::read(&state::ledger_path(config, id), LIMIT);
        file.ok().and_then(|file| serde_json::from_slice(&file.bytes).ok()).unwrap_or_default()
    }
}

/// Removes those that are older than seven days, but for those of the last snapshots.
///
/// # Errors
/// With the path.
pub fn sweep(config: &ClientConfig) -> Result<()> {
    let folder = state::ledgers_folder(config);
    let mut last: Option<BTreeSet<String>> = None;
    for entry in std::fs::read_dir(&folder).at("read the folder", &folder)? {
        let entry = entry.at("read the folder", &folder)?;
        let age = entry.metadata().ok().and_then(|meta| meta.modified().ok()).and_then(|time| time.elapsed().ok());
        if age.is_none_or(|age| age <= TIME) {
            continue;
        }
        let last = last.get_or_insert_with(|| {
            let histories = config.nodes.iter().map(|node| History::load(config, &node.name));
            histories.flat_map(|history| history.datasets.into_values().filter_map(|past| past.snapshot)).collect()
        });
        if !entry.file_name().to_str().is_some_and(|name| last.contains(name)) {
            atomic::remove(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Ending, OutcomeFile};
    use base::Name;

    #[test]
    fn a_ledger_stays_while_its_snapshot_is_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let node = "[[node]]\nname = \"n1\"\nssh = \"a@b\"\nhost_key = \"ssh-ed25519 AAAA\"\nreceipts_key = \"ssh-ed25519 AAAA\"";
        let text = format!("version = 1\nstate = \"{}\"\n{node}", dir.path().display());
        let config: ClientConfig = base::config::parse("c", text.as_bytes()).unwrap();
        for folder in ["ledgers", "history"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let [last, old, new] = [(); 3].map(|()| RequestId::generate().unwrap());
        let ledger = Ledger { lines: vec!["a: gone".into()], skipped: 1 };
        for id in [&last, &old, &new] {
            ledger.write(&config, id).unwrap();
        }
        Ledger::default().write(&config, &RequestId::generate().unwrap()).unwrap();
        assert_eq!(Ledger::read(&config, old.as_str()), ledger);
        assert_eq!(Ledger::read(&config, "../../etc/passwd"), Ledger::default());
        let mut outcome = OutcomeFile::new(&last, &"files:/a".parse().unwrap(), &Name::new("n1").unwrap(), Ending::Stored);
        outcome.snapshot = Some(last.to_string());
        History::default().add(&config, &outcome).unwrap();
        for id in [&last, &old] {
            let file = std::fs::File::open(state::ledger_path(&config, id.as_str())).unwrap();
            file.set_modified(std::time::SystemTime::now() - TIME - Duration::from_secs(60)).unwrap();
        }
        sweep(&config).unwrap();
        let kept = [&last, &old, &new].map(|id| Ledger::read(&config, id.as_str()) == ledger);
        assert_eq!(kept, [true, false, true]);
    }
}
