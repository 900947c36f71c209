//! The pool of a node, one for each client: which requests of its log wait, which are in process, which are done.
//!
//! Knows the request's id and the commit that holds it, nothing more: the log has the rest.

use super::{FILE_LIMIT, State, ids};
use base::{Error, FileLock, RequestId, Result, atomic, untrusted};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One request in a node's pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// The request's id.
    pub id: RequestId,
    /// The commit of the client's log that holds it, hex; `None` where the pool's file is damaged: the log knows as well.
    pub commit: Option<String>,
    /// Since when it is here, by the node's clock.
    pub since: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: i64,
    id: RequestId,
    commit: String,
}

/// The pool of one client on a node.
#[derive(Debug, Clone)]
pub struct NodePool {
    root: PathBuf,
    incomplete: PathBuf,
}

impl NodePool {
    /// Opens the pool, and makes its folders when they are not there.
    ///
    /// # Errors
    /// With the path.
    pub fn open(root: &Path) -> Result<Self> {
        let pool = Self { root: root.to_owned(), incomplete: root.join(".incomplete") };
        atomic::make_folder(&pool.incomplete, 0o750)?;
        Ok(pool)
    }

    /// Adds a request as waiting. One that is here in any state stays as it is.
    ///
    /// # Errors
    /// With the path.
    pub fn add(&self, id: &RequestId, commit: &str) -> Result<()> {
        let _lock = self.lock()?;
        if self.state_of(id)?.is_some() {
            return Ok(());
        }
        let text = Text { version: base::config::VERSION, id: id.clone(), commit: commit.into() };
        let text = toml::to_string(&text).map_err(|e| Error::failed("could not write a pool file as TOML").because(e))?;
        let draft = State::Complete.path(&self.incomplete, id);
        atomic::write(&draft, text.as_bytes(), 0o640)?;
        atomic::rename(&draft, &State::Complete.path(&self.root, id))
    }

    /// What waits, in the order in which it was added.
    ///
    /// # Errors
    /// With the path.
    pub fn waiting(&self) -> Result<Vec<NodeEntry>> {
        self.entries(State::Complete)
    }

    /// What is in process, in the order in which it was added: work goes on with these first.
    ///
    /// # Errors
    /// With the path.
    pub fn processing(&self) -> Result<Vec<NodeEntry>> {
        self.entries(State::Process)
    }

    /// Makes a waiting request one in process (it may be that already), and locks it for this worker. `None` when
    /// another worker has it, or it is not waiting any more.
    ///
    /// # Errors
    /// With the path.
    pub fn start(&self, id: &RequestId) -> Result<Option<FileLock>> {
        let _lock = self.lock()?;
        let path = State::Process.path(&self.root, id);
        match self.state_of(id)? {
            Some(State::Complete) => atomic::rename(&State::Complete.path(&self.root, id), &path)?,
            Some(State::Process) => {}
            _ => return Ok(None),
        }
        FileLock::try_now(&path)
    }

    /// Marks a request as finished, from whatever state it is in.
    ///
    /// # Errors
    /// With the path.
    pub fn finish(&self, id: &RequestId) -> Result<()> {
        let _lock = self.lock()?;
        let to = State::Finished.path(&self.root, id);
        for state in [State::Process, State::Complete] {
            super::finish(&state.path(&self.root, id), &to)?;
        }
        Ok(())
    }

    /// The state of a request, if it is here.
    ///
    /// # Errors
    /// None today; kept for pools that are not plain folders.
    pub fn state_of(&self, id: &RequestId) -> Result<Option<State>> {
        let states = [State::Process, State::Complete, State::Finished];
        Ok(states.into_iter().find(|state| state.path(&self.root, id).is_file()))
    }

    /// Removes finished requests older than `age`, and what crashes left half written. Says how many went.
    ///
    /// # Errors
    /// With the path.
    pub fn sweep_finished(&self, age: Duration) -> Result<usize> {
        atomic::sweep_drafts(&self.incomplete, super::UNFINISHED);
        super::sweep(&self.root, State::Finished, age)
    }

    fn entries(&self, state: State) -> Result<Vec<NodeEntry>> {
        let mut entries = Vec::new();
        for id in ids(&self.root, state)? {
            let path = state.path(&self.root, &id);
            let Ok(changed) = path.symlink_metadata().and_then(|meta| meta.modified()) else {
                // It went on to its next state in this moment.
                continue;
            };
            let commit = match commit_in(&path, &id) {
                Err(_) if !path.is_file() => continue,
                Err(error) => {
                    tracing::warn!("the request is looked up in the log: {}", error.one_line());
                    None
                }
                Ok(commit) => Some(commit),
            };
            // A rename keeps it: it is when the request was added.
            let since = Timestamp::try_from(changed).unwrap_or_default();
            entries.push((changed, NodeEntry { id, commit, since }));
        }
        // Ids are made by clients and say nothing about order.
        entries.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
        Ok(entries.into_iter().map(|(_, entry)| entry).collect())
    }

    fn lock(&self) -> Result<FileLock> {
        FileLock::wait(&self.root.join("lock"))
    }
}

/// The commit that the file at `path` names.
fn commit_in(path: &Path, id: &RequestId) -> Result<String> {
    let text: Text = base::config::parse(&path.display().to_string(), &untrusted::read(path, FILE_LIMIT)?.bytes)?;
    if text.id == *id { Ok(text.commit) } else { Err(Error::failed(format!("{} says that its id is {}", path.display(), text.id))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> RequestId {
        format!("20261120T031500Z-{n:08x}").parse().unwrap()
    }

    #[test]
    fn from_waiting_to_finished() {
        let dir = tempfile::tempdir().unwrap();
        let pool = NodePool::open(&dir.path().join("pool")).unwrap();
        // Added in this order, whatever the ids say.
        for n in [9, 3, 7] {
            pool.add(&id(n), &format!("{n:040}")).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        pool.add(&id(9), "again").unwrap();
        let waiting = pool.waiting().unwrap();
        assert_eq!(waiting.iter().map(|e| e.id.clone()).collect::<Vec<_>>(), [id(9), id(3), id(7)]);
        assert_eq!(waiting[0].commit, Some(format!("{:040}", 9)));
        // A damaged file costs its own content, and nobody else's place.
        std::fs::write(State::Complete.path(&pool.root, &id(7)), "version = [").unwrap();
        let waiting = pool.waiting().unwrap();
        assert_eq!((waiting.len(), waiting.iter().filter(|entry| entry.commit.is_none()).count()), (3, 1));

        let lock = pool.start(&id(3)).unwrap().unwrap();
        assert_eq!(pool.state_of(&id(3)).unwrap(), Some(State::Process));
        assert!(pool.start(&id(3)).unwrap().is_none(), "somebody works on it");
        drop(lock);
        let _lock = pool.start(&id(3)).unwrap().expect("a crash's request is taken up again");
        assert_eq!(pool.processing().unwrap().len(), 1);
        pool.finish(&id(3)).unwrap();
        pool.finish(&id(3)).unwrap();
        pool.finish(&id(1)).unwrap();
        assert_eq!(pool.state_of(&id(3)).unwrap(), Some(State::Finished));
        assert!(pool.start(&id(3)).unwrap().is_none());
        pool.add(&id(3), "again").unwrap();
        assert_eq!(pool.waiting().unwrap().len(), 2);
        assert_eq!(pool.sweep_finished(Duration::from_secs(3600)).unwrap(), 0);
        assert_eq!(pool.sweep_finished(Duration::ZERO).unwrap(), 1);
        assert_eq!(pool.state_of(&id(3)).unwrap(), None);
    }
}
