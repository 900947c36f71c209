//! What must still be done for a backup, should its process die: written down before the need for it arises.
//!
//! One file a request, `around/<id>` in the state folder. Does nothing of it itself.

use super::command::After;
use crate::freeze::Place;
use crate::state;
use base::config::ClientConfig;
use base::{At, Error, Name, RequestId, Result, atomic};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The longest such file that is read.
const LIMIT: usize = 4 << 20;

/// Something that is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Open {
    /// A command is to be run.
    After(After),
    /// A snapshot of a file system is to be removed.
    Thaw(Place),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: i64,
    node: Name,
    #[serde(default)]
    open: Vec<Open>,
}

/// The notes of one request.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Without notes yet; nothing is written before there is one.
    pub fn new(config: &ClientConfig, node: &Name, id: &RequestId) -> Self {
        let path = state::around_folder(config).join(id.as_str());
        Self { path, file: File { version: base::config::VERSION, node: node.clone(), open: Vec::new() } }
    }

    /// Those that processes which sent to a node that is `wanted` have left, without the requests that are `live`: those are being
    /// backed up. What cannot be read is told to `complain` and stays.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn left_behind(
        config: &ClientConfig,
        wanted: &dyn Fn(&Name) -> bool,
        live: &dyn Fn(&RequestId) -> bool,
        complain: &dyn Fn(&Error),
    ) -> Result<Vec<Self>> {
        let folder = state::around_folder(config);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&folder).at("list", &folder)? {
            let path = entry.at("list", &folder)?.path();
            let id = path.file_name().and_then(|name| name.to_str()?.parse::<RequestId>().ok());
            // Looked at before the file: whatever that says is then all that there will be.
            if id.is_none_or(|id| live(&id)) {
                continue;
            }
            let read = || base::config::parse::<File>(&path.display().to_string(), &base::untrusted::read(&path, LIMIT)?.bytes);
            match read() {
                Ok(file) if wanted(&file.node) => found.push(Self { path, file }),
                Ok(_) => {}
                // Another process has just removed its own.
                Err(_) if !path.exists() => {}
                Err(error) => complain(
                    &error.hint("It says what must still be run after a backup that was cut off. See to that, and remove the file."),
                ),
            }
        }
        Ok(found)
    }

    /// The node that the request was for.
    pub fn node(&self) -> &Name {
        &self.file.node
    }

    /// What is open, the last first.
    pub fn open(&self) -> Vec<Open> {
        self.file.open.iter().rev().cloned().collect()
    }

    /// From here on `open` is to be done, durably.
    ///
    /// # Errors
    /// With the path.
    pub fn add(&mut self, open: Open) -> Result<()> {
        self.file.open.push(open);
        self.write().inspect_err(|_| {
            self.file.open.pop();
        })
    }

    /// It is done.
    ///
    /// # Errors
    /// With the path.
    pub fn done(&mut self, open: &Open) -> Result<()> {
        self.file.open.retain(|one| one != open);
        if self.file.open.is_empty() {
            return atomic::remove(&self.path);
        }
        self.write()
    }

    fn write(&self) -> Result<()> {
        let text = toml::to_string(&self.file).map_err(|e| Error::failed("could not write down what is to be done").because(e))?;
        atomic::write(&self.path, text.as_bytes(), 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::config::SnapshotWith;

    #[test]
    fn notes_outlive_their_process() {
        let dir = tempfile::tempdir().unwrap();
        let config: ClientConfig =
            base::config::parse("c", format!("version = 1\nstate = \"{}\"", dir.path().display()).as_bytes()).unwrap();
        std::fs::create_dir(dir.path().join("around")).unwrap();
        let (node, id) = (Name::new("n1").unwrap(), RequestId::generate().unwrap());
        let left =
            |node: &Name| Journal::left_behind(&config, &|one| one == node, &|_| false, &|error| panic!("{}", error.render())).unwrap();
        let mut journal = Journal::new(&config, &node, &id);
        assert!(left(&node).is_empty());
        let after = Open::After(After {
            subject: "files:/a".parse().unwrap(),
            request: id.clone(),
            words: vec!["true".into(), "a \"b\"\n".into()],
            seconds: 60,
        });
        let place = Place {
            with: SnapshotWith::Btrfs,
            of: "/srv/a".into(),
            name: "nightsafe-n1-x".into(),
            root: "/srv/a/.nightsafe-n1-x".into(),
            alive: "/srv/a".into(),
            file_system: String::new(),
            size: None,
        };
        journal.add(after.clone()).unwrap();
        journal.add(Open::Thaw(place.clone())).unwrap();
        assert_eq!(left(&node)[0].open(), [Open::Thaw(place), after.clone()]);
        assert!(left(&Name::new("n2").unwrap()).is_empty());
        assert!(Journal::left_behind(&config, &|_| true, &|one| *one == id, &|_| ()).unwrap().is_empty(), "it is being backed up");
        let mut found = left(&node).remove(0);
        for open in found.open() {
            found.done(&open).unwrap();
        }
        assert!(left(&node).is_empty() && std::fs::read_dir(dir.path().join("around")).unwrap().next().is_none());
        std::fs::write(dir.path().join("around").join(id.as_str()), "x").unwrap();
        let told = std::cell::Cell::new(0);
        assert!(Journal::left_behind(&config, &|one| *one == node, &|_| false, &|_| told.set(told.get() + 1)).unwrap().is_empty());
        assert_eq!(told.get(), 1);
    }
}
