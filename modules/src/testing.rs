//! What the tests of several modules need: a client's configuration, a proven claim, a node's folder.
//!
//! Only compiled for tests.

use crate::{Destination, Fetched, FileOptions, MirrorFrom, RestoreContext, ServerContext};
use archive::store::Store;
use base::config::ClientConfig;
use base::config::node::Losses;
use base::{Claim, Dataset, Name, Payload, Proof, Reason, RequestId, Result, Sha256, Silent};
use jiff::Timestamp;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use transport::Peer;

/// A claim as `queue::prove` would make it of request number `seq`.
pub(crate) fn claim(dataset: &Dataset, payload: Payload, seq: u64) -> Claim {
    claim_of(RequestId::generate().unwrap(), dataset, payload, seq)
}

/// As [`claim`], for an id that is there already.
pub(crate) fn claim_of(id: RequestId, dataset: &Dataset, payload: Payload, seq: u64) -> Claim {
    let request = format!("{id} {dataset} {seq}").into_bytes();
    Claim {
        id,
        client: Name::new("web1").unwrap(),
        node: Name::new("node1").unwrap(),
        dataset: dataset.clone(),
        seq,
        prev: None,
        submitted: Timestamp::from_second(1_800_000_000).unwrap(),
        by: "root".into(),
        reason: Reason::Manual,
        payload,
        repairs: Vec::new(),
        group: None,
        request_digest: Sha256::of(&request),
        commit: "0".repeat(40),
        proof: Proof { commit: b"commit".to_vec(), tree: b"tree".to_vec(), request },
    }
}

/// A client with its state in `state` that may back up everything below `/`, and every database.
pub(crate) fn config(state: &Path, recipient: &str, more: &str) -> ClientConfig {
    let text = format!(
        "version = 1\nname = \"web1\"\nstate = {:?}\nrecipients = [{recipient:?}]\n[[node]]\nname = \"node1\"\nssh = \"g@h\"\nhost_key = \"k\"\nreceipts_key = \"k\"\n[[allow]]\nmodule = \"files\"\nunder = \"/\"\n[[allow]]\nmodule = \"git\"\nunder = \"/\"\n[[allow]]\nmodule = \"postgres\"\nunder = \"*\"\n{more}",
        state.to_str().unwrap()
    );
    base::config::parse("client.toml", text.as_bytes()).unwrap()
}

/// A node's folder for one client.
pub(crate) struct Node {
    pub folder: tempfile::TempDir,
    pub store: Store,
    pub quota: Option<u64>,
    /// Seconds added to the node's clock.
    pub later: i64,
    /// What a person was told at once.
    pub heeded: RefCell<Vec<String>>,
}

fn no_peer() -> Result<Arc<Peer>> {
    Err(base::Error::failed("this test has no network"))
}

impl Node {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        Self { folder, store, quota: None, later: 0, heeded: RefCell::default() }
    }

    pub fn mirrors(&self) -> PathBuf {
        self.folder.path().join("mirrors")
    }

    pub fn with<T>(&self, use_it: impl FnOnce(&ServerContext<'_>) -> T) -> T {
        use_it(&ServerContext {
            store: &self.store,
            peer: &no_peer,
            git_peer: &no_peer,
            mirrors: &self.mirrors(),
            quota: self.quota,
            allowance: crate::Allowance::NONE,
            time: Duration::from_secs(120),
            received: Timestamp::from_second(1_800_000_000 + self.later).unwrap(),
            losses: Losses::default(),
            heed: &|words| {
                self.heeded.borrow_mut().push(words.to_owned());
                Ok(())
            },
            monitor: &Silent,
        })
    }
}

/// A restore of everything of `dataset` to `target`.
pub(crate) fn restore_context<'a>(dataset: &'a Dataset, target: &'a Path) -> RestoreContext<'a> {
    RestoreContext {
        config: None,
        dataset,
        paths: &[],
        to: Destination::Folder(target),
        files: FileOptions::default(),
        tables: &[],
        globals: false,
        no_command: false,
        limit: crate::MirrorLimit::Free,
        monitor: &Silent,
    }
}

pub(crate) fn local(path: &Path) -> MirrorFrom {
    MirrorFrom::Local(path.to_owned())
}

pub(crate) fn is_stored(fetched: &Fetched) -> bool {
    matches!(fetched, Fetched::Stored { .. })
}

/// Runs git and gives what it prints.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = git_command(folder);
    command.args(arguments);
    String::from_utf8(base::process::run_ok(command, 1 << 24, Duration::from_secs(60)).unwrap()).unwrap()
}

/// Git as a person would run it in `folder`.
fn git_command(folder: &Path) -> Command {
    let mut command = base::process::command("git");
    for (name, value) in [
        ("GIT_AUTHOR_NAME", "t"),
        ("GIT_AUTHOR_EMAIL", "t@t"),
        ("GIT_COMMITTER_NAME", "t"),
        ("GIT_COMMITTER_EMAIL", "t@t"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
    ] {
        command.env(name, value);
    }
    command.arg("-c").arg("init.defaultBranch=main").arg("-C").arg(folder);
    command
}
