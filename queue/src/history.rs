//! Notes about a repository's history, so that the last request of a dataset is found without walking all of it.
//!
//! A file of lines `COMMIT SEQ NAME DATASET`, oldest first, beside the objects. It is never believed when it does not
//! fit the branch: it is then brought up to date, or made anew. Losing it costs one walk.

use crate::repository::Repository;
use base::{At, Dataset, Error, RequestId, Result};
use git2::Oid;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file's name in the repository's folder.
const NAME: &str = "nightsafe-history";
/// Commits that are noted at once while the file is made anew.
const BATCH: usize = 1000;

/// One file of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub commit: String,
    pub name: String,
    /// `seq` and dataset, when the file is a request.
    pub request: Option<(u64, String)>,
}

impl Note {
    fn line(&self) -> String {
        let (seq, dataset) = self.request.as_ref().map_or((0, "-"), |(seq, dataset)| (*seq, dataset));
        format!("{} {seq} {} {dataset}\n", self.commit, self.name)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.splitn(4, ' ');
        let (commit, seq, name, dataset) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        let request = (dataset != "-").then(|| (seq, dataset.to_owned()));
        (commit.len() == 40).then(|| Self { commit: commit.to_owned(), name: name.to_owned(), request })
    }
}

/// What the file says, as far as it was read.
#[derive(Debug)]
pub(crate) struct History {
    file: PathBuf,
    state: Option<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The commit of the last line.
    tip: Option<Oid>,
    last_seq: u64,
    datasets: HashMap<String, RequestId>,
    /// The newest commit of each file.
    files: HashMap<String, Oid>,
}

impl State {
    fn take(&mut self, note: &Note) {
        let Ok(oid) = Oid::from_str(&note.commit) else { return };
        self.tip = Some(oid);
        self.files.insert(note.name.clone(), oid);
        if let Some((seq, dataset)) = &note.request {
            self.last_seq = self.last_seq.max(*seq);
            let id = note.name.strip_prefix("RQ").and_then(|rest| rest.strip_suffix(".toml")).and_then(|id| id.parse().ok());
            if let Some(id) = id {
                self.datasets.insert(dataset.clone(), id);
            }
        }
    }
}

impl History {
    /// The notes of the repository in `folder`; nothing is read yet.
    pub fn of(folder: &Path) -> Self {
        Self { file: folder.join(NAME), state: None }
    }

    /// The commit of the last note in the file.
    pub fn noted(&self) -> Option<Oid> {
        self.read().and_then(|state| state.tip)
    }

    /// Notes the commit that was just made.
    pub fn append(&mut self, repository: &Repository, before: Option<Oid>, commit: Oid) -> Result<()> {
        self.up_to(repository, before)?;
        self.add(repository, &[commit.to_string()])
    }

    /// Forgets everything.
    pub fn forget(&mut self) -> Result<()> {
        self.state = None;
        base::atomic::remove(&self.file)
    }

    pub fn last_request(&mut self, repository: &Repository, tip: Option<Oid>, dataset: &Dataset) -> Result<Option<RequestId>> {
        Ok(self.up_to(repository, tip)?.datasets.get(&dataset.to_string()).cloned())
    }

    pub fn last_seq(&mut self, repository: &Repository, tip: Option<Oid>) -> Result<u64> {
        Ok(self.up_to(repository, tip)?.last_seq)
    }

    pub fn newest_with(&mut self, repository: &Repository, tip: Option<Oid>, name: &str) -> Result<Option<String>> {
        Ok(self.up_to(repository, tip)?.files.get(name).map(Oid::to_string))
    }

    /// The notes as they are when the branch stands at `tip`.
    fn up_to(&mut self, repository: &Repository, tip: Option<Oid>) -> Result<&State> {
        if self.state.as_ref().is_none_or(|state| state.tip != tip) {
            self.bring_up_to(repository, tip)?;
        }
        self.state.as_ref().ok_or_else(|| Error::failed("the history has no notes"))
    }

    fn bring_up_to(&mut self, repository: &Repository, tip: Option<Oid>) -> Result<()> {
        self.state = Some(self.read().unwrap_or_default());
        let known = self.state.as_ref().and_then(|state| state.tip);
        if known == tip {
            return Ok(());
        }
        let Some(tip) = tip else {
            self.forget()?;
            self.state = Some(State::default());
            return Ok(());
        };
        let tip = tip.to_string();
        let new = match known.map(|known| repository.walk(Some(&known.to_string()), &tip)) {
            Some(Ok(new)) => new,
            // The notes are about another history.
            _ => {
                self.forget()?;
                self.state = Some(State::default());
                repository.walk(None, &tip)?
            }
        };
        for some in new.chunks(BATCH) {
            self.add(repository, some)?;
        }
        Ok(())
    }

    /// Notes `commits`, which follow what is noted, here and in the file.
    fn add(&mut self, repository: &Repository, commits: &[String]) -> Result<()> {
        let mut lines = String::new();
        let state = self.state.get_or_insert_default();
        for commit in commits {
            // A commit that cannot be read as one of ours still moves the tip.
            let mut notes = repository.notes(commit).unwrap_or_default();
            notes.retain(|note| !note.name.contains([' ', '\n']) && !note.name.is_empty());
            if notes.is_empty() {
                notes.push(Note { commit: commit.clone(), name: "-".into(), request: None });
            }
            for note in &notes {
                state.take(note);
                lines.push_str(&note.line());
            }
        }
        // Not being able to keep notes (a repository that is only read) costs time, nothing else.
        if let Err(error) = append(&self.file, lines.as_bytes()) {
            tracing::debug!("{}", error.one_line());
            let _ = base::atomic::remove(&self.file);
        }
        Ok(())
    }

    /// The file, if it is whole: a last line that was cut off by a crash makes it worthless.
    fn read(&self) -> Option<State> {
        let text = std::fs::read_to_string(&self.file).ok()?;
        if !text.is_empty() && !text.ends_with('\n') {
            let _ = base::atomic::remove(&self.file);
            return None;
        }
        let mut state = State::default();
        for line in text.lines() {
            let Some(note) = Note::parse(line) else {
                let _ = base::atomic::remove(&self.file);
                return None;
            };
            state.take(&note);
        }
        Some(state)
    }
}

fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file: File = OpenOptions::new().append(true).create(true).open(path).at("open", path)?;
    file.write_all(bytes).at("write", path)?;
    base::crash::point("appended");
    Ok(())
}
