//! The direction of imports between our crates, from cargo's own words.

use cargo_metadata::{DependencyKind, MetadataCommand};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What each crate may import of ours. A crate that is missing here, or imports another, fails the test.
const ALLOWED: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("queue", &["base"]),
    ("archive", &["base"]),
    ("transport", &["base"]),
    ("mail", &["base"]),
    ("show", &["base"]),
    ("modules", &["base", "queue", "archive", "transport"]),
    ("nightsafe", &["base", "queue", "archive", "transport", "mail", "show", "modules"]),
    ("nightsafe-server", &["base", "queue", "archive", "transport", "mail", "show", "modules"]),
    ("nightsafe-gate", &["base", "queue"]),
    // Looks at the programs' command lines, and is in none of them.
    ("manual", &["base", "nightsafe", "nightsafe-server", "nightsafe-gate"]),
    // They look at the programs from outside alone, so that no mistake is made the same way on both sides.
    ("tests", &[]),
    // What strangers send us is read here as the programs read it.
    ("fuzzed", &["base", "queue", "archive"]),
];

/// Crates that only these of ours may import.
const CONFINED: &[(&str, &[&str])] = &[
    // In the node's program for the status page alone.
    ("tokio", &["transport", "nightsafe-server"]),
    ("openssh-sftp-client", &["transport"]),
    ("fastcdc", &["archive"]),
    ("tar", &["archive"]),
    ("lettre", &["mail"]),
    ("indicatif", &["show"]),
];

#[test]
fn imports_run_one_way() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().other_options(["--offline".to_owned()]).exec().unwrap();
    let members: BTreeMap<String, BTreeSet<String>> = metadata
        .workspace_packages()
        .iter()
        .map(|package| {
            let normal = package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development);
            (package.name.to_string(), normal.map(|d| d.name.clone()).collect())
        })
        .collect();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    assert_eq!(
        members.keys().map(String::as_str).collect::<Vec<_>>(),
        allowed.keys().copied().collect::<Vec<_>>(),
        "a crate is new or gone"
    );
    for (name, imports) in &members {
        for import in imports.iter().filter(|import| members.contains_key(*import)) {
            assert!(allowed[name.as_str()].contains(&import.as_str()), "{name} may not import {import}");
        }
        for (confined, owners) in CONFINED {
            assert!(
                !imports.contains(*confined) || owners.contains(&name.as_str()),
                "{name} may not import {confined}; that is for {owners:?}"
            );
        }
    }
}

#[test]
fn the_node_is_asynchronous_in_its_status_page_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    for file in crate::docs::sources(&root.join("server/src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            file.starts_with(root.join("server/src/web")) || !text.contains("tokio::") && !text.contains("async "),
            "{}",
            file.display()
        );
    }
}

/// Where programs are started, and what bounds them there. Everybody else calls `base::process::run`, which gives each an end in
/// time, with all that it started, and a bound on its memory.
const STARTS: &[(&str, &str)] = &[
    ("base/src/process.rs", "the place itself"),
    ("hooks/src/limits.rs", "git at the gate: time, processor, memory and files bounded before it starts"),
    ("hooks/src/git.rs", "the gate becomes git that serves: processor and memory bounded, silence ends it, sessions are counted"),
    ("transport/src/peer.rs", "ssh for sftp and for waits: memory bounded, and ended by who reads from it"),
    ("transport/src/wrapper.rs", "ssh below git, whose bounds it inherits; silence ends it"),
    ("transport/src/answer.rs", "the client's own gate for a line that was dialled: memory bounded, and it ends with the line"),
    ("modules/src/git/restore.rs", "git of the keyholder's, who may end it"),
    ("server/src/become_owner.rs", "root becomes this very program, run by the owner of the data"),
    ("modules/src/archived/dump.rs", "dumps of the client's own databases, with a time limit of their own"),
];

#[test]
fn programs_are_started_where_they_are_bounded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let mut starts = BTreeSet::new();
    for name in ["base", "queue", "archive", "transport", "mail", "show", "modules", "client", "server", "hooks"] {
        for file in crate::docs::sources(&root.join(name).join("src")) {
            let path = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            let tests = ["tests", "testing.rs"].iter().any(|word| path.contains(word));
            if !tests && [".spawn()", "Command::new(", ".exec()", ".output()", ".status()"].iter().any(|start| text.contains(start)) {
                starts.insert(path);
            }
        }
    }
    assert_eq!(starts, STARTS.iter().map(|(file, _)| (*file).to_owned()).collect(), "say here what bounds what is started");
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (name, _) in ALLOWED {
        let folder = match *name {
            "nightsafe" => "client",
            "nightsafe-server" => "server",
            "nightsafe-gate" => "hooks",
            "fuzzed" => "fuzz/fuzzed",
            other => other,
        };
        let manifest: toml::Table = std::fs::read_to_string(root.join(folder).join("Cargo.toml")).unwrap().parse().unwrap();
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{folder}/Cargo.toml");
    }
}
