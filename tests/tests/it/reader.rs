//! A reader in another language, written from `docs/format.md` alone, restores what the programs wrote.

use crate::harness::{Loopback, run, same_trees, source_root, tree};
use std::path::Path;

#[test]
fn python_restores_by_the_format_page() {
    let safe = Loopback::start();
    let path = safe.text("source/tree");
    tree(Path::new(&path));
    safe.back_up("files", &path);
    // The second snapshot refers to chunks of the first one.
    safe.sh(&format!("cd '{path}'; printf changed >a/hello; head -c 100000 /dev/urandom >new"));
    safe.back_up("files", &path);
    let snapshots = safe.client(&["snapshots", "--json"]).json();
    let newest = snapshots.as_array().unwrap().iter().max_by_key(|one| one["order"].as_u64()).unwrap();
    let mut reader = safe.command("python3");
    reader.arg(source_root().join("tests/reader.py")).arg(safe.at("node/data/web1")).arg(newest["snapshot"].as_str().unwrap());
    let read = run(reader.arg(safe.at("identity.txt")).arg(safe.at("back/python"))).exits(0);
    assert!(!read.stdout.contains("not checked"), "{read}");
    same_trees(Path::new(&path), &safe.at("back/python"));
}
