//! Scrubbing on the node, and healing: what is found, what it is called, and what a keyholder says afterwards.

use crate::harness::{Loopback, tree};
use serde_json::Value;
use std::path::Path;

/// A tree, its dataset.
fn dataset(safe: &Loopback) -> (String, String) {
    let path = safe.text("source/tree");
    tree(Path::new(&path));
    (path.clone(), format!("files:{path}"))
}

/// The packs of the client, largest first.
fn packs(safe: &Loopback) -> Vec<String> {
    safe.sh("ls -S node/data/web1/packs").lines().map(str::to_owned).collect()
}

fn flip(safe: &Loopback, file: &str, at: u64) {
    safe.sh(&format!("chmod u+w '{file}' && printf X | dd of='{file}' bs=1 seek={at} conv=notrunc status=none"));
}

fn scrub(safe: &Loopback, args: &[&str], code: i32) -> Value {
    let run = safe.node(&[&["scrub", "--json"], args].concat()).exits(code);
    let all: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"));
    all[0].clone()
}

fn notices(safe: &Loopback) -> usize {
    safe.git("node/data/web1/receipts.git", &["log", "--format=", "--name-only", "receipts"])
        .lines()
        .filter(|name| name.starts_with("NT"))
        .collect::<std::collections::BTreeSet<_>>()
        .len()
}

#[test]
fn damage_is_found_named_set_aside_and_told_once() {
    let safe = Loopback::start();
    let (path, dataset) = dataset(&safe);
    safe.back_up("files", &path);
    safe.node(&["scrub", "--all"]).silent();
    let whole = scrub(&safe, &["--all"], 0);
    assert_eq!(whole["packs"], packs(&safe).len());
    assert_eq!((&whole["snapshots"], whole["damage"].as_array().unwrap().len()), (&Value::from(1), 0));
    assert_eq!(notices(&safe), 0);

    let pack = packs(&safe).remove(0);
    safe.sh(&format!("cp node/data/web1/packs/{pack} kept"));
    flip(&safe, &format!("node/data/web1/packs/{pack}"), 5000);
    let snapshot = safe.names("node/data/web1/snapshots").remove(0);
    safe.node(&["scrub", "--all"]).says(&[&pack, &dataset, &snapshot, "not those that its name says"]).exits(1);
    assert_eq!(
        (safe.names("node/data/web1/damaged"), safe.at(&format!("node/data/web1/packs/{pack}")).exists()),
        (vec![pack.clone()], false)
    );
    assert_eq!(notices(&safe), 1);
    // It stays told until it is over, and is asked for once.
    let again = scrub(&safe, &[], 1);
    assert_eq!(again["damage"][0]["name"], format!("blake3:{pack}"));
    assert!(again["damage"][0]["repair_claimed"].is_null());
    assert_eq!(notices(&safe), 1);
    safe.node(&["status"]).says(&[&pack, &dataset, "is damaged"]);
    safe.node(&["log", "--verify"]).exits(0);
    // Somebody brings the pack back, the damaged one and then the right one.
    safe.sh(&format!("cp node/data/web1/damaged/{pack} node/data/web1/packs/{pack}"));
    scrub(&safe, &["--all"], 1);
    safe.sh(&format!("cp kept node/data/web1/packs/{pack}"));
    scrub(&safe, &["--all"], 0);
    assert!(!safe.node(&["status"]).ok().contains("is damaged"));
    // A pack that is gone is told in the same way.
    let other = packs(&safe).remove(0);
    safe.sh(&format!("rm node/data/web1/packs/{other}"));
    safe.node(&["scrub", "--percent", "1"]).says(&[&other, "it is not there"]).exits(1);
    assert_eq!(notices(&safe), 2);
    safe.node(&["scrub", "--percent", "0"]).exits(2);
    safe.node(&["scrub", "nobody"]).exits(2);
}

#[test]
fn a_disk_that_is_away_is_no_damage() {
    let safe = Loopback::start();
    let root = safe.text("source/many");
    for n in 0..8 {
        let path = format!("{root}/{n}");
        safe.sh(&format!("mkdir -p {path}; head -c 3000 /dev/urandom >{path}/f"));
        safe.back_up("files", &path);
    }
    let before = packs(&safe).len();
    assert!(before > 8);
    safe.sh("mv node/data/web1/packs node/data/web1/away");
    safe.node(&["scrub", "--all"]).says(&["is its disk away", "--believe"]).exits(1);
    safe.sh("mkdir node/data/web1/packs");
    safe.node(&["scrub", "--all"]).says(&["is its disk away"]).exits(1);
    assert_eq!(notices(&safe), 0);
    // Another disk's files in the place of the packs.
    safe.sh("cd node/data/web1 && for p in away/*; do echo other >packs/$(basename $p); done");
    let doubt = scrub(&safe, &["--all"], 1);
    assert!(doubt["doubt"].as_str().unwrap().contains("seem to be damaged"));
    assert_eq!((packs(&safe).len(), notices(&safe), safe.at("node/data/web1/damaged").exists()), (before, 0, false));
    safe.sh("rm -r node/data/web1/packs && mv node/data/web1/away node/data/web1/packs");
    safe.node(&["scrub", "--all"]).silent();
    // When a person says so, it is believed.
    safe.sh("cd node/data/web1 && mkdir lost && mv packs/* lost/");
    safe.node(&["scrub", "--all", "--believe"]).exits(1);
    assert_eq!(notices(&safe), 1);
}

#[test]
fn everything_has_its_turn_within_25_days() {
    let safe = Loopback::start();
    let root = safe.text("source/many");
    for n in 0..15 {
        let path = format!("{root}/{n}");
        safe.sh(&format!("mkdir -p {path}; head -c 3000 /dev/urandom >{path}/f"));
        safe.client(&["submit", "files", &path]).exits(0);
    }
    safe.round();
    let all = packs(&safe);
    assert!(all.len() >= 30, "{}", all.len());
    // Each pack is damaged alone, somewhere in the middle of the turns: it is found by the 25th run.
    let victim = &all[all.len() / 2];
    flip(&safe, &format!("node/data/web1/packs/{victim}"), 300);
    let mut read = 0;
    let mut found = None;
    for run in 1..=25 {
        let out = safe.node(&["scrub", "--percent", "4", "--json"]);
        let row: Value = serde_json::from_str::<Value>(&out.stdout).unwrap()[0].clone();
        read += row["packs"].as_u64().unwrap();
        assert!(row["packs"].as_u64().unwrap() <= all.len() as u64 / 10 + 1, "{row}");
        if found.is_none() && !row["damage"].as_array().unwrap().is_empty() {
            found = Some(run);
        }
    }
    assert!(read >= all.len() as u64 && found.is_some(), "{read} {found:?}");
}

#[test]
fn the_proof_of_a_snapshot_comes_back_from_the_audit_log() {
    let safe = Loopback::start();
    let (path, _) = dataset(&safe);
    safe.back_up("files", &path);
    let snapshot = safe.names("node/data/web1/snapshots").remove(0);
    for (file, at) in [("commit", 40), ("tree", 20), ("request.toml", 30), ("manifest", 100)] {
        flip(&safe, &format!("node/data/web1/snapshots/{snapshot}/{file}"), at);
        safe.node(&["scrub", "--all"]).says(&[file, &snapshot, "came back"]).exits(0);
        safe.sh(&format!("rm node/data/web1/snapshots/{snapshot}/{file}"));
        safe.node(&["scrub", "--all"]).says(&[file, "came back"]).exits(0);
        safe.client(&["verify"]).says(&["whole"]).exits(0);
    }
    // What the log does not have is told.
    flip(&safe, &format!("node/data/web1/snapshots/{snapshot}/accepted.toml"), 3);
    safe.node(&["scrub", "--all"]).says(&[&snapshot, "is damaged"]).exits(1);
}

#[test]
fn a_damaged_mirror_is_fetched_anew() {
    let safe = Loopback::start();
    let path = safe.text("source/r.git");
    safe.sh(&format!(
        "git init -q --bare '{path}' && git init -q w && cd w && git config user.email a@b && git config user.name a
         for n in 1 2 3; do head -c 100000 /dev/urandom >f$n; git add .; git commit -qm $n; done; git push -q '{path}' HEAD:refs/heads/main"
    ));
    safe.back_up("git", &path);
    let dataset = format!("git:{path}");
    scrub(&safe, &["--all"], 0);
    let mirror = safe.sh("ls -d node/data/web1/mirrors/*.git").trim().to_owned();
    assert!(safe.at(&mirror).join("objects/info/commit-graph").exists());
    let pack = safe.sh(&format!("ls -S {mirror}/objects/pack/*.pack | head -n1")).trim().to_owned();
    flip(&safe, &pack, 50_000);
    safe.node(&["scrub", "--all"]).says(&["mirror", &dataset, "is damaged"]).exits(1);
    assert_eq!(notices(&safe), 1);
    // The client hears of it with its next request, and sends the repository again by itself.
    safe.sh("cd w && git commit -q --allow-empty -m more && git push -q ../source/r.git HEAD:refs/heads/main");
    safe.back_up("git", &path);
    safe.round();
    safe.node(&["scrub", "--all"]).silent();
    safe.client(&["verify", &dataset]).says(&["whole"]).exits(0);
    // One that is gone altogether.
    safe.sh(&format!("rm -rf {mirror}"));
    safe.node(&["scrub", "--percent", "4"]).says(&[&dataset, "it is not there"]).exits(1);
    safe.sh("cd w && git commit -q --allow-empty -m more && git push -q ../source/r.git HEAD:refs/heads/main");
    safe.back_up("git", &path);
    safe.node(&["scrub", "--all"]).silent();
}
