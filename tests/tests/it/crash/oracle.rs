//! What must hold when all is over, whoever died on the way.
//!
//! Looks at files and asks the programs; knows nothing of how the deaths came about.

use crate::harness::{Loopback, same_trees};
use std::path::Path;

/// What was submitted in each round.
pub struct Oracle {
    files: String,
    git: String,
    rounds: Vec<Round>,
}

struct Round {
    snapshot: String,
    copy: String,
    refs: String,
}

impl Oracle {
    /// Of a folder and a repository.
    pub fn of(files: &str, git: &str) -> Self {
        Self { files: files.to_owned(), git: git.to_owned(), rounds: Vec::new() }
    }

    /// A round is over: keeps what the sources are now, and looks at what must hold after every round.
    pub fn note(&mut self, safe: &Loopback) {
        nothing_is_left(safe);
        let (files, git) = (&self.files, &self.git);
        let copy = safe.text(&format!("copy-{}", self.rounds.len()));
        safe.sh(&format!("cp -a '{files}' '{copy}'"));
        let part = |id: &str, file: &str| safe.read(&format!("node/data/web1/snapshots/{id}/{file}"));
        let is_files = |id: &String| part(id, "request.toml").contains("dataset = \"files:");
        let snapshot = safe.snapshots_in_order().into_iter().rfind(is_files);
        let refs = refs(safe, git);
        self.rounds.push(Round { snapshot: snapshot.unwrap(), copy, refs });
    }

    /// Every request has one receipt, which says stored; every snapshot is what was submitted; nothing is left over.
    pub fn check(&self, safe: &Loopback) {
        one_receipt_each(safe);
        let log = safe.client(&["log", "-n", "0", "--json"]).json();
        for line in log.as_array().unwrap() {
            assert_eq!(line["outcome"], "stored", "{line}");
        }
        let (files, git) = (&self.files, &self.git);
        for (i, round) in self.rounds.iter().enumerate() {
            let back = safe.text(&format!("back/{i}"));
            safe.client(&["restore", &format!("files:{files}"), "--at", &round.snapshot, "--target", &back]).exits(0);
            same_trees(Path::new(&round.copy), Path::new(&back));
        }
        let back = safe.text("back/a.git");
        safe.client(&["restore", &format!("git:{git}"), "--target", &back]).exits(0);
        assert_eq!(refs(safe, &back), self.rounds.last().unwrap().refs);
        safe.client(&["verify"]).exits(0);
        safe.node(&["log", "--verify"]).exits(0);
        // What the dead left unfinished goes when it is old.
        safe.sh("find client node -name '.tmp-*' -exec touch -h -d '9 days ago' {} +; find client/pool -name 'i*' -exec touch -d '9 days ago' {} +");
        for (module, path) in [("files", files.as_str()), ("git", git), ("dummy", "y")] {
            safe.client(&["submit", module, path]).exits(0);
        }
        safe.client(&["send"]).exits(0);
        safe.node(&["poll", "--sweep"]).exits(0);
        safe.node(&["scrub", "--all"]).exits(0);
        safe.client(&["send"]).exits(0);
        nothing_is_left(safe);
        let drafts = safe.sh("find client node -name '.tmp-*' ! -name '*.lock'; find client/pool -name 'i2*'");
        assert_eq!(drafts, "", "unfinished files that nothing sweeps");
    }
}

fn refs(safe: &Loopback, git: &str) -> String {
    safe.sh(&format!("git -c safe.directory='*' -C '{git}' for-each-ref refs/heads refs/tags"))
}

/// Nothing is in process, on either side, and no data waits for anything.
pub fn nothing_is_left(safe: &Loopback) {
    for folder in [
        "client/pool/inbox",
        "client/export/node1",
        "node/data/web1/pool/.incomplete",
        "node/data/web1/incoming",
        "node/gate/handover/web1",
    ] {
        let left: Vec<_> = safe.names(folder).into_iter().filter(|name| !name.starts_with(".tmp-") && !name.starts_with('i')).collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
    for folder in ["client/pool/work", "node/data/web1/pool"] {
        let left: Vec<_> = safe.names(folder).into_iter().filter(|name| name.starts_with(['C', 'P', 'i'])).collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
    assert!(safe.names("node/data/web1/trash").is_empty());
}

/// As many receipts as requests, of the same ids.
pub fn one_receipt_each(safe: &Loopback) {
    let names = |repository: &str, branch: &str, kind: &str| {
        let text = safe.git(repository, &["log", "--format=", "--name-only", "--no-renames", "--diff-filter=A", branch]);
        let mut names: Vec<String> = text.lines().filter_map(|name| name.strip_prefix(kind)).map(str::to_owned).collect();
        names.sort();
        names
    };
    let requests = names("node/data/log/web1.git", "requests", "RQ");
    assert_eq!(requests, names("node/data/web1/receipts.git", "receipts", "RC"));
    assert_eq!(requests, names("client/queues/node1.git", "requests", "RQ"));
}
